"""The part of ``result.json`` that says how far its figures can be trusted."""

from __future__ import annotations

from atft.evaluate.result_types import Count, Maybe, Model, Sha256


class Estimate(Model):
    """A statistic with its 95 % interval; null where it cannot be given."""

    estimate: Maybe
    standard_error: Maybe
    low: Maybe
    high: Maybe
    method: str
    """How the interval was found."""


class Deflated(Model):
    """The Sharpe ratio after the search that it was found by."""

    probability: Maybe
    """That the true ratio exceeds ``benchmark_annual``: the deflated Sharpe ratio. Without another trial, above 0."""
    benchmark_annual: Maybe
    """What the best of so many trials of no worth is expected to reach, a year."""
    trials: Count
    """Different evaluations of this test period, this one among them; baselines do not count."""
    elsewhere: Count
    """Different evaluations on overlapping dates, of other panels or other test periods; they are not in ``trials``."""
    variance_annual: Maybe
    """Of the trials' annual Sharpe ratios."""
    note: str
    """What was deflated by, in words."""


class Difference(Model):
    """The model less a baseline, on the days that both have."""

    days: Count
    correlation: Maybe
    """Of the two daily series."""
    sharpe_annual: Estimate
    """Difference of the annual Sharpe ratios; its interval is the bootstrap's."""
    p_value: Maybe
    """Two-sided, by the studentised bootstrap of Ledoit and Wolf (2008)."""
    p_value_hac: Maybe
    """Two-sided, by the asymptotic test."""
    p_value_holm: Maybe
    """``p_value`` corrected for all baselines that are compared (Holm)."""
    block_days: Count
    """Length of a block of the bootstrap."""


class Inference(Model):
    """How far the figures of the test period can be trusted; all of returns before costs unless it says net."""

    sharpe_annual_bootstrap: Estimate
    """The interval of the annual Sharpe ratio by a stationary block bootstrap, beside Lo's."""
    icir: Estimate
    rank_icir: Estimate
    skewness: Maybe
    """Of the daily returns."""
    kurtosis: Maybe
    """Of the daily returns; 3 for normal ones."""
    probabilistic_sharpe: Maybe
    """Probability that the true Sharpe ratio is above 0, with the standard error of its interval."""
    probabilistic_sharpe_published: Maybe
    """The same by the published formula, which takes days as independent."""
    probabilistic_sharpe_net: Maybe
    """The same of the ratio after costs."""
    minimum_track_record_days: Maybe
    """Test days after which a ratio such as this is above 0 with 95 % probability; null where it is not above 0."""
    detectable_sharpe_annual: Maybe
    """Least true annual Sharpe ratio that this many days show with a power of 80 %, two-sided at 5 %."""
    deflated: Deflated
    against: dict[str, Difference]
    """The model less each baseline, by name."""
    test_sha256: Sha256
    """Hash of the label dates of the test period, as the registry of evaluations knows it."""
