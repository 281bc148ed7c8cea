"""What the case ``panel`` measures in a process of its own: a build, an append, a training loop; prints JSON."""

from __future__ import annotations

import cProfile
import json
import pstats
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from atft import config
from atft.data import build as building
from atft.data.gather import Gatherer
from atft.data.graph import TrailingGraph
from atft.data.loader import Loader
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.data.sampler import Plan
from atft.train.cutting import Cut
from atft.train.step import Shard
from benchmarks.subject import ALL, Shape, Subject

STAGES = {
    "read and check the table": ("sources.py", "read"),
    "lay out bars": ("grid.py", "of"),
    "lay out own features": ("own_file.py", "laid_out"),
    "compare with the old panel": ("append.py", "check_unrevised"),
    "keep old chunks": ("append.py", "keep_chunks"),
    "compute features": ("chunks.py", "raw"),
    "scale over each day": ("chunks.py", "_scaled"),
    "write and hash": ("room.py", "write"),
}
"""Stages of a build: the function that each is spent in."""


def build(source: str, out: str, roles: str) -> dict[str, Any]:
    """Build a panel; seconds by stage and the peak of resident memory."""
    return _profiled(lambda: building.build(source, out, Roles.model_validate_json(roles)))


def append(panel: str, source: str) -> dict[str, Any]:
    """Append a table to the panel that was built from it: nothing is new, so this is what any append costs at least."""
    return _profiled(lambda: building.append(panel, source))


def _profiled(work: Callable[[], object]) -> dict[str, Any]:
    profile, began, processor = cProfile.Profile(), time.perf_counter(), time.process_time()
    profile.runcall(work)
    seconds = time.perf_counter() - began
    spent: dict[tuple[str, str], float] = {}
    for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        spent[Path(file).name, name] = max(cumulative, spent.get((Path(file).name, name), 0.0))
    stages = {stage: spent[place] for stage, place in STAGES.items() if place in spent}
    return {"seconds": seconds, "processor": time.process_time() - processor, "stages": stages, **_memory()}


def train(path: str, graph: str, steps: str, tiny: str) -> dict[str, Any]:
    """Train on a panel; the peaks of resident memory, and of the part of it that is not the map."""
    panel = Panel.open(path)
    shape = Shape(hidden=8 if tiny == "1" else 16, features=len(panel.feature_names), blocks=4, tiny=tiny == "1")
    tier = shape.tier()
    gatherer = Gatherer(panel, opened_graph(Path(graph)), tier.window, tier.label)
    subject, most = Subject.of(tier, shape.features), 0
    plans = planner(panel, tier.window, tier.batch.blocks, tier.batch.block_days, tier.batch.stocks_per_day)
    with Loader(plans, gatherer, range(int(steps)), days=tier.batch.block_days, workers=2) as loader:
        for prepared in loader:
            subject.step(Shard(prepared.blocks, [tier.batch.blocks]), ALL, subject.keys, cut=Cut(1, 1))
            most = max(most, status("RssAnon"))
    return {"anonymous": most, **_memory()}


def planner(panel: Panel, window: config.Window, blocks: int, days: int, stocks: int) -> Callable[[int], Plan]:
    """Plans with random days and stocks: how stocks are sampled costs nothing here."""

    def plan(step: int) -> Plan:
        random = np.random.default_rng(step)
        first = random.integers(window.days, len(panel.days) - days, blocks)
        sampled = [np.sort(random.choice(len(panel.codes), stocks, replace=False)) for _ in range(blocks)]
        return Plan(first, np.array(sampled), np.arange(blocks))

    return plan


def write_graph(folder: Path, days: int, stocks: int, neighbours: int) -> Path:
    """A random graph on disk: to compute one for a whole market takes minutes, and is not measured here."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, dtype in (("index", np.int32), ("correlation", np.float32)):
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (days, stocks, neighbours))
        for day in range(days):
            drawn = random.random((stocks, neighbours), np.float32)
            array[day] = drawn * stocks if name == "index" else drawn
    return folder


def opened_graph(folder: Path) -> TrailingGraph:
    """The graph in ``folder``, memory-mapped."""
    index, correlation = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("index", "correlation"))
    return TrailingGraph(index, correlation)


def status(name: str) -> int:
    """Bytes that ``/proc/self/status`` tells under ``name``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _memory() -> dict[str, int]:
    return {"peak": status("VmHWM")}


if __name__ == "__main__":
    work = {"build": build, "append": append, "train": train}[sys.argv[1]]
    print(json.dumps(work(*sys.argv[2:])))
