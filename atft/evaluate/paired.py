"""Two series of the same days: is one's Sharpe ratio, or mean, really larger?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import stats

from atft.evaluate.metrics import (
    LEAST_OBSERVATIONS,
    SMALLEST_STD,
    Z95,
    Floats,
    Interval,
    robust_error,
    sharpe,
    sharpe_influence,
)
from atft.evaluate.resampling import REPEATS, Indices, block_length, circular_indices, in_pieces


@dataclass(frozen=True)
class Paired:
    """The difference of a statistic of two series, first minus second.

    Attributes:
        days: days that both have.
        correlation: of the two series.
        hac: the difference with its asymptotic interval.
        p_value_hac: two-sided, of no difference.
        bootstrap: the difference with the interval of the studentised bootstrap, which holds its level better.
        p_value: two-sided, by the bootstrap.
        block_days: length of a block of the bootstrap.
        per_day: long-run variance of the difference times the days: what a day more or less is worth.
    """

    days: int
    correlation: float
    hac: Interval
    p_value_hac: float
    bootstrap: Interval
    p_value: float
    block_days: int
    per_day: float

    def scaled(self, factor: float) -> Paired:
        """The same in a unit ``factor`` times as small, such as days made years."""
        return Paired(
            self.days, self.correlation, self.hac.scaled(factor), self.p_value_hac, self.bootstrap.scaled(factor),
            self.p_value, self.block_days, self.per_day * factor**2,
        )  # fmt: skip


def sharpe_difference(
    first: Floats, second: Floats, *, horizon: int = 1, block_days: int | None = None, repeats: int = REPEATS,
    seed: int = 0,
) -> Paired:  # fmt: skip
    """Whether two Sharpe ratios on the same days differ.

    Asymptotically: the delta method, with a HAC (Newey–West) long-run variance of what each day adds to the error of
    the difference. By bootstrap: circular blocks, the same days of both series, each resample's difference over its own
    error, which the sums over its blocks give; ``p = (1 + #{d* ≥ d}) / (1 + repeats)``.

    Args:
        first: ``[days]`` returns in time order.
        second: ``[days]`` returns of the same days. A day that is NaN in either does not count.
        horizon: days that each return spans; above 1 they overlap.
        block_days: of the bootstrap; the automatic circular length where None.
        repeats: resamples.
        seed: of the resamples.

    Returns:
        Ratios per entry; NaN where either ratio is undefined, or with fewer than ``LEAST_OBSERVATIONS`` days.

    Raises:
        ValueError: the series differ in length.

    Source: Ledoit and Wolf (2008), sections 3.1 and 3.2.
    """
    return _compared(first, second, sharpe, sharpe_influence, _sharpe_parts, horizon, block_days, repeats, seed)


def mean_difference(
    first: Floats, second: Floats, *, horizon: int = 1, block_days: int | None = None, repeats: int = REPEATS,
    seed: int = 0,
) -> Paired:  # fmt: skip
    """Whether two means on the same days differ, such as those of information coefficients.

    Arguments, result, errors and method as for :func:`sharpe_difference`.
    """
    return _compared(
        first, second, lambda x: float(x.mean()), lambda x: x - x.mean(), _mean_parts, horizon, block_days, repeats,
        seed,
    )  # fmt: skip


Statistic = Callable[[Floats], float]
Influence = Callable[[Floats], Floats]
Parts = Callable[[Floats], tuple[Floats, Floats]]
"""Of resamples ``[resamples, days]``, the statistic ``[resamples]`` and its influence ``[resamples, days]``."""


def _compared(
    first: Floats, second: Floats, statistic: Statistic, influence: Influence, parts: Parts, horizon: int,
    block_days: int | None, repeats: int, seed: int,
) -> Paired:  # fmt: skip
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"two series of the same days are compared, got {first.shape} and {second.shape}")
    both = np.isfinite(first) & np.isfinite(second)
    x, y = first[both], second[both]
    varies = x.size >= LEAST_OBSERVATIONS and min(x.std(), y.std()) > SMALLEST_STD
    if not varies or (x == y).all():
        return _nothing(x, y, statistic, varies)
    found, error_of_days = statistic(x) - statistic(y), influence(x) - influence(y)
    error, method = robust_error(error_of_days, horizon)
    if not error_of_days.std() > SMALLEST_STD or not error > 0:
        return _nothing(x, y, statistic, varies)
    length = block_days or max(1, round(block_length(error_of_days, horizon).circular))
    random = np.random.default_rng(seed)
    pieces = in_pieces(partial(_circular, x.size, length, random), repeats, x.size)
    larger = np.concatenate([_studentised(x, y, found, indices, length, parts) for indices in pieces])
    t = found / error
    wide = float(np.quantile(larger, 0.95)) * error
    words = f"Ledoit and Wolf (2008), studentised circular block bootstrap, {repeats:,} resamples, blocks of {length}"
    return Paired(
        days=x.size,
        correlation=float(np.corrcoef(x, y)[0, 1]),
        hac=Interval(found, error, found - Z95 * error, found + Z95 * error, f"Ledoit and Wolf (2008); {method}"),
        p_value_hac=float(2 * stats.norm.sf(abs(t))),
        bootstrap=Interval(found, error, found - wide, found + wide, words),
        p_value=float((1 + (larger >= abs(t)).sum()) / (1 + repeats)),
        block_days=length,
        per_day=error**2 * x.size,
    )


def _circular(count: int, length: int, random: np.random.Generator, repeats: int) -> Indices:
    return circular_indices(count, length, repeats, random)


def _nothing(x: Floats, y: Floats, statistic: Statistic, varies: bool) -> Paired:
    """Of series that do not allow a test: too short, constant, or not different at all."""
    nothing = float("nan")
    found = statistic(x) - statistic(y) if varies else nothing
    why = "none: the series do not differ" if varies else f"none: {x.size} common days, or returns that do not vary"
    interval = Interval(found, nothing, nothing, nothing, why)
    correlation = float(np.corrcoef(x, y)[0, 1]) if varies else nothing
    return Paired(x.size, correlation, interval, nothing, interval, nothing, 0, nothing)


def _studentised(x: Floats, y: Floats, found: float, indices: Indices, length: int, parts: Parts) -> Floats:
    """``|Δ* - Δ| / s(Δ*)`` of each resample; infinite, which counts against a finding, where it does not vary."""
    (one, its), (other, others) = parts(x[indices]), parts(y[indices])
    blocks = x.size // length
    sums = (its - others)[:, : blocks * length].reshape(len(indices), blocks, length).sum(axis=2)
    error = np.sqrt((sums**2).sum(axis=1) / (blocks * length) / x.size)
    moved = np.abs(one - other - found)
    larger: Floats = np.divide(moved, error, out=np.full(len(indices), np.inf), where=np.isfinite(moved) & (error > 0))
    return larger


def _mean_parts(drawn: Floats) -> tuple[Floats, Floats]:
    means = drawn.mean(axis=1)
    return means, drawn - means[:, None]


def _sharpe_parts(drawn: Floats) -> tuple[Floats, Floats]:
    """Sharpe ratios and :func:`~atft.evaluate.metrics.sharpe_influence` of resamples; NaN where one is constant."""
    means, deviations = drawn.mean(axis=1), drawn.std(axis=1)
    deviations = np.where(deviations > SMALLEST_STD, deviations, np.nan)
    standard = (drawn - means[:, None]) / deviations[:, None]
    ratios = means / deviations
    return ratios, standard - ratios[:, None] / 2 * (standard**2 - 1)
