"""What is measured after each epoch on the validation period, and the noise that a batch Sharpe ratio should have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atft.blocks import Blocks, shards
from atft.data.labels import decided_returns
from atft.data.sampler import BlockSampler
from atft.evaluate import metrics, portfolio
from atft.evaluate.predict import predict
from atft.objective.mix import Mix
from atft.objective.rows import TERMS
from atft.train.partition import cuts
from atft.train.setup import Setup

BLOCKS_AT_ONCE = 8
BOOTSTRAP_REPEATS = 2000
FLAT = 1e-6
"""Relative to the largest score of a day: a spread below this is what float32 rounds away."""


@dataclass(frozen=True)
class Validation:
    """Figures of the validation period.

    Attributes:
        loss: the tier's objective over sampled blocks that cover the period.
        sharpe, ic, rank_ic: of the whole cross-section, per day; None where undefined.
        table: ``[days, len(TERMS)]`` rows of the sampled blocks.
        days: days with at least two scored and labelled stocks.
        flat_days: those of them on which the scores do not vary.
    """

    loss: float
    sharpe: float | None
    ic: float | None
    rank_ic: float | None
    table: Tensor
    days: int
    flat_days: int

    def metric(self, name: str) -> float:
        """The named figure as something to be large; minus infinity where undefined."""
        value = -self.loss if name == "loss" else getattr(self, name)
        return -np.inf if value is None or not np.isfinite(value) else float(value)


def validate(setup: Setup, parts: frozenset[str]) -> Validation:
    """Evaluate the network as it is, without dropout, on the validation period; collective."""
    setup.network.eval()
    days = setup.periods.validate
    table = sampled_table(setup, parts, setup.covering_sampler(days))
    mix = setup.step.mix
    label = setup.tier.label
    scores = predict(
        setup.network,
        setup.gatherer,
        days,
        parts,
        device=setup.device,
        precision_context=setup.precision.autocast,
        group=setup.group,
    )
    returns = decided_returns(setup.panel, label)[days]
    valid = np.isfinite(scores) & np.isfinite(returns)
    held = portfolio.positions(scores, valid)
    gross, _ = portfolio.daily_returns(held, returns)
    return Validation(
        loss=float(mix.loss(mix.parts(table))),
        sharpe=_number(metrics.sharpe(gross) / label.horizon**0.5),
        ic=_number(metrics.mean(metrics.information_coefficient(scores, returns, valid))),
        rank_ic=_number(metrics.mean(metrics.rank_ic(scores, returns, valid))),
        table=table,
        days=int((valid.sum(1) >= 2).sum()),
        flat_days=int((constant(scores, valid) & (valid.sum(1) >= 2)).sum()),
    )


def constant(scores: NDArray[np.floating], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``[days]``: where the valid of ``[days, stocks]`` scores differ by no more than float32 rounding can tell."""
    most = np.where(valid, scores, -np.inf).max(1, initial=-np.inf)
    least = np.where(valid, scores, np.inf).min(1, initial=np.inf)
    size = np.abs(np.where(valid, scores, 0.0)).max(1, initial=0.0)
    return np.asarray(most - least <= FLAT * size)


def flat_days(table: Tensor) -> int:
    """Days of an effective batch that count and on which no stock has a position, since all scores are alike."""
    counted, squares = (table[:, TERMS.index(name)] for name in ("counted", "pooled_squares"))
    return int(((counted > 0) & (squares == 0)).sum())


def sampled_table(setup: Setup, parts: frozenset[str], sampler: BlockSampler) -> Tensor:
    """Rows of one fixed set of sampled blocks, without dropout: ``[days, len(TERMS)]``; collective.

    Each worker computes some of the runs of blocks, the same runs for any number of workers, so that rows are bitwise
    the same.
    """
    gatherer, group, block_days = setup.gatherer, setup.group, setup.tier.batch.block_days
    runs = cuts(sampler.blocks, BLOCKS_AT_ONCE)
    sizes = shards(len(runs), group.world_size)
    first = sum(sizes[: group.rank])

    def micro_batch(run: tuple[int, int]) -> Blocks:
        plan = sampler.plan(0, *run)
        return gatherer.blocks(plan.first_days, plan.stocks, plan.numbers, block_days)

    own = runs[first : first + sizes[group.rank]]
    rows = setup.step.evaluate((partial(micro_batch, run) for run in own), parts)
    bounds = [sum(sizes[:rank]) for rank in range(group.world_size + 1)]
    days = [sum(block_days * (b - a) for a, b in runs[low:high]) for low, high in pairwise(bounds)]
    return group.gather(rows, days)


def expected_std(table: Tensor, mix: Mix, days: int, seed: int) -> float | None:
    """Standard deviation that sampling alone gives the Sharpe ratio of a batch of ``days`` days.

    Portfolio: ``1/√(days − 3)``, of Student's t. Pooled: a bootstrap that draws whole days of ``table``, since
    stock-days of one day move together.

    Returns:
        None where it cannot be told (fewer than 4 days, or fewer than 20 in the table).
    """
    if mix.sharpe_kind == "portfolio":
        return (days - 3) ** -0.5 if days > 3 else None
    kept = table[table[:, TERMS.index("counted")] > 0].cpu()
    if len(kept) < 20:
        return None
    generator = torch.Generator().manual_seed(seed)
    drawn = kept[torch.randint(len(kept), (BOOTSTRAP_REPEATS, days), generator=generator)].sum(1)
    count, total, squares = (drawn[:, TERMS.index(f"pooled_{name}")] for name in ("count", "sum", "squares"))
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    return float((mean / deviation)[deviation > 0].std()) if (deviation > 0).sum() > 2 else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
