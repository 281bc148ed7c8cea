"""What a phase sets: learning rate by step, and the warning when loss and metric part ways."""

from __future__ import annotations

import math
from collections.abc import Sequence

from atft.config import Phase

FLOOR = 0.05
"""Share of the peak that the cosine schedule falls to."""


def learning_rate(phase: Phase, step: int, steps: int) -> float:
    """Learning rate of the phase's step ``step`` (from 0) of ``steps``.

    Rises linearly over ``warmup_steps``; then stays, or falls along a half cosine to ``FLOOR`` of its peak.
    """
    warm = min(phase.warmup_steps, steps)
    if step < warm:
        return phase.learning_rate * (step + 1) / warm
    if phase.schedule == "constant":
        return phase.learning_rate
    done = (step - warm) / max(1, steps - warm - 1)
    return phase.learning_rate * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done)))


def divergence(losses: Sequence[float], metrics: Sequence[float], epochs: int = 3) -> int | None:
    """Where the training loss fell while the validation metric fell too, over each of the last ``epochs`` epochs.

    Args:
        losses: training loss by epoch, to be small.
        metrics: validation Sharpe ratio by epoch, to be large.
        epochs: how many epochs in a row make a divergence.

    Returns:
        Index of the epoch since which both fall, or None.
    """
    run = 0
    for now in range(len(losses) - 1, 0, -1):
        if not (losses[now] < losses[now - 1] and metrics[now] < metrics[now - 1]):
            break
        run += 1
    return len(losses) - 1 - run if run >= epochs else None
