"""Checks of exactness and determinism: which cases there are, and the judgement of what was measured.

Pure functions. What the workers compute is in ``atft.experiment.verify_work``, what starts them and tells the user in
``atft.launch.verify``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from atft.blocks import shards
from atft.config import Tier
from atft.train.partition import cuts

Dtype = Literal["float64", "float32", "tier"]
"""What a check computes in: float64, float32, or what the tier's precision means on this device."""

Run = tuple[int, int]
"""Half-open run of block numbers."""

JUDGED_STEPS = 10
"""Steps over which loss curves in float32 are held to the bound; after that rounding has grown through training."""


@dataclass(frozen=True)
class Partition:
    """One way to compute an effective batch.

    Attributes:
        workers: how many share it.
        blocks: of a micro-batch.
        kept: micro-batches whose graphs are kept.
    """

    workers: int
    blocks: int
    kept: int

    def pieces(self, count: int) -> list[Run]:
        """The micro-batches of all workers, as runs of the effective batch's ``count`` blocks."""
        found, first = [], 0
        for size in shards(count, self.workers):
            found += [(first + begin, first + end) for begin, end in cuts(size, self.blocks)]
            first += size
        return found


def partitions(count: int, workers: Sequence[int], micro_batches: Sequence[int | None]) -> list[Partition]:
    """Every different partition of ``count`` blocks, with one graph kept and with all.

    Args:
        count: blocks of the effective batch.
        workers: numbers of workers, at most ``count``.
        micro_batches: micro-batches of each worker, no more than it has blocks; None: one for each block.
    """
    found: dict[Partition, None] = {}
    for each in workers:
        largest = shards(count, each)[0]
        for number in micro_batches:
            blocks = 1 if number is None else -(-largest // number)
            for kept in (1, len(cuts(largest, blocks))):
                found[Partition(each, blocks, kept)] = None
    return list(found)


def naive_pieces(count: int, among: Sequence[Partition]) -> list[list[Run]]:
    """The partitions' micro-batches, one list for each number of them above 1: what naive averaging is shown for."""
    by_number = {len(pieces): pieces for pieces in (each.pieces(count) for each in reversed(among))}
    return [by_number[number] for number in sorted(by_number) if number > 1]


@dataclass(frozen=True)
class Measured:
    """One way to compute the batch, as one worker saw it.

    Attributes:
        micro_batches, kept_graphs: what its shard really was cut into.
        loss_difference: from the reference, relative to the greater of its size and :func:`sampling_deviation`.
        gradient_error: ``‖g − g₆₄‖ / ‖g₆₄‖`` over all parameters of the phase.
        checksum: of loss and gradient; equal where they are bitwise equal.
        gathers, reductions, sent_bytes: collectives of one step, and bytes that this worker sent into them.
        seconds: of the quickest step.
        peak_bytes: most that was alive at once, see :func:`atft.experiment.peak.peak_bytes`; without the
            gradient.
    """

    micro_batches: int
    kept_graphs: int
    loss_difference: float
    gradient_error: float
    checksum: int
    gathers: int
    reductions: int
    sent_bytes: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Naive:
    """How far the mean over micro-batches of their own losses and gradients is from the effective batch's.

    Attributes:
        pieces: micro-batches.
        loss_difference, gradient_error: as in :class:`Measured`; None where a piece has no statistic.
    """

    pieces: int
    loss_difference: float | None
    gradient_error: float | None


@dataclass(frozen=True)
class Limits:
    """What a partition is held to.

    Attributes:
        gradient: greatest gradient error.
        loss: greatest loss difference; None: it is not judged.
    """

    gradient: float
    loss: float | None


def limits(number_format: str, plain: Measured) -> Limits:
    """The bounds in a number format, where the step in one piece, ``plain``, is as far off as it is."""
    if number_format == "float64":
        return Limits(1e-12, 1e-12)
    if number_format == "float32":
        return Limits(max(1e-6, 2 * plain.gradient_error), 1e-5)
    return Limits(1e-2, None)


def sampling_deviation(tier: Tier) -> float:
    """The least deviation that sampling gives the Sharpe ratio of a batch: losses are not told apart below it.

    ``1/√(days − 3)`` for a portfolio; ``1/√samples`` for pooled stock-days, which are seldom that independent.
    """
    batch = tier.batch
    portfolio = tier.objective.sharpe_kind == "portfolio"
    return float(max(batch.days - 3, 1) ** -0.5 if portfolio else batch.samples**-0.5)


@dataclass(frozen=True)
class Row:
    """A partition as the table shows it: the worst of its workers.

    Attributes:
        workers: how many.
        micro_batches, kept_graphs: of the largest shard.
        loss_difference, gradient_error, gathers, reductions, bytes_per_worker, seconds, peak_bytes: see
            :class:`Measured`.
        ratio: of ``seconds`` to those of the plain step in one piece on one worker.
        problems: what is beyond a bound; nothing where the partition passes.
    """

    workers: int
    micro_batches: int
    kept_graphs: int
    loss_difference: float
    gradient_error: float
    gathers: int
    reductions: int
    bytes_per_worker: int
    seconds: float
    ratio: float
    peak_bytes: int
    problems: list[str] = field(default_factory=list)


def row_of(workers: Sequence[Measured], plain: Measured, bound: Limits | None) -> Row:
    """What a partition came to, from what each worker measured; without a bound nothing is judged."""
    seconds = max(each.seconds for each in workers)
    row = Row(
        workers=len(workers),
        micro_batches=workers[0].micro_batches,
        kept_graphs=workers[0].kept_graphs,
        loss_difference=worst(each.loss_difference for each in workers),
        gradient_error=worst(each.gradient_error for each in workers),
        gathers=max(each.gathers for each in workers),
        reductions=max(each.reductions for each in workers),
        bytes_per_worker=max(each.sent_bytes for each in workers),
        seconds=seconds,
        ratio=seconds / plain.seconds,
        peak_bytes=max(each.peak_bytes for each in workers),
    )
    if bound is not None:
        row.problems.extend(_problems(row, workers, bound))
    return row


def _problems(row: Row, workers: Sequence[Measured], bound: Limits) -> list[str]:
    found = []
    if not row.gradient_error <= bound.gradient:
        found.append(f"gradient error {row.gradient_error:.1e}, bound {bound.gradient:.1e}")
    if bound.loss is not None and not row.loss_difference <= bound.loss:
        found.append(f"loss difference {row.loss_difference:.1e}, bound {bound.loss:.1e}")
    if len({each.checksum for each in workers}) > 1:
        found.append("the workers do not hold the same loss and gradient")
    wanted = int(len(workers) > 1)
    for gathers, reductions in {(each.gathers, each.reductions) for each in workers} - {(wanted, wanted)}:
        found.append(f"{gathers} gathers and {reductions} all-reduces in a step, not {wanted} of each")
    return found


def worst(values: Iterable[float]) -> float:
    """The largest; what is not a number is worse than any, so that it fails whatever it is held to. 0 of nothing."""
    return max(values, key=lambda value: (math.isnan(value), value), default=0.0)


@dataclass(frozen=True)
class Course:
    """A training run of a determinism check.

    Attributes:
        name: of its directory.
        dtype: what it computes in.
        legs: workers, and the step after which they stop; each leg goes on from the checkpoint of the one before.
        nudged: whether each weight starts one rounding off: how far that gets is what rounding alone does.
    """

    name: str
    dtype: Dtype
    legs: tuple[tuple[int, int], ...]
    nudged: bool = False

    @property
    def title(self) -> str:
        """What the table calls it."""
        if self.nudged:
            return "1 worker, weights off by one rounding"
        teams = [workers for workers, _ in self.legs]
        stops = " and ".join(str(until) for _, until in self.legs[:-1])
        resumed = f", resumed after step{'s' if len(teams) > 2 else ''} {stops}" if stops else ""
        if len(set(teams)) > 1:
            return f"{' → '.join(map(str, teams))} workers{resumed}"
        return f"{teams[0]} worker{'s' if teams[0] > 1 else ''}{resumed}"


def courses(workers: Sequence[int], steps: int, dtype: Dtype) -> list[Course]:
    """One run for each number of workers, on a single one first; one resized twice; one resumed as it was; one nudged.

    Args:
        workers: numbers of workers.
        steps: optimizer steps of each run; at least 3.
        dtype: what the runs compute in.
    """
    teams = sorted({1, *workers})
    found = [Course(f"{dtype}-{each}", dtype, ((each, steps),)) for each in teams]
    if len(teams) > 1:
        resized = (teams[0], steps // 3), (teams[-1], 2 * steps // 3), (teams[(len(teams) - 1) // 2], steps)
        found.append(Course(f"{dtype}-resized", dtype, resized))
    same = teams[min(1, len(teams) - 1)]
    found.append(Course(f"{dtype}-resumed", dtype, ((same, steps // 2), (same, steps))))
    return [*found, Course(f"{dtype}-nudged", dtype, ((1, steps),), nudged=True)]


@dataclass(frozen=True)
class Leg:
    """What one group of processes does of a course: on from its last checkpoint, until a step."""

    course: Course
    number: int

    @property
    def until(self) -> int:
        """The step after which to stop."""
        return self.course.legs[self.number][1]


def rounds(among: Sequence[Course]) -> list[tuple[int, list[Leg]]]:
    """The legs of all courses, so grouped that each group of processes does as many as it can: workers, legs."""
    done, found = dict.fromkeys(range(len(among)), 0), []
    while waiting := [number for number, course in enumerate(among) if done[number] < len(course.legs)]:
        workers = among[waiting[0]].legs[done[waiting[0]]][0]
        ready = [number for number in waiting if among[number].legs[done[number]][0] == workers]
        found.append((workers, [Leg(among[number], done[number]) for number in ready]))
        for number in ready:
            done[number] += 1
    return found


@dataclass(frozen=True)
class Curve:
    """What a run left behind.

    Attributes:
        number_format: what it computed in.
        losses, norms: loss and gradient norm of each step, by its number, from 1.
        weights: checksum of the final weights on each worker.
    """

    number_format: str
    losses: Mapping[int, float]
    norms: Mapping[int, float]
    weights: Sequence[int]


@dataclass(frozen=True)
class CourseRow:
    """A run as the table shows it.

    Attributes:
        title: what it did.
        largest, at_step: greatest difference of a loss from the one-worker curve, and its step; float64: relative to
            the loss, else to the greater of loss and :func:`sampling_deviation`.
        largest_first: the same over the first ``JUDGED_STEPS`` steps.
        judged: whether it is held to a bound: all are but the nudged one, which shows what rounding alone does.
        bitwise: whether a resumed run is bitwise the unbroken one; None for other runs.
        problems: what is beyond a bound; nothing where the run passes.
    """

    title: str
    largest: float
    at_step: int
    largest_first: float
    bitwise: bool | None
    judged: bool = True
    problems: list[str] = field(default_factory=list)


def curve_bound(number_format: str) -> tuple[float | None, int | None]:
    """Greatest difference of a loss curve, and the steps that are held to it; None: not judged, and all."""
    return {"float64": (1e-9, None), "float32": (1e-5, JUDGED_STEPS)}.get(number_format, (None, None))


def course_row(
    course: Course, curve: Curve, base: Curve, twin: Curve | None, *, steps: int, deviation: float
) -> CourseRow:
    """A run compared with the one-worker curve, step by step, and bitwise with its unbroken ``twin`` if it has one.

    Args:
        course: the run.
        curve: what it left behind.
        base: what the run on one worker left behind.
        twin: the same number of workers without a break.
        steps: that all of them should have.
        deviation: see :func:`sampling_deviation`.
    """
    least = 0.0 if curve.number_format == "float64" else deviation
    shared = sorted(curve.losses.keys() & base.losses.keys())
    differences = {
        step: abs(curve.losses[step] - base.losses[step]) / max(abs(base.losses[step]), least, 1e-300)
        for step in shared
    }
    largest = worst(differences.values())
    at_step = next((step for step in shared if not differences[step] < largest), 0)
    first = worst(differences[step] for step in shared if step <= JUDGED_STEPS)
    same = None if twin is None else curve == twin
    row = CourseRow(course.title, largest, at_step, first, same, judged=not course.nudged)
    bound, judged = curve_bound(curve.number_format)
    found = largest if judged is None else first
    if list(curve.losses) != list(range(1, steps + 1)):
        row.problems.append(f"its event log has {len(curve.losses)} of {steps} steps")
    if bound is not None and row.judged and not found <= bound:
        row.problems.append(f"loss difference {found:.1e}, bound {bound:.0e}")
    if row.bitwise is False:
        row.problems.append("not bitwise the run without a break")
    if len(set(curve.weights)) > 1:
        row.problems.append("the workers ended with different weights")
    return row
