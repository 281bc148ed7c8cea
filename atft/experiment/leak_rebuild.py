"""Proofs by rebuilding: what is said of a day once what follows it is gone, or is another market."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atft.data import sources
from atft.data.files import Source
from atft.data.grid import Grid
from atft.data.leakage import vintage
from atft.data.leakage.pipeline import Pipeline
from atft.data.leakage.rebuild import Build, Differs, Rebuilder, computed_names, read_source
from atft.data.leakage.vintage import ROWS, Change
from atft.data.panel import Panel
from atft.data.roles import PRICES, Roles
from atft.errors import UseError
from atft.evaluate.leakage.finding import Finding, clean, leak, not_checked

FEATURES, PIPELINE, LABEL = "features rebuilt", "pipeline rebuilt", "own label"
IS_SOURCE = "panel is its source's"
ROUNDING = 1e-9
"""Relative change below which a running sum that later rows move is at work, not knowledge."""
Tell = Callable[[str, float], None]
EARLY = 10
"""Days before the first cut of a pipeline's table."""
PRICE, OWN_LABEL = "(prices)", "(own label)"
MEND = "compute it from rows of its own day and before: no centred window, no statistic of the whole sample"
_PARTS = {
    ROWS: ("universe", "choose the stocks of a day by what was known on it"),
    PRICE: ("adjustment", "adjust forward from each stock's first day, or take ratios of prices only"),
    OWN_LABEL: (
        "label",
        "count the label's days on the calendar of the stock's market, or state horizon and execution lag as long as "
        "the longest label is: the purge between periods goes by them",
    ),
}
_HOW = {"truncated": "the table ends on", "perturbed": "there is another market after"}


def of_panel(
    panel: Panel, checked: sources.Checked, days: Sequence[int], builder: Build, seed: int, tell: Tell
) -> Iterator[Finding]:
    """The program's own features, rebuilt around some days from the panel's source.

    Args:
        panel: the data.
        checked: its source.
        days: numbers of the days after which the future is changed.
        builder: makes a panel of a table.
        seed: of the other futures.
        tell: told the stage.
    """
    if panel.manifest.normalise == "none":
        yield not_checked(FEATURES, "proof", "the panel does not say how it was normalised")
        return
    rebuilder = Rebuilder(panel, checked, builder, seed)
    stored: dict[str, Differs] = {}
    found: dict[str, tuple[str, str, Differs]] = {}
    for place, day in enumerate(days):
        tell("rebuilding around " + ", ".join(str(panel.days[each]) for each in days), place / len(days))
        cut = rebuilder.cut(day)
        for each in cut.stored:
            stored.setdefault(each.feature, each)
        for how in ("truncated", "perturbed"):
            for each in getattr(cut, how):
                found.setdefault(each.feature, (how, cut.day, each))
    for name, (how, cut_day, each) in found.items():
        yield leak(
            FEATURES,
            name,
            f"changes on {each.day} for {each.code!r} ({each.values:,} values in all) when {_HOW[how]} {cut_day}",
            "the feature's expression may look back only; report a computed one as a defect",
        )
    for name, each in stored.items():
        if name not in found:
            yield leak(
                IS_SOURCE,
                name,
                f"the panel holds another value on {each.day} for {each.code!r} "
                f"({each.values:,} in all) than this program builds from the source",
                "build the panel again: it is of another version, or was changed",
            )
    if not found and not stored:
        count = len(computed_names(panel))
        yield clean(
            FEATURES,
            "proof",
            f"{count} computed features, and the normalisation of the source's own, do not change by "
            f"a bit at or before {', '.join(str(panel.days[day]) for day in days)}",
        )


def of_label(panel: Panel, checked: sources.Checked, *, by_pipeline: bool) -> Iterator[Finding]:
    """Whether the panel's own label is its source's, and what is not known of it without a pipeline.

    Args:
        panel: the data.
        checked: its source.
        by_pipeline: the label was made again by the user's function (:func:`of_pipeline`).
    """
    stated = panel.manifest.roles.label if panel.manifest.roles else None
    if panel.label is None or stated is None:
        return
    if "label" not in checked.bars.columns:
        yield not_checked(LABEL, "proof", "the roles name no label, and the panel has one")
        return
    made = Grid.of(checked).columns["label"].T
    wrong = ~((made == panel.label) | (np.isnan(made) & np.isnan(panel.label)))
    if wrong.any():
        day, stock = np.argwhere(wrong)[0]
        evidence = (
            f"the panel holds another label on {panel.days[day]} for {panel.codes[stock]!r} ({int(wrong.sum()):,} in "
            "all) than its source"
        )
        yield leak(IS_SOURCE, "label", evidence, "build the panel again: its labels were changed")
    else:
        yield clean(LABEL, "proof", f"{int(np.isfinite(made).sum()):,} labels of the panel are its source's")
    if not by_pipeline:
        yield not_checked(
            LABEL,
            "proof",
            f"no --pipeline was given: that a label ends {stated.execution_lag} + {stated.horizon} trading days of its "
            "market after its day is taken as the roles state it",
        )


@dataclass
class _Seen:
    """What was seen of one offender over all cuts."""

    change: Change
    how: str
    day: str
    cuts: set[str] = field(default_factory=set)
    values: int = 0
    largest: float = 0.0


def of_pipeline(
    panel: Panel,
    source: str | Path | Source,
    roles: Roles,
    pipeline: Pipeline,
    days: Sequence[int],
    seed: int,
    tell: Tell,
    folder: Path,
) -> tuple[list[Finding], sources.Checked]:
    """The user's own function on the source, with its future gone and with another one.

    Args:
        panel: the data.
        source: what the function is given.
        roles: of what it returns.
        pipeline: the function.
        days: numbers of the panel's days after which the future is changed.
        seed: of the other futures.
        tell: told the stage.
        folder: where the function's table is kept while the result is read.

    Returns:
        The findings, and what the function makes of the whole source, read as the panel's source.

    Raises:
        UseError: the function fails, or does not make the panel's table of the source.
    """
    table = vintage.scan(source, roles).collect()
    if not {roles.date, roles.code} <= set(table.columns):
        raise UseError(
            f"--source {source}: has no column {roles.date!r} or {roles.code!r}, which the rows are cut by. "
            "Mend: name date and code in the roles."
        )
    tell("pipeline on the whole source", 0.0)
    made = pipeline(table, roles, "the whole source")
    made.write_parquet(folder / "pipeline.parquet")
    checked = read_source(folder / "pipeline.parquet", roles, panel)
    keys = (roles.date, roles.code)
    label = roles.label.column if roles.label else None  # it looks ahead, as a label must
    columns = [name for name in made.columns if name not in (*keys, label)]
    again = vintage.changes(made, pipeline(table, roles, "the whole source"), keys, columns)
    if again:
        told = ", ".join(repr(each.column) for each in again[:5])
        return [
            not_checked(
                PIPELINE,
                "proof",
                f"{pipeline.name} gives another {told} when it is called again on the same table: fix its seed",
            )
        ], checked
    seen: dict[str, _Seen] = {}
    cuts = _cuts(table[roles.date].unique().sort().to_list(), np.array(days) / max(1, len(panel.days) - 1))
    tell(f"pipeline with other futures after {', '.join(dict.fromkeys(str(day) for _, day in cuts))}", 0.0)
    for place, (how, day) in enumerate(cuts):
        gone = how == "truncated"
        cut = vintage.until(table, day, roles) if gone else vintage.another_future(table, day, roles, seed + place)
        after = pipeline(cut, roles, f"the source where {_HOW[how]} {day}")
        before, after = (vintage.until(each, day, roles) for each in (made, after))
        for change in _changes(before, after, day, roles, columns):
            name = PRICE if change.column in _prices(roles) else OWN_LABEL if change.column == label else change.column
            each = seen.setdefault(name, _Seen(change, how, str(day)))
            each.cuts.add(f"{how} {day}")
            each.values += change.values
            each.largest = max(each.largest, change.largest)
    return list(_of_changes(seen, len(columns), cuts, with_label=label is not None)), checked


def _changes(before: Any, after: Any, day: Any, roles: Roles, columns: Sequence[str]) -> Iterator[Change]:
    """What differs up to ``day``; of the own label, which looks ahead, in rows whose label has ended by then."""
    keys = (roles.date, roles.code)
    yield from vintage.changes(before, after, keys, columns)
    if roles.label is not None:
        ended, again = (vintage.settled(each, day, roles) for each in (before, after))
        changed = vintage.changes(ended, again, keys, [roles.label.column])
        yield from (each for each in changed if each.column != ROWS)  # told above


def _cuts(dates: Sequence[Any], parts: npt.NDArray[np.float64]) -> list[tuple[str, Any]]:
    """How and after which date the source is changed.

    The first cut is early, so that what is filled backwards at a stock's beginning is seen, and never a truncation: a
    pipeline need not work on a table of a few days.
    """
    late = [dates[round(part * (len(dates) - 1))] for part in parts.tolist()]
    return [("perturbed", dates[min(EARLY, len(dates) // 10)])] + [
        (how, day) for day in late for how in ("truncated", "perturbed")
    ]


def _of_changes(
    seen: dict[str, _Seen], columns: int, cuts: Sequence[tuple[str, Any]], *, with_label: bool
) -> Iterator[Finding]:
    rounded = []
    dates = ", ".join(dict.fromkeys(str(day) for _, day in cuts))
    for name, each in sorted(seen.items(), key=lambda item: item[0] != ROWS):
        if each.largest <= ROUNDING:
            rounded.append(f"{name} (by {each.largest:.0e})")
            continue
        part, mend = _PARTS.get(name, (name, MEND))
        also = " (the rows that come and go may be why)" if ROWS in seen and name != ROWS else ""
        yield leak(
            PIPELINE,
            part,
            f"{_said(each.change)} when {_HOW[each.how]} {each.day}; {each.values:,} values in "
            f"{len(each.cuts)} of {len(cuts)} rebuilds{also}",
            mend,
        )
    told = f"in the last bits only, as running sums do: {', '.join(rounded)}" if rounded else ""
    label = ", and the own label where it had ended," if with_label else ""
    if len(rounded) == len(seen):
        yield clean(
            PIPELINE,
            "proof",
            f"{columns} columns{label} do not change at or before {dates} when what follows is gone or "
            "another market" + (f"; {told}" if told else ""),
        )
    elif rounded:
        yield Finding(PIPELINE, "proof", "note", None, told)


def _said(first: Change) -> str:
    if first.column == ROWS:
        side = "vanishes" if first.before else "appears"
        return f"the row of {first.code!r} on {first.day} {side}"
    return (
        f"{first.column!r} of {first.code!r} on {first.day} is {_value(first.before)} and becomes {_value(first.after)}"
    )


def _prices(roles: Roles) -> set[str | None]:
    return {getattr(roles, role) for role in PRICES} - {None}


def _value(value: object) -> str:
    return "missing" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
