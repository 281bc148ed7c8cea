"""Runs of baselines beside a run: on the same data, label, window and split, in the same directory of runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from atft.errors import UseError
from atft.evaluate import result
from atft.experiment import runs
from atft.experiment.runs import Run


def baseline_siblings(run: Run) -> Iterator[tuple[Path, result.Result]]:
    """Directories and results of the finished baseline runs that ``run`` can be read against, by name.

    A directory that is no finished run, or not of the same panel, label, window and split, is passed over.
    """
    for path in sorted(run.path.parent.glob("baseline-*")):
        if path == run.path or not (path / "result.json").is_file():
            continue
        try:
            other, found = runs.open_run(path), result.read(path / "result.json")
        except UseError:
            continue
        if found.baseline is not None and _ground(other) == _ground(run):
            yield path, found


def _ground(run: Run) -> tuple[object, ...]:
    return run.panel_sha256, run.tier.label, run.tier.window, run.tier.split
