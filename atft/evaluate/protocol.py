"""The published stock-ranking protocol: what papers on the NASDAQ data of Feng et al. (2019) report, with error bars.

Formulas are those of published code, so that figures can be laid beside published ones:

* MRR and IRR: ``training/evaluator.py`` of Feng et al. (2019), "Temporal relational ranking for stock prediction",
  ACM TOIS 37(2) (repository fulifeng/Temporal_Relational_Stock_Ranking, commit 2a8e34f). Its ``btl`` is 1 + IRR.
* IC, ICIR (printed there as "RIC"), precision@10 and the top-5 Sharpe ratio: ``src/evaluator.py`` of Fan and Shen
  (2024), "StockMixer", AAAI-24 (repository SJTU-DMTai/StockMixer, commit 9dc66c6).

Nothing here is a return that anyone can have: each day's stocks are bought at the very close that ranks them, sold at
the next, and trading costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atft.evaluate import metrics
from atft.evaluate.metrics import Bools, Floats, Interval

YEAR = 15.87
"""Factor from a day's Sharpe ratio to a year's in the published code: √252, rounded."""
SHARPE_STOCKS = 5
PRECISION_STOCKS = 10
DRAWS = 500
"""Random rankings that show what luck gives."""


@dataclass(frozen=True)
class ProtocolFigures:
    """The protocol's figures of one ranking.

    Attributes:
        ic: mean daily Pearson correlation of scores and returns.
        icir: mean over population standard deviation of the daily correlations.
        precision: mean share of the ten stocks ranked first whose return is not negative.
        sharpe: of the mean return of the five stocks ranked first, times ``YEAR``.
        mrr: mean reciprocal of the true rank of the stock ranked first.
        irr: sum over the days of the return of the stock ranked first.
        top: ``[days]``, daily mean returns of the five.
        hits: ``[days]``, daily shares that ``precision`` is the mean of.
    """

    ic: Interval
    icir: Interval
    precision: Interval
    sharpe: Interval
    mrr: Interval
    irr: Interval
    top: Floats
    hits: Floats


@dataclass(frozen=True)
class Luck:
    """What random rankings reach: the range of 95 % of ``draws``."""

    draws: int
    precision: tuple[float, float]
    sharpe: tuple[float, float]
    mrr: tuple[float, float]
    irr: tuple[float, float]


def counted_days(valid: Bools) -> npt.NDArray[np.int64]:
    """``[days]`` numbers of the rows with at least the ten stocks that the protocol picks from."""
    return np.flatnonzero(valid.sum(1) >= PRECISION_STOCKS)


def protocol_figures(scores: Floats, returns: Floats, valid: Bools) -> ProtocolFigures:
    """Figures of a ranking over the days that count.

    A stock without score or return on a day is left out of all of that day's figures. (The published code leaves it
    out of the ranking too, but keeps it in the correlation as a pair of zeros.) Equal scores are taken in the order of
    the stocks; in the published code their order is that of an unstable sort.

    Args:
        scores: ``[days, stocks]``.
        returns: ``[days, stocks]`` simple returns of the next day.
        valid: ``[days, stocks]``, True where scored and labelled; ten at least on each day (:func:`counted_days`).

    Raises:
        ValueError: shapes differ, a valid entry is not finite, or a day has fewer than ten.
    """
    metrics.check_shapes(scores=scores, returns=returns, valid=valid)
    if (valid.sum(1) < PRECISION_STOCKS).any():
        raise ValueError(f"a day has fewer than {PRECISION_STOCKS} valid stocks")
    ics = metrics.information_coefficient(scores, returns, valid)
    first = np.argsort(np.where(valid, -scores, np.inf), axis=1, kind="stable")[:, :PRECISION_STOCKS]
    picked = np.take_along_axis(returns, first, axis=1)
    top, hits, best = picked[:, :SHARPE_STOCKS].mean(1), (picked >= 0).mean(1), picked[:, 0]
    true_rank = 1 + (valid & (np.where(valid, returns, -np.inf) > best[:, None])).sum(1)
    return ProtocolFigures(
        ic=metrics.mean_interval(ics),
        icir=metrics.sharpe_interval(ics),
        precision=metrics.mean_interval(hits),
        sharpe=metrics.sharpe_interval(top).scaled(YEAR),
        mrr=metrics.mean_interval(1.0 / true_rank),
        irr=metrics.mean_interval(best).scaled(len(best)),
        top=top,
        hits=hits,
    )


def market_figures(returns: Floats, valid: Bools) -> ProtocolFigures:
    """The same of every stock held in equal parts: the yardstick that needs no ranking.

    ``sharpe`` is of the mean return of all stocks, ``precision`` the share of all that did not fall, ``irr`` the sum
    of the mean returns; what concerns a ranking is NaN.
    """
    count = valid.sum(1)
    kept = np.where(valid, returns, 0.0)
    mean = kept.sum(1) / count
    hits = (valid & (kept >= 0)).sum(1) / count
    undefined = metrics.mean_interval(np.full(len(mean), np.nan))
    return ProtocolFigures(
        ic=undefined,
        icir=undefined,
        precision=metrics.mean_interval(hits),
        sharpe=metrics.sharpe_interval(mean).scaled(YEAR),
        mrr=undefined,
        irr=metrics.mean_interval(mean).scaled(len(mean)),
        top=mean,
        hits=hits,
    )


def luck(returns: Floats, valid: Bools, *, seed: int = 0, draws: int = DRAWS) -> Luck:
    """What rankings without any information reach on these days and stocks."""
    random = np.random.default_rng(seed)
    found = np.empty((draws, 4))
    for draw in range(draws):
        order = np.where(valid, random.random(valid.shape), np.inf)
        first = np.argpartition(order, PRECISION_STOCKS - 1, axis=1)[:, :PRECISION_STOCKS]
        picked = np.take_along_axis(returns, first, axis=1)  # ten at random, in no order: any of them is a first one
        best = picked[:, 0]
        true_rank = 1 + (valid & (np.where(valid, returns, -np.inf) > best[:, None])).sum(1)
        top = picked[:, :SHARPE_STOCKS].mean(1)
        found[draw] = (picked >= 0).mean(), metrics.sharpe(top) * YEAR, (1.0 / true_rank).mean(), best.sum()
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    precision, sharpe, mrr, irr = ((float(a), float(b)) for a, b in zip(low, high))
    return Luck(draws, precision, sharpe, mrr, irr)


def sharpe_difference(own: Floats, other: Floats) -> Interval:
    """The Sharpe ratio of ``own`` minus that of ``other``, a year's by ``YEAR``, over the same days.

    The two series move together, so that their difference is surer than either: the interval is that of the mean
    difference of the days' influences, with a Newey–West sum over lags.

    Source: Ledoit and Wolf (2008), "Robust performance hypothesis testing with the Sharpe ratio", section 3.1, whose
    delta method on two means and second moments this is.
    """
    estimate = metrics.sharpe(own) - metrics.sharpe(other)
    influence = metrics.sharpe_influence(own) - metrics.sharpe_influence(other)
    spread = metrics.mean_interval(influence)
    half = metrics.Z95 * spread.standard_error
    difference = Interval(estimate, spread.standard_error, estimate - half, estimate + half, spread.method)
    return difference.scaled(YEAR)
