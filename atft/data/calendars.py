"""Features on each market's own calendar: a holiday of one market is no gap in another's windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atft.data import features


@dataclass(frozen=True)
class Own:
    """The stocks of one market on the days on which it trades.

    Attributes:
        stocks: ``[n]`` places among the panel's stocks.
        days: ``[m]`` places among the panel's days, rising.
        columns: ``[n, m]`` float64 per bar column, NaN where missing.
        industries: ``[n]`` int32, -1 unknown.
    """

    stocks: NDArray[np.int64]
    days: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.float64]]
    industries: NDArray[np.int32]

    def span(self, first: int, last: int) -> dict[str, NDArray[np.float64]]:
        """Own days ``first`` to ``last - 1`` with ``features.HISTORY`` days in front, NaN before the calendar."""
        start = first - features.HISTORY
        front = max(0, -start)
        return {
            name: np.pad(values[:, max(0, start) : last], ((0, 0), (front, 0)), constant_values=np.nan)
            for name, values in self.columns.items()
        }


def by_market(
    columns: Mapping[str, NDArray[np.float64]], markets: Sequence[str | None], industries: NDArray[np.int32]
) -> list[Own]:
    """The grid's stocks market by market; stocks of no known market are one of their own.

    Args:
        columns: ``[stocks, days]`` per bar column of the whole calendar, ``close`` among them.
        markets: ``[stocks]`` names, None unknown.
        industries: ``[stocks]`` int32, -1 unknown.
    """
    names = sorted(set(markets), key=lambda name: (name is not None, name or ""))
    if len(names) < 2:
        stocks, days = columns["close"].shape
        return [Own(np.arange(stocks), np.arange(days), columns, industries)]
    number = np.array([names.index(name) for name in markets])
    found = []
    for place in range(len(names)):
        stocks = np.flatnonzero(number == place)
        days = np.flatnonzero(np.isfinite(columns["close"][stocks]).any(axis=0))
        cut = {name: values[np.ix_(stocks, days)] for name, values in columns.items()}
        found.append(Own(stocks, days, cut, industries[stocks]))
    return found


def compute(owns: Sequence[Own], stocks: int, first: int, last: int, names: Sequence[str]) -> Iterator[
    NDArray[np.float32]
]:  # fmt: skip
    """Features of the panel's days ``first`` to ``last - 1``, each market on its own calendar and among its own stocks.

    Args:
        owns: from :func:`by_market`.
        stocks: of the panel.
        first: number of the first day.
        last: number of the day after the last one.
        names: the features wanted.

    Yields:
        ``[last - first, stocks]`` float32 in the order of ``names``; NaN where missing, and where a market is closed.
    """
    spans = [tuple(np.searchsorted(own.days, (first, last)).tolist()) for own in owns]
    open_ = [(own, begin, end) for own, (begin, end) in zip(owns, spans) if end > begin]
    made = [features.compute(own.span(begin, end), own.industries, names) for own, begin, end in open_]
    for each in zip(*made):
        values = np.full((last - first, stocks), np.nan, np.float32)
        for (own, begin, end), (_, found) in zip(open_, each):
            values[np.ix_(own.days[begin:end] - first, own.stocks)] = found
        yield values
