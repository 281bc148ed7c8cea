import numpy as np
import pandas as pd
import pytest

from atft.evaluate import metrics, portfolio, summary


@pytest.fixture
def market():
    """Scores with a planted IC of about .1 on 120 days of 60 stocks, with gaps and two days that do not count."""
    random = np.random.default_rng(1)
    scores = random.standard_normal((120, 60))
    returns = 0.02 * (0.1 * scores + random.standard_normal((120, 60)))
    valid = random.random((120, 60)) < 0.9
    valid[10] = False
    valid[11] = np.arange(60) == 3
    return np.where(valid, scores, np.nan), np.where(valid, returns, np.nan), valid


def test_summary_agrees_with_each_statistic_taken_on_its_own(market):
    scores, returns, valid = market
    got = summary.summarise(scores, returns, valid, cost_bps=5)
    rows = np.delete(np.arange(120), [10, 11])
    held = portfolio.positions(scores[rows], valid[rows])
    gross, net = portfolio.daily_returns(held, returns[rows], 5)
    ics = metrics.information_coefficient(scores[rows], returns[rows], valid[rows])
    assert (got.days, got.days_left_out, got.days_in_cash) == (118, 2, 0)
    assert got.decisions == valid[rows].sum()
    assert got.sharpe.estimate == pytest.approx(gross.mean() / gross.std())
    assert got.sharpe_annual.estimate == pytest.approx(np.sqrt(252) * gross.mean() / gross.std())
    assert got.sharpe_annual.low == pytest.approx(np.sqrt(252) * got.sharpe.low)
    assert got.sharpe_net.estimate == pytest.approx(net.mean() / net.std())
    assert (got.ic.estimate, got.icir) == (pytest.approx(ics.mean()), pytest.approx(ics.mean() / ics.std()))
    assert got.turnover == pytest.approx(portfolio.turnover(held).mean())
    assert got.max_drawdown_net == pytest.approx(portfolio.max_drawdown(net))
    np.testing.assert_array_equal(got.rows, rows)


def test_planted_signal_is_found_and_rises_over_the_deciles(market):
    got = summary.summarise(*market, cost_bps=0)
    assert got.ic.low < 0.1 < got.ic.high
    assert got.sharpe.low > 0
    assert got.deciles[-1] > 0.001 > -0.001 > got.deciles[0]


def test_decile_returns_are_those_of_pandas_qcut():
    random = np.random.default_rng(2)
    scores, returns = random.standard_normal((15, 50)), random.standard_normal((15, 50))
    table, days = summary.decile_returns(scores, returns, np.ones((15, 50), dtype=bool))
    expected = [pd.Series(r).groupby(pd.qcut(s, 10, labels=False)).mean() for s, r in zip(scores, returns)]
    np.testing.assert_allclose(table, np.mean(expected, axis=0), rtol=1e-12)
    assert days == 15


def test_days_too_small_for_deciles_are_left_out_of_the_table():
    scores = np.random.default_rng(3).standard_normal((4, 19))
    table, days = summary.decile_returns(scores, scores, np.ones((4, 19), dtype=bool))
    assert days == 0
    assert np.isnan(table).all()


def test_constant_scores_have_no_sharpe_ratio_and_no_ic_rather_than_zero(market):
    _, returns, valid = market
    got = summary.summarise(np.ones_like(returns), returns, valid, cost_bps=5)
    assert got.days_in_cash == got.days == 118
    undefined = [got.sharpe.estimate, got.sharpe.low, got.pooled_sharpe, got.ic.estimate, got.icir, got.rank_icir]
    assert np.isnan(undefined).all()
    assert np.isnan(got.deciles).all()


def test_equal_weight_earns_the_mean_of_the_stocks_and_ranks_nothing(market):
    _, returns, valid = market
    got = summary.summarise_equal_weight(returns, valid, cost_bps=0)
    assert got.days == 119  # one stock is enough to be held
    np.testing.assert_allclose(got.gross, np.nanmean(returns[valid.any(1)], axis=1), atol=1e-15)
    assert np.isnan([got.ic.estimate, got.icir, got.rank_ic.estimate, got.pooled_sharpe]).all()


def test_annual_sharpe_of_overlapping_labels_is_that_of_the_daily_ones():
    """Positions that never change earn, over 5 days, what 5 days of them earn: the same ratio per year."""
    random = np.random.default_rng(4)
    market = 0.0005 + 0.01 * random.standard_normal(20_004)
    scores = np.tile([1.0, -1.0], (20_000, 1))
    valid = np.ones_like(scores, dtype=bool)
    five = np.convolve(market, np.ones(5), "valid")
    one_day = summary.summarise(scores, np.column_stack([market[:20_000], 0 * five]), valid, cost_bps=0)
    overlapping = summary.summarise(scores, np.column_stack([five, 0 * five]), valid, cost_bps=0, horizon=5)
    assert overlapping.sharpe_annual.estimate == pytest.approx(one_day.sharpe_annual.estimate, rel=0.05)
    assert overlapping.sharpe_annual.standard_error == pytest.approx(one_day.sharpe_annual.standard_error, rel=0.1)
    assert overlapping.mean_return == pytest.approx(one_day.mean_return, rel=0.01)


def test_ic_by_month_is_the_mean_of_its_days_and_undefined_for_a_month_without_any():
    dates = np.array(["2017-01-30", "2017-01-31", "2017-02-01", "2017-03-01"], dtype="datetime64[D]")
    got = summary.ic_by_month(dates, np.array([0.1, 0.3, np.nan, -0.2]))
    assert [(m.month, m.days) for m in got] == [("2017-01", 2), ("2017-02", 0), ("2017-03", 1)]
    assert got[0].ic == pytest.approx(0.2)
    assert np.isnan(got[1].ic)


def test_shuffled_scores_cover_zero_and_their_range_is_the_error_of_an_uninformed_ratio(market):
    got = summary.summarise_shuffled(*market, cost_bps=5, seed=7, repeats=200)
    assert got.covers_zero
    assert got.sharpe.high - got.sharpe.low == pytest.approx(2 * 1.96 / np.sqrt(118), rel=0.2)
    assert got.share_above_ic == pytest.approx(1 / 201)  # no shuffle comes near the planted signal


def test_shuffling_is_fixed_by_its_seed(market):
    first, again, other = (
        summary.summarise_shuffled(*market, cost_bps=5, seed=seed, repeats=20).sharpe.estimate for seed in (7, 7, 8)
    )
    assert first == again != other


def test_shuffled_does_not_cover_zero_where_the_evaluation_itself_leaks(market, monkeypatch):
    """A mutation: shuffles that sort by the return they should know nothing of."""
    scores, returns, valid = market

    def leaking(scores, valid, *, seed, repeats):
        random, known = np.random.default_rng(seed), np.delete(returns, [10, 11], axis=0)
        for _ in range(repeats):
            yield known + 0.1 * random.standard_normal(scores.shape)

    monkeypatch.setattr(summary.baselines, "shuffled", leaking)
    assert not summary.summarise_shuffled(scores, returns, valid, cost_bps=5, seed=7, repeats=20).covers_zero
