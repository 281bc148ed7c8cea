"""The backtest: from scores to positions, returns before and after costs, turnover and drawdown, in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from atft.evaluate.metrics import Bools, Floats, check_finite, check_shapes, sharpe

Stretch = npt.NDArray[np.int64]
"""``[days]`` rising numbers: days of the same number follow one another, between two numbers there is a gap."""

SMALLEST_SPREAD = 1e-12
"""Scores that differ by no more than this, relative to the largest, are constant: they take no position."""


def positions(scores: Floats, valid: Bools) -> Floats:
    """Dollar-neutral, unit-gross positions in proportion to the demeaned scores of each day.

    Args:
        scores: ``[days, stocks]``.
        valid: ``[days, stocks]``, True where a stock takes part.

    Returns:
        ``[days, stocks]``: each day sums to 0 and its absolute values to 1; 0 where not valid. A day of constant
        scores or of fewer than two valid stocks has no position.

    Raises:
        ValueError: shapes differ, or a valid score is not finite.
    """
    check_shapes(scores=scores, valid=valid)
    check_finite("scores", scores, valid)
    kept = np.where(valid, scores, 0.0)
    centred = np.where(valid, kept - kept.sum(1, keepdims=True) / valid.sum(1, keepdims=True).clip(1), 0.0)
    largest = np.abs(centred).max(1, initial=0.0, keepdims=True)
    spread = largest > SMALLEST_SPREAD * np.abs(kept).max(1, initial=0.0, keepdims=True)
    # First by the largest, so that the smallest of scores still make a gross value that can be divided by.
    scaled = np.divide(centred, largest, out=np.zeros_like(centred), where=spread)
    gross = np.abs(scaled).sum(1, keepdims=True)
    held: Floats = np.divide(scaled, gross, out=np.zeros_like(centred), where=spread)
    return held


def equal_weight(valid: Bools) -> Floats:
    """Long-only positions of 1/n in each of a day's n valid stocks: ``[days, stocks]``; none on a day without any."""
    count = valid.sum(1, keepdims=True)
    held: Floats = valid / np.maximum(count, 1)
    return held


def stretches(days: npt.NDArray[np.int64]) -> Stretch:
    """``[days]`` which run of consecutive days each of the rising day numbers ``days`` belongs to, from 0."""
    return np.cumsum(np.diff(days, prepend=days[:1]) > 1, dtype=np.int64)


def _pieces(values: Floats, stretch: Stretch | None) -> list[Floats]:
    """``values`` cut at the gaps; whole without a ``stretch``."""
    return [values] if stretch is None else np.split(values, np.flatnonzero(np.diff(stretch)) + 1)


def turnover(held: Floats, horizon: int = 1, stretch: Stretch | None = None) -> Floats:
    """Gross value traded to come to each day's positions, buys and sells both counted: ``Σ|Δw|``.

    Args:
        held: ``[days, stocks]`` positions.
        horizon: days each position is held. Every day's positions renew those of ``horizon`` days before, the
            first ones start from nothing.
        stretch: where the gaps are; None where there is none. What is held before a gap is sold when its holding
            period ends, which counts on the day of its decision, and after the gap everything starts from nothing.

    Returns:
        ``[days]``, for unit-gross positions between 0 and 2, and 1 more on the last ``horizon`` days before a gap. The
        drift of weights with prices between two decisions is ignored, and so is the sale of the very last positions.
    """
    pieces = _pieces(held, stretch)
    traded = [_traded(piece, horizon) for piece in pieces]
    for piece, each in zip(pieces[:-1], traded, strict=False):
        each[-horizon:] += np.abs(piece[-horizon:]).sum(1)
    return np.concatenate(traded)


def _traded(held: Floats, horizon: int) -> Floats:
    """``[days]`` what is traded on days without a gap, from nothing."""
    before = np.zeros_like(held)
    before[horizon:] = held[:-horizon]
    traded: Floats = np.abs(held - before).sum(1)
    return traded


def daily_returns(
    held: Floats, returns: Floats, cost_bps: float = 0.0, horizon: int = 1, stretch: Stretch | None = None
) -> tuple[Floats, Floats]:
    """Return that each day's positions earn over their holding period, before and after the cost of trading.

    Args:
        held: ``[days, stocks]`` positions.
        returns: ``[days, stocks]`` simple returns over the holding period; may be NaN where nothing is held.
        cost_bps: cost of one unit traded, one way, in basis points, taken on :func:`turnover`.
        horizon: days each position is held.
        stretch: where the gaps are; None where there is none.

    Returns:
        ``(gross, net)``, each ``[days]``; a day without position earns 0, since it is spent in cash.

    Raises:
        ValueError: shapes differ, or a position is held in a stock without a finite return.
    """
    check_shapes(positions=held, returns=returns)
    check_finite("returns", returns, held != 0)
    gross: Floats = (held * np.where(held != 0, returns, 0.0)).sum(1)
    return gross, gross - cost_bps / 1e4 * turnover(held, horizon, stretch)


def wealth(daily: Floats) -> Floats:
    """Compounded wealth after each day, from 1, nothing left once all is lost; NaN days change nothing."""
    grown: Floats = np.cumprod(np.maximum(1.0 + np.nan_to_num(daily, nan=0.0), 0.0), dtype=np.float64)
    return grown


def max_drawdown(daily: Floats, stretch: Stretch | None = None) -> float:
    """Largest fall of compounded wealth from an earlier peak (the start included), as a fraction in [0, 1].

    Args:
        daily: ``[days]`` simple returns in time order; NaN days do not count.
        stretch: where the gaps are; None where there is none. What wealth did in a gap is not known, so that peak and
            trough have to lie on the same side of it.

    Returns:
        0 for wealth that never falls; NaN where no day counts.
    """
    falls = [_fall(piece[np.isfinite(piece)]) for piece in _pieces(daily, stretch)]
    return max((fall for fall in falls if fall is not None), default=float("nan"))


def _fall(daily: Floats) -> float | None:
    if not daily.size:
        return None
    path = np.concatenate([[1.0], wealth(daily)])
    return float((1.0 - path / np.maximum.accumulate(path)).max())


def pooled_sharpe(scores: Floats, returns: Floats, valid: Bools) -> float:
    """Sharpe ratio in the form of the original experiment: over all stock-days instead of days.

    ``x = n · w · r`` with ``w`` from :func:`positions` and ``n`` the day's valid stocks; mean over population
    standard deviation of x over all valid stock-days of days with at least two. It is no investor's ratio: it
    leaves out that the stocks of a day move together, and is comparable with the original's figures only.

    Args:
        scores: ``[days, stocks]``.
        returns: ``[days, stocks]`` simple returns.
        valid: ``[days, stocks]``.

    Returns:
        The ratio per stock-day; NaN where undefined.
    """
    check_finite("returns", returns, valid)
    count = valid.sum(1, keepdims=True)
    gains = count * positions(scores, valid) * np.where(valid, returns, 0.0)
    return sharpe(gains[valid & (count >= 2)])
