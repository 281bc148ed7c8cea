"""Watches a run while it trains: early warnings go into its event log, and some of them may end it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from atft.errors import UseError
from atft.observe import events as log
from atft.observe.events import Event, EventLog
from atft.observe.rules import NAMES, Curve, Finding, Rule, as_large, rules

RAISED, OVER = "early_warning", "early_warning_over"
"""Kinds of the events that a watch writes."""


@dataclass(frozen=True)
class Watched:
    """What a run is watched for beside the rules that always hold.

    Attributes:
        stop_on: names of rules that end the run.
        curve: how the run's baseline learned, where it is watched against one.
    """

    stop_on: frozenset[str] = frozenset()
    curve: Curve | None = None


UNWATCHED = Watched()
"""Warned, but never stopped."""


class Watch:
    """A subscriber of :class:`~atft.observe.events.EventLog` that writes down what its rules find.

    Args:
        watched: what ends the run, and what it is compared with.
        events: where warnings are written; None: they are only held.
    """

    def __init__(self, watched: Watched = UNWATCHED, events: EventLog | None = None) -> None:
        self._rules: tuple[Rule, ...] = rules(watched.curve)
        self._stop_on, self._events = watched.stop_on, events
        self.standing: dict[str, Finding] = {}
        """What is wrong now, by the name of the rule."""

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if event["kind"] in (RAISED, OVER):
            return
        for rule in self._rules:
            rule.take(event)
            self._tell(rule, rule.finding(), event)

    def learn(self, past: Iterable[Event]) -> None:
        """Take the events of before a resume, saying nothing."""
        events, self._events = self._events, None
        for event in past:
            self(event)
        self._events = events

    @property
    def stopping(self) -> str | None:
        """Why the run is to end now; None where it is not."""
        found = [f"{name}: {each.text}" for name, each in self.standing.items() if name in self._stop_on]
        return "; ".join(found) or None

    def _tell(self, rule: Rule, found: Finding | None, event: Event) -> None:
        before = self.standing.get(rule.name)
        if found is None:
            if before is not None:
                del self.standing[rule.name]
                self._write(OVER, rule=rule.name, since=before.since, text=f"{rule.name} is over")
            return
        self.standing[rule.name] = found
        if before is None:
            self._write(RAISED, rule=rule.name, **vars(found))

    def _write(self, kind: str, **fields: object) -> None:
        if self._events is not None:
            self._events.write(kind, **fields)


def parse_stop_on(given: Iterable[str]) -> frozenset[str]:
    """Names of rules with commas, or ``all``, as ``--stop-on`` takes them.

    Raises:
        UseError: a name of no rule.
    """
    names = {name.strip() for each in given for name in each.split(",") if name.strip()}
    unknown = sorted(names - {*NAMES, "all"})
    if unknown:
        raise UseError(f"--stop-on {', '.join(unknown)}: no such early warning. There are: {', '.join(NAMES)}, all.")
    return frozenset(NAMES) if "all" in names else frozenset(names)


def curve_of(path: str | os.PathLike[str], name: str, metric: str) -> Curve:
    """How a run learned, from its event log.

    Args:
        path: the run's directory.
        name: of the run.
        metric: field of its ``epoch`` events; of the loss, its negative.

    Raises:
        UseError: there is no log, or no epoch in it.
    """
    epochs = log.latest(log.read(path), "epoch", ("phase", "epoch"))
    points, samples = [], 0
    for epoch in epochs:
        samples += epoch["samples"]
        value = as_large(epoch, metric)
        if value is not None:
            points.append((samples, value))
    if not points:
        raise UseError(f"{path}: has no epoch with a {metric} yet. Mend: --against a run that has been trained.")
    return Curve(name, metric, tuple(points))
