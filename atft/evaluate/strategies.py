"""Target positions from scores: long-short quantiles, dollar-neutral score weights, the best k, the whole market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from atft.errors import UseError
from atft.evaluate import metrics, portfolio
from atft.evaluate.metrics import Bools, Floats

Name = Literal["score", "quantile", "top-k", "equal-weight"]
ROUNDING = 1e-9
"""What ``quantile × stocks`` may fall short of a whole number, so that a tenth of 30 is 3."""


@dataclass(frozen=True)
class Strategy:
    """How scores become positions.

    Attributes:
        name: ``score``, ``quantile``, ``top-k``, or ``equal-weight``, which no score enters.
        quantile: share of a day's stocks on each side of ``quantile``, above 0 and below .5.
        k: stocks held by ``top-k``, at least 1.

    Raises:
        UseError: a name or value out of bounds.
    """

    name: Name
    quantile: float = 0.1
    k: int = 50

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise UseError(f"strategy {self.name!r} is none of {', '.join(get_args(Name))}. Mend: one of them.")
        if not 0 < self.quantile < 0.5:
            raise UseError(
                f"quantile = {self.quantile:g} must be above 0 and below 0.5: the two sides must not share a stock. "
                "Mend: --quantile 0.1."
            )
        if self.k < 1:
            raise UseError(f"k = {self.k} must be at least 1. Mend: --k 50.")

    @property
    def label(self) -> str:
        """The strategy with its own setting, in words."""
        return {"quantile": f"quantile {self.quantile:g}", "top-k": f"top {self.k}"}.get(self.name, self.name)

    @property
    def long_only(self) -> bool:
        """Whether it never sells short."""
        return self.name in ("top-k", "equal-weight")

    def targets(self, scores: Floats, scored: Bools, dates: npt.NDArray[np.datetime64] | None = None) -> Floats:
        """Positions to hold after each decision, as fractions of the capital.

        Args:
            scores: ``[days, stocks]``; may be NaN where not scored.
            scored: ``[days, stocks]``, True where there is a score at the decision.
            dates: ``[days]``, to name a day in an error.

        Returns:
            ``[days, stocks]``, 0 where not scored; unit gross, or all 0 on a day without a decision.

        Raises:
            UseError: a day has fewer than ``k`` scored stocks, and more than none.
            ValueError: shapes differ, or a score is not finite.
        """
        match self.name:
            case "score":
                return portfolio.positions(scores, scored)
            case "quantile":
                return long_short(scores, scored, self.quantile)
            case "top-k":
                _check_enough(scored, self.k, dates)
                return top(scores, scored, self.k)
            case _:
                return portfolio.equal_weight(scored)


def long_short(scores: Floats, scored: Bools, quantile: float) -> Floats:
    """Long the highest ``quantile`` of each day's scores and short the lowest, equal weights within each side.

    Args:
        scores: ``[days, stocks]``.
        scored: ``[days, stocks]``.
        quantile: share of the day's stocks on each side; ``floor(quantile · stocks)`` of them, at least one.

    Returns:
        ``[days, stocks]``: sums to 0 with a gross value of 1; all 0 on a day of fewer than two stocks or of equal
        scores. Stocks tied at a side's edge share its last places, so that their order does not matter.
    """
    count = scored.sum(1)
    places = np.maximum(np.floor(quantile * count + ROUNDING), 1.0)
    places = np.where(count >= 2, places, 0.0)
    net = _shares(scores, scored, places, highest=True) - _shares(scores, scored, places, highest=False)
    gross = np.abs(net).sum(1, keepdims=True)
    # Not exactly 0 where all stocks are tied, but no more than rounding.
    held: Floats = np.divide(net, gross, out=np.zeros_like(net), where=gross > portfolio.SMALLEST_SPREAD)
    return held


def top(scores: Floats, scored: Bools, k: int) -> Floats:
    """Long the ``k`` stocks of the highest scores of each day, 1/k each; stocks tied at the edge share its places."""
    places = np.minimum(scored.sum(1), k).astype(np.float64)
    held: Floats = _shares(scores, scored, places, highest=True)
    return held


def _shares(scores: Floats, scored: Bools, places: Floats, *, highest: bool) -> Floats:
    """``[days, stocks]`` equal shares of ``places [days]`` stocks from one end of the scores; each day sums to 1."""
    metrics.check_shapes(scores=scores, scored=scored)
    metrics.check_finite("scores", scores, scored)
    ordered = np.where(scored, -scores if highest else scores, np.inf)
    last = np.maximum(places, 1.0).astype(np.int64)[:, None] - 1
    edge = np.take_along_axis(np.sort(ordered, axis=1), last, axis=1)
    inside, tied = scored & (ordered < edge), scored & (ordered == edge)
    left = places[:, None] - inside.sum(1, keepdims=True)
    share = inside + tied * left / np.maximum(tied.sum(1, keepdims=True), 1)
    result: Floats = np.where(places[:, None] > 0, share / np.maximum(places, 1.0)[:, None], 0.0)
    return result


def _check_enough(scored: Bools, k: int, dates: npt.NDArray[np.datetime64] | None) -> None:
    count = scored.sum(1)
    few = (count > 0) & (count < k)
    if few.any():
        day = int(np.flatnonzero(few)[count[few].argmin()])
        when = f" on {dates[day]}" if dates is not None else f" on row {day}"
        raise UseError(
            f"k = {k}: {int(few.sum())} of {len(scored)} days have fewer scored stocks, the fewest {count[day]}{when}. "
            f"Mend: --k {count[day]} or less."
        )
