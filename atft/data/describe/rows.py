"""Rows of a source or a panel, some stocks at a time, so that memory does not grow with the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
import polars.selectors as cs

from atft.data.canonical import canonical, check_columns
from atft.data.files import Source, guard
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.errors import UseError

ROWS_AT_ONCE = 1_000_000


class Rows(Protocol):
    """What can be described."""

    place: str
    kind: str

    def groups(self) -> Iterator[pl.DataFrame]:
        """All rows of some stocks, then of others: ``date``, ``code``, ``close`` and what else there is of the
        canonical columns, in any order and as they were given."""
        ...

    def nameless(self) -> int:
        """Rows without a date or a code, which are in no group."""
        ...


@dataclass
class SourceRows:
    """Rows of a table."""

    source: Source
    roles: Roles
    kind: str = "source"

    def __post_init__(self) -> None:
        self.place = self.source.place
        self._scan = self.source.scan(self.roles.text())
        schema = guard(self.place, self._scan.collect_schema)
        check_columns(self.source, self.roles, schema)
        self._schema = schema
        code, date = (cs.by_name(self.roles.columns()[role]).as_expr() for role in ("code", "date"))
        said = code.cast(pl.String).str.strip_chars() != ""
        if schema[self.roles.date] == pl.String:
            said &= date.cast(pl.String).str.strip_chars() != ""
        self._named = said.fill_null(False) & date.is_not_null()
        self._code = code.cast(pl.String)
        counted = self._scan.select(pl.len().alias("rows"), self._named.sum().alias("named"))
        self._rows, self._kept = guard(self.place, lambda: counted.collect(engine="streaming")).row(0)
        if not self._kept:
            raise UseError(f"{self.place}: holds no row with a date and a code. Mend: a table of daily bars.")

    def nameless(self) -> int:
        """Rows without a date or a code."""
        return int(self._rows - self._kept)

    def groups(self) -> Iterator[pl.DataFrame]:
        """See :class:`Rows`."""
        number = -(-int(self._kept) // ROWS_AT_ONCE)
        place = self._code.hash(0) % number
        for group in range(number):
            some = self._scan.filter(self._named & (place == group)) if number > 1 else self._scan.filter(self._named)
            if number > 1 and not guard(self.place, some.select(pl.len()).collect).item():
                continue
            yield canonical(self.place, some, self.roles, self._schema).drop("row", "label", "industry", strict=False)


@dataclass
class PanelRows:
    """Rows of a panel."""

    panel: Panel
    kind: str = "panel"

    def __post_init__(self) -> None:
        self.place = str(self.panel.path)

    def nameless(self) -> int:
        """None: a panel has a place for every row."""
        return 0

    def groups(self) -> Iterator[pl.DataFrame]:
        """See :class:`Rows`."""
        panel, days = self.panel, self.panel.days
        width = max(1, ROWS_AT_ONCE // len(days))
        tables = {"close": panel.close, "open": panel.open_price, "volume": panel.volume, "tradable": panel.tradable}
        for first in range(0, len(panel.codes), width):
            stocks = slice(first, first + width)
            day, stock = np.nonzero(panel.present[:, stocks])
            cells = (day, stock + first)
            columns = {"date": days[day], "code": np.array(panel.codes, object)[cells[1]]}
            columns |= {name: table[cells] for name, table in tables.items() if table is not None}
            if any(panel.markets):
                columns["market"] = np.array(panel.markets, object)[cells[1]]
            yield pl.DataFrame(columns).with_columns(cs.float().fill_nan(None), pl.col("code").cast(pl.String))
