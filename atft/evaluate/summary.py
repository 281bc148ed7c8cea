"""Everything that is said of one set of scores over a period: the backtest, the ranking, and what luck would give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atft.evaluate import baselines, metrics, portfolio
from atft.evaluate.holdings import Holdings
from atft.evaluate.metrics import Bools, Floats, Interval

TRADING_DAYS = 252
"""Trading days of a year."""
DECILES = 10
LEAST_STOCKS_FOR_DECILES = 20
"""Valid stocks that a day needs to enter the decile table: two in each."""

Dates = npt.NDArray[np.datetime64]


@dataclass(frozen=True)
class TestSummary:
    """Statistics of one set of positions over the days of a period; NaN where undefined.

    A return of ``horizon`` days is earned by each day's decision, so that above 1 the returns overlap: the capital
    is held in ``horizon`` equal parts, each renewed every ``horizon`` days. ``sharpe_daily`` is the Sharpe ratio of
    one holding period over √horizon, ``sharpe_annual`` is ``sharpe_daily · √252``: returns of different days are
    taken as uncorrelated for this scaling, whereas the intervals allow for correlation.

    What is said of a portfolio holds for all stocks that are scored, whatever becomes of them; what is said of a
    ranking (coefficients, deciles, the pooled Sharpe ratio) for the valid ones, which have a label.

    Attributes:
        days: days that count, of at least two scored stocks (for long-only positions: one).
        days_left_out: other days; they are treated as if they were no trading days.
        days_in_cash: days that count but hold nothing, since all scores were equal or nothing could be bought.
        decisions: valid stock-days on the days that count.
        valued_at_last_price: scored stock-days whose exit has no price, so that the last known one is taken.
        not_bought: scored stock-days without a price at the execution: not filled, in cash.
        horizon: days that each return spans.
        cost_bps: cost of one unit traded, one way, in basis points.
        sharpe: before costs, per day, with its interval.
        sharpe_net: after costs, per day, with its interval.
        pooled_sharpe: the original experiment's form, per stock-day.
        ic: mean Pearson information coefficient with its interval.
        icir: mean over standard deviation of the days' coefficients.
        rank_ic: mean Spearman information coefficient with its interval.
        rank_icir: its mean over standard deviation.
        turnover: mean of ``Σ|Δw|`` per day, the first day's entry included; where the days have a gap, positions are
            sold before it and bought anew after it.
        max_drawdown: of compounded wealth before costs, as a fraction; the largest between two gaps.
        max_drawdown_net: after costs.
        mean_return: mean gross return per day (a holding period's over ``horizon``).
        mean_return_net: mean net return per day.
        rows: ``[days]`` int64, rows of the input that the series below belong to.
        gross: ``[days]`` returns per day before costs (a holding period's over ``horizon``).
        net: ``[days]`` after costs.
        ics: ``[days]`` Pearson coefficients, NaN where undefined.
        rank_ics: ``[days]`` Spearman coefficients.
        deciles: ``[10]`` mean return of the stocks of each tenth of the scores, lowest first, averaged over days.
        decile_days: days in the decile table.
    """

    __test__ = False  # its name is no test's

    days: int
    days_left_out: int
    days_in_cash: int
    decisions: int
    valued_at_last_price: int
    not_bought: int
    horizon: int
    cost_bps: float
    sharpe: Interval
    sharpe_net: Interval
    pooled_sharpe: float
    ic: Interval
    icir: float
    rank_ic: Interval
    rank_icir: float
    turnover: float
    max_drawdown: float
    max_drawdown_net: float
    mean_return: float
    mean_return_net: float
    rows: npt.NDArray[np.int64]
    gross: Floats
    net: Floats
    ics: Floats
    rank_ics: Floats
    deciles: Floats
    decile_days: int

    @property
    def sharpe_annual(self) -> Interval:
        """The Sharpe ratio before costs, for a year."""
        return self.sharpe.scaled(np.sqrt(TRADING_DAYS))

    @property
    def sharpe_net_annual(self) -> Interval:
        """The Sharpe ratio after costs, for a year."""
        return self.sharpe_net.scaled(np.sqrt(TRADING_DAYS))


@dataclass(frozen=True)
class MonthIC:
    """Mean information coefficient of one calendar month (``YYYY-MM``) over its ``days`` with one."""

    month: str
    days: int
    ic: float


@dataclass(frozen=True)
class ShuffledSummary:
    """What scores without any information would have reached: the distribution over ``repeats`` shuffles.

    ``low`` and ``high`` of the intervals are the 2.5 % and 97.5 % quantiles over the shuffles, ``standard_error``
    is their standard deviation.

    Attributes:
        repeats: how often the scores were shuffled within each day.
        seed: of the shuffles.
        sharpe: Sharpe ratios per day, before costs.
        ic: mean information coefficients.
        share_above_sharpe: share of shuffles whose Sharpe ratio is at least that of the scores themselves,
            ``(1 + count) / (1 + repeats)``; a one-sided p-value.
        share_above_ic: the same of the mean information coefficient.
        example: all statistics of the first shuffle.
    """

    repeats: int
    seed: int
    sharpe: Interval
    ic: Interval
    share_above_sharpe: float
    share_above_ic: float
    example: TestSummary

    @property
    def sharpe_annual(self) -> Interval:
        """The Sharpe ratios for a year."""
        return self.sharpe.scaled(np.sqrt(TRADING_DAYS))

    @property
    def covers_zero(self) -> bool:
        """Whether both intervals cover 0; they do not where the evaluation itself has a leak."""
        return all(interval.low <= 0 <= interval.high for interval in (self.sharpe, self.ic))


def summarise(
    scores: Floats,
    returns: Floats,
    valid: Bools,
    *,
    cost_bps: float,
    horizon: int = 1,
    holdings: Holdings | None = None,
) -> TestSummary:
    """Statistics of scores over a period, traded as a dollar-neutral, unit-gross, score-weighted portfolio.

    Args:
        scores: ``[days, stocks]``; may be NaN where not scored.
        returns: ``[days, stocks]`` simple returns over the label's ``horizon`` days; may be NaN where not valid.
        valid: ``[days, stocks]``, True where scored and labelled.
        cost_bps: cost of one unit traded, one way, in basis points.
        horizon: trading days that a label spans; decisions are made on every day.
        holdings: what is held and what it comes to, labelled or not; the valid stocks alone where not given.

    Raises:
        ValueError: shapes differ, a valid entry is not finite, or ``horizon`` is below 1.
    """
    metrics.check_shapes(scores=scores, returns=returns, valid=valid)
    held = _checked(returns, valid, holdings)
    rows = np.flatnonzero(held.scored.sum(1) >= 2)
    scores, returns, kept, held = scores[rows], returns[rows], valid[rows], held.on(rows)
    ics = metrics.information_coefficient(scores, returns, kept)
    rank_ics = metrics.rank_ic(scores, returns, kept)
    deciles, decile_days = decile_returns(scores, returns, kept)
    return TestSummary(
        **_backtest(portfolio.positions(scores, held.scored), held, cost_bps, horizon),
        days_left_out=len(valid) - len(rows),
        decisions=int(kept.sum()),
        pooled_sharpe=portfolio.pooled_sharpe(scores, returns, kept),
        ic=metrics.mean_interval(ics, horizon=horizon),
        icir=metrics.icir(ics),
        rank_ic=metrics.mean_interval(rank_ics, horizon=horizon),
        rank_icir=metrics.icir(rank_ics),
        rows=rows,
        ics=ics,
        rank_ics=rank_ics,
        deciles=deciles,
        decile_days=decile_days,
    )


def summarise_equal_weight(
    returns: Floats, valid: Bools, *, cost_bps: float, horizon: int = 1, holdings: Holdings | None = None
) -> TestSummary:
    """Statistics of holding 1/n of every stock, long only; what concerns a ranking is NaN.

    Arguments and errors as for :func:`summarise`.
    """
    metrics.check_shapes(returns=returns, valid=valid)
    metrics.check_finite("returns", returns, valid)
    held = _checked(returns, valid, holdings)
    rows = np.flatnonzero(held.scored.any(1))
    kept, held = valid[rows], held.on(rows)
    undefined = np.full(len(rows), np.nan)
    no_ranking = metrics.mean_interval(undefined)
    return TestSummary(
        **_backtest(portfolio.equal_weight(held.scored), held, cost_bps, horizon),
        days_left_out=len(valid) - len(rows),
        decisions=int(kept.sum()),
        pooled_sharpe=float("nan"),
        ic=no_ranking,
        icir=float("nan"),
        rank_ic=no_ranking,
        rank_icir=float("nan"),
        rows=rows,
        ics=undefined,
        rank_ics=undefined,
        deciles=np.full(DECILES, np.nan),
        decile_days=0,
    )


def _checked(returns: Floats, valid: Bools, holdings: Holdings | None) -> Holdings:
    held = Holdings.labelled(returns, valid) if holdings is None else holdings
    held.check(valid)
    return held


def _backtest(targets: Floats, holdings: Holdings, cost_bps: float, horizon: int) -> dict[str, Any]:
    """The fields of :class:`TestSummary` that follow from the wanted positions on the days that count."""
    if horizon < 1:
        raise ValueError(f"horizon = {horizon} must be at least 1 day")
    held, stretch = holdings.taken(targets), holdings.stretch
    both = portfolio.daily_returns(held, holdings.earned, cost_bps, horizon, stretch)
    gross, net = (series / horizon for series in both)
    per_day = float(1 / np.sqrt(horizon))
    return {
        "days": len(held),
        "days_in_cash": int((held == 0).all(1).sum()),
        "valued_at_last_price": holdings.valued_at_last_price,
        "not_bought": holdings.not_bought,
        "horizon": horizon,
        "cost_bps": cost_bps,
        "sharpe": metrics.sharpe_interval(gross, horizon=horizon).scaled(per_day),
        "sharpe_net": metrics.sharpe_interval(net, horizon=horizon).scaled(per_day),
        "turnover": metrics.mean(portfolio.turnover(held, horizon, stretch)) / horizon,
        "max_drawdown": portfolio.max_drawdown(gross, stretch),
        "max_drawdown_net": portfolio.max_drawdown(net, stretch),
        "mean_return": metrics.mean(gross),
        "mean_return_net": metrics.mean(net),
        "gross": gross,
        "net": net,
    }


def decile_returns(scores: Floats, returns: Floats, valid: Bools) -> tuple[Floats, int]:
    """Mean return of each tenth of a day's scores, lowest first, averaged over days.

    Tied scores share their average rank, and so a decile. A day without a stock in each decile (few stocks, many
    ties) is left out.

    Returns:
        ``[10]`` mean simple returns (NaN where no day counts), and the number of days that count.
    """
    count = valid.sum(1, keepdims=True)
    rank = np.nan_to_num(metrics.ranks(scores, valid), nan=1.0)
    decile = np.minimum(((rank - 0.5) / np.maximum(count, 1) * DECILES).astype(np.int64), DECILES - 1)
    member = valid[..., None] & (decile[..., None] == np.arange(DECILES))
    sizes = member.sum(1)
    counted = (sizes > 0).all(1) & (count[:, 0] >= LEAST_STOCKS_FOR_DECILES)
    if not counted.any():
        return np.full(DECILES, np.nan), 0
    totals = np.einsum("dsk,ds->dk", member[counted], np.where(valid, returns, 0.0)[counted])
    table: Floats = (totals / sizes[counted]).mean(0)
    return table, int(counted.sum())


def ic_by_month(dates: Dates, ics: Floats) -> list[MonthIC]:
    """Mean information coefficient of each calendar month, in order.

    Args:
        dates: ``[days]`` datetime64, one per coefficient.
        ics: ``[days]``; NaN days do not count, and a month of nothing else has NaN over 0 days.
    """
    months = dates.astype("datetime64[M]")
    result = []
    for month in np.unique(months):
        kept = ics[(months == month) & np.isfinite(ics)]
        result.append(MonthIC(str(month), int(kept.size), metrics.mean(kept)))
    return result


def summarise_shuffled(
    scores: Floats, returns: Floats, valid: Bools, *, cost_bps: float, seed: int, repeats: int = 200, horizon: int = 1,
    holdings: Holdings | None = None,
) -> ShuffledSummary:  # fmt: skip
    """What is left when the scores are shuffled among the stocks of each day: the yardstick of luck.

    Shuffling the scores is the same as shuffling the outcomes; each day keeps its returns and the size of its
    positions.

    Args:
        scores: ``[days, stocks]``, of the model.
        returns: ``[days, stocks]``.
        valid: ``[days, stocks]``.
        cost_bps: for the statistics of ``example``.
        seed: of the shuffles.
        repeats: shuffles, at least 20.
        horizon: trading days that a label spans.
        holdings: as :func:`summarise` takes them.
    """
    if repeats < 20:
        raise ValueError(f"repeats = {repeats}: quantiles at 2.5 % need at least 20 shuffles")
    held = _checked(returns, valid, holdings)
    own = summarise(scores, returns, valid, cost_bps=cost_bps, horizon=horizon, holdings=held)
    scores, returns, valid, held = scores[own.rows], returns[own.rows], valid[own.rows], held.on(own.rows)
    sharpes, ics, example = np.full(repeats, np.nan), np.full(repeats, np.nan), None
    for repeat, shuffled in enumerate(baselines.shuffled(scores, held.scored, seed=seed, repeats=repeats)):
        if example is None:
            example = summarise(shuffled, returns, valid, cost_bps=cost_bps, horizon=horizon, holdings=held)
        taken = held.taken(portfolio.positions(shuffled, held.scored))
        gross, _ = portfolio.daily_returns(taken, held.earned)
        sharpes[repeat] = metrics.sharpe(gross / horizon) / np.sqrt(horizon)
        ics[repeat] = metrics.mean(metrics.information_coefficient(shuffled, returns, valid))
    assert example is not None
    return ShuffledSummary(
        repeats=repeats,
        seed=seed,
        sharpe=_spread(sharpes),
        ic=_spread(ics),
        share_above_sharpe=_share_above(sharpes, own.sharpe.estimate),
        share_above_ic=_share_above(ics, own.ic.estimate),
        example=example,
    )


def _spread(values: Floats) -> Interval:
    """Mean, deviation and 95 % range of a statistic over shuffles; NaN where it is undefined in any of them."""
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(
        float(values.mean()), float(values.std(ddof=1)), float(low), float(high), f"quantiles of {values.size} shuffles"
    )


def _share_above(values: Floats, own: float) -> float:
    if not np.isfinite(own) or not np.isfinite(values).all():
        return float("nan")
    return float((1 + (values >= own).sum()) / (1 + values.size))
