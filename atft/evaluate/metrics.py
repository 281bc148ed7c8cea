"""Statistics of scores and of daily returns, each with its error bar. NaN marks what is undefined, never 0."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SMALLEST_STD = 1e-12
"""A sample whose standard deviation is no more than this does not vary: its ratio is undefined."""
LEAST_OBSERVATIONS = 8
"""Observations below which no interval is given."""
Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided 95 % interval; NaN where it cannot be given.

    Attributes:
        estimate: the statistic itself.
        standard_error: its standard error, in the same unit.
        low: lower bound.
        high: upper bound.
        method: how the standard error was found, in words.
    """

    estimate: float
    standard_error: float
    low: float
    high: float
    method: str

    def scaled(self, factor: float) -> Interval:
        """The same interval in a unit ``factor`` times as small, such as days made years."""
        return Interval(
            self.estimate * factor, self.standard_error * factor, self.low * factor, self.high * factor, self.method
        )


def check_shapes(**arrays: npt.NDArray[Any]) -> None:
    """Raise ValueError unless all arrays are two-dimensional and of one shape."""
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 2:
        raise ValueError(f"expected [days, stocks] of one shape, got {shapes}")


def check_finite(name: str, values: Floats, valid: Bools) -> None:
    """Raise ValueError where a valid entry of ``values`` is not finite."""
    bad = valid & ~np.isfinite(values)
    if bad.any():
        day = int(np.argmax(bad.any(1)))
        raise ValueError(f"{int(bad.sum())} valid entries of {name} are not finite, the first on row {day}")


def _correlation(left: Floats, right: Floats, valid: Bools) -> Floats:
    """Pearson correlation of each row over its valid entries; NaN where a side does not vary."""
    count = valid.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sides = []
        for values in (left, right):
            kept = np.where(valid, values, 0.0)
            centred = np.where(valid, kept - (kept.sum(1) / count)[:, None], 0.0)
            norm = np.sqrt((centred**2).sum(1))
            largest = np.abs(kept).max(1, initial=0.0)
            sides.append(centred / np.where(norm > SMALLEST_STD * largest, norm, np.nan)[:, None])
        product = np.where(valid, sides[0] * sides[1], 0.0).sum(1)
    defined = (count >= 2) & ~np.isnan(np.where(valid, sides[0] + sides[1], 0.0)).any(1)
    return np.where(defined, np.clip(product, -1.0, 1.0), np.nan)


def information_coefficient(scores: Floats, returns: Floats, valid: Bools) -> Floats:
    """Pearson correlation of scores and returns over each day's cross-section.

    Args:
        scores: ``[days, stocks]``.
        returns: ``[days, stocks]``, simple returns.
        valid: ``[days, stocks]``, True where scored and labelled.

    Returns:
        ``[days]``; NaN on a day of fewer than two valid stocks, of constant scores or of constant returns.

    Raises:
        ValueError: shapes differ, or a valid entry is not finite.
    """
    check_shapes(scores=scores, returns=returns, valid=valid)
    check_finite("scores", scores, valid)
    check_finite("returns", returns, valid)
    return _correlation(scores.astype(np.float64), returns.astype(np.float64), valid)


def ranks(values: Floats, valid: Bools) -> Floats:
    """Rank of each valid entry within its row, from 1, ties sharing their average; NaN elsewhere."""
    from scipy.stats import rankdata  # most of a second to load, and training needs no ranks

    ranked: Floats = rankdata(np.where(valid, values, np.nan), axis=1, nan_policy="omit")
    return ranked


def rank_ic(scores: Floats, returns: Floats, valid: Bools) -> Floats:
    """Spearman correlation of scores and returns over each day's cross-section, ties sharing their average rank.

    Arguments, result and errors as for :func:`information_coefficient`.
    """
    check_shapes(scores=scores, returns=returns, valid=valid)
    check_finite("scores", scores, valid)
    check_finite("returns", returns, valid)
    return _correlation(ranks(scores, valid), ranks(returns, valid), valid)


def mean(values: Floats) -> float:
    """Mean of the finite entries; NaN where there are none."""
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if kept.size else float("nan")


def sharpe(daily: Floats) -> float:
    """Mean over population standard deviation of the finite entries, per entry; NaN where undefined.

    Args:
        daily: ``[days]`` simple returns; NaN days do not count.

    Source: Sharpe (1994); the moments are taken as in Lo (2002), eq. 2.
    """
    kept = daily[np.isfinite(daily)]
    if kept.size < 2:
        return float("nan")
    deviation = float(kept.std())
    return float(kept.mean()) / deviation if deviation > SMALLEST_STD else float("nan")


def icir_interval(ics: Floats, *, horizon: int = 1) -> Interval:
    """The ICIR with its standard error and interval: it is a ratio of the same form as a Sharpe ratio, of coefficients.

    Arguments, result and source as for :func:`sharpe_interval`; of rank coefficients it gives the rank ICIR's.
    """
    return sharpe_interval(ics, horizon=horizon)


def icir(ics: Floats) -> float:
    """Mean over population standard deviation of the days' information coefficients; NaN where undefined."""
    return sharpe(ics)


def newey_west_lags(observations: int, horizon: int = 1) -> int:
    """Lags of the Bartlett kernel: ``floor(4 (T / 100)^(2/9))``, and no fewer than an overlapping horizon.

    Source: Newey and West (1994).
    """
    automatic = int(4 * (observations / 100) ** (2 / 9))
    return min(max(automatic, horizon if horizon > 1 else 0), max(observations - 2, 0))


def mean_standard_error(values: Floats, lags: int) -> float:
    """Newey–West standard error of a mean, with the small-sample factor ``T / (T - 1 - lags)``.

    Args:
        values: ``[observations]``, finite, in time order.
        lags: autocovariances that count, weighted by a Bartlett kernel.

    Source: Newey and West (1987). The factor undoes most of the bias of centring at the sample's mean.
    """
    count = values.size
    if count <= lags + 1:
        return float("nan")
    centred = values - values.mean()
    variance = float(centred @ centred) / count
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / count
    return float(np.sqrt(max(variance, 0.0) / (count - 1 - lags)))


def lo_standard_error(sharpe_daily: float, days: int) -> float:
    """Standard error of a Sharpe ratio of independent, normal returns: ``sqrt((1 + SR² / 2) / T)``.

    Args:
        sharpe_daily: Sharpe ratio per day.
        days: how many days it was taken over.

    Source: Lo (2002), eq. 9.
    """
    return float(np.sqrt((1 + sharpe_daily**2 / 2) / days)) if days > 0 else float("nan")


def sharpe_influence(daily: Floats) -> Floats:
    """What each day adds to the error of the Sharpe ratio: the delta method on (mean, variance).

    With ``g(μ, σ²) = μ / σ``: ``(r - μ) / σ - μ / (2σ³) · ((r - μ)² - σ²)``; it averages to 0, and its long-run
    variance is the asymptotic variance of the ratio.

    Args:
        daily: ``[days]``, finite.

    Source: Lo (2002), eqs. 14-19.
    """
    average, deviation = daily.mean(), daily.std()
    centred = daily - average
    influence: Floats = centred / deviation - average / (2 * deviation**3) * (centred**2 - deviation**2)
    return influence


def overlap_error(values: Floats, horizon: int) -> float:
    """Standard error of a mean of values that overlap wholly, as that of every ``horizon``-th; 0 without overlap."""
    return float(np.sqrt(horizon / max(values.size - horizon, 1))) * float(values.std()) if horizon > 1 else 0.0


def robust_error(values: Floats, horizon: int) -> tuple[float, str]:
    """Newey–West standard error of a mean, for overlapping horizons no less than that of ``T / horizon`` observations.

    A Bartlett kernel weights the autocovariances of overlapping returns down and finds too little; the whole overlap
    makes at most ``horizon`` times the variance of independent ones.

    Returns:
        The error, and in words how it was found.
    """
    lags = newey_west_lags(values.size, horizon)
    error, method = mean_standard_error(values, lags), f"Newey–West, {lags} lags"
    if horizon > 1:
        error = max(error, overlap_error(values, horizon))
        method += f", at least that of every {horizon}th observation"
    return error, method


def _interval(estimate: float, error: float, method: str) -> Interval:
    return Interval(estimate, error, estimate - Z95 * error, estimate + Z95 * error, method)


def sharpe_interval(daily: Floats, *, horizon: int = 1) -> Interval:
    """Sharpe ratio with the standard error of Lo (2002) for returns that may be autocorrelated and not normal.

    Args:
        daily: ``[days]`` returns in time order; NaN days do not count.
        horizon: days that each return spans; above 1 they overlap.

    Returns:
        The ratio per entry of ``daily`` (per holding period) with its interval from the joint asymptotic
        distribution of mean and variance; all NaN for fewer than ``LEAST_OBSERVATIONS`` days or a constant series.
    """
    kept = daily[np.isfinite(daily)]
    ratio = sharpe(kept)
    if kept.size < LEAST_OBSERVATIONS or np.isnan(ratio):
        return _interval(ratio, float("nan"), f"none: {kept.size} days, or returns that do not vary")
    error, method = robust_error(sharpe_influence(kept), horizon)
    return _interval(ratio, error, f"Lo (2002), mean and variance jointly; {method}")


def mean_interval(values: Floats, *, horizon: int = 1) -> Interval:
    """Mean of the finite entries, such as daily information coefficients, with a Newey–West 95 % interval.

    Args:
        values: ``[days]`` in time order; NaN days do not count.
        horizon: days that each label spans; above 1 they overlap.
    """
    kept = values[np.isfinite(values)]
    if kept.size < LEAST_OBSERVATIONS:
        return _interval(mean(kept), float("nan"), f"none: {kept.size} days")
    error, method = robust_error(kept, horizon)
    return _interval(mean(kept), error, method)
