"""From target positions to what is held: drift between decisions, untradable stocks, overlapping tranches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atft.evaluate.execution import Execution
from atft.evaluate.metrics import Floats, check_shapes


@dataclass(frozen=True)
class Trades:
    """What came of target positions, decision by decision; all fractions are of the capital of one tranche.

    The capital lies in ``horizon`` equal tranches. Each decision renews one of them, which is then left alone for
    ``horizon`` days; with a horizon of 1 there is one tranche, renewed every day.

    Attributes:
        held: ``[decisions, stocks]`` positions right after the execution.
        traded: ``[decisions, stocks]`` what was bought (above 0) and sold (below) at the execution.
        gains: ``[decisions, stocks]`` what each position earned until its exit: ``held × return``.
        blocked: stock-days on which a stock could not be traded though its target differed from what was held.
        stale: positions that were valued at their exit at a price of an earlier day, the stock being suspended.
        delisted: positions whose stock left for good.
    """

    held: Floats
    traded: Floats
    gains: Floats
    blocked: int
    stale: int
    delisted: int

    @property
    def gross(self) -> Floats:
        """``[decisions]`` return of the tranche over its holding period before any cost."""
        total: Floats = self.gains.sum(1)
        return total

    @property
    def turnover(self) -> Floats:
        """``[decisions]`` gross value traded, buys and sells both counted: ``Σ|Δw|``."""
        total: Floats = np.abs(self.traded).sum(1)
        return total

    def side(self, sign: int) -> Floats:
        """``[decisions]`` return of the long (``sign`` 1) or the short (-1) positions alone, on the whole capital."""
        total: Floats = np.where(np.sign(self.held) == sign, self.gains, 0.0).sum(1)
        return total


def trade(targets: Floats, execution: Execution, *, drift: bool = True) -> Trades:
    """Execute target positions, one decision after the other.

    Between two decisions a position grows with its stock and its weight with it: ``w (1 + r) / (1 + Σ w r)``; cash
    earns nothing, and costs do not shrink the capital that weights are taken of. A stock that cannot be traded at an
    execution keeps the weight that it has, whatever the target, while the others go to their targets as planned; so
    such a day's positions need not sum to 0, nor their gross value to 1. A stock that has left is paid out. Where there
    is no decision ``horizon`` days before (the first ones, or after a gap) a tranche starts from cash.

    Args:
        targets: ``[decisions, stocks]`` wanted positions, from what is known at the decision.
        execution: of the same decisions.
        drift: False takes a tranche's weights to be unchanged when it is renewed, as ``result.json``'s costs do.

    Raises:
        ValueError: shapes differ.
    """
    check_shapes(targets=targets, returns=execution.returns)
    horizon, row_of = execution.rules.horizon, {int(day): row for row, day in enumerate(execution.days)}
    returns = np.nan_to_num(execution.returns, nan=0.0)
    held, traded, blocked = np.zeros_like(targets), np.zeros_like(targets), 0
    for row, day in enumerate(execution.days):
        before = np.zeros(targets.shape[1])
        renewed = row_of.get(int(day) - horizon)
        if renewed is not None:
            before = _carried(held[renewed], returns[renewed], execution.delisted[renewed], drift=drift)
        can = execution.tradable[row]
        held[row] = np.where(can, targets[row], before)
        traded[row] = held[row] - before
        blocked += int((~can & (targets[row] != before)).sum())
    taken = held != 0
    return Trades(
        held=held,
        traded=traded,
        gains=held * returns,
        blocked=blocked,
        stale=int((taken & execution.stale).sum()),
        delisted=int((taken & execution.delisted).sum()),
    )


def _carried(held: Floats, returns: Floats, delisted: np.ndarray, *, drift: bool) -> Floats:
    """``[stocks]`` weights of a tranche at the end of its holding period; none where its stock left, or all is lost."""
    kept = np.where(delisted, 0.0, held)
    if not drift:
        return kept
    wealth = 1 + float(held @ returns)
    return kept * (1 + returns) / wealth if wealth > 0 else np.zeros_like(kept)
