"""The features of a panel, chunk by chunk, in bounded memory: a few months of days, and the history before, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atft.data import features, normalise
from atft.data.grid import Grid
from atft.data.loader import processors
from atft.data.own_file import Own
from atft.data.tensors import CHUNK_DAYS

ROWS_AT_ONCE = 500_000
"""Stock-days whose features are computed together, history included: about 1 GiB of intermediate columns."""
Method = Callable[[normalise.Rows], normalise.Rows]


@dataclass(frozen=True)
class Recipe:
    """What the chunks of a panel are made of; a chunk depends on nothing else, and not on which others are made.

    Attributes:
        grid: the bars.
        names: computed features.
        own: own features, which stand behind the computed ones.
        method: scales a feature over the stocks of a day.
    """

    grid: Grid
    names: Sequence[str]
    own: Own
    method: Method

    def chunks(self, wanted: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Number and features ``[CHUNK_DAYS, stocks, features]`` float32 of each chunk ``wanted``, rising."""
        days, stocks = len(self.grid.days), len(self.grid.codes)
        most = max(1, (ROWS_AT_ONCE // stocks - features.HISTORY) // CHUNK_DAYS)
        with ThreadPoolExecutor(processors()) as pool:
            for run in _runs(wanted, most):
                first = run.start * CHUNK_DAYS
                made = self.raw(first, min(run.stop * CHUNK_DAYS, days))
                for number in run:
                    start = number * CHUNK_DAYS - first
                    yield number, self._scaled(pool, number * CHUNK_DAYS, made[start : start + CHUNK_DAYS])
                del made  # before the next one is made

    def raw(self, first: int, last: int) -> NDArray[np.float32]:
        """``[last - first, features, stocks]`` before they are scaled, each market on its own days.

        A lag, a window and a lookback count days of the stock's own market, and what is taken over all stocks of a
        day is taken over those of the market. On a day on which a market is closed its stocks have no features.
        """
        grid, numbers = self.grid, self.grid.numbers()
        made = np.full((last - first, len(self.names) + len(self.own.names), len(grid.codes)), np.nan, np.float32)
        for calendar in grid.calendars():
            columns, days = calendar.span(grid, first, last)
            for place, (_, values) in enumerate(features.compute(columns, numbers[calendar.stocks], self.names)):
                made[:, place][np.ix_(days - first, calendar.stocks)] = values
        for place in range(len(self.own.names)):
            made[:, len(self.names) + place] = self.own.read(place, first, last)
        return made

    def _scaled(self, pool: ThreadPoolExecutor, first: int, made: NDArray[np.float32]) -> NDArray[np.float32]:
        chunk = np.empty((len(made), made.shape[2], made.shape[1]), np.float32)
        absent = ~np.isfinite(self.grid.columns["close"][:, first : first + len(made)]).T

        def scale(day: int) -> None:
            made[day][:, absent[day]] = np.nan
            chunk[day] = self.method(made[day]).T

        list(pool.map(scale, range(len(made))))
        return chunk


def _runs(wanted: Sequence[int], most: int) -> Iterator[range]:
    """Runs of at most ``most`` consecutive numbers."""
    start = 0
    for place in range(1, len(wanted) + 1):
        if place == len(wanted) or wanted[place] != wanted[place - 1] + 1 or place - start == most:
            yield range(wanted[start], wanted[place - 1] + 1)
            start = place
