"""Heads: the score that stocks are ranked by, and quantiles of their returns."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atft.model.gating import GatedResidualNetwork
from atft.model.random_keys import RandomKeys

TYPICAL_RETURN = 0.02
"""Standard deviation of a daily stock return, about: the unit in which the quantile heads compute."""


class ScoreHead(nn.Module):
    """One score per stock; only its order and proportions within a day matter."""

    def __init__(self, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.body = GatedResidualNetwork(hidden_size, dropout, "heads.score")
        self.score = nn.Linear(hidden_size, 1)

    def forward(self, states: Tensor, keys: RandomKeys | None, numbers: Tensor) -> Tensor:
        """``[blocks, ...]`` from ``[blocks, ..., hidden]``, in the dtype of the parameters."""
        scores: Tensor = self.score(self.body(states, keys, numbers)).squeeze(-1)
        return scores.to(self.score.weight.dtype)


class QuantileHead(nn.Module):
    """Quantiles of the return over each horizon, which cannot cross.

    The quantile nearest the median is free; the others follow from it by steps of a softplus, upwards and downwards.
    At first they are those of a normal distribution with a standard deviation of ``TYPICAL_RETURN``.

    Args:
        hidden_size: size of a state.
        horizons: number of horizons, at least 1.
        quantiles: levels in (0, 1), rising.
        dropout: probability.
    """

    def __init__(self, hidden_size: int, horizons: int, quantiles: Sequence[float], dropout: float) -> None:
        super().__init__()
        self.shape = (horizons, len(quantiles))
        self.centre = min(range(len(quantiles)), key=lambda i: abs(quantiles[i] - 0.5))
        self.body = GatedResidualNetwork(hidden_size, dropout, "heads.quantiles")
        self.raw = nn.Linear(hidden_size, horizons * len(quantiles))
        levels = torch.tensor([NormalDist().inv_cdf(q) for q in quantiles], dtype=torch.float64)
        start = torch.cat([levels[self.centre, None], levels.diff().expm1().log()])
        self.raw.weight.data.mul_(0.1)
        self.raw.bias.data.copy_(start.repeat(horizons))

    def forward(self, states: Tensor, keys: RandomKeys | None, numbers: Tensor) -> Tensor:
        """``[blocks, ..., horizons, quantiles]`` in units of return, rising, from ``[blocks, ..., hidden]``."""
        raw = self.raw(self.body(states, keys, numbers)).to(self.raw.weight.dtype)
        raw = raw.view(*states.shape[:-1], *self.shape)
        steps = F.softplus(raw[..., 1:])
        # A product, since a cumulative sum has no deterministic form on a GPU.
        climb = F.pad(steps @ torch.ones(steps.shape[-1], steps.shape[-1]).triu().to(steps), (1, 0))
        rising: Tensor = raw[..., :1] + climb - climb[..., self.centre, None]
        return TYPICAL_RETURN * rising
