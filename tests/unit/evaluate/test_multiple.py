import numpy as np
import pytest
from arch.bootstrap import SPA, StepM
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from atft.evaluate import metrics, multiple, resampling


@pytest.mark.parametrize(("ours", "theirs"), [(multiple.holm, "holm"), (multiple.benjamini_hochberg, "fdr_bh")])
@pytest.mark.parametrize("values", [[0.3], [0.01, 0.04, 0.03, 0.005], [0.0, 1.0, 1.0, 0.5, 0.05, 0.05, 1e-300]])
def test_adjusted_p_values_are_those_of_statsmodels(ours, theirs, values):
    np.testing.assert_allclose(ours(np.array(values)), multipletests(values, method=theirs)[1], atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjusting_keeps_the_order_and_never_lowers_a_p_value(values):
    plain = np.array(values)
    for adjust in (multiple.holm, multiple.benjamini_hochberg):
        adjusted = adjust(plain)
        assert ((adjusted >= plain - 1e-15) & (adjusted <= 1)).all()
        assert (np.diff(adjusted[np.argsort(plain)]) >= -1e-15).all()
    assert (multiple.holm(plain) >= multiple.benjamini_hochberg(plain) - 1e-15).all()


@pytest.mark.parametrize("adjust", [multiple.holm, multiple.benjamini_hochberg])
def test_what_was_not_tested_is_not_counted(adjust):
    with_gap = adjust(np.array([0.01, np.nan, 0.04]))
    np.testing.assert_allclose(with_gap[[0, 2]], adjust(np.array([0.01, 0.04])))
    assert np.isnan(with_gap[1])
    assert adjust(np.array([])).size == 0
    with pytest.raises(ValueError, match="from 0 to 1"):
        adjust(np.array([0.5, 1.2]))


@pytest.fixture(scope="module")
def means():
    """Six strategies of unit deviation, their means, and these over resamples: arch does not studentise by itself."""
    daily = np.random.default_rng(3).standard_normal((300, 6)) + np.array([0.1, 0.08, 0.08, 0.0, -0.05, -0.3])
    daily /= daily.std(0)
    drawn = resampling.stationary_indices(300, 5, 2999, np.random.default_rng(4))
    resampled = daily[drawn].mean(1)
    return daily, daily.mean(0), resampled.std(0, ddof=1), resampled


@pytest.mark.parametrize("columns", [[0, 1, 2, 3, 4, 5], [3, 4, 5], [1, 3]])
def test_reality_check_and_superior_ability_are_those_of_arch(means, columns):
    daily, estimates, errors, resampled = means
    theirs = SPA(np.zeros(300), -daily[:, columns], block_size=5, reps=2999, seed=5)
    theirs.compute()
    found = multiple.reality_check(estimates[columns], resampled[:, columns])
    assert found == pytest.approx(theirs.pvalues["upper"], abs=0.02)
    if estimates[columns].max() > 0:
        superior = multiple.superior_ability(estimates[columns], errors[columns], resampled[:, columns], 300)
        assert superior == pytest.approx(theirs.pvalues["consistent"], abs=0.03)


def test_poor_strategies_blunt_the_reality_check_and_not_superior_ability():
    random = np.random.default_rng(6)
    good, poor = random.standard_normal((250, 1)) + 0.13, 4 * random.standard_normal((250, 30)) - 2.0
    with_poor = np.column_stack([good, poor])
    drawn = resampling.stationary_indices(250, 1, 2999, random)
    found = []
    for daily in (good, with_poor):
        resampled, estimates = daily[drawn].mean(1), daily.mean(0)
        errors = resampled.std(0, ddof=1)
        found.append([multiple.reality_check(estimates, resampled),
                      multiple.superior_ability(estimates, errors, resampled, 250)])  # fmt: skip
    assert found[1][0] > found[0][0] + 0.2
    assert found[1][1] == pytest.approx(found[0][1], abs=0.01)


@pytest.mark.parametrize("level", [0.01, 0.05, 0.3])
def test_the_stepdown_finds_what_arch_finds(means, level):
    daily, estimates, errors, resampled = means
    theirs = StepM(np.zeros(300), -daily, size=level, block_size=5, reps=2999, seed=7)
    theirs.compute()
    adjusted = multiple.stepdown(estimates, errors, resampled)
    assert np.abs(adjusted - level).min() > 0.005, "too close to call; take another level"
    assert np.flatnonzero(adjusted <= level).tolist() == list(theirs.superior_models)


def test_the_stepdown_is_no_less_than_the_plain_p_values_and_rises_with_them(means):
    _, estimates, errors, resampled = means
    alone = (1 + ((resampled - estimates) / errors >= estimates / errors).sum(0)) / 3000
    adjusted = multiple.stepdown(estimates, errors, resampled)
    assert (adjusted >= alone - 1e-12).all()
    assert (np.diff(adjusted[np.argsort(-estimates / errors)]) >= 0).all()
    last = np.argmin(estimates / errors)  # nothing is left to be searched among when its turn comes
    assert adjusted[last] == pytest.approx(max(alone[last], adjusted.max()))


def test_the_stepdown_leaves_out_what_was_found_before(means):
    """Written out: the largest of those that are left, one step after the other."""
    _, estimates, errors, resampled = means
    t, deviations = estimates / errors, (resampled - estimates) / errors
    left, before, expected = set(range(6)), 0.0, np.empty(6)
    while left:
        best = max(left, key=lambda each: t[each])
        hits = sum(max(row[each] for each in left) >= t[best] for row in deviations)
        before = expected[best] = max(before, (1 + hits) / 3000)
        left.remove(best)
    np.testing.assert_allclose(multiple.stepdown(estimates, errors, resampled), expected, rtol=1e-12)


def test_a_family_of_one_is_the_test_of_one():
    daily = np.random.default_rng(8).standard_normal((200, 1)) + 0.1
    found = multiple.compared_sharpes(daily, repeats=999)
    assert found.p_values[0] == found.stepdown[0] == found.reality_check
    assert found.estimates[0] == pytest.approx(daily.mean() / daily.std())


def test_against_a_benchmark_the_differences_count():
    random = np.random.default_rng(9)
    market = random.standard_normal(250)
    daily = np.column_stack([market + 0.2 * random.standard_normal(250) + 0.1, market])
    daily[:, 1] += 1e-3 * random.standard_normal(250)
    alone = multiple.compared_sharpes(daily, repeats=999)
    found = multiple.compared_sharpes(daily, market, repeats=999)
    assert found.errors[0] < alone.errors[0] / 2
    assert found.p_values[0] < 0.01 < found.p_values[1]
    with pytest.raises(ValueError, match="benchmark itself"):
        multiple.compared_sharpes(np.column_stack([market, market + 1])[:, :1], market)


def test_a_strategy_that_is_mostly_in_cash_is_not_called_a_finding():
    daily = np.random.default_rng(11).standard_normal((30, 2)) * 0.01
    daily[:, 1] = 0.0
    daily[7, 1] = 0.05
    found = multiple.compared_sharpes(daily, length=1.0, repeats=400)
    assert np.isfinite(found.errors).all()
    assert found.stepdown[1] > 0.3


@pytest.mark.parametrize(
    ("daily", "told"),
    [
        (np.ones((20, 2)), "does not vary"),
        (np.random.default_rng(0).standard_normal((7, 2)), "at least 8 days"),
        (np.where(np.eye(20) > 0, np.nan, 1.0), "not finite"),
    ],
)
def test_a_family_that_cannot_be_compared_is_refused(daily, told):
    with pytest.raises(ValueError, match=told):
        multiple.compared_sharpes(daily)


@pytest.mark.slow
def test_a_sweep_of_worthless_models_finds_something_about_five_times_in_a_hundred():
    random, found = np.random.default_rng(10), np.zeros(4)
    for number in range(600):
        common = random.standard_normal((150, 1))
        daily = np.sqrt(0.5) * common + np.sqrt(0.5) * random.standard_normal((150, 10))
        family = multiple.compared_sharpes(daily, repeats=499, length=1.0, seed=number)
        found += [each <= 0.05 for each in (family.p_values.min(), family.stepdown.min(), family.reality_check,
                                            family.superior)]  # fmt: skip
    print("alone, stepdown, reality check, superior:", found / 600)
    assert found[0] / 600 > 0.15
    assert (found[1:] / 600 <= 0.08).all()


def overlapping(seed, horizon, strategies=8, days=237):
    steps = np.random.default_rng(seed).standard_normal((days + horizon - 1, strategies))
    return np.stack([steps[day : day + horizon].sum(0) for day in range(days)])


@pytest.mark.parametrize("horizon", [5, 20])
def test_no_error_is_smaller_than_that_of_every_horizonth_day(horizon):
    daily = overlapping(0, horizon)
    family = multiple.compared_sharpes(daily, horizon=horizon, repeats=199)
    least = [metrics.overlap_error(metrics.sharpe_influence(each), horizon) for each in daily.T]
    assert (family.errors >= np.array(least) * (1 - 1e-12)).all()


def test_overlapping_returns_of_worthless_models_are_not_found_more_often_than_stated():
    """Returns of twenty days each: the resampled deviations alone find something in a quarter of such families."""
    found = 0
    for seed in range(40):
        family = multiple.compared_sharpes(overlapping(seed, 20), horizon=20, repeats=199, seed=seed)
        found += family.stepdown.min() <= 0.05
    assert found <= 5  # 5 % of 40 are 2
