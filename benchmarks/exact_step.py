"""The exact step against the same micro-batches with all graphs kept: what exactness costs, and what replay saves."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from atft.objective.rows import day_rows
from benchmarks.common import Bound, Plan, Result, Row, Timing, interleaved, say
from benchmarks.memory import peak_bytes
from benchmarks.subject import ALL, TINY_SHAPE, Shape, Subject

SHAPES = (Shape(hidden=64, features=64, blocks=16), Shape(hidden=256, features=64, blocks=16))

ALL_KEPT, LAST_KEPT, MEMORY = 1.05, 1.35, 1.25
"""Bounds of DESIGN §10: time with all graphs kept and with the last one, memory at 16 micro-batches against one."""

ABOUT = """\
One optimizer step's gradient on 16 micro-batches of one block (4 days × 64 stocks, window 20), tier1's objective and
dropout, float32. *Plain* is what one would write without this project where memory is no concern: every micro-batch
forward with its graph, the rows of all in one table, one backward pass. Ratios are of minima, to plain.

Memory is the most that tensors hold at once, without what stays: parameters, gradients, optimizer state. The effective
batch grows with the number of micro-batches, and a micro-batch stays as large."""


def run(plan: Plan) -> Result:
    """Time and memory at both shapes."""
    times: list[Row] = []
    memory: list[Row] = []
    bounds: list[Bound] = []
    for shape in (TINY_SHAPE,) if plan.quick else SHAPES:
        say(f"exact-step: {shape}")
        subject = Subject.of(shape.tier(), shape.features)
        found, peaks = time_ways(subject, plan.rounds), peak_growth(subject)
        times += [{"shape": str(shape), "way": name, **each.row(found["plain"])} for name, each in found.items()]
        memory += [{"shape": str(shape), **row} for row in memory_rows(subject, peaks)]
        bounds += bounds_of(str(shape), found, peaks)
    return Result("Exact step", ABOUT, {"Time": times, "Memory": memory}, bounds)


def plain(subject: Subject) -> Tensor:
    """The loss, with its gradient left in the parameters: all graphs kept, one backward pass over the whole batch."""
    step = subject.step
    subject.network.zero_grad(set_to_none=True)
    rows = []
    for number in range(subject.count):
        blocks = subject.blocks(number, number + 1)
        output = subject.network(blocks, ALL, subject.keys)
        rows.append(day_rows(output.scores, output.quantiles, blocks, step.rows))
    loss = step.mix.loss(step.mix.parts(torch.cat(rows)))
    torch.autograd.backward(loss)
    return loss.detach()


def time_ways(subject: Subject, rounds: int) -> dict[str, Timing]:
    """Seconds of one gradient: plain, and exact with all, half and the last of the graphs kept."""
    count = subject.count
    ways = {"plain": partial(plain, subject)} | {
        f"exact, {name} kept": partial(subject.exact, kept)
        for name, kept in (("all", count), ("half", count // 2), ("last", 1))
    }
    return interleaved(ways, rounds)


def peak_growth(subject: Subject) -> dict[int, int]:
    """Peak bytes of an exact step by its number of micro-batches, with the last graph kept."""
    counts = [count for count in (1, 2, 4, 8, 16) if count <= subject.count]
    return {count: peak_bytes(partial(subject.exact, 1, count)) for count in counts}


def memory_rows(subject: Subject, peaks: dict[int, int]) -> list[Row]:
    """Peaks by number of micro-batches, then those of keeping all graphs."""
    rows = [("exact, last kept", count, peak) for count, peak in peaks.items()]
    rows.append(("exact, all kept", subject.count, peak_bytes(partial(subject.exact, subject.count))))
    rows.append(("plain", subject.count, peak_bytes(partial(plain, subject))))
    return [
        {"way": way, "micro-batches": count, "peak MB": peak / 1e6, "ratio": peak / peaks[1]}
        for way, count, peak in rows
    ]


def bounds_of(shape: str, times: dict[str, Timing], peaks: dict[int, int]) -> list[Bound]:
    """DESIGN §10 on what was measured."""
    reference = times["plain"].minimum
    return [
        Bound(f"{shape}: time, all kept / plain", times["exact, all kept"].minimum / reference, ALL_KEPT),
        Bound(f"{shape}: time, last kept / plain", times["exact, last kept"].minimum / reference, LAST_KEPT),
        Bound(f"{shape}: peak, {max(peaks)} micro-batches / one", peaks[max(peaks)] / peaks[1], MEMORY),
    ]
