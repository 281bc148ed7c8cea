"""One row of float64 terms for each day: all that the objective needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atft.blocks import Blocks
from atft.objective.correlation import pearson, rank_correlation
from atft.objective.portfolio import gains, positions
from atft.objective.quantile import quantile_losses

TERMS = (
    "counted",
    "portfolio_return",
    "pooled_count",
    "pooled_sum",
    "pooled_squares",
    "ic",
    "rank_ic",
    "quantile_sum",
    "quantile_count",
)
"""Columns of a row, in this order. ``counted`` is 1 for a day of at least two valid stocks, else the row is 0."""


@dataclass(frozen=True)
class RowSettings:
    """What the rows depend on besides scores and labels.

    Attributes:
        quantile_levels: levels of the quantile heads.
        rank_temperature: softness of the ranks, in deviations of a cross-section's scores.
        turnover_cost: cost of a unit traded inside a block, as a fraction.
        with_rank_ic: fill ``rank_ic``, which costs stocks² a day; 0 otherwise.
        with_quantiles: fill the quantile terms; 0 otherwise.
    """

    quantile_levels: tuple[float, ...]
    rank_temperature: float
    turnover_cost: float
    with_rank_ic: bool
    with_quantiles: bool


def day_rows(scores: Tensor, quantiles: Tensor, blocks: Blocks, settings: RowSettings) -> Tensor:
    """Rows of the days of some blocks; each depends on days of its own block only.

    Args:
        scores: ``[blocks, days, stocks]``.
        quantiles: ``[blocks, days, stocks, horizons, levels]``.
        blocks: labels and masks, in the same order.
        settings: see :class:`RowSettings`.

    Returns:
        ``[blocks · days, len(TERMS)]`` float64. A day of fewer than two valid stocks is a row of zeros.
    """
    counted = blocks.valid.sum(-1) >= 2
    valid = blocks.valid & counted[..., None]
    scores, returns = scores.double(), blocks.returns
    held = positions(scores, valid)
    earned = torch.where(counted[..., None], gains(held, returns, settings.turnover_cost), 0.0)
    count = valid.sum(-1).double()
    pooled = earned * count[..., None]
    none = torch.zeros_like(count)
    rank_ic = rank_correlation(scores, returns, valid, settings.rank_temperature) if settings.with_rank_ic else none
    quantile_sum, quantile_count = none, none
    if settings.with_quantiles:
        levels = torch.tensor(settings.quantile_levels, dtype=torch.float64, device=scores.device)
        actual = torch.where(valid[..., None], blocks.quantile_returns, torch.nan)
        quantile_sum, quantile_count = quantile_losses(quantiles.double(), actual, levels)
    terms = {
        "counted": counted.double(),
        "portfolio_return": earned.sum(-1),
        "pooled_count": count,
        "pooled_sum": pooled.sum(-1),
        "pooled_squares": pooled.square().sum(-1),
        "ic": pearson(scores, returns, valid),
        "rank_ic": rank_ic,
        "quantile_sum": quantile_sum,
        "quantile_count": quantile_count.double(),
    }
    return torch.stack([terms[name] for name in TERMS], -1).flatten(0, 1)
