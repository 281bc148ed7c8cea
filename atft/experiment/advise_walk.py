"""Training by hand, for measuring: steps of any batch from weights that can be put back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from atft import config
from atft.blocks import Blocks
from atft.config import Phase
from atft.data.sampler import BlockSampler
from atft.errors import RunError
from atft.model.random_keys import RandomKeys
from atft.train import checkpoint, noise_scale, optimizer
from atft.train.cutting import block_bytes
from atft.train.memory import free_bytes
from atft.train.noise_scale import Measurement
from atft.train.partition import Cut, cut_for
from atft.train.precision import LossScale
from atft.train.setup import Setup, build_network
from atft.train.step import (
    GradientOverflowError,
    NonFiniteError,
    OutOfMemoryError,
    ReplayError,
    Shard,
    StepOutcome,
)

State = tuple[dict[str, torch.Tensor], dict[str, Any]]
"""Weights and the optimizer's state."""


@dataclass(frozen=True)
class Size:
    """An effective batch that can be drawn.

    Attributes:
        batch: days, stocks and block.
        sampler: draws it.
        seed: of what is random in its steps.
        cut: how it is computed.
    """

    batch: config.Batch
    sampler: BlockSampler
    seed: int
    cut: Cut


@dataclass
class Walk:
    """A network that is trained step by step under one phase of a tier.

    Attributes:
        setup: the tier made ready.
        phase: parts, learning rate and warm-up.
        block_bytes: what the graph of one block keeps.
        scale: the loss scale of float16.
    """

    setup: Setup
    phase: Phase
    block_bytes: float = 0.0
    scale: LossScale = field(init=False)
    _optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        if not self.block_bytes:
            self.block_bytes = block_bytes(self.setup, self.parts)
        self.fresh()

    @property
    def parts(self) -> frozenset[str]:
        """Parts of the network that are on."""
        return frozenset(self.phase.parts)

    def fresh(self) -> None:
        """An optimizer that has seen nothing."""
        self._optimizer = optimizer.build(self.setup.network.parameters_of(self.parts), self.setup.tier.optimizer)
        self.scale = LossScale.of(self.setup.precision)

    def begin(self, seed: int) -> None:
        """The initial weights of ``seed``, and a fresh optimizer."""
        setup = self.setup
        drawn = build_network(setup.tier.model_copy(update={"seed": seed}), features=len(setup.panel.feature_names))
        setup.network.load_state_dict(drawn.state_dict())
        self.fresh()

    def state(self) -> State:
        """A copy of where the walk stands."""
        kept: State = checkpoint.copied((self.setup.network.state_dict(), self._optimizer.state_dict()))
        return kept

    def back_to(self, state: State) -> None:
        """Go on from ``state``."""
        weights, moments = checkpoint.copied(state)
        self.setup.network.load_state_dict(weights)
        self.fresh()
        self._optimizer.load_state_dict(moments)

    def size(self, batch: config.Batch, seed: int) -> Size:
        """An effective batch from the training days.

        Raises:
            UseError: they hold too few blocks.
        """
        runtime, device = self.setup.tier.runtime, self.setup.device
        cut = cut_for(
            runtime.micro_batch_blocks, runtime.kept_graphs, blocks=batch.blocks, block_bytes=self.block_bytes,
            free_bytes=free_bytes(device),
        )  # fmt: skip
        return Size(batch, self.setup.training_sampler(batch, seed), seed, cut)

    def gradient(self, size: Size, number: int) -> StepOutcome:
        """Leave the gradient of step ``number`` (from 0) in the parameters.

        Raises:
            RunError: it is not finite, or memory does not hold it.
        """
        shard, keys = self._shard(size, number), RandomKeys(size.seed, number)
        self.setup.network.train()
        while True:
            try:
                outcome = self.setup.step(shard, self.parts, keys, cut=size.cut, loss_scale=self.scale.value)
            except GradientOverflowError as error:
                if self.setup.precision.scaled and self.scale.overflow():
                    continue
                raise RunError(_stopped(size, number, error)) from error
            except (NonFiniteError, ReplayError, OutOfMemoryError, ValueError) as error:
                raise RunError(_stopped(size, number, error)) from error
            self.scale.success()
            return outcome

    def update(self, rate: float) -> None:
        """One optimizer step along the gradient, clipped as the tier says."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        parameters = self.setup.network.parameters_of(self.parts)
        torch.nn.utils.clip_grad_norm_(parameters, self.setup.tier.optimizer.clip_norm)
        self._optimizer.step()

    def measure(self, size: Size, number: int, outcome: StepOutcome, window: list[Measurement]) -> None:
        """Add what the blocks of the step just computed say of its gradient noise."""
        noise_scale.taken(
            self.setup.step, window, self._shard(size, number), self.parts, RandomKeys(size.seed, number), outcome,
            number=number + 1, samples=size.batch.samples, loss_scale=self.scale.value,
        )  # fmt: skip

    def seconds(self, size: Size, repeats: int = 3) -> float:
        """Of a whole step with its data, the quickest of some; weights stay, the optimizer's state does not."""
        found = []
        for number in range(repeats + 1):
            began = time.perf_counter()
            self.gradient(size, number)
            self.update(0.0)
            if self.setup.device.type == "cuda":
                torch.cuda.synchronize(self.setup.device)
            found.append(time.perf_counter() - began)
        return min(found[1:])

    def _shard(self, size: Size, number: int) -> Shard:
        return Shard(self._drawn(size, number), [size.batch.blocks])

    def _drawn(self, size: Size, number: int) -> Callable[[int, int], Blocks]:
        plan = size.sampler.plan(number)

        def blocks(first: int, last: int) -> Blocks:
            run = slice(first, last)
            return self.setup.gatherer.blocks(
                plan.first_days[run], plan.stocks[run], plan.numbers[run], size.batch.block_days
            )

        return blocks


def _stopped(size: Size, number: int, error: Exception) -> str:
    return f"step {number + 1} of a batch of {size.batch.samples} stock-days: {error}"
