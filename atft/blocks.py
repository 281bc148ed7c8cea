"""The tensors of some blocks of an effective batch: what the panel gives and the network takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

EDGE_FEATURES = ("correlation", "same_industry")
"""What each edge of the graph carries, in this order."""


@dataclass(frozen=True)
class Blocks:
    """Some blocks of one effective batch, all of the same shape.

    ``context_days = window - 1 + days``: the days whose features the windows of the block reach back to.

    Attributes:
        features: ``[blocks, context_days, stocks, features]`` float32, normalised; NaN where missing.
        present: ``[blocks, context_days, stocks]`` bool, True where the stock has a row on that day.
        scored: ``[blocks, days, stocks]`` bool, True where the stock can be scored: a row on that
            day and enough history in its window. Known at the close of the day.
        neighbours: ``[blocks, days, stocks, neighbours]`` int64, position (among this block's stocks)
            of each neighbour of a stock on that day; -1 where there is none in the block.
        edges: ``[blocks, days, stocks, neighbours, len(EDGE_FEATURES)]`` float32; 0 where no neighbour.
        returns: ``[blocks, days, stocks]`` float64, simple return of the label's interval; 0 where not ``valid``.
        valid: ``[blocks, days, stocks]`` bool, True where scored and labelled: what statistics count.
        quantile_returns: ``[blocks, days, stocks, horizons]`` float64, simple returns for the quantile
            heads; NaN where unknown.
        numbers: ``[blocks]`` int64 on the CPU, number of each block in its effective batch (keys its randomness).
    """

    features: Tensor
    present: Tensor
    scored: Tensor
    neighbours: Tensor
    edges: Tensor
    returns: Tensor
    valid: Tensor
    quantile_returns: Tensor
    numbers: Tensor

    @property
    def window(self) -> int:
        """Length of a window in days."""
        return self.features.shape[1] - self.returns.shape[1] + 1

    def to(self, device: torch.device | str) -> Blocks:
        """These blocks on another device; ``numbers`` stay on the CPU."""
        moved = {
            f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self) if f.name != "numbers"
        }
        return Blocks(**moved, numbers=self.numbers)


def concatenate(parts: Sequence[Blocks]) -> Blocks:
    """All blocks of ``parts`` in order, as one :class:`Blocks`."""
    return Blocks(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Blocks)})


def shards(count: int, workers: int) -> list[int]:
    """How many of ``count`` blocks (or other pieces of work) each worker takes, in order: as equal as can be."""
    each, rest = divmod(count, workers)
    return [each + (worker < rest) for worker in range(workers)]
