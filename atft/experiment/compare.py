"""Configurations side by side: differences paired by day and by seed, what each was expected to reach, and why.

A pure comparison: runs that were read elsewhere in, plain figures out.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from atft.config import Label
from atft.errors import UseError
from atft.evaluate import metrics
from atft.evaluate.multiple import holm
from atft.evaluate.over_seeds import OverSeeds, Seen, between, over_seeds
from atft.evaluate.paired import Paired, mean_difference, sharpe_difference
from atft.evaluate.pairing import check_comparable
from atft.evaluate.result import Series
from atft.evaluate.summary import TRADING_DAYS
from atft.experiment.compare_runs import Configuration, Ran
from atft.experiment.diff import Differences, differences

LEAST_PAIRED_SEEDS = 3
"""Common seeds from which two configurations are paired by seed: two differences tell too little of their spread."""
LEVEL = 0.05
"""p-value up to which a difference is called one."""
RETURN_FIELDS = ("horizon", "execution_lag")
"""Settings of the label that say what a day's return is, beside whose label it is."""


@dataclass(frozen=True)
class Unit:
    """A statistic that has a value for each day.

    Attributes:
        field: of a result's daily series.
        ratio: a Sharpe ratio, told by the year; else a mean.
        words: what it is called.
        digits: that it is told with.
    """

    field: str
    ratio: bool
    words: str
    digits: int

    def statistic(self, daily: metrics.Floats) -> float:
        """Per entry."""
        return metrics.sharpe(daily) if self.ratio else float(daily.mean())

    def influence(self, daily: metrics.Floats) -> metrics.Floats:
        """What each day adds to its error."""
        return metrics.sharpe_influence(daily) if self.ratio else daily - daily.mean()

    def scale(self, horizon: int) -> float:
        """From entries to the unit that is told."""
        return math.sqrt(TRADING_DAYS / horizon) if self.ratio else 1.0


UNITS = {
    "sharpe_annual": Unit("gross", True, "annual Sharpe ratio", 2),
    "sharpe_net_annual": Unit("net", True, "annual Sharpe ratio after costs", 2),
    "ic": Unit("ic", False, "mean IC", 4),
}
"""Statistics that are tested; the verdict is about the first."""


@dataclass(frozen=True)
class Estimate:
    """A difference, or a mean over seeds, as it is told.

    Attributes:
        estimate, low, high, error: with its 95 % interval.
        p_value: two-sided, of 0.
        days: that count.
        seeds: of the one side and the other; 0 where there is no other.
        paired_seeds: whether seed is held against the same seed.
        knows_training: whether chance in training is in the interval.
        method: how the interval was found.
        days_error: the part of the error that the days make.
        seeds_error: standard error from the spread over seeds alone; None where a side has a single one.
        p_value_holm: corrected for all comparisons that are made; None before it is.
    """

    estimate: float | None
    low: float | None
    high: float | None
    error: float | None
    p_value: float | None
    days: int
    seeds: tuple[int, int]
    paired_seeds: bool
    knows_training: bool
    method: str
    days_error: float | None = None
    seeds_error: float | None = None
    p_value_holm: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half of the interval."""
        return None if self.high is None or self.estimate is None else self.high - self.estimate


@dataclass(frozen=True)
class Comparison:
    """One configuration less another.

    Attributes:
        first, second: names; the second is the baseline.
        differences: of their settings.
        tests: by unit; empty where they could not be paired.
        left_out: seeds of either side that are in no pair.
        notes: what is to be known of it.
    """

    first: str
    second: str
    differences: Differences
    tests: Mapping[str, Estimate]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def compared(first: Configuration, second: Configuration, *, common_days: bool = False) -> Comparison:
    """The difference of two configurations: first less second.

    Args:
        first, second: the configurations.
        common_days: pair them on the days that both have, also where panels, days or labels differ.

    Raises:
        UseError: other test days, panels or labels, told which; or too few common days.
    """
    differ = differences(
        second.tier, first.tier, names=(second.name, first.name), data=(second.runs[0].panel, first.runs[0].panel)
    )
    notes = [
        f"{name} is a baseline's run: its model is none of a tier's settings" for name in _baselines(first, second)
    ]
    if not (first.evaluated and second.evaluated):
        return Comparison(first.name, second.name, differ, {}, (), (*notes, *_unevaluated(first, second)))
    notes += _check(first, second, common_days)
    one, two, left_out = _seeds(first, second)
    tests = {name: _tested(unit, one, two) for name, unit in UNITS.items()}
    return Comparison(first.name, second.name, differ, tests, left_out, tuple(notes))


def _baselines(*sides: Configuration) -> list[str]:
    return [side.name for side in sides if side.runs[0].baseline]


def _unevaluated(*sides: Configuration) -> Iterator[str]:
    for side in sides:
        if not side.evaluated:
            yield f"{side.name} has no evaluated run, so that no test figures are compared"


def _check(first: Configuration, second: Configuration, common_days: bool) -> list[str]:
    """What differs in what is measured, where that is allowed.

    Raises:
        UseError: it is not.
    """
    one, two = first.evaluated[0], second.evaluated[0]
    labels = _labels(one.tier.label, two.tier.label)
    if labels and not common_days:
        raise UseError(
            f"{one.name} and {two.name} earn other returns: {'; '.join(labels)}. "
            "Mend: runs of one label, or --common-days to pair the days all the same."
        )
    held = [run.result.model_copy(update={"run": run.name}) for run in (one, two) if run.result]
    check_comparable(held[0], held[1], common_days=common_days)
    notes = [f"their labels differ ({'; '.join(labels)}): a day of the one is another return"] if labels else []
    try:
        check_comparable(held[0], held[1])
    except UseError as error:
        notes.append(str(error).split(" Mend: ")[0].rstrip("."))
    if one.tier.label.cost_bps != two.tier.label.cost_bps:
        costs = f"{two.tier.label.cost_bps:g} and {one.tier.label.cost_bps:g} basis points"
        notes.append(f"what is after costs is not comparable: they pay {costs}")
    return notes


def _labels(one: Label, two: Label) -> list[str]:
    pairs = {name: (getattr(one, name), getattr(two, name)) for name in RETURN_FIELDS}
    pairs["own"] = (bool(one.own), bool(two.own))
    return [f"label.{name} is {mine} and {its}" for name, (mine, its) in pairs.items() if mine != its]


def _seeds(first: Configuration, second: Configuration) -> tuple[list[Ran], list[Ran], tuple[str, ...]]:
    """Runs of both sides: the seeds that both have where these are enough, else all; and those left out."""
    mine, its = ({run.seed: run for run in side.evaluated} for side in (first, second))
    common = sorted(mine.keys() & its.keys())
    if len(common) < LEAST_PAIRED_SEEDS:
        return list(mine.values()), list(its.values()), ()
    alone = [run.name for side in (mine, its) for seed, run in side.items() if seed not in common]
    return [mine[seed] for seed in common], [its[seed] for seed in common], tuple(alone)


def series_of(run: Ran) -> Series:
    """The daily series of an evaluated run."""
    assert run.result is not None
    assert run.result.test.series is not None
    return run.result.test.series


def on_common_days(unit: Unit, runs: Sequence[Ran]) -> tuple[list[dt.date], metrics.Floats]:
    """The days that all runs have a value of, in order, and ``[runs, days]`` the values."""
    held = [dict(zip(series_of(run).dates, getattr(series_of(run), unit.field), strict=True)) for run in runs]
    shared = set[dt.date].intersection(*(({day for day, value in own.items() if value is not None}) for own in held))
    days = [day for day in held[0] if day in shared]
    return days, np.array([[own[day] for day in days] for own in held], dtype=np.float64)


def _tested(unit: Unit, one: Sequence[Ran], two: Sequence[Ran]) -> Estimate:
    """The difference of a statistic, with both chances as far as they are known."""
    _, values = on_common_days(unit, [*one, *two])
    mine, its = values[: len(one)], values[len(one) :]
    result = one[0].result
    assert result is not None
    horizon = result.test.horizon
    if len(one) == len(two) == 1:
        test: Callable[..., Paired] = sharpe_difference if unit.ratio else mean_difference
        return _of_paired(test(mine[0], its[0], horizon=horizon).scaled(unit.scale(horizon)))
    if values.shape[1] < metrics.LEAST_OBSERVATIONS or values.std(axis=1).min() <= metrics.SMALLEST_STD:
        return nothing(values.shape[1], (len(one), len(two)))
    mine_seen, its_seen = seen(unit, mine, horizon), seen(unit, its, horizon)
    same = [run.seed for run in one] == [run.seed for run in two] and len(one) >= LEAST_PAIRED_SEEDS
    if same:
        return told(over_seeds(mine_seen.less(its_seen), horizon), paired_seeds=True)
    return told(between(mine_seen, its_seen, horizon))


def seen(unit: Unit, values: metrics.Floats, horizon: int) -> Seen:
    """``[seeds, days]`` daily values as one statistic of each seed, in the unit that is told."""
    scale = unit.scale(horizon)
    return Seen(
        np.array([unit.statistic(row) for row in values]) * scale,
        np.array([unit.influence(row) for row in values]) * scale,
    )


def _of_paired(found: Paired) -> Estimate:
    return _estimate(
        found.bootstrap, found.p_value, found.days, (1, 1), days_error=_null(found.bootstrap.standard_error)
    )


def told(found: OverSeeds, *, paired_seeds: bool = False) -> Estimate:
    """An estimate over seeds as it is told; of pairs, the seeds of both sides are as many."""
    seeds = (found.seeds[0], found.seeds[0]) if paired_seeds else found.seeds
    return _estimate(
        found.interval, found.p_value, found.days, seeds, paired_seeds=paired_seeds,
        knows_training=found.knows_training, days_error=_null(found.days_error), seeds_error=_null(found.seeds_error),
    )  # fmt: skip


def _estimate(interval: metrics.Interval, p_value: float, days: int, seeds: tuple[int, int], **more: Any) -> Estimate:
    return Estimate(
        estimate=_null(interval.estimate), low=_null(interval.low), high=_null(interval.high),
        error=_null(interval.standard_error), p_value=_null(p_value), days=days, seeds=seeds, method=interval.method,
        **{"paired_seeds": False, "knows_training": False, **more},
    )  # fmt: skip


def nothing(days: int, seeds: tuple[int, int]) -> Estimate:
    """Of series that allow no estimate."""
    return Estimate(
        None, None, None, None, None, days, seeds, False, False,
        f"none: {days} common days, or returns that do not vary",
    )  # fmt: skip


def _null(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same with p-values corrected for their number (Holm), unit by unit."""
    found = [dict(each.tests) for each in comparisons]
    for name in UNITS:
        held = [tests for tests in found if name in tests]
        raw = [tests[name].p_value for tests in held]
        for tests, adjusted in zip(held, holm(np.array([math.nan if p is None else p for p in raw]))):
            tests[name] = replace(tests[name], p_value_holm=_null(float(adjusted)))
    return [replace(each, tests=tests) for each, tests in zip(comparisons, found)]


def pairs(configurations: Sequence[Configuration], *, common_days: bool) -> list[Comparison]:
    """Every two configurations, later less earlier, corrected for their number."""
    return corrected(
        [compared(second, first, common_days=common_days) for first, second in combinations(configurations, 2)]
    )


def against(configurations: Sequence[Configuration], baseline: Configuration, *, common_days: bool) -> list[Comparison]:
    """Every configuration less the baseline, corrected for their number."""
    others = [each for each in configurations if each is not baseline]
    return corrected([compared(each, baseline, common_days=common_days) for each in others])
