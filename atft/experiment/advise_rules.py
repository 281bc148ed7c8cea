"""Rules of thumb for the size of a batch, as the original experiment wrote them and as it used them."""

from __future__ import annotations

from dataclasses import dataclass

from atft.experiment.rules import batch_rule, thumb


@dataclass(frozen=True)
class Rules:
    """What the rules say for one network, in stock-days.

    Attributes:
        parameters: of the network, counted.
        root: ``√parameters``, the rule as the original's figures used it.
        ten_roots: ``10 · √parameters``, the rule as the original wrote it.
        least: of the original's table.
        best: range of the original's table.
    """

    parameters: int
    root: float
    ten_roots: float
    least: int
    best: tuple[int, int]

    @classmethod
    def of(cls, parameters: int) -> Rules:
        """The rules for a network of so many parameters."""
        line = batch_rule(parameters)
        return cls(parameters, *thumb(parameters), line.least, line.best)

    def met(self, samples: int) -> list[str]:
        """Which rules a batch of ``samples`` stock-days meets."""
        low, high = self.best
        kept = {
            "√p": samples >= self.root,
            "10√p": samples >= self.ten_roots,
            "table": samples >= self.least,
            "best": low <= samples <= high,
        }
        return [name for name, holds in kept.items() if holds]

    @property
    def disagree(self) -> bool:
        """Whether ``10 · √parameters`` asks for more than the table calls best."""
        return self.ten_roots > self.best[1]
