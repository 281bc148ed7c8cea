"""What a stock's neighbours say: graph attention over the cross-section of each day."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv

from atft.model.gating import GatedResidual
from atft.model.random_keys import RandomKeys


class GraphAttention(nn.Module):
    """Graph attention with edge features and a gated residual; all days of all blocks are one disjoint graph.

    A stock attends over its neighbours only: it keeps its own state through the residual. The attention's own
    dropout stays 0, the gated residual applies ours.

    Source: Velickovic et al. (2018), "Graph attention networks"; torch_geometric's ``GATConv``.
    """

    def __init__(self, hidden_size: int, heads: int, edge_features: int, dropout: float) -> None:
        super().__init__()
        if hidden_size % heads:
            raise ValueError(f"hidden_size = {hidden_size} is not a multiple of graph_heads = {heads}")
        self.attention = GATConv(
            hidden_size, hidden_size // heads, heads, edge_dim=edge_features, add_self_loops=False, dropout=0.0
        )
        self.residual = GatedResidual(hidden_size, dropout, "graph")

    def forward(
        self,
        states: Tensor,
        neighbours: Tensor,
        edges: Tensor,
        scored: Tensor,
        keys: RandomKeys | None,
        numbers: Tensor,
    ) -> Tensor:
        """Let each scored stock hear its scored neighbours.

        Args:
            states: ``[blocks, days, stocks, hidden]``.
            neighbours: ``[blocks, days, stocks, k]``, position of each neighbour, -1 where there is none.
            edges: ``[blocks, days, stocks, k, edge features]``.
            scored: ``[blocks, days, stocks]`` bool; other stocks neither speak nor listen.
            keys: randomness of the step, None for evaluation.
            numbers: ``[blocks]``, number of each block in its effective batch.

        Returns:
            ``[blocks, days, stocks, hidden]``.
        """
        edge_index, edge_features = disjoint_edges(neighbours, edges, scored)
        heard = self.attention(states.flatten(0, 2), edge_index, edge_features.to(states.dtype))
        # Without any edge GATConv skips these two; every parameter takes part on every worker all the same.
        heard = heard + 0.0 * (self.attention.lin_edge.weight.sum() + self.attention.att_edge.sum())
        joined: Tensor = self.residual(heard.view(states.shape), states, keys, numbers)
        return joined


def disjoint_edges(neighbours: Tensor, edges: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
    """The edges between scored stocks, each day of each block a component of its own.

    Returns:
        ``[2, edges]`` int64, from a neighbour (row 0) to the stock that hears it (row 1), numbered through
        ``[blocks, days, stocks]``; and ``[edges, edge features]``.
    """
    blocks, days, stocks, _ = neighbours.shape
    position = neighbours.clamp_min(0)
    speaks = scored.gather(-1, position.flatten(-2)).view_as(position)
    there = (neighbours >= 0) & scored[..., None] & speaks
    first = torch.arange(0, blocks * days * stocks, stocks, device=neighbours.device).view(blocks, days, 1, 1)
    listener = first + torch.arange(stocks, device=neighbours.device)[:, None]
    return torch.stack([(first + position)[there], listener.expand_as(position)[there]]), edges[there]
