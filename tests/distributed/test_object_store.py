"""Runs and panels in an object store: the same numbers as on a disk, also after an outage or on another machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atft.launch import places
from atft.observe import events
from atft.storage import Mirror, Store, cache_root
from tests.integration.command import SOURCES, Outcome, epochs_of, figures_of, refused, run, steps_of, weights_of
from tests.s3_server import S3Server, s3_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        patch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        yield running


@pytest.fixture
def machine(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has nothing yet: its cache."""
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "machine"))
    return tmp_path / "machine"


@pytest.fixture(scope="module")
def stored_panel(server: S3Server, panel: Path) -> str:
    Mirror(panel, Store("s3://bucket/panels/small")).push_changed()
    return "s3://bucket/panels/small"


@pytest.fixture
def runs(tmp_path: Path) -> str:
    return f"s3://bucket/{tmp_path.name}/runs"


def fetched(uri: str, to: Path) -> Path:
    """What the store holds of a run."""
    Mirror(to, Store(uri)).pull()
    return to


def same(path: Path, other: Path) -> None:
    assert steps_of(path) == steps_of(other)
    assert epochs_of(path) == epochs_of(other)
    assert figures_of(path) | {"planted": None} == figures_of(other) | {"planted": None}  # the truth is not stored
    assert weights_of(path) == weights_of(other)


def test_a_run_in_an_object_store_is_the_run_on_a_disk(
    machine: Path, stored_panel: str, runs: str, tier_file: Path, panel: Path, tmp_path: Path
) -> None:
    assert (
        run("train", "--accept=all", tier_file, "--data", panel, "--runs", tmp_path / "disk", "--run", "one").code == 0
    )
    done = run("train", "--accept=all", tier_file, "--data", stored_panel, "--runs", runs, "--run", "one", "--json")
    assert done.code == 0, done
    stored = fetched(f"{runs}/one", tmp_path / "stored")
    same(stored, tmp_path / "disk/one")
    assert (stored / "report.html").stat().st_size > 100_000
    shutil.rmtree(machine)  # another machine shows it
    shown = run("evaluate", f"{runs}/one", "--json")
    assert shown.code == 0, shown
    assert shown.json["test"]["ic"] == figures_of(tmp_path / "disk/one")["test"]["ic"]
    refused(
        run("train", "--accept=all", tier_file, "--data", stored_panel, "--runs", runs, "--run", "one"),
        "exists already",
        "Mend",
    )


def test_a_job_begins_its_run_and_an_ensemble_its_members_in_an_object_store(
    machine: Path, stored_panel: str, runs: str, tier_file: Path, tmp_path: Path
) -> None:
    given = ("--accept=all", tier_file, "--data", stored_panel, "--runs", runs)
    begun = run("train", *given, "--run", "job", "--again")
    assert begun.code == 0, begun
    made = run("ensemble", *given, "--run", "both", "--seeds", 2, "--json")
    assert made.code == 0, made
    shutil.rmtree(machine)  # another machine uses it
    done = run("score", f"{runs}/both", "--data", stored_panel, "--out", tmp_path / "s.parquet", "--json")
    assert done.code == 0, done
    listed = {each["name"] for each in run("runs", "list", "--runs", runs, "--json").json["runs"]}
    assert listed == {"job", "both", "both/member-s1", "both/member-s2"}


def test_a_panel_is_copied_to_a_machine_once(
    machine: Path, stored_panel: str, runs: str, tier_file: Path, tmp_path: Path
) -> None:
    first = places.open_panel(Path(stored_panel)).path
    stamp = {file: file.stat().st_mtime_ns for file in first.rglob("*.arrow")}
    assert stamp
    assert places.open_panel(Path(stored_panel)).path == first
    assert stamp == {file: file.stat().st_mtime_ns for file in first.rglob("*.arrow")}


def killed_at_a_checkpoint(arguments: list[Any], working: Path) -> None:
    """Train in a process of its own and kill it after what it has written is stored."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "atft", *map(str, arguments)], env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        if any(event["kind"] == "checkpoint" for event in _events(working)):
            break
    time.sleep(places.STORE_SECONDS + 1.5)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def _events(working: Path) -> list[events.Event]:
    return events.read(working) if (working / "events.jsonl").exists() else []


def test_a_run_goes_on_on_another_machine(
    machine: Path, stored_panel: str, runs: str, long_tier: Path, panel: Path, alone: Path, tmp_path: Path
) -> None:
    slow = tmp_path / "long.yaml"
    slow.write_text(long_tier.read_text())
    given = ["train", "--accept=all", slow, "--data", stored_panel, "--runs", runs, "--run", "moved"]
    place = places.run_place(Path(runs), "moved")
    killed_at_a_checkpoint(
        [*given, "--set", "runtime.micro_batch_blocks=1", "--set", "runtime.kept_graphs=1"], place.path
    )
    shutil.rmtree(cache_root())
    done = run("train", "long", "--runs", runs, "--run", "moved", "--resume")
    assert done.code == 0, done
    assert "resumed after step" in done.err
    stored = fetched(f"{runs}/moved", tmp_path / "stored")
    for one, two in list(zip(steps_of(stored), steps_of(alone), strict=True))[:10]:
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-5 * 0.447)


def test_an_outage_in_the_middle_only_delays_what_is_stored(
    machine: Path, server: S3Server, stored_panel: str, runs: str, tier_file: Path, panel: Path, tmp_path: Path
) -> None:
    from atft.observe.events import EventLog

    write, out = EventLog.write, []

    def write_and_cut(log: EventLog, kind: str, **fields: Any) -> Any:
        event = write(log, kind, **fields)
        if kind == "step" and fields["step"] == 4 and not out:
            server.stop()
            out.append("stopped")
        if kind == "evaluation_started" and out == ["stopped"]:
            server.start()
            out.append("started")
        return event

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EventLog, "write", write_and_cut)
        done = run("train", "--accept=all", tier_file, "--data", stored_panel, "--runs", runs, "--run", "cut")
    assert out == ["stopped", "started"]
    assert done.code == 0, done
    assert (
        run("train", "--accept=all", tier_file, "--data", panel, "--runs", tmp_path / "disk", "--run", "cut").code == 0
    )
    same(fetched(f"{runs}/cut", tmp_path / "stored"), tmp_path / "disk/cut")


def test_a_store_that_cannot_be_written_is_told_before_anything_is_computed(
    machine: Path, stored_panel: str, tier_file: Path
) -> None:
    for place in ("s3://nobucket/runs", "s3://bucket/runs"):
        with pytest.MonkeyPatch.context() as patch:
            if place == "s3://bucket/runs":
                patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
            done: Outcome = run(
                "train", "--accept=all", tier_file, "--data", stored_panel, "--runs", place, "--run", "no"
            )
        refused(done, place, "Mend")
    assert not list(cache_root().glob("runs/*/no"))
