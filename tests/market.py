"""Random blocks for tests: masked stocks, masked days, missing features, graphs with and without edges."""

from __future__ import annotations

import torch

from atft.blocks import EDGE_FEATURES, Blocks


def random_blocks(
    seed: int,
    *,
    blocks: int = 6,
    days: int = 2,
    stocks: int = 7,
    features: int = 5,
    window: int = 6,
    neighbours: int = 3,
) -> Blocks:
    """Blocks with all that real ones have: absent stocks, unlabelled days, NaN features, a day without edges."""
    random = torch.Generator().manual_seed(seed)
    context = window - 1 + days

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=random)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    present = uniform(blocks, context, stocks) < 0.9
    scored = present[:, window - 1 :] & (uniform(blocks, days, stocks) < 0.95)
    valid = scored & (uniform(blocks, days, stocks) < 0.9)
    valid[0, 0] = False
    valid[2, -1] = False
    found = torch.randint(-1, stocks, (blocks, days, stocks, neighbours), generator=random)
    found[1, 0] = -1
    own = torch.arange(stocks)[:, None]
    positions = found.clamp_min(0)
    known = torch.gather(scored[:, :, None, :].expand(-1, -1, stocks, -1), 3, positions)
    found = torch.where((found == own) | ~known | ~scored[..., None], -1, found)
    edges = normal(blocks, days, stocks, neighbours, len(EDGE_FEATURES)) * (found >= 0)[..., None]
    returns = torch.where(valid, 0.02 * normal(blocks, days, stocks).double(), 0.0)
    values = normal(blocks, context, stocks, features)
    values[uniform(blocks, context, stocks, features) < 0.05] = torch.nan
    return Blocks(
        features=torch.where(present[..., None], values, torch.nan),
        present=present,
        scored=scored,
        neighbours=found,
        edges=edges,
        returns=returns,
        valid=valid,
        quantile_returns=torch.where(valid, returns, torch.nan)[..., None],
        numbers=torch.arange(blocks),
    )


def cut(blocks: Blocks, first: int, last: int) -> Blocks:
    """Blocks ``first`` to ``last - 1``."""
    return Blocks(**{name: tensor[first:last] for name, tensor in vars(blocks).items()})
