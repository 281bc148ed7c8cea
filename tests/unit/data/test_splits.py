"""Splits: by label date, purged, embargoed, and never overlapping."""

import datetime as dt
import os

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from atft.config import Label, Span, Split
from atft.data.splits import decision_days
from atft.errors import UseError

NASDAQ = os.environ.get("ATFT_NASDAQ")


def weekdays(count, first="2020-01-01"):
    return np.busday_offset(first, np.arange(count), roll="forward").astype("datetime64[D]")


def a_label(horizon=1, lag=0, quantiles=()):
    return Label(horizon=horizon, execution_lag=lag, cost_bps=0.0, quantile_horizons=quantiles)


def a_split(days, cuts, embargo=0):
    """Train up to day ``cuts[0]``, validate up to ``cuts[1]``, test up to ``cuts[2]``, by label date."""
    first, second, third = cuts
    date = [day.item() for day in days]
    return Split(
        train=Span(first=date[0], last=date[first]),
        validate=Span(first=date[first + 1], last=date[second]),
        test=Span(first=date[second + 1], last=date[third]),
        embargo_days=embargo,
    )


def test_periods_are_chosen_by_the_day_on_which_the_traded_label_ends():
    days = weekdays(100)
    found = decision_days(days, a_split(days, (49, 69, 99)), a_label())
    assert found.train.tolist() == list(range(49))
    assert found.validate.tolist() == list(range(49, 69))
    assert found.test.tolist() == list(range(69, 99))


def test_a_longer_quantile_label_purges_and_an_embargo_purges_more():
    days = weekdays(100)
    label = a_label(horizon=2, lag=1, quantiles=(1, 10))
    found = decision_days(days, a_split(days, (49, 69, 99)), label)
    assert found.validate[0] == 47  # its label ends on day 50, the first of validate; it executes on day 48
    assert found.train[-1] == 37  # 37 + 1 + 10 = 48
    assert decision_days(days, a_split(days, (49, 69, 99), embargo=5), label).train[-1] == 32


@settings(max_examples=300, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 119), min_size=3, max_size=3, unique=True).map(sorted),
    horizon=st.integers(1, 8),
    lag=st.integers(0, 4),
    quantiles=st.lists(st.integers(1, 12), max_size=2),
    embargo=st.integers(0, 6),
)
def test_label_intervals_of_two_periods_never_overlap(cuts, horizon, lag, quantiles, embargo):
    days = weekdays(120)
    label = a_label(horizon, lag, tuple(quantiles))
    try:
        found = decision_days(days, a_split(days, cuts, embargo), label)
    except UseError:
        assume(False)
    reach = max([horizon, *quantiles])
    covered = [{d for t in period for d in range(t + lag + 1, t + lag + reach + 1)} for period in vars(found).values()]
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        assert max(covered[earlier]) + embargo < min(covered[later])


@settings(max_examples=100, deadline=None)
@given(cut=st.integers(20, 80), horizon=st.integers(1, 5), lag=st.integers(0, 3), embargo=st.integers(0, 4))
def test_no_more_is_purged_than_must_be(cut, horizon, lag, embargo):
    days = weekdays(120)
    found = decision_days(days, a_split(days, (cut, 100, 119), embargo), a_label(horizon, lag))
    assert found.train[-1] + lag + horizon == found.validate[0] + lag - embargo


def test_a_period_outside_the_calendar_is_refused_by_name_and_dates():
    days = weekdays(50)
    split = Split(
        train=Span(first=days[0].item(), last=days[30].item()),
        validate=Span(first=days[31].item(), last=days[49].item()),
        test=Span(first=dt.date(2031, 1, 1), last=dt.date(2031, 2, 1)),
        embargo_days=0,
    )
    with pytest.raises(
        UseError, match=r"split.test: no label ends from 2031-01-01 to 2031-02-01.*50 days from 2020-01-01"
    ):
        decision_days(days, split, a_label())


def test_a_period_that_is_purged_whole_is_refused():
    days = weekdays(100)
    with pytest.raises(UseError, match=r"split.validate: all 3 decision days reach into test.*20 trading days"):
        decision_days(days, a_split(days, (49, 52, 99)), a_label(quantiles=(20,)))


def test_a_label_longer_than_the_calendar_is_refused():
    days = weekdays(10)
    with pytest.raises(UseError, match=r"split.train: no label ends"):
        decision_days(days, a_split(days, (3, 6, 9)), a_label(horizon=30))


@pytest.mark.skipif(not NASDAQ, reason="set ATFT_NASDAQ to the NASDAQ file to run this")
def test_nasdaq_has_237_test_labels_and_decides_first_on_2016_12_30():
    import polars as pl

    days = pl.scan_parquet(NASDAQ).select(pl.col("date").unique().sort()).collect()["date"].to_numpy()
    split = Split(
        train=Span(first=dt.date(2013, 1, 2), last=dt.date(2015, 12, 31)),
        validate=Span(first=dt.date(2016, 1, 1), last=dt.date(2016, 12, 31)),
        test=Span(first=dt.date(2017, 1, 3), last=dt.date(2017, 12, 8)),
        embargo_days=0,
    )
    found = decision_days(days.astype("datetime64[D]"), split, a_label())
    assert len(found.test) == 237
    assert str(days[found.test[0]])[:10] == "2016-12-30"
