"""What becomes of a run, written into the index of runs while it goes: by whoever launches it, never by a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from atft.config import Tier
from atft.errors import UseError
from atft.experiment import run_facts
from atft.experiment.environment import environment, process
from atft.experiment.index import State
from atft.experiment.runs import Run
from atft.launch import runs as listings
from atft.launch.places import Place
from atft.observe.console import warn
from atft.observe.events import Event, Subscriber
from atft.train.wishes import Interrupted

STARTS = frozenset({"run_started", "evaluation_started"})
"""Events that tell that a run goes on: what it goes on from has been read, and not refused."""


class Following:
    """Writes down that a run is running: at once where it begins, at its first event where it goes on.

    A resume that is refused, as from a damaged checkpoint, leaves the run and its state as they were.
    """

    def __init__(self, place: Place, facts: dict[str, Any]) -> None:
        self.begun = False
        self._place, self._facts = place, facts

    def begin(self) -> None:
        """The run is running; a second call does nothing."""
        if not self.begun:
            self.begun = True
            tell(self._place, "running", **self._facts, environment=environment(), process=process())

    def showing(self, screen: Subscriber) -> Subscriber:
        """``screen``, for which events are looked at on their way."""

        def take(event: Event) -> None:
            if event["kind"] in STARTS:
                self.begin()
            screen(event)

        return take


@contextmanager
def tracked(place: Place, run: Run, *, command: list[str], workers: str, resumed: bool) -> Iterator[Following]:
    """The index tells that the run is running while the context lasts, and afterwards what came of it.

    The index is told as well as may be: where it cannot be written there is a warning, and the run goes on.

    Args:
        place: where the run lies.
        run: it; its directory holds its description already.
        command: what the user typed.
        workers: a number or a range, as asked for.
        resumed: the run goes on and does not begin.

    Yields:
        Its events are to be shown to it.
    """
    config = json.loads((run.path / "config.json").read_text())
    facts = run_facts.of_config(config) | run_facts.differences(config)
    facts |= {"command": command, "workers": workers, "resumed": resumed, "mode": run.tier.mode}
    following = Following(place, facts)
    if not resumed:
        following.begin()
    try:
        yield following
    except BaseException as error:  # also Ctrl-C and an exit, which are no Exception
        if not following.begun:
            raise
        stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)
        ended = isinstance(error, SystemExit)  # its code says nothing to a reader
        tell(place, "interrupted" if stopped else "failed", reason="it was ended" if ended else _first_line(error))
        raise
    outcome = run_facts.of_result(json.loads(run.result.read_text())) if run.result.exists() else {}
    tell(place, "done", **outcome)


def tell(place: Place, state: State, **facts: Any) -> None:
    """Write a change of state down, and renew the board at a run's end; where either cannot be, there is a warning."""
    try:
        place.index.record(place.name, state, **facts)
    except (UseError, OSError) as error:
        warn(f"the index of runs does not know that {place.name} is {state}: {error}")
        return
    if state in ("planned", "running"):
        return
    try:
        listings.write_board(place.root)
    except (UseError, OSError) as error:
        warn(f"EXPERIMENTS.md is not renewed: {error}")


def planned(place: Place, tier: Tier, **facts: Any) -> None:
    """Write down that a run of ``tier`` is going to be made; where that cannot be, there is a warning."""
    known = run_facts.of_config({"tier": tier.model_dump(mode="json")})
    tell(place, "planned", **{name: value for name, value in known.items() if value is not None} | facts)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
