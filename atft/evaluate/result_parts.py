"""From summaries to the parts of ``result.json``: names, units and nulls are settled here and nowhere else."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from atft.evaluate.backtest import Backtest
from atft.evaluate.metrics import Floats, Interval, mean
from atft.evaluate.result import Baseline, Month, Series, Strategy, Test
from atft.evaluate.result_types import Bounds
from atft.evaluate.summary import Dates, ShuffledSummary, TestSummary, ic_by_month

_COPIED = (
    *("days", "days_left_out", "days_in_cash", "decisions", "horizon", "cost_bps", "pooled_sharpe", "icir"),
    *("rank_icir", "turnover", "max_drawdown", "max_drawdown_net", "mean_return", "mean_return_net", "decile_days"),
    *("valued_at_last_price", "not_bought"),
)
"""Fields that a summary and its statistics share."""

_OF_ONE_SHUFFLE = (
    *("sharpe_net", "sharpe_net_annual", "sharpe_net_ci95", "pooled_sharpe", "icir", "rank_ic", "rank_ic_ci95"),
    *("rank_icir", "turnover", "max_drawdown", "max_drawdown_net", "mean_return", "mean_return_net"),
)
"""Statistics that a shuffled baseline has of its first shuffle only."""


def _bounds(interval: Interval) -> Bounds:
    return (interval.low, interval.high) if math.isfinite(interval.low) and math.isfinite(interval.high) else None


def statistics(summary: TestSummary, label_dates: Dates) -> dict[str, Any]:
    """The fields of :class:`Statistics` from a summary.

    Args:
        summary: what :func:`atft.evaluate.summary.summarise` gave.
        label_dates: ``[days]`` datetime64, one for each row that was summarised, days left out included.
    """
    dates = label_dates[summary.rows]
    months = [Month(month=m.month, days=m.days, ic=m.ic) for m in ic_by_month(dates, summary.ics)]
    return {
        "sharpe_daily": summary.sharpe.estimate,
        "sharpe_annual": summary.sharpe_annual.estimate,
        "sharpe_ci95": _bounds(summary.sharpe),
        "sharpe_annual_ci95": _bounds(summary.sharpe_annual),
        "sharpe_standard_error": summary.sharpe.standard_error,
        "sharpe_method": summary.sharpe.method,
        "sharpe_net": summary.sharpe_net.estimate,
        "sharpe_net_annual": summary.sharpe_net_annual.estimate,
        "sharpe_net_ci95": _bounds(summary.sharpe_net),
        "ic": summary.ic.estimate,
        "ic_ci95": _bounds(summary.ic),
        "rank_ic": summary.rank_ic.estimate,
        "rank_ic_ci95": _bounds(summary.rank_ic),
        "deciles": tuple(summary.deciles.tolist()),
        "ic_by_month": tuple(months),
        "series": _series(dates, summary),
        **{name: getattr(summary, name) for name in _COPIED},
    }


def _series(dates: Dates, summary: TestSummary) -> Series:
    def listed(values: Floats) -> tuple[float, ...]:
        return tuple(values.tolist())

    days: list[dt.date] = dates.astype("datetime64[D]").tolist()
    return Series(dates=tuple(days), gross=listed(summary.gross), net=listed(summary.net), ic=listed(summary.ics))


def model_part(
    summary: TestSummary,
    label_dates: Dates,
    *,
    missing_labels: int,
    sampled_ic: float,
    strategies: Iterable[Backtest] = (),
) -> Test:
    """The ``test`` part of a result.

    Args:
        summary: of the model's scores.
        label_dates: ``[days]`` datetime64, one for each row that was summarised.
        missing_labels: stock-days that were scored but have no label.
        sampled_ic: mean information coefficient on stock samples; NaN where not measured.
        strategies: what other strategies make of the same scores.
    """
    first, last = (np.datetime64(day, "D").item() for day in (label_dates[0], label_dates[-1]))
    return Test(
        **statistics(summary, label_dates),
        first_date=first,
        last_date=last,
        missing_labels=missing_labels,
        sampled_ic=sampled_ic,
        strategies=tuple(map(strategy_part, strategies)),
    )


def strategy_part(found: Backtest) -> Strategy:
    """One of the ``strategies`` of the test period."""
    return Strategy(
        strategy=found.strategy.label,
        execution=found.rules.at,
        days=len(found.dates),
        sharpe_annual=found.sharpe.estimate,
        sharpe_annual_ci95=_bounds(found.sharpe),
        sharpe_net_annual=found.sharpe_net.estimate,
        sharpe_net_annual_ci95=_bounds(found.sharpe_net),
        turnover=mean(found.turnover),
        mean_return=mean(found.gross),
        mean_return_net=mean(found.net),
        long_return=found.long and found.long.mean_return,
        short_return=found.short and found.short.mean_return,
        max_drawdown=found.drawdown.depth,
        max_drawdown_net=found.drawdown_net.depth,
        excess_sharpe_annual=found.excess and found.excess.estimate,
        excess_sharpe_annual_ci95=_bounds(found.excess) if found.excess else None,
        half_capacity=found.capacity.half if found.capacity and math.isfinite(found.capacity.half) else None,
        blocked=found.trades.blocked,
        stale=found.trades.stale,
        delisted=found.trades.delisted,
    )


def baseline_part(summary: TestSummary, label_dates: Dates, **settings: str | float) -> Baseline:
    """One of the ``baselines`` of a result, with the settings and counts that it was made from."""
    return Baseline(**statistics(summary, label_dates), settings=settings)


def shuffled_part(shuffled: ShuffledSummary, label_dates: Dates) -> Baseline:
    """The ``shuffled`` baseline: IC and Sharpe ratio are means over the shuffles, their intervals hold 95 % of them.

    What was not taken over all shuffles is null.
    """
    annual = shuffled.sharpe_annual
    fields = statistics(shuffled.example, label_dates) | {
        "sharpe_daily": shuffled.sharpe.estimate,
        "sharpe_annual": annual.estimate,
        "sharpe_ci95": _bounds(shuffled.sharpe),
        "sharpe_annual_ci95": _bounds(annual),
        "sharpe_standard_error": shuffled.sharpe.standard_error,
        "sharpe_method": shuffled.sharpe.method,
        "ic": shuffled.ic.estimate,
        "ic_ci95": _bounds(shuffled.ic),
        "series": None,
        "deciles": (),
        "ic_by_month": (),
        **dict.fromkeys(_OF_ONE_SHUFFLE),
    }
    shares = {"share_above_sharpe": shuffled.share_above_sharpe, "share_above_ic": shuffled.share_above_ic}
    kept = {name: share for name, share in shares.items() if math.isfinite(share)}
    return Baseline(**fields, settings={"repeats": shuffled.repeats, "seed": shuffled.seed, **kept})
