"""Own features of a source, laid out by day in a scratch file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atft.data import sources
from atft.data.grid import Grid, RowHashes


@dataclass(frozen=True)
class Own:
    """Own features in a file, read (not mapped) so that memory holds what is asked for only.

    Attributes:
        names: of the features.
        begin: number of the first day that is laid out.
        days: how many are.
        stocks: of the grid.
        path: of the file, ``[features, days, stocks]`` float32, NaN where missing.
    """

    names: tuple[str, ...]
    begin: int
    days: int
    stocks: int
    path: Path

    @classmethod
    def laid_out(cls, path: Path, checked: sources.Checked, grid: Grid, begin: int, rows: RowHashes) -> Own:
        """Write days ``begin`` on of each own feature to ``path``; ``rows`` takes in all days of them."""
        days, stocks = len(grid.days), len(grid.codes)
        with path.open("wb") as file:
            values = np.full(days * stocks, np.nan, np.float32)
            for _, column in checked.own_columns():
                rows.add(column)
                values[grid.cells] = column  # the same cells each time: what is not there stays missing
                file.write(values[begin * stocks :].data)
        return cls(checked.own_names, begin, days - begin, stocks, path)

    def read(self, place: int, first: int, last: int) -> NDArray[np.float32]:
        """``[last - first, stocks]`` of one feature."""
        start = place * self.days + first - self.begin
        count = (last - first) * self.stocks
        return np.fromfile(self.path, np.float32, count, offset=4 * self.stocks * start).reshape(-1, self.stocks)
