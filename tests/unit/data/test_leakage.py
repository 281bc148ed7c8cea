"""Tables with another future, and rebuilds that show which value knew it."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.data import features
from atft.data.build import build
from atft.data.leakage.pipeline import Pipeline
from atft.data.leakage.rebuild import Rebuilder, computed_names, read_source
from atft.data.leakage.vintage import ROWS, another_future, changes, settled, until
from atft.data.panel import Panel, write_panel
from atft.data.roles import OwnLabel, Roles
from atft.errors import UseError
from tests.unit.data.tables import START, bars, written

NAMES = ("return_1", "return_5", "industry_return_5", "rank_return_1")
TABLE = bars(stocks=14, days=120)
DAY = START + dt.timedelta(days=90)


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(0, 119), seed=st.integers(0, 2**20))
def test_another_future_has_the_same_past_and_another_market_after_it(cut, seed):
    shuffled, day = TABLE.sample(fraction=1, shuffle=True, seed=seed), START + dt.timedelta(days=cut)
    other = another_future(shuffled, day, Roles(), seed)
    assert until(other, day, Roles()).equals(until(shuffled, day, Roles())), "past rows, in their order"
    assert other.schema == shuffled.schema
    later = other.filter(pl.col("date") > day).join(TABLE, on=["date", "code"], suffix="_was")
    assert later.height == other.height - until(other, day, Roles()).height, "no row that was not there"
    assert (later["close"] != later["close_was"]).all()
    assert (later["high"] >= later["low"]).all()


def test_another_future_loses_rows_and_stocks():
    other = another_future(TABLE, DAY, Roles(), 1)
    before, after = (set(each.filter(pl.col("date") > DAY)["code"]) for each in (TABLE, other))
    assert len(before - after) >= 1
    assert other.height < TABLE.height - len(before - after)


def test_changes_name_the_first_day_and_stock_of_each_column_and_rows_on_one_side():
    days = [START + dt.timedelta(days=number) for number in range(3)]
    before = pl.DataFrame({"date": [*days, days[0]], "code": [*"aaab"], "x": [1.0, 2.0, float("nan"), None],
                           "y": [1, 2, 3, 4], "z": [*"pqrs"]})  # fmt: skip
    after = pl.DataFrame({"date": [*days, days[1]], "code": [*"aaab"], "x": [1.0, 2.5, float("nan"), None],
                          "y": [1, 2, 3, 4], "z": ["p", "q", "other", "s"]})  # fmt: skip
    rows, x, z = changes(before, after, ("date", "code"), ["x", "y", "z"])
    assert (rows.column, rows.day, rows.code, rows.values) == (ROWS, str(days[0]), "b", 2)
    assert (x.column, x.day, x.code, x.before, x.after, x.values) == ("x", str(days[1]), "a", 2.0, 2.5, 1)
    assert x.largest == pytest.approx(0.2)
    assert (z.column, z.day, z.before, z.after, z.largest) == ("z", str(days[2]), "r", "other", float("inf"))
    assert changes(before, before.reverse(), ("date", "code"), ["x", "y", "z"]) == []


def test_a_value_that_differs_in_its_last_bit_is_a_change():
    before = pl.DataFrame({"date": [START], "code": ["a"], "x": [1.0]})
    after = before.with_columns(x=pl.lit(np.nextafter(1.0, 2.0)))
    (change,) = changes(before, after, ("date", "code"), ["x"])
    assert 0 < change.largest < 1e-15


@pytest.fixture
def source(tmp_path):
    own = pl.Series("own", np.random.default_rng(3).normal(size=TABLE.height))
    return written(TABLE.with_columns(own), tmp_path)


def rebuilt(source: Path, folder: Path, names=NAMES, builder=build):
    builder(source, folder / "panel", Roles(features=("own",)), computed=names, most_bad=1.0)
    panel = Panel.open(folder / "panel")
    checked = read_source(source, Roles(features=("own",)), panel)
    return Rebuilder(panel, checked, builder, seed=4).cut(90)


def test_an_honest_panel_is_rebuilt_bit_by_bit_around_a_day(source, tmp_path):
    cut = rebuilt(source, tmp_path, list(features.BY_NAME)[::5])
    assert cut.day == str(DAY)
    assert (cut.stored, cut.truncated, cut.perturbed) == ([], [], [])


def test_a_computed_feature_that_looks_a_day_ahead_is_named(source, tmp_path, monkeypatch):
    ahead = features.C.shift(-1) / features.C - 1
    feature = features.Feature("leaky", "C[+1] / C − 1", 0, ahead)
    monkeypatch.setitem(features.BY_NAME, "leaky", feature)
    monkeypatch.setitem(features._MADE, "leaky", ahead)
    cut = rebuilt(source, tmp_path, (*NAMES, "leaky"))
    assert cut.stored == []
    for found in (cut.truncated, cut.perturbed):
        (each,) = found
        assert (each.feature, each.day) == ("leaky", str(DAY))
        assert 10 <= each.values <= 14


def test_a_scaler_over_the_whole_panel_is_named_by_every_feature_that_it_scales(source, tmp_path):
    def scaled(table, out, roles, **options):
        """As a build that fits each stock's mean on all days would."""
        build(table, f"{out}-plain", roles, **options)
        plain = Panel.open(f"{out}-plain")
        values = np.array(plain.features(0, len(plain.days)))
        mean = np.nan_to_num(values).mean(0)
        kept = {"features": plain.manifest.features, "normalise": "rank", "roles": roles}
        write_panel(
            out, days=plain.days, codes=plain.codes, industries=plain.industries, close=np.array(plain.close),
            feature_names=plain.feature_names, features=values - mean, manifest_extra=kept,
        )  # fmt: skip

    cut = rebuilt(source, tmp_path, NAMES, scaled)
    assert {each.feature for each in cut.perturbed} == {*NAMES, "own"}
    assert {each.feature for each in cut.truncated} == {*NAMES, "own"}


def test_a_panel_that_is_not_what_its_source_gives_is_told_apart_from_a_leak(source, tmp_path):
    build(source, tmp_path / "plain", Roles(features=("own",)), computed=NAMES)
    plain = Panel.open(tmp_path / "plain")
    values = np.array(plain.features(0, 120))
    stock = int(np.flatnonzero(np.isfinite(values[85, :, 1]))[3])
    values[85, stock, 1] += 0.5
    write_panel(
        tmp_path / "panel", days=plain.days, codes=plain.codes, industries=plain.industries, close=plain.close,
        feature_names=plain.feature_names, features=values,
        manifest_extra={"features": plain.manifest.features, "normalise": "rank", "roles": plain.manifest.roles},
    )  # fmt: skip
    panel = Panel.open(tmp_path / "panel")
    cut = Rebuilder(panel, read_source(source, plain.manifest.roles, panel), build, 4).cut(90)
    (found,) = cut.stored
    assert (found.feature, found.day, found.code) == ("return_5", str(plain.days[85]), plain.codes[stock])
    assert (cut.truncated, cut.perturbed) == ([], [])
    assert computed_names(panel) == list(NAMES)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (TABLE.slice(1), "rows"),
        (TABLE.with_columns(pl.col("code").replace("S03", "S99")), "stocks"),
        (TABLE.with_columns(pl.col("close") * 1.01, pl.col("high") * 1.01), "closes"),
    ],
)  # fmt: skip
def test_a_source_that_is_not_the_panels_is_refused(tmp_path, changed, told):
    build(written(TABLE, tmp_path), tmp_path / "panel", computed=NAMES)
    with pytest.raises(UseError, match=f"is not what .* was built from: .*{told}.* Mend: the table"):
        read_source(written(changed, tmp_path, "other.parquet"), Roles(), Panel.open(tmp_path / "panel"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("features", "is not MODULE:FUNCTION"),
        ("no_such_module_here:make", "cannot be imported: ModuleNotFoundError"),
        ("json:nothing", "has no function 'nothing'"),
        ("broken_pipeline:make", "cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_a_pipeline_that_is_not_there_is_refused(name, told, tmp_path, monkeypatch):
    (tmp_path / "broken_pipeline.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(UseError, match=told):
        Pipeline.load(name)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda table: table.select("no such"), "failed on all of it: ColumnNotFoundError: .*no such"),
        (lambda table: table.drop("code"), "has no column 'code'"),
        (lambda table: pl.concat([table, table]), "repeats a .date, code."),
        (lambda table: 3, "failed on all of it"),
    ],
)
def test_a_pipeline_that_fails_is_named_with_its_own_error(function, told):
    with pytest.raises(UseError, match=f"(?s)--pipeline mine:make.*{told}.*"):
        Pipeline("mine:make", function, pandas=False)(TABLE, Roles(), "all of it")


def test_a_pipeline_gets_the_frame_that_its_annotation_names():
    assert Pipeline.load("tests.leaky_pipelines:with_pandas").pandas
    assert not Pipeline.load("tests.leaky_pipelines:honest").pandas
    made = Pipeline.load("tests.leaky_pipelines:with_pandas")(TABLE, Roles(), "all of it")
    assert isinstance(made, pl.DataFrame)
    assert {"past", "leaky"} <= set(made.columns)


HOURS = {
    "north": {"timezone": "America/New_York", "close": "16:00"},
    "south": {"timezone": "Asia/Tokyo", "close": "15:00"},
}
TWO = Roles.model_validate({"market": "market", "markets": HOURS, "features": ["own"]})


@pytest.fixture(scope="module")
def two_markets():
    """Stocks of two markets, of which one is closed every fifth day and the other now and then; 200 days."""
    plain = bars(stocks=14, days=200, seed=6)
    south = pl.col("code") < "S06"
    number = (pl.col("date") - START).dt.total_days()
    closed = pl.when(south).then(number % 5 == 3).otherwise(number.is_in([60, 61, 120, 149, 151]))
    own = pl.Series("own", np.random.default_rng(5).normal(size=plain.height))
    market = pl.when(south).then(pl.lit("south")).otherwise(pl.lit("north")).alias("market")
    return plain.with_columns(own, market).filter(~closed)


def rebuilt_of_two(table: pl.DataFrame, folder: Path, names, day: int):
    source = written(table, folder)
    build(source, folder / "panel", TWO, computed=names)
    panel = Panel.open(folder / "panel")
    return panel, Rebuilder(panel, read_source(source, TWO, panel), build, seed=4).cut(day)


@pytest.mark.parametrize("day", [150, 190, 60])
def test_an_honest_panel_of_several_markets_is_rebuilt_bit_by_bit(two_markets, tmp_path, day):
    """Though a lookback of 60 own days spans 75 days of the calendar."""
    long = [name for name, each in features.BY_NAME.items() if each.lookback_days >= 55]
    panel, cut = rebuilt_of_two(two_markets, tmp_path, [*long[::3], *NAMES], day)
    assert len(long[::3]) > 5
    assert (cut.stored, cut.truncated, cut.perturbed) == ([], [], [])
    assert panel.manifest.longest_span > 74


def test_a_feature_that_looks_ahead_over_a_holiday_is_named_in_several_markets(two_markets, tmp_path, monkeypatch):
    ahead = features.C.shift(-1) / features.C - 1
    monkeypatch.setitem(features.BY_NAME, "leaky", features.Feature("leaky", "C[+1] / C − 1", 0, ahead))
    monkeypatch.setitem(features._MADE, "leaky", ahead)
    _, cut = rebuilt_of_two(two_markets, tmp_path, (*NAMES, "leaky"), 150)
    assert cut.stored == []
    for found in (cut.truncated, cut.perturbed):
        assert {each.feature for each in found} == {"leaky"}


def test_in_another_future_a_code_stays_on_its_market(two_markets):
    other = another_future(two_markets, START + dt.timedelta(days=90), TWO, 2)
    later = other.filter(pl.col("date") > START + dt.timedelta(days=90))
    was = dict(two_markets.select("code", "market").unique().iter_rows())
    assert all(was[code] == market for code, market in later.select("code", "market").iter_rows())
    own = later.join(two_markets, on=["date", "code"], suffix="_was")
    assert (own["own"] != own["own_was"]).mean() > 0.9, "the others are shuffled"


@pytest.mark.parametrize("as_text", [False, True])
def test_a_label_has_ended_after_its_days_of_the_stocks_own_market(two_markets, as_text):
    roles = TWO.model_copy(update={"label": OwnLabel(column="own", horizon=2, execution_lag=1)})
    day = START + dt.timedelta(days=153)  # north was closed on 149 and 151, south is on 153 and 148
    table = two_markets.with_columns(pl.col("date").cast(pl.String)) if as_text else two_markets
    found = settled(table, str(day) if as_text else day, roles)
    last = dict(found.group_by("market").agg(pl.col("date").max()).iter_rows())
    ends = {"north": START + dt.timedelta(days=148), "south": START + dt.timedelta(days=149)}
    assert {name: str(each) for name, each in last.items()} == {name: str(each) for name, each in ends.items()}
    one = settled(table.drop("market"), str(day) if as_text else day, roles)
    assert str(one["date"].max()) == str(START + dt.timedelta(days=150))
