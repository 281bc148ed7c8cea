"""An LSTM over each stock's window: what recurrence alone reaches, without selection, normalisation or graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atft.blocks import Blocks
from atft.model.dropout import KeyedDropout
from atft.model.random_keys import RandomKeys
from atft.model.ranking import NetworkShape, RankingNetwork
from atft.model.temporal import initialise
from atft.model.windows import windows


class Lstm(RankingNetwork):
    """A linear embedding of each day's features and presence flags, an LSTM over the window, its last state.

    Source: the sequential embedding of Feng et al. (2019), "Temporal relational ranking for stock prediction",
    section 3.2 (their Rank_LSTM), on the features of the panel.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        size = shape.hidden_size
        self.embedding = nn.Linear(2 * shape.features, size)
        nn.init.normal_(self.embedding.weight, std=(2 * shape.features) ** -0.5)
        nn.init.zeros_(self.embedding.bias)
        # One mask for all days of a stock in a block, as in the architecture that this one is compared with.
        self.embedding_dropout = KeyedDropout(shape.dropout, "lstm.embedding", over=(1,))
        self.lstm = nn.LSTM(size, size, shape.lstm_layers)
        initialise(self.lstm)
        self.norm = nn.LayerNorm(size)
        self.dropout = KeyedDropout(shape.dropout, "lstm.state")
        self.add_heads()

    def states(self, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None) -> Tensor:
        """``[blocks, days, stocks, hidden]``: the state after the last day of each window, in full precision.

        Nothing here carries a window past the LSTM, so that bfloat16 in it takes the gradient 4 % off.
        """
        values, known = self.known_values(blocks)
        with torch.autocast(values.device.type, enabled=False):
            embedded = self.embedding(torch.cat([values, known.to(values.dtype)], -1))
            embedded = self.embedding_dropout(embedded, keys, blocks.numbers)
            states, _ = self.lstm(windows(embedded, self.shape.window).flatten(1, 2))
            last = self.norm(states[-1]).view(*blocks.scored.shape, -1)
            found: Tensor = self.dropout(last, keys, blocks.numbers)
        return found
