"""Several markets in one panel: features on each market's own days, scattered to the calendar of all."""

import datetime as dt
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from atft.data import features, sources
from atft.data.build import append, build
from atft.data.chunks import Recipe
from atft.data.grid import Grid
from atft.data.own_file import Own
from atft.data.panel import Panel
from tests.unit.data import tables
from tests.unit.data.test_append import bytes_in

NAMES = [feature.name for feature in features.FEATURES]
DAYS = 150
CLOSED = {"north": {9, 10, 70, 71, 72, 100}, "south": {10, 30, 99, 100, 149}}
"""Days on which a market is closed: some apart, and days 10 and 100 together."""


def market_of(code):
    return "north" if code < "S06" else "south"


def date(number):
    return tables.START + dt.timedelta(days=number)


@pytest.fixture(scope="module")
def frame():
    closed = {market: {date(number) for number in numbers} for market, numbers in CLOSED.items()}
    plain = tables.bars(days=DAYS)
    kept = [day not in closed[market_of(code)] for day, code in plain.select("date", "code").iter_rows()]
    return plain.filter(pl.Series(kept))


@pytest.fixture
def with_markets(monkeypatch):
    """A source tells the market of each row."""
    read = sources.read

    def told(*given, **options):
        checked = read(*given, **options)
        market = checked.bars["code"].map_elements(market_of, return_dtype=pl.String).alias("market")
        return replace(checked, bars=checked.bars.with_columns(market))

    monkeypatch.setattr(sources, "read", told)


def raw(frame, folder, first, last):
    """Features before they are scaled, ``[days, features, stocks]``, and the grid."""
    grid = Grid.of(sources.read(tables.written(frame, folder)))
    own = Own((), 0, 0, len(grid.codes), folder / "own")
    return Recipe(grid, NAMES, own, method=lambda rows: rows).raw(first, last), grid


def test_each_market_has_the_features_it_has_alone_and_none_where_it_is_closed(frame, tmp_path, with_markets):
    first, last = 60, 148
    found, grid = raw(frame, tmp_path, first, last)
    days = [day.item() for day in grid.days]
    assert days == [date(number) for number in range(DAYS) if number not in {10, 100}]
    for market in ("north", "south"):
        alone = frame.filter(pl.col("code").map_elements(market_of, return_dtype=pl.String) == market)
        columns, industries = tables.grid(alone)
        expected = tables.computed(columns, industries, NAMES)
        stocks = [grid.codes.index(code) for code in sorted(set(alone["code"]))]
        open_days = {day: number for number, day in enumerate(sorted(set(alone["date"])))}
        for place, name in enumerate(NAMES):
            for day in range(first, last):
                here = found[day - first, place, stocks]
                if days[day] in open_days:
                    assert here.tobytes() == expected[name][open_days[days[day]]].tobytes(), (name, day)
                else:
                    assert np.isnan(here).all()


def test_one_market_is_what_it_is_without_a_name(frame, tmp_path, monkeypatch):
    build(tables.written(frame, tmp_path), tmp_path / "plain")
    read = sources.read

    def told(*given, **options):
        checked = read(*given, **options)
        return replace(checked, bars=checked.bars.with_columns(pl.lit("north").alias("market")))

    monkeypatch.setattr(sources, "read", told)
    build(tmp_path / "bars.parquet", tmp_path / "named")
    plain, named = bytes_in(tmp_path / "plain"), bytes_in(tmp_path / "named")
    assert {name for name in plain if plain[name] != named[name]} == {"manifest.json", "stocks.arrow"}
    assert Panel.open(tmp_path / "named").markets == ["north"] * 12


def test_a_panel_of_two_markets_is_ranked_over_all_stocks_and_appended_to_the_same_bytes(frame, tmp_path, with_markets):
    names = ["return_20", "beta_20", "rank_return_5"]
    (tmp_path / "whole").mkdir()
    build(tables.written(frame, tmp_path / "whole"), tmp_path / "whole/panel", computed=names)
    panel = Panel.open(tmp_path / "whole/panel")
    closed = [number for number, day in enumerate(panel.days) if day.item() == date(99)]
    assert not panel.present[closed[0], 6:].any()
    assert np.isfinite(panel.features(0, len(panel.days))[120]).sum() > 20
    build(tables.written(frame.filter(pl.col("date") < date(80)), tmp_path), tmp_path / "panel", computed=names)
    append(tmp_path / "panel", tables.written(frame, tmp_path))
    assert bytes_in(tmp_path / "panel") == bytes_in(tmp_path / "whole/panel")


def test_the_longest_lookback_counts_days_of_the_calendar_of_all(frame, tmp_path, with_markets):
    build(tables.written(frame, tmp_path), tmp_path / "panel", computed=["return_20"])
    manifest = Panel.open(tmp_path / "panel").manifest
    assert manifest.features[0].lookback_days == 20
    # Days 70 to 72 the south trades on alone; 9 and 99 are a day each for one of the two.
    assert manifest.longest_lookback == 23
