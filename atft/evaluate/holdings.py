"""What can be held after each decision, and what holding it comes to, whether or not its stock has a label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atft.evaluate import portfolio
from atft.evaluate.execution import Execution
from atft.evaluate.metrics import Bools, Floats, check_shapes
from atft.evaluate.portfolio import Stretch


@dataclass(frozen=True)
class Holdings:
    """What positions are spread over, and what each of them earns.

    Attributes:
        scored: ``[days, stocks]`` what positions are spread over, by what is known at the decision.
        earned: ``[days, stocks]`` simple return of a position from its execution to its exit, NaN where it cannot be
            bought: such an order is not filled, and its part of the capital stays in cash.
        at_last_price: ``[days, stocks]``, True where the exit has no price of its day and the last known one is taken.
        stretch: ``[days]`` where the gaps between the days are, see :func:`atft.evaluate.portfolio.stretches`.
    """

    scored: Bools
    earned: Floats
    at_last_price: Bools
    stretch: Stretch

    @classmethod
    def labelled(cls, returns: Floats, valid: Bools, stretch: Stretch | None = None) -> Holdings:
        """Of labels alone, without a price to value anything by: what is not ``valid`` is never held.

        Args:
            returns: ``[days, stocks]``, finite where valid.
            valid: ``[days, stocks]``.
            stretch: where the gaps are; None where the days follow one another.
        """
        days = np.zeros(len(valid), dtype=np.int64) if stretch is None else stretch
        return cls(valid, returns, np.zeros_like(valid), days)

    @classmethod
    def executed(cls, scored: Bools, execution: Execution) -> Holdings:
        """Of stocks that are scored, at the prices of an execution: a missing exit is the last known price.

        Args:
            scored: ``[decisions, stocks]``, by what is known at the decision.
            execution: of the same decisions.
        """
        earned = np.where(execution.tradable, execution.returns, np.nan)
        return cls(scored, earned, execution.stale | execution.delisted, portfolio.stretches(execution.days))

    def check(self, valid: Bools) -> None:
        """Raise ValueError unless shapes agree and all that is ``valid`` takes part."""
        check_shapes(scored=self.scored, earned=self.earned, at_last_price=self.at_last_price, valid=valid)
        if (valid & ~self.scored).any():
            raise ValueError(
                f"{int((valid & ~self.scored).sum())} valid entries are none that positions are spread over"
            )

    def on(self, rows: npt.NDArray[np.int64]) -> Holdings:
        """Those of some of the days; the gaps stay where they are."""
        return Holdings(self.scored[rows], self.earned[rows], self.at_last_price[rows], self.stretch[rows])

    def taken(self, targets: Floats) -> Floats:
        """``[days, stocks]`` what is held of ``targets``: all but the orders that cannot be filled."""
        held: Floats = np.where(np.isfinite(self.earned), targets, 0.0)
        return held

    @property
    def valued_at_last_price(self) -> int:
        """Stock-days that are scored, can be bought, and have no price at their exit."""
        return int((self.scored & np.isfinite(self.earned) & self.at_last_price).sum())

    @property
    def not_bought(self) -> int:
        """Stock-days that are scored and have no price at their execution."""
        return int((self.scored & ~np.isfinite(self.earned)).sum())
