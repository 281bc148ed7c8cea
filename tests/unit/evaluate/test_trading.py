import numpy as np
import pytest

from atft.errors import UseError
from atft.evaluate import costs, portfolio
from atft.evaluate.execution import Rules, executed
from atft.evaluate.strategies import Strategy
from atft.evaluate.trading import trade
from tests.unit.evaluate import money

DAYS, STOCKS = 60, 7


def make_market(seed, *, gaps=True):
    """``close, open, volume, may`` of 7 stocks, with missing days, a delisting, a late listing and halts."""
    random = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(0.03 * random.standard_normal((DAYS, STOCKS)), axis=0))
    open_ = close * np.exp(0.01 * random.standard_normal((DAYS, STOCKS)))
    volume = random.integers(100, 10_000, (DAYS, STOCKS)).astype(float)
    may = np.ones((DAYS, STOCKS), dtype=bool)
    if gaps:
        missing = random.random((DAYS, STOCKS)) < 0.08
        missing[:25] = False  # so that every decision knows a volatility
        missing[-1] = False
        missing[38:45, 2] = False
        missing[45:, 2] = True  # it can be bought to its last day
        for table in (close, open_, volume):
            table[missing] = np.nan
        open_[(random.random((DAYS, STOCKS)) < 0.05) & (np.arange(STOCKS) != 2)] = np.nan
        may = (random.random((DAYS, STOCKS)) > 0.1) | (np.arange(STOCKS) == 2)
    return close, open_, volume, may & np.isfinite(close)


@pytest.mark.parametrize("at", ["close", "open"])
@pytest.mark.parametrize(("horizon", "lag"), [(1, 0), (1, 1), (2, 0), (3, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_returns_turnover_and_costs_are_those_of_keeping_books_of_shares_and_cash(at, horizon, lag, seed):
    close, open_, volume, may = make_market(seed)
    days = np.arange(26, DAYS - 1 - max(lag, 1) - horizon)
    scores = np.random.default_rng(seed + 50).standard_normal((len(days), STOCKS))
    scored = np.isfinite(close[days])
    targets = Strategy("score").targets(scores, scored)
    rules = Rules(at, lag, horizon, delisting_return=-0.3)
    execution = executed(days, close, rules=rules, open_=open_, tradable=may)
    trades = trade(targets, execution)
    paid = costs.Costs(bps=7, impact=0.8, capital=3e5)
    cost = costs.total(trades, paid, horizon, costs.liquidity(close, volume, days))
    expected = money.run(
        money.Market.of(close, open_, volume, may), targets.tolist(), days.tolist(), at=at, lag=lag, horizon=horizon,
        delisting_return=-0.3, bps=7, impact=0.8, capital=3e5,
    )  # fmt: skip
    assert (trades.blocked > 5, trades.delisted > 0, trades.stale > 0) == (True, True, True)
    np.testing.assert_allclose(np.column_stack([trades.gross, trades.turnover, cost]), expected, rtol=0, atol=1e-10)


def test_without_gaps_and_drift_the_figures_are_those_of_the_result():
    close, *_ = make_market(9, gaps=False)
    days = np.arange(20, 50)
    scores = np.random.default_rng(3).standard_normal((30, STOCKS))
    valid = np.ones_like(scores, dtype=bool)
    for horizon in (1, 3):
        trades = trade(
            portfolio.positions(scores, valid), executed(days, close, rules=Rules("close", 1, horizon)), drift=False
        )
        returns = close[days + 1 + horizon] / close[days + 1] - 1
        gross, net = portfolio.daily_returns(portfolio.positions(scores, valid), returns, 5, horizon)
        np.testing.assert_allclose(trades.gross, gross, atol=1e-14)
        np.testing.assert_allclose(trades.gross - costs.total(trades, costs.Costs(5), horizon), net, atol=1e-14)


def test_drift_by_hand():
    """Long half in a stock that doubles, short half in one that stands: wealth 1.5, weights 2/3 and -1/3."""
    close = np.array([[1.0, 1.0], [2.0, 1.0], [2.0, 1.0]])
    targets = np.array([[0.5, -0.5], [0.5, -0.5]])
    execution = executed(np.array([0, 1]), close, rules=Rules())
    np.testing.assert_allclose(trade(targets, execution).turnover, [1, 1 / 6 + 1 / 6])
    np.testing.assert_allclose(trade(targets, execution, drift=False).turnover, [1, 0])


def test_a_stock_that_cannot_be_traded_keeps_its_old_position_and_is_counted():
    close = np.ones((4, 3))
    tradable = np.ones((4, 3), dtype=bool)
    tradable[1, 0] = False
    targets = np.array([[0.5, -0.5, 0.0], [-0.5, 0.0, 0.5], [-0.5, 0.0, 0.5]])
    trades = trade(targets, executed(np.arange(3), close, rules=Rules(), tradable=tradable))
    np.testing.assert_allclose(trades.held, [[0.5, -0.5, 0.0], [0.5, 0.0, 0.5], [-0.5, 0.0, 0.5]])
    np.testing.assert_allclose(trades.turnover, [1, 1, 1])
    assert trades.blocked == 1


def test_a_stock_that_leaves_is_paid_out_once_at_its_last_price_and_the_return_stated():
    close = np.array([[10.0, 5.0], [11.0, 5.0], [np.nan, 5.0], [np.nan, 5.0], [np.nan, 5.0]])
    held = np.array([[0.5, 0.5]] * 4)
    for delisting_return in (0.0, -1.0, 0.25):
        execution = executed(np.arange(4), close, rules=Rules(delisting_return=delisting_return))
        trades = trade(held, execution)
        np.testing.assert_allclose(trades.gross, [0.05, 0.5 * delisting_return, 0, 0], atol=1e-15)
        assert (trades.delisted, trades.stale) == (1, 0)
        assert not trades.held[2:, 0].any()


def test_a_suspended_stock_is_held_at_its_last_price_until_it_is_back():
    close = np.array([[10.0, 5.0], [np.nan, 5.0], [np.nan, 5.0], [12.0, 5.0], [12.0, 5.0]])
    targets = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    trades = trade(targets, executed(np.arange(4), close, rules=Rules()))
    np.testing.assert_allclose(trades.gross, [0, 0, 0.2, 0], atol=1e-15)
    np.testing.assert_allclose(trades.turnover, [1, 0, 0, 1])
    assert (trades.blocked, trades.stale, trades.delisted) == (2, 2, 0)


def test_next_open_buys_at_the_open_of_the_next_day_and_sells_a_horizon_later():
    close = np.array([[1.0], [100.0], [100.0], [100.0]])
    open_ = np.array([[1.0], [10.0], [11.0], [22.0]])
    found = executed(np.array([0, 1]), close, rules=Rules("open", horizon=1), open_=open_)
    np.testing.assert_allclose(found.returns[:, 0], [0.1, 1.0])
    found = executed(np.array([0, 1, 2]), close, rules=Rules("open", horizon=2), open_=open_)
    np.testing.assert_allclose(found.returns[:, 0], [1.2])
    assert found.left_out == 2


@pytest.mark.parametrize(
    ("rules", "opens", "told"),
    [
        (Rules("open"), None, "the panel has no opening prices.*Mend: --execution close"),
        (Rules("open"), np.full((3, 1), np.nan), "the panel has no opening prices"),
        (Rules(lag=2), None, "none of 3 decisions has its exit, 2 \\+ 1 trading days later.*3 days"),
    ],
)
def test_an_execution_that_the_panel_cannot_give_is_refused(rules, opens, told):
    with pytest.raises(UseError, match=told):
        executed(np.arange(3), np.ones((3, 1)), rules=rules, open_=opens)


@pytest.mark.parametrize("bad", [{"lag": -1}, {"horizon": 0}, {"delisting_return": -1.5}, {"at": "noon"},
                                 {"delisting_return": float("nan")}])  # fmt: skip
def test_rules_out_of_bounds_are_refused(bad):
    with pytest.raises(UseError, match="Mend"):
        Rules(**bad)


def test_a_stock_leaves_only_where_its_own_market_goes_on_without_it():
    nan = np.nan
    close = np.array([
        [10.0, 20.0, 30.0, 40.0],
        [11.0, 21.0, 30.0, 44.0],
        [12.0, 22.0, nan, nan],  # the third and the fourth leave: their markets trade on
        [13.0, nan, nan, nan],   # the second's market is closed
        [14.0, nan, nan, nan],
    ])  # fmt: skip
    markets = ["A", "B", "A", "B"]
    rules = Rules(lag=1, delisting_return=-0.5)
    found = executed(np.arange(3), close, rules=rules, markets=markets)
    assert found.delisted.tolist() == [[False, False, True, True], [False] * 4, [False] * 4]
    assert found.stale.tolist() == [[False] * 4, [False, True, False, False], [False, True, False, False]]
    np.testing.assert_array_equal(found.returns[1:, 1], 0.0)
    np.testing.assert_array_equal(found.returns[0, 2:], -0.5)
    np.testing.assert_array_equal(found.tradable[:, 1], [True, True, False])
    # As one market the second stock would have left too: nobody knows of its holiday.
    one = executed(np.arange(3), close, rules=rules)
    assert one.delisted.tolist() == [[False, False, True, True], [False, True, False, False], [False] * 4]


@pytest.mark.parametrize("at", ["close", "open"])
def test_one_named_market_is_executed_as_an_unnamed_one(at):
    close, open_, _, may = make_market(4)
    days = np.arange(26, DAYS - 3)
    plain, named = (
        executed(days, close, rules=Rules(at, 1), open_=open_, tradable=may, markets=markets)
        for markets in ((), ["A"] * STOCKS)
    )
    assert plain.delisted.any()
    for field in ("returns", "stale", "delisted", "tradable"):
        assert getattr(plain, field).tobytes() == getattr(named, field).tobytes()


def test_a_stock_leaves_with_its_listing_though_its_market_does_not_trade_again():
    nan = np.nan
    close = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, nan, nan], [1.0, nan, nan]])
    rules, markets = Rules(delisting_return=-0.5), ["A", "B", "B"]
    found = executed(np.arange(3), close, rules=rules, markets=markets, listed_until=np.array([3, 1, 3]))
    assert found.delisted.tolist() == [[False] * 3, [False, True, False], [False] * 3]
    assert found.stale.tolist() == [[False] * 3, [False, False, True], [False, False, True]]
    np.testing.assert_array_equal(found.returns[1], [0, -0.5, 0])
