"""The critical batch, measured: short runs from the same weights, on equal data, at several batch sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from atft.experiment.advise import Candidate
from atft.experiment.advise_walk import Walk
from atft.train.validation import sampled_table

Rate = Literal["sqrt", "linear", "held"]

LEVEL = 0.05
"""Of all differences together, two-sided."""
JUDGED_BLOCKS = 64
"""Blocks of the training days that every branch is judged on."""
MULTIPLE = 8
"""Steps of the largest candidate, where it is not told on how many stock-days branches train."""
LEAST_SEEDS = 2


@dataclass(frozen=True)
class Branch:
    """One short run.

    Attributes:
        samples: stock-days of its batch.
        seed: of its batches.
        steps: that it took.
        learning_rate: that it took them with.
        loss: the tier's objective on the same blocks of the training days for all branches, without dropout.
        validation_loss: the same on the validation days.
    """

    samples: int
    seed: int
    steps: int
    learning_rate: float
    loss: float
    validation_loss: float


@dataclass(frozen=True)
class Rung:
    """All branches of one batch against those of the smallest.

    Attributes:
        samples, steps, learning_rate: of its branches.
        loss, validation_loss: means over seeds.
        worse: mean of its losses less those of the smallest batch, seed by seed; above 0 it is worse.
        low, high: simultaneous interval of ``worse``; None for the smallest batch.
        verdict: ``smallest``, ``worse``, ``better`` or ``not distinguishable``.
    """

    samples: int
    steps: int
    learning_rate: float
    loss: float
    validation_loss: float
    worse: float
    low: float | None
    high: float | None
    verdict: str

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def scaled(rate: float, factor: float, rule: Rate) -> float:
    """The learning rate of a batch ``factor`` times as large."""
    return rate * {"sqrt": math.sqrt(factor), "linear": factor, "held": 1.0}[rule]


def branches(
    walk: Walk, among: Sequence[Candidate], seeds: Sequence[int], samples: int, rule: Rate,
    tell: Callable[[str, float], None],
) -> list[Branch]:  # fmt: skip
    """Train every candidate from the walk's weights and optimizer state with every seed.

    Args:
        walk: stands where branches begin; is there again afterwards.
        among: batches that can be composed.
        seeds: of the batches that are drawn; other ones than the walk has seen.
        samples: stock-days of each branch, to the nearest whole batch.
        rule: how the learning rate follows the batch, from the tier's own.
        tell: told what is done.

    Raises:
        RunError: a gradient is not finite, or memory does not suffice.
    """
    start, found = walk.state(), []
    for number, each in enumerate(among):
        for position, seed in enumerate(seeds):
            tell(f"branches of {each.samples:,} stock-days", (number + position / len(seeds)) / len(among))
            walk.back_to(start)
            found.append(_branch(walk, each, seed, max(1, round(samples / each.samples)), rule))
    walk.back_to(start)
    return found


def _branch(walk: Walk, candidate: Candidate, seed: int, steps: int, rule: Rate) -> Branch:
    assert candidate.batch is not None
    rate = scaled(walk.phase.learning_rate, candidate.samples / walk.setup.tier.batch.samples, rule)
    size = walk.size(candidate.batch, seed)
    for number in range(steps):
        walk.gradient(size, number)
        walk.update(rate)
    return Branch(candidate.samples, seed, steps, rate, *_judged(walk))


def _judged(walk: Walk) -> tuple[float, float]:
    """Loss on fixed blocks of the training days and of the validation days, without dropout."""
    setup = walk.setup
    setup.network.eval()
    mix, losses = setup.step.mix, []
    for days in (setup.periods.train, setup.periods.validate):
        spread = days if len(days) <= _judged_days(walk) else days[-_judged_days(walk) :]
        table = sampled_table(setup, walk.parts, setup.covering_sampler(spread))
        losses.append(float(mix.loss(mix.parts(table))))
    return losses[0], losses[1]


def _judged_days(walk: Walk) -> int:
    return JUDGED_BLOCKS * walk.setup.tier.batch.block_days


def judged(found: Sequence[Branch]) -> list[Rung]:
    """Each batch against the smallest, with intervals that hold together (Bonferroni).

    The error is that of a two-way layout, batches by seeds: what is left of the losses without the means of either,
    pooled over batches. With few seeds it knows far more than the differences of one batch; it takes the noise of all
    batches to be alike.

    Args:
        found: branches of at least two batches, each with the same seeds, at least two.
    """
    sizes = sorted({each.samples for each in found})
    by_size = [sorted((b for b in found if b.samples == size), key=lambda b: b.seed) for size in sizes]
    losses = np.array([[each.loss for each in own] for own in by_size])
    batches, seeds = losses.shape
    left = losses - losses.mean(0) - losses.mean(1, keepdims=True) + losses.mean()
    degrees = (batches - 1) * (seeds - 1)
    error = math.sqrt(2 * float(np.square(left).sum()) / degrees / seeds)
    half = float(stats.t.ppf(1 - LEVEL / 2 / (batches - 1), degrees)) * error
    differences = (losses - losses[0]).mean(1).tolist()
    return [
        _rung(own, worse, half if number else None)
        for number, (own, worse) in enumerate(zip(by_size, differences, strict=True))
    ]


def _rung(own: Sequence[Branch], worse: float, half: float | None) -> Rung:
    low, high = (None, None) if half is None else (worse - half, worse + half)
    verdict = "smallest" if low is None or high is None else _verdict(low, high)
    loss, validation = (float(np.mean(each)) for each in zip(*((b.loss, b.validation_loss) for b in own), strict=True))
    return Rung(own[0].samples, own[0].steps, own[0].learning_rate, loss, validation, worse, low, high, verdict)


def _verdict(low: float, high: float) -> str:
    return "worse" if low > 0 else "better" if high < 0 else "not distinguishable"


def critical(rungs: Sequence[Rung]) -> tuple[int | None, int | None]:
    """The largest batch below the first that is worse, and that first one; None where there is none."""
    worse = next((number for number, rung in enumerate(rungs) if rung.verdict == "worse"), None)
    if worse is None:
        return None, None
    return rungs[worse - 1].samples, rungs[worse].samples


def as_text(rungs: Sequence[Rung], seeds: int, rule: Rate, start: str) -> Iterator[str]:
    """The rungs in columns and the finding in sentences."""
    stock_days = rungs[0].steps * rungs[0].samples
    yield (
        f"branches from the same weights ({start}): {stock_days:,} stock-days each, {seeds} seeds, learning rate "
        f"{ {'sqrt': '∝ √batch', 'linear': '∝ batch', 'held': 'held'}[rule] }"
    )
    yield (
        f"{'batch':>8} {'steps':>6} {'rate':>9} {'loss':>9} {'val. loss':>9} {'worse by':>9} {'simultaneous 95 %':>20}"
    )
    for rung in rungs:
        interval = "" if rung.low is None else f"{rung.low:+.4f} to {rung.high:+.4f}"
        yield (
            f"{rung.samples:>8,} {rung.steps:>6} {rung.learning_rate:>9.2e} {rung.loss:>9.4f} "
            f"{rung.validation_loss:>9.4f} {rung.worse:>+9.4f} {interval:>20}  {rung.verdict}"
        )
    last_good, first_bad = critical(rungs)
    if first_bad is None:
        yield (
            f"Critical batch: not reached. No batch up to {rungs[-1].samples:,} is worse on equal data beyond the "
            f"noise of {seeds} seeds; that is no proof of equality."
        )
    else:
        yield (
            f"Critical batch: between {last_good:,} and {first_bad:,} stock-days. At {first_bad:,} the same data buys "
            "a worse loss, beyond the noise of the seeds, under this rule for the learning rate."
        )
    yield (
        "Does not follow: that this holds later in training, or under another rule: the critical batch grows as a "
        "model learns, and another learning rate may move it."
    )
