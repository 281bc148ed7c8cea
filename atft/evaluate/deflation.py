"""How likely a Sharpe ratio is real: against chance, against the best of many trials, and after how many days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Deflation:
    """A Sharpe ratio after the search that it was found by; all ratios per day.

    Attributes:
        probability: that the true ratio exceeds ``benchmark``: the deflated Sharpe ratio.
        benchmark: what the best of so many trials of no worth is expected to reach; 0 for fewer than two trials.
        trials: how many there were.
        variance: of the trials' ratios; NaN for fewer than two.
    """

    probability: float
    benchmark: float
    trials: int
    variance: float


def moments_error(ratio: float, days: int, skewness: float, kurtosis: float) -> float:
    """Standard error of a Sharpe ratio of independent returns: ``√((1 - γ₃ SR + (γ₄ - 1)/4 · SR²) / (T - 1))``.

    Args:
        ratio: Sharpe ratio per day.
        days: observations.
        skewness: of the returns, γ₃.
        kurtosis: of the returns, γ₄; 3 for normal ones.

    Returns:
        NaN for fewer than two days.

    Source: Mertens (2002); Bailey and López de Prado (2012), eq. 8.
    """
    if days < 2:
        return float("nan")
    return float(np.sqrt((1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2) / (days - 1)))


def probabilistic_sharpe(ratio: float, error: float, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio exceeds ``benchmark``: ``Φ((SR - SR*) / error)``.

    With :func:`moments_error` this is the published formula, for independent returns. With the error of
    :func:`~atft.evaluate.metrics.sharpe_interval`, which it equals at 0 lags, autocorrelation counts too.

    Args:
        ratio: the estimate, per day.
        error: its standard error, per day.
        benchmark: ratio to be exceeded, per day.

    Returns:
        NaN where the ratio or its error is undefined.

    Source: Bailey and López de Prado (2012), eq. 9.
    """
    if not error > 0:
        return float("nan")
    return float(stats.norm.cdf((ratio - benchmark) / error))


def minimum_track_record(
    ratio: float, error: float, days: int, *, benchmark: float = 0.0, probability: float = 0.95
) -> float:
    """Days after which a Sharpe ratio such as this would be told from ``benchmark``.

    ``1 + error² (T - 1) · (Φ⁻¹(probability) / (SR - SR*))²``: the published formula where ``error`` is
    :func:`moments_error`.

    Args:
        ratio: the estimate, per day.
        error: its standard error over ``days``.
        days: observations that both were found on.
        benchmark: ratio to be exceeded, per day.
        probability: that the probabilistic Sharpe ratio has to reach.

    Returns:
        Days, as a fraction; NaN where the ratio does not exceed the benchmark or is undefined.

    Source: Bailey and López de Prado (2012), eq. 13.
    """
    if not (error > 0 and ratio > benchmark):
        return float("nan")
    return float(1 + error**2 * (days - 1) * (stats.norm.ppf(probability) / (ratio - benchmark)) ** 2)


def expected_maximum(trials: int, variance: float) -> float:
    """Expected best Sharpe ratio of independent trials whose true ratios are all 0.

    ``√V · ((1 - γ) Φ⁻¹(1 - 1/N) + γ Φ⁻¹(1 - 1/(N e)))``, γ the Euler–Mascheroni constant.

    Args:
        trials: N, at least 2.
        variance: V of the trials' ratios.

    Raises:
        ValueError: fewer than two trials, or a variance that is negative or undefined.

    Source: Bailey and López de Prado (2014), eq. 1; Bailey et al. (2014).
    """
    if trials < 2 or not variance >= 0:
        raise ValueError(f"trials = {trials} must be at least 2 and their variance = {variance} at least 0")
    gamma = float(np.euler_gamma)
    first, second = stats.norm.isf(1 / trials), stats.norm.isf(1 / (trials * np.e))
    return float(np.sqrt(variance) * ((1 - gamma) * first + gamma * second))


def deflated_sharpe(ratio: float, error: float, trials: int, ratios: Sequence[float]) -> Deflation:
    """The probabilistic Sharpe ratio against what the best of all trials would reach by chance.

    Args:
        ratio: the estimate, per day.
        error: its standard error.
        trials: looks at the same test period, this one among them.
        ratios: the trials' Sharpe ratios per day, as far as they are defined.

    Returns:
        With fewer than two trials, or ratios of them, the benchmark is 0 and the probability that of
        :func:`probabilistic_sharpe`.

    Source: Bailey and López de Prado (2014), eq. 2.
    """
    finite = np.array([each for each in ratios if np.isfinite(each)])
    variance = float(finite.var(ddof=1)) if finite.size >= 2 else float("nan")
    benchmark = expected_maximum(trials, variance) if trials >= 2 and finite.size >= 2 else 0.0
    return Deflation(probabilistic_sharpe(ratio, error, benchmark), benchmark, trials, variance)
