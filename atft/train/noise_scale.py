"""The gradient noise scale: how many stock-days a batch needs before its gradient is more signal than noise.

The objective is a function of the mean row of the batch, so that with its slopes held fixed the gradient is a mean over
blocks: ``g = mean(h_b)``, ``h_b = B · s · ∂rows_b/∂θ``. Blocks are drawn alike and apart, hence are the samples, and
McCandlish et al. (2018) applies: ``B_simple = tr Σ / |G|²``, with ``G`` and ``Σ`` the mean and the covariance of one
block's ``h``. The derivation, and what the fixed slopes leave out, is in decision 22.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from atft.model.random_keys import RandomKeys
from atft.train.step import ExactStep, Shard, StepOutcome, is_out_of_memory

WINDOW = 20
"""Measured steps of a phase that an estimate is taken over."""
LEVEL = 0.95
"""Of the interval."""
LEAST_BLOCKS = 3
"""Blocks of a batch from which its own blocks tell how sure it is."""
LEAST_BATCHES = 3
"""Measured batches where a batch has fewer blocks than that."""
NO_MEMORY = -1.0
"""Stands for a block whose gradient memory did not hold beside that of the batch."""


class Measurement(BaseModel):
    """What the blocks of one step's batch say.

    Attributes:
        step: the optimizer step, from 1.
        blocks: of the batch.
        noise: unbiased estimate of ``tr Σ`` of one block.
        signal: unbiased estimate of ``|G|²``; may be negative.
        noise_variance, signal_variance, covariance: of the two, by leaving out one block at a time; None for fewer
            than ``LEAST_BLOCKS`` blocks.
    """

    step: int
    blocks: int
    noise: float
    signal: float
    noise_variance: float | None = None
    signal_variance: float | None = None
    covariance: float | None = None


@dataclass(frozen=True)
class Estimate:
    """The noise scale over some measured steps.

    Attributes:
        measured: how many.
        noise, signal: means over them; None where nothing was measured.
        noise_scale: ``noise / signal`` in stock-days; None where it cannot be told.
        low, high: interval at ``LEVEL``, by Fieller's theorem; None with it.
        at_least: lower bound that holds where the scale itself cannot be told; None where there is none.
        reason: why it cannot be told.
    """

    measured: int
    noise: float | None = None
    signal: float | None = None
    noise_scale: float | None = None
    low: float | None = None
    high: float | None = None
    at_least: float | None = None
    reason: str | None = None

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def taken(
    step: ExactStep, window: list[Measurement], shard: Shard, parts: frozenset[str], keys: RandomKeys,
    outcome: StepOutcome, *, number: int, samples: int, loss_scale: float,
) -> dict[str, Any]:  # fmt: skip
    """Measure the step that was just computed, and estimate from the window; collective, one gather.

    The gradient of the step stays in the parameters as it is, to the last bit.

    Args:
        step: which left the gradient of the effective batch in its network.
        window: measured steps of the phase so far; this one is added, and the oldest beyond ``WINDOW`` goes.
        shard: the blocks of the step.
        parts: parts of the network that are on.
        keys: randomness of the step.
        outcome: of the step.
        number: of the step, from 1.
        samples: stock-days of the effective batch.
        loss_scale: that the backward passes carry.

    Returns:
        Fields of an event: the measurement, or in ``missed`` why there is none; those of the :class:`Estimate`.
    """
    began = time.perf_counter()
    blocks = sum(shard.sizes)
    products = block_products(step, shard, parts, keys, outcome.slopes, loss_scale) if blocks > 1 else None
    found = measurement(number, products, total_square(step, parts))
    if isinstance(found, Measurement):
        window.append(found)
        del window[:-WINDOW]
    told, missed = estimate(window, samples / blocks), found if isinstance(found, str) else None
    return {
        "step": number, "blocks": blocks, "samples": samples, "missed": missed,
        "measurement": found.model_dump() if isinstance(found, Measurement) else None,
        **told.plain(), "reason": told.reason if window else missed, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def block_products(
    step: ExactStep, shard: Shard, parts: frozenset[str], keys: RandomKeys, slopes: Tensor, loss_scale: float
) -> Tensor:
    """``|g_b|²`` and ``g_b · g`` of every block of the effective batch; collective, one gather.

    Each block goes through the network by itself, so that its numbers do not depend on workers or micro-batches.
    Gradients are returned by autograd and not added to those in the parameters, which are ``g``.

    Args:
        step: which left ``g`` in its network.
        shard, parts, keys: of the step.
        slopes: ``[days, terms]``, gradient of the loss with respect to the rows of all days.
        loss_scale: that the backward passes carry.

    Returns:
        ``[blocks, 2]`` float64 on the CPU, in the order of the blocks.
    """
    rank, sizes = step.group.rank, shard.sizes
    block_days = len(slopes) // sum(sizes)
    first = sum(sizes[:rank])
    whole = flat_gradient(step, parts)
    own = torch.zeros(sizes[rank], 2, dtype=torch.float64)
    for block in range(sizes[rank]):
        days = slice((first + block) * block_days, (first + block + 1) * block_days)
        weights = slopes[days].to(step.device) * loss_scale
        try:
            gradient = _of_block(step, shard, block, parts, keys, weights) / loss_scale
            own[block] = torch.stack([gradient @ gradient, gradient @ whole]).cpu()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            own[block] = NO_MEMORY  # told by all workers alike, once the table is gathered; training goes on
    return step.group.gather(own, sizes)


def _of_block(
    step: ExactStep, shard: Shard, block: int, parts: frozenset[str], keys: RandomKeys, weights: Tensor
) -> Tensor:
    """``loss_scale · g_b`` as one float64 vector on the device."""
    parameters = step.network.parameters_of(parts)
    rows = step.forward(shard.blocks(block, block + 1), parts, keys)
    gradients = torch.autograd.grad(rows, parameters, weights, allow_unused=True)
    filled = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
    return torch.cat([each.flatten() for each in filled]).double()


def flat_gradient(step: ExactStep, parts: frozenset[str]) -> Tensor:
    """The gradient in the parameters as one float64 vector."""
    gradients = [p.grad for p in step.network.parameters_of(parts)]
    return torch.cat([each.flatten() for each in gradients if each is not None]).double()


def total_square(step: ExactStep, parts: frozenset[str]) -> float:
    """``|g|²`` of the gradient in the parameters."""
    whole = flat_gradient(step, parts)
    return float(whole @ whole)


def measurement(step: int, products: Tensor | None, total: float) -> Measurement | str:
    """Noise and signal of one batch, or why they cannot be told.

    Args:
        step: the optimizer step, from 1.
        products: ``[blocks, 2]``, ``|g_b|²`` and ``g_b · g``; None where the batch is one block.
        total: ``|g|²``.

    Source: McCandlish et al. (2018), "An Empirical Model of Large-Batch Training", appendix A.1, with batches of one
    block and of all blocks, for which its estimators are U-statistics.
    """
    if products is None:
        return "the batch is one block, and noise shows between blocks"
    table = products.double().numpy()
    if (table[:, 0] == NO_MEMORY).any():
        return "memory did not hold the gradient of one block beside that of the batch"
    if not (np.isfinite(table).all() and math.isfinite(total)):
        return "the gradient of one block by itself is not finite in this precision"
    count = len(table)
    squares, products_with = count**2 * table[:, 0], count**2 * table[:, 1]  # of h_b = B · g_b
    whole = count**2 * total
    noise, signal = _moments(count, whole, squares.sum())
    found = Measurement(step=step, blocks=count, noise=float(noise), signal=float(signal))
    if count < LEAST_BLOCKS:
        return found
    left = np.stack(_moments(count - 1, whole - 2 * products_with + squares, squares.sum() - squares))
    spread = left - left.mean(1, keepdims=True)
    (noise_variance, covariance), (_, signal_variance) = ((count - 1) / count * spread @ spread.T).tolist()
    return found.model_copy(
        update={"noise_variance": noise_variance, "signal_variance": signal_variance, "covariance": covariance}
    )


def _moments(count: int, whole: Any, squares: Any) -> tuple[Any, Any]:
    """``tr Σ`` and ``|G|²`` from ``|Σ h|²`` and ``Σ |h|²`` of ``count`` blocks, without bias."""
    signal = (whole - squares) / (count * (count - 1))
    return squares / count - signal, signal


def estimate(window: Sequence[Measurement], block_samples: float) -> Estimate:
    """The noise scale over some measured steps, with its interval.

    Numerator and denominator are averaged before they are divided. The interval is Fieller's: all ratios that the two
    means and their covariance do not contradict. Where these have no upper end the scale cannot be told.

    Args:
        window: the measured steps.
        block_samples: stock-days of one block.

    Source: Fieller (1954), "Some problems in interval estimation"; the jackknife of Arvesen (1969), "Jackknifing
    U-statistics".
    """
    if not window:
        return Estimate(0, reason="no step was measured")
    noise, signal = np.mean([(each.noise, each.signal) for each in window], axis=0).tolist()
    found = Estimate(len(window), noise, signal)
    sure = _covariance(window)
    if sure is None:
        reason = f"batches of {window[0].blocks} blocks tell no interval before {LEAST_BATCHES} of them are measured"
        return _without(found, reason)
    low, high = fieller(noise, signal, sure[0], sure[1])
    if high is None:
        text = f"the squared gradient left after the noise, {signal:.3g}, is not distinguishable from 0"
        return _without(found, text, None if low is None else low * block_samples)
    assert low is not None
    return Estimate(
        len(window), noise, signal, noise / signal * block_samples, max(0.0, low) * block_samples, high * block_samples
    )


def _without(found: Estimate, reason: str, at_least: float | None = None) -> Estimate:
    return Estimate(found.measured, found.noise, found.signal, at_least=at_least, reason=reason)


def _covariance(window: Sequence[Measurement]) -> tuple[np.ndarray, int] | None:
    """Covariance of mean noise and mean signal, and its degrees of freedom; None where it cannot be told."""
    count = len(window)
    of_blocks = [
        [[each.noise_variance, each.covariance], [each.covariance, each.signal_variance]]
        for each in window
        if each.noise_variance is not None
    ]
    if len(of_blocks) == count:
        return np.sum(np.array(of_blocks, dtype=np.float64), axis=0) / count**2, sum(m.blocks - 1 for m in window)
    if count < LEAST_BATCHES:
        return None
    return np.cov([[m.noise for m in window], [m.signal for m in window]]) / count, count - 1


def fieller(above: float, below: float, covariance: np.ndarray, degrees: int) -> tuple[float | None, float | None]:
    """Interval at ``LEVEL`` of the ratio of two means, of which the one below is positive.

    Args:
        above, below: the means.
        covariance: ``[2, 2]``, of the two.
        degrees: of freedom of the covariance.

    Returns:
        Lower and upper end; no upper end where the mean below is not distinguishable from 0, and then no lower one
        either where nothing is contradicted.
    """
    from scipy.special import stdtrit  # loaded at the first measured step: no worker waits for it before

    q = float(stdtrit(degrees, 0.5 + LEVEL / 2)) ** 2
    a = below**2 - q * covariance[1, 1]
    half = above * below - q * covariance[0, 1]
    c = above**2 - q * covariance[0, 0]
    discriminant = half**2 - a * c
    if below > 0 and a > 0:
        root = math.sqrt(max(0.0, discriminant))
        return (half - root) / a, (half + root) / a
    if a < 0 < c:
        return (half - math.sqrt(discriminant)) / a, None
    return None, None
