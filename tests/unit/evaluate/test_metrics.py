import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS

from atft.evaluate import metrics


@pytest.fixture
def ragged():
    """Scores, returns and a mask with gaps, ties and outliers; NaN where not valid."""
    random = np.random.default_rng(1)
    scores = np.round(random.standard_normal((30, 40)), 1) * 1e3 + 7.0
    returns = 0.02 * random.standard_t(3, (30, 40)) + 1e-5 * scores
    valid = random.random((30, 40)) < 0.8
    return np.where(valid, scores, np.nan), np.where(valid, returns, np.nan), valid


@pytest.mark.parametrize(
    ("ours", "theirs"), [(metrics.information_coefficient, stats.pearsonr), (metrics.rank_ic, stats.spearmanr)]
)
def test_coefficient_of_each_day_is_that_of_scipy(ragged, ours, theirs):
    scores, returns, valid = ragged
    expected = [theirs(s[v], r[v]).statistic for s, r, v in zip(scores, returns, valid)]
    np.testing.assert_allclose(ours(scores, returns, valid), expected, rtol=1e-12)


@pytest.mark.parametrize("coefficient", [metrics.information_coefficient, metrics.rank_ic])
def test_coefficient_is_undefined_without_two_stocks_or_without_variation(coefficient):
    scores = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.1, 0.1, 0.1], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    returns = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.3, 0.3, 0.3], [0.3, 0.1, 0.0]])
    valid = np.ones((5, 3), dtype=bool)
    valid[0], valid[1] = False, [True, False, False]
    assert np.isnan(coefficient(scores, returns, valid)).tolist() == [True, True, True, True, False]


def test_a_valid_entry_that_is_not_finite_is_refused_not_averaged_away():
    scores = np.array([[1.0, np.nan, 3.0]])
    with pytest.raises(ValueError, match="1 valid entries of scores are not finite, the first on row 0"):
        metrics.information_coefficient(scores, np.ones((1, 3)), np.ones((1, 3), dtype=bool))


def test_sharpe_and_icir_are_mean_over_population_deviation_of_the_days_that_count():
    daily = np.array([0.01, np.nan, 0.03, -0.01])
    assert metrics.sharpe(daily) == pytest.approx(0.01 / np.sqrt(0.0008 / 3))
    assert metrics.icir(daily) == metrics.sharpe(daily)


@pytest.mark.parametrize("daily", [[], [0.01], [0.01, 0.01, 0.01], [np.nan, np.nan], [0.0] * 100])
def test_sharpe_is_undefined_and_not_zero_without_variation(daily):
    assert np.isnan(metrics.sharpe(np.array(daily)))
    assert np.isnan(metrics.sharpe_interval(np.array(daily)).low)


def test_standard_error_of_independent_returns_is_that_of_lo_table_1():
    """Lo (2002), Table 1, a Sharpe ratio of .50: the closed form sqrt((1 + SR² / 2) / T), to three digits."""
    published = {12: 0.306, 24: 0.217, 36: 0.177, 48: 0.153, 60: 0.137, 125: 0.095, 250: 0.067, 500: 0.047}
    assert {days: round(metrics.lo_standard_error(0.5, days), 3) for days in published} == published


def test_error_of_a_mean_is_that_of_statsmodels():
    random = np.random.default_rng(2)
    values = np.convolve(random.standard_normal(240), [1, 0.6, 0.3], "valid")
    for lags in (0, 1, 4, 9):
        fit = OLS(values, np.ones_like(values)).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False})
        factor = np.sqrt(len(values) / (len(values) - 1 - lags))
        assert metrics.mean_standard_error(values, lags) == pytest.approx(fit.bse[0] * factor, rel=1e-10)


def test_error_of_a_sharpe_ratio_is_the_delta_method_on_mean_and_variance_jointly():
    """Lo (2002): V = g' Σ g, with Σ the whole long-run covariance matrix of the two moments."""
    random = np.random.default_rng(3)
    daily = 0.001 + 0.01 * np.convolve(random.standard_t(5, 260), [1, 0.4], "valid")
    mean, deviation, count = daily.mean(), daily.std(), daily.size
    moments = np.column_stack([daily - mean, (daily - mean) ** 2 - deviation**2])
    lags = metrics.newey_west_lags(count)
    long_run = moments.T @ moments / count
    for lag in range(1, lags + 1):
        cross = moments[lag:].T @ moments[:-lag] / count
        long_run += (1 - lag / (lags + 1)) * (cross + cross.T)
    slope = np.array([1 / deviation, -mean / (2 * deviation**3)])
    expected = np.sqrt(slope @ long_run @ slope / (count - 1 - lags))
    interval = metrics.sharpe_interval(daily)
    assert interval.standard_error == pytest.approx(expected, rel=1e-10)
    assert (interval.low + interval.high) / 2 == pytest.approx(mean / deviation)
    assert interval.high - interval.low == pytest.approx(2 * 1.959964 * expected, rel=1e-6)


def test_error_of_autocorrelated_normal_returns_meets_the_closed_form():
    """Of an AR(1) with coefficient φ: T · SE² = (1 + φ) / (1 - φ) + SR² / 2 · (1 + φ²) / (1 - φ²)."""
    phi, ratio, count = 0.3, 0.5, 200_000
    noise = np.random.default_rng(4).standard_normal(count) * np.sqrt(1 - phi**2)
    daily = np.empty(count)
    daily[0] = noise[0]
    for t in range(1, count):
        daily[t] = phi * daily[t - 1] + noise[t]
    error = metrics.mean_standard_error(metrics.sharpe_influence(daily + ratio), 60)
    expected = (1 + phi) / (1 - phi) + ratio**2 / 2 * (1 + phi**2) / (1 - phi**2)
    assert count * error**2 == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("days", "horizon"), [(60, 1), (237, 1), (237, 5), (237, 10)])
def test_interval_of_a_sharpe_ratio_covers_the_truth_95_times_in_100(days, horizon):
    random, true, repeats = np.random.default_rng(5), 0.1, 1500
    covered = 0
    for _ in range(repeats):
        independent = true + random.standard_normal(days + horizon - 1)
        daily = np.convolve(independent, np.ones(horizon), "valid")
        interval = metrics.sharpe_interval(daily, horizon=horizon)
        covered += interval.low <= true * np.sqrt(horizon) <= interval.high
    assert 0.93 <= covered / repeats <= 0.97  # two and a half deviations of the simulation, either way


def test_interval_of_a_mean_ic_covers_the_truth_95_times_in_100_also_when_days_are_alike():
    random, repeats, covered = np.random.default_rng(6), 1500, 0
    for _ in range(repeats):
        ics = 0.03 + 0.1 * np.convolve(random.standard_normal(238), [1, 0.5], "valid")
        interval = metrics.mean_interval(ics)
        covered += interval.low <= 0.03 <= interval.high
    assert 0.92 <= covered / repeats <= 0.97


def test_lags_follow_the_stated_rule_and_never_fall_below_the_overlap():
    assert [metrics.newey_west_lags(t) for t in (20, 100, 237, 1000)] == [2, 4, 4, 6]
    assert metrics.newey_west_lags(237, horizon=10) == 10


def test_no_interval_is_given_for_fewer_than_eight_days():
    interval = metrics.sharpe_interval(np.linspace(-0.01, 0.02, 7))
    assert np.isfinite(interval.estimate)
    assert np.isnan([interval.standard_error, interval.low, interval.high]).all()
    assert np.isnan(metrics.mean_interval(np.array([0.1, np.nan, 0.2])).high)
