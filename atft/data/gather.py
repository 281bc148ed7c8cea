"""From a plan (numbers of days and stocks) to tensors, straight from the memory-mapped panel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from atft import config
from atft.blocks import EDGE_FEATURES, Blocks
from atft.data.graph import TrailingGraph
from atft.data.labels import forward_returns, known_returns
from atft.data.panel import Panel

T = TypeVar("T", bound=np.generic)
_Places = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Days ``[blocks, days, 1]`` and stocks ``[blocks, 1, stocks]`` that index a ``[days, stocks]`` table together."""


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
        # A last stock that is never there stands for the padding: number -1 finds it without a special case.
        self._present = _with_padding(np.asarray(panel.present), False)
        self._scorable = scorable_days(self._present, window)
        self.scorable = self._scorable[:, :-1]
        # Each unknown industry gets a number of its own, so that no two unknown ones are the same.
        industries = np.append(panel.industries, np.int32(-1))
        self._industries = np.where(industries >= 0, industries, -1 - np.arange(len(industries)))
        close = np.asarray(panel.close)
        # The returns of a stock-day lie together: a block reads them from random places, and waits for each place once.
        self._returns = np.full((*self._present.shape, 1 + len(label.quantile_horizons)), np.nan)
        self._returns[:, :-1, 0] = known_returns(panel, label)
        for position, horizon in enumerate(label.quantile_horizons, start=1):
            self._returns[:, :-1, position] = forward_returns(close, horizon, label.execution_lag)

    def blocks(
        self,
        first_days: npt.NDArray[np.int64],
        stocks: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int64],
        days: int,
    ) -> Blocks:
        """Some blocks of an effective batch; their tensors are contiguous and independent of the panel's map.

        Stocks that cannot be scored on a day have no neighbours there and are nobody's neighbour; their labels are
        unknown to the statistics (0 and not ``valid``; NaN for the quantile heads).

        Args:
            first_days: ``[blocks]``, first market day of each block; days before the panel's first are missing.
            stocks: ``[blocks, stocks]``, different stock numbers; -1 pads.
            numbers: ``[blocks]``, number of each block in its effective batch.
            days: days of each block.

        Raises:
            ValueError: a block does not lie inside the panel.
        """
        last = len(self._present) - days
        if first_days.min(initial=0) < 0 or first_days.max(initial=0) > last:
            raise ValueError(f"blocks of {days} days must begin on days 0 to {last} of the panel, got {first_days}")
        arrays = self._allocate(len(first_days), days, stocks.shape[1])
        for block, first_day in enumerate(first_days):
            self._context(arrays, block, int(first_day), stocks[block])
        at = first_days[:, None, None] + np.arange(days)[:, None], stocks[:, None, :]
        self._labels(arrays, at)
        self._edges(arrays, at)
        numbers = np.array(numbers, dtype=np.int64)
        return Blocks(**{k: torch.from_numpy(v) for k, v in vars(arrays).items()}, numbers=torch.from_numpy(numbers))

    def cross_section(self, first_day: int, days: int) -> tuple[Blocks, npt.NDArray[np.int64]]:
        """All stocks that can be scored on any of some days, as one block with number 0, and their numbers."""
        stocks = np.flatnonzero(self.scorable[first_day : first_day + days].any(axis=0)).astype(np.int64)
        first_days, numbers = np.array([first_day], dtype=np.int64), np.zeros(1, dtype=np.int64)
        return self.blocks(first_days, stocks[None], numbers, days), stocks

    def block_bytes(self, days: int, stocks: int) -> int:
        """Memory of one gathered block in bytes."""
        empty: dict[str, npt.NDArray[np.generic]] = vars(self._allocate(0, days, stocks))
        return 8 + sum(array.itemsize * math.prod(array.shape[1:]) for array in empty.values())

    def _allocate(self, blocks: int, days: int, stocks: int) -> _Arrays:
        context, width = self._window.days - 1 + days, self._graph.index.shape[2]
        shape = (blocks, days, stocks)
        return _Arrays(
            features=np.empty((blocks, context, stocks, len(self._panel.feature_names)), np.float32),
            present=np.zeros((blocks, context, stocks), bool),
            scored=np.empty(shape, bool),
            neighbours=np.empty((*shape, width), np.int64),
            edges=np.empty((*shape, width, len(EDGE_FEATURES)), np.float32),
            returns=np.empty(shape),
            valid=np.empty(shape, bool),
            quantile_returns=np.empty((*shape, self._returns.shape[2] - 1)),
        )

    def _context(self, arrays: _Arrays, block: int, first_day: int, stocks: npt.NDArray[np.int64]) -> None:
        """Features and presence of the days that the block's windows reach over."""
        context = arrays.present.shape[1]
        begin = first_day - (self._window.days - 1)
        missing, padded = max(0, -begin), stocks < 0
        days = slice(begin + missing, begin + context)
        features = arrays.features[block]
        features[:missing] = np.nan
        self._panel.features(days.start, days.stop, np.where(padded, 0, stocks), out=features[missing:])
        if padded.any():
            features[:, padded] = np.nan
        arrays.present[block, missing:] = self._present[days, stocks]

    def _labels(self, arrays: _Arrays, at: _Places) -> None:
        """Masks and returns of the days and stocks ``at``."""
        columns = self._present.shape[1]
        cells = at[0] * columns + at[1] % columns
        self._scorable.reshape(-1).take(cells, out=arrays.scored, mode="clip")
        returns = self._returns.reshape(-1, self._returns.shape[2]).take(cells, axis=0, mode="clip")
        np.logical_and(arrays.scored, np.isfinite(returns[..., 0]), out=arrays.valid)
        arrays.returns[:] = np.where(arrays.valid, returns[..., 0], 0.0)
        arrays.quantile_returns[:] = np.where(arrays.scored[..., None], returns[..., 1:], np.nan)

    def _edges(self, arrays: _Arrays, at: _Places) -> None:
        """Neighbours that are in the block and scored on the day, as positions, and what their edges carry."""
        (blocks, days, sampled), columns = arrays.scored.shape, self._present.shape[1]
        width = arrays.neighbours.shape[3]
        positions = np.full((blocks, columns), -1)
        np.put_along_axis(positions, at[1][:, 0], np.arange(sampled)[None], axis=1)
        positions[:, -1] = -1
        cells = at[0] * (columns - 1) + np.maximum(at[1], 0)
        numbers = self._graph.index.reshape(-1, width).take(cells, axis=0, mode="clip").astype(np.int64)
        same = self._industries.take(numbers, mode="wrap") == self._industries[at[1]][..., None]
        numbers += np.arange(0, positions.size, columns)[:, None, None, None]
        place = positions.take(numbers, mode="wrap")
        rows = sampled * np.arange(blocks * days).reshape(blocks, days, 1, 1)
        linked = (place >= 0) & arrays.scored[..., None]
        linked &= arrays.scored.take(place + rows, mode="wrap")
        np.copyto(arrays.neighbours, place)
        arrays.neighbours[~linked] = -1
        correlation = self._graph.correlation.reshape(-1, width).take(cells, axis=0, mode="clip")
        np.multiply(correlation, linked, out=arrays.edges[..., EDGE_FEATURES.index("correlation")])
        np.logical_and(linked, same, out=arrays.edges[..., EDGE_FEATURES.index("same_industry")], casting="unsafe")


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


def _with_padding(table: npt.NDArray[T], value: float | bool) -> npt.NDArray[T]:
    """``[days, stocks + 1]``: the table and a last column of ``value``."""
    return np.pad(table, ((0, 0), (0, 1)), constant_values=value)


def scorable_days(present: npt.NDArray[np.bool_], window: config.Window) -> npt.NDArray[np.bool_]:
    """True where a stock has a row on the day and enough rows in the window that ends there."""
    rows = np.cumsum(present, axis=0, dtype=np.int32)
    rows[window.days :] -= rows[: -window.days]
    return present & (rows >= window.least_present)
