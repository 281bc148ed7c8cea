from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from atft.errors import UseError
from atft.evaluate import baselines


@dataclass
class Panel:
    """A panel in memory, with the parts that baselines read."""

    values: np.ndarray
    present: np.ndarray

    def features(self, first, last):
        return self.values[first:last]


@pytest.fixture
def panel():
    random = np.random.default_rng(1)
    values = random.standard_normal((60, 25, 4)).astype(np.float32)
    values[random.random(values.shape) < 0.1] = np.nan
    return Panel(values, random.random((60, 25)) < 0.9)


@pytest.fixture
def train(panel):
    random = np.random.default_rng(2)
    returns = 0.02 * random.standard_normal((30, 25)) + 0.01 * np.nan_to_num(panel.values[5:35, :, 0])
    returns += 0.05 * random.standard_normal((30, 1))  # the market's move, which the target leaves out
    valid = panel.present[5:35] & (random.random((30, 25)) < 0.9)
    valid[3] = False
    valid[4] = np.arange(25) == 2
    return baselines.Labels(np.arange(5, 35), np.where(valid, returns, np.nan), valid)


@pytest.mark.parametrize("penalty", [1e-3, 10.0, 1e4])
def test_ridge_is_that_of_scikit_learn_on_demeaned_targets(panel, train, penalty):
    rows = [(np.nan_to_num(panel.values[d][v]), r[v] - r[v].mean()) for d, r, v in
            zip(train.days, train.returns, train.valid) if v.sum() >= 2]  # fmt: skip
    oracle = Ridge(alpha=penalty, solver="svd").fit(np.concatenate([x for x, _ in rows]).astype(np.float64),
                                                    np.concatenate([y for _, y in rows]))  # fmt: skip
    scores, fit = baselines.ridge(panel, train, [40, 41], penalty=penalty)
    np.testing.assert_allclose(fit.coefficients, oracle.coef_, rtol=1e-8)
    expected = np.where(panel.present[40:42], np.nan_to_num(panel.values[40:42]) @ oracle.coef_, np.nan)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert (fit.rows, fit.days) == (sum(len(y) for _, y in rows), 28)


def test_inputs_of_the_ridge_that_were_missing_are_counted(panel, train):
    _, fit = baselines.ridge(panel, train, [40])
    used = train.valid & (train.valid.sum(1) >= 2)[:, None]
    assert fit.filled == np.isnan(panel.values[train.days][used]).sum()
    assert fit.filled_share == pytest.approx(0.1, abs=0.02)


def test_ridge_depends_on_nothing_but_its_training_days_and_the_day_it_scores(panel, train):
    before, _ = baselines.ridge(panel, train, [40])
    others = np.setdiff1d(np.arange(60), [*train.days, 40])
    panel.values[others] = 1e3
    again, _ = baselines.ridge(panel, train, [40])
    np.testing.assert_array_equal(before, again)
    panel.values[20] *= 2  # a training day
    assert not np.array_equal(before, baselines.ridge(panel, train, [40])[0], equal_nan=True)


def test_a_ridge_without_training_rows_says_so(panel):
    empty = baselines.Labels([1], np.zeros((1, 25)), np.zeros((1, 25), dtype=bool))
    with pytest.raises(UseError, match="no day with two valid stocks"):
        baselines.ridge(panel, empty, [2])


def test_reversal_is_minus_the_last_return_and_nothing_where_a_close_is_missing():
    close = np.array([[10.0, 20.0, np.nan], [11.0, np.nan, 5.0], [9.9, 22.0, 6.0]])
    np.testing.assert_allclose(
        baselines.reversal(close, [2, 0, 1]), [[0.1, np.nan, -0.2], [np.nan] * 3, [-0.1, np.nan, np.nan]]
    )


def test_momentum_is_the_return_between_two_closes_of_the_past_by_hand():
    close = np.column_stack([np.arange(1.0, 301.0), np.full(300, 5.0), np.full(300, 2.0), np.full(300, 3.0)])
    close[260, 1] = close[239, 2] = close[8, 3] = np.nan  # on the decision day, a month and a year before
    scores = baselines.momentum(close, [260, 261])
    np.testing.assert_allclose(scores[0], [240 / 9 - 1, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(scores[1], [241 / 10 - 1, 0, 0, 0])
    np.testing.assert_allclose(baselines.momentum(close, [30], lookback=30, skipped=5)[0, 0], 26 - 1)


def test_a_momentum_is_as_long_as_the_panel_allows_and_no_shorter_than_a_quarter():
    assert [baselines.momentum_lookback(day) for day in (63, 200, 252, 900)] == [63, 200, 252, 252]
    with pytest.raises(UseError, match=r"is day 62 of the panel.*at least 63 days before it"):
        baselines.momentum_lookback(62)
    with pytest.raises(ValueError, match="momentum of 252 days"):
        baselines.momentum(np.ones((300, 2)), [251])


def test_shuffles_permute_valid_scores_within_each_day_and_leave_the_others():
    scores = np.arange(24.0).reshape(4, 6)
    valid = np.arange(24).reshape(4, 6) % 5 != 0
    shuffles = list(baselines.shuffled(scores, valid, seed=3, repeats=50))
    for shuffle in shuffles:
        np.testing.assert_array_equal(np.sort(np.where(valid, shuffle, 0)), np.sort(np.where(valid, scores, 0)))
        np.testing.assert_array_equal(shuffle[~valid], scores[~valid])
    place = np.mean([shuffle[0, 1] for shuffle in shuffles])
    assert place == pytest.approx(scores[0, 1:].mean(), abs=0.7)  # any of the day's scores, evenly


def test_published_inputs_are_prices_over_the_last_close_by_hand():
    close = np.column_stack([np.arange(1.0, 61.0), np.full(60, 7.0), np.where(np.arange(60) == 20, np.nan, 3.0)])
    x = baselines.published_inputs(close)(50)
    assert x.shape == (3, 80)
    np.testing.assert_allclose(x[0, :16], np.arange(36, 52) / 51 - 1)
    np.testing.assert_allclose(x[0, 16:32], np.arange(34, 50) / 51 - 1)  # 5 days up to t average to the price of t - 2
    np.testing.assert_allclose(x[0, 64:], (np.arange(36, 52) - 14.5) / 51 - 1)
    assert not x[1].any()
    assert np.isnan(x[2]).all()
    assert np.isnan(baselines.published_inputs(close)(43)).all()
    assert not np.isnan(baselines.published_inputs(close)(44)[:2]).any()


MARKETS = ["A", "B", "B", "A", "B", "A"]
CLOSED = {"A": [40, 41, 70, 99], "B": [15, 41, 71, 72, 73]}
"""Days on which a market is closed; on day 41 both are, as no panel has it, and on the last one A is."""


def two_markets():
    """``close [100, 6]`` of two markets; stock 2 is suspended on a day of its own market, 5 begins late."""
    close = np.exp(np.cumsum(0.02 * np.random.default_rng(8).standard_normal((100, 6)), axis=0))
    for name, days in CLOSED.items():
        close[np.ix_(days, [place for place, each in enumerate(MARKETS) if each == name])] = np.nan
    close[74, 2] = close[:30, 5] = np.nan
    return close


def of_each_market(close, rule):
    """``[100, 6]``: ``rule`` of a market's own closes, on its own days only; an oracle that knows one market."""
    expected = np.full(close.shape, np.nan)
    for name in CLOSED:
        stocks = [place for place, each in enumerate(MARKETS) if each == name]
        own = [day for day in range(100) if day not in CLOSED[name]]
        expected[np.ix_(own, stocks)] = rule(close[np.ix_(own, stocks)])
    return expected


def test_reversal_of_several_markets_goes_back_a_day_of_the_stocks_own_market():
    close, days = two_markets(), np.arange(100)
    found = baselines.reversal(close, days, MARKETS)

    def alone(own):
        return np.vstack([np.full(own.shape[1], np.nan), 1 - own[1:] / own[:-1]])

    np.testing.assert_array_equal(found, of_each_market(close, alone))
    assert np.isfinite(found[74, [1, 4]]).all(), "over the three holidays of B"
    assert np.isnan(found[74:76, 2]).all(), "a suspended day stays missing"
    assert found[74, 1] == 1 - close[74, 1] / close[70, 1]


def test_momentum_of_several_markets_counts_days_of_the_stocks_own_market():
    close = two_markets()
    lookback = baselines.own_history(close, 75, MARKETS)
    assert lookback == 70, "B traded on 70 of the 75 days, A on 72"
    found = baselines.momentum(close, np.arange(75, 100), MARKETS, lookback=lookback, skipped=4)

    def alone(own):
        scores = np.full(own.shape, np.nan)
        for day in range(lookback, len(own)):
            scores[day] = np.where(np.isfinite(own[day]), own[day - 4] / own[day - lookback] - 1, np.nan)
        return scores

    np.testing.assert_array_equal(found, of_each_market(close, alone)[75:])
    assert np.isfinite(found[0, [0, 1, 3, 4]]).all()
    assert np.isnan(found[:20, 5]).all(), "which was not there at the beginning"


def test_a_market_without_the_history_of_a_momentum_waits_for_it_and_takes_none_from_the_others():
    close = two_markets()
    close[:60, [1, 2, 4]] = np.nan
    lookback = baselines.own_history(close, 75, MARKETS)
    assert lookback == 72
    found = baselines.momentum(close, [75, 98], MARKETS, lookback=lookback)
    assert np.isnan(found[:, [1, 2, 4]]).all()
    assert np.isfinite(found[:, [0, 3]]).all()
    assert baselines.own_history(close, 50, MARKETS) == 48, "the most, where none is enough"
    with pytest.raises(UseError, match="is day 48 of the panel"):
        baselines.momentum_lookback(baselines.own_history(close, 50, MARKETS))


def test_the_published_inputs_of_several_markets_are_those_of_each_alone():
    close = two_markets()
    inputs = baselines.published_inputs(close, MARKETS)
    for name in CLOSED:
        stocks = [place for place, each in enumerate(MARKETS) if each == name]
        own = [day for day in range(100) if day not in CLOSED[name]]
        alone = baselines.published_inputs(close[np.ix_(own, stocks)])
        for place, day in enumerate(own):
            np.testing.assert_array_equal(inputs(day)[stocks], alone(place))
        assert np.isnan(inputs(CLOSED[name][-1])[stocks]).all()
    assert np.isfinite(inputs(60)[[0, 1, 3, 4]]).all()


@pytest.mark.parametrize("markets", [(), [None] * 4, ["A"] * 4])
def test_one_market_is_read_as_it_is_to_the_last_bit(markets):
    close = np.exp(np.cumsum(0.02 * np.random.default_rng(9).standard_normal((90, 4)), axis=0))
    close[np.random.default_rng(10).random(close.shape) < 0.1] = np.nan
    close[50] = np.nan  # no day of a panel, but one of the table that it is read by
    days = np.arange(70, 90)
    with np.errstate(invalid="ignore"):
        plain = np.where(np.isfinite(close[days]), close[days - 21] / close[days - 70] - 1, np.nan)
    assert baselines.momentum(close, days, markets, lookback=70).tobytes() == plain.tobytes()
    assert np.isnan(baselines.reversal(close, [51], markets)).all()
    assert baselines.reversal(close, days, markets).tobytes() == (1.0 - close[days] / close[days - 1]).tobytes()
    assert baselines.own_history(close, 70, markets) == 70
