"""Block bootstraps of daily series: how long a block, which days, and what a statistic comes to on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atft.evaluate.metrics import (
    LEAST_OBSERVATIONS,
    SMALLEST_STD,
    Floats,
    Interval,
    overlap_error,
    sharpe,
    sharpe_influence,
)

Indices = npt.NDArray[np.int64]
Draw = Callable[[int], Indices]
"""Of a number of resamples, ``[resamples, days]`` numbers of the days that each is made of."""

REPEATS = 4999
"""Resamples: with them, the p-value of an observed statistic is a multiple of 1/5000."""
ENTRIES_AT_ONCE = 2**21
"""Days of all resamples that are drawn together."""
OVERLAP_LENGTHS = 3
"""Horizons that a block of overlapping returns holds at least: shorter ones cut most of the overlap."""
SIGNIFICANT = 2.0
"""Multiple of ``√(log10 T / T)`` beyond which an autocorrelation counts, as Politis and White (2004) advise."""


@dataclass(frozen=True)
class BlockLengths:
    """Automatic block lengths, in days: the mean one of the stationary, the fixed one of the circular bootstrap."""

    stationary: float
    circular: float


def optimal_block_lengths(values: Floats) -> BlockLengths:
    """Block lengths that make the bootstrap variance of a mean as accurate as it can be.

    Args:
        values: ``[days]``, finite, in time order.

    Raises:
        ValueError: fewer than ``LEAST_OBSERVATIONS`` days, or a constant series.

    Source: Politis and White (2004), with the correction of Patton, Politis and White (2009); where an autocorrelation
    ends is found as in the authors' own program.
    """
    count, centred = values.size, values - values.mean()
    if count < LEAST_OBSERVATIONS or not centred.std() > SMALLEST_STD * np.abs(values).max():
        raise ValueError(f"a block length needs {LEAST_OBSERVATIONS} days that vary, got {count}")
    covariance, most = _autocovariances(centred), _last_lag(centred)
    lags = np.arange(1, most + 1)
    window = np.minimum(1.0, 2 * (1 - lags / most))
    spectrum = covariance[0] + 2 * float(window @ covariance[lags])
    slope = 2 * float((window * lags) @ covariance[lags])
    longest = float(np.ceil(min(3 * np.sqrt(count), count / 3)))
    stationary, circular = (
        min((2 * slope**2 * count / (factor * spectrum**2)) ** (1 / 3), longest) for factor in (2, 4 / 3)
    )
    return BlockLengths(stationary, circular)


def _reach(count: int) -> tuple[int, int]:
    """How many autocorrelations in a row have to vanish, and the largest lag that is looked at."""
    run = max(5, int(np.log10(count)))
    return run, min(int(np.ceil(np.sqrt(count))) + run, count - 2)


def _autocovariances(centred: Floats) -> Floats:
    count = centred.size
    _, most = _reach(count)
    return np.array([centred[lag:] @ centred[: count - lag] / count for lag in range(most + 1)])


def _last_lag(centred: Floats) -> int:
    """Twice the first of a run of lags whose autocorrelations all vanish; the largest lag where there is no run."""
    count = centred.size
    run, most = _reach(count)
    small = np.zeros(most + 1, dtype=np.bool_)
    for lag in range(1, most + 1):
        later, earlier = centred[lag + 1 :], centred[: count - lag - 1]
        norm = np.sqrt((later @ later) * (earlier @ earlier))
        small[lag] = abs(centred[lag:] @ centred[: count - lag]) < SIGNIFICANT * np.sqrt(np.log10(count) / count) * norm
    first = next((lag for lag in range(1, most - run + 1) if small[lag : lag + run].all()), most)
    return max(1, min(2 * first, most))


def stationary_indices(count: int, length: float, repeats: int, random: np.random.Generator) -> Indices:
    """Days of resamples of blocks of random, geometrically distributed lengths, wrapped around the end.

    Args:
        count: days of the series.
        length: mean length of a block in days, at least 1.
        repeats: resamples.
        random: where chance comes from.

    Returns:
        ``[repeats, count]`` day numbers.

    Source: Politis and Romano (1994).
    """
    if length < 1:
        raise ValueError(f"length = {length} must be at least 1 day")
    days = np.arange(count)
    begins = random.random((repeats, count)) < 1 / length
    begins[:, 0] = True
    since = np.maximum.accumulate(np.where(begins, days, 0), axis=1)
    starts = random.integers(0, count, (repeats, count))
    indices: Indices = (np.take_along_axis(starts, since, axis=1) + days - since) % count
    return indices


def circular_indices(count: int, length: int, repeats: int, random: np.random.Generator) -> Indices:
    """Days of resamples of blocks of ``length`` days, wrapped around the end; the last block is cut off.

    Arguments and result as for :func:`stationary_indices`.

    Source: Politis and Romano (1992).
    """
    if not 1 <= length <= count:
        raise ValueError(f"length = {length} must be from 1 to {count} days")
    starts = random.integers(0, count, (repeats, -(-count // length)))
    whole = (starts[..., None] + np.arange(length)) % count
    indices: Indices = whole.reshape(repeats, -1)[:, :count]
    return indices


def in_pieces(draw: Draw, repeats: int, count: int) -> Iterator[Indices]:
    """The resamples a piece at a time, so that memory does not grow with them."""
    piece = max(1, ENTRIES_AT_ONCE // count)
    for first in range(0, repeats, piece):
        yield draw(min(piece, repeats - first))


def sharpes_of(daily: Floats, indices: Indices) -> Floats:
    """Sharpe ratios of resamples.

    Args:
        daily: ``[days]``, or ``[days, strategies]`` that are resampled together.
        indices: ``[resamples, days]``.

    Returns:
        ``[resamples]`` or ``[resamples, strategies]``; NaN where a resample does not vary.
    """
    drawn = daily[indices]
    deviation = drawn.std(axis=1)
    ratios: Floats = np.divide(
        drawn.mean(axis=1), deviation, out=np.full(deviation.shape, np.nan), where=deviation > SMALLEST_STD
    )
    return ratios


def block_length(influence: Floats, horizon: int) -> BlockLengths:
    """The automatic lengths, at least a day or ``OVERLAP_LENGTHS`` horizons, at most an eighth of the days."""
    found, most = optimal_block_lengths(influence), max(1.0, influence.size / 8)
    least = float(min(OVERLAP_LENGTHS * horizon if horizon > 1 else 1, most))
    return BlockLengths(*(float(np.clip(each, least, most)) for each in (found.stationary, found.circular)))


def widening(influence: Floats, horizon: int, length: float, deviation: float) -> float:
    """What deviations of a stationary bootstrap have to be multiplied by, at least 1.

    Args:
        influence: ``[days]``, what each day adds to the statistic's error.
        horizon: days that each return spans.
        length: mean length of a block in days.
        deviation: standard deviation over the resamples.

    Returns:
        ``√(T / (T - (2L - 1)))``, or more where the error would be less than that of every ``horizon``-th day.
    """
    days = influence.size
    centred = float(np.sqrt(days / max(days - (2 * length - 1), 1)))
    return max(centred, overlap_error(influence, horizon) / deviation)


def bootstrap_sharpe_interval(
    daily: Floats, *, horizon: int = 1, length: float | None = None, repeats: int = REPEATS, seed: int = 0
) -> Interval:
    """Sharpe ratio with the 2.5 % and 97.5 % quantiles of a stationary block bootstrap.

    The block length is the automatic one of the series of what each day adds to the ratio's error
    (:func:`~atft.evaluate.metrics.sharpe_influence`), whose mean the ratio behaves like. Deviations are widened by
    ``√(T / (T - (2L - 1)))``, L the mean length: resamples are centred at the sample's own mean, which hides a part of
    the variance, the same that ``T / (T - 1 - lags)`` restores in a Newey–West error. Where returns overlap, the error
    is at least that of every ``horizon``-th day.

    Args:
        daily: ``[days]`` returns in time order; NaN days do not count.
        horizon: days that each return spans; blocks are no shorter on average.
        length: mean length of a block; automatic where None.
        repeats: resamples.
        seed: of the resamples.

    Returns:
        The ratio per entry of ``daily``; all bounds NaN for fewer than ``LEAST_OBSERVATIONS`` days, a constant series,
        or one that does not vary in some resample.
    """
    kept, nothing = daily[np.isfinite(daily)], float("nan")
    ratio = sharpe(kept)
    if kept.size < LEAST_OBSERVATIONS or np.isnan(ratio):
        return Interval(ratio, nothing, nothing, nothing, f"none: {kept.size} days, or returns that do not vary")
    influence = sharpe_influence(kept)
    mean_length = length or block_length(influence, horizon).stationary
    random = np.random.default_rng(seed)
    pieces = in_pieces(lambda some: stationary_indices(kept.size, mean_length, some, random), repeats, kept.size)
    found = np.concatenate([sharpes_of(kept, indices) for indices in pieces])
    method = f"stationary block bootstrap, {repeats:,} resamples, blocks of {mean_length:.1f} days on average"
    if np.isnan(found).any():
        return Interval(ratio, nothing, nothing, nothing, f"none: returns do not vary in some resamples of a {method}")
    deviation = float(found.std(ddof=1))
    wider = widening(influence, horizon, mean_length, deviation)
    low, high = ratio + wider * (np.quantile(found, [0.025, 0.975]) - ratio)
    return Interval(ratio, wider * deviation, float(low), float(high), method)
