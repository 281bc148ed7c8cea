import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.power import NormalIndPower

from atft.evaluate import power
from atft.evaluate.power import Noise


@pytest.mark.parametrize("difference", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("chance", [0.5, 0.8, 0.95])
def test_days_needed_are_those_of_statsmodels(difference, chance):
    """One sample of unit variance a day: ``ratio=0`` leaves out the second sample."""
    theirs = NormalIndPower().solve_power(difference, alpha=0.05, power=chance, ratio=0)
    assert power.days_needed(difference, Noise(1.0), power=chance) == pytest.approx(theirs, rel=2e-3)


@settings(max_examples=100, deadline=None)
@given(
    difference=st.floats(0.05, 5), shared=st.floats(0.1, 500), own=st.floats(0, 500), training=st.floats(0, 2),
    seeds=st.integers(1, 20), chance=st.floats(0.5, 0.99),
)  # fmt: skip
def test_what_is_needed_is_what_gives_the_power(difference, shared, own, training, seeds, chance):
    noise = Noise(shared, own, training)
    days = power.days_needed(difference, noise, seeds, power=chance)
    if math.isfinite(days):
        assert power.power_of(difference, noise, days, seeds) == pytest.approx(chance, abs=1e-9)
        assert power.least_difference(noise, days, seeds, power=chance) == pytest.approx(difference, rel=1e-6)
        assert (
            power.seeds_needed(difference, noise, days * (1 + 1e-9), power=chance) <= seeds * (1 + 1e-3) or seeds == 1
        )
    else:
        assert power.power_of(difference, noise, 1e12, seeds) <= chance + 1e-9


def test_chance_in_training_is_not_taken_away_by_days_nor_shared_days_by_seeds():
    noise = Noise(shared=100.0, training=1.0)
    assert power.days_needed(0.5, noise) == math.inf
    assert math.isfinite(power.days_needed(0.5, noise, seeds=100))
    assert power.seeds_needed(0.5, noise, days=100) == math.inf
    assert math.isfinite(power.seeds_needed(0.5, noise, days=100_000))
    assert power.seeds_needed(50.0, noise, days=100) == 1.0


def test_a_correlated_rival_is_told_apart_in_fewer_days():
    assert power.correlated(4.0, 9.0, 0.0) == 13.0
    assert power.correlated(4.0, 9.0, 1.0) == pytest.approx(1.0)
    assert power.correlated(4.0, 4.0, 1.0) == 0.0
    with pytest.raises(ValueError, match="correlation"):
        power.correlated(1.0, 1.0, 1.5)


def test_noise_over_seeds_is_split_into_what_days_and_what_seeds_take_away():
    alike = Noise.over_seeds(10.0, 100, variance=0.03, correlation=0.8)
    assert (alike.shared, alike.own) == pytest.approx((8.0, 2.0))
    assert alike.training == pytest.approx(0.03 - 2.0 / 100)
    assert Noise.over_seeds(10.0, 100, variance=0.01, correlation=0.8).training == 0.0
    unknown = Noise.over_seeds(10.0, 100, variance=0.03, correlation=math.nan)
    assert (unknown.shared, unknown.own, unknown.training) == (10.0, 0.0, 0.03)


def test_the_variance_of_a_difference_of_means_over_seeds_is_that_of_a_simulation():
    """Two recipes, 4 seeds each, 50 days: days are shared by all, and each seed has noise and worth of its own."""
    random, days, seeds, times = np.random.default_rng(1), 50, 4, 20_000
    found = np.zeros(times)
    for side, sign in ((0, 1), (1, -1)):
        shared = (1.0, 0.5)[side] * random.standard_normal((times, days))
        own = (2.0, 1.0)[side] * random.standard_normal((times, seeds, days)).mean(1)
        worth = (0.2, 0.1)[side] * random.standard_normal((times, seeds)).mean(1)
        found += sign * ((shared + own).mean(1) + worth)
    first = Noise.over_seeds(5.0, days, variance=0.04 + 4.0 / days, correlation=1 / 5)
    second = Noise.over_seeds(1.25, days, variance=0.01 + 1.0 / days, correlation=0.25 / 1.25)
    noise = Noise.of_difference(6.25, first, second)
    assert noise.error(days, seeds) == pytest.approx(found.std(), rel=0.03)


def test_the_stated_power_is_reached_in_a_simulation():
    from atft.evaluate.metrics import sharpe_interval

    random, true, seen, times = np.random.default_rng(2), 0.2, 0, 1000
    days = math.ceil(power.days_needed(true, Noise(1 + true**2 / 2)))
    for _ in range(times):
        seen += sharpe_interval(true + random.standard_normal(days)).low > 0
    assert seen / times == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(
    ("difference", "given"),
    [(0.0, {}), (math.nan, {}), (math.inf, {}), (0.5, {"level": 0.0}), (0.5, {"power": 1.0}), (0.5, {"power": 0.01})],
)
def test_plans_without_sense_are_refused(difference, given):
    for plan in (lambda **g: power.days_needed(difference, Noise(1.0), **g),
                 lambda **g: power.seeds_needed(difference, Noise(1.0), 100, **g)):  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            plan(**given)
