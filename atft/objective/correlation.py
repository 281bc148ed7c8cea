"""Correlations of a cross-section: Pearson (CS-IC) and a differentiable Spearman (rank IC)."""

from __future__ import annotations

import torch
from torch import Tensor

from atft.objective.portfolio import demean

SMALLEST_VARIANCE = 1e-24
"""Below this sum of squared deviations a cross-section does not vary: its correlation is 0."""


def pearson(left: Tensor, right: Tensor, valid: Tensor) -> Tensor:
    """Pearson correlation over the valid entries of the last dimension.

    Args:
        left: ``[..., stocks]``.
        right: ``[..., stocks]``.
        valid: ``[..., stocks]`` bool.

    Returns:
        ``[...]`` in ``[-1, 1]``; 0, without gradient, where either side does not vary.
    """
    x, y = demean(left, valid), demean(right, valid)
    product = x.square().sum(-1) * y.square().sum(-1)
    flat = product <= SMALLEST_VARIANCE
    return torch.where(flat, 0.0, (x * y).sum(-1) / torch.where(flat, 1.0, product).sqrt())


def soft_ranks(values: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Ranks that pass a gradient: each value's rank is the number of values softly below it.

    ``rank_i = ½ + Σ_j σ((x_i - x_j) / (temperature · s))`` over valid ``j``, with ``s`` the deviation of the valid
    values, taken as a constant. As the temperature goes to 0 this is the rank with ties averaged.

    Args:
        values: ``[..., stocks]``.
        valid: ``[..., stocks]`` bool.
        temperature: softness in standard deviations of the cross-section; positive.

    Returns:
        ``[..., stocks]``, from about 1; 0 where not valid.

    Source: the pairwise-sigmoid rank of Qin, Liu and Li (2010), "A general approximation framework for direct
    optimization of information retrieval measures", eq. 11.
    """
    centred = demean(values, valid)
    count = valid.sum(-1, keepdim=True).clamp_min(1)
    deviation = (centred.detach().square().sum(-1, keepdim=True) / count).sqrt()
    scaled = centred / (temperature * torch.where(deviation > 0, deviation, 1.0))
    below = torch.sigmoid(scaled[..., :, None] - scaled[..., None, :])
    return torch.where(valid, (below * valid[..., None, :]).sum(-1) + 0.5, 0.0)


def hard_ranks(values: Tensor, valid: Tensor) -> Tensor:
    """Ranks from 1 with ties averaged, over the valid entries of the last dimension; 0 where not valid.

    Args:
        values: ``[..., stocks]``.
        valid: ``[..., stocks]`` bool.
    """
    sign = torch.sign(values[..., :, None] - values[..., None, :])
    below = (0.5 * (1 + sign) * valid[..., None, :]).sum(-1)
    return torch.where(valid, below + 0.5, 0.0)


def rank_correlation(scores: Tensor, returns: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Spearman's correlation of scores (softly ranked) and returns (ranked), per cross-section.

    Args:
        scores: ``[..., stocks]``; the gradient flows to these.
        returns: ``[..., stocks]``.
        valid: ``[..., stocks]`` bool.
        temperature: see :func:`soft_ranks`; equals scipy's ``spearmanr`` as it goes to 0.

    Returns:
        ``[...]``; 0 where either side does not vary.
    """
    return pearson(soft_ranks(scores, valid, temperature), hard_ranks(returns, valid), valid)
