"""The network: from the features of some blocks to a score and return quantiles of every stock and decision day.

Features of a day become an embedding once per (day, stock), windows are views of the embedded days, and each part
works on all windows of all blocks at once. Nothing crosses blocks, so that any grouping gives the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atft.blocks import EDGE_FEATURES, Blocks
from atft.model.adaptive_norm import AdaptiveNorm
from atft.model.dropout import KeyedDropout
from atft.model.graph import GraphAttention
from atft.model.heads import QuantileHead, ScoreHead
from atft.model.random_keys import RandomKeys
from atft.model.temporal import Temporal
from atft.model.variable_selection import PlainEmbedding, VariableSelection

PARTS = frozenset({"variable_selection", "temporal", "adaptive_norm", "graph"})
"""The parts that phases switch on."""


@dataclass(frozen=True)
class NetworkShape:
    """What fixes the network's parameters.

    Attributes:
        features: features of a stock on a day.
        hidden_size: size of every embedding and state.
        window: days of a window.
        attention_heads: heads of the last-day attention.
        graph_heads: heads of the graph attention.
        lstm_layers: layers of the LSTM.
        dropout: probability of every dropout, in [0, 1).
        fan_frequencies: dominant frequencies that are removed from a window.
        san_slices: slices of a window that are normalised by themselves.
        quantiles: levels of the quantile heads, in (0, 1), rising.
        horizons: horizons of the quantile heads; 0 for none.
        edge_features: features of an edge of the graph.
    """

    features: int
    hidden_size: int
    window: int
    attention_heads: int
    graph_heads: int
    lstm_layers: int
    dropout: float
    fan_frequencies: int
    san_slices: int
    quantiles: tuple[float, ...]
    horizons: int
    edge_features: int = len(EDGE_FEATURES)


@dataclass(frozen=True)
class Output:
    """What the network says about some blocks.

    Attributes:
        scores: ``[blocks, days, stocks]`` in the dtype of the parameters; 0 where not scored.
        quantiles: ``[blocks, days, stocks, horizons, quantiles]``, simple returns, rising; 0 where not scored.
    """

    scores: Tensor
    quantiles: Tensor


class Network(nn.Module):
    """Variable selection, adaptive normalisation, LSTM with attention, graph attention and heads.

    Each part can be off, which costs nothing: variable selection leaves a linear embedding, the temporal part the
    window's last day, adaptive normalisation and graph the identity.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        size = shape.hidden_size
        self.plain_embedding = PlainEmbedding(shape.features, size)
        self.variable_selection = VariableSelection(shape.features, size)
        # One mask for all days of a stock in a block: the same in every window that a day is seen through.
        self.embedding_dropout = KeyedDropout(shape.dropout, "embedding", over=(1,))
        self.adaptive_norm = AdaptiveNorm(size, shape.window, shape.fan_frequencies, shape.san_slices)
        self.temporal = Temporal(size, shape.attention_heads, shape.lstm_layers, shape.dropout)
        self.graph = GraphAttention(size, shape.graph_heads, shape.edge_features, shape.dropout)
        self.score_head = ScoreHead(size, shape.dropout)
        self.quantile_head = (
            QuantileHead(size, shape.horizons, shape.quantiles, shape.dropout) if shape.horizons else None
        )

    def forward(self, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None) -> Output:
        """Score every stock of every decision day.

        Args:
            blocks: what the network sees; labels are not looked at.
            parts: parts that are on, of ``PARTS``.
            keys: randomness of the step, None for evaluation.

        Raises:
            ValueError: an unknown part, or blocks of another window or number of features.
        """
        self._check(blocks, parts)
        states = self._states(self._embed(blocks, parts, keys), blocks, parts, keys)
        # Small beside the windows, and where rounding does most harm: a score in 8 bits would tie stocks.
        with torch.autocast(states.device.type, enabled=False):
            states = states.to(self.score_head.score.weight.dtype)
            if "graph" in parts:
                states = self.graph(states, blocks.neighbours, blocks.edges, blocks.scored, keys, blocks.numbers)
            scores, quantiles = self._heads(states, keys, blocks.numbers)
        return Output(
            scores=torch.where(blocks.scored, scores, 0.0),
            quantiles=torch.where(blocks.scored[..., None, None], quantiles, 0.0),
        )

    def _heads(self, states: Tensor, keys: RandomKeys | None, numbers: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.score_head(states, keys, numbers)
        if self.quantile_head is None:
            return scores, scores.new_zeros(*scores.shape, 0, len(self.shape.quantiles))
        quantiles = self.quantile_head(states, keys, numbers)
        # An objective without quantiles still gives their head a gradient, of 0, on every worker.
        return scores + 0.0 * quantiles.sum((-2, -1)), quantiles

    def parameters_of(self, parts: frozenset[str]) -> list[nn.Parameter]:
        """The parameters that take part when ``parts`` are on, in a fixed order; all of them get a gradient."""
        return [parameter for module in self._modules_of(parts) for parameter in module.parameters()]

    def _modules_of(self, parts: frozenset[str]) -> list[nn.Module]:
        chosen: list[nn.Module] = [self.variable_selection if "variable_selection" in parts else self.plain_embedding]
        named = [("adaptive_norm", self.adaptive_norm), ("temporal", self.temporal), ("graph", self.graph)]
        chosen += [module for name, module in named if name in parts]
        heads = (self.score_head, self.quantile_head)
        return chosen + [head for head in heads if head is not None]

    def _embed(self, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None) -> Tensor:
        """``[blocks, context days, stocks, hidden]``."""
        known = ~blocks.features.isnan() & blocks.present[..., None]
        values = blocks.features.to(self.score_head.score.weight.dtype)
        layer = self.variable_selection if "variable_selection" in parts else self.plain_embedding
        # In bfloat16 this layer alone takes the gradient of the whole from .5 % to 4 % off.
        with torch.autocast(values.device.type, enabled=False):
            embedded: Tensor = self.embedding_dropout(layer(values, known), keys, blocks.numbers)
        return embedded

    def _states(self, embedded: Tensor, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None) -> Tensor:
        """``[blocks, days, stocks, hidden]``: each window, or its last day where no part looks at windows."""
        shape = (*blocks.scored.shape, embedded.shape[-1])
        if not parts & {"adaptive_norm", "temporal"}:
            return embedded[:, self.shape.window - 1 :]
        seen = windows(embedded, self.shape.window)
        present = windows(blocks.present, self.shape.window)
        if "adaptive_norm" in parts:
            seen = self.adaptive_norm(seen, present)
        states = self.temporal(seen, present, keys, blocks.numbers) if "temporal" in parts else seen[-1]
        return states.reshape(shape)

    def _check(self, blocks: Blocks, parts: frozenset[str]) -> None:
        if unknown := parts - PARTS:
            raise ValueError(f"unknown parts {sorted(unknown)}; there are {sorted(PARTS)}")
        if blocks.window != self.shape.window:
            raise ValueError(f"blocks have a window of {blocks.window} days, the network one of {self.shape.window}")
        if blocks.features.shape[-1] != self.shape.features:
            raise ValueError(f"blocks have {blocks.features.shape[-1]} features, the network {self.shape.features}")


def windows(days: Tensor, length: int) -> Tensor:
    """All windows of ``length`` days, time first.

    Args:
        days: ``[blocks, context days, stocks, ...]``.
        length: days of a window.

    Returns:
        ``[length, blocks, days * stocks, ...]`` with ``days = context days - length + 1``. A gather of whole days:
        its backward adds whole days too, where that of ``unfold`` goes value by value.
    """
    blocks, context, stocks = days.shape[:3]
    decisions = context - length + 1
    start = torch.arange(blocks, device=days.device)[:, None] * context
    start = start + torch.arange(decisions, device=days.device)
    index = torch.arange(length, device=days.device)[:, None] + start.flatten()
    gathered = days.flatten(0, 1).index_select(0, index.flatten())
    return gathered.view(length, blocks, decisions * stocks, *days.shape[3:])
