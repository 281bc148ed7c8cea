"""Combined scores and what members add, against plain definitions and cases of known truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from atft.evaluate import metrics, portfolio
from atft.evaluate.ensemble import MOST_SUBSETS, combined, gains, standing, subsets
from atft.evaluate.holdings import Holdings


@pytest.fixture
def scores() -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(3, 12, 9))
    found[:, 2, 4] = np.nan
    found[:, 5, 1:] = np.nan
    found[1, 7] = 3.0  # a member that says nothing on a day
    return found


def test_ranks_run_from_minus_one_to_one_and_are_those_of_scipy(scores: np.ndarray) -> None:
    found = standing(scores[0], "mean-rank")
    day = scores[0, 2]
    kept = np.isfinite(day)
    expected = 2 * (stats.rankdata(day[kept]) - 1) / (kept.sum() - 1) - 1
    assert found[2, kept] == pytest.approx(expected)
    assert np.isnan(found[2, 4])
    assert (found[0].min(), found[0].max()) == (-1.0, 1.0)


def test_scores_are_counted_in_deviations_of_their_day(scores: np.ndarray) -> None:
    found = standing(scores[0], "mean-score")
    assert found[0] == pytest.approx(stats.zscore(scores[0, 0]))


@pytest.mark.parametrize("how", ["mean-rank", "mean-score"])
def test_a_member_that_says_nothing_on_a_day_changes_no_order(scores: np.ndarray, how: str) -> None:
    assert (standing(scores[1], how)[7] == 0.0).all()  # type: ignore[arg-type]
    both = combined([scores[0], scores[1]], how)[7]  # type: ignore[arg-type]
    assert (np.argsort(both) == np.argsort(scores[0, 7])).all()


@pytest.mark.parametrize("how", ["mean-rank", "mean-score"])
def test_scale_and_place_of_a_members_scores_do_not_matter(scores: np.ndarray, how: str) -> None:
    moved = [scores[0], 40.0 + 1e4 * scores[1], scores[2]]
    assert combined(moved, how) == pytest.approx(combined(list(scores), how), nan_ok=True)  # type: ignore[arg-type]


def test_what_any_member_cannot_score_the_ensemble_does_not(scores: np.ndarray) -> None:
    lacking = scores.copy()
    lacking[2, 0, 0] = np.nan
    assert np.isnan(combined(list(lacking), "mean-rank")[0, 0])


def test_subsets_are_all_of_them_or_as_many_different_ones() -> None:
    random = np.random.default_rng(0)
    assert subsets(5, 2, random) == list(itertools.combinations(range(5), 2))
    many = subsets(12, 6, random)
    assert len(set(many)) == MOST_SUBSETS
    assert all(len(set(each)) == 6 for each in many)


def market(days: int, noise: float, members: int, seed: int = 1) -> tuple[list[np.ndarray], np.ndarray, Holdings]:
    """Members that each see the same truth under noise of their own."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=(days, 40))
    returns = 0.1 * truth + random.normal(size=truth.shape)
    held = Holdings.labelled(returns, np.ones_like(truth, bool))
    return [truth + noise * random.normal(size=truth.shape) for _ in range(members)], returns, held


def test_figures_by_size_are_means_over_the_subsets() -> None:
    members, returns, held = market(60, 1.0, 4)
    found = gains(members, returns, held, "mean-rank", horizon=1, year=252)
    ratios, ics = [], []
    for pair in itertools.combinations(members, 2):
        both = combined(pair, "mean-rank")
        ratios.append(np.sqrt(252) * metrics.sharpe((portfolio.positions(both, held.scored) * returns).sum(1)))
        ics.append(np.mean([stats.pearsonr(*rows).statistic for rows in zip(both, returns)]))
    assert (found[1].subsets, found[1].sharpe, found[1].ic) == (
        6,
        pytest.approx(np.mean(ratios)),
        pytest.approx(np.mean(ics)),
    )
    assert (found[1].sharpe_low, found[1].sharpe_high) == (pytest.approx(min(ratios)), pytest.approx(max(ratios)))
    assert found[1].sharpe_gain == pytest.approx(found[1].sharpe - found[0].sharpe)
    assert found[0].sharpe_gain is None


def test_members_with_noise_of_their_own_add_and_the_interval_says_so() -> None:
    members, returns, held = market(500, 2.0, 4)
    found = gains(members, returns, held, "mean-score", horizon=1, year=252)
    assert [each.members for each in found] == [1, 2, 3, 4]
    for more in found[1:]:
        assert more.ic_gain_ci95 is not None
        assert more.ic_gain_ci95[0] > 0
    steps = [more.ic_gain for more in found[1:]]
    assert steps == sorted(steps, reverse=True)  # each adds less than the one before


def test_members_that_say_the_same_add_nothing() -> None:
    members, returns, held = market(100, 1.0, 1)
    found = gains(members * 3, returns, held, "mean-rank", horizon=1, year=252)
    assert found[2].sharpe_gain == pytest.approx(0.0, abs=1e-9)
    assert found[2].sharpe_gain_ci95 == pytest.approx((0.0, 0.0), abs=1e-9)


def test_too_few_days_have_no_interval() -> None:
    members, returns, held = market(10, 1.0, 2)
    found = gains(members, returns, held, "mean-rank", horizon=1, year=252)
    assert found[1].sharpe_gain is not None
    assert found[1].sharpe_gain_ci95 is None


def test_the_interval_covers_the_true_gain_about_as_often_as_it_says() -> None:
    noise, hits, rounds = 2.0, 0, 60
    true = _ic(noise, 2) - _ic(noise, 1)
    for seed in range(rounds):
        members, returns, held = market(150, noise, 2, seed)
        low, high = gains(members, returns, held, "mean-score", horizon=1, year=252)[1].ic_gain_ci95  # type: ignore[misc]
        hits += low <= true <= high
    assert stats.binom.cdf(hits, rounds, 0.95) > 1e-3


def _ic(noise: float, members: int) -> float:
    """Correlation of returns with the mean of so many noisy views of the truth."""
    return float(0.1 / np.sqrt(1 + noise**2 / members) / np.sqrt(1 + 0.1**2))
