"""Neighbours of every stock on every day, from trailing returns and industry.

A day's graph is taken on the full cross-section and sees closes up to that day only. It is computed once per panel
and setting, kept beside the panel as memory-mapped Arrow tensors, and is the same for any number of threads.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from atft import config
from atft.data.panel import Panel

SCHEMA = 1
"""Version of what a cached graph means; a change of the computation raises it."""

LEAST_HISTORY = (2, 3)
"""A stock takes part with at least two thirds of the trailing returns."""

SMALLEST_NORM = 1e-10
"""A stock whose demeaned trailing returns are shorter than this has not moved: it has no correlation."""

GRID = 2.0**24
"""Scores are ranked to 1 / GRID, the precision of the stored correlation: coarser than the rounding of a matrix
product, so that its order of summation (threads, library) does not decide between neighbours."""

MOST_THREADS = 8
"""Each thread holds two ``[stocks, stocks]`` float64 matrices."""

Progress = Callable[[str, float], None]
"""Told what is being done and which part of it is."""


@dataclass(frozen=True)
class TrailingGraph:
    """The nearest neighbours of every stock on every day, nearest first.

    Attributes:
        index: ``[days, stocks, k]`` int32, stock number of each neighbour; never the stock itself, -1 where none.
        correlation: ``[days, stocks, k]`` float32, shrunk correlation with that neighbour, without the industry
            bonus; 0 where none.
    """

    index: npt.NDArray[np.int32]
    correlation: npt.NDArray[np.float32]


def trailing_graph(
    panel: Panel, settings: config.Graph, *, days: range | None = None, progress: Progress | None = None
) -> TrailingGraph:
    """The graph of each day from the daily close-to-close returns of the ``lookback_days`` up to it.

    A stock takes part on day ``t`` if it has a row on ``t``, at least two thirds of the returns of
    ``(t - lookback_days, t]`` and a price that moved. Returns are demeaned by the stock's own mean; a missing one is
    set to that mean (0 after demeaning). Pearson correlations are shrunk towards their mean over all pairs with weight
    ``shrinkage`` and ranked after adding ``industry_bonus`` for a shared known industry; equals are ranked by stock
    number. A day on which fewer than two stocks take part has an empty graph.

    Args:
        panel: the data; the whole graph is cached in ``panel.path / "graphs"`` where that can be written.
        settings: k, lookback, shrinkage and bonus.
        days: only these days are computed, in memory, and the others stay empty; None: all days, cached.
        progress: called after each day.

    Source: constant-correlation target as in Ledoit and Wolf (2004), "Honey, I shrunk the sample covariance matrix".
    """
    if days is not None:
        return _compute(panel, settings, days, progress)
    folder = panel.path / "graphs" / _key(panel, settings)
    shape = (len(panel.days), len(panel.codes), settings.neighbours)
    cached = _read(folder, shape)
    if cached is None:
        computed = _compute(panel, settings, range(len(panel.days)), progress)
        # What was written is read back, so that the memory it was computed in is given up for the map.
        cached = (_read(folder, shape) if _write(folder, computed) else None) or computed
    return cached


def cached_graph(panel: Panel, settings: config.Graph) -> TrailingGraph | None:
    """The graph that is kept beside the panel, which training would read; None where there is none."""
    shape = (len(panel.days), len(panel.codes), settings.neighbours)
    return _read(panel.path / "graphs" / _key(panel, settings), shape)


def daily_returns(close: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Simple close-to-close returns ``[days, stocks]``; NaN on the first day and where either close is missing."""
    returns = np.full(close.shape, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.divide(close[1:], close[:-1], out=returns[1:])
    returns -= 1.0
    returns[~np.isfinite(returns)] = np.nan
    return returns


def _compute(panel: Panel, settings: config.Graph, days: range, progress: Progress | None) -> TrailingGraph:
    close = np.asarray(panel.close)
    shape = (*close.shape, settings.neighbours)
    graph = TrailingGraph(np.full(shape, -1, np.int32), np.zeros(shape, np.float32))
    start = max(0, min(days, default=0) - settings.lookback_days)
    returns = daily_returns(close[start:])
    ranking = _Ranking(settings, np.asarray(panel.industries))

    def compute(day: int) -> None:
        trailing = returns[max(0, day - start + 1 - settings.lookback_days) : day - start + 1]
        standardised, takes_part = _standardise(trailing, np.asarray(panel.present[day]), settings.lookback_days)
        if takes_part.sum() >= 2:
            graph.index[day], graph.correlation[day] = ranking.nearest(standardised, takes_part)

    for done, _ in enumerate(_each(compute, days), start=1):
        if progress is not None:
            progress("neighbours of each day", done / len(days))
    return graph


def _each(work: Callable[[int], None], days: range) -> Iterator[None]:
    """Does ``work`` for each day on as many threads as torch has, each of which computes on its own.

    Threads over days rather than inside an operation: a day's operations take milliseconds, where the threads of an
    operation wait for one another longer than they compute as soon as the processors are shared.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(min(threads, MOST_THREADS), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, days)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what a thread sets is also what later threads start with


def _standardise(
    trailing: npt.NDArray[np.float64], present: npt.NDArray[np.bool_], lookback: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Columns of zero mean and unit length, and which stocks take part; the columns of the others are 0."""
    known = np.isfinite(trailing)
    count = known.sum(axis=0)
    values = np.where(known, trailing, 0.0)
    values -= values.sum(axis=0) / np.maximum(count, 1)
    values[~known] = 0.0
    norm = np.sqrt(np.einsum("ls,ls->s", values, values))
    least, whole = LEAST_HISTORY
    takes_part = present & (count * whole >= lookback * least) & (norm > SMALLEST_NORM)
    values *= np.where(takes_part, 1.0 / np.maximum(norm, SMALLEST_NORM), 0.0)
    return values, takes_part


class _Ranking:
    """Ranks all pairs of a day with one matrix product and one partial sort.

    The score of a pair on the grid and the stock number of the neighbour are packed into one float64 (at most 28 bits
    and the bits of the stock count, of 53), so that no two candidates are equal and any partial sort gives one answer.
    """

    def __init__(self, settings: config.Graph, industries: npt.NDArray[np.int32]) -> None:
        stocks = len(industries)
        self._shrinkage = settings.shrinkage
        self._kept = min(settings.neighbours, stocks)
        self._missing = settings.neighbours - self._kept
        # Beyond the whole range of a correlation a larger bonus ranks no differently; the cap keeps the bits in place.
        self._bonus = min(settings.industry_bonus, 3.0)
        self._industries = torch.from_numpy(industries.astype(np.int64))
        same = (self._industries[:, None] == self._industries) & (self._industries >= 0)
        self._bonuses = same.double() * (self._bonus * GRID)
        self._stocks = torch.arange(stocks, dtype=torch.float64)
        self._pack = 2.0 ** max(1, (stocks - 1).bit_length())
        self._scratch = threading.local()

    def nearest(
        self, standardised: npt.NDArray[np.float64], takes_part: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """``[stocks, k]`` numbers and shrunk correlations of the nearest neighbours of one day."""
        columns, member = torch.from_numpy(standardised), torch.from_numpy(takes_part)
        scaled = columns * (GRID * (1.0 - self._shrinkage))
        keys = torch.addmm(self._bonuses, scaled.T, columns, out=self._keys()).round_()
        keys.mul_(self._pack).sub_(torch.where(member, self._stocks, torch.inf)).fill_diagonal_(-torch.inf)
        best = torch.topk(keys, self._kept, dim=1)
        found = torch.isfinite(best.values) & member[:, None]
        index = torch.where(found, best.indices, -1)
        score = (best.values + best.indices) / (self._pack * GRID)
        same = (self._industries[:, None] == self._industries[best.indices]) & (self._industries[:, None] >= 0)
        shrunk = score - self._bonus * same + self._shrinkage * _mean_correlation(standardised, takes_part)
        shrunk = torch.where(found, shrunk.clamp(-1.0, 1.0), 0.0)
        padding = (0, self._missing)
        return (
            torch.nn.functional.pad(index, padding, value=-1).to(torch.int32).numpy(),
            torch.nn.functional.pad(shrunk, padding).float().numpy(),
        )

    def _keys(self) -> torch.Tensor:
        """This thread's matrix to work in: a fresh one a day would cost as much as the product."""
        if not hasattr(self._scratch, "keys"):
            self._scratch.keys = torch.empty_like(self._bonuses)
        keys: torch.Tensor = self._scratch.keys
        return keys


def _mean_correlation(standardised: npt.NDArray[np.float64], takes_part: npt.NDArray[np.bool_]) -> float:
    """Mean over all pairs of different stocks: the sum of all entries of ``Z'Z`` is ``|Z 1|²``."""
    members = int(takes_part.sum())
    total = standardised.sum(axis=1)
    return float((total @ total - members) / (members * (members - 1)))


def _key(panel: Panel, settings: config.Graph) -> str:
    stated = {"schema": SCHEMA, "panel": panel.sha256, "settings": settings.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:24]


def _write(folder: Path, graph: TrailingGraph) -> bool:
    """Puts a graph on disk, whole or not at all; False where it cannot be written (read-only or full disk)."""
    temporary: Path | None = None
    try:
        folder.parent.mkdir(exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
        temporary.chmod(0o755)
        checksums = {name: _write_tensor(temporary / f"{name}.arrow", getattr(graph, name)) for name in _NAMES}
        (temporary / "checksums.json").write_text(json.dumps(checksums))
        # Only a folder that could not be read is still here, or one that another process has just finished.
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        return folder.is_dir()
    return True


def _read(folder: Path, shape: tuple[int, int, int]) -> TrailingGraph | None:
    """The graph in ``folder``, memory-mapped; None where there is none or it is damaged."""
    try:
        checksums = json.loads((folder / "checksums.json").read_text())
        index, correlation = (_read_tensor(folder / f"{name}.arrow", checksums[name]) for name in _NAMES)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None
    sound = index.shape == correlation.shape == shape and index.dtype == np.int32 and correlation.dtype == np.float32
    return TrailingGraph(index, correlation) if sound else None


_NAMES = ("index", "correlation")


def _write_tensor(path: Path, array: npt.NDArray[np.generic]) -> int:
    with pa.OSFile(str(path), "wb") as sink:
        pa.ipc.write_tensor(pa.Tensor.from_numpy(array), sink)
    return zlib.crc32(pa.memory_map(str(path), "r").read_buffer())


def _read_tensor(path: Path, checksum: int) -> npt.NDArray[Any]:
    mapped = pa.memory_map(str(path), "r")
    if zlib.crc32(mapped.read_buffer()) != checksum:
        raise ValueError(f"{path} is damaged")
    mapped.seek(0)
    array: npt.NDArray[Any] = pa.ipc.read_tensor(mapped).to_numpy()
    return array
