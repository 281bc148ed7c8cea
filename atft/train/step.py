"""The exact step: the gradient of a statistic of the whole effective batch, with any number of micro-batches.

A Sharpe ratio is no mean of smaller Sharpe ratios. So the micro-batches only compute the rows of their days; the
objective is taken once, of the table of all rows; and its gradient with respect to each row goes back through the
micro-batch that made it. Where memory does not hold all graphs, the first micro-batches run without one and run
again, under the same random keys, when their gradient is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from atft.blocks import Blocks
from atft.model.network import Network
from atft.model.random_keys import RandomKeys
from atft.objective.mix import Mix
from atft.objective.rows import TERMS, RowSettings, day_rows

MicroBatch = Callable[[], Blocks]
"""Gives the blocks of one micro-batch when called; what waits holds indices, not data."""


class NonFiniteError(ArithmeticError):
    """A loss or gradient is not finite; the message names the first offending tensor."""


class GradientOverflowError(NonFiniteError):
    """The loss is finite and its gradient is not: in float16 a lower loss scale may mend it."""


class ReplayError(RuntimeError):
    """A micro-batch that ran again gave other rows than before, so that its gradient would be another's."""


@dataclass
class StepOutcome:
    """What one exact step found. The gradients are in ``parameter.grad``.

    Attributes:
        loss: the objective of the effective batch, to be made small.
        parts: each statistic by itself: sharpe, rank_ic, cs_ic, quantile.
        table: ``[days, len(TERMS)]`` float64 on the device, the rows of the effective batch.
        samples: stock-days that counted, from the masks.
        micro_batches: forward passes that the effective batch was cut into.
        kept_graphs: how many of them kept their graph.
        seconds: time in ``forward``, ``recompute`` and ``backward``.
    """

    loss: float
    parts: dict[str, float]
    table: Tensor
    samples: int
    micro_batches: int
    kept_graphs: int
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
    """

    network: Network
    mix: Mix
    rows: RowSettings
    autocast: Callable[[], AbstractContextManager[object]]
    device: torch.device

    def __call__(
        self,
        micro_batches: Sequence[MicroBatch],
        parts: frozenset[str],
        keys: RandomKeys,
        *,
        kept_graphs: int,
        loss_scale: float = 1.0,
    ) -> StepOutcome:
        """Leave the gradient of the effective batch's loss in the parameters of ``parts``.

        Args:
            micro_batches: the effective batch, cut in any way into runs of blocks.
            parts: parts of the network that are on.
            keys: randomness of this step.
            kept_graphs: how many of the last micro-batches keep their graphs; the others run again.
            loss_scale: factor that the backward pass carries (float16); the gradients left are without it.

        Raises:
            NonFiniteError: the loss is not finite; ``GradientOverflowError``: its gradient is not.
            ReplayError: a second pass gave other rows than the first.
            ValueError: too few days count.
        """
        clock = _Clock()
        parameters = list(self.network.parameters_of(parts))
        self.network.zero_grad(set_to_none=True)
        first_kept = max(0, len(micro_batches) - kept_graphs)
        rows: list[Tensor] = []
        for number, micro_batch in enumerate(micro_batches):
            with torch.set_grad_enabled(number >= first_kept):
                rows.append(self._forward(micro_batch, parts, keys))
        clock.lap("forward")
        table, loss, statistics, gradients = self._objective([row.detach() for row in rows])
        for number in range(len(micro_batches) - 1, -1, -1):
            row, gradient = rows.pop(), gradients[number] * loss_scale
            if number < first_kept:
                again = self._forward(micro_batches[number], parts, keys)
                _same_rows(row, again.detach(), number, self._rounding())
                row = again
                clock.lap("recompute")
            torch.autograd.backward(row, gradient)
            del row
            clock.lap("backward")
        self._finish(parameters, loss_scale)
        return StepOutcome(
            loss=loss,
            parts=statistics,
            table=table,
            samples=int(table[:, TERMS.index("pooled_count")].sum()),
            micro_batches=len(micro_batches),
            kept_graphs=len(micro_batches) - first_kept,
            seconds=clock.seconds,
        )

    def evaluate(self, micro_batches: Iterable[MicroBatch], parts: frozenset[str]) -> Tensor:
        """The table of rows of some blocks without randomness and without a gradient: ``[days, len(TERMS)]``."""
        with torch.no_grad():
            return torch.cat([self._forward(micro_batch, parts, None) for micro_batch in micro_batches])

    def _forward(self, micro_batch: MicroBatch, parts: frozenset[str], keys: RandomKeys | None) -> Tensor:
        blocks = micro_batch().to(self.device)
        with self.autocast():
            output = self.network(blocks, parts, keys)
        return day_rows(output.scores, output.quantiles, blocks, self.rows)

    def _objective(self, rows: Sequence[Tensor]) -> tuple[Tensor, float, dict[str, float], Sequence[Tensor]]:
        """The loss of the whole table, and its gradient with respect to each micro-batch's rows."""
        table = torch.cat(list(rows)).requires_grad_()
        _check_finite((("the rows of the days", table),))
        statistics = self.mix.parts(table)
        loss = self.mix.loss(statistics)
        _check_finite((("the loss", loss),))
        (gradient,) = torch.autograd.grad(loss, table)
        named = {name: float(value.detach()) for name, value in statistics.items()}
        return table.detach(), float(loss.detach()), named, torch.split(gradient, [row.shape[0] for row in rows])

    def _rounding(self) -> float:
        """What a second pass may differ by, relative to the rows' size: rounding of the precision in effect."""
        with self.autocast():
            if torch.is_autocast_enabled(self.device.type):
                return 1e-2
        return 1e-9 if next(self.network.parameters()).dtype == torch.float64 else 1e-4

    def _finish(self, parameters: Sequence[nn.Parameter], loss_scale: float) -> None:
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            elif loss_scale != 1.0:
                parameter.grad.div_(loss_scale)
        total = torch.stack([parameter.grad.norm() for parameter in parameters if parameter.grad is not None]).sum()
        if not torch.isfinite(total):
            gradients = ((f"the gradient of {name}", p.grad) for name, p in self.network.named_parameters())
            _check_finite(gradients, GradientOverflowError)


def _check_finite(named: Iterable[tuple[str, Tensor | None]], error: type[NonFiniteError] = NonFiniteError) -> None:
    for name, tensor in named:
        if tensor is not None and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise error(f"{name}: {bad} of {tensor.numel()} values are not finite")


def _same_rows(before: Tensor, after: Tensor, number: int, rounding: float) -> None:
    """Rounding may differ between a pass with and one without a graph; anything more is another batch."""
    scale = before.abs().amax(0).clamp_min(1e-9)
    difference = ((before - after).abs() / scale).max()
    if difference > rounding:
        raise ReplayError(
            f"micro-batch {number}: its rows differ by {float(difference):.1e} of their size on the second pass"
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
