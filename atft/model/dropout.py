"""Dropout whose masks follow from keys."""

from __future__ import annotations

from torch import Tensor, nn

from atft.model.random_keys import RandomKeys


class KeyedDropout(nn.Module):
    """Inverted dropout that depends on (seed, step, block, layer) only.

    Args:
        probability: share of values that are set to 0, in [0, 1).
        layer: name of this layer, different from that of every other one.
        over: dimensions (counted from the front) over which one mask is shared: variational dropout of
            Gal and Ghahramani (2016), which keeps the masks small.
    """

    def __init__(self, probability: float, layer: str, over: tuple[int, ...] = ()) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"dropout = {probability} of layer {layer} must be at least 0 and below 1")
        self.probability, self.layer, self.over = probability, layer, over

    def forward(self, x: Tensor, keys: RandomKeys | None, numbers: Tensor) -> Tensor:
        """``x`` with some values set to 0 and the others scaled up; ``x`` itself without keys.

        Args:
            x: ``[blocks, ...]``.
            keys: randomness of the step, None for evaluation.
            numbers: ``[blocks]``, number of each block in its effective batch.
        """
        if keys is None or self.probability == 0:
            return x
        shape = [1 if dimension in self.over else size for dimension, size in enumerate(x.shape)][1:]
        mask = keys.mask(self.layer, numbers, shape, self.probability, device=x.device, dtype=x.dtype)
        return x * mask

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.probability}, layer={self.layer!r}, over={self.over}"
