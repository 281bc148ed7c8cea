"""From a plan (numbers of days and stocks) to tensors, straight from the memory-mapped panel."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from atft import config
from atft.blocks import EDGE_FEATURES, Blocks
from atft.data.graph import TrailingGraph
from atft.data.labels import forward_returns, known_returns
from atft.data.panel import Panel
from atft.data.reuse import Memory, fresh

CACHE_LINE = 64
"""Bytes; each field begins on one of its own."""
_NOT_HERE = np.iinfo(np.int32).min
"""Industry of a stock that is not in a block, or not scored on a day."""

T = TypeVar("T", bound=np.generic)


class Gatherer:
    """Makes :class:`~atft.blocks.Blocks` of any days and stocks of a panel, under one window and label.

    Holds the returns and masks of the whole panel (a few ``[days, stocks]`` tables) and reads features from the map
    when asked. Safe to use from several threads.

    Attributes:
        scorable: ``[days, stocks]`` bool, True where a stock has a row on the day and at least ``least_present`` rows
            in the window that ends there.
    """

    def __init__(self, panel: Panel, graph: TrailingGraph, window: config.Window, label: config.Label) -> None:
        self._panel, self._graph, self._window = panel, graph, window
        self.scorable = scorable_days(np.asarray(panel.present), window)
        # Each unknown industry gets a number of its own, so that no two unknown ones are the same.
        industries = np.append(panel.industries, np.int32(-1))
        self._industries = np.where(industries >= 0, industries, -1 - np.arange(len(industries), dtype=np.int32))
        # A last stock that is never there stands for the padding: number -1 finds it without a special case.
        self._present = _with_padding(np.asarray(panel.present), False)
        self._scorable = _with_padding(self.scorable, False)
        close = np.asarray(panel.close)
        # The returns of a stock-day lie together: a block reads them from random places, and waits for each place once.
        self._returns = np.full((*self._present.shape, 1 + len(label.quantile_horizons)), np.nan)
        self._returns[:, :-1, 0] = known_returns(panel, label)
        for position, horizon in enumerate(label.quantile_horizons, start=1):
            self._returns[:, :-1, position] = forward_returns(close, horizon, label.execution_lag)
        self._returns[~self._scorable] = np.nan

    def blocks(
        self,
        first_days: npt.NDArray[np.int64],
        stocks: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int64],
        days: int,
        memory: Memory = fresh,
    ) -> Blocks:
        """Some blocks of an effective batch; their tensors are contiguous and independent of the panel's map.

        Stocks that cannot be scored on a day have no neighbours there and are nobody's neighbour; their labels are
        unknown to the statistics (0 and not ``valid``; NaN for the quantile heads).

        Args:
            first_days: ``[blocks]``, first market day of each block; days before the panel's first are missing.
            stocks: ``[blocks, stocks]``, different stock numbers; -1 pads.
            numbers: ``[blocks]``, number of each block in its effective batch.
            days: days of each block.
            memory: where the tensors are put.

        Raises:
            ValueError: a block does not lie inside the panel.
        """
        last = len(self.scorable) - days
        if first_days.min(initial=0) < 0 or first_days.max(initial=0) > last:
            raise ValueError(f"blocks of {days} days must begin on days 0 to {last} of the panel, got {first_days}")
        arrays = self._allocate(len(first_days), days, stocks.shape[1], memory)
        self._features(arrays, first_days, stocks)
        self._labels(arrays, first_days, stocks)
        self._edges(arrays, first_days, stocks)
        numbers = np.array(numbers, dtype=np.int64)
        return Blocks(**{k: torch.from_numpy(v) for k, v in vars(arrays).items()}, numbers=torch.from_numpy(numbers))

    def cross_section(self, first_day: int, days: int) -> tuple[Blocks, npt.NDArray[np.int64]]:
        """All stocks that can be scored on any of some days, as one block with number 0, and their numbers."""
        stocks = np.flatnonzero(self.scorable[first_day : first_day + days].any(axis=0)).astype(np.int64)
        first_days, numbers = np.array([first_day], dtype=np.int64), np.zeros(1, dtype=np.int64)
        return self.blocks(first_days, stocks[None], numbers, days), stocks

    def block_bytes(self, days: int, stocks: int) -> int:
        """Memory of one gathered block in bytes."""
        return 8 + sum(dtype.itemsize * math.prod(shape) for dtype, shape in self._fields(1, days, stocks).values())

    def _fields(self, blocks: int, days: int, stocks: int) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Type and shape of each of :class:`_Arrays`."""
        context, width = self._window.days - 1 + days, self._graph.index.shape[2]
        shape = (blocks, days, stocks)
        fields: dict[str, tuple[npt.DTypeLike, tuple[int, ...]]] = {
            "features": (np.float32, (blocks, context, stocks, len(self._panel.feature_names))),
            "present": (np.bool_, (blocks, context, stocks)),
            "scored": (np.bool_, shape),
            "neighbours": (np.int64, (*shape, width)),
            "edges": (np.float32, (*shape, width, len(EDGE_FEATURES))),
            "returns": (np.float64, shape),
            "valid": (np.bool_, shape),
            "quantile_returns": (np.float64, (*shape, self._returns.shape[2] - 1)),
        }
        return {name: (np.dtype(dtype), shape) for name, (dtype, shape) in fields.items()}

    def _allocate(self, blocks: int, days: int, stocks: int, memory: Memory) -> _Arrays:
        """Arrays that nothing is written to yet, side by side in one piece of memory."""
        fields = self._fields(blocks, days, stocks)
        sizes = [dtype.itemsize * math.prod(shape) for dtype, shape in fields.values()]
        ends = list(itertools.accumulate(-(-size // CACHE_LINE) * CACHE_LINE for size in sizes))
        whole = memory(ends[-1])
        parts = (whole[end - -(-size // CACHE_LINE) * CACHE_LINE :][:size] for end, size in zip(ends, sizes))
        return _Arrays(**{n: p.view(d).reshape(s) for (n, (d, s)), p in zip(fields.items(), parts)})

    def _features(self, arrays: _Arrays, first_days: npt.NDArray[np.int64], stocks: npt.NDArray[np.int64]) -> None:
        """Features of the days that the blocks' windows reach over."""
        back, context = self._window.days - 1, arrays.features.shape[1]
        for features, first_day, chosen in zip(arrays.features, first_days.tolist(), stocks, strict=True):
            missing = max(0, back - first_day)
            features[:missing] = np.nan
            # A padding's -1 finds the last stock; what it gives is struck out below.
            begin = first_day - back
            self._panel.features(begin + missing, begin + context, chosen, out=features[missing:])
        padded = stocks < 0
        for block in np.flatnonzero(padded.any(axis=1)):
            arrays.features[block][:, padded[block]] = np.nan

    def _labels(self, arrays: _Arrays, first_days: npt.NDArray[np.int64], stocks: npt.NDArray[np.int64]) -> None:
        """Masks and returns of the blocks' days, and presence on those that their windows reach over."""
        columns, back = self._present.shape[1], self._window.days - 1
        days = first_days[:, None] - back + np.arange(arrays.present.shape[1])
        cells = days[..., None] * columns + (stocks % columns)[:, None]
        self._present.reshape(-1).take(cells, out=arrays.present, mode="clip")
        arrays.present[days < 0] = False
        cells = cells[:, back:]
        self._scorable.reshape(-1).take(cells, out=arrays.scored, mode="clip")
        returns = self._returns.reshape(-1, self._returns.shape[2]).take(cells, axis=0, mode="clip")
        np.isfinite(returns[..., 0], out=arrays.valid)
        arrays.returns.fill(0.0)
        np.copyto(arrays.returns, returns[..., 0], where=arrays.valid)
        np.copyto(arrays.quantile_returns, returns[..., 1:])

    def _edges(self, arrays: _Arrays, first: npt.NDArray[np.int64], stocks: npt.NDArray[np.int64]) -> None:
        """Neighbours that are in the block and scored on the day, as positions, and what their edges carry.

        Two tables are looked up for each entry of the graph: where the block has the neighbour, then its industry
        there, if it is scored on that day. A last column of each says "not here": number -1, and what is added to it
        to find the row, lead to that column of the row before.
        """
        (blocks, days, sampled), columns = arrays.scored.shape, len(self._industries)
        places = np.full((blocks, columns), -1, np.min_scalar_type(-1 - sampled))
        places[np.arange(blocks)[:, None], stocks] = np.arange(sampled)
        places[:, -1] = -1
        industries = np.full((blocks, days, sampled + 1), _NOT_HERE, np.int32)
        np.copyto(industries[..., :-1], self._industries[stocks][:, None], where=arrays.scored)

        width = arrays.neighbours.shape[3]
        cells = (first[:, None, None] + np.arange(days)[:, None]) * (columns - 1) + np.maximum(stocks, 0)[:, None]
        numbers = self._graph.index.reshape(-1, width).take(cells, axis=0, mode="clip")
        place = places.take(numbers + _rows(blocks, columns).reshape(-1, 1, 1, 1), mode="wrap")
        other = industries.take(place + _rows(blocks * days, sampled + 1).reshape(blocks, days, 1, 1), mode="wrap")
        linked = other != _NOT_HERE
        linked.reshape(-1, width)[np.flatnonzero(~arrays.scored)] = False
        np.bitwise_or(place, linked.view(np.int8) - 1, out=arrays.neighbours)  # -1 where not linked
        same = other == industries[..., :-1, None]
        same &= linked
        correlation = self._graph.correlation.reshape(-1, width).take(cells, axis=0, mode="clip")
        np.multiply(correlation, linked, out=arrays.edges[..., EDGE_FEATURES.index("correlation")])
        arrays.edges[..., EDGE_FEATURES.index("same_industry")] = same.astype(np.float32)


@dataclass(frozen=True)
class _Arrays:
    """The fields of :class:`~atft.blocks.Blocks` but for ``numbers``, while they are filled."""

    features: npt.NDArray[np.float32]
    present: npt.NDArray[np.bool_]
    scored: npt.NDArray[np.bool_]
    neighbours: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float32]
    returns: npt.NDArray[np.float64]
    valid: npt.NDArray[np.bool_]
    quantile_returns: npt.NDArray[np.float64]


def _rows(count: int, length: int) -> npt.NDArray[np.signedinteger[Any]]:
    """Where each of so many rows begins in a flat table."""
    return np.arange(0, count * length, length, dtype=np.min_scalar_type(-count * length))


def _with_padding(table: npt.NDArray[T], value: float | bool) -> npt.NDArray[T]:
    """``[days, stocks + 1]``: the table and a last column of ``value``."""
    return np.pad(table, ((0, 0), (0, 1)), constant_values=value)


def scorable_days(present: npt.NDArray[np.bool_], window: config.Window) -> npt.NDArray[np.bool_]:
    """True where a stock has a row on the day and enough rows in the window that ends there."""
    rows = np.cumsum(present, axis=0, dtype=np.int32)
    rows[window.days :] -= rows[: -window.days]
    return present & (rows >= window.least_present)
