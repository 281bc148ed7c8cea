"""What is measured: a tier's network, and one effective batch of random blocks of its shape."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from atft.blocks import Blocks
from atft.config import PARTS, Tier
from atft.experiment.tiers import resolve
from atft.model.random_keys import RandomKeys
from atft.model.ranking import RankingNetwork
from atft.train.collectives import Group
from atft.train.partition import Cut
from atft.train.setup import build_network, mix, row_settings
from atft.train.step import ExactStep, Shard, StepOutcome
from tests.market import cut, random_blocks

ALL = frozenset(PARTS)
"""All parts of the network: the last phase of a tier, which costs most."""

TINY: dict[str, object] = {
    "window.days": 6, "window.least_present": 3, "graph.neighbours": 3, "model.attention_heads": 2,
    "model.graph_heads": 2, "model.fan_frequencies": 1, "model.san_slices": 2, "batch.stocks_per_day": 8,
}  # fmt: skip
"""What a tier becomes with ``--quick``."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a network and of an effective batch; everything else is as tier1 states it.

    Attributes:
        hidden: of the network.
        features: of a stock on a day.
        blocks: of the effective batch.
        tiny: a window of 6 days and 8 stocks, to see that a case runs.
    """

    hidden: int
    features: int
    blocks: int
    tiny: bool = False

    def __str__(self) -> str:
        return f"hidden {self.hidden}, {self.features} features"

    def tier(self, sharpe_kind: Literal["pooled", "portfolio"] = "pooled") -> Tier:
        """The tier of this shape."""
        sizes = {"model.hidden_size": self.hidden, "objective.sharpe_kind": sharpe_kind, **(TINY if self.tiny else {})}
        tier = resolve("tier1", flags=sizes, environ={}).tier
        batch = tier.batch.model_copy(update={"days": self.blocks * tier.batch.block_days})
        return tier.model_copy(update={"batch": batch})


TINY_SHAPE = Shape(hidden=8, features=5, blocks=4, tiny=True)


@dataclass(frozen=True)
class Subject:
    """A network and one effective batch in float32, with micro-batches of one block each.

    Attributes:
        step: the exact step on the network.
        batch: all blocks, in memory.
        keys: randomness of the step; dropout is on.
    """

    step: ExactStep
    batch: Blocks
    keys: RandomKeys

    @classmethod
    def of(cls, tier: Tier, features: int, *, group: Group | None = None, seed: int = 1) -> Subject:
        """The network of ``tier`` with its initial weights, and blocks drawn from ``seed``."""
        network, sizes = build_network(tier, features=features), tier.batch
        step = ExactStep(
            network, mix(tier.objective), row_settings(tier), nullcontext, torch.device("cpu"), group or Group()
        )
        blocks = random_blocks(
            seed, blocks=sizes.blocks, days=sizes.block_days, stocks=sizes.stocks_per_day, features=features,
            window=tier.window.days, neighbours=tier.graph.neighbours,
        )  # fmt: skip
        return cls(step, blocks, RandomKeys(tier.seed, seed))

    @property
    def network(self) -> RankingNetwork:
        """The network."""
        return self.step.network

    @property
    def count(self) -> int:
        """Blocks of the batch, which is its micro-batches."""
        return len(self.batch.numbers)

    @property
    def parameters(self) -> int:
        """Parameters that get a gradient."""
        return sum(parameter.numel() for parameter in self.network.parameters_of(ALL))

    def blocks(self, first: int, last: int) -> Blocks:
        """Blocks ``first`` to ``last - 1`` in memory of their own, as the panel gives them."""
        return Blocks(**{name: tensor.clone() for name, tensor in vars(cut(self.batch, first, last)).items()})

    def exact(self, kept: int, blocks: int | None = None) -> StepOutcome:
        """One exact step of the first ``blocks`` blocks, all by default, with the last ``kept`` graphs kept."""
        return self.step(Shard(self.blocks, [blocks or self.count]), ALL, self.keys, cut=Cut(1, kept))

    def gradient(self) -> torch.Tensor:
        """All gradients as one float64 vector."""
        return torch.cat([p.grad.flatten().double() for p in self.network.parameters_of(ALL) if p.grad is not None])
