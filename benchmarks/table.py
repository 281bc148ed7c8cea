"""A table of the size of a whole market, written as Parquet a few weeks of days at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from atft.data.roles import BARS, Roles

START = np.datetime64("2020-01-01")
DAYS_AT_ONCE = 32
INDUSTRIES = 33
LISTED_LATE, DELISTED, MISSING = 0.15, 0.06, 0.01
"""Shares of stocks that come late (within the first 90 % of days) and that leave early, and of other rows missing."""


@dataclass(frozen=True)
class Size:
    """Of a table.

    Attributes:
        stocks: ever listed.
        days: trading days.
        own: own feature columns, beside the bars.
    """

    stocks: int
    days: int
    own: int

    @property
    def own_names(self) -> list[str]:
        """Names of the own feature columns."""
        return [f"own_{number:03d}" for number in range(self.own)]

    @property
    def roles(self) -> Roles:
        """Which column is which."""
        return Roles(features=("own_*",) if self.own else ())

    def __str__(self) -> str:
        return f"{self.stocks:,} stocks × {self.days:,} days, {self.own} own features"


def write_table(path: Path, size: Size, seed: int = 0) -> int:
    """Write a table by day and stock; memory holds ``DAYS_AT_ONCE`` days of it.

    Prices are random walks, own features are noise: what they are worth is not asked here.

    Args:
        path: of the Parquet file.
        size: of the table.
        seed: of everything random.

    Returns:
        How many rows were written.
    """
    rows, writer = 0, None
    for table in _pieces(size, np.random.default_rng(seed)):
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema, compression="snappy", use_dictionary=["code", "industry"])
        writer.write_table(table, row_group_size=table.num_rows)
        rows += table.num_rows
    assert writer is not None
    writer.close()
    return rows


def _pieces(size: Size, random: np.random.Generator) -> Iterator[pa.Table]:
    calendar = np.busday_offset(START, np.arange(size.days), roll="forward").astype("datetime64[D]")
    first, last = _spans(size, random)
    price = np.exp(random.normal(3.0, 1.0, size.stocks))
    for begin in range(0, size.days, DAYS_AT_ONCE):
        days = np.arange(begin, min(begin + DAYS_AT_ONCE, size.days))
        there = (first <= days[:, None]) & (days[:, None] <= last)
        there &= random.random(there.shape, np.float32) >= MISSING
        bars = _bars(price, len(days), random)
        price = bars["close"][-1]
        day, stock = np.nonzero(there)
        yield pa.table(
            {
                "date": pa.array(calendar[days][day]),
                "code": _named("S", stock),
                **{name: pa.array(values[there]) for name, values in bars.items()},
                "industry": _named("I", stock % INDUSTRIES),
                **{name: pa.array(random.standard_normal(len(day), np.float32)) for name in size.own_names},
            }
        )


def _spans(size: Size, random: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last day ``[stocks]`` of each stock; at least one stock is there on every day."""
    first, last = np.zeros(size.stocks, np.int64), np.full(size.stocks, size.days - 1)
    late, gone = (random.random(size.stocks) < share for share in (LISTED_LATE, DELISTED))
    late[0] = gone[0] = False
    first[late] = random.integers(0, max(1, size.days * 9 // 10), late.sum())
    last[gone] = random.integers(size.days // 2, size.days, gone.sum())
    return first, last


def _bars(price: NDArray[np.float64], days: int, random: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """``[days, stocks]`` per column, going on from the last closes."""
    shape = (days, len(price))
    close = price * np.exp(np.cumsum(random.normal(0.0, 0.02, shape), axis=0))
    opened = close * np.exp(random.normal(0.0, 0.01, shape))
    high = np.maximum(opened, close) * np.exp(abs(random.normal(0.0, 0.01, shape)))
    low = np.minimum(opened, close) * np.exp(-abs(random.normal(0.0, 0.01, shape)))
    volume = np.rint(np.exp(random.normal(11.0, 1.0, shape)))
    return dict(zip(BARS, (opened, high, low, close, volume), strict=True))


def _named(letter: str, numbers: NDArray[np.int64]) -> pa.DictionaryArray:
    names = [f"{letter}{number:04d}" for number in range(int(numbers.max(initial=0)) + 1)]
    return pa.DictionaryArray.from_arrays(pa.array(numbers.astype(np.int32)), pa.array(names))
