"""``atft compare`` as a user meets it: on finished and unfinished runs, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.integration.command import refused, run, unchanged
from tests.integration.conftest import Train


@pytest.fixture(scope="module")
def root(train: Train, whole: Path, stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two configurations, one of them under two seeds, and a run that is not finished; read it, never write into it."""
    runs = tmp_path_factory.mktemp("compared") / "runs"
    shutil.copytree(whole, runs / "a1")
    shutil.copytree(stopped, runs / "part")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atft.report.html.write_report", lambda path: path / "report.html")
        for name, more in (("a2", ()), ("b2", ("--set", "model.hidden_size=12"))):
            assert train(runs, name, "--seed", 2, "--json", *more).code == 0
    return runs


def test_runs_are_compared_by_configuration_on_screen_and_as_json(root: Path) -> None:
    names = [root / name for name in ("a1", "a2", "b2")]
    with unchanged(root):
        told, shown = run("compare", *names, "--json").json, run("compare", *names)
    assert shown.code == 0, shown.err
    small, large = told["configurations"]
    assert ([each["name"] for each in small["runs"]], small["seeds"]) == (["a1", "a2"], [1, 2])
    assert large["name"] == "tiny (model.hidden_size 12)"
    (pair,) = told["comparisons"]
    assert (pair["first"], pair["second"]) == (large["name"], small["name"])
    test = pair["tests"]["sharpe_annual"]
    results = {name: json.loads((root / name / "result.json").read_text())["test"] for name in ("a1", "a2", "b2")}
    mean = (results["a1"]["sharpe_annual"] + results["a2"]["sharpe_annual"]) / 2
    assert test["estimate"] == pytest.approx(results["b2"]["sharpe_annual"] - mean)
    assert (test["seeds"], test["knows_training"], test["days"]) == ([1, 2], False, results["a1"]["days"])
    assert pair["causality"] == "This comparison can be causal: only model.hidden_size differs."
    assert "Chance in training of the other side is not in this interval" in told["verdict"][0]
    assert told["verdict"][0][:40] in shown.out.replace("\n  ", " ")
    phases = small["phases"]
    assert list(phases) == ["baseline", "adaptive_norm", "gat", "fine_tuning"]
    assert [phases[name]["epochs"]["mean"] for name in phases] == [2, 1, 2, 1]
    assert phases["gat"]["batch_sharpe"]["count"]["mean"] == 6
    assert small["steps"]["mean"] == 18
    assert small["cost"]["worker_hours"]["mean"] == pytest.approx(small["cost"]["seconds"]["mean"] / 3600, rel=1e-6)


def test_the_baseline_can_be_named_and_all_pairs_be_asked_for(root: Path) -> None:
    told = run("compare", root / "a1", "--baseline", root / "b2", "--all-pairs", "--price-per-hour", 3, "--json").json
    assert told["baseline"] == told["configurations"][0]["name"] == "tiny (model.hidden_size 12)"
    assert [each["runs"][0]["name"] for each in told["configurations"]] == ["b2", "a1"]
    assert len(told["pairs"]) == 1
    cost = told["configurations"][0]["cost"]
    assert cost["money"]["mean"] == pytest.approx(3 * cost["worker_hours"]["mean"])


def test_a_run_that_is_not_finished_is_compared_in_what_is_there(root: Path) -> None:
    done = run("compare", root / "b2", root / "part", "--json")
    told = done.json
    assert told["comparisons"][0]["tests"] == {}
    assert any("part" in each and "step 5 of 18" in each for each in told["verdict"])
    assert told["configurations"][1]["phases"]["baseline"]["batch_sharpe"]["count"]["mean"] == 5
    assert run("compare", root / "b2", root / "part").code == 0


def test_a_page_and_a_markdown_file_are_written(root: Path, tmp_path: Path) -> None:
    for name in ("c.html", "c.md"):
        done = run("compare", root / "a1", root / "b2", "--out", tmp_path / name)
        assert done.code == 0, done.err
        assert f"written: {tmp_path / name}" in done.out
    assert "## Final results" in (tmp_path / "c.md").read_text()
    assert "<svg" in (tmp_path / "c.html").read_text()


def test_what_cannot_be_compared_is_refused_in_one_paragraph(root: Path, tmp_path: Path) -> None:
    one, two = root / "a1", root / "b2"
    refused(run("compare", one), "one run alone cannot be compared", "Mend")
    refused(run("compare", one, root / "x" / ".." / "a1"), "is named twice", "Mend")
    refused(run("compare", one, root / "none"), "no run there", "none")
    refused(run("compare", one, root / "a2"), "a1, a2: are seeds of one configuration", "Mend")
    refused(run("compare", one, two, "--out", tmp_path / "c.pdf"), "ends in .pdf", ".html or .md")
    refused(run("compare", one, two, "--out", tmp_path / "no" / "c.md"), "is no directory")
    refused(run("compare", one, two, "--price-per-hour", -1), "--price-per-hour -1.0", "Mend")
    refused(run("compare"), "Missing argument")


def test_a_result_that_cannot_be_read_and_other_test_days_are_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "runs")
    held = tmp_path / "runs" / "b2" / "result.json"
    found = json.loads(held.read_text())
    series = found["test"]["series"]
    found["test"]["series"] = {name: values[10:] for name, values in series.items()}
    held.write_text(json.dumps(found))
    both = (tmp_path / "runs" / "a1", tmp_path / "runs" / "b2")
    refused(run("compare", *both), "10 test days are a1's alone", "--common-days")
    told = run("compare", *both, "--common-days", "--json").json
    assert told["comparisons"][0]["tests"]["ic"]["days"] == len(series["dates"]) - 10
    assert any("10 test days are a1's alone" in each for each in told["verdict"])
    held.write_text("{")
    refused(run("compare", *both), "not a JSON file", "b2", "Mend")


def test_what_a_tier_expects_is_held_against_the_pooled_ratio_of_its_test_days(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "runs")
    both = (tmp_path / "runs" / "a1", tmp_path / "runs" / "b2")
    held = both[1] / "config.json"
    config = json.loads(held.read_text())
    stated = {"metric": "pooled_sharpe", "low": 0.82, "high": 0.85, "target": 0.849, "source": "beforehand"}
    config["tier"]["expectation"] = stated
    held.write_text(json.dumps(config))
    told = run("compare", *both, "--json").json
    (found,) = told["expectations"]
    own = json.loads((both[1] / "result.json").read_text())["test"]["pooled_sharpe"]
    assert found["reached"]["estimate"] == pytest.approx(own)
    assert found["reached"]["low"] < own < found["reached"]["high"] < 0.82
    assert (found["range"], found["target_verdict"]) == ("missed", "missed")
    (both[1] / "test-scores.parquet").unlink()
    without = run("compare", *both, "--json").json
    assert without["expectations"][0]["target_verdict"] == "undecidable"
    assert any("no interval of pooled_sharpe is known here" in each for each in without["verdict"])
