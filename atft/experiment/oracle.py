"""The loss of an effective batch in one piece, by plain loops that share no code with the exact step.

Only the network is the project's own. Everything after the scores is written again from the formulas, stock by stock
and day by day, and autograd goes through all of it at once: slow, and there to be compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atft.blocks import Blocks
from atft.model.random_keys import RandomKeys
from atft.model.ranking import RankingNetwork


@dataclass(frozen=True)
class Day:
    """One day that counts: at least two of its stocks are scored and labelled.

    Attributes:
        scores, returns: ``[kept]`` float64, of the stocks that count.
        gains: ``[kept]`` float64 of the stocks that count, or ``[stocks]`` where trading costs something: what each
            position earned, less the cost of trading into it.
        quantiles: ``[kept, horizons, levels]`` float64.
        quantile_returns: ``[kept, horizons]`` float64, NaN where unknown.
    """

    scores: Tensor
    returns: Tensor
    gains: Tensor
    quantiles: Tensor
    quantile_returns: Tensor


def loss_in_one_piece(
    network: RankingNetwork, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None, *, kind: str,
    weights: Mapping[str, float], temperature: float, cost: float, levels: Sequence[float],
) -> Tensor:  # fmt: skip
    """The loss, all blocks in one forward pass, all statistics of all of them together.

    Args:
        network: in any float dtype; for what is to be compared with, float64.
        blocks: on the network's device.
        parts: parts of the network that are on.
        keys: randomness of the step; None for evaluation.
        kind: ``portfolio`` or ``pooled``: what the Sharpe ratio is of.
        weights: of ``sharpe``, ``rank_ic``, ``cs_ic`` and ``quantile``; what has weight 0 is not computed.
        temperature: softness of the ranks, in deviations of a cross-section's scores.
        cost: of a unit traded inside a block, as a fraction.
        levels: of the quantile heads.

    Returns:
        Scalar in float64, to be made small.

    Raises:
        ValueError: no day of these blocks has two stocks that count, or a portfolio Sharpe ratio is of one day.
    """
    output = network(blocks, parts, keys)
    days = list(_days(output.scores.double(), output.quantiles.double(), blocks, cost))
    if not days:
        raise ValueError("no day of these blocks has two stocks that are scored and labelled")
    statistics = {
        "sharpe": lambda: -sharpe(days, kind),
        "rank_ic": lambda: -mean(correlation(soft_rank(day.scores, temperature), ranks(day.returns)) for day in days),
        "cs_ic": lambda: -mean(correlation(day.scores, day.returns) for day in days),
        "quantile": lambda: mean(loss for day in days for loss in pinball(day, levels)),
    }
    terms = [weight * statistics[name]() for name, weight in weights.items() if weight]
    return sum(terms[1:], start=terms[0])


def mean(values: Iterable[Tensor]) -> Tensor:
    """Mean of scalars; 0 where there are none."""
    listed = list(values)
    return torch.stack(listed).mean() if listed else torch.zeros((), dtype=torch.float64)


def _days(scores: Tensor, quantiles: Tensor, blocks: Blocks, cost: float) -> Iterator[Day]:
    for b in range(scores.shape[0]):
        before: Tensor | None = None
        for d in range(scores.shape[1]):
            kept = blocks.valid[b, d]
            held = torch.zeros(scores.shape[2], dtype=torch.float64, device=scores.device)
            if int(kept.sum()) >= 2:
                held[kept] = weights_of_day(scores[b, d][kept])
                gains = held * blocks.returns[b, d]
                if before is not None:
                    gains = gains - cost * (held - before).abs()
                yield Day(
                    scores=scores[b, d][kept], returns=blocks.returns[b, d][kept], gains=gains if cost else gains[kept],
                    quantiles=quantiles[b, d][kept], quantile_returns=blocks.quantile_returns[b, d][kept],
                )  # fmt: skip
            before = held


def weights_of_day(scores: Tensor) -> Tensor:
    """Positions of a day: ``[kept]``, dollar-neutral and of gross 1; none where all scores are the same."""
    centred = scores - scores.mean()
    gross = centred.abs().sum()
    return centred / gross if gross > 1e-12 else centred * 0.0


def sharpe(days: Sequence[Day], kind: str) -> Tensor:
    """Mean over population deviation: of the days' returns, or of all stock-days' gains scaled by the day's count."""
    if kind == "portfolio":
        if len(days) < 2:
            raise ValueError("a portfolio Sharpe ratio of a single day is not defined")
        x = torch.stack([day.gains.sum() for day in days])
    else:
        x = torch.cat([len(day.scores) * day.gains for day in days])
    deviation = x.std(correction=0)
    return x.mean() / deviation if deviation > 1e-12 else x.mean() * 0.0


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's; 0 where either does not vary."""
    x, y = x - x.mean(), y - y.mean()
    varies = (x @ x) * (y @ y) > 1e-24
    return (x @ y) / (x.norm() * y.norm()) if varies else (x @ y) * 0.0


def ranks(x: Tensor) -> Tensor:
    """Ranks from 1, ties averaged."""
    order = torch.zeros_like(x)
    for i in range(len(x)):
        order[i] = (x < x[i]).sum() + ((x == x[i]).sum() + 1) / 2
    return order


def soft_rank(x: Tensor, temperature: float) -> Tensor:
    """Ranks that pass a gradient: how many others are softly below each."""
    deviation = x.detach().std(correction=0)
    scale = temperature * (deviation if deviation > 0 else 1.0)
    return torch.stack([torch.sigmoid((x[i] - x) / scale).sum() + 0.5 for i in range(len(x))])


def pinball(day: Day, levels: Sequence[float]) -> Iterator[Tensor]:
    """Quantile losses of a day, one for each known (stock, horizon) and level."""
    known = torch.isfinite(day.quantile_returns)
    for number, level in enumerate(levels):
        error = day.quantile_returns[known] - day.quantiles[..., number][known]
        yield from torch.where(error > 0, level * error, (level - 1) * error)
