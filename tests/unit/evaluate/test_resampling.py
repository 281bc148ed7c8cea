import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap, optimal_block_length
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.evaluate import metrics, resampling
from tests.unit.evaluate.series import autoregressive


@pytest.mark.parametrize("count", [25, 60, 237, 1000])
@pytest.mark.parametrize("phi", [-0.4, 0.0, 0.3, 0.9])
def test_automatic_block_lengths_are_those_of_arch(count, phi):
    values = autoregressive(np.random.default_rng(count), count, phi)
    expected, found = optimal_block_length(values).iloc[0], resampling.optimal_block_lengths(values)
    assert found.stationary == pytest.approx(expected["stationary"], rel=1e-10)
    assert found.circular == pytest.approx(expected["circular"], rel=1e-10)


@pytest.mark.parametrize("values", [np.arange(7.0), np.full(30, 0.1), np.zeros(30)])
def test_a_series_that_is_short_or_constant_has_no_block_length(values):
    with pytest.raises(ValueError, match="days that vary"):
        resampling.optimal_block_lengths(values)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(2, 60), seed=st.integers(0, 99), data=st.data())
def test_circular_blocks_are_runs_of_days_around_the_end(count, seed, data):
    length = data.draw(st.integers(1, count))
    drawn = resampling.circular_indices(count, length, 5, np.random.default_rng(seed))
    assert drawn.shape == (5, count)
    follows = drawn[:, 1:] == (drawn[:, :-1] + 1) % count
    inside = np.arange(1, count) % length != 0
    assert follows[:, inside].all()


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 60), length=st.floats(1, 80), seed=st.integers(0, 99))
def test_stationary_resamples_hold_days_of_the_series(count, length, seed):
    drawn = resampling.stationary_indices(count, length, 7, np.random.default_rng(seed))
    assert drawn.shape == (7, count)
    assert ((drawn >= 0) & (drawn < count)).all()


def test_stationary_blocks_have_geometric_lengths_and_every_day_is_as_likely():
    count, length = 200, 8.0
    drawn = resampling.stationary_indices(count, length, 4000, np.random.default_rng(1))
    follows = (drawn[:, 1:] == (drawn[:, :-1] + 1) % count).mean()
    assert follows == pytest.approx(1 - (1 - 1 / count) / length, abs=2e-3)
    assert np.bincount(drawn.ravel(), minlength=count) / drawn.size == pytest.approx(1 / count, rel=0.08)


@pytest.mark.parametrize("length", [0, 0.5, -1])
def test_a_block_shorter_than_a_day_is_refused(length):
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match="length"):
        resampling.stationary_indices(10, length, 1, random)
    with pytest.raises(ValueError, match="length"):
        resampling.circular_indices(10, int(length), 1, random)


def test_sharpe_ratios_of_resamples_are_those_of_each_by_itself():
    random = np.random.default_rng(2)
    daily = 0.01 * random.standard_normal((50, 3)) + 0.001
    drawn = resampling.stationary_indices(50, 3, 20, random)
    expected = [[metrics.sharpe(daily[row, column]) for column in range(3)] for row in drawn]
    np.testing.assert_allclose(resampling.sharpes_of(daily, drawn), expected, rtol=1e-12)
    np.testing.assert_allclose(resampling.sharpes_of(daily[:, 1], drawn), np.array(expected)[:, 1], rtol=1e-12)


@pytest.mark.parametrize(("phi", "length"), [(0.0, 2.0), (0.4, 12.0)])
def test_the_bootstrap_interval_is_that_of_arch_widened_as_stated(phi, length):
    daily = 0.1 + autoregressive(np.random.default_rng(3), 100, phi, fat=True)
    found = resampling.bootstrap_sharpe_interval(daily, length=length, repeats=10_000)
    theirs = StationaryBootstrap(length, daily, seed=4)
    low, high = theirs.conf_int(metrics.sharpe, reps=3000, method="percentile").ravel()
    wider = np.sqrt(100 / (100 - (2 * length - 1)))
    for ours, bound in ((found.low, low), (found.high, high)):
        assert (ours - found.estimate) / wider == pytest.approx(bound - found.estimate, abs=0.014)


def test_the_bootstrap_interval_depends_on_its_seed_only():
    daily = 0.1 + autoregressive(np.random.default_rng(5), 100, 0.2)
    first = resampling.bootstrap_sharpe_interval(daily, repeats=500)
    assert resampling.bootstrap_sharpe_interval(daily, repeats=500) == first
    assert resampling.bootstrap_sharpe_interval(daily, repeats=500, seed=1).low != first.low
    gaps = np.insert(daily, [3, 50], np.nan)
    assert resampling.bootstrap_sharpe_interval(gaps, repeats=500) == first


def test_pieces_of_resamples_are_those_of_one_draw(monkeypatch):
    daily = autoregressive(np.random.default_rng(6), 40)
    whole = resampling.bootstrap_sharpe_interval(daily, repeats=100)
    sizes = []
    monkeypatch.setattr(resampling, "ENTRIES_AT_ONCE", 40 * 30)
    draw = resampling.stationary_indices
    monkeypatch.setattr(
        resampling, "stationary_indices", lambda n, m, some, r: (sizes.append(some), draw(n, m, some, r))[1]
    )
    pieces = resampling.bootstrap_sharpe_interval(daily, repeats=100)
    assert sizes == [30, 30, 30, 10]
    assert pieces.standard_error == pytest.approx(whole.standard_error, rel=0.3)


@pytest.mark.parametrize("daily", [np.zeros(50), np.full(50, 0.1), np.arange(7.0), np.full(30, np.nan)])
def test_what_does_not_vary_or_is_short_has_no_bootstrap_interval(daily):
    found = resampling.bootstrap_sharpe_interval(daily, repeats=50)
    assert np.isnan([found.standard_error, found.low, found.high]).all()
    assert found.method.startswith("none:")


def test_a_series_that_is_constant_in_some_resample_has_no_bootstrap_interval():
    daily = np.zeros(10)
    daily[4] = 0.01
    found = resampling.bootstrap_sharpe_interval(daily, length=1.0, repeats=200)
    assert np.isfinite(found.estimate)
    assert np.isnan(found.low)
    assert "do not vary in some resamples" in found.method


def coverage(days, phi, horizon, times, repeats=499):
    """Shares of intervals that hold the true ratio: of the bootstrap, and of Lo's."""
    random, true, held = np.random.default_rng(7), 0.1, np.zeros(2)
    for number in range(times):
        independent = true + autoregressive(random, days + horizon - 1, phi)
        daily = np.convolve(independent, np.ones(horizon), "valid")
        bootstrap = resampling.bootstrap_sharpe_interval(daily, horizon=horizon, repeats=repeats, seed=number)
        for place, found in enumerate((bootstrap, metrics.sharpe_interval(daily, horizon=horizon))):
            held[place] += found.low <= true * np.sqrt(horizon) <= found.high
    return held / times


def test_the_bootstrap_interval_covers_the_truth_about_as_often_as_stated():
    bootstrap, _ = coverage(100, 0.0, 1, 300, repeats=199)
    assert 0.91 <= bootstrap <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("days", "phi", "horizon", "least"),
    [(60, 0.0, 1, 0.91), (237, 0.0, 1, 0.935), (237, 0.3, 1, 0.89), (1000, 0.3, 1, 0.92), (237, 0.0, 5, 0.93)],
)
def test_the_bootstrap_interval_covers_the_truth_for_every_length_and_overlap(days, phi, horizon, least):
    bootstrap, lo = coverage(days, phi, horizon, 1500)
    print(f"{days} days, phi {phi}, horizon {horizon}: bootstrap {bootstrap:.3f}, Lo {lo:.3f}")
    assert least <= bootstrap <= 0.975
