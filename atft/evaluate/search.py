"""What is known of the search that a strategy was found by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Search:
    """What is known of the search that a strategy was found by.

    Attributes:
        trials: different evaluations of the test period, this one among them; 0 where nothing is known.
        sharpes: their daily Sharpe ratios, as far as they are defined.
        elsewhere: different evaluations on overlapping dates: of other panels, or of other test periods.
    """

    trials: int
    sharpes: Sequence[float]
    elsewhere: int = 0
