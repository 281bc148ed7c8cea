"""What other programs are given of a run: settings, curves, figures and where it all came from, as plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from atft.config import flat
from atft.experiment.run_facts import FIGURES
from atft.observe import events

STEP = ("loss", "batch_sharpe", "gradient_norm", "learning_rate", "samples", "seconds")
EPOCH = ("train_loss", "validation_loss", "validation_sharpe", "validation_ic", "validation_rank_ic", "seconds")


class Point(NamedTuple):
    """One value of a curve: its name, the optimizer step, Unix seconds, the value."""

    name: str
    step: int
    time: float
    value: float


@dataclass(frozen=True)
class Exported:
    """A run as other programs are given it.

    Attributes:
        name: of the run.
        settings: dotted path to value, as text.
        points: of all curves, in the order in which they were made.
        figures: of the test period, with the bounds of their 95 % intervals as ``NAME_low`` and ``NAME_high``.
        tags: tier, state, data, code.
        files: small files that are worth a copy.
    """

    name: str
    settings: Mapping[str, str]
    points: tuple[Point, ...]
    figures: Mapping[str, float]
    tags: Mapping[str, str]
    files: tuple[Path, ...]


def exported(folder: Path, name: str, state: str, facts: Mapping[str, Any]) -> Exported:
    """All that is exported of a run.

    Args:
        folder: its directory.
        name: relative to where runs lie.
        state: the one that it is in.
        facts: what the index knows.

    Raises:
        UseError: the log of its events cannot be read.
    """
    config = json.loads((folder / "config.json").read_text())
    code = (facts.get("environment") or {}).get("code") or {}
    tags = {
        "run": name, "state": state, "tier": facts.get("tier"), "panel": config["panel"],
        "panel_sha256": config["panel_sha256"], "commit": code.get("commit"), "dirty": code.get("dirty"),
        "command": " ".join(config.get("command") or []),
    }  # fmt: skip
    files = (folder / file for file in ("config.json", "result.json", "report.html"))
    return Exported(
        name,
        {path: json.dumps(value) if isinstance(value, list) else str(value) for path, value in flat(config["tier"])},
        tuple(_points(folder)),
        dict(_figures(facts)),
        {f"atft.{tag}": str(value) for tag, value in tags.items() if value is not None},
        tuple(file for file in files if file.exists()),
    )


def _points(folder: Path) -> Iterator[Point]:
    """The curves of a run, each step and epoch once: those that a resumed run did again as they were done last."""
    log = events.read(folder) if (folder / events.FILE_NAME).exists() else []
    ends: dict[tuple[Any, Any], int] = {}
    for event in events.latest(log, "step", ("step",)):
        step = int(event["step"])
        ends[event["phase"], event["epoch"]] = max(step, ends.get((event["phase"], event["epoch"]), 0))
        parts = {f"loss_{part}": value for part, value in (event.get("parts") or {}).items()}
        values = {name: event.get(name) for name in STEP} | parts
        yield from _told("step", values, step, event["time"])
    for event in events.latest(log, "epoch", ("phase", "epoch")):
        at = ends.get((event["phase"], event["epoch"]))
        if at is not None:
            yield from _told("epoch", {name: event.get(name) for name in EPOCH}, at, event["time"])


def _told(group: str, values: Mapping[str, Any], step: int, time: float) -> Iterator[Point]:
    for name, value in values.items():
        if value is not None:
            yield Point(f"{group}/{name}", step, time, float(value))


def _figures(facts: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name in (*FIGURES, "parameters", "runtime_seconds"):
        if facts.get(name) is not None:
            yield f"test/{name}" if name in FIGURES else name, float(facts[name])
        if interval := facts.get(f"{name}_ci95"):
            yield f"test/{name}_low", float(interval[0])
            yield f"test/{name}_high", float(interval[1])
