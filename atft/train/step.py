"""The exact step: the gradient of a statistic of the whole effective batch, on any workers, in any micro-batches.

A Sharpe ratio is no mean of smaller Sharpe ratios. So each worker's micro-batches only compute the rows of their days;
the rows of all workers are gathered; the objective is taken once, of the table of all rows, alike on every worker; and
its gradient with respect to a worker's own rows goes back through the micro-batch that made each of them. The workers'
gradients are added once. Where memory does not hold all graphs, the first micro-batches run without one and run again,
under the same random keys, when their gradient is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from atft.blocks import Blocks
from atft.model.random_keys import RandomKeys
from atft.model.ranking import RankingNetwork
from atft.objective.mix import Mix
from atft.objective.rows import TERMS, RowSettings, day_rows
from atft.train.collectives import Group
from atft.train.partition import Cut, cuts

T = TypeVar("T")

MicroBatch = Callable[[], Blocks]
"""Gives the blocks of one micro-batch when called; what waits holds indices, not data."""


class NonFiniteError(ArithmeticError):
    """A loss or gradient is not finite; the message names the first offending tensor."""


class GradientOverflowError(NonFiniteError):
    """The loss is finite and its gradient is not: in float16 a lower loss scale may mend it."""


class ReplayError(RuntimeError):
    """A micro-batch that ran again gave other rows than before, so that its gradient would be another's."""


class OutOfMemoryError(RuntimeError):
    """Not even one block with one graph fits."""


@dataclass(frozen=True)
class Shard:
    """The blocks of one effective batch that this worker computes.

    Attributes:
        blocks: gives blocks ``first`` to ``last - 1`` of the shard; what waits holds indices, not data.
        sizes: blocks of every worker's shard, by rank.
    """

    blocks: Callable[[int, int], Blocks]
    sizes: Sequence[int]


@dataclass
class StepOutcome:
    """What one exact step found. The gradients are in ``parameter.grad``.

    Attributes:
        loss: the objective of the effective batch, to be made small.
        parts: each statistic by itself: sharpe, rank_ic, cs_ic, quantile.
        table: ``[days, len(TERMS)]`` float64 on the CPU, the rows of the effective batch.
        slopes: the same shape, the gradient of the loss with respect to each row.
        samples: stock-days that counted, from the masks.
        cut: how this worker cut its shard in the end.
        micro_batches: forward passes that its shard was cut into.
        kept_graphs: how many of them kept their graph.
        shrunk: how often memory ran out.
        seconds: time in ``forward``, ``recompute``, ``backward`` and ``collective``.
    """

    loss: float
    parts: dict[str, float]
    table: Tensor
    slopes: Tensor
    samples: int
    cut: Cut
    micro_batches: int
    kept_graphs: int
    shrunk: int
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ExactStep:
    """Computes the gradient of the objective of one effective batch.

    Attributes:
        network: the network; its gradients are replaced by each call.
        mix: the objective, a function of the table of rows.
        rows: what rows depend on besides scores and labels.
        autocast: opens the autocast context of every forward pass.
        device: where the blocks go.
        group: the workers that compute the effective batch together.
    """

    network: RankingNetwork
    mix: Mix
    rows: RowSettings
    autocast: Callable[[], AbstractContextManager[object]]
    device: torch.device
    group: Group = field(default_factory=Group)

    def __call__(
        self, shard: Shard, parts: frozenset[str], keys: RandomKeys, *, cut: Cut, loss_scale: float = 1.0
    ) -> StepOutcome:
        """Leave the gradient of the effective batch's loss in the parameters of ``parts``; collective.

        Out of memory halves the micro-batch and computes this worker's part again; no number and no other worker
        takes notice.

        Args:
            shard: this worker's blocks.
            parts: parts of the network that are on.
            keys: randomness of this step.
            cut: how the shard is cut into micro-batches.
            loss_scale: factor that the backward pass carries (float16); the gradients left are without it.

        Raises:
            NonFiniteError: the loss is not finite; ``GradientOverflowError``: its gradient is not.
            ReplayError: a second pass gave other rows than the first.
            OutOfMemoryError: one block alone does not fit.
            CollectiveError: another worker did not come.
            ValueError: too few days count.
        """
        work = _Work(self, shard, parts, keys, cut)
        own = work.within_memory(work.forward)
        block_days = own.shape[0] // shard.sizes[self.group.rank]
        sizes = [block_days * size for size in shard.sizes]
        table = self.group.gather_rows(own, sizes)
        work.clock.lap("collective")
        loss, statistics, slopes = self._objective(table)
        first = sum(sizes[: self.group.rank])
        own_slopes = slopes[first : first + len(own)].to(self.device) * loss_scale
        work.within_memory(lambda: work.backward(own, own_slopes))
        self.group.add(work.gradient)
        work.clock.lap("collective")
        self._finish(work.gradient, loss_scale)
        micro_batches = -(-shard.sizes[self.group.rank] // work.cut.blocks)
        return StepOutcome(
            loss=loss,
            parts=statistics,
            table=table,
            slopes=slopes,
            samples=int(table[:, TERMS.index("pooled_count")].sum()),
            cut=work.cut,
            micro_batches=micro_batches,
            kept_graphs=min(work.cut.kept, micro_batches),
            shrunk=work.shrunk,
            seconds=work.clock.seconds,
        )

    def evaluate(self, micro_batches: Iterable[MicroBatch], parts: frozenset[str]) -> Tensor:
        """The rows of some blocks without randomness and without a gradient: ``[days, len(TERMS)]`` on the CPU."""
        with torch.no_grad():
            rows = [self.forward(micro_batch(), parts, None).cpu() for micro_batch in micro_batches]
        return torch.cat([torch.zeros(0, len(TERMS), dtype=torch.float64), *rows])

    def forward(self, blocks: Blocks, parts: frozenset[str], keys: RandomKeys | None) -> Tensor:
        """The rows of the days of ``blocks``: ``[days, len(TERMS)]`` float64 on the device."""
        blocks = blocks.to(self.device)
        with self.autocast():
            output = self.network(blocks, parts, keys)
        return day_rows(output.scores, output.quantiles, blocks, self.rows)

    def rounding(self) -> float:
        """What a second pass may differ by, relative to the rows' size: rounding of the precision in effect."""
        with self.autocast():
            if torch.is_autocast_enabled(self.device.type):
                return 1e-2
        return 1e-9 if next(self.network.parameters()).dtype == torch.float64 else 1e-4

    def _objective(self, table: Tensor) -> tuple[float, dict[str, float], Tensor]:
        """The loss of the whole table, its parts, and its gradient with respect to every row."""
        table = table.clone().requires_grad_()
        _check_finite((("the rows of the days", table),))
        statistics = self.mix.parts(table)
        loss = self.mix.loss(statistics)
        _check_finite((("the loss", loss),))
        (slopes,) = torch.autograd.grad(loss, table)
        named = {name: float(value.detach()) for name, value in statistics.items()}
        return float(loss.detach()), named, slopes

    def _finish(self, gradient: Tensor, loss_scale: float) -> None:
        if loss_scale != 1.0:
            gradient.div_(loss_scale)
        if not torch.isfinite(gradient).all():
            gradients = ((f"the gradient of {name}", p.grad) for name, p in self.network.named_parameters())
            _check_finite(gradients, GradientOverflowError)


class _Work:
    """One worker's part of one step.

    Attributes:
        gradient: all gradients as one vector, which the parameters' ``grad`` are views of: added to in place by the
            backward passes, and sent as it is.
        cut: how the shard is cut; smaller after memory ran out.
        shrunk: how often that was.
        clock: where the time went.
    """

    def __init__(self, step: ExactStep, shard: Shard, parts: frozenset[str], keys: RandomKeys, cut: Cut) -> None:
        self.clock = _Clock()
        self.cut, self.shrunk = cut, 0
        self._step, self._shard, self._parts, self._keys = step, shard, parts, keys
        self._count = shard.sizes[step.group.rank]
        self._kept: dict[int, Tensor] = {}
        step.network.zero_grad(set_to_none=True)
        self.gradient = gradient_vector(step.network.parameters_of(parts))

    def within_memory(self, attempt: Callable[[], T]) -> T:
        """``attempt()``, again with a smaller cut each time that memory runs out."""
        while True:
            try:
                return attempt()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                smaller = self.cut.halved()
                if smaller is None:
                    raise OutOfMemoryError(f"memory does not hold the graph of a single block: {error}") from error
            # Past the handler: only now are the frames gone that hold what did not fit.
            self.cut, self.shrunk = smaller, self.shrunk + 1
            self._kept.clear()
            self.gradient.zero_()
            if self._step.device.type == "cuda":
                torch.cuda.empty_cache()

    def forward(self) -> Tensor:
        """This worker's rows: ``[days, len(TERMS)]`` without gradient; the last graphs stay."""
        pieces, rows = cuts(self._count, self.cut.blocks), []
        for number, (first, last) in enumerate(pieces):
            keep = number >= len(pieces) - self.cut.kept
            with nullcontext() if keep else torch.inference_mode():
                row = self._run(first, last)
            rows.append(row.detach())
            if keep:
                self._kept[first] = row
        self.clock.lap("forward")
        return torch.cat(rows)

    def backward(self, own: Tensor, slopes: Tensor) -> None:
        """Add the gradient of this worker's rows, given the loss' gradient ``slopes`` with respect to each."""
        block_days = len(own) // self._count
        for first, last in reversed(cuts(self._count, self.cut.blocks)):
            days = slice(first * block_days, last * block_days)
            row = self._kept.pop(first, None)
            if row is None:
                row = self._run(first, last)
                _same_rows(own[days], row.detach(), first, self._step.rounding())
                self.clock.lap("recompute")
            torch.autograd.backward(row, slopes[days])
            del row
            self.clock.lap("backward")

    def _run(self, first: int, last: int) -> Tensor:
        return self._step.forward(self._shard.blocks(first, last), self._parts, self._keys)


def gradient_vector(parameters: Sequence[nn.Parameter]) -> Tensor:
    """A vector of zeros, and every parameter's ``grad`` a view of its part of it, in order."""
    vector = torch.zeros(sum(p.numel() for p in parameters), dtype=parameters[0].dtype, device=parameters[0].device)
    for parameter, part in zip(parameters, torch.split(vector, [p.numel() for p in parameters])):
        parameter.grad = part.view_as(parameter)
    return vector


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _check_finite(named: Iterable[tuple[str, Tensor | None]], error: type[NonFiniteError] = NonFiniteError) -> None:
    for name, tensor in named:
        if tensor is not None and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise error(f"{name}: {bad} of {tensor.numel()} values are not finite")


def _same_rows(before: Tensor, after: Tensor, first: int, rounding: float) -> None:
    """Rounding may differ between a pass with and one without a graph; anything more is another batch."""
    scale = before.abs().amax(0).clamp_min(1e-9)
    difference = ((before - after).abs() / scale).max()
    if difference > rounding:
        raise ReplayError(
            f"the micro-batch from block {first} on: its rows differ by {float(difference):.1e} of their size on the "
            "second pass"
        )


class _Clock:
    """Adds up the time since the last lap under a name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
