"""A table as it was on a day, a table with another future, and what differs between what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from atft.data import files
from atft.data.files import Source
from atft.data.roles import PRICES, Roles

ROWS = "(rows)"
"""Stands for a column where a row is there on one side only."""

LOST_ROWS, LOST_STOCKS, NOISE = 0.1, 0.1, 0.3
"""Of another future: the shares of rows and of stocks that are lost, and the deviation of log prices."""


@dataclass(frozen=True)
class Change:
    """What differs in one column at or before a day.

    Attributes:
        column: its name; ``ROWS`` where rows are there on one side only.
        day, code: where it differs first.
        before, after: the two values there; None where missing.
        values: how many values differ.
        largest: greatest difference relative to the greater of the two values; infinite where one is missing or text.
    """

    column: str
    day: str
    code: str
    before: Any
    after: Any
    values: int
    largest: float


def until(table: pl.DataFrame, day: Any, roles: Roles) -> pl.DataFrame:
    """The rows of ``day`` and before: the table as it was at the close of that day."""
    return table.filter(pl.col(roles.date) <= day)


def settled(table: pl.DataFrame, day: Any, roles: Roles) -> pl.DataFrame:
    """The rows whose own label has ended at the close of ``day``, as its stated horizon and lag say.

    Counted in trading days of the row's market: the dates on which the table has any row of it.

    Args:
        table: columns as ``roles`` name them; the market may be missing.
        day: a value of the date column.
        roles: with an own label.
    """
    if roles.label is None:
        raise ValueError("the roles state no label")
    past = until(table, day, roles)
    group = [roles.market] if roles.market in past.columns else []
    sessions = past.select(*group, roles.date).unique().sort(roles.date, descending=True)
    number = pl.int_range(pl.len())
    later = (number.over(group) if group else number).alias("__later")
    ended = sessions.with_columns(later).filter(pl.col("__later") >= roles.label.horizon + roles.label.execution_lag)
    return past.join(ended.drop("__later"), on=[*group, roles.date], how="semi")


def another_future(table: pl.DataFrame, day: Any, roles: Roles, seed: int) -> pl.DataFrame:
    """The table with the same rows up to ``day`` and another market after it.

    Later prices are multiplied by noise (one factor for each row, so that a bar stays one), volumes by 1 to 8, all
    other columns but the market are shuffled; a tenth of the rows and a tenth of the stocks vanish. The order of rows
    stays.

    Args:
        table: one row per (date, code), columns as ``roles`` name them, others free.
        day: a value of the date column.
        roles: which column is which.
        seed: of the noise.
    """
    random = np.random.default_rng(seed)
    numbered = table.with_row_index("__row")
    past, later = (numbered.filter(side) for side in (pl.col(roles.date) <= day, pl.col(roles.date) > day))
    factor = pl.Series(np.exp(random.normal(0, NOISE, later.height)))
    times = pl.Series(random.integers(2, 9, later.height).astype(float))
    scaled = {getattr(roles, role): factor for role in PRICES} | {roles.volume: times}
    changed = []
    for number, (name, dtype) in enumerate(table.schema.items()):
        if name in (roles.date, roles.code, roles.market):  # a code stays on its market
            continue
        if name in scaled:
            product = pl.col(name).cast(pl.Float64) * scaled[name]
            changed.append((product.round() if dtype.is_integer() else product).cast(dtype, strict=False))
        else:
            changed.append(pl.col(name).shuffle(seed=seed + number))
    later = later.with_columns(changed)
    codes = later[roles.code].unique().sort()
    gone = codes.sample(fraction=LOST_STOCKS, seed=seed) if len(codes) else codes
    kept = pl.Series(random.random(later.height) >= LOST_ROWS, dtype=pl.Boolean)
    later = later.filter(kept & ~later[roles.code].is_in(gone.implode()))
    return pl.concat([past, later]).sort("__row").drop("__row")


def changes(before: pl.DataFrame, after: pl.DataFrame, keys: Sequence[str], columns: Sequence[str]) -> list[Change]:
    """Columns in which two tables differ in any bit, in the order of ``columns``; rows on one side only come first.

    Args:
        before, after: one row per key, in any order.
        keys: date and code.
        columns: what is compared; a column that one side lacks is missing there in all rows.
    """
    date, code = keys
    joined = _numbered(before, keys, columns, "__before").join(
        _numbered(after, keys, columns, "__after"), on=[date, code], how="full", coalesce=True
    )
    joined = joined.sort(date, code)
    found = []
    alone = joined.filter(pl.col("__before").is_null() != pl.col("__after").is_null())
    if alone.height:
        there = alone.row(0, named=True)
        before, after = there["__before"], there["__after"]
        found.append(Change(ROWS, str(there[date]), str(there[code]), before, after, alone.height, float("inf")))
    both = joined.filter(pl.col("__before") & pl.col("__after"))
    for name in columns:
        change = _change(both, name, date, code)
        if change is not None:
            found.append(change)
    return found


def _numbered(table: pl.DataFrame, keys: Sequence[str], columns: Sequence[str], side: str) -> pl.DataFrame:
    there = [
        (pl.col(name) if name in table.columns else pl.lit(None)).alias(f"{name}{side}")
        for name in columns
        if name not in keys
    ]
    return table.select(*keys, *there, pl.lit(True).alias(side))


def _change(both: pl.DataFrame, name: str, date: str, code: str) -> Change | None:
    sides = [f"{name}__before", f"{name}__after"]
    left, right = (pl.col(side) for side in sides)
    differ = both.filter(~left.eq_missing(right))
    if not differ.height:
        return None
    largest = float("inf")
    if all(differ[side].dtype.is_numeric() and not differ[side].null_count() for side in sides):
        one, other = (differ[side].cast(pl.Float64).to_numpy() for side in sides)
        with np.errstate(invalid="ignore"):
            apart = np.abs(one - other) / np.maximum(np.maximum(np.abs(one), np.abs(other)), 1e-300)
        largest = float(apart.max()) if np.isfinite(apart).all() else float("inf")
    first = differ.row(0, named=True)
    before, after = (first[side] for side in sides)
    return Change(name, str(first[date]), str(first[code]), before, after, differ.height, largest)


def scan(source: str | Path | Source, roles: Roles) -> pl.LazyFrame:
    """The table ``source`` with the columns that it has, as a source is scanned.

    Raises:
        UseError: missing, unreadable, or of another kind.
    """
    return files.locate(source).scan(roles.text())
