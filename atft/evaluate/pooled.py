"""The pooled Sharpe ratio of a test period by day: its error counts that the stocks of a day move together."""

from __future__ import annotations

import numpy as np

from atft.evaluate.metrics import Bools, Floats, check_finite, sharpe, sharpe_influence
from atft.evaluate.portfolio import positions


def pooled_by_day(scores: Floats, returns: Floats, valid: Bools) -> tuple[float, Floats]:
    """The ratio of :func:`~atft.evaluate.portfolio.pooled_sharpe`, and what each day adds to its error.

    Args:
        scores: ``[days, stocks]``.
        returns: ``[days, stocks]`` simple returns.
        valid: ``[days, stocks]``.

    Returns:
        The ratio per stock-day, and ``[days]``: the sum of :func:`~atft.evaluate.metrics.sharpe_influence` over the
        day's stock-days, times days over stock-days, so that it averages to 0 and the long-run variance of its mean is
        that of the ratio; NaN where undefined.

    Source: Lo (2002), summed by cluster as in Liang and Zeger (1986).
    """
    check_finite("returns", returns, valid)
    count = valid.sum(1, keepdims=True)
    kept = valid & (count >= 2)
    gains = (count * positions(scores, valid) * np.where(valid, returns, 0.0))[kept]
    ratio = sharpe(gains)
    if np.isnan(ratio):
        return ratio, np.full(len(scores), np.nan)
    day = np.nonzero(kept)[0]
    by_day = np.bincount(day, weights=sharpe_influence(gains), minlength=len(scores))
    return ratio, by_day * len(scores) / gains.size
