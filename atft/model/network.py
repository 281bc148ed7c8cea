"""The network: from the features of some blocks to a score and return quantiles of every stock and decision day.

Features of a day become an embedding once per (day, stock), windows are views of the embedded days, and each part
works on all windows of all blocks at once. Nothing crosses blocks, so that any grouping gives the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atft.blocks import Blocks
from atft.model.adaptive_norm import AdaptiveNorm
from atft.model.dropout import KeyedDropout
from atft.model.random_keys import RandomKeys
from atft.model.ranking import PARTS, NetworkShape, Output, RankingNetwork
from atft.model.temporal import Temporal
from atft.model.variable_selection import PlainEmbedding, VariableSelection
from atft.model.windows import windows

__all__ = ["PARTS", "Network", "NetworkShape", "Output", "windows"]


class Network(RankingNetwork):
    """Variable selection, adaptive normalisation, LSTM with attention, graph attention and heads.

    Each part can be off, which costs nothing: variable selection leaves a linear embedding, the temporal part the
    window's last day, adaptive normalisation and graph the identity.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        size = shape.hidden_size
        self.plain_embedding = PlainEmbedding(shape.features, size)
        self.variable_selection = VariableSelection(shape.features, size)
        # One mask for all days of a stock in a block: the same in every window that a day is seen through.
        self.embedding_dropout = KeyedDropout(shape.dropout, "embedding", over=(1,))
        self.adaptive_norm = AdaptiveNorm(size, shape.window, shape.fan_frequencies, shape.san_slices)
        self.temporal = Temporal(size, shape.attention_heads, shape.lstm_layers, shape.dropout)
        self.graph = self.graph_layer(shape)
        self.add_heads()

    def graph_layer(self, shape: NetworkShape) -> nn.Module:
        """The part ``graph``; what only counts parameters puts one in its place that loads nothing."""
        from atft.model.graph import GraphAttention  # torch-geometric takes longer to load than torch itself

        return GraphAttention(shape.hidden_size, shape.graph_heads, shape.edge_features, shape.dropout)

    def parameters_of(self, parts: frozenset[str]) -> list[nn.Parameter]:
        """The parameters that take part when ``parts`` are on, in a fixed order; all of them get a gradient."""
        return [parameter for module in self._modules_of(parts) for parameter in module.parameters()]

    def _modules_of(self, parts: frozenset[str]) -> list[nn.Module]:
        chosen: list[nn.Module] = [self.variable_selection if "variable_selection" in parts else self.plain_embedding]
        named = [("adaptive_norm", self.adaptive_norm), ("temporal", self.temporal), ("graph", self.graph)]
        chosen += [module for name, module in named if name in parts]
        heads = (self.score_head, self.quantile_head)
        return chosen + [head for head in heads if head is not None]

    def states(self, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None) -> Tensor:
        """``[blocks, days, stocks, hidden]``: each window, or its last day where no part looks at windows."""
        embedded = self._embed(blocks, parts, keys)
        shape = (*blocks.scored.shape, embedded.shape[-1])
        if not parts & {"adaptive_norm", "temporal"}:
            return embedded[:, self.shape.window - 1 :]
        seen = windows(embedded, self.shape.window)
        present = windows(blocks.present, self.shape.window)
        if "adaptive_norm" in parts:
            seen = self.adaptive_norm(seen, present)
        states = self.temporal(seen, present, keys, blocks.numbers) if "temporal" in parts else seen[-1]
        return states.reshape(shape)

    def joined(self, states: Tensor, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None) -> Tensor:
        """``states`` after each stock heard its neighbours, where the graph is on."""
        if "graph" not in parts:
            return states
        heard: Tensor = self.graph(states, blocks.neighbours, blocks.edges, blocks.scored, keys, blocks.numbers)
        return heard

    def _embed(self, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None) -> Tensor:
        """``[blocks, context days, stocks, hidden]``."""
        values, known = self.known_values(blocks)
        layer = self.variable_selection if "variable_selection" in parts else self.plain_embedding
        # In bfloat16 this layer alone takes the gradient of the whole from .5 % to 4 % off.
        with torch.autocast(values.device.type, enabled=False):
            embedded: Tensor = self.embedding_dropout(layer(values, known), keys, blocks.numbers)
        return embedded
