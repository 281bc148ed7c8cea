"""From scores to the returns of a dollar-neutral portfolio, as pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_GROSS = 1e-12
"""Scores whose absolute deviations sum to no more than this are constant: they take no position."""


def demean(values: Tensor, valid: Tensor) -> Tensor:
    """``values`` minus their mean over the valid entries of the last dimension; 0 where not valid.

    Args:
        values: ``[..., stocks]``.
        valid: ``[..., stocks]`` bool.
    """
    kept = torch.where(valid, values, 0.0)
    mean = kept.sum(-1, keepdim=True) / valid.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(valid, kept - mean, 0.0)


def positions(scores: Tensor, valid: Tensor) -> Tensor:
    """Dollar-neutral, unit-gross positions in proportion to the demeaned scores of each day.

    Args:
        scores: ``[..., days, stocks]``, any float dtype.
        valid: ``[..., days, stocks]`` bool, stocks that may be held.

    Returns:
        ``[..., days, stocks]`` in the dtype of ``scores``; each day sums to 0 and its absolute values to 1.
        A day of constant scores has no position and passes no gradient.
    """
    centred = demean(scores, valid)
    gross = centred.abs().sum(-1, keepdim=True)
    flat = gross <= SMALLEST_GROSS  # not its opposite: a score that is not a number must stay visible
    return torch.where(flat, 0.0, centred / torch.where(flat, 1.0, gross))


def gains(held: Tensor, returns: Tensor, turnover_cost: float) -> Tensor:
    """What each position earns on each day, less the cost of having traded into it inside the block.

    Args:
        held: ``[blocks, days, stocks]`` positions.
        returns: ``[blocks, days, stocks]`` simple returns, 0 where unknown.
        turnover_cost: cost of one unit traded, as a fraction. A block's first day has no cost,
            since what was held before is not part of the block.

    Returns:
        ``[blocks, days, stocks]``; the sum over stocks is the portfolio's return of the day.
    """
    earned = held * returns
    if not turnover_cost or held.shape[1] < 2:
        return earned
    traded = torch.diff(held, dim=1).abs()
    return earned - turnover_cost * torch.nn.functional.pad(traded, (0, 0, 1, 0))
