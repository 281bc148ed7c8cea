import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.errors import UseError
from atft.evaluate import costs
from atft.evaluate.costs import Costs, Liquidity
from atft.evaluate.execution import Rules, executed
from atft.evaluate.strategies import Strategy
from atft.evaluate.trading import trade


def make_case(seed=1, *, edge=0.3, horizon=1):
    """Trades of a good signal on 80 days of 20 stocks, and a market of the same decisions."""
    random = np.random.default_rng(seed)
    scores = random.standard_normal((80, 20))
    close = np.empty((80 + horizon, 20))
    close[0] = 10
    steps = 0.02 * (
        edge * np.vstack([scores, scores[:horizon]])[: 79 + horizon] + random.standard_normal((79 + horizon, 20))
    )
    close[1:] = 10 * np.cumprod(1 + steps, axis=0)
    execution = executed(np.arange(80), close, rules=Rules(horizon=horizon))
    trades = trade(Strategy("score").targets(scores, np.isfinite(scores)), execution)
    market = Liquidity(random.uniform(1e5, 1e7, (80, 20)), random.uniform(0.01, 0.05, (80, 20)), 0)
    return trades, market


def test_the_square_root_law_by_hand():
    """A quarter of 1e6 into a stock of 4e6 a day and σ .02: .02 √(1/16) = .005 of what is traded."""
    close = np.ones((2, 2))
    trades = trade(np.array([[0.25, -0.75]]), executed(np.arange(1), close, rules=Rules()))
    market = Liquidity(np.array([[4e6, 3e6]]), np.array([[0.02, 0.04]]), 0)
    expected = 0.25 * 0.02 * 0.25 + 0.75 * 0.04 * 0.5
    np.testing.assert_allclose(costs.total(trades, Costs(impact=1, capital=1e6), 1, market), [expected])
    np.testing.assert_allclose(costs.total(trades, Costs(impact=2, capital=4e6), 1, market), [4 * expected])
    np.testing.assert_allclose(costs.total(trades, Costs(bps=10), 1), [0.001])


def test_a_loan_is_paid_on_the_short_value_for_each_day_held():
    close = np.ones((5, 2))
    trades = trade(np.array([[0.4, -0.6]] * 2), executed(np.arange(2), close, rules=Rules(horizon=3)))
    np.testing.assert_allclose(costs.total(trades, Costs(borrow_bps=252), 3), [0.6 * 3e-4] * 2)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.floats(0, 50)] * 2), st.tuples(*[st.floats(0, 3)] * 2), st.tuples(*[st.floats(0, 500)] * 2),
    st.tuples(*[st.floats(1, 1e9)] * 2),
)  # fmt: skip
def test_costs_never_fall_when_a_rate_or_the_capital_rises(bps, impact, borrow, capital):
    trades, market = make_case()
    low, high = (
        costs.total(trades, Costs(*each), 1, market)
        for each in zip(*(map(float, sorted(pair)) for pair in (bps, impact, capital, borrow)))
    )
    assert (low <= high * (1 + 1e-12)).all()
    assert (low >= 0).all()


@pytest.mark.parametrize("horizon", [1, 4])
def test_at_the_stated_capital_impact_takes_half_and_all_of_the_net_return(horizon):
    trades, market = make_case(horizon=horizon)
    found = costs.capacity(trades, Costs(bps=3, impact=0.7, capital=1.0), horizon, market)
    left = (trades.gross - costs.total(trades, Costs(bps=3), horizon)).mean()
    assert left > 0
    for capital, rest in ((found.half, left / 2), (found.all, 0.0)):
        paid = costs.total(trades, Costs(bps=3, impact=0.7, capital=capital), horizon, market)
        assert (trades.gross - paid).mean() == pytest.approx(rest, abs=1e-12)


def test_at_the_stated_capital_few_trades_exceed_the_stated_share_of_traded_money():
    trades, market = make_case(horizon=2)
    found = costs.capacity(trades, Costs(), 2, market, participation=0.1, share=0.02)
    traded = np.abs(trades.traded)

    def exceeding(capital):
        return traded[traded * capital / 2 > 0.1 * market.money].sum() / traded.sum()

    assert exceeding(found.at_participation * (1 - 1e-9)) <= 0.02 < exceeding(found.at_participation * (1 + 1e-9))


def test_as_much_as_the_stated_share_may_exceed_the_participation():
    """Of two equal trades the one in the thinner stock, 1e6 a day, is half of the value: it may exceed a tenth."""
    close = np.ones((2, 2))
    trades = trade(np.array([[0.5, -0.5]]), executed(np.arange(1), close, rules=Rules()))
    market = Liquidity(np.array([[1e6, 2e6]]), np.full((1, 2), 0.02), 0)
    for share, expected in ((0.49, 2e5), (0.5, 4e5)):
        found = costs.capacity(trades, Costs(), 1, market, participation=0.1, share=share)
        assert found.at_participation == pytest.approx(expected)


def test_a_strategy_that_loses_has_no_capacity():
    trades, market = make_case(edge=-0.3)
    found = costs.capacity(trades, Costs(), 1, market)
    assert np.isnan([found.half, found.all]).all()
    with pytest.raises(UseError, match="participation = 0 must be above 0"):
        costs.capacity(trades, Costs(), 1, market, participation=0)


def test_liquidity_uses_nothing_after_the_decision_and_fills_what_is_unknown_with_the_worst():
    random = np.random.default_rng(1)
    close, volume = random.uniform(9, 11, (40, 4)), random.uniform(1, 2, (40, 4))
    volume[:, 3] = np.nan
    close[:, 2] = 10.0
    days = np.array([25, 30])
    found = costs.liquidity(close, volume, days)
    later = close.copy()
    later[31:] *= 100
    np.testing.assert_array_equal(
        costs.liquidity(later, volume * np.where(np.arange(40) > 30, 9, 1)[:, None], days).money, found.money
    )
    np.testing.assert_allclose(found.money[0, 0], (close[6:26, 0] * volume[6:26, 0]).mean())
    np.testing.assert_allclose(found.volatility[0, 0], np.std(close[6:26, 0] / close[5:25, 0] - 1, ddof=1))
    np.testing.assert_array_equal(found.money[:, 3], found.money[:, :3].min(1))
    np.testing.assert_allclose(found.volatility[:, 2], np.median(found.volatility[:, [0, 1, 3]], axis=1))
    assert found.estimated == 4
    assert costs.liquidity(close, None, days) is None
    assert costs.liquidity(close, volume, np.array([1])) is None


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"bps": -1}, "cost-bps = -1 must be at least 0.*Mend"),
        ({"bps": float("nan")}, "cost-bps = nan"),
        ({"impact": -0.1}, "impact = -0.1 must be at least 0"),
        ({"impact": 1.0}, "impact = 1 grows with the money.*--capital"),
        ({"capital": 0.0}, "capital = 0 must be above 0"),
        ({"borrow_bps": float("inf")}, "borrow-bps = inf"),
    ],
)
def test_costs_out_of_bounds_are_refused(bad, told):
    with pytest.raises(UseError, match=told):
        Costs(**bad)
