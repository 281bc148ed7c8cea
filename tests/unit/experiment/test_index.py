"""The index of runs: states by run, histories, writers that are killed, and files that are none of its entries."""

from __future__ import annotations

import datetime as dt
import json
import math
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from atft.errors import UseError
from atft.experiment.index import STATES, RunIndex
from atft.storage import Store


@pytest.fixture
def index(tmp_path: Path) -> RunIndex:
    return RunIndex(Store(tmp_path / "_runs"))


def files(index: RunIndex) -> list[Path]:
    return sorted(Path(index.uri).rglob("*.json"))


def test_an_empty_place_has_no_runs_and_reading_makes_nothing(index: RunIndex, tmp_path: Path) -> None:
    assert index.read() == type(index.read())((), ())
    assert list(tmp_path.iterdir()) == []


def test_the_last_state_counts_and_the_history_is_kept(index: RunIndex) -> None:
    for state in ("planned", "running", "interrupted"):
        index.record("first", state, tier="tier1")
    index.record("sweep-x/point-3-s1", "done", ic=0.04)
    index.record("first", "running", resumed=True, workers=2)
    index.record("first", "done", ic=0.05)
    found = index.runs()
    assert list(found) == ["first", "sweep-x/point-3-s1"]
    first = found["first"]
    assert first.state == "done"
    assert [each.state for each in first.history] == ["planned", "running", "interrupted", "running", "done"]
    assert first.facts == {"tier": "tier1", "resumed": True, "workers": 2, "ic": 0.05}
    assert first.time == first.history[-1].time > first.history[0].time
    assert found["sweep-x/point-3-s1"].facts == {"ic": 0.04}
    assert len(index.entries()) == 6


def test_every_state_can_be_recorded_and_no_other(index: RunIndex) -> None:
    for state in STATES:
        index.record("x", state)
    assert tuple(each.state for each in index.runs()["x"].history) == STATES


def test_entries_of_one_writer_keep_their_order_however_quick_it_is(index: RunIndex) -> None:
    for number in range(50):
        index.record("x", "running", number=number)
    assert [each.facts["number"] for each in index.entries()] == list(range(50))


def test_writers_that_write_at_the_same_instant_both_stay(index: RunIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Stopped:
            return cls(2026, 1, 1, tzinfo=tz)

    other = RunIndex(Store(index.uri))
    monkeypatch.setattr("atft.experiment.index.dt.datetime", Stopped)
    index.record("x", "done", by=1)
    other.record("x", "done", by=2)
    monkeypatch.undo()
    assert {each.facts["by"] for each in index.entries()} == {1, 2}


@pytest.mark.parametrize("end", ["deleted", "archived", "done", "failed"])
def test_a_name_that_is_used_again_does_not_inherit_figures(index: RunIndex, end: Any) -> None:
    index.record("x", "running", seed=1)
    index.record("x", "done", ic=0.5)
    index.record("x", end)
    index.record("x", "running", seed=2)
    assert index.runs()["x"].facts == {"seed": 2}
    assert len(index.runs()["x"].history) == 4


def test_the_reason_is_that_of_the_last_entry_alone(index: RunIndex) -> None:
    index.record("x", "running")
    index.record("x", "failed", reason="no memory")
    assert index.runs()["x"].facts == {"reason": "no memory"}
    index.record("x", "running", resumed=True)
    assert index.runs()["x"].facts == {"resumed": True}


def test_what_is_no_plain_data_becomes_it(index: RunIndex) -> None:
    index.record("x", "done", sharpe=math.nan, panel=Path("/p"), span=(1, 2))
    assert index.runs()["x"].facts == {"sharpe": None, "panel": "/p", "span": [1, 2]}


@pytest.mark.parametrize("name", ["", "../x", "a//b", "/x", "_runs", "a b"])
def test_a_name_that_could_lead_elsewhere_is_refused(index: RunIndex, name: str) -> None:
    with pytest.raises(UseError, match="run name"):
        index.record(name, "done")


DAMAGES = {
    "torn": (lambda text: text[:30], "cannot be read"),
    "empty": (lambda text: "", "cannot be read"),
    "of another schema": (
        lambda text: text.replace('"schema_version": 1', '"schema_version": 9'),
        "schema_version = 9",
    ),
    "of another run": (lambda text: text.replace('"run": "bad"', '"run": "good"'), "holds an entry of good"),
    "of another state": (lambda text: text.replace("failed", "done"), "holds an entry of bad, done"),
    "a list": (lambda text: "[]", "cannot be read"),
    "without facts": (lambda text: json.dumps({**json.loads(text), "facts": None}), "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_named_and_hides_no_other(index: RunIndex, damage: str) -> None:
    index.record("good", "done")
    index.record("bad", "failed")
    change, told = DAMAGES[damage]
    (bad,) = [file for file in files(index) if file.parent.name == "bad"]
    bad.write_text(change(bad.read_text()))
    found = index.read()
    assert list(found.runs()) == ["good"]
    (line,) = found.unreadable
    assert line.startswith(str(bad))
    assert told in line


@pytest.mark.parametrize("name", ["note.txt", "x/20260101T000000.000000Z-dead-00000000.json", "x/notes.json"])
def test_a_foreign_file_is_named(index: RunIndex, name: str) -> None:
    index.record("x", "done")
    (Path(index.uri) / name).write_text("{}")
    assert list(index.runs()) == ["x"]
    assert [line.startswith(f"{index.uri}/{name}: ") for line in index.read().unreadable] == [True]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "_runs").write_text("a file")
    with pytest.raises(UseError, match="_runs"):
        RunIndex(Store(tmp_path / "_runs", tries=1)).record("x", "done")


def _record_until_killed(place: str, name: str, acknowledged: Path) -> None:
    index = RunIndex(Store(place))
    with acknowledged.open("a", buffering=1) as told:
        for number in range(100_000):
            index.record(name, "running", number=number, filler="x" * 2000)
            told.write(f"{number}\n")


def kill_while_recording(place: str, tmp_path: Path, writers: int, least: int) -> None:
    """Spawned writers are killed in the middle of recording: every acknowledged entry is there, and none is torn."""
    context = multiprocessing.get_context("spawn")
    logs = [tmp_path / f"writer{number}" for number in range(writers)]
    processes = [
        context.Process(target=_record_until_killed, args=(place, f"run{number % 2}", log))
        for number, log in enumerate(logs)
    ]
    for process in processes:
        process.start()
    end = time.monotonic() + 60
    while not all(log.exists() and log.read_text().count("\n") >= least for log in logs):
        assert time.monotonic() < end
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    for process in processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    found = RunIndex(Store(place)).read()
    assert found.unreadable == ()
    for number in range(2):
        acknowledged = [int(line) for log in logs[number::2] for line in log.read_text().split("\n")[:-1]]
        recorded = [entry.facts["number"] for entry in found.entries if entry.run == f"run{number}"]
        missing = list(acknowledged)
        for each in recorded:
            if each in missing:
                missing.remove(each)
        assert missing == []
        assert 0 <= len(recorded) - len(acknowledged) <= writers  # written, and killed before it could say so


def test_writers_that_are_killed_lose_nothing_that_they_acknowledged(tmp_path: Path) -> None:
    kill_while_recording(str(tmp_path / "_runs"), tmp_path, writers=4, least=25)
