"""How big a batch: one row for each candidate, and in words what follows from them and what does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from atft.config import Batch, Tier
from atft.errors import UseError
from atft.experiment.advise_rules import Rules
from atft.experiment.estimates import STATE_BYTES
from atft.objective.mix import LEAST_DAYS
from atft.observe.console import duration
from atft.train.noise_scale import Estimate

CANDIDATES = "256,512,1024,2048,4096,8192"
"""Batches that are looked at where none are named, in stock-days: those of the original's options."""
REPLAY = 0.35
"""Share of a step that computing all graphs twice adds, as docs/benchmarks/exact-step.md measured it."""
INDEPENDENT = 1.96 * 2**0.5
"""Standard errors by which two independent figures differ at 95 %."""


@dataclass(frozen=True)
class Candidate:
    """A batch that is looked at.

    Attributes:
        samples: stock-days.
        batch: what it is composed of; None where it cannot be.
        why_not: why it cannot; None where it can.
    """

    samples: int
    batch: Batch | None
    why_not: str | None = None


@dataclass(frozen=True)
class Machine:
    """What a step costs here.

    Attributes:
        first_seconds: of a step besides its blocks.
        block_seconds: of each block, graphs kept.
        block_bytes: what the graph of a block keeps.
        free_bytes: what graphs may take.
        parameters: of the phase.
        device: where it was measured, and the threads.
    """

    first_seconds: float
    block_seconds: float
    block_bytes: float
    free_bytes: float
    parameters: int
    device: str

    @classmethod
    def of_times(cls, times: dict[int, float], **known: Any) -> Machine:
        """From the seconds of a step by its number of blocks, one number or two."""
        (few, quick), (many, slow) = min(times.items()), max(times.items())
        each = (slow - quick) / (many - few) if many > few else slow / many
        each = max(each, 0.0)
        return cls(max(0.0, quick - few * each), each, **known)


@dataclass(frozen=True)
class Row:
    """What is known of one candidate.

    Attributes:
        samples, days, blocks: of the batch; days and blocks 0 where it cannot be composed.
        why_not: why it cannot be trained with; None where it can.
        sharpe_error: deviation that sampling alone gives its Sharpe ratio; None where it cannot be told.
        data_factor: stock-days to the same progress, over the fewest possible; ``1 + batch / noise scale``.
        steps_factor: steps to the same progress, over the fewest possible; ``1 + noise scale / batch``.
        steps_per_epoch: on the tier's epoch.
        step_seconds, epoch_seconds, run_seconds: predicted, on the machine that was measured.
        peak_bytes: predicted: graphs kept, weights, gradient, optimizer.
        micro_batches: forward passes that memory cuts the step into.
        rules: of thumb that it meets.
    """

    samples: int
    days: int
    blocks: int
    why_not: str | None = None
    sharpe_error: float | None = None
    data_factor: float | None = None
    steps_factor: float | None = None
    steps_per_epoch: float | None = None
    step_seconds: float | None = None
    epoch_seconds: float | None = None
    run_seconds: float | None = None
    peak_bytes: float | None = None
    micro_batches: int | None = None
    rules: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def parse(text: str) -> list[int]:
    """``256,1024`` as numbers, rising, each once.

    Raises:
        UseError: something else.
    """
    words = [each.strip().replace("_", "") for each in text.split(",")]
    if not all(each.isascii() and each.isdigit() and int(each) for each in words):
        raise UseError(
            f"--candidates {text}: not whole numbers of stock-days with commas. Mend: --candidates 256,1024."
        )
    return sorted(set(map(int, words)))


def composed(samples: int, tier: Tier, most_blocks: int) -> Candidate:
    """How the tier's days, stocks and blocks make a batch of ``samples`` stock-days.

    Args:
        samples: stock-days.
        tier: whose stocks per day and block days are kept.
        most_blocks: that the training days hold.
    """
    block = tier.batch.block_days * tier.batch.stocks_per_day
    if samples % block:
        return Candidate(samples, None, f"no whole blocks of {block:,} stock-days")
    batch = tier.batch.model_copy(update={"days": samples // tier.batch.stocks_per_day})
    if batch.blocks > most_blocks:
        return Candidate(samples, None, f"the training days hold {most_blocks} separate blocks, it has {batch.blocks}")
    if tier.objective.sharpe_kind == "portfolio" and tier.objective.weights.sharpe and batch.days < LEAST_DAYS:
        return Candidate(samples, None, f"{batch.days} days, and a portfolio Sharpe ratio needs {LEAST_DAYS}")
    return Candidate(samples, batch)


def row(
    candidate: Candidate, tier: Tier, noise: Estimate, error: float | None, machine: Machine, cut: tuple[int, int],
    rules: Rules,
) -> Row:  # fmt: skip
    """What is known of a candidate that can be trained with.

    Args:
        candidate: it.
        tier: whose epoch and epochs are predicted.
        noise: the measured noise scale.
        error: sampling deviation of its Sharpe ratio.
        machine: what a step costs.
        cut: blocks of a micro-batch, and graphs kept, that memory allows.
        rules: of thumb.
    """
    assert candidate.batch is not None
    batch, samples = candidate.batch, candidate.samples
    kept = min(batch.blocks, cut[0] * cut[1])
    seconds = machine.first_seconds + machine.block_seconds * (batch.blocks + REPLAY * (batch.blocks - kept))
    steps = tier.epoch_stock_days / samples
    epochs = sum(phase.epochs for phase in tier.phases_to_run().values())
    scale = noise.noise_scale
    return Row(
        samples, batch.days, batch.blocks,
        sharpe_error=error,
        data_factor=1 + samples / scale if scale else None,
        steps_factor=1 + scale / samples if scale is not None else None,
        steps_per_epoch=steps,
        step_seconds=seconds,
        epoch_seconds=steps * seconds,
        run_seconds=steps * seconds * epochs,
        peak_bytes=kept * machine.block_bytes + STATE_BYTES * machine.parameters,
        micro_batches=-(-batch.blocks // cut[0]),
        rules=tuple(rules.met(samples)),
    )  # fmt: skip


def conclusions(tier: Tier, rows: Sequence[Row], noise: Estimate, rules: Rules, where: str) -> Iterator[str]:
    """What follows from the table, and what does not, in sentences.

    Args:
        tier: as it is.
        rows: of the candidates.
        noise: the measured noise scale.
        rules: of thumb.
        where: at which weights it was measured.
    """
    yield from _of_noise(tier.batch.samples, noise, where)
    own = next((each.sharpe_error for each in rows if each.samples == tier.batch.samples), None)
    if own is not None:
        yield (
            f"Sharpe error: four times the days halve it. At {tier.batch.samples:,} stock-days two batch Sharpe ratios "
            f"less than {INDEPENDENT * own:.2f} apart cannot be told apart."
        )
    yield (
        f"Rules of thumb for {rules.parameters:,} parameters: √p = {rules.root:,.0f}, 10√p = {rules.ten_roots:,.0f}, "
        f"the original's table at least {rules.least:,}, best {rules.best[0]:,} to {rules.best[1]:,}"
        f"{'; 10√p is above what the table calls best' if rules.disagree else ''}. The tier's "
        f"{tier.batch.samples:,} meets: {', '.join(rules.met(tier.batch.samples)) or 'none'}. They know nothing of the "
        "data."
    )
    yield (
        "Does not follow: which batch has the best validation or test Sharpe ratio. The noise scale tells how fast the "
        "objective falls, of plain gradient descent near these weights; it grows as a model learns, and AdamW may "
        "allow more. --branch measures it directly."
    )


def _of_noise(samples: int, noise: Estimate, where: str) -> Iterator[str]:
    if noise.noise_scale is None:
        least = f" It is at least {noise.at_least:,.0f} stock-days (97.5 %)." if noise.at_least else ""
        yield f"Gradient noise scale {where}: not estimable, {noise.reason}.{least}"
        if noise.at_least and noise.at_least > samples:
            yield (
                f"Follows: the tier's batch of {samples:,} stock-days is below it. A larger one saves steps almost in "
                "proportion; how large it may become is not told."
            )
        else:
            yield "Follows: nothing about a larger or smaller batch."
        return
    low, high = noise.low or 0.0, noise.high or 0.0
    yield (
        f"Gradient noise scale {where}: {noise.noise_scale:,.0f} stock-days (95 %: {low:,.0f} to {high:,.0f}), from "
        f"{noise.measured} steps."
    )
    if samples < low:
        text = "is below it: noise rules its gradient, and a larger batch saves steps almost in proportion"
    elif samples > high:
        text = "is above it: a larger batch costs data and saves few steps"
    else:
        text = "is within its error: twice the batch saves about a third of the steps and costs half as much data again"
    yield f"Follows: the tier's batch of {samples:,} stock-days {text}."


def table(rows: Sequence[Row], own: int) -> Iterator[str]:
    """The rows in columns; ``own`` is the tier's batch, marked with a star."""
    yield (
        f"{'batch':>8} {'days':>5} {'steps/':>8} {'Sharpe':>7} {'data':>6} {'steps':>7} {'step':>8} {'epoch':>8} "
        f"{'run':>8} {'memory':>8} {'micro-':>7}"
    )
    yield (
        f"{'':>8} {'':>5} {'epoch':>8} {'error':>7} {'×':>6} {'×':>7} {'s':>8} {'':>8} {'':>8} {'MB':>8} "
        f"{'batches':>7}  rules met"
    )
    for each in rows:
        mark = "*" if each.samples == own else " "
        if each.why_not is not None:
            yield f"{each.samples:>7,}{mark} not possible: {each.why_not}"
            continue
        yield (
            f"{each.samples:>7,}{mark} {each.days:>5} {_fixed(each.steps_per_epoch, 1):>8} "
            f"{_fixed(each.sharpe_error, 3):>7} {_fixed(each.data_factor, 2):>6} {_fixed(each.steps_factor, 1):>7} "
            f"{_fixed(each.step_seconds, 3):>8} {duration(each.epoch_seconds):>8} "
            f"{duration(each.run_seconds):>8} {_fixed(each.peak_bytes, 0, 1e6):>8} "
            f"{each.micro_batches or 0:>7}  {' '.join(each.rules) or '–'}"
        )


def _fixed(value: float | None, digits: int, unit: float = 1.0) -> str:
    return "–" if value is None else f"{value / unit:,.{digits}f}"
