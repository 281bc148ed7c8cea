import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.sandwich_covariance import S_hac_simple

from atft.evaluate import metrics, paired, resampling
from tests.unit.evaluate.series import pair


def moments(x, y):
    """Ledoit and Wolf (2008): the four moments of each day, and the gradient of the difference in them."""
    table = np.column_stack([x, y, x**2, y**2])
    mean_x, mean_y, square_x, square_y = table.mean(0)
    slope = np.array(
        [
            square_x / (square_x - mean_x**2) ** 1.5,
            -square_y / (square_y - mean_y**2) ** 1.5,
            -0.5 * mean_x / (square_x - mean_x**2) ** 1.5,
            0.5 * mean_y / (square_y - mean_y**2) ** 1.5,
        ]
    )
    return table - table.mean(0), slope


@pytest.fixture
def two():
    x, y = pair(np.random.default_rng(1), 240, 0.5, 0.2, fat=True)
    return 0.01 * (x + 0.15), 0.03 * (y + 0.05)


def test_the_asymptotic_error_is_that_of_the_four_moments_by_statsmodels(two):
    x, y = two
    centred, slope = moments(x, y)
    lags = metrics.newey_west_lags(240)
    long_run = S_hac_simple(centred, nlags=lags) / 240
    expected = np.sqrt(slope @ long_run @ slope / (240 - 1 - lags))
    found = paired.sharpe_difference(x, y, repeats=10)
    assert found.hac.standard_error == pytest.approx(expected, rel=1e-9)
    assert found.hac.estimate == pytest.approx(metrics.sharpe(x) - metrics.sharpe(y), rel=1e-12)
    assert found.per_day == pytest.approx(expected**2 * 240, rel=1e-9)
    assert found.correlation == pytest.approx(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize("length", [1, 4, 7])
def test_the_bootstrap_is_that_of_the_paper_written_out_resample_by_resample(two, length):
    x, y = two
    found = paired.sharpe_difference(x, y, block_days=length, repeats=99, seed=3)
    difference, error = found.hac.estimate, found.hac.standard_error
    larger = 0
    for days in resampling.circular_indices(240, length, 99, np.random.default_rng(3)):
        again = metrics.sharpe(x[days]) - metrics.sharpe(y[days])
        centred, slope = moments(x[days], y[days])
        blocks = 240 // length
        sums = [centred[j * length : (j + 1) * length].sum(0) / np.sqrt(length) for j in range(blocks)]
        psi = sum(np.outer(each, each) for each in sums) / blocks
        larger += abs(again - difference) / np.sqrt(slope @ psi @ slope / 240) >= abs(difference) / error
    assert found.p_value == pytest.approx((1 + larger) / 100)


def test_the_interval_leaves_out_zero_where_the_test_rejects():
    for seed in range(12):
        x, y = pair(np.random.default_rng(seed), 150, 0.3)
        found = paired.sharpe_difference(x + 0.18, y, repeats=999)
        if abs(found.p_value - 0.05) > 0.005:
            assert (found.p_value <= 0.05) == (found.bootstrap.low > 0 or found.bootstrap.high < 0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 500), first=st.floats(0.01, 100), second=st.floats(0.01, 100))
def test_leverage_changes_nothing_and_the_order_only_the_sign(seed, first, second):
    x, y = pair(np.random.default_rng(seed), 60, 0.4)
    base = paired.sharpe_difference(x, y, repeats=49)
    scaled = paired.sharpe_difference(first * x, second * y, repeats=49)
    turned = paired.sharpe_difference(y, x, repeats=49)
    assert scaled.hac.estimate == pytest.approx(base.hac.estimate, rel=1e-6, abs=1e-9)
    assert scaled.hac.standard_error == pytest.approx(base.hac.standard_error, rel=1e-6)
    assert turned.hac.estimate == pytest.approx(-base.hac.estimate, abs=1e-12)
    assert turned.p_value == pytest.approx(base.p_value, abs=0.021)  # one resample at a tie


def test_a_mean_difference_is_that_of_a_regression_on_a_constant():
    x, y = pair(np.random.default_rng(5), 200, 0.6, 0.3)
    lags = metrics.newey_west_lags(200)
    fit = OLS(x - y, np.ones(200)).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False})
    found = paired.mean_difference(x, y, repeats=10)
    assert found.hac.estimate == pytest.approx(fit.params[0])
    assert found.hac.standard_error == pytest.approx(fit.bse[0] * np.sqrt(200 / (200 - 1 - lags)), rel=1e-9)


def test_days_that_one_side_lacks_do_not_count():
    x, y = pair(np.random.default_rng(6), 100, 0.5)
    gaps = y.copy()
    gaps[[0, 40]] = np.nan
    kept = np.isfinite(gaps)
    assert paired.sharpe_difference(x, gaps, repeats=20) == paired.sharpe_difference(x[kept], y[kept], repeats=20)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (np.arange(20.0), np.arange(20.0), "do not differ"),
        (np.arange(20.0), 3 * np.arange(20.0), "do not differ"),
        (np.arange(20.0), np.zeros(20), "do not vary"),
        (np.arange(7.0), np.arange(7.0) ** 2, "7 common days"),
        (np.full(20, np.nan), np.arange(20.0), "0 common days"),
    ],
)
def test_what_cannot_be_tested_has_no_p_value(first, second, told):
    found = paired.sharpe_difference(first, second, repeats=20)
    assert np.isnan([found.p_value, found.p_value_hac, found.hac.low, found.bootstrap.low]).all()
    assert told in found.bootstrap.method


def test_series_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="same days"):
        paired.sharpe_difference(np.arange(9.0), np.arange(10.0))


def rejections(days, phi, fat, horizon, times, repeats, ratios=(0.1, 0.1)):
    """Shares of tests at 5 % that reject: the asymptotic one, and the bootstrap."""
    random, rejected = np.random.default_rng(8), np.zeros(2)
    for number in range(times):
        both = pair(random, days + horizon - 1, 0.5, phi, fat=fat)
        x, y = (np.convolve(each + ratio, np.ones(horizon), "valid") for each, ratio in zip(both, ratios))
        found = paired.sharpe_difference(x, 3 * y, horizon=horizon, repeats=repeats, seed=number)
        rejected += [found.p_value_hac <= 0.05, found.p_value <= 0.05]
    return rejected / times


def test_two_equal_ratios_are_told_apart_about_five_times_in_a_hundred():
    _, bootstrap = rejections(100, 0.0, True, 1, 300, 199)
    assert 0.02 <= bootstrap <= 0.085


def test_two_ratios_that_differ_enough_are_mostly_told_apart():
    _, bootstrap = rejections(237, 0.0, False, 1, 60, 199, ratios=(0.3, 0.0))
    assert bootstrap > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("days", "phi", "fat", "horizon"),
    [(60, 0.0, True, 1), (237, 0.0, True, 1), (237, 0.3, False, 1), (1000, 0.3, True, 1), (237, 0.0, False, 5)],
)
def test_the_paired_test_keeps_its_level(days, phi, fat, horizon):
    hac, bootstrap = rejections(days, phi, fat, horizon, 1500, 499)
    print(f"{days} days, phi {phi}, fat {fat}, horizon {horizon}: HAC {hac:.3f}, bootstrap {bootstrap:.3f}")
    assert bootstrap <= 0.08
