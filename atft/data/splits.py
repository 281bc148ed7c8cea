"""Decision days of the three periods: chosen by label date, purged, embargoed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atft.config import Combinatorial, Label, Scheme, Span, Split, Tier
from atft.data.folds import Periods as Periods
from atft.data.folds import laid
from atft.data.labels import label_dates
from atft.data.manifest import FeatureEntry
from atft.data.panel import Panel
from atft.errors import UseError

Days = NDArray[np.int64]
Calendar = NDArray[np.datetime64]

JUDGED_LATER = (("validate", "test"), ("train", "validate"), ("train", "test"))
"""Who learns or chooses before whom, in the order in which they are purged."""


@dataclass(frozen=True)
class Fold:
    """One fold, or the only one of date ranges.

    Attributes:
        periods: decision days.
        purged: rising decision days of training and validation that were left out because their label, or what they
            look back on, meets a label that is judged later.
        embargoed: those that were left out for the embargo alone.
    """

    periods: Periods
    purged: Days
    embargoed: Days


def periods_of(tier: Tier, panel: Panel) -> Periods:
    """Decision days of the tier's split on the panel; see :func:`decision_days`."""
    return fold_of(tier, panel).periods


def fold_of(tier: Tier, panel: Panel) -> Fold:
    """The tier's fold on the panel.

    Raises:
        UseError: as :func:`decision_days` does.
    """
    return cut(
        panel.days, tier.split, tier.label, input_reach(tier, panel.manifest.features, panel.manifest.longest_span)
    )


def folds_of(tier: Tier) -> Iterator[Tier]:
    """The tier of each fold of its scheme; itself where its split is date ranges, or states a fold."""
    if isinstance(tier.split, Split) or tier.split.fold is not None:
        yield tier
        return
    for fold in range(tier.split.count):
        yield tier.model_copy(update={"split": tier.split.model_copy(update={"fold": fold})})


def input_reach(tier: Tier, features: tuple[FeatureEntry, ...], longest_span: int = 0) -> int:
    """Days before its own that a decision sees anything of: its window's features, and the returns of its graph.

    An own feature, of which the panel knows no lookback, counts with ``split.own_lookback_days`` where the scheme
    states it. ``longest_span`` are the days of the calendar that the longest lookback spans where several markets
    close on different days (:attr:`~atft.data.manifest.Manifest.longest_span`).
    """
    own = tier.split.own_lookback_days if isinstance(tier.split, Combinatorial) else 0
    lookbacks = (own if each.lookback_days is None else each.lookback_days for each in features)
    longest = max(longest_span, max(lookbacks, default=0))
    return max(tier.window.days - 1 + longest, tier.graph.lookback_days)


def decision_days(days: Calendar, split: Split | Scheme, label: Label, inputs: int | None = None) -> Periods:
    """Days on which each period decides.

    A decision belongs to the period in which its traded label ends. Let ``(t + lag, t + longest]`` be the days that
    its longest label (the traded one or a quantile head's) spans. A training day is left out where, beside any
    validation or test day,

    - before it, its own labels end later than ``embargo_days`` before the other's first execution; or
    - after it, the earliest day that it sees anything of, ``t - inputs``, is not later than ``embargo_days`` after
      the end of the other's longest label.

    A validation day is left out beside a test day in the same way. So neither labels nor inputs of what is learned
    or chosen by meet a label that is judged later.

    Args:
        days: ``[days]`` datetime64[D], the calendar, rising.
        split: spans by label date, or a fold of a scheme.
        label: horizon, lag and quantile horizons, in trading days.
        inputs: days before its own that a decision sees (:func:`input_reach`); needed by schemes that train after
            their test only.

    Raises:
        UseError: a period without a decision day, no fold, or a calendar that does not hold the scheme's span.
    """
    return cut(days, split, label, inputs).periods


def cut(days: Calendar, split: Split | Scheme, label: Label, inputs: int | None = None) -> Fold:
    """As :func:`decision_days`, with what was left out."""
    if isinstance(split, Combinatorial) and inputs is None:
        raise ValueError("training after a test span needs to know how far inputs reach back; mend: periods_of")
    chosen = _ranges(days, split, label) if isinstance(split, Split) else _scheme(days, split, label)
    kept = _purged(chosen, label, inputs or 0, split.embargo_days)
    for name, left in kept.items():
        if not len(left):
            raise UseError(_nothing_left(name, len(chosen[name]), split, label, inputs or 0))
    without_embargo = _purged(chosen, label, inputs or 0, 0)
    left_out = _without(chosen, kept)
    purged = np.intersect1d(left_out, _without(chosen, without_embargo))
    return Fold(Periods(**kept), purged, np.setdiff1d(left_out, purged))


def _purged(chosen: dict[str, Days], label: Label, inputs: int, embargo: int) -> dict[str, Days]:
    """What stays of each period."""
    kept = dict(chosen)
    for earlier, later in JUDGED_LATER:
        before = label.longest - label.execution_lag + embargo
        after = label.longest + inputs + embargo
        kept[earlier] = kept[earlier][_apart(kept[earlier], kept[later], before=before, after=after)]
    return kept


def _apart(days: Days, held: Days, *, before: int, after: int) -> NDArray[np.bool_]:
    """True for days at least ``before`` before the next held day and more than ``after`` after the last one."""
    far = np.iinfo(np.int64).max // 4
    place = np.searchsorted(held, days)
    padded = np.concatenate([[-far], held, [far]])
    return np.asarray((padded[place + 1] - days >= before) & (days - padded[place] > after))


def _without(all_days: dict[str, Days], kept: dict[str, Days]) -> Days:
    return np.sort(np.concatenate([np.setdiff1d(all_days[name], kept[name]) for name in all_days]))


def _ranges(days: Calendar, split: Split, label: Label) -> dict[str, Days]:
    ends = label_dates(days, label.horizon, label.execution_lag)
    spans = (("train", split.train), ("validate", split.validate_), ("test", split.test))
    return {name: _chosen(days, ends, name, span) for name, span in spans}


def _scheme(days: Calendar, split: Scheme, label: Label) -> dict[str, Days]:
    return vars(laid(decisions_within(days, split, label), split))


def decisions_within(days: Calendar, split: Scheme, label: Label) -> Days:
    """The consecutive decision days whose labels end from ``split.first`` to ``split.last``.

    Raises:
        UseError: the calendar does not hold them all, so that the folds would move when it grows.
    """
    reach = label.execution_lag + label.horizon
    first, last = np.datetime64(split.first, "D"), np.datetime64(split.last, "D")
    if len(days) <= reach or first <= days[reach - 1] or last > days[-1]:
        have = f"labels from {days[reach]} to {days[-1]}" if len(days) > reach else f"{len(days)} days and no label"
        mend = f"--set split.first={days[reach]} --set split.last={days[-1]}" if len(days) > reach else "a longer panel"
        raise UseError(
            f"split: {first} to {last}: the panel's calendar has {have}, and folds over days that it lacks would move "
            f"when it grows. Mend: dates inside it, at most {mend}."
        )
    ends = np.flatnonzero((days >= first) & (days <= last))
    return (ends - reach).astype(np.int64)


def _chosen(days: Calendar, ends: Days, name: str, span: Span) -> Days:
    inside = (days >= np.datetime64(span.first, "D")) & (days <= np.datetime64(span.last, "D"))
    chosen = np.flatnonzero((ends >= 0) & inside[ends]).astype(np.int64)
    if not len(chosen):
        calendar = f"{len(days)} days from {days[0]} to {days[-1]}" if len(days) else "no days"
        raise UseError(
            f"split.{name}: no label ends from {span.first} to {span.last}; the panel's calendar has {calendar}. "
            f"Mend: split.{name} inside the calendar."
        )
    return chosen


def _nothing_left(name: str, count: int, split: Split | Scheme, label: Label, inputs: int) -> str:
    embargo = f"split.embargo_days = {split.embargo_days}"
    ends = f"the longest label ends {label.longest} trading days after its decision"
    if isinstance(split, Split):
        later = "validate" if name == "train" else "test"
        return (
            f"split.{name}: all {count} decision days reach into {later}: {ends} and {embargo}. "
            f"Mend: an earlier split.{name}.first, or shorter horizons."
        )
    seen = f", a decision sees {inputs} days back" if isinstance(split, Combinatorial) else ""
    wider = "fewer groups" if isinstance(split, Combinatorial) else f"more {name}_days"
    return (
        f"split.fold = {split.fold}: none of its {count} {name} days is left after the purge: {ends}{seen} and "
        f"{embargo}. Mend: {wider}, a longer span, or shorter horizons, window and lookbacks."
    )
