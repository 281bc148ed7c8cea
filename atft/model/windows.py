"""Windows over the days of a block."""

from __future__ import annotations

import torch
from torch import Tensor


def windows(days: Tensor, length: int) -> Tensor:
    """All windows of ``length`` days, time first.

    Args:
        days: ``[blocks, context days, stocks, ...]``.
        length: days of a window.

    Returns:
        ``[length, blocks, days * stocks, ...]`` with ``days = context days - length + 1``. A gather of whole days:
        its backward adds whole days too, where that of ``unfold`` goes value by value.
    """
    blocks, context, stocks = days.shape[:3]
    decisions = context - length + 1
    start = torch.arange(blocks, device=days.device)[:, None] * context
    start = start + torch.arange(decisions, device=days.device)
    index = torch.arange(length, device=days.device)[:, None] + start.flatten()
    gathered = days.flatten(0, 1).index_select(0, index.flatten())
    return gathered.view(length, blocks, decisions * stocks, *days.shape[3:])
