"""A statistic that several seeds of one configuration have reached on the same days: its mean, and the mean's error.

Two chances blur it, and both are in the interval. Chance in the days is shared by all seeds, since they are tested on
the same ones: seeds times days are no independent observations. Chance in training makes one seed a better model than
another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from atft.evaluate.metrics import LEAST_OBSERVATIONS, SMALLEST_STD, Floats, Interval, robust_error
from atft.evaluate.power import Noise


@dataclass(frozen=True)
class Seen:
    """One statistic of several seeds on the same days.

    Attributes:
        values: ``[seeds]``, in the unit that is told.
        influences: ``[seeds, days]``, what each day adds to a value's error, in the same unit; each row averages to 0.
    """

    values: Floats
    influences: Floats

    @property
    def seeds(self) -> int:
        """How many there are."""
        return int(self.values.size)

    def less(self, other: Seen) -> Seen:
        """Seed by seed less the same seeds of another configuration, on the same days."""
        return Seen(self.values - other.values, self.influences - other.influences)


@dataclass(frozen=True)
class OverSeeds:
    """A mean over seeds, or the difference of two, with its 95 % interval; NaN where it cannot be given.

    Attributes:
        interval: the estimate, its standard error from both chances, and how that was found.
        p_value: two-sided, of 0.
        days: that the seeds share.
        seeds: of the one side, and of the other; the second is 0 where there is one side only.
        days_error: standard error from the days alone, of these very models.
        seeds_error: standard error from the spread over seeds alone; NaN where a side has a single seed.
        freedom: degrees of freedom of the t distribution that the interval is taken from.
    """

    interval: Interval
    p_value: float
    days: int
    seeds: tuple[int, int]
    days_error: float
    seeds_error: float
    freedom: float

    @property
    def half_width(self) -> float:
        """Half of the interval."""
        return self.interval.high - self.interval.estimate

    @property
    def knows_training(self) -> bool:
        """Whether chance in training is in the interval: not where a side has a single seed."""
        return min(each for each in self.seeds if each) > 1


def over_seeds(seen: Seen, horizon: int = 1) -> OverSeeds:
    """The mean over seeds; of differences seed by seed, the difference of two configurations that share their seeds.

    The variance of the mean over ``S`` seeds and ``T`` days is ``shared/T + (own/T + training)/S``
    (:class:`~atft.evaluate.power.Noise`). The long-run (HAC) variance of the seeds' mean influence is that of
    ``shared/T + own/(T·S)``; that of single seeds tells ``own`` apart; the variance over seeds is that of
    ``own/T + training``. So the error is never less than that of the days alone. The interval is Student's with the
    degrees of freedom of the sum.

    Args:
        seen: on the days that all seeds have.
        horizon: days that each value of the series spans.

    Source: Satterthwaite (1946) for the degrees of freedom; Lo (2002) for the influence of a day on a Sharpe ratio.
    """
    days = seen.influences.shape[1]
    whole, method = _error(seen.influences.mean(axis=0), horizon)
    part = _part(seen, whole, horizon)
    noise = Noise.over_seeds(part.per_day, days, part.variance, part.alike)
    error = whole if seen.seeds == 1 else noise.error(days, seen.seeds)
    freedom = _freedom(error, [part])
    return _found(float(seen.values.mean()), error, freedom, whole, [part], days, (seen.seeds, 0), method)


def between(first: Seen, second: Seen, horizon: int = 1) -> OverSeeds:
    """The difference of two configurations' means whose seeds are not the same: first less second.

    As :func:`over_seeds`, with a spread over seeds of each side by itself (Welch's test). A side with a single seed
    adds nothing to the error but its days.

    Args:
        first, second: on the same days.
        horizon: days that each value of the series spans.
    """
    days = first.influences.shape[1]
    whole, method = _error(first.influences.mean(axis=0) - second.influences.mean(axis=0), horizon)
    parts = [_part(each, _error(each.influences.mean(axis=0), horizon)[0], horizon) for each in (first, second)]
    several = [part for part in parts if part.seeds > 1]
    shared = max(whole**2 - sum(part.own / part.seeds for part in several), 0.0)
    error = max(whole, math.sqrt(shared + sum(part.variance / part.seeds for part in several)))
    freedom = _freedom(error, parts)
    estimate = float(first.values.mean() - second.values.mean())
    return _found(estimate, error, freedom, whole, parts, days, (first.seeds, second.seeds), method)


def with_stated_error(values: Floats, days_error: float, days: int) -> OverSeeds:
    """The mean over seeds of a statistic without a daily series: the stated error of the days counts as shared by all.

    Args:
        values: ``[seeds]``.
        days_error: standard error that the days give one seed's value.
        days: that there are.
    """
    count = values.size
    variance = float(np.var(values, ddof=1)) if count > 1 else 0.0
    part = _Part(count, variance, 0.0, days_error**2 * days, 1.0)
    error = math.sqrt(days_error**2 + variance / count)
    freedom = _freedom(error, [part])
    return _found(float(values.mean()), error, freedom, days_error, [part], days, (count, 0), "as each run states it")


@dataclass(frozen=True)
class _Part:
    """One side: variance over seeds, and of it the share that the days of this test make."""

    seeds: int
    variance: float
    own: float
    per_day: float
    alike: float


def _part(seen: Seen, whole: float, horizon: int) -> _Part:
    """What is known of the seeds of one side; ``whole`` is the error that the days give their mean."""
    days, count = seen.influences.shape[1], seen.seeds
    single = float(np.mean([_error(each, horizon)[0] ** 2 for each in seen.influences]))
    if count == 1:
        return _Part(1, 0.0, 0.0, single * days, 1.0)
    own = min(max((single - whole**2) * count / (count - 1), 0.0), single)
    alike = 1 - own / single if single > 0 else 1.0
    return _Part(count, float(np.var(seen.values, ddof=1)), own, single * days, alike)


def _error(influence: Floats, horizon: int) -> tuple[float, str]:
    if influence.size < LEAST_OBSERVATIONS:
        return math.nan, f"none: {influence.size} days"
    if not influence.std() > SMALLEST_STD:
        return 0.0, "the days make no difference"
    return robust_error(influence, horizon)


def _freedom(error: float, parts: list[_Part]) -> float:
    """Satterthwaite's degrees of freedom of the sum of what days and seeds give; the days' error counts as known."""
    below = sum((part.variance / part.seeds) ** 2 / (part.seeds - 1) for part in parts if part.seeds > 1)
    return error**4 / below if below > 0 else math.inf


def _found(
    estimate: float, error: float, freedom: float, days_error: float, parts: list[_Part], days: int,
    seeds: tuple[int, int], method: str,
) -> OverSeeds:  # fmt: skip
    wide, p = math.nan, math.nan
    if error > 0:
        wide = float(stats.t.ppf(0.975, freedom)) * error
        p = float(2 * stats.t.sf(abs(estimate) / error, freedom))
    elif error == 0:
        wide, p = 0.0, 1.0 if estimate == 0 else 0.0
    several = [part for part in parts if part.seeds > 1]
    spread = math.sqrt(sum(part.variance / part.seeds for part in several)) if len(several) == len(parts) else math.nan
    words = f"days: {method}; seeds: {'their spread' if several else 'none to know their spread by'}"
    if several:
        words += f"; t with {freedom:.1f} degrees of freedom"
    return OverSeeds(
        Interval(estimate, error, estimate - wide, estimate + wide, words), p, days, seeds, days_error, spread, freedom
    )
