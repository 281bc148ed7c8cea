"""How an effective batch is cut into micro-batches: pure decisions that never touch the statistics."""

from __future__ import annotations

from typing import Literal

ACTIVATION_FLOATS = 14.0
"""Floats that a forward pass keeps for each (stock-day of the context × feature × hidden unit); from measurement."""
MEMORY_SHARE = 0.4
"""Share of the free memory that the graphs of one step may take."""


def cuts(blocks: int, per_micro_batch: int) -> list[tuple[int, int]]:
    """Half-open runs of block numbers, ``per_micro_batch`` each, the last one possibly shorter."""
    return [(first, min(first + per_micro_batch, blocks)) for first in range(0, blocks, per_micro_batch)]


def activation_bytes(*, block_days: int, window: int, stocks: int, features: int, hidden_size: int) -> float:
    """Rough bytes that the graph of one block keeps: selection over features once per day, the rest per window."""
    selection = (block_days + window - 1) * stocks * features * hidden_size * 0.5
    windows = block_days * stocks * window * hidden_size
    return 4 * ACTIVATION_FLOATS * (selection / 4 + windows)


def micro_batch_blocks(wanted: int | Literal["auto"], *, blocks: int, block_bytes: float, free_bytes: float) -> int:
    """Blocks of one forward pass: as stated, or as many as have room."""
    if wanted != "auto":
        return min(wanted, blocks)
    return max(1, min(blocks, int(MEMORY_SHARE * free_bytes / block_bytes)))


def kept_graphs(
    wanted: int | Literal["auto"], *, micro_batches: int, micro_batch_bytes: float, free_bytes: float
) -> int:
    """Micro-batches whose graphs are kept: as stated, or as many as have room; the last one always."""
    if wanted != "auto":
        return max(1, min(wanted, micro_batches))
    return max(1, min(micro_batches, int(MEMORY_SHARE * free_bytes / micro_batch_bytes)))
