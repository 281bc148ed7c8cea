"""From a summary and the trials so far to the ``inference`` part of a result."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from atft.evaluate import deflation, metrics, multiple, power
from atft.evaluate.metrics import Floats, Interval
from atft.evaluate.pairing import paired
from atft.evaluate.resampling import bootstrap_sharpe_interval
from atft.evaluate.result import Series
from atft.evaluate.result_inference import Deflated, Difference, Estimate, Inference
from atft.evaluate.search import Search
from atft.evaluate.summary import TRADING_DAYS, TestSummary

YEAR = math.sqrt(TRADING_DAYS)


def inference(
    summary: TestSummary, own: Series, others: Mapping[str, Series], search: Search, test_sha256: str
) -> Inference:
    """How far a summary can be trusted.

    Args:
        summary: of the model.
        own: its daily series.
        others: those of what it is compared with.
        search: looks at this test period.
        test_sha256: hash of its label dates.
    """
    horizon, per_day = summary.horizon, 1 / math.sqrt(summary.horizon)
    ratio, error = summary.sharpe.estimate, summary.sharpe.standard_error
    bootstrap = bootstrap_sharpe_interval(summary.gross, horizon=horizon).scaled(per_day * YEAR)
    skewness, kurtosis = _shape(summary.gross)
    independent = deflation.moments_error(ratio / per_day, summary.days // horizon, skewness, kurtosis)
    return Inference(
        sharpe_annual_bootstrap=_estimate(bootstrap),
        icir=_estimate(metrics.icir_interval(summary.ics, horizon=horizon)),
        rank_icir=_estimate(metrics.icir_interval(summary.rank_ics, horizon=horizon)),
        skewness=skewness,
        kurtosis=kurtosis,
        probabilistic_sharpe=deflation.probabilistic_sharpe(ratio, error),
        probabilistic_sharpe_published=deflation.probabilistic_sharpe(ratio, independent * per_day),
        probabilistic_sharpe_net=deflation.probabilistic_sharpe(
            summary.sharpe_net.estimate, summary.sharpe_net.standard_error
        ),
        minimum_track_record_days=deflation.minimum_track_record(ratio, error, summary.days),
        detectable_sharpe_annual=_detectable(error, summary.days),
        deflated=deflated(ratio, error, search),
        against=_against(own, others, horizon),
        test_sha256=test_sha256,
    )


def deflated(ratio: float, error: float, search: Search) -> Deflated:
    """The deflated Sharpe ratio as the result tells it.

    Args:
        ratio: Sharpe ratio per day.
        error: its standard error.
        search: looks at this test period.
    """
    found = deflation.deflated_sharpe(ratio, error, search.trials, search.sharpes)
    return Deflated(
        probability=found.probability,
        benchmark_annual=found.benchmark * YEAR,
        trials=search.trials,
        elsewhere=search.elsewhere,
        variance_annual=found.variance * TRADING_DAYS,
        note=_note(search, found),
    )


def _note(search: Search, found: deflation.Deflation) -> str:
    if search.trials == 0:
        return "no registry of evaluations: nothing is deflated, and this is the probabilistic Sharpe ratio"
    if math.isnan(found.variance) and search.trials > 1:
        return f"{search.trials} trials on this test period, too few with a ratio to deflate by"
    if math.isnan(found.variance):
        return "a single trial on this test period: nothing to deflate by, and this is the probabilistic Sharpe ratio"
    return (
        f"{search.trials} trials on this test period, whose annual Sharpe ratios have a standard deviation of "
        f"{math.sqrt(found.variance) * YEAR:.2f}"
    )


def _against(own: Series, others: Mapping[str, Series], horizon: int) -> dict[str, Difference]:
    found = {name: paired(own, each, horizon) for name, each in others.items()}
    adjusted = multiple.holm(np.array([each.p_value for each in found.values()]))
    return {
        name: Difference(
            days=each.days,
            correlation=each.correlation,
            sharpe_annual=_estimate(each.bootstrap),
            p_value=each.p_value,
            p_value_hac=each.p_value_hac,
            p_value_holm=float(holm),
            block_days=each.block_days,
        )
        for (name, each), holm in zip(found.items(), adjusted, strict=True)
    }


def _shape(daily: Floats) -> tuple[float, float]:
    """Skewness and kurtosis; NaN for fewer than two days or a constant series."""
    if daily.size < 2 or not daily.std() > metrics.SMALLEST_STD:
        return float("nan"), float("nan")
    return float(stats.skew(daily)), float(stats.kurtosis(daily, fisher=False))


def _detectable(error: float, days: int) -> float:
    return power.least_difference(power.Noise.of(error * YEAR, days), days) if math.isfinite(error) else float("nan")


def _estimate(interval: Interval) -> Estimate:
    return Estimate(
        estimate=interval.estimate, standard_error=interval.standard_error, low=interval.low, high=interval.high,
        method=interval.method,
    )  # fmt: skip
