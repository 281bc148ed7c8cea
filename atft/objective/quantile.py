"""The quantile (pinball) loss."""

from __future__ import annotations

import torch
from torch import Tensor


def quantile_losses(predicted: Tensor, actual: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and count of the pinball losses of each day.

    Args:
        predicted: ``[..., stocks, horizons, levels]`` predicted quantiles, in units of ``actual``.
        actual: ``[..., stocks, horizons]``, NaN where unknown.
        levels: ``[levels]`` in (0, 1).

    Returns:
        ``[...]`` sum of the losses and ``[...]`` number of (stock, horizon, level) that it runs over.

    Source: Koenker and Bassett (1978).
    """
    known = torch.isfinite(actual)
    error = torch.where(known, actual, 0.0)[..., None] - predicted
    loss = torch.maximum(levels * error, (levels - 1) * error)
    loss = torch.where(known[..., None], loss, 0.0)
    return loss.sum((-3, -2, -1)), known.sum((-2, -1)) * levels.numel()
