"""Two workers against one process on the same work per worker: what working together costs, in time and in bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from atft.launch.processes import run_group
from atft.objective.rows import TERMS
from atft.train.collectives import Group
from atft.train.partition import Cut
from atft.train.step import Shard, StepOutcome
from benchmarks.common import Bound, Plan, Result, Row, Spent, Timing, pinned, say, timed
from benchmarks.subject import ALL, TINY_SHAPE, Shape, Subject

WORKERS = 2

SHAPES = (Shape(hidden=64, features=64, blocks=8), Shape(hidden=256, features=64, blocks=8))
"""``blocks`` are those of one worker."""

FACTORS = (1, 2, 4)
"""Effective batches that bytes are counted for, relative to the smallest."""

THROUGHPUT = 0.9
"""Bound of the design: blocks per second and core together, over those alone."""

ROW_BYTES = 8 * len(TERMS)
"""A row of float64 terms."""

ABOUT = """\
One optimizer step's gradient: every worker computes 8 blocks of 4 days × 64 stocks (window 20), one a micro-batch, all
graphs kept, float32, one thread on a core of its own, over gloo on loopback. *Alone* is a step of a run of one process,
by each worker in turn while the other one waits; *side by side* is the same by both at once without a word, which tells
what the machine takes; *together* is one step of an effective batch twice as large. In turns, in the same processes.
Throughput per core is work over time; a step together takes as long as its slowest worker.

Bytes are what one worker puts into the collectives of one optimizer step: its rows and one note (gathered), and the
gradient (reduced). `tests/distributed` holds that count against the calls themselves."""


@dataclass(frozen=True)
class Sent:
    """What one worker puts into the collectives of one step.

    Attributes:
        rows: of this worker, one a day.
        parameters: that get a gradient.
        gathers, gathered_bytes, reductions, reduced_bytes: as :class:`atft.train.collectives.Traffic` counts.
    """

    rows: int
    parameters: int
    gathers: int
    gathered_bytes: int
    reductions: int
    reduced_bytes: int


Times = dict[str, list[Spent]]
"""What one worker's steps took by how they were computed, an entry a round."""


def run(plan: Plan) -> Result:
    """Throughput and bytes at both shapes."""
    tables: dict[str, list[Row]] = {"Throughput": [], "Bytes of one worker in one step": []}
    bounds: list[Bound] = []
    for shape in (TINY_SHAPE,) if plan.quick else SHAPES:
        say(f"workers: {shape}")
        found = run_group(work, WORKERS, shape, plan.rounds, plan.cores)
        times, sent = timings([told[0] for told in found]), found[0][1]
        alone = times["alone, worker 0"]
        tables["Throughput"] += [{"shape": str(shape), "way": name, **each.row(alone)} for name, each in times.items()]
        tables["Bytes of one worker in one step"] += [
            {"shape": str(shape), "effective batch": f"{factor}×", **asdict(each)}
            for factor, each in zip(FACTORS, sent)
        ]
        bounds += bounds_of(str(shape), times, sent)
    return Result("Two workers", ABOUT, tables, bounds)


def work(group: Group, shape: Shape, rounds: int, usable: Sequence[int]) -> tuple[Times, list[Sent]]:
    """What one worker does: its times, and what it sent for each of ``FACTORS``."""
    with pinned([usable[group.rank % len(usable)]], 1):
        subject = Subject.of(shape.tier(), shape.features, group=group)
        alone = Subject.of(shape.tier(), shape.features)
        times = in_turns(group, partial(alone.exact, alone.count), partial(together, subject, subject.count), rounds)
        return times, [sent(subject, factor * subject.count // max(FACTORS)) for factor in FACTORS]


def in_turns(group: Group, alone: Callable[[], object], joint: Callable[[], object], rounds: int) -> Times:
    """What the three ways take, all workers starting each at the same moment; collective."""
    alone()
    joint()
    times: Times = {"alone": [], "side by side": [], "together": []}
    for _ in range(rounds):
        for rank in range(group.world_size):
            meet(group)
            if rank == group.rank:
                times["alone"].append(timed(alone))
        for name, run in (("side by side", alone), ("together", joint)):
            meet(group)
            times[name].append(timed(run))
    return times


def meet(group: Group) -> None:
    """Wait, without using a core, until all workers are here."""
    group.least(0.0)


def together(subject: Subject, blocks: int) -> StepOutcome:
    """One exact step of all workers, with ``blocks`` blocks on each and all graphs kept; collective."""
    step = subject.step
    shard = Shard(subject.blocks, [blocks] * step.group.world_size)
    return step(shard, ALL, subject.keys, cut=Cut(1, blocks))


def sent(subject: Subject, blocks: int) -> Sent:
    """What this worker puts into the collectives of one step with ``blocks`` blocks on each; collective."""
    traffic = subject.step.group.traffic
    before = asdict(traffic)
    found = together(subject, blocks)
    after = {name: value - before[name] for name, value in asdict(traffic).items()}
    return Sent(found.table.shape[0] // subject.step.group.world_size, subject.parameters, **after)


def timings(workers: Sequence[Times]) -> dict[str, Timing]:
    """Each worker's steps alone; of those at once, that of the slowest worker in each round."""
    found = {f"alone, worker {rank}": Timing.of(times["alone"]) for rank, times in enumerate(workers)}
    for name in ("side by side", "together"):
        found[name] = Timing.of([max(each) for each in zip(*(times[name] for times in workers))])
    return found


def bounds_of(shape: str, times: dict[str, Timing], sent: Sequence[Sent]) -> list[Bound]:
    """The bounds on what was measured; the growth of the gathered bytes is that of the rows and no more."""
    alone = [1 / each.minimum for name, each in times.items() if name.startswith("alone")]
    throughput = len(alone) / times["together"].minimum / sum(alone)
    small, large = sent[0], sent[-1]
    grown = (large.gathered_bytes - small.gathered_bytes) / (ROW_BYTES * (large.rows - small.rows))
    batch = f"{FACTORS[-1]}× / 1× the effective batch"
    return [
        Bound(f"{shape}: throughput per core, together / alone", throughput, THROUGHPUT, least=True),
        Bound(f"{shape}: gradient bytes, {batch}", large.reduced_bytes / small.reduced_bytes, 1.0),
        Bound(f"{shape}: gradient bytes / parameter bytes", large.reduced_bytes / (4 * large.parameters), 1.0),
        Bound(f"{shape}: growth of gathered bytes / that of the rows", grown, 1.0),
        Bound(f"{shape}: collectives of a step", float(large.gathers + large.reductions), 2.0),
    ]
