"""The gradient noise scale: what a step that measures it costs beyond one that does not, spread over its steps."""

from __future__ import annotations

from functools import partial

from atft.config import Runtime
from atft.train.noise_scale import taken
from atft.train.partition import Cut
from atft.train.step import Shard
from benchmarks.common import Bound, Plan, Result, Row, Timing, interleaved, say
from benchmarks.subject import ALL, TINY_SHAPE, Shape, Subject

SHAPES = (Shape(hidden=64, features=64, blocks=4), Shape(hidden=64, features=64, blocks=16))

EVERY = int(Runtime.model_fields["noise_scale_steps"].default)
"""Steps between two measurements, where nothing else is set."""
AMORTISED = 0.01
"""Bound of DESIGN §10."""

ABOUT = f"""\
One optimizer step's gradient (4 days × 64 stocks a block, window 20), tier1's objective and dropout, float32, without
and with the measurement of the gradient noise scale after it: each block once more through the network, both ways.
It is measured every {EVERY} steps (`runtime.noise_scale_steps`), so that a step pays the {EVERY}th part. Steps are cut
into micro-batches of one block and of all blocks, with all graphs kept: where nothing is computed twice a step is
quickest, and measuring weighs most. Ratios are of minima, to the step without."""


def run(plan: Plan) -> Result:
    """Time at both shapes, in micro-batches of one block and of all."""
    times: list[Row] = []
    bounds: list[Bound] = []
    for shape in (TINY_SHAPE,) if plan.quick else SHAPES:
        say(f"noise-scale: {shape}, {shape.blocks} blocks")
        subject = Subject.of(shape.tier(), shape.features)
        for blocks in (1, shape.blocks):
            name = f"{shape}, {shape.blocks} blocks, micro-batches of {blocks}"
            found = interleaved({"without": partial(step, subject, blocks, measure=False),
                                 "with": partial(step, subject, blocks, measure=True)}, plan.rounds)  # fmt: skip
            times += [{"case": name, "way": way, **each.row(found["without"])} for way, each in found.items()]
            bounds.append(bound_of(name, found))
    return Result("Gradient noise scale", ABOUT, {"Time": times}, bounds)


def step(subject: Subject, blocks: int, *, measure: bool) -> None:
    """One exact step in micro-batches of ``blocks`` blocks, all graphs kept, measured or not."""
    shard = Shard(subject.blocks, [subject.count])
    outcome = subject.step(shard, ALL, subject.keys, cut=Cut(blocks, subject.count))
    if measure:
        taken(
            subject.step, [], shard, ALL, subject.keys, outcome, number=1, samples=outcome.samples, loss_scale=1.0
        )  # fmt: skip


def bound_of(name: str, found: dict[str, Timing]) -> Bound:
    """DESIGN §10 on what was measured."""
    extra = found["with"].minimum / found["without"].minimum - 1
    return Bound(f"{name}: cost of measuring every {EVERY} steps / a step", extra / EVERY, AMORTISED)
