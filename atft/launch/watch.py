"""Watching a run that trains in another process or on another machine, from its event log alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atft.errors import RunError
from atft.experiment import runs
from atft.launch import places
from atft.launch.places import Place
from atft.observe import events as log
from atft.observe.console import progress
from atft.observe.events import Event
from atft.observe.watch import Watch, Watched, curve_of

LAST = ("run_finished", "stopped")
"""Kinds of events after which nothing more comes until a resume."""
POLL_SECONDS = 1.0


def watch_run(path: Path, *, against: Path | None, once: bool, quiet: bool) -> dict[str, Any]:
    """Show a run's progress and its early warnings, those of before included.

    Args:
        path: the run.
        against: run whose curve it is held against.
        once: read what is there and return; else follow the run until it ends.
        quiet: show no progress.

    Raises:
        UseError: no run there, or none to hold it against.
    """
    place = places.place_of(path)
    run = runs.open_run(place.path)
    curve = None
    if against is not None:
        other = places.place_of(against).path
        runs.open_run(other)
        curve = curve_of(other, against.name, f"validation_{run.tier.validation_metric}")
    watch, last, step = Watch(Watched(curve=curve)), "", 0
    raised: list[dict[str, Any]] = []
    with progress(quiet or once) as screen:
        for event in _events(place, follow=not once):
            before = set(watch.standing)
            watch(event)
            screen(event)
            last, step = event["kind"], event.get("step", step)
            raised += [
                {"rule": name, "step": step, **vars(watch.standing[name])}
                for name in watch.standing
                if name not in before
            ]
    standing = {name: vars(found) for name, found in watch.standing.items()}
    report = {"run": str(path), "step": step, "ended": last in LAST, "standing": standing, "raised": raised}
    return report | {"text": _text(report)}


def judge(report: dict[str, Any], as_json: bool) -> None:
    """Fail where a warning stands.

    Raises:
        RunError: one does; where the report is shown as JSON the exit code alone says so.
    """
    if not report["standing"]:
        return
    if as_json:
        sys.exit(1)
    names = ", ".join(report["standing"])
    raise RunError(f"{report['run']}: early warnings stand after step {report['step']}: {names}.")


def _events(place: Place, *, follow: bool) -> Iterator[Event]:
    """The events of a run in order, each once; with ``follow`` until the one that ends it."""
    told = 0
    while True:
        found = log.read(place.path)
        yield from found[told:]
        told = len(found)
        if not follow or (found and found[-1]["kind"] in LAST):
            return
        time.sleep(POLL_SECONDS)
        place.fetch()


def _text(report: dict[str, Any]) -> str:
    lines = [f"{report['run']}: step {report['step']}, {'ended' if report['ended'] else 'not ended'}"]
    for each in report["raised"]:
        state = "stands" if each["rule"] in report["standing"] else "is over"
        lines += [
            f"{each['rule']} (since step {each['since']}, {state}): {each['text']}.",
            f"  what to do: {each['mend']}.",
        ]
    return "\n".join([*lines, *([] if report["raised"] else ["no early warning"])])
