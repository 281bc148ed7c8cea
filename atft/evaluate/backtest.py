"""One strategy over a period: what it holds, earns and costs, its sides, its parts and its capacity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from atft.evaluate import costs as cost_model
from atft.evaluate import metrics, portfolio, regimes
from atft.evaluate.costs import PARTICIPATION, Capacity, Costs, Liquidity
from atft.evaluate.execution import Execution, Rules
from atft.evaluate.metrics import Bools, Floats, Interval
from atft.evaluate.strategies import Strategy
from atft.evaluate.summary import TRADING_DAYS
from atft.evaluate.trading import Trades, trade

Dates = npt.NDArray[np.datetime64]


@dataclass(frozen=True)
class Decisions:
    """Scores at the time of their decisions, and how these are executed.

    Attributes:
        scores: ``[decisions, stocks]``, as they are traded (neutralised, if so); may be NaN where not scored.
        scored: ``[decisions, stocks]``, True where there is a score.
        execution: of the same decisions.
        dates: ``[decisions]`` days on which the returns have been earned.
        market: ``[all days]`` returns of the equal-weight market, which the regimes are taken of.
        liquidity: of the same decisions; None where it is not known for all of them.
    """

    scores: Floats
    scored: Bools
    execution: Execution
    dates: Dates
    market: Floats
    liquidity: Liquidity | None = None

    @cached_property
    def parts(self) -> tuple[regimes.Part, ...]:
        """The parts of the period, found once for all strategies and costs."""
        return tuple(regimes.parts(self.dates, self.market, self.execution.days))


@dataclass(frozen=True)
class Side:
    """The long or the short positions alone, on the whole capital, before cost.

    Attributes:
        mean_return: per day.
        sharpe: for a year, with its interval.
    """

    mean_return: float
    sharpe: Interval


@dataclass(frozen=True)
class Part:
    """A part of the period; Sharpe ratios are for a year, and its days need not follow one another.

    Attributes:
        kind: ``year``, ``quarter``, ``half``, ``volatility`` or ``market``.
        name: which one.
        days: decisions in it.
        sharpe: before cost.
        sharpe_net: after cost.
        ic: mean information coefficient.
        turnover: mean ``Σ|Δw|`` a day.
        mean_return_net: per day.
        max_drawdown_net: of the wealth of these days alone.
    """

    kind: str
    name: str
    days: int
    sharpe: Interval
    sharpe_net: Interval
    ic: Interval
    turnover: float
    mean_return_net: float
    max_drawdown_net: float


@dataclass(frozen=True)
class Drawdown:
    """The largest fall of compounded wealth from an earlier peak.

    Attributes:
        depth: as a fraction of the peak.
        peak: date of the peak; None is the start.
        trough: date of the lowest point; None where wealth never fell.
        recovered: first date with the peak's wealth again; None where there is none.
    """

    depth: float
    peak: np.datetime64 | None
    trough: np.datetime64 | None
    recovered: np.datetime64 | None


@dataclass(frozen=True)
class Backtest:
    """What a strategy came to. Sharpe ratios are for a year; a holding period's return counts over its horizon.

    Attributes:
        strategy: that was traded.
        rules: that it was executed by.
        costs: that were paid.
        dates: ``[decisions]``.
        gross: ``[decisions]`` returns per day before cost.
        net: ``[decisions]`` after cost.
        ics: ``[decisions]`` information coefficients of the scores that were traded.
        turnover: ``[decisions]`` ``Σ|Δw|`` per day.
        days_in_cash: decisions that hold nothing.
        sharpe: before cost.
        sharpe_net: after cost.
        ic: mean information coefficient.
        impact: mean impact per day, as a fraction of the capital; part of the cost.
        gross_exposure: mean ``Σ|w|``; below or above 1 where stocks could not be traded.
        net_exposure: largest ``|Σw|`` of a decision.
        drawdown: before cost.
        drawdown_net: after cost.
        long, short: the sides apart; None for a side that the strategy does not have.
        excess: Sharpe ratio of the net return in excess of the equal-weight market's; None but for long-only ones.
        excess_return: its mean per day; None likewise.
        capacity: None without volumes.
        parts: of the period.
        trades: that were made.
    """

    strategy: Strategy
    rules: Rules
    costs: Costs
    dates: Dates
    gross: Floats
    net: Floats
    ics: Floats
    turnover: Floats
    days_in_cash: int
    sharpe: Interval
    sharpe_net: Interval
    ic: Interval
    impact: float
    gross_exposure: float
    net_exposure: float
    drawdown: Drawdown
    drawdown_net: Drawdown
    long: Side | None
    short: Side | None
    excess: Interval | None
    excess_return: float | None
    capacity: Capacity | None
    parts: tuple[Part, ...]
    trades: Trades

    def months(self) -> list[tuple[str, float, float]]:
        """Compounded return of each calendar month, before and after cost."""
        months = self.dates.astype("datetime64[M]")
        return [
            (str(month), _compounded(self.gross[months == month]), _compounded(self.net[months == month]))
            for month in np.unique(months)
        ]


def backtest(
    decisions: Decisions, strategy: Strategy, costs: Costs, *, drift: bool = True, participation: float = PARTICIPATION
) -> Backtest:
    """Trade ``strategy`` on ``decisions``.

    Args:
        decisions: scores and their execution.
        strategy: how scores become positions.
        costs: what trading costs.
        drift: whether weights drift between decisions.
        participation: share of a stock's traded money that capacity is stated for.

    Raises:
        UseError: as :meth:`Strategy.targets` raises it.
    """
    targets = strategy.targets(decisions.scores, decisions.scored, decisions.dates)
    trades = trade(targets, decisions.execution, drift=drift)
    return costed(decisions, strategy, trades, costs, drift=drift, participation=participation)


def costed(
    decisions: Decisions,
    strategy: Strategy,
    trades: Trades,
    costs: Costs,
    *,
    drift: bool = True,
    participation: float = PARTICIPATION,
) -> Backtest:
    """The figures of ``trades`` at these costs; trades do not depend on costs, so that one serves many."""
    horizon = decisions.execution.rules.horizon
    cost = cost_model.total(trades, costs, horizon, decisions.liquidity)
    gross, net = trades.gross / horizon, (trades.gross - cost) / horizon
    ics = _ics(decisions, strategy)
    found = Backtest(
        strategy=strategy,
        rules=decisions.execution.rules,
        costs=costs,
        dates=decisions.dates,
        gross=gross,
        net=net,
        ics=ics,
        turnover=trades.turnover / horizon,
        days_in_cash=int((trades.held == 0).all(1).sum()),
        sharpe=_annual(gross, horizon),
        sharpe_net=_annual(net, horizon),
        ic=metrics.mean_interval(ics, horizon=horizon),
        impact=_impact(trades, costs, horizon, decisions.liquidity),
        gross_exposure=metrics.mean(np.abs(trades.held).sum(1)),
        net_exposure=float(np.abs(trades.held.sum(1)).max(initial=0.0)),
        drawdown=drawdown(gross, decisions.dates),
        drawdown_net=drawdown(net, decisions.dates),
        long=_side(trades, 1, horizon),
        short=_side(trades, -1, horizon),
        excess=None,
        excess_return=None,
        capacity=_capacity(decisions, trades, costs, participation),
        parts=(),
        trades=trades,
    )
    found = replace(found, parts=tuple(_parts(found, decisions, horizon)))
    return _beside_market(found, decisions, drift) if strategy.name == "top-k" else found


def _beside_market(found: Backtest, decisions: Decisions, drift: bool) -> Backtest:
    """With its return in excess of the equal-weight market's, executed in the same way at the same rates."""
    horizon = decisions.execution.rules.horizon
    targets = Strategy("equal-weight").targets(decisions.scores, decisions.scored)
    market = trade(targets, decisions.execution, drift=drift)
    excess = found.net - (market.gross - cost_model.total(market, found.costs, horizon, decisions.liquidity)) / horizon
    return replace(found, excess=_annual(excess, horizon), excess_return=metrics.mean(excess))


def _compounded(daily: Floats) -> float:
    return float(np.prod(1 + daily) - 1)


def drawdown(daily: Floats, dates: Dates) -> Drawdown:
    """The largest fall of the wealth that ``daily`` returns compound to, with its dates."""
    if not len(daily):
        return Drawdown(float("nan"), None, None, None)
    path = np.concatenate([[1.0], portfolio.wealth(daily)])
    peaks = np.maximum.accumulate(path)
    fall = 1 - path / peaks
    trough = int(fall.argmax())
    if fall[trough] <= 0:
        return Drawdown(0.0, None, None, None)
    peak = int(path[: trough + 1].argmax())
    again = np.flatnonzero(path[trough:] >= path[peak])
    return Drawdown(
        depth=float(fall[trough]),
        peak=dates[peak - 1] if peak else None,
        trough=dates[trough - 1],
        recovered=dates[trough + int(again[0]) - 1] if len(again) else None,
    )


def _annual(daily: Floats, horizon: int) -> Interval:
    """Sharpe ratio for a year of returns per day, which overlap for a horizon above 1; scaled as in ``result.json``."""
    return metrics.sharpe_interval(daily, horizon=horizon).scaled(float(np.sqrt(TRADING_DAYS / horizon)))


def _ics(decisions: Decisions, strategy: Strategy) -> Floats:
    """``[decisions]`` information coefficients over what is scored, could be traded, and has a return."""
    execution = decisions.execution
    if strategy.name == "equal-weight":
        return np.full(len(execution.days), np.nan)
    valid = decisions.scored & execution.tradable & np.isfinite(execution.returns)
    return metrics.information_coefficient(decisions.scores, execution.returns, valid)


def _capacity(decisions: Decisions, trades: Trades, costs: Costs, participation: float) -> Capacity | None:
    if decisions.liquidity is None:
        return None
    horizon = decisions.execution.rules.horizon
    return cost_model.capacity(trades, costs, horizon, decisions.liquidity, participation=participation)


def _side(trades: Trades, sign: int, horizon: int) -> Side | None:
    if not (np.sign(trades.held) == sign).any():
        return None
    daily = trades.side(sign) / horizon
    return Side(metrics.mean(daily), _annual(daily, horizon))


def _impact(trades: Trades, costs: Costs, horizon: int, market: Liquidity | None) -> float:
    if not costs.impact:
        return 0.0
    alone = Costs(impact=costs.impact, capital=costs.capital)
    return metrics.mean(cost_model.total(trades, alone, horizon, market)) / horizon


def _parts(found: Backtest, decisions: Decisions, horizon: int) -> list[Part]:
    return [
        Part(
            kind=kind,
            name=name,
            days=int(held.sum()),
            sharpe=_annual(found.gross[held], horizon),
            sharpe_net=_annual(found.net[held], horizon),
            ic=metrics.mean_interval(found.ics[held], horizon=horizon),
            turnover=metrics.mean(found.turnover[held]),
            mean_return_net=metrics.mean(found.net[held]),
            max_drawdown_net=portfolio.max_drawdown(found.net[held]),
        )
        for kind, name, held in decisions.parts
    ]
