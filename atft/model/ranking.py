"""What every network that ranks stocks shares: its shape, its output, its heads, and what it must do with masks.

An architecture is a body: from blocks to a state of every stock and decision day. The heads are the objective's and
the same for all, so that two architectures differ in nothing but their bodies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atft.blocks import EDGE_FEATURES, Blocks
from atft.model.heads import QuantileHead, ScoreHead
from atft.model.random_keys import RandomKeys

PARTS = frozenset({"variable_selection", "temporal", "adaptive_norm", "graph"})
"""The parts of the architecture ``atft`` that phases switch on."""


@dataclass(frozen=True)
class NetworkShape:
    """What fixes a network's parameters.

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


class RankingNetwork(nn.Module, ABC):
    """A network that scores every stock of every decision day; nothing in it crosses blocks.

    An architecture makes its body in its constructor, calls :meth:`add_heads` last, and gives :meth:`states`.
    """

    score_head: ScoreHead
    quantile_head: QuantileHead | None

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape

    def add_heads(self) -> None:
        """Make the heads; after the body, so that its initial weights are drawn first."""
        shape = self.shape
        self.score_head = ScoreHead(shape.hidden_size, shape.dropout)
        self.quantile_head = (
            QuantileHead(shape.hidden_size, shape.horizons, shape.quantiles, shape.dropout) if shape.horizons else None
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
        states = self.states(blocks, parts, keys)
        # Small beside the windows, and where rounding does most harm: a score in 8 bits would tie stocks.
        with torch.autocast(states.device.type, enabled=False):
            states = self.joined(states.to(self.score_head.score.weight.dtype), blocks, parts, keys)
            scores, quantiles = self._heads(states, keys, blocks.numbers)
        return Output(
            scores=torch.where(blocks.scored, scores, 0.0),
            quantiles=torch.where(blocks.scored[..., None, None], quantiles, 0.0),
        )

    @abstractmethod
    def states(self, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None) -> Tensor:
        """``[blocks, days, stocks, hidden]``, what the body makes of each stock by itself."""

    def joined(self, states: Tensor, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None) -> Tensor:
        """``states`` after the stocks of a day heard one another; as they are where the architecture has no such part.

        Called in full precision.
        """
        return states

    def parameters_of(self, parts: frozenset[str]) -> list[nn.Parameter]:
        """The parameters that take part when ``parts`` are on, in a fixed order; all of them get a gradient."""
        return list(self.parameters())

    def known_values(self, blocks: Blocks) -> tuple[Tensor, Tensor]:
        """Features ``[blocks, context days, stocks, features]``, 0 where missing, and where they are known, bool."""
        known = ~blocks.features.isnan() & blocks.present[..., None]
        return torch.where(known, blocks.features, 0.0).to(self.score_head.score.weight.dtype), known

    def _heads(self, states: Tensor, keys: RandomKeys | None, numbers: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.score_head(states, keys, numbers)
        if self.quantile_head is None:
            return scores, scores.new_zeros(*scores.shape, 0, len(self.shape.quantiles))
        quantiles = self.quantile_head(states, keys, numbers)
        # An objective without quantiles still gives their head a gradient, of 0, on every worker.
        return scores + 0.0 * quantiles.sum((-2, -1)), quantiles

    def _check(self, blocks: Blocks, parts: frozenset[str]) -> None:
        if unknown := parts - PARTS:
            raise ValueError(f"unknown parts {sorted(unknown)}; there are {sorted(PARTS)}")
        if blocks.window != self.shape.window:
            raise ValueError(f"blocks have a window of {blocks.window} days, the network one of {self.shape.window}")
        if blocks.features.shape[-1] != self.shape.features:
            raise ValueError(f"blocks have {blocks.features.shape[-1]} features, the network {self.shape.features}")
