"""The loss of an effective batch in one piece, by plain loops that share no code with ``atft.train.step``.

Only the network is the project's own. Everything after the scores is written again from DESIGN's formulas, and autograd
goes through all of it at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from atft.blocks import Blocks
from atft.model.network import Network
from atft.model.random_keys import RandomKeys


def weights_of_day(scores: Tensor) -> Tensor:
    centred = scores - scores.mean()
    return centred / centred.abs().sum()


def correlation(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(), y - y.mean()
    return (x @ y) / (x.norm() * y.norm())


def ranks(x: Tensor) -> Tensor:
    order = torch.zeros_like(x)
    for i in range(len(x)):
        order[i] = (x < x[i]).sum() + ((x == x[i]).sum() + 1) / 2
    return order


def soft_rank(x: Tensor, temperature: float) -> Tensor:
    scale = temperature * x.detach().std(correction=0)
    return torch.stack([torch.sigmoid((x[i] - x) / scale).sum() + 0.5 for i in range(len(x))])


def loss_in_one_piece(
    network: Network, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None, *, kind: str,
    weights: dict[str, float], temperature: float, cost: float, levels: tuple[float, ...],
) -> Tensor:  # fmt: skip
    """The loss, all blocks in one forward pass, all statistics of the whole batch."""
    output = network(blocks, parts, keys)
    scores, quantiles = output.scores.double(), output.quantiles.double()
    daily, pooled, ics, rank_ics, pinballs = [], [], [], [], []
    for b in range(scores.shape[0]):
        before: Tensor | None = None
        for d in range(scores.shape[1]):
            kept = blocks.valid[b, d]
            held = torch.zeros(scores.shape[2], dtype=torch.float64)
            if int(kept.sum()) >= 2:
                s, r = scores[b, d][kept], blocks.returns[b, d][kept]
                held[kept] = weights_of_day(s)
                gain = held * blocks.returns[b, d]
                if before is not None:
                    gain = gain - cost * (held - before).abs()
                daily.append(gain.sum())
                pooled.append(int(kept.sum()) * (gain if cost else gain[kept]))
                ics.append(correlation(s, r))
                rank_ics.append(correlation(soft_rank(s, temperature), ranks(r)))
                for level_number, level in enumerate(levels):
                    error = blocks.quantile_returns[b, d][kept][:, 0] - quantiles[b, d][kept][:, 0, level_number]
                    pinballs.append(torch.where(error > 0, level * error, (level - 1) * error))
            before = held
    x = torch.stack(daily) if kind == "portfolio" else torch.cat(pooled)
    parts_of_loss = {
        "sharpe": -x.mean() / x.std(correction=0),
        "rank_ic": -torch.stack(rank_ics).mean(),
        "cs_ic": -torch.stack(ics).mean(),
        "quantile": torch.cat(pinballs).mean(),
    }
    return torch.stack([weights[name] * value for name, value in parts_of_loss.items() if weights[name]]).sum()
