"""Long tables of daily bars, read and checked: the ambiguous is refused, the blemished repaired and counted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft.data import own, repair
from atft.data.canonical import canonical, check_columns, check_filled
from atft.data.files import Source, guard, locate
from atft.data.markets import Sessions, sessions
from atft.data.roles import Roles
from atft.errors import UseError


@dataclass(frozen=True)
class Checked:
    """A source whose rows can be relied on.

    Attributes:
        bars: ``date`` (Date), ``code`` (String), ``open high low close volume`` (Float64, adjusted, null where missing;
            a price that the source lacks has no column), and where the source has them ``industry`` (String, null
            where unknown), ``tradable`` (Boolean), ``market`` (String), ``label`` (Float64, null where missing);
            sorted by code, date.
        own_names: own feature columns, in order.
        counts: rows (or values) repaired or dropped, by reason; and what is worth a look.
        rows_read: rows in the source.
        path: of the source.
        sessions: the markets and their hours; None where the source has no role ``market`` and the roles no hours.
        delisted: last day of each stock's listing as its last row states it, None open; None without that role.
    """

    bars: pl.DataFrame
    own_names: tuple[str, ...]
    counts: dict[str, int]
    rows_read: int
    path: str
    sessions: Sessions | None
    delisted: Mapping[str, dt.date | None] | None
    _scan: pl.LazyFrame = field(repr=False)
    _rows: NDArray[np.int64] = field(repr=False)

    @property
    def dropped(self) -> dict[str, int]:
        """Rows that are not in ``bars``, by reason: ``rows_read`` is ``bars.height`` and these together."""
        return {reason: number for reason, number in self.counts.items() if reason in repair.DROPS}

    def own_columns(self, names: Sequence[str] | None = None) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Own features (all, or these) one by one: name and ``[rows of bars]`` float32, NaN where missing.

        Read from the source when asked for, a few at a time, so that it is not gone through for each of them.

        Raises:
            UseError: the source changed since it was read.
        """
        wanted = self.own_names if names is None else names
        for start in range(0, len(wanted), own.AT_ONCE):
            batch = list(wanted[start : start + own.AT_ONCE])
            table = own.columns(self._scan, batch, self.path)
            if table.height != self.rows_read:
                raise UseError(f"{self.path}: changed since it was read, from {self.rows_read} rows to {table.height}.")
            for name in batch:
                kept = table[name].to_numpy()[self._rows]
                kept[~np.isfinite(kept)] = np.nan
                yield name, kept

    @property
    def frame(self) -> pl.DataFrame:
        """``bars`` with the own features (Float32) behind."""
        made = [pl.Series(name, values, nan_to_null=True) for name, values in self.own_columns()]
        return self.bars.hstack(made)


def read(
    path: str | Path | Source, roles: Roles | None = None, *, strict: bool = False, most_bad: float = 0.01
) -> Checked:
    """Read and check a Parquet or CSV file, or a directory of them.

    Args:
        path: of the file or directory, ``key=value`` directories included; or its files as :func:`locate` finds them.
        roles: which column is which.
        strict: refuse any blemish, and rows out of order.
        most_bad: largest share of blemished rows that is repaired.

    Raises:
        UseError: missing or unreadable file, missing column, wrong type, nothing in a column, no rows, a single stock
            or day, two different rows for one (date, code), a constant own feature, markets whose hours are not known
            or do not allow one calendar, or too many blemished rows.
    """
    source, roles = locate(path), roles or Roles()
    place = source.place
    scan = source.scan(roles.text())
    schema = guard(place, scan.collect_schema)
    check_columns(source, roles, schema)
    own_names = tuple(roles.own(schema.names()))
    bars = canonical(place, scan, roles, schema)
    check_filled(place, roles, bars)
    rows_read, counts = bars.height, dict[str, int]()
    late = pl.col("date") < pl.col("date").shift(1).over("code")
    counts["out of order"] = bars.select(late.sum()).item()
    bars = bars.sort("code", "date", "row")
    delisted = _delisted(bars)
    bars = repair.drop_unlisted(bars, counts)
    bad_own = own.check(place, scan, own_names, bars, rows_read, counts)
    bars = bars.with_columns(pl.Series("bad", bad_own[bars["row"].to_numpy()]))
    compared = [name for name in bars.columns if name not in ("date", "code", "row", "bad")]
    bars = repair.adjust(repair.drop_repeated(place, bars, compared, counts), counts)
    bars, blemished = repair.repair(bars, counts)
    counts = {reason: number for reason, number in counts.items() if number}
    _check_share(place, blemished, rows_read, counts, strict, most_bad)
    bars = repair.mark_suspended(bars, roles)
    _check_size(place, bars)
    known = sessions(place, bars, roles)
    counts |= repair.notes(bars)
    rows = bars["row"].to_numpy().astype(np.int64)
    return Checked(bars.drop("row", "bad"), own_names, counts, rows_read, place, known, delisted, scan, rows)


def _delisted(bars: pl.DataFrame) -> Mapping[str, dt.date | None] | None:
    if "delisted" not in bars.columns:
        return None
    return dict(bars.select("code", "delisted").unique("code", keep="last", maintain_order=True).iter_rows())


def _check_share(place: str, blemished: int, rows: int, counts: dict[str, int], strict: bool, most_bad: float) -> None:
    blemishes = {reason: number for reason, number in counts.items() if reason not in repair.UNLISTED}
    told = ", ".join(f"{reason}: {number}" for reason, number in blemishes.items())
    if strict and blemishes:
        raise UseError(
            f"{place}: blemished, and strict allows nothing ({told}; {rows} rows). Mend: the source, or no strict."
        )
    if blemished > most_bad * rows:
        raise UseError(
            f"{place}: {blemished} of {rows} rows are blemished ({blemished / rows:.2%}; {told}), above most_bad = "
            f"{most_bad:.2%}. Mend: check the roles (adjusted closes beside unadjusted highs?), or raise most_bad."
        )


def _check_size(place: str, bars: pl.DataFrame) -> None:
    for what, least, mend in (
        ("code", 2, "a cross-section needs at least 2 stocks"),
        ("date", 2, "a return needs 2 days"),
    ):
        number = bars[what].n_unique()
        if number < least:
            raise UseError(f"{place}: {bars.height} usable rows hold {number} different {what}: {mend}.")
