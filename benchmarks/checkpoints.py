"""A checkpoint in the background every 100 steps against none: what it costs the steps that go on meanwhile."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atft import config
from atft.observe.events import EventLog
from atft.train import optimizer
from atft.train.collectives import Group
from atft.train.keeper import LAST, Keeper
from atft.train.progress import Progress
from benchmarks.common import Bound, Plan, Result, Row, Spent, Timing, clocked, interleaved, say, timed
from benchmarks.subject import ALL, TINY_SHAPE, Shape, Subject

SHAPES = (Shape(hidden=64, features=64, blocks=4), Shape(hidden=256, features=64, blocks=4))

EVERY = 100
"""Steps from one checkpoint to the next."""

COST = 0.02
"""Bound of the design: seconds that a checkpoint adds, spread over the steps to the next one, over those of a step."""

LEAST_STEPS = 4
"""Fewest steps of a segment."""

ROOM = 3.0
"""A segment is this many times as long as writing takes, so that the file is complete before it ends."""

ABOUT = f"""\
Whole optimizer steps as a run takes them (exact gradient with all graphs kept, clipping, AdamW) on tier1's effective
batch of 4 blocks of 4 days × 64 stocks, float32. A segment of steps begins with handing the state (weights, AdamW's
moments, progress) to the keeper, which copies it and writes it in the background, or without; segments of both kinds
take turns, and are {ROOM:g} times as long as a write. What the segment takes longer is what the checkpoint costs;
spread over the {EVERY} steps from one checkpoint to the next it is the amortised cost. *First step* is the one during
which the state is copied and its writing begins: the worst case. Minima throughout; the folder is a temporary one."""


class Run:
    """A run that takes the same step again and again, and can save its state.

    Args:
        subject: network and effective batch.
        settings: of the optimizer.
        folder: where checkpoints go.
    """

    def __init__(self, subject: Subject, settings: config.Optimizer, folder: Path) -> None:
        self.subject = subject
        self.keeper = Keeper(folder, Group(), EventLog(None))
        self._parameters = subject.network.parameters_of(ALL)
        self._optimizer = optimizer.build(self._parameters, settings)
        self._clip = settings.clip_norm
        for group in self._optimizer.param_groups:
            group["lr"] = 1e-6

    def step(self) -> None:
        """One optimizer step."""
        self.subject.exact(self.subject.count)
        torch.nn.utils.clip_grad_norm_(self._parameters, self._clip)
        self._optimizer.step()

    def save(self) -> None:
        """Hand the state over, as the training loop does."""
        state: dict[str, Any] = {
            "config": "0" * 64, "data": "0" * 64, "progress": Progress().as_state(),
            "network": self.subject.network.state_dict(), "optimizer": self._optimizer.state_dict(), "scale": {},
        }  # fmt: skip
        self.keeper.save(state, 0)

    def save_and_wait(self) -> None:
        """Hand the state over, and wait until it is on disk."""
        self.save()
        self.keeper.wait()


@dataclass(frozen=True)
class Found:
    """What a shape's checkpoints cost.

    Attributes:
        steps: of a segment.
        write: seconds of a save that is waited for.
        megabytes: of the file.
        segments: segments of ``steps`` steps, ``without`` and ``with`` a checkpoint.
        first: their first steps.
    """

    steps: int
    write: float
    megabytes: float
    segments: dict[str, Timing]
    first: dict[str, Timing]

    @property
    def step(self) -> float:
        """Seconds of a step without a checkpoint."""
        return self.segments["without"].minimum / self.steps

    @property
    def cost(self) -> float:
        """The amortised cost of checkpoints, as a share of a step."""
        return (self.segments["with"].minimum - self.segments["without"].minimum) / (EVERY * self.step)


def run(plan: Plan) -> Result:
    """The cost at both shapes."""
    tables: dict[str, list[Row]] = {"Segments": [], "First step of a segment": [], "Checkpoints": []}
    bounds: list[Bound] = []
    for shape in (TINY_SHAPE,) if plan.quick else SHAPES:
        say(f"checkpoints: {shape}")
        found = measure(shape, plan.rounds)
        for title, times in (("Segments", found.segments), ("First step of a segment", found.first)):
            tables[title] += [
                {"shape": str(shape), "checkpoint": name, **each.row(times["without"])} for name, each in times.items()
            ]
        tables["Checkpoints"].append(
            {"shape": str(shape), "file MB": found.megabytes, "save and wait s": found.write, "step s": found.step,
             "steps of a segment": found.steps, "amortised cost": found.cost}
        )  # fmt: skip
        bounds.append(Bound(f"{shape}: cost of a checkpoint every {EVERY} steps / a step", found.cost, COST))
    return Result("Checkpoints in the background", ABOUT, tables, bounds)


def measure(shape: Shape, rounds: int) -> Found:
    """Segments with and without a checkpoint, in turns."""
    tier = shape.tier()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Subject.of(tier, shape.features), tier.optimizer, Path(folder))
        run.step()
        write, step = timed(run.save_and_wait).seconds, timed(run.step).seconds
        steps = max(LEAST_STEPS, math.ceil(ROOM * write / step))
        first: dict[str, list[Spent]] = {"without": [], "with": []}
        segments = interleaved(
            {name: segment(run, steps, save=name == "with", first=told) for name, told in first.items()}, rounds
        )
        run.keeper.close()
        size = (Path(folder) / LAST).stat().st_size
    firsts = {name: Timing.of(told[1:]) for name, told in first.items()}  # the first of all warmed up
    return Found(steps, write, size / 1e6, segments, firsts)


def segment(run: Run, steps: int, *, save: bool, first: list[Spent]) -> Callable[[], None]:
    """A segment of steps to call, which notes in ``first`` what its first step, with the handing over, spends."""

    def begin() -> None:
        if save:
            run.save()
        run.step()

    def called() -> None:
        first.append(clocked(begin))
        for _ in range(steps - 1):
            run.step()

    return called
