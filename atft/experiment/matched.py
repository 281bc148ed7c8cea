"""A tier with another architecture and as many parameters: the fair rival of its network."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import torch

from atft.config import PARTS, Architecture, Tier
from atft.train.setup import build_network

CLOSE = 0.05
"""Relative difference of the parameter counts up to which they are called equal."""
LARGEST = 16_384
"""Hidden sizes are looked for up to here."""


@dataclass(frozen=True)
class Matched:
    """A rival of a tier.

    Attributes:
        tier: the tier with the other architecture; all that training depends on besides is the same.
        parameters: its parameters, counted.
        wanted: those of the tier's own network with all its parts, counted.
    """

    tier: Tier
    parameters: int
    wanted: int

    @property
    def difference(self) -> float:
        """Relative difference of the counts, with its sign."""
        return self.parameters / self.wanted - 1

    @property
    def is_close(self) -> bool:
        """Whether they may be called equal."""
        return abs(self.difference) <= CLOSE


def matched(tier: Tier, architecture: Architecture, features: int) -> Matched:
    """``tier`` with ``architecture`` and the hidden size whose parameter count comes nearest to its own network's.

    Batches, objective, phases with their epochs and learning rates, optimizer, precision and what the best epoch is
    chosen by stay as they are; the phases' parts are dropped, since only the tier's own architecture has any.

    Args:
        tier: whose network is to be matched.
        architecture: of the rival.
        features: of the panel, which both counts depend on.
    """
    wanted = parameters_of(tier, features)

    def count(hidden_size: int) -> int:
        return parameters_of(_changed(tier, architecture, hidden_size), features)

    size = 1 + bisect_left(range(LARGEST), wanted, key=lambda index: count(index + 1))
    near = [_changed(tier, architecture, each) for each in {max(1, size - 1), size, size + 1}]
    counted = {parameters_of(each, features): each for each in near}
    best = min(counted, key=lambda count: abs(count - wanted))
    return Matched(counted[best], best, wanted)


def parameters_of(tier: Tier, features: int) -> int:
    """Parameters of the tier's network with all its parts, counted on a network that takes no memory."""
    with torch.device("meta"):
        network = build_network(tier, features=features)
    return sum(parameter.numel() for parameter in network.parameters_of(frozenset(PARTS)))


def changed(tier: Tier, changes: dict[str, Any]) -> Tier:
    """``tier`` with some top-level settings replaced, validated as a whole."""
    return Tier.model_validate(tier.model_dump(mode="json") | changes)


def _changed(tier: Tier, architecture: Architecture, hidden_size: int) -> Tier:
    held = tier.model_dump(mode="json")
    return changed(
        tier,
        {
            "name": f"{tier.name}-{architecture}",
            "description": f"The {architecture} of as many parameters as {tier.name}, trained in the same way.",
            "model": held["model"] | {"architecture": architecture, "hidden_size": hidden_size},
            "phases": {name: phase | {"parts": []} for name, phase in held["phases"].items()},
        },
    )
