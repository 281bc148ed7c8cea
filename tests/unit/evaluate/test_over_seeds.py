"""Means and differences over seeds: both chances are in the interval, and seeds times days are no observations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from atft.evaluate import metrics, portfolio
from atft.evaluate.over_seeds import Seen, between, over_seeds, with_stated_error
from atft.evaluate.pooled import pooled_by_day

DAYS = 200


def still(values: list[float]) -> Seen:
    """Seeds whose days make no difference at all: only their spread does."""
    return Seen(np.array(values), np.zeros((len(values), DAYS)))


def of_daily(rows: np.ndarray) -> Seen:
    return Seen(
        np.array([metrics.sharpe(row) for row in rows]), np.array([metrics.sharpe_influence(row) for row in rows])
    )


def seeds(random: np.random.Generator, count: int, *, alike: float, training: float, days: int = DAYS) -> np.ndarray:
    """``[count, days]`` returns of seeds that share a part of each day; their true ratios scatter by training."""
    shared = random.standard_normal(days)
    own = random.standard_normal((count, days))
    levels = 0.1 + training * random.standard_normal((count, 1))
    return levels + math.sqrt(alike) * shared + math.sqrt(1 - alike) * own


def test_one_seed_has_the_interval_of_lo() -> None:
    daily = np.random.default_rng(1).standard_normal(DAYS) + 0.1
    own, lo = over_seeds(of_daily(daily[None])), metrics.sharpe_interval(daily)
    assert (own.interval.low, own.interval.high) == pytest.approx((lo.low, lo.high))
    assert not own.knows_training
    assert math.isnan(own.seeds_error)


def test_where_days_do_nothing_pairs_of_seeds_have_the_interval_of_the_paired_t_test() -> None:
    mine, its = [0.3, 0.9, 0.4, 0.7], [0.1, 0.5, 0.6, 0.2]
    found, known = over_seeds(still(mine).less(still(its))), stats.ttest_rel(mine, its)
    span = known.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((span.low, span.high))
    assert found.p_value == pytest.approx(known.pvalue)


def test_where_days_do_nothing_other_seeds_have_the_interval_of_welch() -> None:
    mine, its = [0.3, 0.9, 0.4, 0.7], [0.1, 0.5, 0.6]
    found, known = between(still(mine), still(its)), stats.ttest_ind(mine, its, equal_var=False)
    span = known.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((span.low, span.high))
    assert found.p_value == pytest.approx(known.pvalue)
    assert found.freedom == pytest.approx(known.df)


def test_a_seed_that_is_repeated_tells_nothing_more() -> None:
    """Ten copies of one series have ten times its days, and its error all the same."""
    daily = np.random.default_rng(2).standard_normal(DAYS) + 0.1
    once, often = over_seeds(of_daily(daily[None])), over_seeds(of_daily(np.tile(daily, (10, 1))))
    assert often.interval.standard_error == pytest.approx(once.interval.standard_error)
    other = of_daily(np.random.default_rng(3).standard_normal((10, DAYS)))
    alone = between(of_daily(daily[None]), other)
    assert between(of_daily(np.tile(daily, (10, 1))), other).interval.standard_error == pytest.approx(
        alone.interval.standard_error
    )


def test_independent_seeds_have_the_error_of_as_many_more_days() -> None:
    rows = np.random.default_rng(4).standard_normal((40, 400))
    found = over_seeds(of_daily(rows))
    assert found.days_error == pytest.approx(1 / math.sqrt(40 * 400), rel=0.2)
    assert found.interval.standard_error == pytest.approx(found.days_error, rel=0.25)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("alike", "training"), [(0.9, 0.0), (0.5, 0.08), (0.2, 0.3)])
def test_the_error_is_never_below_that_of_the_days(paired: bool, alike: float, training: float) -> None:
    random = np.random.default_rng(5)
    for _ in range(30):
        one, two = (of_daily(seeds(random, 3, alike=alike, training=training)) for _ in range(2))
        found = over_seeds(one.less(two)) if paired else between(one, two)
        assert found.interval.standard_error >= found.days_error * (1 - 1e-12)


@pytest.mark.parametrize(("alike", "training"), [(0.8, 0.0), (0.5, 0.06), (0.8, 0.15), (0.2, 0.3)])
def test_the_interval_holds_no_difference_about_as_often_as_it_says(alike: float, training: float) -> None:
    random, held = np.random.default_rng(6), {"paired": 0, "welch": 0, "days alone": 0}
    repeats = 250
    for _ in range(repeats):
        one, two = (of_daily(seeds(random, 4, alike=alike, training=training)) for _ in range(2))
        paired, welch = over_seeds(one.less(two)), between(one, two)
        held["paired"] += abs(paired.interval.estimate) <= paired.half_width
        held["welch"] += abs(welch.interval.estimate) <= welch.half_width
        held["days alone"] += abs(welch.interval.estimate) <= 1.96 * welch.days_error
    assert 0.89 <= held["paired"] / repeats <= 0.995
    assert 0.89 <= held["welch"] / repeats <= 0.995
    if training >= 0.15:
        assert held["days alone"] / repeats < 0.85  # what an interval without chance in training would claim


def test_a_side_with_one_seed_does_not_know_chance_in_training() -> None:
    random = np.random.default_rng(7)
    found = between(
        of_daily(seeds(random, 1, alike=0.5, training=0.1)), of_daily(seeds(random, 4, alike=0.5, training=0.1))
    )
    assert not found.knows_training
    assert math.isnan(found.seeds_error)
    assert found.interval.standard_error >= found.days_error


def test_a_stated_error_and_a_spread_add_up() -> None:
    found = with_stated_error(np.array([0.1, 0.2, 0.3]), 0.05, 100)
    assert found.interval.standard_error == pytest.approx(math.sqrt(0.05**2 + 0.01 / 3))


def test_a_pooled_ratio_by_day_is_the_run_s_and_its_error_that_of_drawing_days() -> None:
    random = np.random.default_rng(8)
    scores = random.standard_normal((150, 20))
    day = 0.03 * random.standard_normal((150, 1))  # of the scores' own premium: stocks of a day move together
    returns = (0.01 + day) * scores * 0.3 + 0.02 * random.standard_normal((150, 20))
    valid = random.random((150, 20)) < 0.9
    value, influence = pooled_by_day(scores, returns, valid)
    assert value == pytest.approx(portfolio.pooled_sharpe(scores, returns, valid), rel=1e-12)
    assert influence.mean() == pytest.approx(0, abs=1e-12)
    drawn = []
    for _ in range(400):
        rows = random.integers(0, 150, 150)
        drawn.append(portfolio.pooled_sharpe(scores[rows], returns[rows], valid[rows]))
    assert influence.std() / math.sqrt(150) == pytest.approx(np.std(drawn), rel=0.12)
    assert influence.std() / math.sqrt(150) > 1.5 / math.sqrt(valid.sum())  # independent stock-days would claim less


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 5, 10])
@pytest.mark.parametrize(("alike", "training"), [(0.8, 0.0), (0.5, 0.06), (0.8, 0.15), (0.2, 0.3)])
def test_how_often_each_interval_holds(count: int, alike: float, training: float) -> None:
    """The table of the guide; run with ``-s`` to see it."""
    random, repeats = np.random.default_rng(9), 600
    held = dict.fromkeys(("paired", "welch", "days alone", "as independent"), 0)
    for _ in range(repeats):
        one, two = (of_daily(seeds(random, count, alike=alike, training=training, days=237)) for _ in range(2))
        paired, welch = over_seeds(one.less(two)), between(one, two)
        independent = math.sqrt(2 / (237 * count))  # seeds × days taken as so many days
        held["paired"] += abs(paired.interval.estimate) <= paired.half_width
        held["welch"] += abs(welch.interval.estimate) <= welch.half_width
        held["days alone"] += abs(welch.interval.estimate) <= 1.96 * welch.days_error
        held["as independent"] += abs(welch.interval.estimate) <= 1.96 * independent
    print(
        f"{count} seeds, alike {alike}, training {training}:",
        {k: f"{100 * v / repeats:.1f} %" for k, v in held.items()},
    )
    assert held["welch"] / repeats > 0.88
    assert held["paired"] / repeats > (0.88 if count > 2 else 0.8)
