"""Runs as they are listed: what the index says, held against the files that are there and processes that live."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from atft.errors import UseError
from atft.experiment.environment import is_alive
from atft.experiment.index import Entry, RunStatus, State
from atft.experiment.run_facts import of_config, of_result

QUIET_SECONDS = 3600.0
"""A run that another machine trains and that gave no sign for as long is no longer taken for a living one."""
RECENT_SECONDS = 600.0
"""A run that nothing tells of but its files is taken for a living one where it gave a sign as lately."""

Sign = Callable[[str], float | None]
"""When a run last wrote an event or a checkpoint, in Unix seconds; None where it never did."""


@dataclass(frozen=True)
class Listed:
    """A run as it is now.

    Attributes:
        name: relative to where runs lie.
        state: the one that counts: a run whose process is gone is interrupted, whatever it could still write down.
        label: the state in words, with what is uncertain about it.
        time: when it came into the state, in UTC; None where nothing tells.
        facts: all that is known of it.
        present: whether its directory is there.
        alive: of a running one, whether its process lives; None where that cannot be known.
        last_sign: of such a one, when it last wrote something, in Unix seconds.
        history: its entries in the index; none of a run from before there was an index.
    """

    name: str
    state: State
    label: str
    time: dt.datetime | None
    facts: Mapping[str, Any]
    present: bool
    alive: bool | None = None
    last_sign: float | None = None
    history: tuple[Entry, ...] = field(default=())

    def is_running(self, now: float) -> bool:
        """Whether its files may still be written: it runs, or runs elsewhere and gave a sign within the hour."""
        return self.state == "running" and (self.alive is True or now - (self.last_sign or 0.0) < QUIET_SECONDS)

    def began(self) -> dt.datetime | None:
        """When the run was made, in UTC."""
        if self.history:
            return RunStatus(self.name, self.history).life[0].time
        created = self.facts.get("created")
        return dt.datetime.fromisoformat(created) if created else None


def of_index(status: RunStatus, present: bool, sign: Sign, now: float) -> Listed:
    """A run that the index knows.

    Args:
        status: what it knows.
        present: whether the run's directory is there.
        sign: asked only where a process cannot be.
        now: Unix seconds.
    """
    facts = status.facts
    if status.state != "running":
        return Listed(
            status.run, status.state, _label(status, present), status.time, facts, present, history=status.history
        )
    alive = is_alive(facts.get("process") or {})
    if alive is False:
        who = facts["process"]
        reason = f"its process {who['pid']} on {who['host']} is gone without a word"
        return Listed(
            status.run, "interrupted", "interrupted (killed)", status.time, facts | {"reason": reason}, present, False,
            history=status.history,
        )  # fmt: skip
    last = max(sign(status.run) or 0.0, status.time.timestamp()) if alive is None else None
    label = "running" if last is None else f"running (last sign {duration(now - last)} ago)"
    return Listed(status.run, "running", label, status.time, facts, present, alive, last, status.history)


def _label(status: RunStatus, present: bool) -> str:
    if status.state == "archived" and present:
        return "archived, kept"
    if not present and status.state in ("interrupted", "failed", "done"):
        return f"{status.state}, files gone"
    return status.state


def of_files(
    name: str, config: Mapping[str, Any], result: Mapping[str, Any] | None, last_sign: float | None, now: float
) -> Listed:
    """A run that the index does not know: from before there was one, or copied here."""
    facts = of_config(config)
    if result is not None:
        return Listed(name, "done", "done", _time(last_sign), facts | of_result(result), True)
    if last_sign is not None and now - last_sign < RECENT_SECONDS:
        label = f"running (last sign {duration(now - last_sign)} ago)"
        return Listed(name, "running", label, _time(last_sign), facts, True, None, last_sign)
    reason = "told by its files alone, which hold no result"
    return Listed(name, "interrupted", "interrupted", _time(last_sign), facts | {"reason": reason}, True)


def _time(seconds: float | None) -> dt.datetime | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


ASCENDING = ("name", "state", "tier", "seed")
FIGURES = {"sharpe": "sharpe_annual", "ic": "ic", "runtime": "runtime_seconds", "batch": "batch", "hidden": "hidden"}
SORTS = ("age", *ASCENDING, *FIGURES)
"""What runs may be sorted by: the youngest first, names from A, figures from the largest."""


def chosen(
    runs: Iterable[Listed], *, state: str | None = None, tier: str | None = None, sort: str = "age"
) -> list[Listed]:
    """Those of one state and one tier, sorted; deleted ones only where that state is asked for.

    Raises:
        UseError: nothing that runs can be sorted by.
    """
    if sort not in SORTS:
        raise UseError(f"--sort {sort}: runs are sorted by none such. Mend: one of {', '.join(SORTS)}.")
    kept = [
        each
        for each in runs
        if (each.state == state if state else each.state != "deleted")
        and (tier is None or each.facts.get("tier") == tier)
    ]
    kept.sort(key=lambda each: each.name)
    if sort in FIGURES:
        return sorted(kept, key=lambda each: -_figure(each, FIGURES[sort]))
    if sort == "age":
        return sorted(kept, key=lambda each: -(began.timestamp() if (began := each.began()) else 0.0))
    return sorted(kept, key=lambda each: _word(each, sort))


def _word(run: Listed, name: str) -> tuple[int, str]:
    """What names and small numbers are sorted by."""
    value = {"name": run.name, "state": run.state}.get(name, run.facts.get(name))
    return (value, "") if isinstance(value, int) else (0, str(value))


def _figure(run: Listed, name: str) -> float:
    value = run.facts.get(name)
    return -math.inf if value is None else float(value)


def duration(seconds: float) -> str:
    """A span of time in its largest unit: ``40 s``, ``12 min``, ``5 h``, ``3 d``."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
