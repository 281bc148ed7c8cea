import numpy as np
import pytest
from scipy import integrate, stats

from atft.evaluate import deflation, metrics
from tests.unit.evaluate.series import autoregressive


def published(ratio, days, skewness, kurtosis, benchmark=0.0):
    return deflation.probabilistic_sharpe(ratio, deflation.moments_error(ratio, days, skewness, kurtosis), benchmark)


def test_probabilistic_sharpe_is_that_of_the_published_example():
    """Bailey and López de Prado (2012), a fund of 24 months, .458 a month: .982 if normal, .913 with its moments."""
    assert published(0.458, 24, 0.0, 3.0) == pytest.approx(0.982, abs=5e-4)
    assert published(0.458, 24, -2.448, 10.164) == pytest.approx(0.913, abs=5e-4)


@pytest.mark.parametrize(("periods", "years"), [(250, 2.73), (52, 2.83), (12, 3.24)])
def test_minimum_track_record_is_that_of_the_published_example(periods, years):
    """Bailey and López de Prado (2012): an annual ratio of 2 against 1 at 95 %: 2.73 years of days, 3.24 of months."""
    ratio, benchmark = 2 / np.sqrt(periods), 1 / np.sqrt(periods)
    error = deflation.moments_error(ratio, 500, 0.0, 3.0)
    needed = deflation.minimum_track_record(ratio, error, 500, benchmark=benchmark)
    assert needed / periods == pytest.approx(years, abs=5e-3)


def test_deflated_sharpe_is_that_of_the_published_example():
    """Bailey and López de Prado (2014): 2.5 a year over 5 years, 100 trials of variance 1/2, skew -3, kurtosis 10."""
    ratio, days = 2.5 / np.sqrt(250), 1250
    benchmark = deflation.expected_maximum(100, 0.5 / 250)
    assert benchmark == pytest.approx(0.1132, abs=5e-5)
    assert published(ratio, days, -3.0, 10.0, benchmark) == pytest.approx(0.9004, abs=5e-5)
    # With 46 trials, or with 88 and normal returns, the same ratio would just have been significant.
    assert published(ratio, days, -3.0, 10.0, deflation.expected_maximum(46, 0.5 / 250)) == pytest.approx(
        0.9505, abs=5e-5
    )
    assert published(ratio, days, 0.0, 3.0, deflation.expected_maximum(88, 0.5 / 250)) == pytest.approx(
        0.9505, abs=5e-4
    )


@pytest.mark.parametrize("trials", [2, 5, 20, 100, 1000])
def test_expected_maximum_is_close_to_the_integral(trials):
    """The exact mean of the largest of N standard normals; the published form is an approximation."""
    exact, _ = integrate.quad(
        lambda z: z * trials * stats.norm.pdf(z) * stats.norm.cdf(z) ** (trials - 1), -10, 12, epsabs=1e-10
    )
    assert deflation.expected_maximum(trials, 4.0) / 2 == pytest.approx(exact, rel=0.08 if trials < 5 else 0.03)


def test_the_error_by_moments_is_that_of_the_interval_without_lags():
    daily = 0.1 + autoregressive(np.random.default_rng(1), 240, fat=True)
    ratio, skewness, kurtosis = metrics.sharpe(daily), stats.skew(daily), stats.kurtosis(daily, fisher=False)
    expected = metrics.mean_standard_error(metrics.sharpe_influence(daily), 0)
    assert deflation.moments_error(ratio, 240, skewness, kurtosis) == pytest.approx(expected, rel=1e-12)


def test_the_probability_is_above_a_half_of_the_interval_where_that_leaves_out_zero():
    for ratio in (0.05, 0.2, -0.3):
        error = 0.1
        sure = deflation.probabilistic_sharpe(ratio, error)
        assert (sure > 0.975) == (ratio - metrics.Z95 * error > 0)


def test_a_ratio_has_its_own_days_as_track_record_where_it_is_just_significant():
    error, days = 0.05, 400
    ratio = float(stats.norm.ppf(0.95)) * error
    assert deflation.minimum_track_record(ratio, error, days) == pytest.approx(days, rel=1e-12)


@pytest.mark.parametrize(("ratio", "error"), [(0.0, 0.1), (-0.2, 0.1), (float("nan"), 0.1), (0.1, float("nan"))])
def test_what_is_not_above_the_benchmark_never_gets_there(ratio, error):
    assert np.isnan(deflation.minimum_track_record(ratio, error, 200))


@pytest.mark.parametrize(("trials", "ratios"), [(0, []), (1, [0.2]), (2, [0.2]), (3, [float("nan"), 0.2])])
def test_fewer_than_two_known_trials_deflate_nothing(trials, ratios):
    found = deflation.deflated_sharpe(0.2, 0.1, trials, ratios)
    assert found.probability == deflation.probabilistic_sharpe(0.2, 0.1)
    assert (found.benchmark, found.trials) == (0.0, trials)
    assert np.isnan(found.variance)


def test_each_trial_takes_something_off():
    spread = [0.1, -0.1]
    shares = [deflation.deflated_sharpe(0.2, 0.08, trials, spread).probability for trials in (2, 5, 20, 100)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] < deflation.probabilistic_sharpe(0.2, 0.08)


@pytest.mark.parametrize(("trials", "variance"), [(1, 0.1), (5, -1.0), (5, float("nan"))])
def test_a_maximum_of_nothing_is_refused(trials, variance):
    with pytest.raises(ValueError, match="at least"):
        deflation.expected_maximum(trials, variance)


def test_the_best_of_many_models_of_no_worth_is_seldom_called_more_than_luck():
    """Of searches among 20 worthless models, the plain probability is fooled by most, the deflated one by few."""
    random, fooled, searches = np.random.default_rng(2), np.zeros(2), 300
    for _ in range(searches):
        daily = random.standard_normal((237, 20))
        ratios = daily.mean(0) / daily.std(0)
        best = daily[:, ratios.argmax()]
        error = metrics.sharpe_interval(best).standard_error
        plain = deflation.probabilistic_sharpe(ratios.max(), error)
        fooled += [plain > 0.95, deflation.deflated_sharpe(ratios.max(), error, 20, list(ratios)).probability > 0.95]
    assert fooled[0] / searches > 0.5
    assert fooled[1] / searches <= 0.03
