"""The Sharpe ratio from the moments of a sample."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_STD = 1e-12
"""A sample whose standard deviation is no more than this does not vary: its Sharpe ratio is 0."""


def sharpe_from_moments(count: Tensor, total: Tensor, squares: Tensor) -> Tensor:
    """Mean over population standard deviation, from ``n``, ``Σx`` and ``Σx²``.

    Args:
        count: scalar, observations.
        total: scalar, sum of the observations.
        squares: scalar, sum of their squares.

    Returns:
        Scalar in float64, per period of one observation; 0, without gradient, where the deviation is at most
        ``SMALLEST_STD``.

    Source: Sharpe (1994); the moments are taken as in Lo (2002), eq. 2.
    """
    count = count.double().clamp_min(1)
    mean = total.double() / count
    variance = squares.double() / count - mean.square()
    flat = variance <= SMALLEST_STD**2
    return torch.where(flat, 0.0, mean / torch.where(flat, 1.0, variance).sqrt())
