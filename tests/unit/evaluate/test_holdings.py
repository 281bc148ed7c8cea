"""No stock vanishes from a portfolio: what it comes to where its label is missing, against books of shares and cash."""

import numpy as np
import pytest

from atft.evaluate import baselines, metrics, portfolio, summary
from atft.evaluate.execution import Rules, executed
from atft.evaluate.holdings import Holdings
from tests.unit.evaluate import money

NAN = np.nan


def gappy_market(seed, stocks=8, count=40):
    """Closes with suspensions and two stocks that leave; scores wherever there is a close."""
    random = np.random.default_rng(seed)
    close = 20 * np.cumprod(1 + 0.03 * random.standard_normal((count, stocks)), axis=0)
    close[random.random(close.shape) < 0.1] = NAN
    close[count // 2 :, 1] = NAN
    close[count // 3 :, 2] = NAN
    return close, np.where(np.isfinite(close), random.standard_normal(close.shape), NAN)


def labels_of(close, days, horizon, lag=0):
    return close[days + lag + horizon] / close[days + lag] - 1


@pytest.mark.parametrize(("seed", "horizon"), [(0, 1), (1, 1), (2, 3)])
def test_positions_earn_what_an_account_that_holds_them_does(seed, horizon):
    close, scores = gappy_market(seed)
    days = np.arange(2, 40 - horizon)
    scores, scored = scores[days], np.isfinite(scores[days])
    returns = labels_of(close, days, horizon)
    valid = scored & np.isfinite(returns)
    assert (scored & ~valid).sum() > 10
    holdings = Holdings.executed(scored, executed(days, close, rules=Rules("close", 0, horizon)))
    got = summary.summarise(scores, returns, valid, cost_bps=5, horizon=horizon, holdings=holdings)
    market = money.Market.of(close, close, close, np.ones_like(close, dtype=bool))
    targets = portfolio.positions(scores, scored)
    earned = []
    for row, day in enumerate(days):  # shares bought with each weight, and what they fetch
        shares = {stock: weight / close[day, stock] for stock, weight in enumerate(targets[row]) if weight}
        fetched = sum(count * market.last_price("close", day + horizon, stock) for stock, count in shares.items())
        earned.append((fetched - targets[row].sum()) / horizon)
    np.testing.assert_allclose(got.gross, earned, rtol=0, atol=1e-14)
    assert got.valued_at_last_price == (scored & ~valid).sum()
    assert got.not_bought == 0
    assert got.decisions == valid.sum()


def test_a_stock_that_leaves_takes_its_loss_with_it_and_is_not_dropped_afterwards():
    """Held at 1/2 each; the second falls by half and is never seen again: its last price is half of what was paid."""
    close = np.array([[10.0, 10.0], [10.0, 10.0], [11.0, 5.0], [12.1, NAN], [12.1, NAN]])
    days = np.array([1, 2])
    scored = np.isfinite(close[days])
    returns = close[days + 2] / close[days] - 1
    holdings = Holdings.executed(scored, executed(days, close, rules=Rules("close", 0, 2)))
    got = summary.summarise_equal_weight(
        returns, scored & np.isfinite(returns), cost_bps=0, horizon=2, holdings=holdings
    )
    np.testing.assert_allclose(got.gross, [(0.5 * 0.21 - 0.5 * 0.5) / 2, 0.5 * 0.1 / 2])
    assert (got.valued_at_last_price, got.not_bought) == (2, 0)
    dropped = summary.summarise_equal_weight(returns, scored & np.isfinite(returns), cost_bps=0, horizon=2)
    assert dropped.gross[0] == pytest.approx(0.21 / 2)  # what it looks like when the loser is forgotten


def test_what_cannot_be_bought_stays_in_cash_and_moves_no_other_position():
    """Decided on day 0, executed on day 1, when the last stock has no price; positions are spread over all three."""
    close = np.array([[10.0, 10.0, 10.0], [10.0, 10.0, NAN], [12.0, 10.0, 9.0]])
    days, scores = np.array([0]), np.array([[2.0, 0.0, 1.0]])
    holdings = Holdings.executed(np.ones((1, 3), dtype=bool), executed(days, close, rules=Rules("close", 1, 1)))
    returns = labels_of(close, days, 1, lag=1)
    got = summary.summarise(scores, returns, np.isfinite(returns), cost_bps=0, holdings=holdings)
    assert (got.valued_at_last_price, got.not_bought) == (0, 1)
    assert got.gross[0] == pytest.approx(0.5 * 0.2)
    three = summary.summarise(
        np.array([[2.0, 0.0, 4.0]]), returns, np.isfinite(returns), cost_bps=100, holdings=holdings
    )
    assert three.gross[0] == 0  # the first is the mean of the three, and the winner of the other two cannot be bought
    assert three.turnover == pytest.approx(0.5)


def test_coefficients_and_deciles_know_labels_only():
    close, scores = gappy_market(3, stocks=40)
    days = np.arange(2, 39)
    scores, returns = scores[days], labels_of(close, days, 1)
    scored = np.isfinite(scores)
    valid = scored & np.isfinite(returns)
    holdings = Holdings.executed(scored, executed(days, close, rules=Rules()))
    got = summary.summarise(scores, returns, valid, cost_bps=5, holdings=holdings)
    left_out = summary.summarise(scores, returns, valid, cost_bps=5)
    np.testing.assert_array_equal(got.ics, metrics.information_coefficient(scores, returns, valid))
    np.testing.assert_array_equal(got.rank_ics, left_out.rank_ics)
    np.testing.assert_array_equal(got.deciles, left_out.deciles)
    assert got.pooled_sharpe == left_out.pooled_sharpe
    assert got.sharpe.estimate != left_out.sharpe.estimate


def test_a_day_of_which_no_label_is_known_counts_for_the_portfolio_alone():
    close = np.array([[10.0, 10.0], [11.0, 10.0], [NAN, NAN], [12.0, 9.0]])
    days, scores = np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])
    returns = labels_of(close, days, 1)
    holdings = Holdings.executed(np.ones((2, 2), dtype=bool), executed(days, close, rules=Rules()))
    got = summary.summarise(scores, returns, np.isfinite(returns), cost_bps=0, holdings=holdings)
    assert (got.days, got.days_left_out, got.decisions, got.valued_at_last_price) == (2, 0, 2, 2)
    np.testing.assert_allclose(got.gross, [0.05, 0.0])
    assert np.isnan(got.ics[1])


def test_luck_is_measured_on_the_same_holdings_as_the_scores():
    close, scores = gappy_market(4, stocks=30)
    days = np.arange(2, 39)
    scores, returns = scores[days], labels_of(close, days, 1)
    scored = np.isfinite(scores)
    valid = scored & np.isfinite(returns)
    holdings = Holdings.executed(scored, executed(days, close, rules=Rules()))
    got = summary.summarise_shuffled(scores, returns, valid, cost_bps=0, seed=5, repeats=20, holdings=holdings)
    first = next(baselines.shuffled(scores, scored, seed=5, repeats=1))
    gross = (portfolio.positions(first, scored) * np.nan_to_num(holdings.earned)).sum(1)
    np.testing.assert_allclose(got.example.gross, gross, atol=1e-15)
    assert got.example.valued_at_last_price == (scored & ~valid).sum() > 0
    each = [
        metrics.sharpe((portfolio.positions(one, scored) * np.nan_to_num(holdings.earned)).sum(1))
        for one in baselines.shuffled(scores, scored, seed=5, repeats=20)
    ]
    assert got.sharpe.estimate == pytest.approx(np.mean(each))


def test_labels_without_holdings_are_refused():
    scored = np.array([[True, False]])
    holdings = Holdings.labelled(np.zeros((1, 2)), scored)
    with pytest.raises(ValueError, match="1 valid entries are none that positions are spread over"):
        summary.summarise_equal_weight(np.zeros((1, 2)), np.ones((1, 2), dtype=bool), cost_bps=0, holdings=holdings)


@pytest.mark.parametrize("horizon", [1, 2])
def test_two_test_groups_with_a_gap_are_two_periods_the_first_of_which_is_sold(horizon):
    random = np.random.default_rng(6)
    scores, returns = random.standard_normal((30, 5)), 0.02 * random.standard_normal((30, 5))
    valid = np.ones((30, 5), dtype=bool)
    valid[20] = False  # a day that is left out is no gap
    stretch = portfolio.stretches(np.concatenate([np.arange(40, 52), np.arange(90, 108)]))
    whole = summary.summarise(
        scores, returns, valid, cost_bps=10, horizon=horizon, holdings=Holdings.labelled(returns, valid, stretch)
    )
    parts = [
        summary.summarise(scores[rows], returns[rows], valid[rows], cost_bps=10, horizon=horizon)
        for rows in (slice(0, 12), slice(12, 30))
    ]
    np.testing.assert_allclose(whole.gross, np.concatenate([part.gross for part in parts]), atol=1e-15)
    paid = np.concatenate([part.net for part in parts]) - whole.net
    sold = np.zeros(29)
    sold[12 - horizon : 12] = 10 / 1e4 / horizon  # each of unit gross value
    np.testing.assert_allclose(paid, sold, atol=1e-15)
    assert whole.turnover == pytest.approx((12 * parts[0].turnover + 17 * parts[1].turnover + 1) / 29)
    assert whole.max_drawdown == max(part.max_drawdown for part in parts)
