"""Small random blocks and networks."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from atft.blocks import Blocks
from atft.model.network import PARTS, Network, NetworkShape

SUBSETS = [frozenset(chosen) for size in range(len(PARTS) + 1) for chosen in combinations(sorted(PARTS), size)]


def shape(**changes: Any) -> NetworkShape:
    given: dict[str, Any] = {
        "features": 5,
        "hidden_size": 8,
        "window": 7,
        "attention_heads": 2,
        "graph_heads": 2,
        "lstm_layers": 1,
        "dropout": 0.3,
        "fan_frequencies": 2,
        "san_slices": 3,
        "quantiles": (0.1, 0.4, 0.9),
        "horizons": 2,
    }
    return NetworkShape(**(given | changes))


def network(seed: int = 0, **changes: Any) -> Network:
    """A float64 network in which no parameter is at a special value such as 0."""
    torch.manual_seed(seed)
    made = Network(shape(**changes)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def blocks(
    count: int = 3, days: int = 3, stocks: int = 6, features: int = 5, window: int = 7, k: int = 3, seed: int = 0
) -> Blocks:
    """Blocks with missing features, absent stocks, stocks that are not scored and neighbours that are not there."""
    g = torch.Generator().manual_seed(seed)
    context = window - 1 + days
    values = torch.randn(count, context, stocks, features, generator=g)
    values[torch.rand(values.shape, generator=g) < 0.15] = float("nan")
    present = torch.rand(count, context, stocks, generator=g) > 0.15
    values[~present] = float("nan")
    scored = present[:, window - 1 :] & (torch.rand(count, days, stocks, generator=g) > 0.1)
    neighbours = torch.randint(-1, stocks, (count, days, stocks, k), generator=g)
    edges = torch.randn(count, days, stocks, k, 2, generator=g) * (neighbours >= 0)[..., None]
    returns = 0.02 * torch.randn(count, days, stocks, generator=g, dtype=torch.float64)
    return Blocks(
        features=values,
        present=present,
        scored=scored,
        neighbours=neighbours,
        edges=edges,
        returns=returns,
        valid=scored,
        quantile_returns=returns[..., None].expand(-1, -1, -1, 2),
        numbers=torch.randperm(100, generator=g)[:count],
    )


def take(some: Blocks, index: list[int]) -> Blocks:
    """Some blocks of ``some``, in the order of ``index``."""
    chosen = torch.tensor(index)
    return Blocks(**{name: getattr(some, name)[chosen] for name in some.__dataclass_fields__})


def with_features(some: Blocks, values: Tensor) -> Blocks:
    return replace(some, features=values)


def poison(module: torch.nn.Module) -> None:
    """Make every use of the module's parameters show."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(float("nan"))
