"""The published protocol's figures against plain loops, closed forms and a worked example."""

import numpy as np
import pytest
from scipy import stats

from atft.evaluate import metrics
from atft.evaluate.protocol import counted_days, luck, market_figures, protocol_figures, sharpe_difference


@pytest.fixture
def market():
    random = np.random.default_rng(4)
    scores = random.standard_normal((40, 30))
    returns = 0.002 * scores + 0.02 * random.standard_normal((40, 30)) + 0.005 * random.standard_normal((40, 1))
    valid = random.random((40, 30)) < 0.9
    return np.where(valid, scores, np.nan), np.where(valid, returns, np.nan), valid


def by_loops(scores, returns, valid):
    """The published formulas, a day at a time, over the stocks that count."""
    ics, precision, top, reciprocal, first = [], [], [], [], []
    for day in range(len(scores)):
        s, r = scores[day][valid[day]], returns[day][valid[day]]
        order = sorted(range(len(s)), key=lambda i: -s[i])
        ics.append(stats.pearsonr(s, r).statistic)
        precision.append(sum(r[i] >= 0 for i in order[:10]) / 10)
        top.append(sum(r[i] for i in order[:5]) / 5)
        reciprocal.append(1 / (1 + sorted(r, reverse=True).index(r[order[0]])))
        first.append(r[order[0]])
    return {
        "ic": np.mean(ics), "icir": np.mean(ics) / np.std(ics), "precision": np.mean(precision),
        "sharpe": np.mean(top) / np.std(top) * 15.87, "mrr": np.mean(reciprocal), "irr": np.sum(first),
    }  # fmt: skip


def test_figures_are_those_of_the_published_formulas(market):
    found = protocol_figures(*market)
    for name, expected in by_loops(*market).items():
        assert getattr(found, name).estimate == pytest.approx(expected, rel=1e-12), name
        assert getattr(found, name).low < expected < getattr(found, name).high, name


def test_a_worked_example_of_two_days():
    scores = np.array([np.arange(12.0, 0, -1), np.arange(12.0)])
    returns = np.array([[0.05, -0.01, 0.02, 0.0, -0.03, 0.01, 0.04, -0.02, 0.0, 0.03, 0.2, -0.5],
                        [0.1, 0.2, 0.01, 0.01, 0.01, 0.01, 0.01, 0.03, 0.0, -0.02, 0.01, -0.01]])  # fmt: skip
    found = protocol_figures(scores, returns, np.ones((2, 12), dtype=bool))
    assert found.precision.estimate == pytest.approx((7 + 8) / 20)
    np.testing.assert_allclose(found.top, [0.03 / 5, 0.01 / 5])
    assert found.irr.estimate == pytest.approx(0.05 - 0.01)
    assert found.mrr.estimate == pytest.approx((1 / 2 + 1 / 11) / 2)


def test_a_stock_without_score_or_return_is_in_no_figure(market):
    scores, returns, valid = market
    other = returns.copy()
    other[~valid] = 10.0
    before, after = protocol_figures(scores, returns, valid), protocol_figures(scores, other, valid)
    assert (before.sharpe, before.ic, before.mrr, before.irr) == (after.sharpe, after.ic, after.mrr, after.irr)


def test_days_of_fewer_than_ten_stocks_do_not_count(market):
    scores, returns, valid = market
    valid[3, 9:] = False
    assert 3 not in counted_days(valid)
    assert len(counted_days(valid)) == 39
    with pytest.raises(ValueError, match="fewer than 10"):
        protocol_figures(scores, returns, valid)


def test_equal_scores_go_by_the_order_of_the_stocks(market):
    _, returns, valid = market
    ties = protocol_figures(np.where(valid, 1.0, np.nan), returns, valid)
    first = [returns[day][valid[day]][:5].mean() for day in range(40)]
    np.testing.assert_allclose(ties.top, first)


def test_the_market_is_the_mean_of_all_stocks_and_ranks_nothing(market):
    _, returns, valid = market
    found = market_figures(returns, valid)
    daily = np.nanmean(returns, axis=1)
    assert found.sharpe.estimate == pytest.approx(daily.mean() / daily.std() * 15.87)
    assert found.irr.estimate == pytest.approx(daily.sum())
    assert found.precision.estimate == pytest.approx(np.mean([np.mean(r[v] >= 0) for r, v in zip(returns, valid)]))
    assert np.isnan(found.ic.estimate)
    assert np.isnan(found.mrr.estimate)


def test_luck_covers_what_a_random_ranking_is_expected_to_reach(market):
    _, returns, valid = market
    found = luck(returns, valid, draws=200)
    expected = np.mean([np.mean(1 / np.arange(1, count + 1)) for count in valid.sum(1)])
    base = market_figures(returns, valid)
    assert found.mrr[0] < expected < found.mrr[1]
    assert found.precision[0] < base.precision.estimate < found.precision[1]
    assert found.irr[0] < base.irr.estimate < found.irr[1]
    assert found == luck(returns, valid, draws=200)
    assert found.mrr[1] - found.mrr[0] < 0.25


def test_the_error_of_a_sharpe_difference_is_the_closed_form_for_independent_normal_days():
    random = np.random.default_rng(0)
    days, rho = 20_000, 0.8
    common = random.standard_normal(days)
    other = 0.1 + common
    own = 0.05 + rho * common + np.sqrt(1 - rho**2) * random.standard_normal(days)
    a, b = metrics.sharpe(own), metrics.sharpe(other)
    correlation = np.corrcoef(own, other)[0, 1]
    # Jobson and Korkie (1981) as corrected by Memmel (2003)
    variance = (2 - 2 * correlation + 0.5 * (a**2 + b**2 - 2 * a * b * correlation**2)) / days
    found = sharpe_difference(own, other)
    assert found.estimate == pytest.approx((a - b) * 15.87)
    assert found.standard_error == pytest.approx(np.sqrt(variance) * 15.87, rel=0.05)
    assert (found.low + found.high) / 2 == pytest.approx(found.estimate)


def test_a_series_differs_from_itself_by_nothing():
    daily = np.random.default_rng(1).standard_normal(50)
    assert sharpe_difference(daily, daily).estimate == 0
    assert sharpe_difference(daily, daily).high == 0
