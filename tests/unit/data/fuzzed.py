"""Tables as users have them at their worst: a market of daily bars, changed in many ways that Hypothesis picks."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

from atft.data.roles import Hours, OwnLabel, Roles
from tests.unit.data import tables

NUMBERS = ("open", "high", "low", "close", "volume", "alpha", "factor", "excess")
WILD: tuple[Any, ...] = (
    None, float("nan"), float("inf"), -float("inf"), 0.0, -0.0, -1.0, 1e308, -1e308, 5e-324, 1e-300, 1e16, 1e-10, 1e6,
    3.4e38,
)  # fmt: skip
CODES: tuple[str | None, ...] = (
    "", " ", "S00", "S00 ", "\x00", "S00\x00", "a\nb", "日本", "n/a", "null", "-1", "1e308", None, "x" * 300,
)  # fmt: skip
DATES = (None, dt.date(1, 1, 1), dt.date(1970, 1, 1), dt.date(9999, 12, 31), dt.date(2020, 1, 1), dt.date(2262, 4, 12),
         dt.date(2020, 2, 29), dt.date(1600, 2, 29))  # fmt: skip
KINDS: tuple[Any, ...] = (
    pl.Int8, pl.Int64, pl.UInt32, pl.Int128, pl.Float32, pl.Decimal(20, 4), pl.String, pl.Boolean, pl.Categorical,
    pl.Date, pl.Datetime("ns"), pl.Datetime("us", "America/New_York"), pl.Duration, pl.Time, pl.Null, pl.Binary,
    pl.List(pl.Float64), pl.Struct({"x": pl.Float64}),
)  # fmt: skip
HEADERS = (
    "", " close", "close ", "Close", '"close"', "^close$", "*", "^.*$", "a,b", "a[1]", "row", "bad", "é", "\ufeffdate",
    "alpha", "early",
)  # fmt: skip


MARKETS = {
    "XNYS": Hours(timezone="America/New_York", close="16:00"),
    "XTKS": Hours(timezone="Asia/Tokyo", close="15:00"),
}


@dataclass
class Fuzzed:
    """A table, its roles, and how it is written."""

    frame: pl.DataFrame
    roles: dict[str, Any]
    kind: str = "parquet"
    done: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        """The table on disk."""
        if self.kind.startswith("hive"):
            kind = self.kind.removeprefix("hive ")
            for number, part in enumerate(self.frame.partition_by("market")):
                place = folder / f"bars/market={part['market'][0]}"
                place.mkdir(parents=True)
                plain = part.drop("market")
                (plain.write_csv if kind == "csv" else plain.write_parquet)(place / f"{number}.{kind}")
            return folder / "bars"
        if self.kind == "many":
            (folder / "bars").mkdir()
            for number, part in enumerate(self.frame.iter_slices(max(1, self.frame.height // 3))):
                part.write_parquet(folder / f"bars/{number}.parquet")
            return folder / "bars"
        path = folder / f"bars.{self.kind}"
        (self.frame.write_csv if self.kind == "csv" else self.frame.write_parquet)(path)
        return path


def market(seed: int, stocks: int, days: int) -> Fuzzed:
    """A sound table that has every role."""
    random = np.random.default_rng(seed)
    plain = tables.bars(stocks=stocks, days=days, seed=seed, gaps=0.05)
    rows = plain.height
    frame = plain.with_columns(
        pl.Series("alpha", random.normal(size=rows)),
        pl.Series("excess", random.normal(0, 0.02, rows)),
        pl.Series("ok", random.random(rows) < 0.95),
        pl.Series("factor", np.where(random.random(rows) < 0.5, 1.0, 0.5)),
        pl.lit(dt.date(2019, 1, 1)).alias("listed"),
        pl.lit(None, pl.Date).alias("delisted"),
        pl.when(pl.col("code").str.ends_with("1")).then(pl.lit("XTKS")).otherwise(pl.lit("XNYS")).alias("market"),
    )
    return Fuzzed(frame, {"features": ("alpha",)})


Draw = Callable[[st.SearchStrategy[Any]], Any]


def rows_of(table: Fuzzed, draw: Draw) -> pl.Expr:
    """True in some of the rows: one, a few, many or all."""
    seed, share = draw(st.integers(0, 2**16)), draw(st.sampled_from([0.0, 0.02, 0.3, 1.0]))
    chosen = np.random.default_rng(seed).random(table.frame.height) < share
    chosen[seed % max(1, len(chosen)) :][:1] = True
    return pl.lit(pl.Series(chosen))


def _set(table: Fuzzed, draw: Draw, columns: tuple[str, ...], values: tuple[Any, ...]) -> None:
    name, value = draw(st.sampled_from(columns)), draw(st.sampled_from(values))
    if name in table.frame.columns:
        kind = table.frame.schema[name]
        try:
            new = pl.lit(pl.Series([value], dtype=kind, strict=False).first(), kind)
            table.frame = table.frame.with_columns(
                pl.when(rows_of(table, draw)).then(new).otherwise(pl.col(f"^{name}$")).alias(name)
            )
        except (pl.exceptions.PolarsError, TypeError, OverflowError, ValueError):
            return


def wild_number(table: Fuzzed, draw: Draw) -> None:
    _set(table, draw, NUMBERS, WILD)


def wild_code(table: Fuzzed, draw: Draw) -> None:
    _set(table, draw, ("code", "industry", "market"), CODES)


def wild_date(table: Fuzzed, draw: Draw) -> None:
    _set(table, draw, ("date", "listed", "delisted"), DATES)


def other_kind(table: Fuzzed, draw: Draw) -> None:
    name, kind = draw(st.sampled_from(table.frame.columns)), draw(st.sampled_from(KINDS))
    try:
        cast = pl.Series(name, table.frame[name].to_list(), dtype=kind, strict=False)
    except Exception:  # not every value can be made anything
        cast = pl.Series(name, [None] * table.frame.height, dtype=kind)
    table.frame = table.frame.with_columns(cast)


def zoned(table: Fuzzed, draw: Draw) -> None:
    if table.frame.schema.get("date") == pl.Date:
        zone = draw(st.sampled_from([None, "UTC", "Asia/Tokyo", "America/New_York"]))
        made = pl.col("date").cast(pl.Datetime(draw(st.sampled_from(["ms", "us", "ns"])))).dt.replace_time_zone(
            zone, ambiguous="earliest", non_existent="null"
        )  # fmt: skip
        if zone and draw(st.booleans()):
            made = made.dt.convert_time_zone("UTC")
        table.frame = table.frame.with_columns(made)


def as_text(table: Fuzzed, draw: Draw) -> None:
    form = draw(st.sampled_from(["%Y-%m-%d", " %Y-%m-%d ", "%d/%m/%Y", "%Y%m%d"]))
    if table.frame.schema.get("date") == pl.Date:
        table.frame = table.frame.with_columns(pl.col("date").dt.strftime(form))


def shuffled(table: Fuzzed, draw: Draw) -> None:
    table.frame = table.frame.sample(fraction=1.0, shuffle=True, seed=draw(st.integers(0, 99)))


def repeated(table: Fuzzed, draw: Draw) -> None:
    again = table.frame.filter(rows_of(table, draw))
    if draw(st.booleans()) and "close" in again.columns and again.schema["close"].is_float():
        again = again.with_columns(pl.col("close") * 1.01)
    table.frame = pl.concat([table.frame, again])


def renamed(table: Fuzzed, draw: Draw) -> None:
    """A stock goes on under another code, or has its whole history under both."""
    if table.frame.schema.get("code") == pl.String and table.frame.schema.get("date") == pl.Date:
        new = pl.when((pl.col("code") == "S00") & (pl.col("date") > dt.date(2020, 1, 10))).then(pl.lit("NEW"))
        moved = table.frame.with_columns(new.otherwise("code").alias("code"))
        table.frame = pl.concat([table.frame, moved]).unique() if draw(st.booleans()) else moved


def thinned(table: Fuzzed, draw: Draw) -> None:
    """Days without any row, or with one stock only."""
    if table.frame.schema.get("date") == pl.Date:
        day = dt.date(2020, 1, 1) + dt.timedelta(draw(st.integers(0, 30)))
        gone = pl.col("date") == day
        if draw(st.booleans()) and table.frame.schema.get("code") == pl.String:
            gone &= pl.col("code") != "S02"
        table.frame = table.frame.filter(~gone)


def cut(table: Fuzzed, draw: Draw) -> None:
    table.frame = table.frame.head(draw(st.sampled_from([0, 1, 2, 3, 40])))


def other_header(table: Fuzzed, draw: Draw) -> None:
    old, new = draw(st.sampled_from(table.frame.columns)), draw(st.sampled_from(HEADERS))
    if new in table.frame.columns:
        return
    table.frame = table.frame.rename({old: new})
    if draw(st.booleans()):
        role = {"factor": "adjustment", "ok": "tradable"}.get(old, old)
        if role == "alpha":
            table.roles["features"] = (new,)
        elif role == "excess":
            table.roles["label"] = {"column": new, "horizon": 1, "execution_lag": 1}
        else:
            table.roles[role] = new


def more_roles(table: Fuzzed, draw: Draw) -> None:
    given = {
        "adjustment": "factor", "listed": "listed", "delisted": "delisted", "tradable": "ok", "market": "market",
        "zero_volume_is_suspended": True, "label": OwnLabel(column="excess", horizon=1, execution_lag=1),
    }  # fmt: skip
    for role in draw(st.sets(st.sampled_from(sorted(given)), min_size=1)):
        table.roles.setdefault(role, given[role])
    if "market" in table.roles:
        table.roles.setdefault("markets", MARKETS)


def fewer_roles(table: Fuzzed, draw: Draw) -> None:
    for role in draw(st.sets(st.sampled_from(["open", "high", "low", "volume", "industry"]), min_size=1)):
        table.roles[role] = None


def other_hours(table: Fuzzed, draw: Draw) -> None:
    table.roles["market"] = "market"
    table.roles["markets"] = {
        name: {"timezone": draw(st.sampled_from(["UTC", "Pacific/Kiritimati", "Pacific/Midway"])), "close": "23:00"}
        for name in draw(st.sets(st.sampled_from(["XNYS", "XTKS", "OTHER"])))
    }


def other_files(table: Fuzzed, draw: Draw) -> None:
    table.kind = draw(st.sampled_from(["csv", "many", "hive parquet", "hive csv"]))
    if table.kind.startswith("hive"):
        table.roles.setdefault("market", "market")
        table.roles.setdefault("markets", MARKETS)


def money(table: Fuzzed, draw: Draw) -> None:
    """Exact decimals instead of floats."""
    if table.frame.schema.get("close") == pl.Float64:
        values = [None if x is None or not abs(x) < 1e9 else Decimal(f"{x:.4f}") for x in table.frame["close"]]
        table.frame = table.frame.with_columns(pl.Series("close", values, pl.Decimal(20, 4)))


CHANGES = (
    wild_number, wild_number, wild_number, wild_code, wild_date, other_kind, zoned, as_text, shuffled, repeated,
    renamed, thinned, repeated, cut, other_header, more_roles, more_roles, fewer_roles, other_hours, other_files, money,
)  # fmt: skip


@st.composite
def fuzzed_tables(draw: Any, most: int = 5) -> Fuzzed:
    """A table with up to ``most`` changes."""
    table = market(draw(st.integers(0, 5)), draw(st.integers(2, 6)), draw(st.integers(2, 36)))
    for change in draw(st.lists(st.sampled_from(CHANGES), max_size=most)):
        with contextlib.suppress(pl.exceptions.PolarsError):  # what an earlier change has made impossible
            change(table, draw)
        table.done.append(change.__name__)
    return table


def roles_of(table: Fuzzed) -> Roles:
    """Its roles, checked."""
    return Roles.model_validate(table.roles)
