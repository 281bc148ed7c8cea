"""A panel of a whole market: how long it takes to build, how fast batches come from it, what memory they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from atft import config
from atft.data.gather import Gatherer
from atft.data.graph import TrailingGraph
from atft.data.loader import Loader
from atft.data.panel import Panel, write_panel
from atft.data.sampler import grow_sample
from atft.data.tensors import CHUNK_DAYS
from benchmarks import panel_work
from benchmarks.common import ROOT, Bound, Plan, Result, Row, Timing, interleaved, say
from benchmarks.panel_work import opened_graph, planner, write_graph
from benchmarks.table import Size, write_table

MOST_SECONDS, MOST_GIB = 15 * 60.0, 4.0
"""Bounds of the design: a build of a whole market on two cores."""
MATERIALISED, AS_BLOCKS = 2e6, 6e6
"""Bounds of DESIGN §10: windows a second on two cores at 20 days and 64 features."""
GROWTH = 1.1
"""Peak memory of a training loop on a panel against one of half its days."""

WINDOW = config.Window(days=20, least_present=14)
LABEL = config.Label(horizon=1, execution_lag=0, cost_bps=0.0, quantile_horizons=(1,))
NEIGHBOURS = 10
GIB = 2.0**30

ABOUT = """\
**Build.** A generated table of a whole market (Parquet, one file, by day) becomes a panel of 109 computed and its own
features, in a process of its own: seconds by stage, and the most resident memory (`VmHWM`). The append takes the same
table again, so that nothing is new: it reads and compares all rows, keeps the chunks of whole days, computes the last.

**Batches.** From a panel of 64 features and the same days and stocks, in the page cache, on all cores in use. A
*window* is one stock-day's `[20, 64]` window that a block covers; a block is 8 days × 64 stocks, so that its 27 days
hold 512 windows. *Blocks* are all that a step takes: features, masks, labels, graph, from the loader with a thread for
each core; *features of blocks* are the features alone. *Materialised* copies each window of the gathered features out
to `[windows, 20, 64]`. *DataLoader* is what one would write in plain PyTorch: a `Dataset` that slices the window and
the label of one stock-day out of an array in memory, batches of 1,024, a worker process for each core. Days and stocks
are random in all of them, and drawn beforehand. *Samples grown* is what that leaves out: to grow the stock samples of
as many blocks on the graph, on one core. *Copy of as many bytes* is a lower limit: the bytes of as many blocks, copied
from memory by as many threads, in the order in which they lie there.

**Memory.** A training loop (exact step, hidden 16, 4 blocks of 4 days × 64 stocks, all features) on the panel that was
built, and on its first half of days. *Anonymous* is what is not mapped from files; of the map a bounded part stays
resident (`atft.data.resident`). Tables of `[days, stocks]`, such as closes and masks, are in memory and grow."""


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        table: that is built from.
        features: of the panel that batches come from.
        blocks: of a batch.
        steps: batches in a timed call.
        stocks: of a block.
        loader_windows: that the plain DataLoader gives in a timed call.
        training_steps: of the loop whose memory is taken.
    """

    table: Size
    features: int
    blocks: int
    steps: int
    stocks: int
    loader_windows: int
    training_steps: int

    @classmethod
    def of(cls, plan: Plan) -> Scale:
        """Of a plan."""
        if plan.quick:
            return cls(Size(40, 150, 3), 8, 2, 2, 8, 256, 1)
        return cls(Size(4220, 1220, 286), 64, 16, 40, 64, 100_000, 24)


BLOCK_DAYS = 8


def run(plan: Plan) -> Result:
    """All three; needs about 30 GB for temporary files (``TMPDIR``) at full size."""
    scale = Scale.of(plan)
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        work = _here if plan.quick else _child
        builds, panel, rows = _builds(room, scale, work)
        say("panel: batches")
        times = _batches(room, scale, plan)
        say("panel: memory of a training loop")
        memory = _training(room, scale, work, panel)
    tables = {
        "Build": [_build_row(name, found, rows) for name, found in builds.items()],
        "Stages of the build": _stages(builds["build"]),
        "Stages of the append": _stages(builds["append, nothing new"]),
        "Batches": [{"way": name, **_rate(times[name], count)} for name, count in _counts(scale).items()],
        "Training loop": memory,
    }
    return Result("A panel of a whole market", ABOUT, tables, bounds_of(builds["build"], times, scale, memory))


def bounds_of(build: dict[str, Any], times: dict[str, Timing], scale: Scale, memory: list[Row]) -> list[Bound]:
    """What is asserted of what was measured."""
    counts = _counts(scale)
    rate = {name: count / times[name].minimum for name, count in counts.items()}
    peaks = [float(row["peak GiB"]) for row in memory]
    return [
        Bound("build: seconds", build["seconds"], MOST_SECONDS),
        Bound("build: peak GiB", build["peak"] / GIB, MOST_GIB),
        Bound("materialised windows / s", rate["materialised"], MATERIALISED, least=True),
        Bound("windows / s as blocks", rate["blocks"], AS_BLOCKS, least=True),
        Bound("training loop: peak memory, all days / half of them", peaks[0] / peaks[1], GROWTH),
    ]


def _builds(room: Path, scale: Scale, work: Work) -> tuple[dict[str, dict[str, Any]], Path, int]:
    source, out = room / "table.parquet", room / "panel"
    say(f"panel: writing a table of {scale.table}")
    rows = write_table(source, scale.table)
    say("panel: build")
    build = work("build", source, out, scale.table.roles.model_dump_json())
    say("panel: append")
    return {"build": build, "append, nothing new": work("append", out, source)}, out, rows


Work = Callable[..., dict[str, Any]]
"""Does one thing that ``panel_work`` can, given its name and arguments."""


def _here(name: str, *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = getattr(panel_work, name)(*map(str, arguments))
    return found


def _child(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.panel_work", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
    found: dict[str, Any] = json.loads(told)
    return found


def _build_row(name: str, found: dict[str, Any], rows: int) -> Row:
    return {"what": name, "rows": rows, "seconds": found["seconds"], "CPU s": found["processor"],
            "rows / s": rows / found["seconds"], "peak GiB": found["peak"] / GIB}  # fmt: skip


def _stages(found: dict[str, Any]) -> list[Row]:
    stages = {**found["stages"]}
    stages["rest"] = found["seconds"] - sum(stages.values())
    return [{"stage": name, "seconds": each, "share": each / found["seconds"]} for name, each in stages.items()]


def _counts(scale: Scale) -> dict[str, int]:
    """Windows in a timed call of each way."""
    covered = scale.steps * scale.blocks * BLOCK_DAYS * scale.stocks
    return {"blocks": covered, "features of blocks": covered, "materialised": covered,
            "samples grown": covered, "copy of as many bytes": covered, "DataLoader": scale.loader_windows}  # fmt: skip


def _rate(timing: Timing, count: int) -> Row:
    return {"windows": count, "min s": timing.minimum, "median s": timing.median, "spread": timing.spread,
            "M windows / s": count / timing.minimum / 1e6, "median M / s": count / timing.median / 1e6}  # fmt: skip


def _batches(room: Path, scale: Scale, plan: Plan) -> dict[str, Timing]:
    size = scale.table
    random = np.random.default_rng(0)
    close = np.exp(random.normal(3.0, 1.0, (size.days, size.stocks)))
    close[random.random(close.shape) < 0.1] = np.nan
    lengths = [min(CHUNK_DAYS, size.days - first) for first in range(0, size.days, CHUNK_DAYS)]
    write_panel(
        room / "narrow",
        days=np.datetime64("2020-01-01") + np.arange(size.days),
        codes=[f"S{number:04d}" for number in range(size.stocks)],
        industries=np.arange(size.stocks) % 33,
        feature_names=[f"own_{number:02d}" for number in range(scale.features)],
        close=close,
        features=(random.standard_normal((days, size.stocks, scale.features), np.float32) for days in lengths),
    )
    panel = Panel.open(room / "narrow")
    graph = opened_graph(write_graph(room / "graph", size.days, size.stocks, NEIGHBOURS))
    batches = Batches(panel, graph, scale, len(plan.cores))
    ways: dict[str, Callable[[], object]] = {
        "blocks": batches.blocks,
        "features of blocks": batches.features,
        "materialised": batches.materialised,
        "samples grown": batches.samples,
        "copy of as many bytes": batches.copies(),
        "DataLoader": batches.plain(0 if plan.quick else len(plan.cores)),
    }
    return interleaved(ways, plan.rounds)


class Batches:
    """The ways in which batches come from one panel.

    Args:
        panel: of them all.
        graph: of that panel.
        scale: how many.
        threads: that prepare them.
    """

    def __init__(self, panel: Panel, graph: TrailingGraph, scale: Scale, threads: int) -> None:
        self._panel, self._graph, self._scale, self._threads = panel, graph, scale, threads
        self._gatherer = Gatherer(panel, graph, WINDOW, LABEL)
        plan = planner(panel, WINDOW, scale.blocks, BLOCK_DAYS, scale.stocks)
        self._plan = [plan(step) for step in range(scale.steps)].__getitem__
        self._pool = ThreadPoolExecutor(threads)
        self._own = threading.local()

    def blocks(self) -> None:
        """All that a step takes, as the training loop gets it."""
        steps = range(self._scale.steps)
        with Loader(self._plan, self._gatherer, steps, days=BLOCK_DAYS, workers=self._threads) as loader:
            for prepared in loader:
                prepared.blocks(0, self._scale.blocks)

    def features(self) -> None:
        """The features of the same blocks, and nothing else."""
        list(self._pool.map(self._features_of, range(self._scale.steps)))

    def materialised(self) -> None:
        """The windows of the same blocks, each copied out."""
        list(self._pool.map(self._windows_of, range(self._scale.steps)))

    def samples(self) -> None:
        """The stocks of as many blocks, grown on the graph of each block's first day."""
        random = np.random.default_rng(0)
        for step in range(self._scale.steps):
            for day in self._plan(step).first_days:
                grow_sample(self._graph.index[day], self._gatherer.scorable[day], self._scale.stocks, random)

    def copies(self) -> Callable[[], None]:
        """Copies the bytes of as many blocks, of each step to where those of the step before were."""
        step_bytes = self._scale.blocks * self._gatherer.block_bytes(BLOCK_DAYS, self._scale.stocks)
        source = np.ones((self._scale.steps, step_bytes), np.uint8)

        def copy(step: int) -> None:
            if not hasattr(self._own, "copied"):
                self._own.copied = np.empty(step_bytes, np.uint8)
            np.copyto(self._own.copied, source[step])

        return lambda: list(self._pool.map(copy, range(self._scale.steps))) and None

    def _features_of(self, step: int) -> None:
        for _ in self._contexts(step):
            pass

    def _contexts(self, step: int) -> Iterator[NDArray[np.float32]]:
        plan = self._plan(step)
        context = self._room("context", (WINDOW.days - 1 + BLOCK_DAYS, self._scale.stocks, self._scale.features))
        for first, stocks in zip(plan.first_days, plan.stocks, strict=True):
            yield self._panel.features(int(first) - WINDOW.days + 1, int(first) + BLOCK_DAYS, stocks, out=context)

    def _windows_of(self, step: int) -> None:
        windows = self._room("windows", (BLOCK_DAYS, self._scale.stocks, WINDOW.days, self._scale.features))
        for context in self._contexts(step):
            np.copyto(windows, sliding_window_view(context, WINDOW.days, axis=0).transpose(0, 1, 3, 2))

    def _room(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """This thread's array of the given name, to write into again and again."""
        if not hasattr(self._own, name):
            setattr(self._own, name, np.empty(shape, np.float32))
        found: NDArray[np.float32] = getattr(self._own, name)
        return found

    def plain(self, workers: int) -> Callable[[], None]:
        """What one would write in plain PyTorch."""
        stocks = min(512, len(self._panel.codes))
        array = np.ascontiguousarray(self._panel.features(0, len(self._panel.days), np.arange(stocks)).swapaxes(0, 1))
        loader = DataLoader(
            Windows(array), 1024, shuffle=True, num_workers=workers, persistent_workers=workers > 0, drop_last=True
        )
        batches = -(-self._scale.loader_windows // 1024)
        return lambda: [None for _ in islice(loader, batches)] and None


class Windows(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The windows of an array ``[stocks, days, features]``, one at a time, with a label."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        self._array, self._days = torch.from_numpy(array), array.shape[1] - WINDOW.days
        self._labels = torch.zeros(array.shape[:2])

    def __len__(self) -> int:
        return len(self._array) * self._days

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        stock, day = divmod(number, self._days)
        return self._array[stock, day : day + WINDOW.days], self._labels[stock, day + WINDOW.days - 1]


def _training(room: Path, scale: Scale, work: Work, path: Path) -> list[Row]:
    panel = Panel.open(path)
    half = len(panel.days) // 2 // CHUNK_DAYS * CHUNK_DAYS or CHUNK_DAYS
    write_panel(
        room / "half",
        days=panel.days[:half],
        codes=panel.codes,
        industries=panel.industries,
        feature_names=panel.feature_names,
        close=panel.close[:half],
        features=iter(panel.chunks[: half // CHUNK_DAYS]),
    )
    rows = []
    for name, each in (("all days", path), ("half of them", room / "half")):
        found = work("train", each, room / "graph", scale.training_steps, int(work is _here))
        size = sum(file.bytes for file in Panel.open(each).manifest.files.values())
        rows.append({"panel": name, "days": len(Panel.open(each).days), "panel GiB": size / GIB,
                     "steps": scale.training_steps, "peak GiB": found["peak"] / GIB,
                     "anonymous GiB": found["anonymous"] / GIB})  # fmt: skip
    return rows
