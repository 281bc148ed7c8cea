"""Backtests over several markets: money of different currencies is never set side by side."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from atft.config import Label
from atft.data.build import build
from atft.data.markets import mixed_money
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.errors import UseError
from atft.evaluate.costs import Costs, liquidity
from atft.evaluate.strategies import Strategy
from atft.experiment.backtests import Neutral, Setting, backtests, decided
from atft.experiment.score_table import Scored
from atft.launch import texts_backtest
from tests.unit.data import tables

LABEL = Label(horizon=1, execution_lag=1, cost_bps=0, quantile_horizons=())
DAYS = np.arange(30, 70)
CHEAP, COSTLY = Costs(5), Costs(5, impact=1, capital=1e6)


def opened(folder: Path, *currencies: str | None) -> Panel:
    """A panel of a market for each currency; the last one is closed on the last day."""
    names = [f"M{place}" for place in range(len(currencies))]
    hours = {
        name: {"timezone": "UTC", "close": "16:00"} | ({"currency": currency} if currency else {})
        for name, currency in zip(names, currencies)
    }
    table = tables.bars(stocks=10, days=73, gaps=0.0)
    number = pl.col("code").str.slice(1).cast(pl.Int64) % len(names)
    table = table.with_columns(pl.concat_str(pl.lit("M"), number).alias("market"))
    if len(names) > 1:
        table = table.filter((pl.col("market") != names[-1]) | (pl.col("date") < pl.col("date").max()))
    folder.mkdir(exist_ok=True)
    build(tables.written(table, folder), folder / "panel", Roles(market="market", markets=hours), computed=["return_1"])
    return Panel.open(folder / "panel")


def scored(panel: Panel, days: np.ndarray = DAYS) -> Scored:
    scores = np.random.default_rng(0).standard_normal((len(days), len(panel.codes)))
    return Scored(days, scores)


def setting(cost: Costs = CHEAP, by: tuple[str, ...] = ()) -> Setting:
    return Setting((Strategy("score"),), ("close",), (cost,), Neutral(by))


MIXED = {
    "different": (("USD", "JPY"), "of .*panel M0 counts in USD, M1 counts in JPY. A rate of exchange is not known"),
    "unstated": (("USD", None), "of .*panel the roles state no currency of M1"),
    "none stated": ((None, None), "of .*panel the roles state no currency of M0, M1"),
}


@pytest.mark.parametrize("what", MIXED)
def test_money_of_markets_that_do_not_count_in_one_currency_is_refused(tmp_path: Path, what: str) -> None:
    currencies, told = MIXED[what]
    panel = opened(tmp_path, *currencies)
    with pytest.raises(UseError, match=f"^impact: .*{told}.*Mend: no --impact"):
        list(backtests(panel, LABEL, scored(panel), setting(COSTLY)))
    with pytest.raises(UseError, match=f"^neutralise size: .*{told}.*Mend: --neutralise industry"):
        list(backtests(panel, LABEL, scored(panel), setting(by=("industry", "size"))))
    (found,) = backtests(panel, LABEL, scored(panel), setting(by=("industry",)))
    assert found.capacity is None
    assert np.isfinite(found.net).all()
    reason = mixed_money(panel.manifest.sessions)
    text = texts_backtest.of([found], setting(), detailed=True, mixed_money=reason)
    assert f"  capacity             not told: {reason}\n" in text


@pytest.mark.parametrize("currencies", [("USD", "USD"), ("USD",), (None,)])
def test_one_currency_gives_impact_capacity_and_size(tmp_path: Path, currencies: tuple[str | None, ...]) -> None:
    panel = opened(tmp_path, *currencies)
    (found,) = backtests(panel, LABEL, scored(panel), setting(COSTLY, ("size",)))
    assert found.impact > 0
    assert found.capacity is not None
    ready = decided(panel, LABEL, scored(panel), "close", setting())
    expected = liquidity(np.asarray(panel.close), panel.volume, ready.execution.days)
    assert ready.liquidity is not None
    assert expected is not None
    np.testing.assert_array_equal(ready.liquidity.money, expected.money)


def test_nobody_has_left_whose_market_is_closed_on_the_last_day(tmp_path: Path) -> None:
    panel = opened(tmp_path, "USD", "USD")
    assert not panel.present[-1, 1::2].any()
    found = decided(panel, LABEL, scored(panel, np.arange(60, 72)), "close", setting())
    assert found.execution.exits[-1] == len(panel.days) - 1
    assert not found.execution.delisted.any()
    assert found.execution.stale[-1].tolist() == [False, True] * 5


def test_whose_listing_ends_with_the_last_day_of_a_closed_market_has_left(tmp_path: Path) -> None:
    table = tables.bars(stocks=10, days=73, gaps=0.0)
    last = table["date"].max()
    south = pl.col("code").str.slice(1).cast(pl.Int64) % 2 == 1
    ended = pl.when(pl.col("code") == "S03").then(pl.lit(last) - pl.duration(days=1)).alias("gone").cast(pl.Date)
    table = table.with_columns(pl.when(south).then(pl.lit("B")).otherwise(pl.lit("A")).alias("market"), ended)
    table = table.filter(~south | (pl.col("date") < last))
    hours = {name: {"timezone": "UTC", "close": "16:00"} for name in "AB"}
    roles = Roles.model_validate({"market": "market", "markets": hours, "delisted": "gone"})
    build(tables.written(table, tmp_path), tmp_path / "panel", roles, computed=["return_1"])
    panel = Panel.open(tmp_path / "panel")
    assert panel.delisted is not None
    known = ~np.isnat(panel.delisted)
    assert dict(zip(np.array(panel.codes)[known].tolist(), panel.delisted[known].tolist())) == {
        "S03": panel.days[-2].item()
    }
    found = decided(panel, LABEL, scored(panel, np.arange(60, 72)), "close", setting()).execution
    assert np.argwhere(found.delisted).tolist() == [[len(found.days) - 1, 3]]
    plain = opened(tmp_path / "plain", None)
    assert plain.delisted is None
