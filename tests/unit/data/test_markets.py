"""Several markets against exchange_calendars: holidays, early closes, daylight saving, and what may be executed."""

import datetime as dt

import exchange_calendars
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.config import Label
from atft.data import features, sources
from atft.data.build import build
from atft.data.labels import check_label, decided_returns
from atft.data.markets import calendars_of, check_execution, closes, opens
from atft.data.panel import Panel
from atft.data.roles import Hours, OwnLabel, Roles
from atft.errors import UseError
from tests.unit.data import tables

SPAN = ("2016-10-03", "2017-12-29")
HOURS = {
    "XNYS": Hours(timezone="America/New_York", open="09:30", close="16:00"),
    "XTKS": Hours(timezone="Asia/Tokyo", open="09:00", close="15:00"),
    "XLON": Hours(timezone="Europe/London", open="08:00", close="16:30"),
}
EARLY = {"XNYS": dt.time(13), "XLON": dt.time(12, 30)}


def exchange(name):
    return exchange_calendars.get_calendar(name, start=SPAN[0], end=SPAN[1])


def hours(name):
    """Hours with the exchange's own early closes."""
    early = {day.date(): EARLY[name] for day in exchange(name).early_closes}
    return HOURS[name].model_copy(update={"early_closes": early})


def table(*names, stocks=3):
    """Random bars on each exchange's own sessions."""
    parts = []
    for place, name in enumerate(names):
        days = [day.date() for day in exchange(name).sessions]
        made = tables.bars(stocks=stocks, days=len(days), seed=place, gaps=0.0)
        renamed = pl.concat_str(pl.lit(f"{name}."), "code")
        dates = pl.Series("date", days * stocks)
        parts.append(made.with_columns(dates, renamed.alias("code"), pl.lit(name).alias("market")))
    return pl.concat(parts)


def roles(*names, **changed):
    return Roles(market="market", markets={name: hours(name) for name in names}, **changed)


@pytest.mark.parametrize("name", HOURS)
def test_opens_and_closes_are_those_of_the_exchange(name):
    real = exchange(name)
    days = real.sessions.to_numpy().astype("datetime64[D]")
    expected = real.closes.dt.tz_localize(None).to_numpy().astype("datetime64[s]")
    np.testing.assert_array_equal(closes(days, hours(name)), expected)
    np.testing.assert_array_equal(opens(days, hours(name)), real.opens.dt.tz_localize(None).to_numpy())
    offsets = {str(each)[11:] for each in expected}
    assert len(offsets) == (1 if name == "XTKS" else len(offsets))
    assert name == "XTKS" or len(offsets) >= 3  # summer, winter, early


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    source = tables.written(table("XNYS", "XTKS"), folder)
    build(source, folder / "panel", roles("XNYS", "XTKS"))
    return Panel.open(folder / "panel")


def test_each_market_has_its_own_trading_days_in_the_manifest(two):
    known = two.manifest.sessions
    for name in ("XNYS", "XTKS"):
        sessions = exchange(name).sessions
        market = known.markets[name]
        ends = market.first_day, market.last_day
        assert (market.days, ends) == (len(sessions), (sessions[0].date(), sessions[-1].date()))
        there = two.present[:, [place for place, each in enumerate(two.markets) if each == name]].all(axis=1)
        np.testing.assert_array_equal(two.days[there], sessions.to_numpy().astype("datetime64[D]"))
    union = exchange("XNYS").sessions.union(exchange("XTKS").sessions)
    np.testing.assert_array_equal(two.days, union.to_numpy().astype("datetime64[D]"))


def test_the_time_to_the_next_execution_is_that_of_the_exchanges(two):
    both = [exchange(name) for name in ("XNYS", "XTKS")]
    sessions = {
        "date": [date for each in both for date in each.sessions.date],
        "close": [instant for each in both for instant in each.closes.dt.tz_localize(None).to_list()],
        "open": [instant for each in both for instant in each.opens.dt.tz_localize(None).to_list()],
    }
    last = pl.col("close").max().alias("last")
    first = pl.DataFrame(sessions).group_by("date").agg(last, pl.col("close", "open").min()).sort("date")
    hour = pl.duration(hours=1)
    after = first.select(
        ((pl.col("close").shift(-1) - pl.col("last")) / hour).min().alias("close"),
        ((pl.col("open").shift(-1) - pl.col("last")) / hour).min().alias("open"),
    )
    known = two.manifest.sessions
    assert (known.hours_to_next_close, known.hours_to_next_open) == after.row(0)
    assert known.apart == "on 2016-10-03 XTKS closes at 2016-10-03 06:00 and XNYS at 2016-10-03 20:00 UTC"


def test_a_holiday_of_one_market_is_no_gap_of_another(two, tmp_path):
    """Each stock has the features that a panel of its own market gives it."""
    frame = table("XNYS", "XTKS")
    raw = {}
    for name in ("XNYS", "XTKS"):
        own = frame.filter(pl.col("market") == name)
        columns, industries = tables.grid(own)
        raw[name] = tables.computed(columns, industries, ["return_1", "rank_return_5", "beta_20"])
    found = {}
    for feature in raw["XNYS"]:
        values = np.full(two.close.shape, np.nan)
        for name, made in raw.items():
            days = np.searchsorted(two.days, exchange(name).sessions.to_numpy().astype("datetime64[D]"))
            stocks = [place for place, each in enumerate(two.markets) if each == name]
            values[np.ix_(days, stocks)] = made[feature]
        found[feature] = values
    for feature, values in found.items():
        got = two.features(0, len(two.days))[:, :, two.feature_names.index(feature)]
        there = np.isfinite(values).sum(axis=1) >= 2
        np.testing.assert_array_equal(np.isfinite(got[there]), np.isfinite(values[there]), err_msg=feature)
        for day in np.flatnonzero(there)[::17]:
            ranked = np.isfinite(values[day])
            np.testing.assert_array_equal(
                np.argsort(got[day][ranked], kind="stable"), np.argsort(values[day][ranked], kind="stable")
            )
    # The market that trades alone on 2017-01-03 has a return of one own day, over the other's new year's holiday.
    new_year = np.flatnonzero(two.days == np.datetime64("2017-01-04"))[0]
    tokyo = [place for place, each in enumerate(two.markets) if each == "XTKS"]
    assert np.isfinite(two.features(new_year, new_year + 1)[0, tokyo, two.feature_names.index("return_1")]).all()
    assert not np.isfinite(two.close[new_year - 1, tokyo]).any()


def test_trading_at_the_close_that_decides_is_refused_where_closes_differ(two):
    label = Label(horizon=1, execution_lag=0, cost_bps=0, quantile_horizons=())
    with pytest.raises(UseError, match=r"XTKS closes at 2016-10-03 06:00 and XNYS.*--set label.execution_lag=1"):
        check_label(two, label)
    check_label(two, label.model_copy(update={"execution_lag": 1}))
    check_execution("p", two.manifest.sessions, 0, next_open=True)


def test_one_market_or_markets_that_close_together_may_trade_at_the_close(tmp_path):
    one = sources.read(tables.written(table("XNYS"), tmp_path), roles("XNYS")).sessions
    check_execution("p", one, 0)
    assert (one.apart, list(one.markets)) == ("", ["XNYS"])
    frame = table("XNYS", "XLON")
    same = HOURS["XNYS"].model_copy(update={"open": None})
    stated = Roles(market="market", markets={"XNYS": same, "XLON": same})
    both = sources.read(tables.written(frame, tmp_path, "both.parquet"), stated).sessions
    check_execution("p", both, 0)
    with pytest.raises(UseError, match="first open of the next are not stated"):
        check_execution("p", both, 1, next_open=True)
    assert sources.read(tables.written(table("XNYS"), tmp_path)).sessions is None


def test_daylight_saving_alone_makes_closes_differ(tmp_path):
    """Two markets at the same hour in winter, of which one keeps winter time."""
    fixed = Hours(timezone="Etc/GMT+5", close="16:00")
    early = hours("XNYS").early_closes
    stated = Roles(market="market", markets={"XNYS": hours("XNYS"), "XLON": fixed})
    frame = table("XNYS", "XLON").filter(~pl.col("date").is_in(list(early)))
    winter = frame.filter(pl.col("date").is_between(dt.date(2016, 11, 7), dt.date(2017, 3, 10)))
    assert sources.read(tables.written(winter, tmp_path), stated).sessions.apart == ""
    told = sources.read(tables.written(frame, tmp_path), stated).sessions.apart
    assert told == "on 2016-10-03 XNYS closes at 2016-10-03 20:00 and XLON at 2016-10-03 21:00 UTC"


def test_a_market_that_closes_before_the_last_decision_is_refused(tmp_path):
    late = Roles(
        market="market",
        markets={
            "XNYS": Hours(timezone="Pacific/Midway", close="23:00"),
            "XTKS": Hours(timezone="Pacific/Kiritimati", close="09:00"),
        },
    )
    with pytest.raises(
        UseError, match=r"last market of 2016-10-03 closes at 2016-10-04 10:00 UTC.*Mend: roles.markets"
    ):
        sources.read(tables.written(table("XNYS", "XTKS"), tmp_path), late)


def test_several_markets_need_their_hours(tmp_path):
    source = tables.written(table("XNYS", "XTKS"), tmp_path)
    with pytest.raises(UseError, match=r"2 markets, and the hours of XTKS are not stated.*Mend: in the roles, markets"):
        sources.read(source, Roles(market="market", markets={"XNYS": HOURS["XNYS"]}))
    moved = pl.read_parquet(source).with_columns(
        pl.when(pl.int_range(pl.len()) == 5).then(pl.lit("XTKS")).otherwise("market").alias("market")
    )
    with pytest.raises(UseError, match=r"1 codes trade on more than one market.*'XNYS.S00'"):
        sources.read(tables.written(moved, tmp_path), roles("XNYS", "XTKS"))


WRONG = [
    ("markets: {A: {timezone: Mars/Base, close: '16:00'}}", "markets.A.timezone: Value error, not a time zone"),
    ("markets: {A: {timezone: Asia/Tokyo}}", "markets.A.close: Field required"),
    ("markets: {A: {timezone: Asia/Tokyo, close: '25:00'}}", "markets.A.close"),
    ("markets: {A: {timezone: Asia/Tokyo, close: '08:00', open: '09:00'}}", "open = 09:00:00 is not before"),
    ("markets: {A: &h {timezone: UTC, close: '08:00'}, B: *h}", "no role 'market' says which one"),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_wrong_hours_are_refused(tmp_path, text, told):
    (tmp_path / "roles.yaml").write_text(text)
    with pytest.raises(UseError, match=told):
        Roles.read(tmp_path / "roles.yaml")


def test_an_hour_without_quotes_is_the_same_hour(tmp_path):
    (tmp_path / "roles.yaml").write_text("markets: {A: {timezone: Asia/Tokyo, close: 15:30, open: 09:00}}")
    assert Roles.read(tmp_path / "roles.yaml").markets["A"].close == dt.time(15, 30)


@settings(max_examples=40, deadline=None)
@given(st.dates(dt.date(1990, 1, 1), dt.date(2030, 1, 1)), st.sampled_from(sorted(HOURS)))
def test_a_close_by_the_market_clock_comes_back_from_utc(day, name):
    from zoneinfo import ZoneInfo

    instant = closes(np.array([day], "datetime64[D]"), HOURS[name])[0].astype(object).replace(tzinfo=dt.UTC)
    back = instant.astimezone(ZoneInfo(HOURS[name].timezone))
    assert (back.date(), back.time()) == (day, HOURS[name].close)


def test_history_is_long_enough_for_own_calendars():
    """Own calendars begin later than the panel's; what stands in front of them is missing, as in front of any."""
    assert max(feature.lookback_days for feature in features.FEATURES) < features.HISTORY


def test_a_currency_is_three_capital_letters(tmp_path):
    (tmp_path / "roles.yaml").write_text("markets: {A: {timezone: UTC, close: '08:00', currency: yen}}")
    with pytest.raises(UseError, match=r"markets\.A\.currency: .*pattern"):
        Roles.read(tmp_path / "roles.yaml")


def test_each_market_has_its_own_stocks_and_days():
    there = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0]], bool)
    found = {tuple(stocks): days.tolist() for stocks, days in calendars_of(["B", "A", "B", None], there)}
    assert found == {(3,): [2], (1,): [1, 2], (0, 2): [0, 1, 4]}


OWN_LABEL = OwnLabel(column="y", horizon=2, execution_lag=1)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Two markets with an own label over each one's own days."""
    ahead = (pl.col("close").shift(-3) / pl.col("close").shift(-1) - 1).over("code").alias("y")
    frame = table("XNYS", "XTKS").sort("code", "date").with_columns(ahead)
    folder = tmp_path_factory.mktemp("labelled")
    build(
        tables.written(frame, folder), folder / "panel", roles("XNYS", "XTKS", label=OWN_LABEL), computed=["return_1"]
    )
    return frame, Panel.open(folder / "panel")


def test_an_own_label_of_several_markets_stands_on_the_day_of_its_row(labelled):
    frame, panel = labelled
    expected = np.full(panel.close.shape, np.nan)
    place = {code: number for number, code in enumerate(panel.codes)}
    day = {date: number for number, date in enumerate(panel.days.tolist())}
    for date, code, value in frame.select("date", "code", "y").iter_rows():
        expected[day[date], place[code]] = np.nan if value is None else value
    np.testing.assert_array_equal(panel.label, expected)
    union = (
        panel.close[3:] / panel.close[1:-2] - 1
    )  # three days of the calendar of both are fewer own ones at a holiday
    both = np.isfinite(union) & np.isfinite(expected[:-3])
    differ = both & ~np.isclose(union, expected[:-3], rtol=1e-12, atol=0)
    assert 0.01 < differ.sum() / both.sum() < 0.2


def test_an_own_label_of_several_markets_is_not_trained_on_since_the_purge_would_be_too_short(labelled):
    _, panel = labelled
    label = Label(horizon=2, execution_lag=1, cost_bps=0, quantile_horizons=(), own=True)
    with pytest.raises(UseError, match=r"label.own = true: .* holds several markets.*Mend: --set label.own=false"):
        decided_returns(panel, label)
    closes_only = decided_returns(panel, label.model_copy(update={"own": False}))
    np.testing.assert_array_equal(closes_only[:-3], panel.close[3:] / panel.close[1:-2] - 1)
    own = [np.flatnonzero(panel.present[:, [name in code for code in panel.codes]].any(1)) for name in ("XNYS", "XTKS")]
    spans = [int((days[3:] - days[:-3]).max()) for days in own]
    assert max(spans) > OWN_LABEL.horizon + OWN_LABEL.execution_lag, "days of the calendar that a label spans"


def test_an_own_label_of_one_named_market_is_trained_on(tmp_path):
    frame = table("XNYS").with_columns(pl.col("volume").log().alias("y"))
    build(tables.written(frame, tmp_path), tmp_path / "panel", roles("XNYS", label=OWN_LABEL), computed=["return_1"])
    panel = Panel.open(tmp_path / "panel")
    label = Label(horizon=2, execution_lag=1, cost_bps=0, quantile_horizons=(), own=True)
    np.testing.assert_array_equal(decided_returns(panel, label)[:-3], panel.label[:-3])
