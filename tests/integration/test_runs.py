"""`atft runs`: what is told of runs as they go, are killed, are copied, archived, restored, deleted and exported."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from atft.experiment.index import RunIndex
from atft.storage import Store
from tests.integration.command import SOURCES, figures_of, refused, run, tree, unchanged, weights_of
from tests.integration.conftest import Train


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy of a finished run with its index and registry."""
    shutil.copytree(whole.parent, tmp_path / "runs")
    return tmp_path / "runs"


def listed(root: Path, *more: object) -> dict[str, Any]:
    done = run("runs", "list", "--runs", root, "--json", *more)
    assert done.code == 0, done
    return {each["name"]: each for each in done.json["runs"]}


def states(root: Path, name: str) -> list[str]:
    return [entry.state for entry in RunIndex(Store(root / "_runs")).runs()[name].history]


def test_a_finished_run_is_listed_with_the_figures_of_its_result(root: Path) -> None:
    result = json.loads((root / "whole/result.json").read_text())
    row = listed(root)["whole"]
    assert (row["state"], row["tier"], row["seed"], row["batch"], row["hidden"]) == ("done", "tiny", 1, 128, 8)
    for name in ("sharpe_annual", "sharpe_annual_ci95", "ic", "ic_ci95"):
        assert row[name] == result["test"][name]
    assert row["runtime_seconds"] == result["runtime_seconds"]
    assert states(root, "whole") == ["running", "done"]
    text = run("runs", "list", "--runs", root).out
    half = (row["sharpe_annual_ci95"][1] - row["sharpe_annual_ci95"][0]) / 2
    assert f"{row['sharpe_annual']:+.2f} ± {half:.2f}" in text


def test_the_command_that_is_shown_makes_the_same_run(
    train: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    monkeypatch.setenv("LR", "0.002")
    monkeypatch.setenv("ATFT_MODEL__DROPOUT", "0.1")
    assert train(tmp_path, "one", "--set", "phases.gat.epochs=1", "--batch-size", 192, "--seed", 5).code == 0
    monkeypatch.delenv("LR")
    monkeypatch.delenv("ATFT_MODEL__DROPOUT")
    told = run("runs", "show", tmp_path / "one", "--json").json
    command = shlex.split(told["reproduce"]["command"])
    assert command[:2] == ["atft", "train"]
    assert run(*command[1:]).code == 0
    assert figures_of(tmp_path / "one-again") == figures_of(tmp_path / "one") != figures_of(whole)
    assert weights_of(tmp_path / "one-again") == weights_of(tmp_path / "one")


def test_where_the_tier_file_changed_the_command_takes_the_settings_of_the_run(
    root: Path, tier_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    monkeypatch.chdir(tmp_path)
    config = json.loads((root / "whole/config.json").read_text())
    assert config["tier_file"] == str(tier_file)
    changed = tmp_path / "tiny.yaml"
    changed.write_text(tier_file.read_text().replace("dropout: 0.2", "dropout: 0.1"))
    (root / "whole/config.json").write_text(json.dumps(config | {"tier_file": str(changed)}))
    command = run("runs", "show", "whole", "--runs", root, "--json").json["reproduce"]["command"]
    changed.unlink()
    for part in command.split(" && "):
        done = run(*shlex.split(part)[1:])
        assert done.code == 0, done
    assert figures_of(root / "whole-again") == figures_of(root / "whole")


def test_everything_about_a_run_is_shown(root: Path) -> None:
    report = run("runs", "show", "whole", "--runs", root, "--json").json
    environment = report["environment"]
    assert environment["packages"]["python"] == sys.version.split()[0]
    assert environment["hardware"]["cores"] >= 1
    assert environment["hardware"]["cpu"]
    assert set(environment["code"]) == {"version", "commit", "dirty"}
    assert report["files"] == {name: len(each) for name, each in tree(root / "whole").items() if each is not None}
    assert report["data"]["now"] == "as it was"
    text = run("runs", "show", root / "whole").out
    for told in ("to make it again", "environment", "states", "results", "files:", report["data"]["sha256"], "torch"):
        assert told in text


def test_a_panel_that_is_another_now_is_told(root: Path, tmp_path: Path) -> None:
    config = json.loads((root / "whole/config.json").read_text())
    (root / "whole/config.json").write_text(json.dumps(config | {"panel_sha256": "0" * 64}))
    assert run("runs", "show", root / "whole", "--json").json["data"]["now"].startswith("another: sha256 ")
    (root / "whole/config.json").write_text(json.dumps(config | {"panel": str(tmp_path / "gone")}))
    assert "not there" in run("runs", "show", root / "whole").out


def test_a_run_that_stops_is_interrupted_and_one_that_goes_on_is_done(
    stopped: Path, train: Train, tmp_path: Path, no_report: None
) -> None:
    root = tmp_path / "runs"
    shutil.copytree(stopped.parent, root)
    assert listed(root)["part"]["state"] == "interrupted"
    assert train(root, "part", "--resume").code == 0
    assert states(root, "part") == ["running", "interrupted", "running", "done"]
    assert listed(root)["part"]["state"] == "done"


def test_a_run_that_fails_is_listed_with_the_reason(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the cat sat on the keyboard\nand stayed")

    monkeypatch.setattr("atft.train.loop.Trainer.run", fail)
    assert train(tmp_path, "bad").code == 1
    row = listed(tmp_path)["bad"]
    assert (row["state"], row["reason"]) == ("failed", "the cat sat on the keyboard")
    assert "failed: the cat sat on the keyboard" in (tmp_path / "EXPERIMENTS.md").read_text()


def started(tier_file: Path, panel: Path, root: Path, name: str) -> subprocess.Popen[bytes]:
    """A run in a process of its own that has taken its first step."""
    command = ["train", tier_file, "--accept=all", "--data", panel, "--runs", root, "--run", name,
               "--set", "max_epochs=500", "--set", "phases.baseline.epochs=500"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "atft", *map(str, command)], env=environment, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    events = root / name / "events.jsonl"
    while not (events.exists() and '"kind":"step"' in events.read_text()):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    return process


def test_a_living_run_is_left_alone_and_a_killed_one_is_told_interrupted(
    tier_file: Path, panel: Path, tmp_path: Path
) -> None:
    process = started(tier_file, panel, tmp_path, "one")
    try:
        assert listed(tmp_path)["one"]["label"] == "running"
        refused(run("runs", "delete", "one", "--runs", tmp_path, "--yes"), "is running", "Mend")
        refused(run("runs", "archive", "one", "--runs", tmp_path, "--out", tmp_path / "a.tar.gz"), "is running")
    finally:
        process.kill()
        process.wait()
    assert states(tmp_path, "one") == ["running"]
    row = listed(tmp_path, "--state", "interrupted")["one"]
    assert row["label"] == "interrupted (killed)"
    assert f"its process {process.pid} on " in row["reason"]
    assert run("runs", "delete", "one", "--runs", tmp_path, "--yes").code == 0
    assert not (tmp_path / "one").exists()


def test_sigterm_is_an_interruption_with_its_reason(tier_file: Path, panel: Path, tmp_path: Path) -> None:
    process = started(tier_file, panel, tmp_path, "one")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    assert states(tmp_path, "one") == ["running", "interrupted"]
    assert "stopped as asked after step" in listed(tmp_path)["one"]["reason"]


@pytest.mark.parametrize(("minutes", "refusing"), [(12, True), (180, False)])
def test_a_run_of_another_machine_is_running_as_far_as_its_last_sign_tells(
    root: Path, minutes: int, refusing: bool
) -> None:
    shutil.copytree(root / "whole", root / "far")
    (root / "far/result.json").unlink()
    index = RunIndex(Store(root / "_runs"))
    process = {"pid": 1, "host": "far", "boot": "other", "namespace": "other", "started": 1}
    index.record("far", "running", process=process)
    (entry,) = (root / "_runs/far").iterdir()
    entry.rename(entry.with_name(f"20200101T000000.000000Z{entry.name[entry.name.index('-') :]}"))
    for file in (root / "far").rglob("*"):
        os.utime(file, (time.time() - 60 * minutes,) * 2)
    row = listed(root)["far"]
    assert row["state"] == "running"
    assert row["label"] == f"running (last sign {'12 min' if minutes == 12 else '3 h'} ago)"
    deleted = run("runs", "delete", root / "far", "--yes")
    assert (deleted.code == 2) is refusing is (root / "far").exists()


def test_runs_of_before_there_was_an_index_are_listed_by_their_files(root: Path, stopped: Path) -> None:
    with_index = listed(root)["whole"]
    shutil.rmtree(root / "_runs")
    shutil.copytree(stopped, root / "walk/fold-01")
    for file in (root / "walk/fold-01").rglob("*"):
        os.utime(file, (time.time() - 7200,) * 2)
    (root / "broken").mkdir()
    (root / "broken/config.json").write_text("{")
    (root / "notes").mkdir()
    report = run("runs", "list", "--runs", root, "--json").json
    rows = {each["name"]: each for each in report["runs"]}
    assert rows.keys() == {"whole", "walk/fold-01"}
    told = ("state", "tier", "seed", "batch", "hidden", "sharpe_annual", "sharpe_annual_ci95", "ic", "runtime_seconds")
    assert {name: rows["whole"][name] for name in told} == {name: with_index[name] for name in told}
    assert rows["walk/fold-01"]["state"] == "interrupted"
    (line,) = report["unreadable"]
    assert "broken/config.json: is no JSON" in line


def test_the_list_is_filtered_and_sorted(root: Path) -> None:
    index = RunIndex(Store(root / "_runs"))
    for name, tier, sharpe in (("a", "tier1", 0.5), ("b", "tier2", 3.0), ("c", "tier1", None)):
        index.record(name, "running", tier=tier)
        index.record(name, "done", sharpe_annual=sharpe)
    index.record("c", "deleted")
    assert list(listed(root, "--tier", "tier1")) == ["a"]
    assert list(listed(root, "--state", "deleted")) == ["c"]
    assert list(listed(root, "--sort", "sharpe"))[:2] == ["b", "a"]
    assert list(listed(root, "--sort", "name")) == ["a", "b", "whole"]
    assert list(listed(root))[:2] == ["b", "a"]
    assert listed(root)["a"]["label"] == "done, files gone"
    assert "1 deleted not shown" in run("runs", "list", "--runs", root).out
    refused(run("runs", "list", "--runs", root, "--sort", "beauty"), "--sort beauty", "sharpe")
    refused(run("runs", "list", "--runs", root / "nowhere"), "no such directory")


def test_a_run_that_is_not_there_is_told_with_the_nearest_name(root: Path) -> None:
    for command in ("show", "archive"):
        refused(run("runs", command, "whale", "--runs", root), "whale: no such run", "Nearest: whole")
    refused(run("runs", "delete", root / "whale", "--yes"), "no such run")


def test_deleting_wants_a_yes_and_leaves_what_is_counted(root: Path) -> None:
    with unchanged(root):
        refused(run("runs", "delete", root / "whole"), "--yes")
        assert run("runs", "delete", root / "whole", "--json").code == 2
    registry = tree(root / "_registry")
    done = run("runs", "delete", root / "whole", "--yes")
    assert done.code == 0
    assert "_registry are not deleted" in done.out
    assert tree(root / "_registry") == registry != {}
    assert not (root / "whole").exists()
    assert states(root, "whole") == ["running", "done", "deleted"]
    assert listed(root) == {}
    assert "| whole | deleted |" in (root / "EXPERIMENTS.md").read_text()


def test_the_board_is_renewed_at_the_end_of_a_run_and_is_the_same_for_the_same_runs(root: Path) -> None:
    page = (root / "EXPERIMENTS.md").read_text()
    assert page.startswith("<!-- Generated by `atft runs board`")
    assert "## tiny" in page
    assert "| whole | done | 1 | 128 | 8 |" in page
    assert run("runs", "board", "--runs", root).code == 0
    assert (root / "EXPERIMENTS.md").read_text() == page
    assert run("runs", "list", "--runs", root, "--write", "--json").json["board"] == str(root / "EXPERIMENTS.md")


def test_an_index_that_cannot_be_written_warns_and_stops_no_run(train: Train, tmp_path: Path, no_report: None) -> None:
    (tmp_path / "_runs").write_text("a file")
    done = train(tmp_path, "one")
    assert done.code == 0
    assert "warning: the index of runs does not know that one is running" in done.err
    assert (tmp_path / "one/result.json").exists()


def test_a_board_that_cannot_be_written_warns_and_stops_no_run(train: Train, tmp_path: Path, no_report: None) -> None:
    (tmp_path / "EXPERIMENTS.md").mkdir()
    done = train(tmp_path, "one")
    assert done.code == 0
    assert "warning: EXPERIMENTS.md is not renewed" in done.err
    assert listed(tmp_path)["one"]["state"] == "done"


def test_a_list_of_runs_loads_neither_torch_nor_polars(root: Path) -> None:
    code = (
        "import sys; from atft.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(*(set(sys.modules) & {'torch', 'polars', 'scipy', 'pydantic'}))"
    )
    command = [sys.executable, "-c", code, "runs", "list", "--runs", str(root)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(SOURCES)}
    )
    assert "whole" in done.stdout
    assert done.stdout.splitlines()[-1] == ""
