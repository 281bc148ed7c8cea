"""Own features of a source, a few columns at a time: never all of them in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from atft.data.files import guard
from atft.data.repair import refuse_conflict
from atft.errors import UseError

AT_ONCE = 16
"""Columns that are read together: each pass goes through the source."""


def columns(scan: pl.LazyFrame, names: Sequence[str], place: str) -> pl.DataFrame:
    """Columns of the source as Float32, null where missing."""
    wanted = [cs.by_name(name).cast(pl.Float32, strict=False) for name in names]
    return guard(place, lambda: scan.select(wanted).collect())


def check(
    place: str, scan: pl.LazyFrame, names: Sequence[str], bars: pl.DataFrame, rows: int, counts: dict[str, int]
) -> NDArray[np.bool_]:
    """Look at every own feature once.

    Args:
        place: of the source.
        scan: all of it.
        names: of the own features.
        bars: sorted by code and date, with the ``row`` of the source that each row stands on.
        rows: of the source.
        counts: gets the infinite values by column.

    Returns:
        ``[rows of the source]``: True where an own feature is infinite.

    Raises:
        UseError: a feature that is empty or constant, or that differs between rows of one (date, code).
    """
    infinite = np.zeros(rows, bool)
    same = bars.select((pl.col("code") == pl.col("code").shift(1)) & (pl.col("date") == pl.col("date").shift(1)))
    second = np.flatnonzero(same.to_series().fill_null(False).to_numpy())
    row = bars["row"].to_numpy()
    for start in range(0, len(names), AT_ONCE):
        batch = list(names[start : start + AT_ONCE])
        table = columns(scan, batch, place)
        for name in batch:
            values = table[name].to_numpy()
            if len(values) != rows:
                raise UseError(f"{place}: changed while it was read: {rows} rows, then {len(values)}. Mend: try again.")
            _check_varies(place, name, values)
            later, earlier = values[row[second]], values[row[second - 1]]
            differ = ~((later == earlier) | (np.isnan(later) & np.isnan(earlier)))
            if differ.any():
                refuse_conflict(place, bars, second[differ], name)
            wrong = np.isinf(values)
            counts[f"{name} infinite"] = int(wrong.sum())
            infinite |= wrong
    return infinite


def _check_varies(place: str, name: str, values: NDArray[np.float32]) -> None:
    known = values[np.isfinite(values)]
    if known.size == 0:
        raise UseError(
            f"{place}: own feature {name!r} is empty in all {values.size} rows. Mend: leave it out of the roles."
        )
    if known.min() == known.max():
        raise UseError(
            f"{place}: own feature {name!r} is {known[0]:g} in all of its {known.size} values and can tell no stock "
            "from another. Mend: leave it out of roles.features."
        )
