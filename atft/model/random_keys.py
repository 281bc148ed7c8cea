"""Randomness by key: what a block draws depends on (seed, step, block, layer) alone.

A counter-based generator instead of one with a state: the n-th number of a key is a function of the key and of n.
So no order of blocks, no grouping into micro-batches and no other layer can change what a block draws, all blocks
draw in one vectorised call, and a pass that runs again draws the same.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_STEP = 0x9E3779B97F4A7C15
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK = (1 << 64) - 1
_LANES, _LEVELS = 4, 1 << 16
"""16-bit values in a 64-bit word, and how many values each can take."""


@dataclass(frozen=True)
class RandomKeys:
    """The randomness of one optimizer step. Where there is none, as in evaluation, ``None`` stands in its place.

    Attributes:
        seed: seed of the run.
        step: number of the optimizer step.
    """

    seed: int
    step: int

    def mask(
        self,
        layer: int | str,
        numbers: Tensor,
        shape: Sequence[int],
        probability: float,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Multipliers of inverted dropout: 0 with ``probability``, else ``1 / (1 - probability)``.

        Each 64-bit word gives four values: the probability in effect is the nearest multiple of 1/65,536 below 1,
        and the multiplier its own, so that the mean is exactly 1.

        Args:
            layer: name of what draws.
            numbers: ``[blocks]`` int64, number of each block in its effective batch.
            shape: shape of one block's mask.
            probability: in [0, 1).
            device: where the mask is wanted; the same numbers on every kind of device.
            dtype: of the mask.

        Returns:
            ``[blocks, *shape]``; each block's part is bitwise the same whatever blocks it is drawn with.

        Raises:
            ValueError: the probability is outside [0, 1).

        Source: SplitMix64 of Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators".
        """
        if not 0 <= probability < 1:
            raise ValueError(f"probability = {probability} of dropout must be at least 0 and below 1")
        keys = self._keys(layer, numbers).to(device, non_blocking=True)
        size = math.prod(shape)
        counters = torch.arange(1, math.ceil(size / _LANES) + 1, device=device).mul_(_signed(_STEP))
        lanes = _scramble(keys[:, None] + counters).view(torch.int16)[:, :size]
        dropped = min(round(probability * _LEVELS), _LEVELS - 1)
        kept = lanes >= dropped - _LEVELS // 2
        return kept.to(dtype).mul_(_LEVELS / (_LEVELS - dropped)).view(len(numbers), *shape)

    def _keys(self, layer: int | str, numbers: Tensor) -> Tensor:
        """``[blocks]`` int64, the key of each block in ``layer``; in plain integers, since they are few."""
        text = f"{self.seed} {self.step} {layer}".encode()
        stream = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
        return torch.tensor([_signed(_mixed(_mixed(number * _STEP) + stream)) for number in numbers.tolist()])


def _mixed(word: int) -> int:
    """The output function of SplitMix64 on one unsigned word."""
    word &= _MASK
    for places, factor in zip((30, 27), _FACTORS, strict=True):
        word = ((word ^ (word >> places)) * factor) & _MASK
    return word ^ (word >> 31)


def _signed(word: int) -> int:
    """The int64 with the bits of an unsigned 64-bit word."""
    word &= _MASK
    return word - (1 << 64) if word >> 63 else word


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Logical shift to the right; torch shifts the sign in."""
    return (bits >> places).bitwise_and_((1 << (64 - places)) - 1)


def _scramble(bits: Tensor) -> Tensor:
    """The same of many, in int64 that wraps around. Overwrites ``bits``."""
    for places, factor in zip((30, 27), _FACTORS, strict=True):
        bits.bitwise_xor_(_shifted(bits, places)).mul_(_signed(factor))
    return bits.bitwise_xor_(_shifted(bits, 31))
