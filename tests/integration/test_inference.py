"""Error bars, trials, power and paired tests as a user meets them; and that nothing in training knows the test days."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from atft.config import Tier
from atft.data.labels import label_dates
from atft.data.panel import Panel, write_panel
from atft.data.splits import decision_days
from atft.experiment.registry import Evaluation
from atft.launch import places
from tests.integration.command import epochs_of, refused, run, steps_of, unchanged, weights_of
from tests.integration.conftest import Train


@pytest.fixture(scope="module")
def root(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of one tier; read it, or take a copy."""
    runs = tmp_path_factory.mktemp("pair") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atft.report.html.write_report", lambda path: path / "report.html")
        for seed in (1, 2):
            assert train(runs, f"s{seed}", "--seed", seed, "--json").code == 0
    return runs


@pytest.fixture(autouse=True)
def no_pages(no_report: None) -> None:
    """No report where none is asked for."""


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root, tmp_path / "runs")
    return tmp_path / "runs"


def deflated(run_path: Path) -> dict[str, object]:
    told: dict[str, object] = run("evaluate", run_path, "--json").json["test"]["inference"]["deflated"]
    return told


def trials(run_path: Path) -> tuple[int, int]:
    told = run("trials", run_path, "--json").json
    return len(told["trials"]), told["looks"]


def test_a_result_is_deflated_by_the_trials_of_its_day_and_told_by_those_of_today(root: Path) -> None:
    held = [json.loads((root / name / "result.json").read_text())["test"]["inference"] for name in ("s1", "s2")]
    assert [each["deflated"]["trials"] for each in held] == [1, 2]
    assert held[0]["deflated"]["probability"] == held[0]["probabilistic_sharpe"]
    assert "a single trial" in held[0]["deflated"]["note"]
    sharpes = [json.loads((root / name / "result.json").read_text())["test"]["sharpe_annual"] for name in ("s1", "s2")]
    with unchanged(root):
        now = deflated(root / "s1")
    assert now["trials"] == 2
    assert now["variance_annual"] == pytest.approx(np.var(sharpes, ddof=1))
    shown = run("evaluate", root / "s1").out
    assert "This is one of 2 different evaluations of this test period" in shown
    assert "Sharpe/year, bootstrap" in shown
    assert "p (Holm)" in shown


def test_the_registry_outlives_the_runs(copy: Path) -> None:
    shutil.rmtree(copy / "s2")
    assert deflated(copy / "s1")["trials"] == 2
    assert trials(copy / "s1") == (2, 2)
    shown = run("trials", copy / "s1")
    assert "s2" in shown.out
    assert "fewer than two of these runs are still there" in shown.out


def entry_of(runs: Path, name: str) -> Evaluation:
    """The registered evaluation of a run's network."""
    read = [Evaluation.model_validate_json(file.read_text()) for file in (runs / "_registry").rglob("*.json")]
    return next(each for each in read if each.run == name and each.kind == "network")


def test_deleting_runs_makes_no_p_value_smaller(copy: Path) -> None:
    """Two runs of four are gone: Holm and FDR count them with p = 1, as statsmodels does."""
    here = entry_of(copy, "s1")
    for seed, ratio in ((3, -0.02), (4, 0.3)):
        later = dt.datetime.now(dt.UTC)
        gone = here.model_copy(update={"run": f"s{seed}", "seed": seed, "sharpe_daily": ratio, "time": later})
        places.registry_of(copy).record(gone)
    told = run("trials", copy / "s1", "--json").json["trials"]
    assert [each["run"] for each in told] == ["s1", "s2", "s3", "s4"]
    there, away = told[:2], told[2:]
    p = [each["p_value"] for each in there] + [1.0, 1.0]
    for name, method in (("p_value_holm", "holm"), ("q_value", "fdr_bh")):
        expected = multipletests(p, method=method)[1]
        assert [each[name] for each in there] == pytest.approx(expected[:2])
        assert not any(name in each for each in away)
    assert there[0]["p_value_holm"] >= min(1, 3 * there[0]["p_value"])
    assert "2 without p-values (run deleted" in run("trials", copy / "s1").out


def test_an_evaluation_that_repeats_another_is_a_look_and_no_trial(copy: Path) -> None:
    (copy / "s1/result.json").unlink()
    (copy / "s1").rename(copy / "again")
    assert run("evaluate", copy / "again").code == 0
    assert trials(copy / "s2") == (2, 3)
    (copy / "again/result.json").unlink()
    with unchanged(copy / "_registry"):
        assert run("evaluate", copy / "again").code == 0


def test_a_result_that_was_copied_away_from_its_registry_keeps_what_it_knew(copy: Path) -> None:
    shutil.rmtree(copy / "_registry")
    assert deflated(copy / "s2")["trials"] == 2


def test_all_trials_are_corrected_for_one_another(root: Path) -> None:
    with unchanged(root):
        told = run("trials", root / "s2", "--json").json
    assert [each["run"] for each in told["trials"]] == ["s1", "s2"]
    for each in told["trials"]:
        assert 0 < each["p_value"] <= each["p_value_stepdown"] <= 1
        assert each["p_value"] <= each["q_value"] <= each["p_value_holm"] <= 1
    assert 0 < told["superior_ability"] <= 1
    assert "Hansen's SPA" in run("trials", root / "s2").out


def test_a_damaged_registry_stops_a_run_before_it_is_made_and_is_named(copy: Path, train: Train) -> None:
    entry = next((copy / "_registry").rglob("*.json"))
    entry.write_text(entry.read_text()[:-20])
    with unchanged(copy):
        refused(train(copy, "s3"), str(entry), "Mend")
        refused(run("evaluate", copy / "s1"), str(entry))
        refused(run("trials", copy / "s1"), str(entry))
        refused(run("report", copy / "s1"), str(entry))


def test_power_says_what_it_takes(root: Path) -> None:
    with unchanged(root):
        told = run("power", root / "s1", "--difference", 30, "--ic-difference", 0.02, "--json").json
    rows = {(each["name"], each["unit"], each["correlation"]): each for each in told["rows"]}
    alone = rows["s1 against 0", "sharpe", None]
    held = json.loads((root / "s1/result.json").read_text())["test"]
    assert alone["error"] == pytest.approx(held["sharpe_standard_error"] * 252**0.5)
    assert told["seeds"] == 2
    assert alone["days_needed_some_seeds"] < alone["days_needed"]
    assert ("s1 less ridge", "sharpe") in {key[:2] for key in rows}
    assert ("s1 less equal weight", "ic") not in {key[:2] for key in rows}
    such = [each for each in told["rows"] if each["name"] == "s1 less another such run" and each["unit"] == "sharpe"]
    assert [each["correlation"] for each in such] == [0.0, 0.5, 0.9]
    assert such[0]["days_needed"] > such[1]["days_needed"] > such[2]["days_needed"]
    shown = run("power", root / "s1", "--difference", 30).out
    assert "over 2 seeds of tiny the annual Sharpe ratio has a standard deviation of" in shown
    assert "another such run: one of the same noise" in shown
    assert "what it takes to see a difference of 30 in the annual Sharpe ratio (two-sided at 5 %, power 80 %)" in shown


def test_two_runs_are_tested_day_by_day(root: Path) -> None:
    told = run("power", root / "s1", "--against", root / "s2", "--json").json
    tested = told["tests"]["sharpe"]
    one, two = (json.loads((root / name / "result.json").read_text())["test"]["sharpe_annual"] for name in ("s1", "s2"))
    assert tested["bootstrap"]["estimate"] == pytest.approx(one - two)
    assert 0 < tested["p_value"] <= 1
    assert {row["name"] for row in told["rows"]} == {"s1 less s2"}
    shown = run("power", root / "s1", "--against", root / "s2").out
    assert "paired on 141 common days" in shown
    refused(run("power", root / "s1", "--against", root / "s1"), "the series do not differ", "Mend")


def test_runs_that_differ_in_more_than_the_model_are_refused(copy: Path) -> None:
    file = copy / "s2/result.json"
    held = json.loads(file.read_text())
    held["data_sha256"] = "d" * 64
    for each in held["test"]["series"]:
        held["test"]["series"][each] = held["test"]["series"][each][5:]
    file.write_text(json.dumps(held))
    against = ("power", copy / "s1", "--against", copy / "s2")
    refused(run(*against), "the panels are others", "5 test days are s1's alone", "--common-days", "136 days")
    told = run(*against, "--common-days", "--json").json
    assert told["tests"]["sharpe"]["days"] == 136


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--difference", 0), "--difference 0.0: must be above 0"),
        (("--difference", "nan"), "--difference nan"),
        (("--ic-difference", -0.1), "--ic-difference -0.1"),
        (("--level", 0.7), "--level 0.7"),
        (("--power", 1), "--power 1.0"),
        (("--common-days",), "there is no other run"),
        (("--against", "nowhere"), "nowhere: no run there"),
    ],
)
def test_plans_without_sense_are_refused(root: Path, given: tuple[object, ...], told: str) -> None:
    refused(run("power", root / "s1", *given), told, "Mend")


def test_a_run_that_is_not_evaluated_has_no_power(stopped: Path) -> None:
    refused(run("power", stopped), "is not evaluated yet", "atft evaluate")
    refused(run("trials", stopped), "is not evaluated yet")


def test_the_report_shows_how_sure_it_is_after_all_trials(root: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("report", root / "s1", "--out", page).code == 0
    text = page.read_text()
    assert "How sure is this?" in text
    assert "trials on this test period: 2" in text
    assert "Model less baseline" in text


def test_garbage_on_the_test_days_changes_no_weight_and_no_choice(
    whole: Path, panel: Path, tiny: Tier, train: Train, tmp_path: Path
) -> None:
    held = Panel.open(panel)
    periods = decision_days(held.days, tiny.split, tiny.label)
    ends = label_dates(held.days, tiny.label.horizon, tiny.label.execution_lag)
    first = int(max(ends[periods.validate])) + 1
    assert first > periods.validate[-1]
    random = np.random.default_rng(1)
    close, features = held.close.copy(), held.features(0, len(held.days)).copy()
    close[first:] *= np.exp(0.5 * random.standard_normal(close[first:].shape))
    features[first:] = np.where(random.random(features[first:].shape) < 0.5, np.nan, 9.0)
    industries = [None if number < 0 else held.industry_names[number] for number in held.industries]
    write_panel(
        tmp_path / "panel", days=held.days, codes=held.codes, industries=industries, close=close,
        feature_names=held.feature_names, features=features, manifest_extra={"features": held.manifest.features},
    )  # fmt: skip
    done = train(tmp_path / "runs", "garbage", "--data", tmp_path / "panel")
    assert done.code == 0, done
    assert weights_of(tmp_path / "runs/garbage") == weights_of(whole)
    assert steps_of(tmp_path / "runs/garbage") == steps_of(whole)
    assert epochs_of(tmp_path / "runs/garbage") == epochs_of(whole)
    results = [json.loads((each / "result.json").read_text()) for each in (whole, tmp_path / "runs/garbage")]
    assert results[0]["test"]["ic"] != results[1]["test"]["ic"]
    assert [each["best_epoch"] for each in results[0]["phases"]] == [
        each["best_epoch"] for each in results[1]["phases"]
    ]
