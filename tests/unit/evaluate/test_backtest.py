import numpy as np
import pandas as pd
import pytest

from atft.evaluate import metrics, regimes
from atft.evaluate.backtest import Decisions, backtest, drawdown
from atft.evaluate.costs import Costs, liquidity
from atft.evaluate.execution import Rules, executed
from atft.evaluate.strategies import Strategy
from atft.evaluate.summary import summarise, summarise_equal_weight

DATES = np.arange("2020-01-01", "2020-12-01", dtype="datetime64[D]")


def make_decisions(*, horizon=1, seed=2, edge=0.1):
    """120 decisions on 40 stocks, after 100 days of history."""
    random = np.random.default_rng(seed)
    count = 221 + horizon
    scores = random.standard_normal((count, 40))
    close = 20 * np.cumprod(1 + 0.02 * (edge * scores + random.standard_normal((count, 40))), axis=0)
    days = np.arange(100, 220)
    execution = executed(days, close, rules=Rules(lag=0, horizon=horizon))
    volume = random.uniform(1e4, 1e6, close.shape)
    return Decisions(
        scores[days + 1], np.ones((120, 40), dtype=bool), execution, DATES[execution.exits],
        regimes.market_returns(close), liquidity(close, volume, days),
    ), close[days + horizon] / close[days] - 1  # fmt: skip


@pytest.mark.parametrize("horizon", [1, 5])
def test_without_drift_the_figures_are_those_that_the_result_states(horizon):
    decisions, returns = make_decisions(horizon=horizon)
    for strategy, expected in (
        ("score", summarise(decisions.scores, returns, decisions.scored, cost_bps=5, horizon=horizon)),
        ("equal-weight", summarise_equal_weight(returns, decisions.scored, cost_bps=5, horizon=horizon)),
    ):
        found = backtest(decisions, Strategy(strategy), Costs(5), drift=False)
        for ours, theirs in ((found.sharpe, expected.sharpe_annual), (found.sharpe_net, expected.sharpe_net_annual)):
            assert (ours.estimate, ours.low) == (pytest.approx(theirs.estimate, rel=1e-10), pytest.approx(theirs.low))
        assert found.turnover.mean() == pytest.approx(expected.turnover, rel=1e-12)
        assert found.drawdown_net.depth == pytest.approx(expected.max_drawdown_net, rel=1e-12)
        assert found.ic.estimate == pytest.approx(expected.ic.estimate, rel=1e-12, nan_ok=True)


def test_sharpe_and_drawdown_are_those_of_empyrical():
    empyrical = pytest.importorskip("empyrical")
    found = backtest(make_decisions()[0], Strategy("quantile", quantile=0.2), Costs(2))
    for daily, sharpe, fall in (
        (found.gross, found.sharpe, found.drawdown),
        (found.net, found.sharpe_net, found.drawdown_net),
    ):
        # empyrical divides by n - 1, the house by n
        ratio = empyrical.sharpe_ratio(daily) * np.sqrt(len(daily) / (len(daily) - 1))
        assert sharpe.estimate == pytest.approx(ratio, rel=1e-10)
        assert fall.depth == pytest.approx(-empyrical.max_drawdown(daily), abs=1e-10)
    months = empyrical.aggregate_returns(pd.Series(found.net, index=pd.DatetimeIndex(found.dates)), "monthly")
    np.testing.assert_allclose([net for _, _, net in found.months()], months.to_numpy(), rtol=0, atol=1e-10)


def test_the_sides_add_up_to_the_whole_and_each_has_its_own():
    found = backtest(make_decisions()[0], Strategy("score"), Costs())
    assert found.long.mean_return + found.short.mean_return == pytest.approx(found.gross.mean(), rel=1e-12)
    held = found.trades.held
    np.testing.assert_allclose(np.where(held > 0, found.trades.gains, 0).sum(1).mean(), found.long.mean_return)
    assert backtest(make_decisions()[0], Strategy("top-k", k=5), Costs()).short is None


def test_top_k_stands_beside_the_market_executed_in_the_same_way():
    decisions, _ = make_decisions(edge=0.3)
    found = backtest(decisions, Strategy("top-k", k=4), Costs(5))
    market = backtest(decisions, Strategy("equal-weight"), Costs(5))
    excess = found.net - market.net
    assert found.excess_return == pytest.approx(excess.mean())
    assert found.excess.estimate == pytest.approx(np.sqrt(252) * metrics.sharpe(excess))
    assert market.excess is None
    whole = backtest(decisions, Strategy("top-k", k=40), Costs(5))
    assert whole.excess_return == pytest.approx(0, abs=1e-15)


def test_every_part_has_the_figures_of_its_own_days():
    decisions, _ = make_decisions()
    found = backtest(decisions, Strategy("score"), Costs(5))
    part = next(part for part in found.parts if part.name == "2020 Q2")
    held = (found.dates >= np.datetime64("2020-04-01")) & (found.dates < np.datetime64("2020-07-01"))
    assert part.days == held.sum()
    assert part.sharpe_net.estimate == pytest.approx(np.sqrt(252) * metrics.sharpe(found.net[held]))
    assert part.ic.estimate == pytest.approx(found.ics[held].mean())
    assert part.turnover == pytest.approx(found.turnover[held].mean())
    assert {each.kind for each in found.parts} == {"year", "quarter", "half", "volatility", "market"}


def test_more_capital_means_more_impact_and_the_stated_part_of_the_cost():
    decisions, _ = make_decisions()
    free = backtest(decisions, Strategy("score"), Costs(5))
    found = backtest(decisions, Strategy("score"), Costs(5, impact=1, capital=1e6))
    assert (free.net - found.net).mean() == pytest.approx(found.impact, rel=1e-9)
    assert found.impact > 0 == free.impact


def test_a_drawdown_tells_its_peak_its_trough_and_its_recovery():
    dates = DATES[:6]
    found = drawdown(np.array([0.1, -0.2, 0.05, -0.1, 0.5, 0.0]), dates)
    assert (found.peak, found.trough, found.recovered) == (dates[0], dates[3], dates[4])
    assert found.depth == pytest.approx(1 - 0.8 * 1.05 * 0.9)
    found = drawdown(np.array([-0.1, 0.05]), dates)
    assert (found.peak, found.trough, found.recovered) == (None, dates[0], None)
    assert drawdown(np.array([0.1]), dates).depth == 0
