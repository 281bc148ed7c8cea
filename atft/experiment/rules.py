"""The rules that a checklist holds a tier against: batch sizes, and what may differ from a baseline."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from atft.config import Tier
from atft.errors import UseError
from atft.experiment.diff import Difference, Differences, differences
from atft.experiment.tiers import resolve

BELOW_MINIMUM = "batch-below-minimum"
UNDECLARED = "variables-undeclared"
SHRINKS = "batch-shrinks-as-model-grows"
REASONS = (BELOW_MINIMUM, UNDECLARED, SHRINKS)
"""Why a tier may be refused, by the names that ``--accept`` takes."""


MOST_STEPS = 3
"""Variables up to which a way from the baseline to a tier is spelt out."""


@dataclass(frozen=True)
class BatchRule:
    """One line of the table of batch sizes.

    Attributes:
        models: which it is for, in words.
        below: parameters that its models stay below.
        least: stock-days below which it is refused.
        best: stock-days from and to which it was meant to be best.
    """

    models: str
    below: float
    least: int
    best: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.models}: at least {self.least:,}, best {self.best[0]:,} to {self.best[1]:,}"


BATCH_RULES = (
    BatchRule("below 10M parameters", 10e6, 1024, (1024, 2048)),
    BatchRule("10M to 50M parameters", 50e6, 2048, (2048, 4096)),
    BatchRule("50M parameters or more", math.inf, 4096, (4096, 8192)),
)
"""The original analysis' table, a hypothesis: nobody has measured it."""


def batch_rule(parameters: int) -> BatchRule:
    """The line of the table for a model of so many parameters."""
    return next(rule for rule in BATCH_RULES if parameters < rule.below)


def thumb(parameters: int) -> tuple[float, float]:
    """The least batch by the original's rule of thumb: as it was used (√parameters), and as it was written (10 ×)."""
    return math.sqrt(parameters), 10 * math.sqrt(parameters)


def days_for(tier: Tier, samples: int) -> int:
    """The least ``batch.days`` in whole blocks that give at least so many stock-days."""
    block = tier.batch.block_days
    return -(-samples // (block * tier.batch.stocks_per_day)) * block


def undeclared(tier: Tier, found: Differences) -> list[str]:
    """Variables that differ, beside others, without being stated in ``differs``."""
    return [name for name in found.named if name not in (tier.differs or ())] if found.variables > 1 else []


def alone(tier: Tier, others: Mapping[str, Tier]) -> list[str]:
    """Others that ``tier`` could be compared with, since one variable differs: its name, and theirs."""
    found = {name: differences(other, tier) for name, other in others.items()}
    return [f"{each.named[0]} alone against {name}" for name, each in found.items() if each.causal]


def chain(baseline: str, start: Tier, end: Tier, found: Differences) -> list[str]:
    """From the baseline to the tier by one variable a step, as they are typed; empty where that cannot be typed."""
    steps, flags = [baseline], dict[str, Any]()
    if found.variables > MOST_STEPS:
        return []
    for variable in found.named[:-1]:
        own = [each for each in found.learning if each.variable == variable]
        if any(not _settable(each) for each in own):
            return []
        flags |= {each.path: each.b for each in own}
        try:
            reached = resolve(baseline, flags=flags, environ={}).tier
        except UseError:
            return []
        if len(differences(start, reached).named) != len(steps):
            return []
        steps.append(f"{baseline} {' '.join(_flags(flags))}")
    return [*steps, end.name]


def _settable(each: Difference) -> bool:
    return not any(value is None or isinstance(value, dict) for value in (each.a, each.b))


def _flags(flags: Mapping[str, Any]) -> Iterator[str]:
    for path, value in flags.items():
        yield f"--set {path}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"
