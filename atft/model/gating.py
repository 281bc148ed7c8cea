"""Gated residuals: the network's way to add what a layer found to what it was given."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atft.model.dropout import KeyedDropout
from atft.model.random_keys import RandomKeys


class GatedResidual(nn.Module):
    """``LayerNorm(skip + value(x) * sigmoid(gate(x)))``.

    At first the gate is one half for every input (weights and biases 0) and the value is a Xavier map: the branch
    enters at half its size at once, its gradient is not scaled by a closed gate, and the gate learns from there.

    Computed in the precision of its parameters under any autocast: it is small beside what it gates, and its rounding
    was most of a bfloat16 gradient's error.

    Source: Lim et al. (2021), "Temporal fusion transformers", section 4.1.
    """

    def __init__(self, size: int, dropout: float, layer: str) -> None:
        super().__init__()
        self.dropout = KeyedDropout(dropout, layer)
        self.gate = nn.Linear(size, 2 * size)
        self.norm = nn.LayerNorm(size)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        nn.init.xavier_uniform_(self.gate.weight.data[:size])

    def forward(self, x: Tensor, skip: Tensor, keys: RandomKeys | None, numbers: Tensor) -> Tensor:
        """``[blocks, ..., size]`` from ``x`` and ``skip`` of this shape."""
        dtype = self.gate.weight.dtype
        with torch.autocast(x.device.type, enabled=False):
            gated: Tensor = skip.to(dtype) + F.glu(self.gate(self.dropout(x.to(dtype), keys, numbers)))
            normalised: Tensor = self.norm(gated)
        return normalised


class GatedResidualNetwork(nn.Module):
    """A gated residual around two linear maps with an ELU between.

    Source: Lim et al. (2021), equations 2 to 4.
    """

    def __init__(self, size: int, dropout: float, layer: str) -> None:
        super().__init__()
        self.inner = nn.Linear(size, size)
        self.outer = nn.Linear(size, size)
        self.residual = GatedResidual(size, dropout, layer)

    def forward(self, x: Tensor, keys: RandomKeys | None, numbers: Tensor) -> Tensor:
        """``[blocks, ..., size]`` from ``x`` of this shape."""
        found: Tensor = self.residual(self.outer(F.elu(self.inner(x))), x, keys, numbers)
        return found
