"""What a run left behind, read for the report: whatever is missing is named, not invented."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atft.errors import UseError
from atft.observe import events as event_log
from atft.observe.events import Event
from atft.report.beside import beside

Floats = npt.NDArray[np.float64]

CONFIG, RESULT = "config.json", "result.json"


@dataclass(frozen=True)
class Phase:
    """A phase as it went.

    Attributes:
        name: of the phase.
        learning_rate: its peak; None where not recorded.
        parts: parts of the network that were on.
        epochs: one event or result row per epoch, in order.
        best_epoch: the one whose weights were kept; None before there is one.
        expected_std: expected sampling deviation of its batch Sharpe; None where not known.
        steps: ``[steps]`` numbers of its optimizer steps.
        batch_sharpe: ``[steps]``, NaN where there is none.
        seconds: how long it took; None while it runs.
    """

    name: str
    learning_rate: float | None
    parts: tuple[str, ...]
    epochs: tuple[Mapping[str, Any], ...]
    best_epoch: int | None
    expected_std: float | None
    steps: Floats
    batch_sharpe: Floats
    seconds: float | None


@dataclass(frozen=True)
class Material:
    """What the report is made from; ``gaps`` says in words what was not there, ``beside`` holds rivals' figures,
    ``accepted`` the reasons why a check would have refused it."""

    path: Path
    tier: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[Event] = ()
    result: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Event] = ()
    phases: Sequence[Phase] = ()
    gaps: Sequence[str] = ()
    beside: Sequence[tuple[str, Mapping[str, Any]]] = ()
    accepted: Sequence[str] = ()

    def last(self, kind: str) -> Event:
        """The last event of a kind; empty where there is none."""
        return next((event for event in reversed(self.events) if event["kind"] == kind), {})

    def texts(self, kind: str) -> list[str]:
        """The texts of all events of a kind, each once, in order."""
        return list(dict.fromkeys(str(event.get("text")) for event in self.events if event["kind"] == kind))

    def early_warnings(self) -> list[str]:
        """What was warned of while the run trained, in order; divergences are told by themselves."""
        raised = [event for event in self.events if event["kind"] == "early_warning"]
        return [
            f"Early warning at step {event.get('since')}: {event.get('text')}."
            for event in raised
            if event.get("rule") != "loss-metric-divergence"
        ]


def load(run_dir: Path) -> Material:
    """Read a run's directory.

    Raises:
        UseError: it does not exist, or holds nothing that a run writes.
    """
    if not run_dir.is_dir():
        raise UseError(f"{run_dir}: no such run directory. Mend: name a directory that `atft train` made.")
    wanted = (CONFIG, event_log.FILE_NAME, RESULT)
    if not any((run_dir / name).is_file() for name in wanted):
        raise UseError(
            f"{run_dir}: not a run: none of {', '.join(wanted)} is in it. Mend: name a directory of `atft train`."
        )
    gaps: list[str] = []
    config = _json(run_dir / CONFIG, "the settings", gaps)
    result = _json(run_dir / RESULT, "the test period's figures", gaps)
    if not _in_shape(result):
        gaps.append(f"{RESULT} is of another shape than this atft knows: the test period's figures are missing.")
        result = {}
    try:
        events = event_log.read(run_dir)
    except UseError:
        events = []
        gaps.append(f"{event_log.FILE_NAME} is not there: the learning curves are missing.")
    if not result:
        gaps.insert(0, _how_far(events))
    return Material(
        path=run_dir,
        tier=_mapping(config.get("tier")),
        provenance=_mapping(config.get("provenance")),
        events=events,
        result=result,
        steps=event_log.latest(events, "step", ("step",)),
        phases=_phases(events, result),
        gaps=gaps,
        beside=beside(run_dir, _mapping(config.get("tier")), result),
        accepted=tuple(map(str, _mapping(config.get("checks")).get("accepted") or ())),
    )


def with_deflated(run: Material, deflated: Mapping[str, Any]) -> Material:
    """The same with another deflated Sharpe ratio, where the result has one."""
    test = _mapping(run.result.get("test"))
    sure = _mapping(test.get("inference"))
    if not sure:
        return run
    return replace(run, result={**run.result, "test": {**test, "inference": {**sure, "deflated": deflated}}})


def floats(values: Any) -> Floats:
    """A list of numbers and nulls as an array, NaN for null and for what is no number."""
    if not isinstance(values, list | tuple):
        return np.array([])
    usable = [isinstance(value, int | float) and not isinstance(value, bool) for value in values]
    return np.array([float(value) if use else np.nan for value, use in zip(values, usable)])


def dates(values: Any) -> list[dt.date]:
    """ISO dates; empty where one of them is none."""
    try:
        return [dt.date.fromisoformat(str(value)[:10]) for value in values or ()]
    except (ValueError, TypeError):
        return []


def _json(path: Path, what: str, gaps: list[str]) -> Mapping[str, Any]:
    try:
        held = json.loads(path.read_bytes())
    except OSError:
        gaps.append(f"{path.name} is not there: {what} are missing.")
        return {}
    except ValueError:
        gaps.append(f"{path.name} is damaged: {what} are missing.")
        return {}
    return _mapping(held)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _in_shape(result: Mapping[str, Any]) -> bool:
    """Whether the groups of a result are groups; a figure that is missing or null in them is a dash later."""
    groups = [result.get(name, {}) for name in ("test", "baselines", "batch_sharpe", "effective_batch")]
    rows = result.get("phases", [])
    return all(isinstance(group, Mapping) for group in groups) and isinstance(rows, list)


def _how_far(events: Sequence[Event]) -> str:
    started = next((event for event in events if event["kind"] == "run_started"), {})
    step = max((event.get("step") or 0 for event in events if event["kind"] == "step"), default=0)
    if not started:
        return "The run has not started."
    if any(event["kind"] == "training_finished" for event in events):
        return "The run is trained, and has not looked at its test period."
    moment = dt.datetime.fromtimestamp(events[-1].get("time") or 0, dt.UTC)
    return (
        f"The run has not finished: step {step:,} of {started.get('total_steps') or 0:,}, "
        f"last heard of on {moment:%Y-%m-%d at %H:%M} UTC."
    )


def _phases(events: Sequence[Event], result: Mapping[str, Any]) -> list[Phase]:
    """Phases from the events; from the result where there are none."""
    started = {event["phase"]: event for event in events if event["kind"] == "phase_started"}
    finished = {event["phase"]: event for event in events if event["kind"] == "phase_finished"}
    told = {str(phase.get("name")): phase for phase in result.get("phases") or () if isinstance(phase, Mapping)}
    epochs = event_log.latest(events, "epoch", ("phase", "epoch"))
    steps = event_log.latest(events, "step", ("step",))
    phases = []
    for name in dict.fromkeys([*started, *(event["phase"] for event in steps), *told]):
        begun, ended, recorded = started.get(name, {}), finished.get(name, {}), _mapping(told.get(name))
        own = [event for event in epochs if event["phase"] == name] or list(recorded.get("epochs") or ())
        taken = [event for event in steps if event["phase"] == name]
        best = ended.get("best_epoch", recorded.get("best_epoch"))
        if best is None:
            best = next((event["epoch"] for event in reversed(own) if event.get("best")), None)
        phases.append(
            Phase(
                name=name,
                learning_rate=begun.get("learning_rate"),
                parts=tuple(begun.get("parts") or ()),
                epochs=tuple(sorted(own, key=lambda event: event["epoch"])),
                best_epoch=best,
                expected_std=_expected(begun, ended, recorded, _mapping(result.get("batch_sharpe"))),
                steps=floats([event["step"] for event in taken]),
                batch_sharpe=floats([event.get("batch_sharpe") for event in taken]),
                seconds=ended.get("seconds"),
            )
        )
    return [phase for phase in phases if phase.epochs or len(phase.steps)]


def _expected(*places: Mapping[str, Any]) -> float | None:
    """The phase's own expected deviation where it is known, else the run's."""
    for place in places:
        for name in ("expected_batch_sharpe_std", "expected_std"):
            value = place.get(name)
            if isinstance(value, int | float) and value > 0:
                return float(value)
    return None
