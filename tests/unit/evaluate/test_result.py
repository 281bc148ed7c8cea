import json
import os

import numpy as np
import pytest
from pydantic import ValidationError

from atft.errors import UseError
from atft.evaluate import result, result_parts, summary

DESIGN_FIELDS = {
    "": "run tier seed config_sha256 data_sha256 parameters effective_batch world_size micro_batches phases "
    "batch_sharpe test baselines runtime_seconds",
    "effective_batch": "days stocks_per_day samples",
    "phases.0": "name epochs best_epoch",
    "phases.0.epochs.0": "epoch train_loss validation_loss validation_sharpe validation_ic seconds",
    "batch_sharpe": "count mean std min max range",
    "test": "days sharpe_daily sharpe_annual sharpe_ci95 sharpe_net pooled_sharpe ic icir rank_ic rank_icir turnover "
    "max_drawdown",
    "baselines": "reversal ridge equal_weight shuffled",
}
DATES = np.arange("2017-01-03", "2017-03-04", dtype="datetime64[D]")


@pytest.fixture(scope="module")
def whole():
    random = np.random.default_rng(1)
    scores, returns = random.standard_normal((60, 30)), 0.02 * random.standard_normal((60, 30))
    valid = random.random((60, 30)) < 0.9
    valid[7] = False
    one = summary.summarise(scores, returns, valid, cost_bps=5)
    equal = summary.summarise_equal_weight(returns, valid, cost_bps=5)
    luck = summary.summarise_shuffled(scores, returns, valid, cost_bps=5, seed=1, repeats=20)
    epoch = result.Epoch(
        epoch=1, train_loss=-0.1, validation_loss=-0.05, validation_sharpe=np.nan, validation_ic=0.01, seconds=3.5
    )
    return result.Result(
        run="r1", tier="quickstart", seed=7, config_sha256="a" * 64, data_sha256="b" * 64, parameters=12345,
        effective_batch=result.EffectiveBatch(days=16, stocks_per_day=64, samples=1001.5),
        world_size=1, micro_batches=2, precision="bf16-mixed", sharpe_kind="portfolio", validation_metric="sharpe",
        steps=100, samples=100150,
        phases=(result.PhaseResult(name="Baseline", epochs=(epoch,), best_epoch=1),),
        batch_sharpe=result.BatchSharpe(count=100, mean=0.1, std=0.2, min=-0.3, max=0.6, range=0.9),
        test=result_parts.model_part(one, DATES, missing_labels=3, sampled_ic=np.nan),
        baselines=result.Baselines(
            reversal=result_parts.baseline_part(one, DATES),
            ridge=result_parts.baseline_part(one, DATES, penalty=10.0, filled=5),
            equal_weight=result_parts.baseline_part(equal, DATES),
            shuffled=result_parts.shuffled_part(luck, DATES),
        ),
        planted={"ic": 0.15}, runtime_seconds=12.5,
    )  # fmt: skip


def test_result_has_every_field_that_the_design_names(whole):
    content = whole.model_dump(mode="json")
    for place, names in DESIGN_FIELDS.items():
        part = content
        for key in filter(None, place.split(".")):
            part = part[int(key)] if key.isdigit() else part[key]
        assert set(names.split()) <= set(part), place


def test_what_is_written_is_read_back_equal_and_is_strict_json_without_nan(whole, tmp_path):
    path = tmp_path / "result.json"
    result.write(path, whole)
    assert result.read(path) == whole

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content["baselines"]["equal_weight"]["ic"] is None
    assert content["phases"][0]["epochs"][0]["validation_sharpe"] is None
    assert content["test"]["sampled_ic"] is None
    assert content["baselines"]["shuffled"]["series"] is None
    assert os.listdir(tmp_path) == ["result.json"]


def test_statistics_in_the_file_are_those_of_the_summary(whole):
    test = whole.test
    assert test.sharpe_annual == pytest.approx(test.sharpe_daily * np.sqrt(252))
    assert test.sharpe_ci95[0] < test.sharpe_daily < test.sharpe_ci95[1]
    np.testing.assert_allclose(test.sharpe_annual_ci95, np.array(test.sharpe_ci95) * np.sqrt(252))
    assert (test.days, test.days_left_out, len(test.series.dates)) == (59, 1, 59)
    assert DATES[7].item() not in test.series.dates
    assert np.prod(1 + np.array(test.series.gross)) > 0
    assert [month.month for month in test.ic_by_month] == ["2017-01", "2017-02", "2017-03"]
    assert whole.baselines.ridge.settings == {"penalty": 10.0, "filled": 5}
    low, high = whole.baselines.shuffled.sharpe_ci95
    assert low < 0 < high


def test_an_infinite_value_and_an_unknown_field_are_refused(whole):
    content = whole.model_dump()
    with pytest.raises(ValidationError, match="finite"):
        result.Result.model_validate(content | {"runtime_seconds": np.inf})
    with pytest.raises(ValidationError, match="sharp_ratio"):
        result.Result.model_validate(content | {"sharp_ratio": 1.0})


def test_a_best_epoch_that_was_never_trained_is_refused(whole):
    with pytest.raises(ValidationError, match="best_epoch = 2 is none of the epochs"):
        result.PhaseResult(name="x", epochs=whole.phases[0].epochs, best_epoch=2)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:100], "not a JSON file"),
        (lambda text: "[]", "schema_version = None, this atft reads 1"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "schema_version = 2"),
        (lambda text: text.replace('"seed": 7', '"seed": "seven"', 1), "the first is seed = seven"),
        (lambda text: text.replace('"turnover"', '"churn"', 1), "fields break the schema"),
    ],
)
def test_a_damaged_result_is_refused_in_one_paragraph(whole, tmp_path, damage, said):
    path = tmp_path / "result.json"
    result.write(path, whole)
    path.write_text(damage(path.read_text()))
    with pytest.raises(UseError) as error:
        result.read(path)
    assert said in str(error.value)
    assert "Mend:" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_result_and_an_unwritable_place_are_errors_of_use(whole, tmp_path):
    with pytest.raises(UseError, match="no result can be read here: No such file"):
        result.read(tmp_path / "result.json")
    with pytest.raises(UseError, match="cannot be written: No such file"):
        result.write(tmp_path / "gone" / "result.json", whole)


def test_a_failed_write_leaves_the_earlier_result_and_nothing_else(whole, tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    result.write(path, whole)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UseError, match="No space left on device"):
        result.write(path, whole.model_copy(update={"run": "r2"}))
    assert result.read(path).run == "r1"
    assert os.listdir(tmp_path) == ["result.json"]
