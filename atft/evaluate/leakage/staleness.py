"""Features that stand still, and own features that are a later day's value of a computed one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from atft.evaluate.leakage.finding import Finding, clean, suspect
from atft.evaluate.metrics import Bools, Floats

STALE, SHIFTED = "staleness", "shifted values"
RUN = 10
"""Days in a row with one and the same cross-section that are a feed that stopped, in a feature that else moves."""
SELDOM = 0.1
"""Share of standing days above which a feature is one that moves seldom (fundamentals), and is not named."""
SHIFTS = (1, 2, 3, 5)
SAME, CLOSER = 0.9, 0.3
"""Mean correlation with a later day's value that is no forecast, and the part of the distance to today's own value
(``1 - correlation``) that it has to be below."""
STILL = 1e-4


def standing(today: Floats, before: Floats) -> Bools:
    """``[features]``: True where no stock's value moved from one day to the next.

    Args:
        today, before: ``[stocks, features]``; NaN where missing.
    """
    both = np.isfinite(today) & np.isfinite(before)
    moved = np.where(both, np.abs(np.where(both, today, 0) - np.where(both, before, 0)), 0.0).max(0)
    return np.asarray((moved < STILL) & (both.sum(0) >= 2))


def stale_findings(names: Sequence[str], still: Bools, days: Sequence[str]) -> Iterator[Finding]:
    """Features that stop moving for ``RUN`` days or more.

    Args:
        names: of the features.
        still: ``[days, features]`` as of :func:`standing`.
        days: names of the days.
    """
    named = 0
    for number, name in enumerate(names):
        length, end = _longest(still[:, number])
        if length >= RUN and still[:, number].mean() <= max(SELDOM, 1.5 * length / len(still)):
            named += 1
            yield suspect(
                STALE,
                name,
                f"has one and the same cross-section for {length + 1} days from {days[end - length]} "
                f"to {days[end]}, and moves on the other days: its values there are not of their day",
                "find where the feed stopped; leave missing what is missing",
            )
    if not named:
        yield clean(
            STALE, "suspicion", f"{len(names)} features on {len(still):,} days: none stops moving for {RUN} days"
        )


def _longest(still: Bools) -> tuple[int, int]:
    best, run, end = 0, 0, 0
    for day, each in enumerate(still):
        run = run + 1 if each else 0
        if run > best:
            best, end = run, day
    return best, end


def cross_correlations(left: Floats, right: Floats) -> Floats:
    """``[left features, right features]`` correlation over the stocks of two days; missing values count as the mean."""
    sides = []
    for values in (left, right):
        there = np.isfinite(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(there, values, 0.0).sum(0) / np.maximum(there.sum(0), 1)
            centred = np.where(there, values - mean, 0.0)
            sides.append(centred / np.sqrt((centred**2).sum(0)))
    return np.asarray(np.nan_to_num(sides[0].T @ sides[1]))


def shift_findings(
    own: Sequence[str], computed: Sequence[str], now: Floats, later: dict[int, Floats]
) -> Iterator[Finding]:
    """Own features that equal a computed feature of a later day: computed ones are known to be of their own day.

    Args:
        own, computed: names.
        now: ``[own, computed]``, mean correlation on the same day.
        later: the same with the computed features of so many days later, by that number.
    """
    named = 0
    for number, name in enumerate(own):
        for shift, table in later.items():
            place = int(np.abs(table[number]).argmax())
            found, today = abs(table[number, place]), abs(now[number, place])
            if found >= SAME and 1 - found < CLOSER * (1 - today):
                named += 1
                yield suspect(
                    SHIFTED,
                    name,
                    f"is {computed[place]!r} of {shift} days later (correlation {found:.3f}; "
                    f"{today:.3f} with that of its own day)",
                    "shift it to the day on which it is known",
                )
                break
    if not named:
        yield clean(
            SHIFTED,
            "suspicion",
            f"{len(own)} own features against {len(computed)} computed ones of "
            f"{SHIFTS[0]} to {SHIFTS[-1]} days later: none is one of them",
        )
