"""A dense layer: what a multi-layer perceptron is made of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from atft.model.dropout import KeyedDropout
from atft.model.random_keys import RandomKeys


class Dense(nn.Module):
    """``dropout(LayerNorm(elu(W x + b)))``, with a Xavier map at first.

    Args:
        inputs: size of ``x``.
        size: size of what comes out.
        dropout: probability, in [0, 1).
        layer: name that keys the dropout.
    """

    def __init__(self, inputs: int, size: int, dropout: float, layer: str) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, size)
        self.norm = nn.LayerNorm(size)
        self.dropout = KeyedDropout(dropout, layer)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, keys: RandomKeys | None, numbers: Tensor) -> Tensor:
        """``[blocks, ..., size]`` from ``[blocks, ..., inputs]``."""
        found: Tensor = self.dropout(self.norm(F.elu(self.linear(x))), keys, numbers)
        return found
