"""The command line as a user meets it, in this process or in one of its own, and what it leaves on disk."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import atft
from atft.cli import main
from atft.observe import events
from atft.observe.events import Event, EventLog

SOURCES = Path(atft.__file__).resolve().parents[1]
"""What a process of its own has to find first, also where the tests run on a copy of the tree."""


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int | str | None
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which has to be one JSON object on one line."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def run(*arguments: object) -> Outcome:
    """``atft arguments`` in this process."""
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(each) for each in arguments])
        except SystemExit as done:
            code = done.code
    return Outcome(code, out.getvalue(), err.getvalue())


def run_apart(*arguments: object, program: tuple[str, ...] = ("-m", "atft")) -> Outcome:
    """``python -m atft arguments``, or another program, in a process of its own that is no terminal."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    return Outcome(done.returncode, done.stdout, done.stderr)


def refused(outcome: Outcome, *told: str, code: int = 2) -> None:
    """One paragraph on standard error that holds all of ``told``; lines of progress and checks may stand before it."""
    assert outcome.code == code, outcome
    assert outcome.out == ""
    progress, mark, paragraph = f"\n{outcome.err}".partition("\natft: ")
    assert mark, outcome.err
    assert all(line.endswith("…") or line.startswith("check: ") for line in progress.split("\n") if line), progress
    assert "\n\n" not in paragraph
    assert "Traceback" not in outcome.err
    assert "unexpected" not in paragraph
    assert len(paragraph) < 1500
    for each in told:
        assert each in paragraph, f"{each!r} is not in: {paragraph}"


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file under a folder with its bytes, every directory with None."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


@contextlib.contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Nothing under ``folder`` differs after the body."""
    before = tree(folder)
    yield
    after = tree(folder)
    assert after.keys() == before.keys()
    assert [name for name in before if before[name] != after[name]] == []


class Stopped(BaseException):
    """Ends a run where nothing expects it: no handler of ``Exception`` sees it."""


def stop_at(monkeypatch: pytest.MonkeyPatch, reached: Callable[[Event], bool]) -> None:
    """Let the next run end right after the first event that ``reached`` accepts; runs after that go on."""
    write = EventLog.write

    def write_and_stop(log: EventLog, kind: str, **fields: Any) -> Event:
        event = write(log, kind, **fields)
        if reached(event):
            monkeypatch.setattr(EventLog, "write", write)
            raise Stopped
        return event

    monkeypatch.setattr(EventLog, "write", write_and_stop)


def at_step(step: int) -> Callable[[Event], bool]:
    """True for the event of this optimizer step."""
    return lambda event: event["kind"] == "step" and event["step"] == step


TIMINGS = {"time", "seconds", "data_seconds", "forward_seconds", "recompute_seconds", "backward_seconds",
           "collective_seconds"}  # fmt: skip


def steps_of(path: Path) -> list[Event]:
    """The optimizer steps of a run, without times."""
    return [_timeless(event) for event in events.steps(path)]


def epochs_of(path: Path) -> list[Event]:
    """The epochs of a run, without times."""
    return [_timeless(event) for event in events.latest(events.read(path), "epoch", ("phase", "epoch"))]


def figures_of(path: Path) -> Any:
    """``result.json`` without times and the name of the run."""
    told = json.loads((path / "result.json").read_text())
    for name in ("run", "runtime_seconds"):
        del told[name]
    for phase in told["phases"]:
        phase["epochs"] = [_timeless(epoch) for epoch in phase["epochs"]]
    return told


def weights_of(path: Path) -> dict[str, bytes]:
    """The best weights of every phase of a run, by file."""
    return {file.name: file.read_bytes() for file in sorted((path / "checkpoints").glob("*.safetensors"))}


def _timeless(event: Event) -> Event:
    return {name: value for name, value in event.items() if name not in TIMINGS and name != "data_wait_seconds"}
