"""Folds through the command line: listed, trained one by one or all in turn, put together, refused."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from atft.data.panel import Panel
from atft.data.splits import periods_of
from atft.evaluate import portfolio
from atft.evaluate.siblings import baseline_runs
from atft.experiment.index import RunIndex
from atft.experiment.registry import Evaluation
from atft.experiment.tiers import resolve
from atft.launch import places
from atft.observe import events
from atft.storage import Store
from tests.integration.command import Stopped, figures_of, refused, run, stop_at, unchanged, weights_of

WALK = """
extends: {tiny}
split: {{scheme: expanding, first: 2015-02-02, last: 2016-08-01, folds: 2, train_days: 150, validate_days: 40,
        embargo_days: 3}}
phases:
  baseline: {{epochs: 1}}
  adaptive_norm: {{epochs: 0}}
  gat: {{epochs: 1}}
  fine_tuning: {{epochs: 0}}
"""
COMBINATION = """
extends: walk.yaml
split: {scheme: combinatorial, groups: 4, test_groups: 2, own_lookback_days: 0}
"""


@pytest.fixture(scope="module")
def tiers(tier_file: Path) -> Path:
    """The folder of ``walk.yaml`` and ``combination.yaml``."""
    folder = tier_file.parent
    (folder / "walk.yaml").write_text(WALK.format(tiny=tier_file))
    (folder / "combination.yaml").write_text(COMBINATION.replace("walk.yaml", str(folder / "walk.yaml")))
    return folder


@pytest.fixture(scope="module")
def walked(tiers: Path, panel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All folds of the walk, trained without an interruption; read it, or take a copy."""
    runs = tmp_path_factory.mktemp("walked")
    done = run(
        "train", "--accept=all", tiers / "walk.yaml", "--data", panel, "--runs", runs, "--run", "all", "--folds", "all"
    )
    assert done.code == 0, done
    assert "fold 1 of 0 to 1, expanding" in done.err
    assert "all joined" in done.out
    return runs / "all"


def test_all_folds_are_runs_in_one_directory_and_their_test_series_are_joined(walked: Path) -> None:
    assert sorted(each.name for each in walked.iterdir()) == ["fold-00", "fold-01", "folds.json"]
    assert len(list((walked.parent / "_registry").rglob("*.json"))) >= 2
    history = RunIndex(Store(walked.parent / "_runs")).runs()["all/fold-01"].history
    assert [each.state for each in history] == ["planned", "running", "done"]
    found = json.loads((walked / "folds.json").read_text())
    results = [json.loads((walked / each["run"] / "result.json").read_text()) for each in found["folds"]]
    assert [each["fold"] for each in results] == [
        {"scheme": "expanding", "fold": number, "folds": 2} for number in (0, 1)
    ]
    dates = [date for each in results for date in each["test"]["series"]["dates"]]
    gross = np.array([value for each in results for value in each["test"]["series"]["gross"]])
    assert dates == sorted(set(dates))
    assert found["joined"]["days"] == len(dates)
    assert found["joined"]["sharpe_annual"] == pytest.approx(gross.mean() / gross.std() * 252**0.5)
    assert (found["joined"]["first_date"], found["joined"]["last_date"]) == (dates[0], "2016-08-01")
    started = next(event for event in events.read(walked / "fold-01/events.jsonl") if event["kind"] == "run_started")
    assert started["fold"] == {"scheme": "expanding", "fold": 1, "folds": 2}
    config = json.loads((walked / "fold-01/config.json").read_text())
    assert (config["tier"]["split"]["fold"], config["provenance"]["split.fold"]) == (1, "flag --fold")


def test_one_fold_by_itself_is_that_of_all_and_its_name_says_which(
    tiers: Path, panel: Path, walked: Path, tmp_path: Path, no_report: None
) -> None:
    done = run("train", "--accept=all", tiers / "walk.yaml", "--data", panel, "--runs", tmp_path, "--fold", 1, "--json")
    assert done.code == 0, done
    alone = Path(done.json["run"])
    assert alone.name.startswith("walk-s1-fold-01-")
    assert figures_of(alone) == figures_of(walked / "fold-01")
    assert weights_of(alone) == weights_of(walked / "fold-01")
    with unchanged(alone):
        other = run(
            "train",
            "--accept=all",
            tiers / "walk.yaml",
            "--runs",
            tmp_path,
            "--run",
            alone.name,
            "--fold",
            0,
            "--again",
        )
        refused(other, "other settings than these, fold 1 and not 0", "Mend")


def test_folds_that_were_interrupted_go_on_and_finished_ones_are_not_run_again(
    tiers: Path, panel: Path, walked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    given = ("train", "--accept=all", tiers / "walk.yaml", "--runs", tmp_path, "--run", "part", "--folds", "all")
    shutil.copytree(walked / "fold-00", tmp_path / "part/fold-00")
    stop_at(monkeypatch, lambda event: event["kind"] == "step" and event["step"] == 4)
    with pytest.raises(Stopped):
        run(*given, "--resume")
    assert not (tmp_path / "part/folds.json").exists()
    refused(run(*given, "--data", panel), "has 2 folds already", "--resume to go on")
    with unchanged(tmp_path / "part"):
        refused(run(*given, "--resume", "--lr", 0.5), "fold-00: was trained with other settings", "Mend")
    with unchanged(tmp_path / "part/fold-00"):
        done = run(*given, "--resume", "--json")
    assert done.code == 0, done
    assert figures_of(tmp_path / "part/fold-01") == figures_of(walked / "fold-01")
    assert (tmp_path / "part/folds.json").read_bytes() == (walked / "folds.json").read_bytes()
    assert done.json["joined"]["days"] == json.loads((walked / "folds.json").read_text())["joined"]["days"]


def test_a_combinatorial_fold_trains_around_its_test_and_predicts_exactly_its_test_days(
    tiers: Path, panel: Path, tmp_path: Path, no_report: None
) -> None:
    tier, fold = tiers / "combination.yaml", 4  # tests groups 1 and 3, validates on 0, trains on 2
    done = run("train", "--accept=all", tier, "--data", panel, "--runs", tmp_path, "--run", "cp", "--fold", fold)
    assert done.code == 0, done
    opened = Panel.open(panel)
    periods = periods_of(resolve(str(tier), flags={"split.fold": fold}).tier, opened)
    train, test = periods.train, periods.test
    assert test[0] < train[0] < train[-1] < test[-1]
    assert np.any(np.diff(test) > 1)
    reach = 6 - 1 + 20  # window and the longest of the panel's lookbacks
    before = test[test < train[0]]
    assert train[0] == before[-1] + 1 + reach + 3 + 1  # label, inputs, embargo
    told = json.loads((tmp_path / "cp/result.json").read_text())
    ends = opened.days[test + 1].astype(str).tolist()
    assert told["test"]["series"]["dates"] == ends
    assert told["test"]["sampled_ic"] is not None
    scored = run("predict", tmp_path / "cp", "--period", "test", "--out", tmp_path / "test.parquet")
    assert scored.code == 0, scored
    days = np.unique(pq.read_table(tmp_path / "test.parquet")["date"].to_numpy())
    assert days.tolist() == opened.days[test].tolist()


def test_positions_are_sold_before_the_gap_between_test_groups_and_bought_anew_after_it(
    tiers: Path, panel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atft.launch.baselines.write_report", lambda path: path)
    options = ("--only", "reversal", "--runs", tmp_path, "--set", "split.fold=4", "--set", "label.cost_bps=100")
    told = run("baselines", panel, "--tier", tiers / "combination.yaml", *options, "--json").json
    test = json.loads((Path(told["baselines"]["reversal"]["runs"][0]) / "result.json").read_text())["test"]
    opened = Panel.open(panel)
    days = periods_of(resolve(str(tiers / "combination.yaml"), flags={"split.fold": 4}).tier, opened).test
    (gap,) = np.flatnonzero(np.diff(days) > 1)
    traded = 100 * (np.array(test["series"]["gross"]) - np.array(test["series"]["net"]))
    assert len(traded) == len(days)
    assert traded[[0, gap + 1]] == pytest.approx(1)  # from cash, of unit gross value
    held = portfolio.positions(*scores_of(opened, days[gap - 1 : gap + 1]))
    assert traded[gap] == pytest.approx(np.abs(held[1] - held[0]).sum() + 1)  # renewed, and sold a day later
    assert test["turnover"] == pytest.approx(traded.mean())
    assert test["missing_labels"] == test["valued_at_last_price"] + test["not_bought"]


def scores_of(panel: Panel, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minus the day's return, and where a stock is scored: it has six rows, four of them in its window."""
    scores = 1 - panel.close[days] / panel.close[days - 1]
    window = np.array([panel.present[day - 5 : day + 1].sum(0) for day in days])
    scored = np.isfinite(scores) & panel.present[days] & (window >= 4)
    return np.where(scored, scores, np.nan), scored


@pytest.fixture
def seeds(walked: Path, tmp_path: Path) -> Path:
    """The runs of two seeds of the walk; those of the second are the first's with the signs of all returns turned."""
    shutil.copytree(walked.parent, tmp_path / "runs")
    shutil.copytree(walked, tmp_path / "runs/again")
    for fold in ("fold-00", "fold-01"):
        path = tmp_path / "runs/again" / fold / "result.json"
        held = json.loads(path.read_text())
        for name in ("gross", "net"):
            held["test"]["series"][name] = [-value for value in held["test"]["series"][name]]
        held["test"]["sharpe_daily"] *= -1
        path.write_text(json.dumps(held | {"seed": 2}))
        own = next(each for each in entries(tmp_path / "runs") if each.run == f"all/{fold}" and each.kind == "network")
        told = {"run": f"again/{fold}", "seed": 2, "sharpe_daily": held["test"]["sharpe_daily"]}
        other = told | {"time": dt.datetime.now(dt.UTC)}
        places.registry_of(tmp_path / "runs").record(own.model_copy(update=other))
    return tmp_path / "runs"


def entries(runs: Path) -> list[Evaluation]:
    return [Evaluation.model_validate_json(file.read_text()) for file in (runs / "_registry").rglob("*.json")]


def test_a_fold_finds_the_same_fold_of_other_runs_for_trials_and_power(
    seeds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unchanged(seeds):
        told = run("trials", seeds / "all/fold-01", "--json").json
    assert [each["run"] for each in told["trials"]] == ["all/fold-01", "again/fold-01"]
    assert all(0 < each["p_value"] <= 1 for each in told["trials"])
    assert told["elsewhere"] == 0  # the other fold's test dates come before
    planned = run("power", seeds / "again/fold-01", "--json")
    assert planned.json["seeds"] == 2
    shown = run("power", seeds / "again/fold-01").out
    assert "the daily returns of two seeds have a correlation of -1.00" in shown
    monkeypatch.chdir(seeds / "all")
    assert run("trials", "fold-01", "--json").json == told
    monkeypatch.chdir(seeds / "all/fold-01")
    assert run("trials", ".", "--json").json == told


def test_an_entry_of_before_that_names_a_fold_without_its_directory_is_still_read(seeds: Path) -> None:
    for file in list((seeds / "_registry").rglob("*.json")):
        each = Evaluation.model_validate_json(file.read_text())
        if each.run == "all/fold-01":
            file.unlink()
            places.registry_of(seeds).record(each.model_copy(update={"run": "fold-01"}))
    for folds, known in (("all", ["p_value", "p_value"]), ("again", [])):
        told = run("trials", seeds / folds / "fold-01", "--json").json
        assert [each["run"] for each in told["trials"]] == ["fold-01", "again/fold-01"]
        assert [name for each in told["trials"] for name in each if name == "p_value"] == known


def test_overlapping_test_dates_are_told_of(seeds: Path) -> None:
    own = next(each for each in entries(seeds) if each.run == "all/fold-01" and each.kind == "network")
    other = own.model_copy(update={"run": "x", "test_sha256": "e" * 64, "first_date": own.last_date})
    places.registry_of(seeds).record(other)
    assert run("trials", seeds / "all/fold-01", "--json").json["elsewhere"] == 1
    assert "elsewhere: 1 different evaluation on overlapping dates" in run("trials", seeds / "all/fold-01").out
    shown = run("evaluate", seeds / "all/fold-01").out.replace("\n  ", " ")
    assert "(1 more on overlapping dates, of other panels or test periods)" in shown


def test_a_fold_is_read_against_baselines_of_the_same_fold(
    tiers: Path, panel: Path, walked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atft.launch.baselines.write_report", lambda path: path)
    shutil.copytree(walked, tmp_path / "runs/all")
    options = ("--tier", tiers / "walk.yaml", "--set", "split.fold=1", "--json")
    for place, name in (("runs", "ridge"), ("runs/all", "reversal")):
        done = run("baselines", panel, *options, "--only", name, "--runs", tmp_path / place)
        assert done.code == 0, done
    for fold, names in (("fold-01", ["reversal", "ridge"]), ("fold-00", [])):
        path = tmp_path / "runs/all" / fold
        config = json.loads((path / "config.json").read_text())
        found = [each["baseline"]["name"] for _, each in baseline_runs(path, config["tier"], config["panel_sha256"])]
        assert found == names


def test_folds_are_listed_with_dates_days_and_what_was_left_out(tiers: Path, panel: Path) -> None:
    shown = run("folds", tiers / "combination.yaml", "--data", panel)
    assert (shown.code, shown.err) == (0, "")
    assert "combinatorial, 6 folds" in shown.out
    assert "looks back 25 days; embargo 3 days" in shown.out
    told = run("folds", tiers / "combination.yaml", "--data", panel, "--json").json
    assert [each["fold"] for each in told["folds"]] == list(range(6))
    assert len(told["folds"][4]["test"]["spans"]) == 2
    total = sum(
        told["folds"][4][name]["days"] for name in ("train", "validate", "test", "purged_days") if name[-1] != "s"
    )
    left_out = told["folds"][4]["purged_days"] + told["folds"][4]["embargoed_days"]
    days = Panel.open(panel).days
    assert total + left_out == np.sum((days >= np.datetime64("2015-02-02")) & (days <= np.datetime64("2016-08-01")))
    lines = shown.out.splitlines()
    drawn = next(
        line
        for line in lines[lines.index(next(each for each in lines if "2015-01-02" in each)) :]
        if line.startswith("   4  ")
    )
    assert drawn[6:].strip()[0] == "v"
    assert drawn.count("#") > drawn.count("=") > 0
    assert "·" in drawn


def test_folds_are_listed_without_a_panel_on_weekdays_and_date_ranges_are_one_fold(tiers: Path) -> None:
    shown = run("folds", tiers / "walk.yaml")
    assert (shown.code, shown.err) == (0, "")
    assert "weekdays in place of a panel's calendar" in shown.out
    told = run("folds", "tier1", "--json").json
    assert told["scheme"] == "dates"
    assert [each["fold"] for each in told["folds"]] == [None]
    assert told["folds"][0]["test"]["spans"] == [["2017-01-02", "2017-12-29"]]


REFUSED = {
    "a fold of date ranges": ("tiny", ("--fold", 0), "split.fold = 0 (flag --fold): the tier's split is date ranges"),
    "all folds of date ranges": ("tiny", ("--folds", "all"), "--folds all: tier tiny has date ranges, no folds"),
    "no fold": ("walk", (), "split.fold: not stated; the tier's split is a scheme of 2 folds"),
    "an unknown fold": ("walk", ("--fold", 2), "fold = 2 of 2 folds; mend: a fold from 0 to 1"),
    "a fold and all": ("walk", ("--fold", 1, "--folds", "all"), "--folds all: tier walk has fold 1 only"),
    "too few days": ("walk", ("--folds", "all", "--set", "split.train_days=400"), "leave 0 of them for folds = 2"),
    "too few to train on": ("walk", ("--fold", 0, "--set", "split.train_days=9"), "split.train of fold 0: batch.days"),
    "too few to validate on": ("walk", ("--fold", 0, "--set", "split.validate_days=6"), "more split.validate_days"),
    "k of N": ("combination", ("--fold", 0, "--set", "split.test_groups=4"), "test_groups = 4 of groups = 4"),
    "all purged": ("combination", ("--folds", "all", "--set", "split.own_lookback_days=300"), "none of its"),
    "beyond the panel": ("walk", ("--folds", "all", "--set", "split.last=2019-01-01"), "would move when it grows"),
    "a fold's name for a run": ("walk", ("--fold", 1, "--run", "fold-01"), "--run fold-01: is what folds"),
    "the name of many folds": ("walk", ("--folds", "all", "--run", "fold-100"), "Mend: --run mine-fold-100"),
    "resumed without a name": ("walk", ("--folds", "all", "--resume"), "need --run NAME"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_folds_that_cannot_be_are_refused_before_anything_is_trained(
    case: str, tiers: Path, panel: Path, tmp_path: Path
) -> None:
    tier, more, told = REFUSED[case]
    with unchanged(tmp_path):
        refused(run("train", "--accept=all", tiers / f"{tier}.yaml", "--data", panel, "--runs", tmp_path, *more), told)
