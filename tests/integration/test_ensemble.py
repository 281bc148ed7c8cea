"""Ensembles and daily scores, through the command line."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from atft.data.panel import Panel, write_panel
from atft.evaluate import result
from atft.evaluate.ensemble import combined
from atft.experiment import ensemble
from tests.integration.command import refused, run, unchanged, weights_of


@pytest.fixture(scope="module")
def root(tier_file: Path, panel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of runs with an ensemble of two seeds in it."""
    runs = tmp_path_factory.mktemp("ensembles")
    done = run(
        "ensemble", tier_file, "--accept", "--data", panel, "--seeds", 2, "--runs", runs, "--run", "both", "--json"
    )
    assert done.code == 0, done
    assert done.json["seeds"] == [1, 2]
    return runs


def column(path: Path, name: str = "score") -> np.ndarray:
    return np.asarray(pq.read_table(path)[name].to_pylist())


def test_members_are_the_runs_that_train_would_make(root: Path, whole: Path) -> None:
    member = root / "both" / "member-s1"
    assert weights_of(member) == weights_of(whole)
    assert result.read(member / "result.json").test.ic == result.read(whole / "result.json").test.ic


def test_the_ensembles_scores_are_the_mean_of_its_members_ranks(root: Path, panel: Path) -> None:
    tables = [pq.read_table(root / "both" / name / "test-scores.parquet") for name in ("member-s1", "member-s2")]
    days = sorted(set(tables[0]["date"].to_pylist()))
    codes = sorted(set(tables[0]["code"].to_pylist()))
    dense = []
    for table in tables:
        scores = np.full((len(days), len(codes)), np.nan)
        for day, code, score in zip(*(table[name].to_pylist() for name in ("date", "code", "score"))):
            scores[days.index(day), codes.index(code)] = score
        dense.append(scores)
    expected = combined(dense, "mean-rank")
    found = column(root / "both" / "test-scores.parquet")
    assert found == pytest.approx(expected[np.isfinite(expected)])


def test_the_ensemble_is_evaluated_once_as_one_model(root: Path) -> None:
    found = result.read(root / "both" / "result.json")
    members = [result.read(root / "both" / name / "result.json") for name in ("member-s1", "member-s2")]
    assert found.ensemble is not None
    assert found.ensemble.seeds == (1, 2)
    assert found.parameters == sum(each.parameters for each in members)
    assert (root / "both" / "report.html").exists()
    kept = ensemble.read(root / "both")
    assert [row["members"] for row in kept.gains["test"]] == [1, 2]
    assert kept.gains["test"][1]["sharpe"] == pytest.approx(found.test.sharpe_annual)
    assert kept.gains["test"][1]["ic"] == pytest.approx(found.test.ic)
    trials = run("trials", root / "both", "--json")
    assert trials.code == 0, trials
    assert sum("ensemble of 2" in json.dumps(each) for each in trials.json["trials"]) == 1


def test_an_ensemble_is_no_seed_of_its_tier(root: Path) -> None:
    both, member = root / "both", root / "both" / "member-s1"
    told = run("compare", both, member, "--json")
    assert told.code == 0, told
    assert "tiny, ensemble of 2" in told.out
    planned = run("power", both, "--json")
    assert planned.code == 0, planned
    assert planned.json["seeds"] == 0
    assert "this is an ensemble of 2" in run("power", both).out


def test_the_index_knows_the_ensemble_and_its_members(root: Path, tmp_path: Path) -> None:
    listed = {each["name"]: each for each in run("runs", "list", "--runs", root, "--json").json["runs"]}
    assert set(listed) == {"both", "both/member-s1", "both/member-s2"}
    assert {each["state"] for each in listed.values()} == {"done"}
    assert "ensemble of 2" in (root / "EXPERIMENTS.md").read_text()
    shown = run("runs", "show", root / "both", "--json")
    asked = json.loads((root / "both/config.json").read_text())["command"]
    assert shlex.split(shown.json["reproduce"]["command"]) == asked
    kept = run("runs", "archive", root / "both", "--out", tmp_path / "both.tar.gz")
    assert kept.code == 0, kept
    back = run("runs", "restore", tmp_path / "both.tar.gz", "--runs", tmp_path / "other")
    assert back.code == 0, back
    names = {each["name"] for each in run("runs", "list", "--runs", tmp_path / "other", "--json").json["runs"]}
    assert names == set(listed)
    assert ensemble.read(tmp_path / "other" / "both") == ensemble.read(root / "both")
    gone = run("runs", "delete", tmp_path / "other" / "both", "--yes")
    assert gone.code == 0, gone
    assert not (tmp_path / "other" / "both").exists()
    states = {
        each["state"]
        for each in run("runs", "list", "--runs", tmp_path / "other", "--state", "deleted", "--json").json["runs"]
    }
    assert states == {"deleted"}


def test_an_ensemble_that_is_refused_plans_nothing(tier_file: Path, panel: Path, tmp_path: Path) -> None:
    refused(run("ensemble", tier_file, "--data", panel, "--runs", tmp_path, "--run", "no"), "batch-below-minimum")
    assert not list(tmp_path.iterdir())
    refused(
        run("ensemble", tier_file, "--accept=all", "--data", panel, "--runs", tmp_path, "--run", "member-1"), "mine-"
    )


def test_predictions_of_an_ensemble_are_its_scores(root: Path, tmp_path: Path) -> None:
    done = run("predict", root / "both", "--period", "test", "--out", tmp_path / "p.parquet")
    assert done.code == 0, done
    assert (column(tmp_path / "p.parquet") == column(root / "both" / "test-scores.parquet")).all()


def test_an_ensemble_that_is_there_is_not_made_again_and_its_members_are_kept(
    root: Path, tier_file: Path, panel: Path, tmp_path: Path
) -> None:
    given = ("ensemble", tier_file, "--accept", "--data", panel, "--seeds", 2, "--runs", root)
    with unchanged(root):
        refused(run(*given, "--run", "both"), "exists already")
    shutil.copytree(root / "both" / "member-s1", tmp_path / "new" / "member-s1")
    before = (tmp_path / "new" / "member-s1" / "checkpoints" / "last.pt").stat().st_mtime_ns
    given = ("ensemble", tier_file, "--accept", "--data", panel, "--seeds", 2, "--runs", tmp_path, "--run", "new")
    refused(run(*given), "exists already", "--again")
    done = run(*given, "--again", "--at-once", 2)
    assert done.code == 0, done
    assert (tmp_path / "new" / "member-s1" / "checkpoints" / "last.pt").stat().st_mtime_ns == before
    assert weights_of(tmp_path / "new" / "member-s2") == weights_of(root / "both" / "member-s2")


def test_a_member_with_other_weights_is_found_out(root: Path, panel: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "both", tmp_path / "both")
    weights = tmp_path / "both" / "member-s2" / "checkpoints" / "best-3-fine_tuning.safetensors"
    weights.write_bytes((weights.parent / "best-2-gat.safetensors").read_bytes())
    refused(run("score", tmp_path / "both", "--data", panel), "are not the weights that")
    weights.unlink()
    refused(run("predict", tmp_path / "both"), "are missing")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--seeds", "1"), "at least two members"),
        (("--seeds", "1,x"), "not whole numbers"),
        (("--seeds", "7,7"), "at least two members"),
        (("--set", "batch.dayz=3"), "no such setting"),
        (("--run", "../out"), "run name"),
    ],
)
def test_ensembles_that_cannot_be_are_refused_before_anything_is_made(
    tier_file: Path, panel: Path, tmp_path: Path, given: tuple[str, ...], told: str
) -> None:
    refused(run("ensemble", tier_file, "--accept", "--data", panel, "--runs", tmp_path / "runs", *given), told)
    assert not (tmp_path / "runs").exists()


def test_a_member_that_fails_is_named_and_the_others_stay(tier_file: Path, panel: Path, tmp_path: Path) -> None:
    bad = run("ensemble", tier_file, "--accept", "--data", panel, "--runs", tmp_path, "--run", "bad", "--seeds", 2,
              "--at-once", 2, "--set", "batch.stocks_per_day=999", "--set", "epoch_stock_days=7992")  # fmt: skip
    refused(bad, "member-s", "60 stocks, fewer than batch.stocks_per_day")


def test_todays_scores_have_every_stock_with_its_rank(whole: Path, panel: Path, tmp_path: Path) -> None:
    done = run("score", whole, "--data", panel, "--out", tmp_path / "s.parquet", "--json")
    assert done.code == 0, done
    opened = Panel.open(panel)
    table = pq.read_table(tmp_path / "s.parquet")
    assert done.json["date"] == str(opened.days[-1])
    assert set(table["date"].to_pylist()) == {opened.days[-1].item()}
    assert table.num_rows + done.json["not_scored"] == opened.present[-1].sum()
    scores, ranks = column(tmp_path / "s.parquet"), column(tmp_path / "s.parquet", "rank")
    assert sorted(ranks) == list(range(1, len(ranks) + 1))
    assert (np.diff(scores[np.argsort(ranks)]) <= 0).all()
    assert done.json["drift"]["features"]
    assert table.schema.metadata[b"run"].decode() == whole.name


def test_scores_of_a_day_are_those_that_predict_gives(whole: Path, panel: Path, tmp_path: Path) -> None:
    day = str(Panel.open(panel).days[-5])
    assert run("score", whole, "--data", panel, "--date", day, "--out", tmp_path / "s.parquet").code == 0
    given = ("--from", day, "--to", day, "--out", tmp_path / "p.parquet")
    assert run("predict", whole, *given).code == 0
    assert (column(tmp_path / "s.parquet") == column(tmp_path / "p.parquet")).all()


def test_days_of_training_are_no_forecasts(whole: Path, panel: Path, tmp_path: Path) -> None:
    done = run("score", whole, "--data", panel, "--date", "2015-06-01", "--out", tmp_path / "s.parquet")
    assert done.code == 0, done
    assert "these scores are no forecasts" in done.out
    assert "is not the panel's last day" in done.out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda days, names: (days, [*names[:-1], "other"]), "lacks 'noise_4' and adds 'other'"),
        (lambda days, names: (np.delete(days, 50), names), "its calendar lacks 1 of the days"),
    ],
    ids=["features", "calendar"],
)
def test_a_panel_that_differs_from_training_is_refused_by_name(
    whole: Path, panel: Path, tmp_path: Path, change: Callable[..., tuple[np.ndarray, list[str]]], told: str
) -> None:
    opened = Panel.open(panel)
    days, names = change(opened.days, opened.feature_names)
    kept = np.isin(opened.days, days)
    entries = tuple(
        each.model_copy(update={"name": name}) for each, name in zip(opened.manifest.features, names, strict=True)
    )
    write_panel(
        tmp_path / "other", days=days, codes=opened.codes, industries=opened.industries, feature_names=names,
        close=opened.close[kept], features=opened.features(0, len(opened.days))[kept],
        manifest_extra={"features": entries, "normalise": opened.manifest.normalise},
    )  # fmt: skip
    refused(run("score", whole, "--data", tmp_path / "other", "--out", tmp_path / "s.parquet"), told, "Mend")
    assert not (tmp_path / "s.parquet").exists()


def test_another_scaling_is_refused_by_name(whole: Path, market: Path, tmp_path: Path) -> None:
    built = run("data", "build", market / "market.parquet", tmp_path / "z", "--roles", market / "roles.yaml",
                "--normalise", "zscore")  # fmt: skip
    assert built.code == 0, built
    refused(run("score", whole, "--data", tmp_path / "z"), "its features are not those that run")


def test_a_day_outside_the_calendar_is_refused_with_the_day_before(whole: Path, panel: Path) -> None:
    refused(run("score", whole, "--data", panel, "--date", "2015-06-06"), "--date 2015-06-06", "2015-06-05")


def test_a_run_without_a_reference_is_held_against_the_panel_it_was_trained_on(
    whole: Path, panel: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "old")
    (tmp_path / "old" / "reference.json").unlink()
    told = [run("score", each, "--data", panel, "--out", tmp_path / f"{place}.parquet", "--json").json["drift"]
            for place, each in enumerate((whole, tmp_path / "old"))]  # fmt: skip
    assert told[0] == told[1]
