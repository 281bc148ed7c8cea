"""What advice on the batch rests on: noise after a short training, errors on the validation days, seconds, bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atft.config import Batch
from atft.data.sampler import surely_held
from atft.errors import UseError
from atft.experiment.advise import Candidate, Machine, Row, composed, row
from atft.experiment.advise_rules import Rules
from atft.experiment.advise_walk import Size, Walk
from atft.objective.mix import LEAST_DAYS
from atft.train.memory import free_bytes
from atft.train.noise_scale import WINDOW, Estimate, Measurement, estimate
from atft.train.partition import cut_for
from atft.train.phases import learning_rate
from atft.train.setup import Setup
from atft.train.validation import expected_std, sampled_table

MEASURED_BLOCKS = 16
"""Blocks that noise is measured on where the tier's batch has fewer: a batch of one block has no noise to see."""

Tell = Callable[[str, float], None]


def noise_after(walk: Walk, steps: int, seeds: Sequence[int], tell: Tell) -> Estimate:
    """Train ``steps`` steps from the initial weights of each seed, the last ones measured; ends at the first seed's.

    The tier's batch is trained on; where it has few blocks, noise is measured on larger ones at the same weights,
    since ``tr Σ`` and ``|G|²`` do not depend on the batch that they are seen in.

    Raises:
        RunError: a gradient is not finite, or memory does not suffice.
    """
    found: list[Measurement] = []
    block = walk.setup.tier.batch
    for number, seed in enumerate(reversed(seeds)):
        tell(f"{steps} steps of training, seed {seed}", number / len(seeds))
        found += _of_seed(walk, steps, seed)
    return estimate(found, block.block_days * block.stocks_per_day)


def _of_seed(walk: Walk, steps: int, seed: int) -> list[Measurement]:
    walk.begin(seed)
    own = walk.size(walk.setup.tier.batch, seed)
    wide = walk.size(measured_batch(walk.setup), seed)
    window: list[Measurement] = []
    phase = walk.phase.model_copy(update={"schedule": "constant"})
    for number in range(steps):
        measured = number >= steps - WINDOW
        if measured and wide.batch != own.batch:
            walk.measure(wide, number, walk.gradient(wide, number), window)
        outcome = walk.gradient(own, number)
        if measured and wide.batch == own.batch:
            walk.measure(own, number, outcome, window)
        walk.update(learning_rate(phase, number, steps))
    return window


def measured_batch(setup: Setup) -> Batch:
    """The tier's batch, or one of more blocks where it has few."""
    batch = setup.tier.batch
    blocks = max(batch.blocks, min(MEASURED_BLOCKS, most_blocks(setup)))
    return batch.model_copy(update={"days": blocks * batch.block_days})


def most_blocks(setup: Setup) -> int:
    """Separate blocks that the training days hold whatever their offset."""
    return surely_held(setup.periods.train, setup.tier.batch.block_days)


def machine(walk: Walk) -> Machine:
    """Time steps of two sizes, and take what memory holds."""
    setup = walk.setup
    batch = setup.tier.batch
    few = max(1, -(-LEAST_DAYS // batch.block_days))
    sizes = {few, min(max(few, MEASURED_BLOCKS // 2), max(few, most_blocks(setup)))}
    times = {blocks: walk.seconds(_of_blocks(walk, blocks)) for blocks in sorted(sizes)}
    return Machine.of_times(
        times, block_bytes=walk.block_bytes, free_bytes=free_bytes(setup.device),
        parameters=setup.phase_parameters(walk.parts),
        device=f"{setup.device.type}, {setup.threads} thread{'s' if setup.threads != 1 else ''}",
    )  # fmt: skip


def _of_blocks(walk: Walk, blocks: int) -> Size:
    batch = walk.setup.tier.batch
    return walk.size(batch.model_copy(update={"days": blocks * batch.block_days}), walk.setup.tier.seed)


def candidates(setup: Setup, wanted: Sequence[int]) -> list[Candidate]:
    """The batches that are looked at, the tier's own among them."""
    asked = sorted({*wanted, setup.tier.batch.samples})
    return [composed(samples, setup.tier, most_blocks(setup)) for samples in asked]


def rows(walk: Walk, among: Sequence[Candidate], noise: Estimate, known: Machine, rules: Rules) -> list[Row]:
    """One row for each candidate, with the sampling error of its Sharpe ratio on the validation days."""
    setup = walk.setup
    setup.network.eval()
    days = sampled_table(setup, walk.parts, setup.covering_sampler(setup.periods.validate))
    runtime, found = setup.tier.runtime, []
    for each in among:
        if each.batch is None:
            found.append(Row(each.samples, 0, 0, each.why_not, rules=tuple(rules.met(each.samples))))
            continue
        error = expected_std(days, setup.step.mix, each.batch.days, setup.tier.seed)
        cut = cut_for(
            runtime.micro_batch_blocks, runtime.kept_graphs, blocks=each.batch.blocks, block_bytes=known.block_bytes,
            free_bytes=known.free_bytes,
        )  # fmt: skip
        found.append(row(each, setup.tier, noise, error, known, (cut.blocks, cut.kept), rules))
    return found


def possible(among: Sequence[Candidate]) -> list[Candidate]:
    """Those that can be trained with.

    Raises:
        UseError: there are fewer than two.
    """
    found = [each for each in among if each.batch is not None]
    if len(found) < 2:
        why = "; ".join(f"{each.samples:,}: {each.why_not}" for each in among if each.why_not)
        raise UseError(f"--branch needs two batches to compare ({why}). Mend: --candidates of whole blocks.")
    return found
