"""What trading costs: a rate on what is traded, market impact by the square-root law, the loan of shorted stocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atft.errors import UseError
from atft.evaluate import metrics
from atft.evaluate.execution import Days
from atft.evaluate.metrics import Floats
from atft.evaluate.summary import TRADING_DAYS
from atft.evaluate.trading import Trades

LIQUIDITY_DAYS = 20
"""Trading days, the decision day's included, that traded money and volatility are taken over."""
PARTICIPATION, EXCEEDING = 0.05, 0.05
"""Share of a stock's traded money that a trade should not exceed, and share of the traded value that may."""
LEAST_RETURNS = 5
"""Daily returns in that window that a volatility needs."""


@dataclass(frozen=True)
class Costs:
    """Rates of cost; all but the first are off by default.

    Attributes:
        bps: of each unit of the portfolio traded, one way, in basis points.
        impact: coefficient of the square-root law; estimates of it lie near 1. 0 leaves impact out.
        capital: money under management, in the unit of the panel's prices; needed by impact.
        borrow_bps: a year on the value sold short, in basis points.

    Raises:
        UseError: a rate that is negative or not finite, or impact without capital.
    """

    bps: float = 0.0
    impact: float = 0.0
    capital: float | None = None
    borrow_bps: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("cost-bps", self.bps), ("impact", self.impact), ("borrow-bps", self.borrow_bps)):
            if not 0 <= value < np.inf:
                raise UseError(f"{name} = {value:g} must be at least 0 and finite. Mend: --{name} 5, or 0 for none.")
        if self.capital is not None and not 0 < self.capital < np.inf:
            raise UseError(f"capital = {self.capital:g} must be above 0 and finite. Mend: --capital 1e7.")
        if self.impact and self.capital is None:
            raise UseError(
                f"impact = {self.impact:g} grows with the money that is traded, which is not stated. "
                "Mend: --capital 1e7, in the unit of the panel's prices."
            )


@dataclass(frozen=True)
class Liquidity:
    """How much of a stock is traded, and how much it moves; known at the decision.

    Attributes:
        money: ``[decisions, stocks]`` mean traded money a day.
        volatility: ``[decisions, stocks]`` standard deviation of daily returns.
        estimated: stock-days with a price whose money or volatility was not known; they have the least money and the
            median volatility of the day.
    """

    money: Floats
    volatility: Floats
    estimated: int


def liquidity(close: Floats, volume: Floats | None, days: Days) -> Liquidity | None:
    """Trailing traded money and volatility of ``LIQUIDITY_DAYS`` days up to each decision's close.

    Args:
        close: ``[all days, stocks]``, NaN where missing.
        volume: ``[all days, stocks]`` shares, so that close × volume is money; NaN where missing.
        days: numbers of the decision days.

    Returns:
        None where there are no volumes, or a decision around which no stock's money or volatility is known.
    """
    if volume is None or not np.isfinite(volume).any():
        return None
    money = trailing_money(close, volume, days)
    returns = daily_returns(close)
    volatility = np.full_like(money, np.nan)
    for row, day in enumerate(days):
        window = returns[max(0, day + 1 - LIQUIDITY_DAYS) : day + 1]
        known = np.isfinite(window)
        enough = known.sum(0) >= LEAST_RETURNS
        volatility[row, enough] = np.nanstd(window[:, enough], axis=0, ddof=1)
    there = np.isfinite(close[days])
    unknown = [~(np.isfinite(table) & (table > 0)) for table in (money, volatility)]
    if any(missing.all(1).any() for missing in unknown):
        return None
    for row in range(len(days)):
        for table, missing, fill in ((money, unknown[0], np.min), (volatility, unknown[1], np.median)):
            table[row, missing[row]] = fill(table[row, ~missing[row]])
    return Liquidity(money, volatility, int(((unknown[0] | unknown[1]) & there).sum()))


def trailing_money(close: Floats, volume: Floats | None, days: Days) -> Floats:
    """``[decisions, stocks]`` mean of close × volume over the days of the trailing window with a row; NaN without any.

    Raises:
        UseError: there are no volumes.
    """
    if volume is None or not np.isfinite(volume).any():
        raise UseError(
            "neutralise size: the panel has no volumes to take traded money from. "
            "Mend: --neutralise industry, or a panel built from a table with the role volume."
        )
    result = np.full((len(days), close.shape[1]), np.nan)
    for row, day in enumerate(days):
        window = slice(max(0, day + 1 - LIQUIDITY_DAYS), day + 1)
        traded = close[window] * volume[window]
        known = np.isfinite(traded)
        np.divide(np.where(known, traded, 0.0).sum(0), known.sum(0), out=result[row], where=known.any(0))
    return result


def daily_returns(close: Floats) -> Floats:
    """``[all days, stocks]`` simple returns from the day before; NaN on the first day and where a close is missing."""
    returns = np.full_like(close, np.nan, dtype=np.float64)
    returns[1:] = close[1:] / close[:-1] - 1
    return returns


def impact_per_root_money(trades: Trades, market: Liquidity, horizon: int) -> Floats:
    """Impact of each decision, as a share of its tranche, for a coefficient and a capital of 1.

    ``Σ |Δw| σ √(|Δw| / (horizon · money))``: it grows with the root of the capital, all else being equal.

    Args:
        trades: of the strategy.
        market: of the same decisions.
        horizon: tranches that the capital lies in.

    Source: the square-root law, cost = coefficient × σ × √(value traded / value traded in the market a day); Grinold
        and Kahn (2000), ch. 16; Almgren et al. (2005) find an exponent of .6; Tóth et al. (2011) one of .5 and a
        coefficient near 1.
    """
    traded = np.abs(trades.traded)
    cost: Floats = (traded * market.volatility * np.sqrt(traded / (horizon * market.money))).sum(1)
    return cost


def total(trades: Trades, costs: Costs, horizon: int, market: Liquidity | None = None) -> Floats:
    """``[decisions]`` cost of each decision over its holding period, as a share of its tranche.

    A short position pays for its loan on the value it was opened or renewed at, for each trading day held.

    Raises:
        ValueError: impact is asked for, without the market's liquidity.
    """
    cost: Floats = costs.bps / 1e4 * trades.turnover
    if costs.borrow_bps:
        short = np.where(trades.held < 0, -trades.held, 0.0).sum(1)
        cost = cost + costs.borrow_bps / 1e4 / TRADING_DAYS * horizon * short
    if costs.impact:
        if market is None or costs.capital is None:
            raise ValueError("market impact needs the market's liquidity and a capital")
        cost = cost + costs.impact * np.sqrt(costs.capital) * impact_per_root_money(trades, market, horizon)
    return cost


@dataclass(frozen=True)
class Capacity:
    """How much money a strategy bears; NaN where a bound does not exist, infinite where impact is no bound.

    Attributes:
        coefficient: of the square-root law.
        half: capital at which impact takes half of the mean return that is left after the other costs.
        all: capital at which it takes all of it.
        participation: share of a stock's traded money that a trade should not exceed.
        share: of the traded value that may exceed it.
        at_participation: largest capital at which no more than ``share`` of the traded value does.
    """

    coefficient: float
    half: float
    all: float
    participation: float
    share: float
    at_participation: float


def capacity(
    trades: Trades,
    costs: Costs,
    horizon: int,
    market: Liquidity,
    *,
    participation: float = PARTICIPATION,
    share: float = EXCEEDING,
) -> Capacity:
    """Capital that a strategy bears, its weights being the same at any size.

    Impact grows with the root of the capital, so that both bounds on the return follow from the mean returns:
    ``capital = (part · mean net return without impact / mean impact at a capital of 1)²``.

    Args:
        trades: of the strategy.
        costs: the others count; a coefficient of 0 is taken as 1 here.
        horizon: tranches that the capital lies in.
        market: of the same decisions.
        participation: share of a stock's traded money a day, above 0.
        share: of the traded value that may exceed it, from 0 to below 1.

    Raises:
        UseError: participation or share out of bounds.
    """
    if not participation > 0 or not 0 <= share < 1:
        raise UseError(
            f"participation = {participation:g} must be above 0, and its share = {share:g} from 0 to below 1. "
            "Mend: --participation 0.05."
        )
    coefficient = costs.impact or 1.0
    others = Costs(bps=costs.bps, borrow_bps=costs.borrow_bps)
    net = metrics.mean(trades.gross - total(trades, others, horizon))
    impact = coefficient * metrics.mean(impact_per_root_money(trades, market, horizon))
    return Capacity(
        coefficient=coefficient,
        half=_money(net / 2, impact),
        all=_money(net, impact),
        participation=participation,
        share=share,
        at_participation=_at(trades, market, horizon, participation, share),
    )


def _money(left: float, impact: float) -> float:
    """Capital at which impact takes ``left``; NaN where there is nothing to take."""
    if not left > 0:
        return float("nan")
    return float((left / impact) ** 2) if impact > 0 else float("inf")


def _at(trades: Trades, market: Liquidity, horizon: int, participation: float, share: float) -> float:
    """Largest capital at which at most ``share`` of the value traded exceeds ``participation``."""
    traded = np.abs(trades.traded)
    some = traded > 0
    if not some.any():
        return float("nan")
    value = traded[some]
    bounds = participation * horizon * market.money[some] / value  # the capital that each trade alone would bear
    order = np.argsort(bounds, kind="stable")
    exceeded = np.cumsum(value[order]) / value.sum()
    first = int(np.searchsorted(exceeded, share, side="right"))
    return float(bounds[order][min(first, len(value) - 1)])
