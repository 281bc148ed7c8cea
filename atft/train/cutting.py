"""How finely a run cuts its shards, from what a block's graph keeps and what memory its workers have."""

from __future__ import annotations

from atft.errors import RunError
from atft.model.random_keys import RandomKeys
from atft.train.memory import free_bytes, kept_bytes
from atft.train.partition import Cut, cut_for
from atft.train.setup import Setup
from atft.train.step import is_out_of_memory


def decided_cut(setup: Setup, parts: frozenset[str]) -> Cut:
    """The cut of all workers, that of the one with the least room; collective.

    Args:
        setup: the tier made ready.
        parts: all parts of the network that any phase has on.

    Raises:
        RunError: memory does not even hold the graph of one block.
    """
    runtime, group = setup.tier.runtime, setup.group
    measured = "auto" in (runtime.micro_batch_blocks, runtime.kept_graphs)
    found = cut_for(
        runtime.micro_batch_blocks, runtime.kept_graphs, blocks=setup.shards[0],
        block_bytes=block_bytes(setup, parts) if measured else 1.0,
        free_bytes=free_bytes(setup.device) / (1 if setup.device.type == "cuda" else group.local_size),
    )  # fmt: skip
    return Cut(int(group.least(found.blocks)), int(group.least(found.kept)))


def block_bytes(setup: Setup, parts: frozenset[str]) -> float:
    """What the graph of one block keeps, measured.

    Raises:
        RunError: memory does not hold it.
    """
    batch = setup.tier.batch
    plan = setup.sampler.plan(0, 0, 1)
    blocks = setup.gatherer.blocks(plan.first_days, plan.stocks, plan.numbers, batch.block_days)
    setup.network.train()
    try:
        return kept_bytes(
            lambda: setup.step.forward(blocks, parts, RandomKeys(setup.tier.seed, 0)), setup.network.parameters()
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            f"memory does not hold the graph of one block of {batch.block_days} days × {batch.stocks_per_day} stocks. "
            "Mend: a machine with more memory, or a smaller batch.block_days, which changes what is learned."
        ) from error
