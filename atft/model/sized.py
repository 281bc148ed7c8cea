"""Networks that have every parameter and no values, to count them by: made at once, without torch-geometric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from atft.model.architectures import ARCHITECTURES
from atft.model.gating import GatedResidual
from atft.model.network import Network
from atft.model.ranking import NetworkShape, RankingNetwork


def sized(architecture: str, shape: NetworkShape) -> RankingNetwork:
    """The network of an architecture with all its parameters, unset: it can compute nothing of use.

    Args:
        architecture: as a tier names it.
        shape: what fixes its parameters.
    """
    kind = ARCHITECTURES[architecture]
    with _Undrawn():
        return (_SizedNetwork if kind is Network else kind)(shape)


class _Undrawn(TorchFunctionMode):
    """Draws no initial values. (Torch's meta device would do too, but loads its compiler first: a second.)"""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **named)
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


class _SizedNetwork(Network):
    """The network with a graph layer that has the parameters of the real one and nothing else."""

    def graph_layer(self, shape: NetworkShape) -> nn.Module:
        return _SizedGraph(shape.hidden_size, shape.edge_features, shape.dropout)


class _SizedGraph(nn.Module):
    """The parameters of :class:`~atft.model.graph.GraphAttention`, whose heads share its channels."""

    def __init__(self, hidden_size: int, edge_features: int, dropout: float) -> None:
        super().__init__()
        self.states = nn.Linear(hidden_size, hidden_size)
        self.edges = nn.Linear(edge_features, hidden_size, bias=False)
        self.attention = nn.Parameter(torch.empty(3, hidden_size))  # of neighbour, listener and edge
        self.residual = GatedResidual(hidden_size, dropout, "graph")
