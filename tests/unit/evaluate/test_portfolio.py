import numpy as np
import pytest
import torch

from atft.evaluate import portfolio
from atft.objective.portfolio import positions as positions_of_training

SCORES = np.array([[3.0, 1.0, 2.0, np.nan], [1.0, 1.0, 4.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
RETURNS = np.array([[0.02, -0.01, 0.03, np.nan], [0.00, 0.04, 0.01, -0.02], [0.01, 0.02, 0.03, 0.04]])
VALID = np.array([[True, True, True, False], [True, True, True, True], [True, True, True, True]])
"""By hand: day 1 deviations (1, -1, 0); day 2 (-1, -1, 2, 0); day 3 constant."""
HELD = np.array([[0.5, -0.5, 0.0, 0.0], [-0.25, -0.25, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])


def test_positions_returns_and_costs_are_those_worked_out_by_hand():
    held = portfolio.positions(SCORES, VALID)
    np.testing.assert_allclose(held, HELD, atol=1e-15)
    gross, net = portfolio.daily_returns(held, RETURNS, cost_bps=10)
    np.testing.assert_allclose(gross, [0.015, -0.005, 0.0], atol=1e-15)
    np.testing.assert_allclose(portfolio.turnover(held), [1.0, 1.5, 1.0])
    np.testing.assert_allclose(net, [0.015 - 0.001, -0.005 - 0.0015, -0.001], atol=1e-15)


def test_pooled_sharpe_is_that_worked_out_by_hand():
    x = [3 * 0.5 * 0.02, 3 * -0.5 * -0.01, 0.0, 0.0, 4 * -0.25 * 0.04, 4 * 0.5 * 0.01, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert portfolio.pooled_sharpe(SCORES, RETURNS, VALID) == pytest.approx(np.mean(x) / np.std(x), rel=1e-12)


def test_positions_are_those_that_training_optimises():
    random = np.random.default_rng(1)
    scores, valid = random.standard_normal((20, 30)), random.random((20, 30)) < 0.7
    ours = portfolio.positions(scores, valid)
    theirs = positions_of_training(torch.from_numpy(scores), torch.from_numpy(valid)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-15)
    np.testing.assert_allclose(ours.sum(1), 0, atol=1e-15)
    np.testing.assert_allclose(np.abs(ours).sum(1), 1)


@pytest.mark.parametrize("factor", [1e-200, 1e-9, 1.0, 1e200])
def test_positions_do_not_depend_on_the_scale_or_level_of_scores(factor):
    random = np.random.default_rng(2)
    scores, valid = random.standard_normal((5, 10)), np.ones((5, 10), dtype=bool)
    expected = portfolio.positions(scores, valid)
    np.testing.assert_allclose(portfolio.positions(factor * scores, valid), expected, rtol=1e-9)
    np.testing.assert_allclose(portfolio.positions(scores + 1e3, valid), expected, atol=1e-12)


def test_a_day_of_constant_scores_or_of_one_stock_has_no_position():
    scores = np.array([[0.1, 0.1, 0.1], [1e9 / 3, 1e9 / 3, 1e9 / 3], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    valid = np.array([[True] * 3, [True] * 3, [True, False, False], [False] * 3])
    assert not portfolio.positions(scores, valid).any()


def test_a_position_in_a_stock_without_a_return_is_refused():
    with pytest.raises(ValueError, match="1 valid entries of returns are not finite, the first on row 1"):
        portfolio.daily_returns(np.array([[0.0, 0.0], [0.5, -0.5]]), np.array([[np.nan, 0.0], [np.nan, 0.0]]))


def test_costs_of_overlapping_positions_are_those_of_renewing_each_part():
    """Held 2 days: day 3 renews day 1, day 4 renews day 2, so that alternating books cost nothing after their entry."""
    book = np.array([[0.5, -0.5], [-0.5, 0.5]] * 3)
    np.testing.assert_allclose(portfolio.turnover(book, horizon=1), [1, 2, 2, 2, 2, 2])
    np.testing.assert_allclose(portfolio.turnover(book, horizon=2), [1, 1, 0, 0, 0, 0])
    gross, net = portfolio.daily_returns(book, np.zeros_like(book), cost_bps=100, horizon=2)
    np.testing.assert_allclose(gross - net, [0.01, 0.01, 0, 0, 0, 0])


def test_drawdown_is_the_largest_fall_of_compounded_wealth_from_a_peak_the_start_included():
    assert portfolio.max_drawdown(np.array([0.10, -0.20, 0.05, -0.10, 0.50])) == pytest.approx(1 - 0.8 * 1.05 * 0.9)
    assert portfolio.max_drawdown(np.array([-0.10, 0.30])) == pytest.approx(0.10)
    assert portfolio.max_drawdown(np.array([0.01, np.nan, 0.02])) == 0
    assert portfolio.max_drawdown(np.array([0.5, -1.5, 3.0])) == 1
    assert np.isnan(portfolio.max_drawdown(np.array([np.nan])))


def test_equal_weight_holds_the_same_of_every_valid_stock():
    held = portfolio.equal_weight(np.array([[True, False, True, True], [False] * 4]))
    np.testing.assert_allclose(held, [[1 / 3, 0, 1 / 3, 1 / 3], [0, 0, 0, 0]])


def test_before_a_gap_all_is_sold_and_after_it_all_is_bought_anew():
    """Days 1 to 3, then 7 to 9; the same book throughout, so that only entries and the exit before the gap cost."""
    book = np.tile([0.5, -0.5], (6, 1))
    stretch = portfolio.stretches(np.array([1, 2, 3, 7, 8, 9]))
    np.testing.assert_array_equal(stretch, [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(portfolio.turnover(book, 1, stretch), [1, 0, 1, 1, 0, 0])
    np.testing.assert_allclose(portfolio.turnover(book, 2, stretch), [1, 2, 1, 1, 1, 0])
    np.testing.assert_allclose(portfolio.turnover(book, 1), [1, 0, 0, 0, 0, 0])
    gross, net = portfolio.daily_returns(book, np.zeros_like(book), 100, 1, stretch)
    np.testing.assert_allclose(gross - net, [0.01, 0, 0.01, 0.01, 0, 0])


def test_a_group_shorter_than_the_holding_period_sells_all_that_it_bought():
    stretch = portfolio.stretches(np.array([1, 5, 6, 7]))
    np.testing.assert_allclose(portfolio.turnover(np.tile([0.5, -0.5], (4, 1)), 3, stretch), [2, 1, 1, 1])


def test_a_drawdown_does_not_reach_over_a_gap():
    daily, stretch = np.array([0.1, -0.1, -0.1, 0.05, -0.15]), np.array([0, 0, 1, 1, 1])
    assert portfolio.max_drawdown(daily, stretch) == pytest.approx(1 - 0.9 * 1.05 * 0.85)
    assert portfolio.max_drawdown(daily) == pytest.approx(1 - 0.9 * 0.9 * 1.05 * 0.85)
    assert portfolio.max_drawdown(np.array([np.nan, -0.2]), np.array([0, 1])) == pytest.approx(0.2)
