"""Features that are a price over what only the end of the sample tells: its maximum, its mean, its last value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from atft.evaluate.leakage.finding import Finding, clean, suspect
from atft.evaluate.metrics import Floats

CHECK = "whole-sample prices"
KINDS = ("maximum", "minimum", "mean", "last close", "level")
EQUAL = 0.97
"""Mean rank correlation with a price over its whole-sample statistic, or with the bare price, that is no accident."""
CLOSER = 0.5
"""A feature is named if it is less than this part as far from the hindsight as from what was known on the day."""
EARLY = 0.6
"""Part of the calendar that is looked at: later, what is known approaches what will have been."""

MENDS = {
    "level": "use a ratio of prices, or prices as they were quoted: the level of an adjusted close tells later splits",
}
MEND = "divide by what is known on the day: a running maximum, a trailing mean"


@dataclass(frozen=True)
class Hindsight:
    """What is known of each stock on no day but the last.

    Attributes:
        whole: ``[3 + 1, stocks]``: log of highest, lowest, mean and last close of the whole calendar.
        close: ``[days, stocks]``, NaN where missing.
    """

    whole: Floats
    close: Floats

    @classmethod
    def of(cls, close: Floats) -> Hindsight:
        """From the panel's closes."""
        there = np.isfinite(close)
        some = there.any(0)
        last = len(close) - 1 - there[::-1].argmax(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            highest, lowest = np.where(there, close, -np.inf).max(0), np.where(there, close, np.inf).min(0)
            mean = np.where(there, close, 0.0).sum(0) / there.sum(0)
            whole = np.log(np.stack([highest, lowest, mean, close[last, np.arange(close.shape[1])]]))
        return cls(np.where(some, whole, np.nan), close)

    def targets(self, day: int) -> Floats:
        """``[stocks, 2 × len(KINDS) - 1]``: log close over each of ``KINDS``, then the same as known on ``day``.

        The level stands once, and last of the first half; its twin, the log return since the first day, last of all.
        """
        past = self.close[: day + 1]
        there = np.isfinite(past)
        known = np.asarray(there.any(0))
        log = np.log(self.close[day])
        first = past[there.argmax(0), np.arange(past.shape[1])]
        with np.errstate(invalid="ignore", divide="ignore"):
            twins = [
                np.log(np.where(there, past, -np.inf).max(0)),
                np.log(np.where(there, past, np.inf).min(0)),
                np.log(np.where(there, past, 0.0).sum(0) / there.sum(0)),
            ]
            columns = [log - each for each in self.whole] + [log] + [log - each for each in (*twins, np.log(first))]
        return np.where(known[:, None], np.stack(columns, axis=1), np.nan)


def findings(names: Sequence[str], mean: Floats, stocks: int) -> Iterator[Finding]:
    """Features that follow a hindsight much closer than anything known on the day.

    Args:
        names: of the features.
        mean: ``[features, targets]``, mean over early days of the rank correlation with :meth:`Hindsight.targets`.
        stocks: of the panel.
    """
    kinds = len(KINDS)
    size = np.abs(np.nan_to_num(mean))
    nearest = size[:, kinds:].max(1)
    named = 0
    for number, name in enumerate(names):
        kind = int(size[number, :kinds].argmax())
        found = size[number, kind]
        if found >= EQUAL and 1 - found < CLOSER * (1 - nearest[number]):
            named += 1
            level = KINDS[kind] == "level"
            what = "level of the adjusted close" if level else f"close over its whole-sample {KINDS[kind]}"
            yield suspect(
                CHECK,
                name,
                f"ranks stocks as the {what} does (rank correlation {found:.3f}; {nearest[number]:.3f}"
                f" with its nearest twin known on the day)",
                MENDS.get(KINDS[kind], MEND),
            )
    if not named:
        yield clean(
            CHECK,
            "suspicion",
            f"{len(names)} features against maximum, minimum, mean, last value and level of "
            f"{stocks:,} closes: none is one of them",
        )
