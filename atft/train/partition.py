"""How a worker cuts its shard into micro-batches: pure decisions that never touch the statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MEMORY_SHARE = 0.4
"""Share of the free memory that the graphs of one step may take."""


@dataclass(frozen=True)
class Cut:
    """How a worker computes its shard.

    Attributes:
        blocks: blocks of one forward pass.
        kept: micro-batches whose graphs are kept for the backward pass; the others are run again.
    """

    blocks: int
    kept: int

    def halved(self) -> Cut | None:
        """What to try when memory ran out: half as many blocks at once, then half as many graphs; None at the end."""
        if self.blocks > 1:
            return Cut((self.blocks + 1) // 2, self.kept)
        return Cut(1, self.kept // 2) if self.kept > 1 else None


def cuts(blocks: int, per_micro_batch: int) -> list[tuple[int, int]]:
    """Half-open runs of block numbers, ``per_micro_batch`` each, the last one possibly shorter."""
    return [(first, min(first + per_micro_batch, blocks)) for first in range(0, blocks, per_micro_batch)]


def cut_for(
    micro_batch_blocks: int | Literal["auto"],
    kept_graphs: int | Literal["auto"],
    *,
    blocks: int,
    block_bytes: float,
    free_bytes: float,
) -> Cut:
    """The cut of a shard of ``blocks`` blocks: as stated, or as many graphs as have room, the last one always.

    Args:
        micro_batch_blocks: as the tier states it.
        kept_graphs: as the tier states it.
        blocks: of the shard.
        block_bytes: what the graph of one block keeps.
        free_bytes: memory that is left.
    """
    room = max(1, int(MEMORY_SHARE * free_bytes / block_bytes))
    per = min(room if micro_batch_blocks == "auto" else micro_batch_blocks, blocks)
    micro_batches = -(-blocks // per)
    kept = max(1, room // per) if kept_graphs == "auto" else kept_graphs
    return Cut(per, max(1, min(kept, micro_batches)))
