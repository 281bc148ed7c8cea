"""Descriptions against what was planted, and against plain loops."""

import datetime as dt
import math
import os

import numpy as np
import polars as pl
import pytest

from atft.data import describe as package
from atft.data.build import build
from atft.data.describe import PanelRows, SourceRows, describe
from atft.data.describe import rows as grouping
from atft.data.files import locate
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.errors import UseError
from tests.unit.data import tables
from tests.unit.data.test_markets import roles as hours_of
from tests.unit.data.test_markets import table as table_of_exchanges

NASDAQ = os.environ.get("ATFT_NASDAQ")


@pytest.fixture(scope="module")
def frame():
    """12 stocks × 700 days over two year's ends, with gaps, a late listing and a delisting."""
    return tables.bars(days=700)


def of(frame, tmp_path, roles=None, name="bars.parquet"):
    return describe(SourceRows(locate(tables.written(frame, tmp_path, name)), roles or Roles()))[0]


def finding(found, start):
    """Count and examples of the one finding that begins so."""
    (one,) = [each for each in found.findings if each.what.startswith(start)]
    return one.count, one.examples


def at(code, first, last=None):
    """Rows of a stock on the days ``first`` to ``last`` after the table's first."""
    day = tables.START + dt.timedelta(first)
    end = day if last is None else tables.START + dt.timedelta(last)
    return (pl.col("code") == code) & pl.col("date").is_between(day, end)


def test_coverage_by_year_is_that_of_plain_loops(frame, tmp_path):
    found = of(frame, tmp_path)
    assert (found.rows, found.stocks, found.days) == (frame.height, 12, 700)
    assert (found.first_day, found.last_day) == (frame["date"].min(), frame["date"].max())
    calendar = set(frame["date"])
    days = {code: set(part["date"]) for (code,), part in frame.partition_by("code", as_dict=True).items()}
    for year in found.years:
        rows, lived = 0, 0
        for own in days.values():
            rows += sum(day.year == year.year for day in own)
            life = [day for day in calendar if min(own) <= day <= max(own)]
            lived += sum(day.year == year.year for day in life)
        assert (year.rows, year.missing_share) == (rows, pytest.approx(1 - rows / lived))
        assert year.stocks == sum(any(day.year == year.year for day in own) for own in days.values())
    entered = {2020: 1, 2021: 0}
    assert {year.year: year.entries for year in found.years} == entered
    assert {year.year: year.exits for year in found.years} == {2020: 0, 2021: 1}


def test_the_longest_gap_and_thin_days_are_found(tmp_path):
    plain = tables.bars(days=200, gaps=0.0)
    hole = plain.filter(~at("S03", 50, 89) & ~at("S03", 120, 121))
    thin = hole.filter((pl.col("date") != tables.START + dt.timedelta(100)) | (pl.col("code") < "S03"))
    found = of(thin, tmp_path).gaps
    lost = plain.height - thin.height
    assert (found.missing, found.stocks) == (lost, 9)
    assert found.share == pytest.approx(lost / plain.height)
    first = found.longest[0]
    assert (first.code, first.days) == ("S03", 40)
    assert (first.first, first.last) == (tables.START + dt.timedelta(50), tables.START + dt.timedelta(89))
    assert (found.thin_days_count, found.thin_days) == (1, (tables.START + dt.timedelta(100),))
    assert found.longest_break is None
    weekend = plain.filter(~pl.col("date").is_between(tables.START + dt.timedelta(60), tables.START + dt.timedelta(66)))
    assert of(weekend, tmp_path, name="w.parquet").gaps.longest_break.days == 7


def test_outliers_are_counted_and_shown_with_their_first_examples(tmp_path):
    plain = tables.bars(days=120, gaps=0.0).with_columns(pl.lit(100.0).alias("high"), pl.lit(1.0).alias("low"))
    plain = plain.with_columns(pl.col("open", "close").clip(1.0, 100.0))

    def where(condition, **values):
        return [pl.when(condition).then(pl.lit(value)).otherwise(name).alias(name) for name, value in values.items()]

    bad = plain.with_columns(where(at("S05", 20, 34), close=50.0)).with_columns(where(at("S06", 7, 11), volume=0.0))
    bad = bad.with_columns(where(at("S07", 30), close=5.0, open=5.0)).with_columns(
        where(at("S08", 9), high=1.0, low=2.0)
    )
    bad = bad.with_columns(where(at("S09", 3) | at("S02", 5), close=-1.0)).with_columns(where(at("S10", 4), close=1e16))
    bad = bad.with_columns(where(at("S11", 4, 5), open=0.5))
    again = bad.filter(at("S01", 1, 2))
    found = of(pl.concat([bad, again, again.head(1).with_columns(pl.col("close") + 1)]), tmp_path)
    assert finding(found, "close not positive") == (2, ("2020-01-04 S09 -1.0", "2020-01-06 S02 -1.0"))
    assert finding(found, "close infinite or beyond") == (1, ("2020-01-05 S10 1e+16",))
    assert finding(found, "high below low") == (1, ("2020-01-10 S08 2.0 to 1.0",))
    assert finding(found, "open outside low to high") == (
        2, ("2020-01-05 S11 0.5 of 1.0 to 100.0", "2020-01-06 S11 0.5 of 1.0 to 100.0"),
    )  # fmt: skip
    assert finding(found, "runs of 10") == (1, ("2020-01-21 S05 15 rows",))
    assert finding(found, "runs of 5") == (1, ("2020-01-08 S06 5 rows",))
    moves, back = finding(found, "moves above 50 % from"), finding(found, "moves above 50 % that")
    assert moves[0] >= 2
    assert back[0] == 1
    assert back[1][0].startswith("2020-01-31 S07 -")
    assert finding(found, "rows repeated with the same")[0] + finding(found, "rows repeated with other")[0] == 3
    assert finding(found, "rows on a weekend")[0] == sum(day.weekday() >= 5 for day in plain["date"])


def test_a_clean_table_has_no_finding_but_its_weekends(tmp_path):
    plain = tables.bars(days=120, gaps=0.0)
    assert [each.what for each in of(plain, tmp_path).findings] == ["rows on a weekend"]


def market(random, stocks, days, leaves):
    """Closes of a market of which this share leaves a year."""
    close = 50 * np.exp(np.cumsum(random.normal(0, 0.02, (stocks, days)), axis=1))
    begin = np.where(random.random(stocks) < 0.2, random.integers(0, days // 2, stocks), 0)
    life = random.exponential(365.25 / leaves, stocks) if leaves else np.full(stocks, np.inf)
    there = (np.arange(days) >= begin[:, None]) & (np.arange(days) < (begin + np.maximum(life, 2))[:, None])
    stock, day = np.nonzero(there)
    dates = np.datetime64("2015-01-01") + day
    return pl.DataFrame({"date": dates, "code": [f"A{n:03d}" for n in stock], "close": close[stock, day]})


ONLY = Roles(open=None, high=None, low=None, volume=None, industry=None)


@pytest.mark.parametrize(("leaves", "suspicious"), [(0.0, True), (0.002, True), (0.07, False)])
def test_survivors_alone_are_a_sign_and_a_market_that_loses_stocks_is_not(tmp_path, leaves, suspicious):
    frame = market(np.random.default_rng(0), 300, 1100, leaves)
    it = of(frame, tmp_path, ONLY).survivorship
    ends = frame.group_by("code").agg(pl.col("date").min().alias("first"), pl.col("date").max().alias("last"))
    last = frame["date"].max() - dt.timedelta(20)
    assert it.exits == ends.filter(pl.col("last") < last).height
    assert it.stock_years == pytest.approx((ends["last"] - ends["first"]).dt.total_days().sum() / 365.25)
    mean = 0.03 * it.stock_years
    tail = sum(math.exp(-mean + n * math.log(mean) - math.lgamma(n + 1)) for n in range(it.exits + 1))
    assert it.chance == pytest.approx(tail)
    assert bool(it.signs) == suspicious
    if leaves == 0:
        assert it.signs[0].startswith("all 300 stocks survive: none ever leaves")


def test_the_same_history_under_two_codes_is_found_and_common_market_moves_are_not(tmp_path):
    plain = tables.bars(days=200, gaps=0.0)
    copy = plain.filter(pl.col("code") == "S04").with_columns(
        pl.lit("COPY").alias("code"), *(pl.col(name) * 2 for name in ("open", "high", "low", "close"))
    )
    third = copy.filter(pl.col("date") > tables.START + dt.timedelta(90)).with_columns(pl.lit("LATE").alias("code"))
    together = plain.with_columns(  # moves of the whole market, up to each stock's own noise
        (pl.col("close") * (1 + pl.col("date").dt.day() / 100)).alias("close")
    )
    found = of(pl.concat([together, copy, third]), tmp_path).twins
    assert found.copies == (("COPY", "LATE"),)
    found = of(pl.concat([plain, copy, third]), tmp_path).twins
    assert (found.copies, found.copied_codes) == ((("COPY", "LATE", "S04"),), 3)
    assert of(plain, tmp_path).twins.copied_codes == 0


def test_a_code_that_goes_on_under_another_name_is_told(tmp_path):
    plain = tables.bars(days=200, gaps=0.0)
    later = pl.col("date") > tables.START + dt.timedelta(110)
    moved = plain.with_columns(
        pl.when((pl.col("code") == "S04") & later).then(pl.lit("NEW")).otherwise("code").alias("code")
    )
    found = of(moved, tmp_path).twins
    assert (found.renamed_count, found.renamed) == (1, ("2020-04-20 S04 → NEW",))
    assert of(plain, tmp_path).twins.renamed_count == 0


def test_the_description_does_not_depend_on_how_many_rows_are_read_at_once(frame, tmp_path, monkeypatch):
    whole = of(frame, tmp_path)
    monkeypatch.setattr(grouping, "ROWS_AT_ONCE", 1500)
    parts = list(SourceRows(locate(tables.written(frame, tmp_path)), Roles()).groups())
    assert len(parts) >= 4
    assert sum(part.height for part in parts) == frame.height
    found = of(frame, tmp_path)
    assert sorted(found.findings, key=str) == sorted(whole.findings, key=str)
    assert found.model_dump(exclude={"findings"}) == whole.model_dump(exclude={"findings"})


def test_a_panel_is_described_as_its_table(frame, tmp_path, monkeypatch):
    table = of(frame, tmp_path)
    build(tmp_path / "bars.parquet", tmp_path / "panel", computed=["return_1"])
    found = describe(PanelRows(Panel.open(tmp_path / "panel")))[0]
    for part in ("rows", "stocks", "days", "years", "gaps", "survivorship", "twins"):
        assert getattr(found, part) == getattr(table, part), part
    monkeypatch.setattr(grouping, "ROWS_AT_ONCE", 1500)
    assert describe(PanelRows(Panel.open(tmp_path / "panel")))[0].gaps == table.gaps


def test_a_holiday_of_a_market_is_no_gap(tmp_path):
    frame = table_of_exchanges("XNYS", "XTKS")
    found = of(frame, tmp_path, hours_of("XNYS", "XTKS"))
    assert found.gaps.missing == 0
    assert set(found.markets) == {"XNYS", "XTKS"}
    assert found.days > max(found.markets.values())
    assert of(frame, tmp_path).gaps.missing > 0


def test_listings_and_adjustments_count_as_in_a_build(tmp_path):
    plain = tables.bars(days=200, gaps=0.0)
    late = tables.START + dt.timedelta(100)
    before = pl.col("date") < late
    split = plain.with_columns(
        pl.when(before).then(0.25).otherwise(1.0).alias("factor"),
        *(
            pl.when(before).then(pl.col(name) * 4).otherwise(name).alias(name)
            for name in ("open", "high", "low", "close")
        ),
        pl.when(pl.col("code") == "S02").then(late).alias("ipo"),
    )
    found = of(split, tmp_path, Roles(adjustment="factor", listed="ipo"))
    assert finding(found, "rows before listing")[0] == 100
    assert [each for each in found.findings if each.what.startswith("moves")] == []
    assert finding(of(split, tmp_path), "moves above 50 % from")[0] == 12


def test_rows_without_a_name_are_counted_and_a_table_without_any_is_refused(tmp_path):
    plain = tables.bars(days=60, gaps=0.0)
    place = pl.int_range(pl.len())
    holed = plain.with_columns(
        pl.when(place != 3).then("date").alias("date"),
        pl.when(place > 1).then("code").otherwise(pl.lit(" ")).alias("code"),
    )
    found = of(holed, tmp_path)
    assert finding(found, "rows without a date or a code")[0] == 3
    assert found.rows == plain.height
    with pytest.raises(UseError, match="holds no row with a date and a code"):
        of(plain.clear(), tmp_path)
    with pytest.raises(UseError, match="no row has a date, a code and a close"):
        of(plain.with_columns(pl.lit(-1.0).alias("close")), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not NASDAQ, reason="set ATFT_NASDAQ to the NASDAQ file to run this")
def test_nasdaq_is_a_table_of_survivors():
    found = describe(SourceRows(locate(NASDAQ), Roles()))[0]
    assert (found.rows, found.stocks, found.days) == (1_524_717, 1026, 1495)
    assert found.survivorship.exits == 0
    assert found.survivorship.signs[0].startswith("all 1,026 stocks survive")
    assert finding(found, "moves above 50 % from")[0] == 23
    assert finding(found, "high below low")[0] == 1
    assert package.Description.model_validate_json(found.model_dump_json()) == found
