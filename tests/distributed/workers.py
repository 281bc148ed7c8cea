"""What the tests' workers do; a module of its own, so that spawned processes can import it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from atft.blocks import shards
from atft.model.random_keys import RandomKeys
from atft.train.collectives import Group
from atft.train.partition import Cut
from atft.train.precision import LossScale
from atft.train.step import ExactStep, GradientOverflowError, Shard
from tests.market import cut, random_blocks
from tests.unit.train.test_step import ALL, gradient, make

BLOCKS = 24


@dataclass(frozen=True)
class Case:
    """One effective batch of 24 one-day blocks, and how it is cut.

    Attributes:
        kind: of the objective.
        per: blocks of a micro-batch.
        kept: graphs kept.
        masked: blocks of which no day counts.
    """

    kind: str
    per: int
    kept: int = 1
    masked: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float64
    days: int = 1


def batch(case: Case) -> Any:
    blocks = random_blocks(11, blocks=BLOCKS, days=case.days)
    for each in case.masked:
        blocks.valid[each] = False
        blocks.returns[each] = 0.0
    return blocks


def exact(group: Group, cases: list[Case]) -> list[dict[str, Any]]:
    """Loss, gradient and traffic of each case on this worker."""
    return [_exact(group, case) for case in cases]


def _exact(group: Group, case: Case) -> dict[str, Any]:
    whole, _ = make(case.kind, dtype=case.dtype)
    step = ExactStep(whole.network, whole.mix, whole.rows, whole.autocast, whole.device, group)
    sizes = shards(BLOCKS, group.world_size)
    first = sum(sizes[: group.rank])
    own = cut(batch(case), first, first + sizes[group.rank])
    before = (
        group.traffic.gathers,
        group.traffic.reductions,
        group.traffic.gathered_bytes,
        group.traffic.reduced_bytes,
    )
    with Counted() as counted:
        found = step(Shard(partial(cut, own), sizes), ALL, RandomKeys(3, 17), cut=Cut(case.per, case.kept))
    after = (group.traffic.gathers, group.traffic.reductions, group.traffic.gathered_bytes, group.traffic.reduced_bytes)
    return {
        "loss": found.loss, "gradient": gradient(step.network), "samples": found.samples, "table": found.table,
        "micro_batches": found.micro_batches, "kept": found.kept_graphs, "shrunk": found.shrunk,
        "told": tuple(b - a for a, b in zip(before, after)), "seen": counted.seen,
        "without": [p.grad is None for p in step.network.parameters_of(ALL)],
    }  # fmt: skip


class Counted:
    """Counts every collective of ``torch.distributed`` by name, with the bytes that this worker puts in."""

    NAMES = ("all_reduce", "all_gather", "broadcast", "reduce", "gather", "scatter", "barrier", "all_to_all",
             "all_gather_into_tensor", "reduce_scatter", "reduce_scatter_tensor", "send", "recv",
             "all_gather_object", "broadcast_object_list", "monitored_barrier")  # fmt: skip

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def __enter__(self) -> Counted:
        self._real = {name: getattr(dist, name) for name in self.NAMES}
        for name, real in self._real.items():
            setattr(dist, name, partial(self._note, name, real))
        return self

    def __exit__(self, *ignored: object) -> None:
        for name, real in self._real.items():
            setattr(dist, name, real)

    def _note(self, name: str, real: Any, *arguments: Any, **named: Any) -> Any:
        sent = arguments[1] if name == "all_gather" else arguments[0] if arguments else None
        self.seen.append((name, sent.nbytes if isinstance(sent, torch.Tensor) else 0))
        return real(*arguments, **named)


def out_of_memory_once(group: Group, case: Case, stage: str, most: int) -> dict[str, Any]:
    """As :func:`exact`, where worker 0 has no room for more than ``most`` blocks, first or on the way back."""
    if group.rank == 0:
        from atft.train import step as module

        if stage == "forward":
            run = module._Work._run

            def narrow(self: Any, first: int, last: int) -> Any:
                if last - first > most:
                    raise torch.OutOfMemoryError("CUDA out of memory. (injected)")
                return run(self, first, last)

            module._Work._run = narrow  # type: ignore[method-assign]
        else:
            real = torch.autograd.backward

            def narrow_back(row: Any, *more: Any) -> None:
                if row.shape[0] > most * case.days:
                    real(row[: len(row) // 2], more[0][: len(row) // 2])  # part of the gradient is there already
                    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory (injected)")
                real(row, *more)

            torch.autograd.backward = narrow_back
    return _exact(group, case)


def overflow(group: Group, first_scale: float) -> dict[str, Any]:
    """The loss scale halved on every overflow, as in float16, from one that surely does; worker 0's rows overflow."""
    whole, _ = make("portfolio", dtype=torch.float32)
    step = ExactStep(whole.network, whole.mix, whole.rows, whole.autocast, whole.device, group)
    sizes = shards(BLOCKS, group.world_size)
    first = sum(sizes[: group.rank])
    own = cut(batch(Case("portfolio", 6)), first, first + sizes[group.rank])
    if group.rank > 0:  # only one worker's own part of the gradient overflows
        own.returns.mul_(1e-12)
    scale = LossScale(first_scale)
    while True:
        try:
            step(Shard(partial(cut, own), sizes), ALL, RandomKeys(3, 17), cut=Cut(6, 1), loss_scale=scale.value)
        except GradientOverflowError:
            assert scale.overflow()
            continue
        return {"overflows": scale.overflows, "scale": scale.value, "gradient": gradient(step.network)}


def one_hangs(group: Group, who: int, seconds: float) -> str:
    """Worker ``who`` never comes to the gather."""
    if group.rank == who:
        time.sleep(seconds)
        return "slept"
    group.gather_rows(torch.ones(1, 9, dtype=torch.float64), [1] * group.world_size)
    return "gathered"


def one_dies(group: Group, who: int) -> str:
    """Worker ``who`` is killed in the middle of a step."""
    if group.rank == who:
        os.kill(os.getpid(), signal.SIGKILL)
    group.add(torch.ones(1000))
    return "added"


def one_cannot_load(group: Group, folder: str) -> str:
    """The leading worker finds no checkpoint; all of them say so."""
    from pathlib import Path

    from atft.errors import UseError
    from atft.observe.events import EventLog
    from atft.train.keeper import Keeper

    keeper = Keeper(Path(folder), group, EventLog(None))
    try:
        keeper.load()
    except UseError as error:
        return str(error)
    return "loaded"


def noise(group: Group, cases: list[Case]) -> list[dict[str, Any]]:
    """What each case's step measures of its gradient noise on this worker, and the collectives of measuring."""
    return [_noise(group, case) for case in cases]


def _noise(group: Group, case: Case) -> dict[str, Any]:
    from atft.train.noise_scale import Measurement, taken

    whole, _ = make(case.kind, dtype=case.dtype)
    step = ExactStep(whole.network, whole.mix, whole.rows, whole.autocast, whole.device, group)
    sizes = shards(BLOCKS, group.world_size)
    first = sum(sizes[: group.rank])
    shard = Shard(partial(cut, cut(batch(case), first, first + sizes[group.rank])), sizes)
    outcome = step(shard, ALL, RandomKeys(3, 17), cut=Cut(case.per, case.kept))
    before, window = gradient(step.network), list[Measurement]()
    with Counted() as counted:
        told = taken(step, window, shard, ALL, RandomKeys(3, 17), outcome, number=1, samples=BLOCKS * 7, loss_scale=1.0)
    return {"told": told, "seen": counted.seen, "kept": torch.equal(before, gradient(step.network))}
