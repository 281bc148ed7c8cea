"""Which number formats a run computes in, and the loss scale of float16."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from atft.config import Precision


@dataclass(frozen=True)
class InEffect:
    """The precision that a device really computes in.

    Attributes:
        asked: as the tier states it.
        name: what is in effect: ``float32``, ``bfloat16`` or ``float16``.
        autocast: opens the context of a forward pass.
        scaled: whether gradients need a loss scale.
    """

    asked: Precision
    name: str
    autocast: Callable[[], AbstractContextManager[object]]
    scaled: bool


def in_effect(asked: Precision, device: torch.device) -> InEffect:
    """What ``asked`` means on ``device``: 16-mixed is float16 on a GPU and bfloat16 elsewhere."""
    if asked == "32":
        return InEffect(asked, "float32", nullcontext, scaled=False)
    half = asked == "16-mixed" and device.type == "cuda"
    dtype = torch.float16 if half else torch.bfloat16
    return InEffect(asked, str(dtype).removeprefix("torch."), lambda: torch.autocast(device.type, dtype), scaled=half)


@dataclass
class LossScale:
    """The loss scale of float16: halved after an overflow, doubled after ``growth_steps`` steps without one."""

    value: float
    growth_steps: int = 2000
    since: int = 0
    overflows: int = 0

    @classmethod
    def of(cls, precision: InEffect) -> LossScale:
        """A scale of 2¹⁶ where one is needed, else 1 for good."""
        return cls(2.0**16) if precision.scaled else cls(1.0, growth_steps=0)

    def overflow(self) -> bool:
        """Halve the scale; False where that would go below 1 and the run has to stop."""
        self.overflows += 1
        self.since = 0
        self.value /= 2
        return self.value >= 1.0

    def success(self) -> None:
        """Count a step without overflow."""
        self.since += 1
        if self.growth_steps and self.since >= self.growth_steps:
            self.value, self.since = self.value * 2, 0
