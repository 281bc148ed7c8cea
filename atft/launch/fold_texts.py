"""What the command line says of folds: a table, a timeline, and what they came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atft.config import Label, Scheme, Split
from atft.data.splits import Fold
from atft.evaluate.folds import Figures, Folds

Calendar = npt.NDArray[np.datetime64]

WIDTH = 72
"""Columns of a timeline."""
MARKS = {"unused": " ", "left out": "·", "train": "=", "validate": "v", "test": "#"}
"""The mark of each kind of day; the later ones win a column that two kinds share equally."""


def plain(fold: Fold, split: Split | Scheme, days: Calendar, label: Label) -> dict[str, Any]:
    """A fold as plain data: for each period the runs of its label dates, and how many decision days it has."""
    ends = days[label.execution_lag + label.horizon :]
    periods = {
        name: {"days": len(period), "spans": [[str(ends[run[0]]), str(ends[run[-1]])] for run in _runs(period)]}
        for name, period in vars(fold.periods).items()
    }
    left_out = {"purged_days": len(fold.purged), "embargoed_days": len(fold.embargoed)}
    return {"fold": getattr(split, "fold", None), **periods, **left_out}


def listing(report: Mapping[str, Any], folds: Sequence[Fold], days: Calendar) -> str:
    """The table of all folds above their timeline."""
    told = report["folds"]
    calendar = report["panel"] or "weekdays in place of a panel's calendar (--data takes a panel's)"
    head = [
        f"tier {report['tier']}: {report['scheme']}, {len(told)} fold{'s' if len(told) > 1 else ''}, on {calendar}",
        f"a label ends {report['label_days']} days after its decision, which looks back {report['input_days']} days; "
        f"embargo {report['embargo_days']} days",
        "",
        f"{'fold':>4}  {'period':8}  {'days':>5}  {'purged':>6}  {'embargoed':>9}  label dates",
    ]
    rows = [row for each in told for row in _rows(each)]
    marks = "   ".join(f"{mark} {name}" for name, mark in MARKS.items() if name != "unused")
    lines = [f"{_number(each):>4}  {timeline(fold, days)}" for each, fold in zip(told, folds, strict=True)]
    axis = f"{'':4}  {days[0]!s:<{WIDTH - 10}}{days[-1]!s:>10}"
    return "\n".join([*head, *rows, "", axis, *lines, f"{'':4}  {marks}"])


def timeline(fold: Fold, days: Calendar, width: int = WIDTH) -> str:
    """The calendar in ``width`` columns, each with the mark of the kind of day that most of its days are."""
    kinds = np.zeros(len(days), dtype=np.int64)
    periods = vars(fold.periods)
    for number, name in enumerate(MARKS):
        of_kind = np.concatenate([fold.purged, fold.embargoed]) if name == "left out" else periods.get(name)
        if of_kind is not None:
            kinds[of_kind] = number
    columns = [np.bincount(part, minlength=len(MARKS)) for part in np.array_split(kinds, min(width, len(days)))]
    marks = list(MARKS.values())
    return "".join(marks[len(marks) - 1 - int(np.argmax(counts[::-1]))] for counts in columns)


def summary(found: Folds, target: Path) -> str:
    """The figures of all folds, and of what they make together."""
    lines = [
        "",
        f"{'':12} {'test period':24} {'days':>5} {'IC':>8} {'Sharpe/year':>12} {'95 % interval':>18} {'net':>8}",
        *(_figures(f"fold {each.fold}", each) for each in found.folds),
    ]
    if found.joined:
        lines += [_figures("all joined", found.joined)]
    lines += [_figures(f"path {number}", each) for number, each in enumerate(found.paths)]
    if spread := found.path_sharpe_annual:
        lines += [
            "",
            f"Sharpe ratios of the {spread.count} paths: mean {spread.mean:.2f}, deviation {spread.std:.2f}, "
            f"{spread.min:.2f} to {spread.max:.2f}, median {spread.median:.2f}, {spread.share_below_zero:.0%} below 0.",
            "The paths share their days and models: their deviation tells how much the choice of training days",
            "matters, and is no standard error.",
        ]
    return "\n".join([*lines, "", f"folds: {target}"])


def _rows(told: Mapping[str, Any]) -> list[str]:
    rows = []
    for name in ("train", "validate", "test"):
        each = told[name]
        first = name == "train"
        out = f"{told['purged_days']:>6}  {told['embargoed_days']:>9}" if first else f"{'':6}  {'':9}"
        spans = ", ".join(f"{a}..{b}" for a, b in each["spans"])
        rows.append(f"{_number(told) if first else '':>4}  {name:8}  {each['days']:>5}  {out}  {spans}")
    return rows


def _number(told: Mapping[str, Any]) -> str:
    return "–" if told["fold"] is None else str(told["fold"])


def _runs(days: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    return np.split(days, np.flatnonzero(np.diff(days) != 1) + 1)


def _figures(name: str, each: Figures) -> str:
    low, high = each.sharpe_annual_ci95 or (None, None)
    period = f"{each.first_date}..{each.last_date}"
    return (
        f"{name:12} {period:24} {each.days:>5} {_text(each.ic, 4):>8} {_text(each.sharpe_annual, 2):>12} "
        f"{_text(low, 2) + ' .. ' + _text(high, 2):>18} {_text(each.sharpe_net_annual, 2):>8}"
    )


def _text(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
