"""What the pictures of a comparison are drawn from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atft.report.material import Floats


@dataclass(frozen=True)
class Line:
    """Daily returns of one configuration on the days that all share: ``[seeds, days]``, before costs."""

    seeds: Floats

    @property
    def mean(self) -> Floats:
        """``[days]``, over the seeds."""
        found: Floats = self.seeds.mean(axis=0)
        return found


@dataclass(frozen=True)
class Curves:
    """Curves of configurations by name, the baseline first.

    Attributes:
        names: in order.
        epochs: of each seed, ``(phase, its epochs)`` in order.
        batches: by phase, of each seed its batch Sharpe ratios and their expected deviation.
        days: label dates that all evaluated runs share.
        daily: returns on them, of those that are evaluated.
    """

    names: Sequence[str]
    epochs: Mapping[str, Sequence[Sequence[tuple[str, Sequence[Mapping[str, Any]]]]]] = field(default_factory=dict)
    batches: Mapping[str, Mapping[str, Sequence[tuple[Floats, float | None]]]] = field(default_factory=dict)
    days: Sequence[dt.date] = ()
    daily: Mapping[str, Line] = field(default_factory=dict)
