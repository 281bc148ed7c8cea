import numpy as np
import pytest

from atft.evaluate import regimes


@pytest.fixture
def market():
    random = np.random.default_rng(5)
    calm_or_wild = np.where(np.arange(400) // 50 % 2, 0.03, 0.01)
    return calm_or_wild * random.standard_normal(400)


@pytest.mark.parametrize("of", [regimes.volatility_regimes, regimes.trend_regimes])
def test_a_regime_is_the_same_whatever_comes_later(market, of):
    days = np.arange(400)
    whole = of(market, days)
    for cut in (70, 150, 399):
        changed = market.copy()
        changed[cut + 1 :] = 0.5
        assert of(changed, days[: cut + 1]) == whole[: cut + 1]
        assert of(market[: cut + 1], days[: cut + 1]) == whole[: cut + 1]


def test_volatility_regimes_are_thirds_of_the_past(market):
    found = regimes.volatility_regimes(market, np.arange(400))
    assert set(found[:78]) == {"unknown"}
    past = [np.std(market[day - 19 : day + 1], ddof=1) for day in range(19, 201)]
    rank = np.mean(np.array(past) <= past[-1])
    assert found[200] == ("low" if rank <= 1 / 3 else "mid" if rank <= 2 / 3 else "high")
    assert {found[day] for day in range(210, 245)} & {"low", "mid"}
    assert "low" not in found[375:400]
    assert "high" in found[375:400]


def test_the_market_is_the_mean_of_stocks_with_both_closes_and_its_trend_their_product():
    close = np.array([[10.0, 10.0, np.nan], [11.0, 9.0, 5.0], [np.nan, 9.9, 5.0], [1.0, np.nan, np.nan]])
    np.testing.assert_allclose(regimes.market_returns(close), [np.nan, 0.0, 0.05, np.nan], atol=1e-15)
    rising = np.full(30, 0.01)
    rising[25] = -0.5
    assert regimes.trend_regimes(rising, np.array([18, 19, 24, 25])) == ["unknown", "up", "up", "down"]


def test_years_quarters_and_halves_split_all_days_by_the_day_of_the_return():
    dates = np.arange("2019-12-20", "2020-07-10", dtype="datetime64[D]")
    market = np.zeros(len(dates)) + 0.001
    found = {(kind, name): held for kind, name, held in regimes.parts(dates, market, np.arange(len(dates)))}
    assert [name for kind, name in found if kind == "quarter"] == ["2019 Q4", "2020 Q1", "2020 Q2", "2020 Q3"]
    assert found["year", "2019"].sum() == 12
    assert found["quarter", "2020 Q1"].sum() == 91
    for kind in ("year", "quarter", "half", "volatility", "market"):
        total = sum(held.astype(int) for (each, _), held in found.items() if each == kind)
        np.testing.assert_array_equal(total, 1)
