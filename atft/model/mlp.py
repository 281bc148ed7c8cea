"""A multi-layer perceptron on the decision day's features: what depth alone adds to a ridge on the same inputs."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from atft.blocks import Blocks
from atft.model.dense import Dense
from atft.model.random_keys import RandomKeys
from atft.model.ranking import NetworkShape, RankingNetwork

LAYERS = 3
"""Dense layers between the features and the heads."""


class Mlp(RankingNetwork):
    """Dense layers on the values of the decision day and on their presence flags; no earlier day, no other stock.

    Source: the feed-forward networks of Gu, Kelly and Xiu (2020), "Empirical asset pricing via machine learning",
    section 2.7, with layer normalisation in place of their batch normalisation, which would cross blocks.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        sizes = [2 * shape.features, *[shape.hidden_size] * LAYERS]
        self.layers = nn.ModuleList(
            Dense(inputs, size, shape.dropout, f"mlp.{number}") for number, (inputs, size) in enumerate(pairwise(sizes))
        )
        self.add_heads()

    def states(self, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None) -> Tensor:
        """``[blocks, days, stocks, hidden]``, in full precision: the layers are small beside a network on windows."""
        values, known = (each[:, self.shape.window - 1 :] for each in self.known_values(blocks))
        with torch.autocast(values.device.type, enabled=False):
            found = torch.cat([values, known.to(values.dtype)], -1)
            for layer in self.layers:
                found = layer(found, keys, blocks.numbers)
        return found
