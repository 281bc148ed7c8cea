"""Known baselines on known data: a check of labels, splits, metrics and the ridge together."""

import os
import warnings

import numpy as np
import polars as pl
import pytest

from atft.evaluate import baselines, metrics, published
from atft.evaluate.protocol import market_figures, protocol_figures

PATH = os.environ.get("ATFT_NASDAQ")
WHY = "ATFT_NASDAQ is not set: name nasdaq_2012_2017.parquet there to check the baselines on real prices"
pytestmark = pytest.mark.skipif(not PATH, reason=WHY)
if not PATH:
    warnings.warn(WHY, stacklevel=1)  # a skip alone is easily overlooked


@pytest.fixture(scope="module")
def market():
    """``(label dates, close, next day's return)``; row t holds the decision at day t, whose label ends on the date."""
    wide = pl.read_parquet(PATH, columns=["date", "code", "close"]).pivot(on="code", index="date", values="close")
    wide = wide.sort("date")
    close = wide.drop("date").to_numpy().astype(np.float64)
    dates = wide["date"].to_numpy().astype("datetime64[D]")
    return dates[1:], close, close[1:] / close[:-1] - 1


def decisions(market, first, last):
    dates, _, returns = market
    days = np.flatnonzero((dates >= np.datetime64(first)) & (dates <= np.datetime64(last)))
    return baselines.Labels(days, returns[days], np.isfinite(returns[days]))


def ic_of(scores, labels):
    ics = metrics.information_coefficient(scores, labels.returns, labels.valid & np.isfinite(scores))
    return metrics.mean(ics), metrics.icir(ics)


@pytest.fixture(scope="module")
def test_period(market):
    labels = decisions(market, "2017-01-03", "2017-12-08")
    assert len(labels.days) == 237
    assert market[0][labels.days[0] - 1] == np.datetime64("2016-12-30")  # the first decision
    return labels


def test_one_day_reversal_on_nasdaq_2017_is_the_published_one(market, test_period):
    ic, icir = ic_of(baselines.reversal(market[1], test_period.days), test_period)
    print(f"reversal: IC {ic:.4f}, ICIR {icir:.4f}")
    assert ic == pytest.approx(0.0152, abs=0.0002)
    assert icir == pytest.approx(0.145, abs=0.001)


def test_published_ridge_on_nasdaq_2017_is_the_published_one(market, test_period):
    train = decisions(market, "2013-01-01", "2015-12-31")
    scores, fit = baselines.published_ridge(market[1], train, test_period.days)
    ic, icir = ic_of(scores, test_period)
    print(f"published ridge: IC {ic:.4f}, ICIR {icir:.4f}, {fit.rows} rows of {fit.days} days")
    assert ic == pytest.approx(0.0115, abs=0.002)
    assert icir == pytest.approx(0.122, abs=0.02)


def test_the_protocol_finds_the_known_reversal_and_a_market_above_every_published_ratio(market, test_period):
    assert (len(test_period.days), market[1].shape[1]) == (published.DAYS, published.STOCKS)
    assert str(market[0][test_period.days[0]]) == published.FIRST_DATE
    assert str(market[0][test_period.days[-1]]) == published.LAST_DATE
    scores = baselines.reversal(market[1], test_period.days)
    found = protocol_figures(scores, test_period.returns, test_period.valid & np.isfinite(scores))
    assert found.ic.estimate == pytest.approx(0.0152, abs=0.0002)
    assert found.icir.estimate == pytest.approx(0.145, abs=0.001)
    everything = market_figures(test_period.returns, test_period.valid)
    print(f"equal weight: SR {everything.sharpe.estimate:.3f}, did not fall {everything.precision.estimate:.3f}")
    assert everything.sharpe.estimate == pytest.approx(1.53, abs=0.02)
    assert everything.sharpe.estimate > max(each.sharpe for each in published.PUBLISHED if each.sharpe is not None)
    assert everything.sharpe.low < 0 < everything.sharpe.high
