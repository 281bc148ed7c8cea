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
    """What blurs an estimated Sharpe ratio, mean IC, or difference of two, of the mean over seeds.

    Over ``days`` test days and ``seeds`` seeds of each configuration its variance is
    ``shared / days + own / (days · seeds) + training / seeds``.

    Attributes:
        shared: long-run variance of a day that all seeds have in common, since they share the test days: more seeds do
            not take it away. It holds the days' autocorrelation and, of a difference, the correlation of both sides.
        own: long-run variance of a day that each seed has for itself.
        training: variance between seeds that no number of days takes away: some are better models than others. 0 where
            it is left out of account.
    """

    shared: float
    own: float = 0.0
    training: float = 0.0

    @classmethod
    def of(cls, standard_error: float, days: int) -> Noise:
        """Of a single seed whose estimate has this standard error over so many days."""
        return cls(standard_error**2 * days)

    @classmethod
    def over_seeds(cls, per_day: float, days: int, variance: float, correlation: float) -> Noise:
        """Of a configuration that was trained under several seeds.

        Args:
            per_day: long-run variance of one seed's estimate: its squared standard error times the days.
            days: test days that all seeds share.
            variance: of the estimates over seeds.
            correlation: of two seeds' daily series; where it is NaN, all of a day's noise counts as shared and all of
                the variance over seeds as training's, which plans too long rather than too short.
        """
        if math.isnan(correlation):
            return cls(per_day, 0.0, variance)
        alike = min(max(correlation, 0.0), 1.0)
        own = (1 - alike) * per_day
        return cls(alike * per_day, own, max(variance - own / days, 0.0))

    @classmethod
    def of_difference(cls, per_day: float, first: Noise, second: Noise | None = None) -> Noise:
        """Of the difference of two estimates on the same days.

        Args:
            per_day: long-run variance of the difference of one seed of each.
            first, second: of the two sides; None for one that has no seeds, as a baseline.
        """
        sides = [first] if second is None else [first, second]
        own = min(sum(side.own for side in sides), per_day)
        return cls(per_day - own, own, sum(side.training for side in sides))

    @property
    def per_day(self) -> float:
        """Long-run variance of one seed's estimate."""
        return self.shared + self.own

    def error(self, days: float, seeds: float = 1) -> float:
        """Standard error over ``days`` test days and the mean of ``seeds`` seeds."""
        return math.sqrt(self.shared / days + (self.own / days + self.training) / seeds)


def correlated(first: float, second: float, correlation: float) -> float:
    """Long-run variance of a difference of two series that have these, and this correlation.

    Raises:
        ValueError: a correlation outside -1 to 1.
    """
    if not -1 <= correlation <= 1:
        raise ValueError(f"correlation = {correlation} must be from -1 to 1")
    return max(first + second - 2 * correlation * math.sqrt(first * second), 0.0)


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
        Infinite where chance in training alone hides it: more seeds are needed then, not more days.

    Raises:
        ValueError: a difference of 0, or a level or power outside 0 to 1.
    """
    _check(difference, level, power)
    left = _variance_allowed(difference, level, power) - noise.training / seeds
    return (noise.shared + noise.own / seeds) / left if left > 0 else math.inf


def seeds_needed(difference: float, noise: Noise, days: float, *, level: float = LEVEL, power: float = POWER) -> float:
    """Seeds of each configuration after which ``difference`` is seen on ``days`` days, as a fraction; at least 1.

    Arguments and errors as for :func:`days_needed`.

    Returns:
        Infinite where what all seeds share of the days hides it: more days are needed then, not more seeds.
    """
    _check(difference, level, power)
    left = _variance_allowed(difference, level, power) - noise.shared / days
    return max(1.0, (noise.own / days + noise.training) / left) if left > 0 else math.inf


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
