"""How long a test, and how many seeds, it takes to see a difference of a stated size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

LEVEL = 0.05
"""Two-sided level of the tests that are planned."""
POWER = 0.8
"""Chance to see a difference that is there."""


@dataclass(frozen=True)
class Noise:
    """What blurs an estimated Sharpe ratio, mean IC, or difference of two.

    The variance over ``days`` test days and ``seeds`` seeds of each configuration is
    ``per_day / days + seeds_variance / seeds``. The first part is the same for all seeds, which share the test days;
    what of it differs between seeds is counted in both parts, so that plans are rather too long than too short.

    Attributes:
        per_day: long-run variance: the square of the standard error, times the days it was found on. It holds the
            autocorrelation of the days, and of a difference the correlation of the two series.
        seeds_variance: of the estimate over seeds on the same days; of a difference, the sum of both sides'. 0 where
            chance in training is left out of account.
    """

    per_day: float
    seeds_variance: float = 0.0

    @classmethod
    def of(cls, standard_error: float, days: int, seeds_variance: float = 0.0) -> Noise:
        """The noise of an estimate with this standard error over so many days."""
        return cls(standard_error**2 * days, seeds_variance)

    @classmethod
    def of_difference(cls, first: Noise, second: Noise, correlation: float) -> Noise:
        """The noise of a difference of two estimates whose errors have this correlation.

        Raises:
            ValueError: a correlation outside -1 to 1.
        """
        if not -1 <= correlation <= 1:
            raise ValueError(f"correlation = {correlation} must be from -1 to 1")
        shared = 2 * correlation * math.sqrt(first.per_day * second.per_day)
        return cls(
            max(first.per_day + second.per_day - shared, 0.0), first.seeds_variance + second.seeds_variance
        )

    def scaled(self, factor: float) -> Noise:
        """The same in a unit ``factor`` times as small, such as days made years."""
        return Noise(self.per_day * factor**2, self.seeds_variance * factor**2)

    def error(self, days: float, seeds: float = 1) -> float:
        """Standard error over ``days`` test days and the mean of ``seeds`` seeds."""
        return math.sqrt(self.per_day / days + self.seeds_variance / seeds)


def power_of(difference: float, noise: Noise, days: float, seeds: float = 1, *, level: float = LEVEL) -> float:
    """Chance that a two-sided normal test at ``level`` sees ``difference`` on the right side.

    Args:
        difference: true value, in the unit of the noise.
        noise: of the estimate.
        days: test days.
        seeds: seeds of each configuration, whose mean is taken.
        level: of the test.

    Source: the power of a z-test; Lo (2002) for the error of a Sharpe ratio.
    """
    _check(difference, level, POWER)
    error = noise.error(days, seeds)
    return float(stats.norm.sf(stats.norm.isf(level / 2) - abs(difference) / error)) if error > 0 else 1.0


def days_needed(
    difference: float, noise: Noise, seeds: float = 1, *, level: float = LEVEL, power: float = POWER
) -> float:
    """Test days after which ``difference`` is seen with ``power``, as a fraction.

    Arguments as for :func:`power_of`.

    Returns:
        Infinite where the spread over seeds alone hides it: more seeds are needed then, not more days.

    Raises:
        ValueError: a difference of 0, or a level or power outside 0 to 1.
    """
    _check(difference, level, power)
    left = _variance_allowed(difference, level, power) - noise.seeds_variance / seeds
    return noise.per_day / left if left > 0 else math.inf


def seeds_needed(
    difference: float, noise: Noise, days: float, *, level: float = LEVEL, power: float = POWER
) -> float:
    """Seeds of each configuration after which ``difference`` is seen on ``days`` days, as a fraction; at least 1.

    Arguments and errors as for :func:`days_needed`.

    Returns:
        Infinite where the days alone hide it: more days are needed then, not more seeds.
    """
    _check(difference, level, power)
    left = _variance_allowed(difference, level, power) - noise.per_day / days
    return max(1.0, noise.seeds_variance / left) if left > 0 else math.inf


def least_difference(
    noise: Noise, days: float, seeds: float = 1, *, level: float = LEVEL, power: float = POWER
) -> float:
    """The smallest difference that ``days`` days and ``seeds`` seeds show with ``power``."""
    _check(1.0, level, power)
    return float(stats.norm.isf(level / 2) + stats.norm.ppf(power)) * noise.error(days, seeds)


def _variance_allowed(difference: float, level: float, power: float) -> float:
    return float((difference / (stats.norm.isf(level / 2) + stats.norm.ppf(power))) ** 2)


def _check(difference: float, level: float, power: float) -> None:
    if not (math.isfinite(difference) and difference != 0):
        raise ValueError(f"difference = {difference} must be a number other than 0")
    if not (0 < level < 1 and level / 2 < power < 1):
        raise ValueError(f"level = {level} and power = {power} must be between 0 and 1, the power above level / 2")
