"""``folds.json``: what the folds of a scheme came to, one by one and put together."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from atft.config import Combinatorial, Scheme
from atft.data.folds import backtest_paths
from atft.evaluate.metrics import Floats, Interval, mean_interval, sharpe_interval
from atft.evaluate.result import Result, Series
from atft.evaluate.result_types import Bounds, Count, Maybe, Model, Number
from atft.evaluate.summary import TRADING_DAYS

Span = tuple[dt.date, dt.date]


class Figures(Model):
    """What the test series of one fold, or of several put together, came to."""

    days: Count
    first_date: dt.date
    """First label date."""
    last_date: dt.date
    sharpe_annual: Maybe
    """Before costs."""
    sharpe_annual_ci95: Bounds
    sharpe_method: str
    """How the interval was found."""
    sharpe_net_annual: Maybe
    """After costs, as each fold paid them."""
    sharpe_net_annual_ci95: Bounds
    ic: Maybe
    ic_ci95: Bounds


class FoldFigures(Figures):
    """One fold."""

    fold: Count
    run: str
    """Name of its run, beside ``folds.json``."""
    config_sha256: str


class PathFigures(Figures):
    """One backtest path: a test series of the whole span, each group from another choice of training days."""

    folds: tuple[int, ...]
    """The fold that each group was taken from."""


class Distribution(Model):
    """Annual Sharpe ratios of the paths, before costs. They share days, so their spread is no standard error."""

    count: Count
    mean: Number
    std: Number
    """Population deviation."""
    min: Number
    median: Number
    max: Number
    share_below_zero: Number


class Folds(Model):
    """The content of ``folds.json``."""

    schema_version: Literal[1] = 1
    tier: str
    scheme: str
    data_sha256: str
    folds: tuple[FoldFigures, ...]
    joined: Figures | None = None
    """Walk-forward: the test series of all folds in date order."""
    paths: tuple[PathFigures, ...] = ()
    """Combinatorial: the backtest paths."""
    path_sharpe_annual: Distribution | None = None
    """Null where a path has no Sharpe ratio."""


def gathered(split: Scheme, results: Sequence[Result], groups: Sequence[Span] = ()) -> Folds:
    """The folds of one scheme put together.

    Args:
        split: the scheme.
        results: one for each fold, in their order.
        groups: first and last label date of each group of a combinatorial scheme.
    """
    first = results[0]
    horizon = first.test.horizon
    series = [_series(each) for each in results]
    found = Folds(
        tier=first.tier,
        scheme=first.fold.scheme if first.fold else "dates",
        data_sha256=first.data_sha256,
        folds=tuple(
            FoldFigures(fold=number, run=each.run, config_sha256=each.config_sha256, **_figures([own], horizon))
            for number, (each, own) in enumerate(zip(results, series, strict=True))
        ),
    )
    if not isinstance(split, Combinatorial):
        return found.model_copy(update={"joined": Figures(**_figures(series, horizon))})
    paths = tuple(
        PathFigures(folds=tuple(path), **_figures(_along(path, series, groups), horizon))
        for path in backtest_paths(split)
    )
    return found.model_copy(update={"paths": paths, "path_sharpe_annual": _distribution(paths)})


def _series(result: Result) -> Series:
    if result.test.series is None:
        raise ValueError(f"run {result.run} has no daily series")
    return result.test.series


def _along(path: Sequence[int], series: Sequence[Series], groups: Sequence[Span]) -> list[Series]:
    """The series of a path, group by group."""
    return [_within(series[fold], span) for fold, span in zip(path, groups, strict=True)]


def _within(series: Series, span: Span) -> Series:
    kept = [number for number, date in enumerate(series.dates) if span[0] <= date <= span[1]]
    return Series(
        **{name: tuple(getattr(series, name)[number] for number in kept) for name in ("dates", "gross", "net", "ic")}
    )


def _figures(pieces: Sequence[Series], horizon: int) -> dict[str, object]:
    """Figures of series that follow one another in time."""
    dates = [date for each in pieces for date in each.dates]
    if any(later <= earlier for earlier, later in pairwise(dates)):
        raise ValueError("the test series do not follow one another in time")
    gross, net, ic = (_joined(pieces, name) for name in ("gross", "net", "ic"))
    sharpe, sharpe_net = (_annual(each, horizon) for each in (gross, net))
    coefficient = mean_interval(ic, horizon=horizon)
    return {
        "days": len(dates),
        "first_date": dates[0],
        "last_date": dates[-1],
        "sharpe_annual": sharpe.estimate,
        "sharpe_annual_ci95": _bounds(sharpe),
        "sharpe_method": sharpe.method,
        "sharpe_net_annual": sharpe_net.estimate,
        "sharpe_net_annual_ci95": _bounds(sharpe_net),
        "ic": coefficient.estimate,
        "ic_ci95": _bounds(coefficient),
    }


def _joined(pieces: Sequence[Series], name: str) -> Floats:
    return np.array([np.nan if value is None else value for each in pieces for value in getattr(each, name)], float)


def _annual(daily: Floats, horizon: int) -> Interval:
    return sharpe_interval(daily, horizon=horizon).scaled(float(np.sqrt(TRADING_DAYS / horizon)))


def _bounds(interval: Interval) -> Bounds:
    return (interval.low, interval.high) if np.isfinite([interval.low, interval.high]).all() else None


def _distribution(paths: Sequence[PathFigures]) -> Distribution | None:
    ratios = [path.sharpe_annual for path in paths if path.sharpe_annual is not None]
    if len(ratios) < len(paths):
        return None
    values = np.array(ratios)
    return Distribution(
        count=len(values),
        mean=float(values.mean()),
        std=float(values.std()),
        min=float(values.min()),
        median=float(np.median(values)),
        max=float(values.max()),
        share_below_zero=float((values < 0).mean()),
    )
