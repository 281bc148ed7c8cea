"""Decision days of the three periods: chosen by label date, purged, embargoed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atft.config import Label, Span, Split
from atft.data.labels import label_dates
from atft.errors import UseError


@dataclass(frozen=True)
class Periods:
    """Decision days as rising indices into the calendar, int64."""

    train: NDArray[np.int64]
    validate: NDArray[np.int64]
    test: NDArray[np.int64]


def decision_days(days: NDArray[np.datetime64], split: Split, label: Label) -> Periods:
    """Days on which each period decides.

    A decision belongs to the period in which its traded label ends. It is purged where its longest label (the traded
    one or a quantile head's) ends after the next period's first execution, or fewer than ``embargo_days`` before it,
    so that label intervals ``(t + lag, t + longest]`` of two periods never overlap.

    Args:
        days: ``[days]`` datetime64[D], the calendar, rising.
        split: the spans, by label date.
        label: horizon, lag and quantile horizons, in trading days.

    Raises:
        UseError: a period without a decision day.
    """
    ends = label_dates(days, label.horizon, label.execution_lag)
    spans = (("train", split.train), ("validate", split.validate_), ("test", split.test))
    chosen = {name: _chosen(days, ends, name, span) for name, span in spans}
    for name, later in (("train", "validate"), ("validate", "test")):
        last = chosen[later][0] + label.execution_lag - split.embargo_days - label.longest
        kept = chosen[name][chosen[name] <= last]
        if not len(kept):
            raise UseError(
                f"split.{name}: all {len(chosen[name])} decision days reach into {later}: the longest label ends "
                f"{label.longest} trading days after its decision and split.embargo_days = {split.embargo_days}. "
                f"Mend: an earlier split.{name}.first, or shorter horizons."
            )
        chosen[name] = kept
    return Periods(**chosen)


def _chosen(days: NDArray[np.datetime64], ends: NDArray[np.int64], name: str, span: Span) -> NDArray[np.int64]:
    inside = (days >= np.datetime64(span.first, "D")) & (days <= np.datetime64(span.last, "D"))
    chosen = np.flatnonzero((ends >= 0) & inside[ends]).astype(np.int64)
    if not len(chosen):
        calendar = f"{len(days)} days from {days[0]} to {days[-1]}" if len(days) else "no days"
        raise UseError(
            f"split.{name}: no label ends from {span.first} to {span.last}; the panel's calendar has {calendar}. "
            f"Mend: split.{name} inside the calendar."
        )
    return chosen
