"""The best that any model can reach on a synthetic market."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import rankdata

Array = NDArray[np.float64]

TRADING_DAYS = 252
LEAST_STOCKS = 3
"""Labelled stocks that a day needs to count."""


@dataclass(frozen=True)
class Reachable:
    """What the true signal itself reaches: the upper end of every model's IC.

    Its Sharpe ratios are those of the portfolio in proportion to the signal. A portfolio that holds less of what is
    shared by a cluster, and so of common risk, can earn somewhat more.

    Attributes:
        ic: expected mean daily Pearson correlation of the signal with the return it foretells (as planted).
        ic_realised: the same, measured on this market's rows.
        ic_error: standard error of ``ic_realised``, from its daily values.
        rank_ic: measured mean daily Spearman correlation.
        sharpe_daily: mean over population deviation of the daily returns of the dollar-neutral, unit-gross,
            signal-weighted portfolio, without costs.
        sharpe_annual: ``sharpe_daily · √252``.
        ridge_ic: expected IC of the linear part, the most that a linear model of today's features reaches.
        ridge_ic_realised: the same, measured.
        days: days that the measured figures are taken over.
    """

    ic: float
    ic_realised: float
    ic_error: float
    rank_ic: float
    sharpe_daily: float
    sharpe_annual: float
    ridge_ic: float
    ridge_ic_realised: float
    days: int


def signal_scale(signal: Array, noise: Array, valid: NDArray[np.bool_], ic: float) -> float:
    """The factor ``c`` by which ``c · signal + noise`` has the expected daily correlation ``ic`` with ``signal``.

    Args:
        signal: ``[days, stocks]``, the signal of decision days.
        noise: ``[days, stocks]``, the rest of the return that the decision earns, independent of the signal.
        valid: ``[days, stocks]``, True where decision and return exist.
        ic: the correlation asked for, ``[0, 1)``.

    With a day's deviations σ_s and σ_n, the expected correlation is ``c σ_s / √(c² σ_s² + σ_n²)`` up to terms of
    one over the number of stocks; ``c`` makes its mean over days ``ic``.
    """
    if ic == 0:
        return 0.0
    days = valid.sum(1) >= LEAST_STOCKS
    ratio = _deviation(signal, valid)[days] / _deviation(noise, valid)[days]

    def excess(scale: float) -> float:
        return float(np.mean(scale * ratio / np.sqrt(1 + (scale * ratio) ** 2))) - ic

    return float(brentq(excess, 0, 100 / np.median(ratio), xtol=1e-15, rtol=1e-12))


def measure(
    signal: Array, linear: Array, returns: Array, valid: NDArray[np.bool_], ic: float, share: float
) -> Reachable:
    """What ``signal`` reaches on ``returns``, both ``[days, stocks]``, over the ``valid`` stock-days.

    ``share`` is the share of the signal's variance in its ``linear`` part. Without a signal (``ic`` 0) all is 0.
    """
    days = valid.sum(1) >= LEAST_STOCKS
    signal, linear, returns, mask = signal[days], linear[days], returns[days], valid[days]
    daily = daily_correlation(signal, returns, mask)
    ranks = daily_correlation(_ranks(signal, mask), _ranks(returns, mask), mask)
    portfolio = portfolio_returns(signal, returns, mask)
    sharpe = float(portfolio.mean() / portfolio.std()) if portfolio.std() > 0 else 0.0
    return Reachable(
        ic=ic,
        ic_realised=float(daily.mean()),
        ic_error=float(daily.std(ddof=1) / math.sqrt(len(daily))),
        rank_ic=float(ranks.mean()),
        sharpe_daily=sharpe,
        sharpe_annual=sharpe * math.sqrt(TRADING_DAYS),
        ridge_ic=ic * math.sqrt(share),
        ridge_ic_realised=float(daily_correlation(linear, returns, mask).mean()),
        days=len(daily),
    )


def daily_correlation(left: Array, right: Array, valid: NDArray[np.bool_]) -> Array:
    """``[days]`` Pearson correlation over each day's valid stocks; 0 where one side is constant."""
    left, right = _demeaned(left, valid), _demeaned(right, valid)
    size = np.sqrt((left**2).sum(1) * (right**2).sum(1))
    return np.asarray(np.divide((left * right).sum(1), size, out=np.zeros(len(size)), where=size > 0))


def portfolio_returns(scores: Array, returns: Array, valid: NDArray[np.bool_]) -> Array:
    """``[days]`` returns of the dollar-neutral, unit-gross, score-weighted portfolio; 0 where scores are constant."""
    weights = _demeaned(scores, valid)
    gross = np.abs(weights).sum(1)
    earned = (weights * np.where(valid, returns, 0)).sum(1)
    return np.asarray(np.divide(earned, gross, out=np.zeros(len(gross)), where=gross > 0))


def _demeaned(values: Array, valid: NDArray[np.bool_]) -> Array:
    mean = np.where(valid, values, 0).sum(1, keepdims=True) / np.maximum(valid.sum(1, keepdims=True), 1)
    return np.asarray(np.where(valid, values - mean, 0))


def _deviation(values: Array, valid: NDArray[np.bool_]) -> Array:
    squares = (_demeaned(values, valid) ** 2).sum(1)
    return np.asarray(np.sqrt(squares / np.maximum(valid.sum(1), 1)))


def _ranks(values: Array, valid: NDArray[np.bool_]) -> Array:
    ranks = rankdata(np.where(valid, values, np.nan), axis=1, nan_policy="omit")
    return np.asarray(np.nan_to_num(ranks))
