import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atft.errors import UseError
from atft.evaluate import strategies
from atft.evaluate.execution import Rules, executed
from atft.evaluate.strategies import Strategy
from atft.evaluate.trading import trade

LONG_SHORT = (Strategy("score"), Strategy("quantile", quantile=0.2), Strategy("quantile", quantile=0.45))

cross_sections = st.tuples(st.integers(1, 5), st.integers(4, 12)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float64, shape, elements=st.integers(-20, 20).map(float)),
        hnp.arrays(np.bool_, shape, elements=st.booleans()),
    )
)
"""Scores ``[days, stocks]`` with many ties, and which are there."""


def test_quantile_and_top_k_by_hand():
    scores = np.array([[5.0, 1.0, 4.0, 2.0, 3.0, np.nan]])
    scored = np.isfinite(scores)
    np.testing.assert_allclose(strategies.long_short(scores, scored, 0.4), [[0.25, -0.25, 0.25, -0.25, 0, 0]])
    np.testing.assert_allclose(strategies.long_short(scores, scored, 0.01), [[0.5, -0.5, 0, 0, 0, 0]])
    np.testing.assert_allclose(strategies.top(scores, scored, 3), [[1 / 3, 0, 1 / 3, 0, 1 / 3, 0]])


def test_stocks_tied_at_the_edge_share_its_last_places():
    scores = np.array([[3.0, 2.0, 2.0, 2.0, 1.0, 0.0]])
    scored = np.ones_like(scores, dtype=bool)
    np.testing.assert_allclose(strategies.top(scores, scored, 2), [[1 / 2, 1 / 6, 1 / 6, 1 / 6, 0, 0]])
    np.testing.assert_allclose(
        strategies.long_short(scores, scored, 1 / 3), [[1 / 4, 1 / 12, 1 / 12, 1 / 12, -1 / 4, -1 / 4]]
    )


@pytest.mark.parametrize("stocks", range(10, 200, 10))
def test_a_tenth_of_a_number_of_stocks_is_not_rounded_down(stocks):
    held = strategies.long_short(np.arange(stocks, dtype=float)[None], np.ones((1, stocks), dtype=bool), 0.1)
    assert ((held > 0).sum(), (held < 0).sum()) == (stocks // 10, stocks // 10)


@settings(max_examples=50, deadline=None)
@given(cross_sections)
def test_long_short_positions_sum_to_0_at_unit_gross_and_long_ones_to_1(section):
    scores, scored = section
    for strategy in LONG_SHORT:
        held = strategy.targets(scores, scored)
        gross = np.abs(held).sum(1)
        assert np.abs(held.sum(1)).max() < 1e-12
        assert (np.isclose(gross, 1, rtol=1e-12) | (gross == 0)).all()
        assert not held[~scored].any()
        for day, row in enumerate(scored):
            varied = len(set(scores[day, row])) > 1
            assert (gross[day] > 0) == varied
    held = strategies.top(scores, scored, 3)
    np.testing.assert_allclose(held.sum(1), scored.any(1), rtol=1e-12)
    assert (held >= 0).all()


@settings(max_examples=40, deadline=None)
@given(cross_sections, st.sampled_from([0.5, 3.0, 1e6, 1e-6]), st.integers(-50, 50), st.randoms(use_true_random=False))
def test_positions_depend_on_neither_scale_level_nor_order_of_the_stocks(section, factor, level, random):
    scores, scored = section
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    for strategy in LONG_SHORT:
        expected = strategy.targets(scores, scored)
        np.testing.assert_allclose(strategy.targets(factor * (scores + level), scored), expected, atol=1e-12)
        np.testing.assert_allclose(strategy.targets(scores[:, order], scored[:, order]), expected[:, order], atol=1e-14)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"name": "quantile", "quantile": 0.5}, "quantile = 0.5 must be above 0 and below 0.5.*Mend"),
        ({"name": "quantile", "quantile": 0.0}, "quantile = 0 must be"),
        ({"name": "quantile", "quantile": float("nan")}, "quantile = nan must be"),
        ({"name": "top-k", "k": 0}, "k = 0 must be at least 1"),
        ({"name": "best"}, "'best' is none of score, quantile, top-k, equal-weight"),
    ],
)
def test_strategies_out_of_bounds_are_refused(bad, told):
    with pytest.raises(UseError, match=told):
        Strategy(**bad)


def test_a_k_above_the_stocks_of_a_day_is_refused_by_name_of_the_day():
    scored = np.ones((3, 6), dtype=bool)
    scored[1, :3], scored[2] = False, False
    dates = np.array(["2020-01-02", "2020-01-03", "2020-01-06"], dtype="datetime64[D]")
    with pytest.raises(
        UseError, match=r"k = 4: 1 of 3 days have fewer scored stocks, the fewest 3 on 2020-01-03.*--k 3"
    ):
        Strategy("top-k", k=4).targets(np.zeros((3, 6)), scored, dates)


@pytest.fixture(scope="module")
def shared_case():
    """Scores, next-day returns, and alphalens' table of them: 30 days of 40 stocks in 10 quantiles of 4."""
    utils = pytest.importorskip("alphalens.utils")
    random = np.random.default_rng(4)
    scores = random.standard_normal((30, 40))
    close = 20 * np.exp(np.cumsum(0.02 * random.standard_normal((32, 40)), axis=0))
    returns = close[2:] / close[1:-1] - 1
    index = pd.MultiIndex.from_product([pd.bdate_range("2020-01-01", periods=30), range(40)], names=["date", "asset"])
    table = pd.DataFrame({"1D": returns.ravel(), "factor": scores.ravel()}, index=index)
    table["factor_quantile"] = utils.quantize_factor(table, quantiles=10)
    return scores, executed(np.arange(30), close, rules=Rules(lag=1)), table


def test_score_weights_and_their_returns_are_those_of_alphalens(shared_case):
    from alphalens import performance

    scores, execution, table = shared_case
    trades = trade(Strategy("score").targets(scores, np.isfinite(scores)), execution)
    weights = performance.factor_weights(table).to_numpy().reshape(30, 40)
    np.testing.assert_allclose(trades.held, weights, rtol=0, atol=1e-10)
    np.testing.assert_allclose(trades.gross, performance.factor_returns(table)["1D"].to_numpy(), rtol=0, atol=1e-10)


def test_quantile_returns_and_turnover_are_those_of_alphalens(shared_case):
    from alphalens import performance

    scores, execution, table = shared_case
    targets = Strategy("quantile", quantile=0.1).targets(scores, np.isfinite(scores))
    trades = trade(targets, execution, drift=False)
    means, _ = performance.mean_return_by_quantile(table, by_date=True, demeaned=False)
    spread, _ = performance.compute_mean_returns_spread(means, 10, 1)
    np.testing.assert_allclose(trades.gross, spread["1D"].to_numpy(), rtol=0, atol=1e-10)
    sides = [(means.loc[quantile]["1D"] * sign / 2).to_numpy() for quantile, sign in ((10, 1), (1, -1))]
    np.testing.assert_allclose([trades.side(1), trades.side(-1)], sides, rtol=0, atol=1e-10)
    replaced = sum(performance.quantile_turnover(table["factor_quantile"], each).to_numpy() for each in (1, 10))
    np.testing.assert_allclose(trades.turnover[1:], replaced[-29:], rtol=0, atol=1e-10)
