"""The rows of a checked source laid out by stock and day, and the days of each market."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft.data import features, sources
from atft.data.markets import calendars_of
from atft.data.roles import BARS

_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Grid:
    """The bars of a source on all market days.

    Attributes:
        days: ``[days]`` datetime64[D]: every date on which any stock has a row.
        codes: ``[stocks]``, sorted.
        industries: ``[stocks]`` names, None unknown.
        markets: ``[stocks]`` names, None unknown or where the source has none.
        columns: ``[stocks, days]`` float64 per bar column of the source, and its own label; NaN where missing.
        tradable: ``[stocks, days]`` bool, False where unknown; None where the source does not tell.
        delisted: ``[stocks]`` last day of the listing, None open; None where the source does not tell.
        cells: ``[rows of the source]``, place ``day * stocks + stock`` of each row.
    """

    days: NDArray[np.datetime64]
    codes: list[str]
    industries: list[str | None]
    markets: list[str | None]
    columns: dict[str, NDArray[np.float64]]
    tradable: NDArray[np.bool_] | None
    delisted: list[dt.date | None] | None
    cells: NDArray[np.int64]

    @classmethod
    def of(cls, checked: sources.Checked) -> Grid:
        """Lay the rows of a checked source out by stock and day."""
        bars = checked.bars
        days, day = np.unique(bars["date"].to_numpy(), return_inverse=True)
        codes = bars["code"].unique().sort().to_list()
        stock = bars["code"].cast(pl.Enum(codes)).to_physical().to_numpy().astype(np.int64)
        columns = {}
        for name in (name for name in (*BARS, "label") if name in bars.columns):
            columns[name] = np.full((len(codes), len(days)), np.nan)
            columns[name][stock, day] = bars[name].to_numpy()
        tradable = None
        if "tradable" in bars.columns:
            tradable = np.zeros((len(codes), len(days)), bool)
            tradable[stock, day] = bars["tradable"].fill_null(False).to_numpy()
        return cls(
            days=days.astype("datetime64[D]"),
            codes=codes,
            industries=_first_of(bars, "industry", codes),
            markets=_first_of(bars, "market", codes),
            columns=columns,
            tradable=tradable,
            delisted=None if checked.delisted is None else [checked.delisted[code] for code in codes],
            cells=day * len(codes) + stock,
        )

    def numbers(self) -> NDArray[np.int32]:
        """``[stocks]`` int32, a number per industry, -1 unknown."""
        place = {name: number for number, name in enumerate(sorted({name for name in self.industries if name}))}
        return np.array([-1 if name is None else place[name] for name in self.industries], np.int32)

    def calendars(self) -> list[Calendar]:
        """One for each market; stocks of unknown market have one of their own."""
        return [Calendar(*each) for each in calendars_of(self.markets, np.isfinite(self.columns["close"]).T)]


@dataclass(frozen=True)
class Calendar:
    """A market: its stocks and its own trading days.

    Attributes:
        stocks: their numbers in the grid.
        days: numbers of the days on which any of them has a row, rising.
    """

    stocks: NDArray[np.int64]
    days: NDArray[np.int64]

    def span(self, grid: Grid, first: int, last: int) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
        """Bars of this market on its days among ``first`` to ``last - 1``, with history in front.

        Returns:
            ``[stocks, HISTORY + days]`` per column, on the market's own days, NaN before its first; and which days.
        """
        begin, end = np.searchsorted(self.days, [first, last])
        front = max(0, features.HISTORY - begin)
        window = np.ix_(self.stocks, self.days[max(0, begin - features.HISTORY) : end])
        columns = {
            name: np.pad(values[window], ((0, 0), (front, 0)), constant_values=np.nan)
            for name, values in grid.columns.items()
            if name in BARS
        }
        return columns, self.days[begin:end]

    def longest(self, lookback: int) -> int:
        """Days of the panel's calendar that ``lookback`` of this market's days can span."""
        return int((self.days[lookback:] - self.days[:-lookback]).max(initial=0)) if lookback else 0


def _first_of(bars: pl.DataFrame, column: str, codes: Sequence[str]) -> list[str | None]:
    """What the first row of each stock says, even where that is unknown: what is stated later was not known before."""
    if column not in bars.columns:
        return [None] * len(codes)
    named = dict(bars.select("code", column).unique("code", keep="first", maintain_order=True).iter_rows())
    return [named.get(code) for code in codes]


class RowHashes:
    """A number for each row of a source that changes with any of its values: 64 bits, so that equal ones mean equal."""

    def __init__(self, grid: Grid) -> None:
        """Takes in the bars and the flag, not the label; own features follow by :meth:`add`."""
        self._grid = grid
        self._hashes = np.ones(len(grid.cells), np.uint64)
        bars = [values for name, values in grid.columns.items() if name in BARS]
        # Not the label: those of the last days become known later, and no feature depends on them.
        for values in (*bars, *([] if grid.tradable is None else [grid.tradable])):
            self.add(values.T.reshape(-1)[grid.cells].astype(np.float64))

    def add(self, values: NDArray[np.floating[Any]]) -> None:
        """Mix one more column in, ``[rows of the source]``."""
        kept = np.where(np.isnan(values), values.dtype.type(np.nan), values)  # any NaN is the same NaN
        bits = kept.view(np.uint64) if kept.itemsize == 8 else kept.view(np.uint32).astype(np.uint64)
        self._hashes ^= bits
        self._hashes *= _ODD
        self._hashes ^= self._hashes >> np.uint64(29)

    def table(self) -> NDArray[np.uint64]:
        """``[days, stocks]``, 0 where there is no row."""
        table = np.zeros((len(self._grid.days), len(self._grid.codes)), np.uint64)
        table.reshape(-1)[self._grid.cells] = np.maximum(self._hashes, 1)
        return table


def sha256_of_rows(grid: Grid, rows: NDArray[np.uint64]) -> str:
    """Hash of all that a source says: its days, its stocks and every value."""
    told = hashlib.sha256()
    for part in (grid.days.astype(str).tolist(), grid.codes, grid.industries, grid.markets, sorted(grid.columns)):
        told.update(repr(part).encode())
    told.update(np.ascontiguousarray(rows).data)
    return told.hexdigest()
