"""Codes that may be one stock: the same returns under two names, or one name that goes on under another."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import polars as pl

from atft.data.describe.life import Life
from atft.data.describe.model import Twins

LEAST_ROWS, LEAST_MOVES, LEAST_MONTHS = 10, 5, 2
"""Of a month that can be told from others; months that two codes must share."""
NEAR = 0.05
SHOWN = 10


def months(bars: pl.DataFrame) -> pl.DataFrame:
    """A print of each stock's months: ``code``, ``print`` (UInt64), the same for the same dates and returns.

    Args:
        bars: ``date``, ``code``, ``move``; sorted by code, date.
    """
    units = (pl.col("move") * 1e5).round().cast(pl.Int64, strict=False)
    row = pl.struct("date", units.alias("units")).hash(seed=1)
    found = (
        bars.filter(pl.col("move").is_finite())
        .with_columns(row.alias("row"), units.alias("units"), pl.col("date").dt.truncate("1mo").alias("month"))
        .group_by("code", "month")
        .agg(
            pl.col("row").bitwise_xor().alias("print"),
            pl.len().alias("rows"),
            pl.col("units").filter(pl.col("units") != 0).n_unique().alias("moves"),
        )
    )
    return found.filter((pl.col("rows") >= LEAST_ROWS) & (pl.col("moves") >= LEAST_MOVES)).select("code", "print")


def twins(prints: pl.DataFrame, lives: dict[str, Life], calendars: dict[str | None, np.ndarray]) -> Twins:
    """Groups of codes with the same prints, and codes that end where another begins."""
    copies, renamed = _copies(prints), _renamed(lives, calendars)
    return Twins(
        copies=tuple(copies[:SHOWN]),
        copied_codes=sum(map(len, copies)),
        renamed=tuple(renamed[:SHOWN]),
        renamed_count=len(renamed),
    )


def _copies(prints: pl.DataFrame) -> list[tuple[str, ...]]:
    shared = prints.group_by("print").agg(pl.col("code").unique().sort()).filter(pl.col("code").list.len() > 1)
    together = shared.group_by(pl.col("code").list.join("\x00").alias("codes")).len()
    groups = [codes.split("\x00") for codes, months in together.iter_rows() if months >= LEAST_MONTHS]
    place: dict[str, str] = {}

    def root(code: str) -> str:
        while place.setdefault(code, code) != code:
            code = place[code]
        return code

    for first, *others in groups:
        for code in others:
            place[root(code)] = root(first)
    found = defaultdict(list)
    for code in place:
        found[root(code)].append(code)
    return sorted(tuple(sorted(codes)) for codes in found.values())


def _renamed(lives: dict[str, Life], calendars: dict[str | None, np.ndarray]) -> list[str]:
    begins: dict[tuple[str | None, int], list[str]] = defaultdict(list)
    place = {market: {int(day): number for number, day in enumerate(days)} for market, days in calendars.items()}
    for code, life in lives.items():
        begins[life.market, place[life.market][int(life.days[0])]].append(code)
    found = []
    for old, life in lives.items():
        after = place[life.market][int(life.days[-1])] + 1
        for new in begins.get((life.market, after), []):
            if abs(math.log(lives[new].first_close / life.last_close)) < NEAR:
                found.append((int(life.days[-1]), f"{old} → {new}"))
    return [f"{np.datetime64(day, 'D')} {told}" for day, told in sorted(found)]
