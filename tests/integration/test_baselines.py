"""Baselines as runs: each with its settings, result and scores, made once, and read by a table and by the protocol."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from atft.data.labels import decided_returns
from atft.data.panel import Panel
from atft.evaluate import result
from atft.experiment.rivals import FITTED
from atft.experiment.tiers import resolve
from atft.launch.baselines import ground_of
from tests.integration.command import Outcome, refused, run, steps_of, unchanged

NAMES = ["reversal", "momentum", "equal_weight", "ridge", "lightgbm", "mlp", "lstm"]


@pytest.fixture(scope="module")
def made(panel: Path, tier_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The directory of runs, and what making all baselines told."""
    runs = tmp_path_factory.mktemp("baselines")
    with pytest.MonkeyPatch.context() as patch:
        for place in ("report.html", "launch.baselines"):
            patch.setattr(f"atft.{place}.write_report", lambda path: path / "report.html")
        done = run("baselines", panel, "--tier", tier_file, "--runs", runs, "--json")
    assert done.code == 0, done
    return runs, done


@pytest.fixture(scope="module")
def paths(made: tuple[Path, Outcome]) -> dict[str, Path]:
    return {name: Path(row["runs"][0]) for name, row in made[1].json["baselines"].items()}


def test_every_baseline_becomes_a_run_with_settings_result_and_scores(
    made: tuple[Path, Outcome], paths: dict[str, Path], whole: Path
) -> None:
    assert list(paths) == NAMES
    own = json.loads((whole / "config.json").read_text())
    codes = set(pq.read_table(whole / "test-scores.parquet")["code"].to_pylist())
    for name, path in paths.items():
        found = result.read(path / "result.json")
        config = json.loads((path / "config.json").read_text())
        assert path.parent == made[0]
        assert found.baseline is not None
        assert found.baseline.name == config["baseline"] == name
        assert (found.run, found.data_sha256) == (path.name, own["panel_sha256"])
        assert (config["tier"]["split"], config["tier"]["label"]) == (own["tier"]["split"], own["tier"]["label"])
        kept = pq.read_table(path / "test-scores.parquet")
        assert len(set(kept["date"].to_pylist())) == 141
        assert set(kept["code"].to_pylist()) == codes
        assert str(found.test.first_date) == "2016-02-01"


def test_every_ranking_baseline_scores_what_can_be_scored_and_nothing_else(paths: dict[str, Path], whole: Path) -> None:
    def scored(run_path: Path) -> set[tuple[object, object]]:
        table = pq.read_table(run_path / "test-scores.parquet")
        return set(zip(table["date"].to_pylist(), table["code"].to_pylist(), strict=True))

    own = scored(whole)
    assert len(own) > 5000
    for name in ("equal_weight", "ridge", "lightgbm", "mlp", "lstm"):
        assert scored(paths[name]) == own
    assert scored(paths["momentum"]) < own  # a stock that was listed lately has no past year


class Garbled:
    """A panel whose features are garbage on some stock-days."""

    def __init__(self, panel: Panel, where: np.ndarray) -> None:
        self.panel, self.where = panel, where

    def __getattr__(self, name: str) -> Any:
        return getattr(self.panel, name)

    def features(self, first: int, last: int) -> np.ndarray:
        values = self.panel.features(first, last).copy()
        noise = np.random.default_rng(first).standard_normal(values.shape).astype(values.dtype)
        return np.where(self.where[first:last, :, None], noise, values)


@pytest.mark.parametrize("name", ["ridge", "lightgbm"])
def test_a_fitted_baseline_learns_from_labelled_stock_days_that_can_be_scored_alone(
    name: str, panel: Path, tier_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atft.evaluate.boosting.PATIENCE", 2)
    opened, resolved = Panel.open(panel), resolve(str(tier_file))
    ground = ground_of(resolved, opened)
    masked = ground.scorable & (np.random.default_rng(1).random(ground.scorable.shape) < 0.7)
    masked[ground.periods.test] = ground.scorable[ground.periods.test]
    ground = replace(ground, scorable=masked)
    learned = np.zeros(len(opened.days), dtype=bool)
    learned[ground.periods.train] = learned[ground.periods.validate] = True
    used = masked & np.isfinite(decided_returns(opened, resolved.tier.label)) & learned[:, None]

    def scores(where: np.ndarray) -> np.ndarray:
        return FITTED[name](replace(ground, panel=Garbled(opened, where))).scores  # type: ignore[arg-type]

    plain = scores(np.zeros_like(used))
    kept_out = learned[:, None] & opened.present & ~used
    assert kept_out.sum() > 1000
    np.testing.assert_array_equal(scores(kept_out), plain)
    assert np.nanmax(np.abs(scores(used) - plain)) > 0


def test_a_run_says_of_its_baselines_what_their_own_runs_say(paths: dict[str, Path], whole: Path) -> None:
    held = result.read(whole / "result.json").baselines
    for name in ("reversal", "equal_weight"):
        found = result.read(paths[name] / "result.json")
        assert found.test.sharpe_daily == getattr(held, name).sharpe_daily
        assert found.test.ic == getattr(held, name).ic
        assert found.baselines.ridge == held.ridge
    test = result.read(whole / "result.json").test
    assert test.valued_at_last_price is not None
    assert test.not_bought is not None
    assert test.missing_labels == test.valued_at_last_price + test.not_bought > 0
    assert held.equal_weight.valued_at_last_price == test.valued_at_last_price
    assert held.ridge.valued_at_last_price == test.valued_at_last_price
    equal = result.read(paths["equal_weight"] / "result.json")
    assert equal.test.ic is None
    assert equal.baselines.shuffled.sharpe_daily is None


def test_a_choice_is_recorded_with_all_that_was_tried(paths: dict[str, Path]) -> None:
    found = result.read(paths["ridge"] / "result.json").baseline
    assert found is not None
    best = max(found.choices, key=lambda each: float(each["validation_ic"] or -1))
    assert len(found.choices) == 9
    assert best["penalty"] == found.settings["penalty"]
    assert found.settings["chosen_by"] == "validation ic"
    trees = result.read(paths["lightgbm"] / "result.json").baseline
    assert trees is not None
    assert 1 <= int(trees.settings["trees"]) <= 1000
    assert (paths["lightgbm"] / "model.txt").read_text().startswith("tree\n")


def test_networks_are_trained_by_the_steps_of_the_tier(paths: dict[str, Path], whole: Path) -> None:
    own = result.read(whole / "result.json")
    batches = [(step["phase"], step["samples"]) for step in steps_of(whole)]
    for name in ("mlp", "lstm"):
        found = result.read(paths[name] / "result.json")
        assert (found.steps, found.samples, found.effective_batch) == (own.steps, own.samples, own.effective_batch)
        assert [(step["phase"], step["samples"]) for step in steps_of(paths[name])] == batches
        assert abs(found.parameters / own.parameters - 1) < 0.08  # a hidden size of 5 or 6 is as near as it gets
        assert found.test.ic != own.test.ic


def test_what_was_evaluated_once_is_read_the_next_time(
    made: tuple[Path, Outcome], panel: Path, tier_file: Path, no_report: None
) -> None:
    runs, before = made
    with unchanged(runs):
        again = run("baselines", panel, "--tier", tier_file, "--runs", runs, "--json")
    assert again.json == before.json
    words = run("baselines", panel, "--tier", tier_file, "--runs", runs, "--only", "ridge, reversal")
    assert (words.code, words.err) == (0, "")
    assert "test period 2016-02-01..2016-08-16, 141 label days" in words.out
    assert [line.split()[0] for line in words.out.splitlines()[2:4]] == ["reversal", "ridge"]


def test_several_seeds_are_several_runs_of_what_draws_something(
    panel: Path, tier_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atft.launch.baselines.write_report", lambda path: path)
    monkeypatch.setattr("atft.evaluate.boosting.PATIENCE", 5)
    options = ("--tier", tier_file, "--runs", tmp_path, "--only", "reversal,lightgbm", "--seeds", "3,4", "--json")
    rows = run("baselines", panel, *options).json["baselines"]
    assert (rows["reversal"]["seeds"], rows["lightgbm"]["seeds"]) == ([1], [3, 4])
    ics = [result.read(Path(path) / "result.json").test.ic for path in rows["lightgbm"]["runs"]]
    assert rows["lightgbm"]["ic"] == pytest.approx(np.mean(ics))
    assert rows["lightgbm"]["ic_spread"] == pytest.approx(np.std(ics, ddof=1))
    assert rows["reversal"]["ic_spread"] is None


def test_a_network_that_was_stopped_goes_on(
    panel: Path, tier_file: Path, paths: dict[str, Path], tmp_path: Path, no_report: None
) -> None:
    stopped = tmp_path / paths["mlp"].name
    shutil.copytree(paths["mlp"], stopped)
    for name in ("result.json", "test-scores.parquet"):
        (stopped / name).unlink()
    refused(run("evaluate", stopped), "baseline mlp", "--only mlp")
    done = run("baselines", panel, "--tier", tier_file, "--runs", tmp_path, "--only", "mlp", "--json")
    assert done.code == 0, done
    found, before = (result.read(path / "result.json") for path in (stopped, paths["mlp"]))
    assert found.test == before.test
    assert found.baseline == before.baseline


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--only", "ridge,xgboost"), ("--only ridge,xgboost", "'xgboost' is no baseline", "lightgbm")),
        (("--seeds", "1,two"), ("--seeds 1,two", "--seeds 1,2,3")),
        (("--tier", "tier9"), ("tier9",)),
        (("--set", "split.test.last=2030-01-01", "--set", "split.test.first=2029-01-01"), ("split.test", "no label")),
        (("--set", "model.architecture=gru"), ("model.architecture", "gru")),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_is_made(
    options: tuple[str, ...], told: tuple[str, ...], panel: Path, tier_file: Path, tmp_path: Path
) -> None:
    tier = () if "--tier" in options else ("--tier", tier_file)
    with unchanged(tmp_path):
        refused(run("baselines", panel, *tier, "--runs", tmp_path, *options), *told)


def test_a_panel_too_short_for_a_momentum_says_so(panel: Path, tier_file: Path, tmp_path: Path) -> None:
    early = ("train", "2015-02-01", "2015-02-20"), ("validate", "2015-02-21", "2015-03-10"), ("test", "2015-03-11", "")
    flags = [f"--set=split.{name}.{end}={date}" for name, *ends in early for end, date in zip(("first", "last"), ends)
             if date]  # fmt: skip
    with unchanged(tmp_path):
        refused(
            run("baselines", panel, "--tier", tier_file, "--runs", tmp_path, "--only", "momentum", *flags),
            "momentum baseline", "at least 63 days before it", "--only",
        )  # fmt: skip


def test_lightgbm_that_is_not_there_is_named(
    panel: Path, tier_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    monkeypatch.delitem(sys.modules, "atft.evaluate.boosting", raising=False)
    with unchanged(tmp_path):
        refused(
            run("baselines", panel, "--tier", tier_file, "--runs", tmp_path, "--only", "lightgbm"),
            "LightGBM cannot be loaded", "pip install lightgbm", "--only",
        )  # fmt: skip


def test_the_protocol_lays_a_run_beside_its_baselines_without_a_second_look(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("prepare", "prepare_scoring"):
        monkeypatch.setattr(f"atft.train.setup.{name}", None)  # nothing is scored again
    told = run("evaluate", paths["lightgbm"], "--protocol", "rsr", "--json").json
    held = json.loads((paths["lightgbm"] / "protocol_rsr.json").read_text())
    assert held["rows"] == told["rows"]
    names = [row["name"] for row in told["rows"]]
    assert names[0] == "lightgbm-tiny-s1"
    assert names[-2:] == ["published ridge", "equal weight"]
    assert {"reversal-tiny", "momentum-tiny", "ridge-tiny", "mlp-tiny-s1", "lstm-tiny-s1"} <= set(names)
    found = result.read(paths["lightgbm"] / "result.json")
    assert told["rows"][0]["ic"]["estimate"] == pytest.approx(found.test.ic)
    assert told["rows"][0]["icir"]["estimate"] == pytest.approx(found.test.icir)
    assert (told["days"], told["is_published"], told["published"]) == (141, False, [])
    words = run("evaluate", paths["lightgbm"], "--protocol", "rsr").out
    assert "not those of the papers" in words
    assert "published, without intervals" not in words


def test_a_trained_run_can_be_laid_under_the_protocol_too(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "whole"
    shutil.copytree(whole, copy)
    told = run("evaluate", copy, "--protocol", "rsr", "--json").json
    assert [row["name"] for row in told["rows"]] == ["whole", "reversal", "published ridge", "equal weight"]
    (copy / "test-scores.parquet").unlink()
    refused(run("evaluate", copy, "--protocol", "rsr"), "test-scores.parquet", "Mend")
    config = json.loads((copy / "config.json").read_text())
    config["tier"]["label"]["execution_lag"] = 1
    (copy / "config.json").write_text(json.dumps(config))
    refused(run("evaluate", copy, "--protocol", "rsr"), "label.execution_lag = 1", "lag 0")
