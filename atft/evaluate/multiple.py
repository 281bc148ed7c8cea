"""Many strategies on the same days: what remains of the best one, and of each, after the search among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from atft.evaluate.metrics import LEAST_OBSERVATIONS, SMALLEST_STD, Floats, sharpe_influence
from atft.evaluate.resampling import REPEATS, block_length, in_pieces, sharpes_of, stationary_indices, widening


@dataclass(frozen=True)
class Family:
    """Strategies that were compared with one benchmark on the same days.

    Attributes:
        estimates: ``[strategies]`` differences from the benchmark.
        errors: ``[strategies]`` their standard errors, over the resamples.
        p_values: ``[strategies]`` one-sided, each by itself, as if it had been the only one.
        stepdown: ``[strategies]`` the same after the search: Romano and Wolf's adjusted p-values.
        reality_check: White's p-value that not even the best one exceeds the benchmark.
        superior: Hansen's (SPA, consistent), which strategies of no worth do not blunt.
        block_days: mean length of a block of the resamples.
    """

    estimates: Floats
    errors: Floats
    p_values: Floats
    stepdown: Floats
    reality_check: float
    superior: float
    block_days: float


def holm(p_values: Floats) -> Floats:
    """Adjusted p-values that keep the chance of any false finding below the level, whatever the dependence.

    Args:
        p_values: ``[tests]``; NaN is no test, and stays.

    Raises:
        ValueError: a p-value outside 0 to 1.

    Source: Holm (1979).
    """
    return _adjusted(p_values, _stepped)


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Adjusted p-values that keep the expected share of false findings among all findings below the level.

    Arguments and errors as for :func:`holm`. Tests may be independent or positively dependent.

    Source: Benjamini and Hochberg (1995).
    """
    return _adjusted(p_values, stats.false_discovery_control)


def _adjusted(p_values: Floats, method: Callable[[Floats], Floats]) -> Floats:
    known = np.isfinite(p_values)
    if ((p_values[known] < 0) | (p_values[known] > 1)).any():
        raise ValueError(f"p-values must be from 0 to 1, got {p_values}")
    result = np.full(p_values.shape, np.nan)
    if known.any():
        result[known] = method(p_values[known])
    return result


def _stepped(p_values: Floats) -> Floats:
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(p_values.size, 0, -1)
    result = np.empty_like(p_values)
    result[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return result


def reality_check(estimates: Floats, resampled: Floats) -> float:
    """White's p-value that the largest of some estimates is chance.

    Args:
        estimates: ``[strategies]``, above 0 where better than the benchmark.
        resampled: ``[resamples, strategies]`` of the same.

    Source: White (2000), as the share of resamples whose largest deviation is at least the largest estimate.
    """
    largest = (resampled - estimates).max(axis=1)
    return _share(largest >= estimates.max())


def superior_ability(estimates: Floats, errors: Floats, resampled: Floats, observations: int) -> float:
    """Hansen's consistent p-value that the best of some strategies is no better than the benchmark.

    Strategies that are clearly worse than the benchmark are not centred, so that adding poor ones changes nothing.

    Args:
        estimates, resampled: as for :func:`reality_check`.
        errors: ``[strategies]`` standard errors of the estimates.
        observations: days.

    Source: Hansen (2005): studentised, with the threshold ``-√(2 log log T)``.
    """
    threshold = -np.sqrt(2 * np.log(np.log(observations)))
    centre = np.where(estimates / errors >= threshold, estimates, 0.0)
    largest = np.maximum((resampled - centre) / errors, 0.0).max(axis=1)
    return _share(largest >= max(float((estimates / errors).max()), 0.0))


def stepdown(estimates: Floats, errors: Floats, resampled: Floats) -> Floats:
    """Adjusted one-sided p-values that keep the chance of any false finding below the level, knowing the dependence.

    Args:
        estimates, errors, resampled: as for :func:`superior_ability`.

    Returns:
        ``[strategies]``.

    Source: Romano and Wolf (2005); the p-values as in Romano and Wolf (2016).
    """
    t = estimates / errors
    order = np.argsort(-t, kind="stable")
    moved = ((resampled - estimates) / errors)[:, order]
    left = np.maximum.accumulate(moved[:, ::-1], axis=1)[:, ::-1]  # the largest of each and all that come after it
    found = (1 + (left >= t[order]).sum(axis=0)) / (1 + len(resampled))
    result = np.empty_like(t)
    result[order] = np.maximum.accumulate(found)
    return result


def compared_sharpes(
    daily: Floats, benchmark: Floats | None = None, *, horizon: int = 1, length: float | None = None,
    repeats: int = REPEATS, seed: int = 0,
) -> Family:  # fmt: skip
    """Sharpe ratios of many strategies against that of one benchmark, or against 0, corrected for the search.

    All strategies are resampled together, in the blocks of a stationary bootstrap whose mean length is the longest that
    one of them needs.

    Args:
        daily: ``[days, strategies]`` returns of the same days, finite.
        benchmark: ``[days]`` returns; the comparison is with a ratio of 0 where None.
        horizon: days that each return spans.
        length: mean length of a block; automatic where None.
        repeats: resamples.
        seed: of the resamples.

    Raises:
        ValueError: fewer than ``LEAST_OBSERVATIONS`` days, a series that does not vary, is not finite, or is the
            benchmark itself.
    """
    all_of_them = daily if benchmark is None else np.column_stack([benchmark, daily])
    _check(all_of_them)
    influences = [sharpe_influence(series) for series in all_of_them.T]
    if benchmark is not None:
        influences = [each - influences[0] for each in influences[1:]]
    if min(float(each.std()) for each in influences) <= SMALLEST_STD:
        raise ValueError("a strategy is the benchmark itself")
    mean_length = length or max(block_length(each, horizon).stationary for each in influences)
    days, random = len(daily), np.random.default_rng(seed)
    drawn = in_pieces(lambda some: stationary_indices(days, mean_length, some, random), repeats, days)
    ratios = np.concatenate([sharpes_of(all_of_them, indices) for indices in drawn])
    itself = sharpes_of(all_of_them, np.arange(days)[None])[0]
    if benchmark is not None:
        ratios, itself = ratios[:, 1:] - ratios[:, :1], itself[1:] - itself[0]
    errors = np.nanstd(ratios, axis=0, ddof=1)
    wider = [widening(each, horizon, mean_length, error) for each, error in zip(influences, errors, strict=True)]
    ratios, errors = itself + wider * (ratios - itself), wider * errors
    ratios = np.where(np.isnan(ratios), np.inf, ratios)  # a resample that does not vary counts against a finding
    return Family(
        estimates=itself,
        errors=errors,
        p_values=np.array([_share((each - own) >= own) for each, own in zip(ratios.T, itself, strict=True)]),
        stepdown=stepdown(itself, errors, ratios),
        reality_check=reality_check(itself, ratios),
        superior=superior_ability(itself, errors, ratios, days),
        block_days=mean_length,
    )


def _check(daily: Floats) -> None:
    if daily.ndim != 2 or len(daily) < LEAST_OBSERVATIONS:
        raise ValueError(f"expected [days, strategies] of at least {LEAST_OBSERVATIONS} days, got {daily.shape}")
    if not np.isfinite(daily).all():
        raise ValueError("a return is not finite: take the days that all strategies have")
    if daily.std(axis=0).min() <= SMALLEST_STD:
        raise ValueError(f"series {int(daily.std(axis=0).argmin())} does not vary")


def _share(hits: np.ndarray) -> float:
    return float((1 + hits.sum()) / (1 + hits.size))
