"""Normalisation of each window by itself: dominant frequencies (FAN), then level and scale of slices (SAN).

Prices drift and change their pace. Both layers take such a pattern out of a window, so that what follows sees the
rest on one scale, and hand it back as a feature: nothing is erased. The maps that hand it back start as the identity
on the last day's removed pattern and on the slice's level, so that a window keeps its meaning when the part is
switched on in a later phase.

Windows are ``[window, blocks, samples, channels]``: with time first, transform and slice sums are single matrix
products over all windows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SMALLEST_DEVIATION = 0.1
"""Floor of a slice's deviation (embeddings have a deviation of about 1): what varies less is not blown up."""

RAMP = 0.05
"""Share of its own amplitude by which a frequency exceeds the first one kept when it is removed as a whole."""


class AdaptiveNorm(nn.Module):
    """FAN, then SAN, in float32 at least.

    Args:
        hidden_size: channels.
        window: days of a window.
        frequencies: dominant frequencies that are removed, the mean counted as one.
        slices: slices of the window; together they cover all its days.
    """

    def __init__(self, hidden_size: int, window: int, frequencies: int, slices: int) -> None:
        super().__init__()
        self.frequency = FrequencyNorm(hidden_size, window, frequencies)
        self.slice = SliceNorm(hidden_size, window, slices)

    def forward(self, windows: Tensor, present: Tensor) -> Tensor:
        """Normalise each window.

        Args:
            windows: ``[window, blocks, samples, channels]``.
            present: ``[window, blocks, samples]`` bool; absent days count in no statistic.

        Returns:
            The same shape, in float32 at least; days that are absent hold no information of their own.
        """
        with torch.autocast(windows.device.type, enabled=False):
            wide = windows if windows.dtype == torch.float64 else windows.float()
            normalised: Tensor = self.slice(self.frequency(wide, present), present)
            return normalised


class FrequencyNorm(nn.Module):
    """Remove the frequencies of largest amplitude of each window and channel.

    A frequency is removed as a whole where its amplitude exceeds that of the first one kept by ``RAMP``, and in part
    below: a hard choice would turn on rounding where two amplitudes are equal, and the gradient with it.

    Source: Ye et al. (2024), "Frequency adaptive normalization for non-stationary time series forecasting".
    """

    forward_basis: Tensor
    amplitude_scale: Tensor

    def __init__(self, hidden_size: int, window: int, frequencies: int) -> None:
        super().__init__()
        if not 1 <= frequencies <= window // 2:
            raise ValueError(f"fan_frequencies = {frequencies} must be from 1 to {window // 2}, half the window")
        self.frequencies = frequencies
        basis, scale = orthonormal_basis(window)
        self.register_buffer("forward_basis", basis.float(), persistent=False)
        self.register_buffer("amplitude_scale", scale.float(), persistent=False)
        self.give_back = nn.Linear(2 * hidden_size, hidden_size)
        nn.init.eye_(self.give_back.weight)
        nn.init.zeros_(self.give_back.bias)

    def forward(self, windows: Tensor, present: Tensor) -> Tensor:
        """``[window, blocks, samples, channels]`` without its dominant part, plus a map of that part."""
        there = present[..., None]
        mean = torch.where(there, windows, 0.0).sum(0) / there.sum(0).clamp_min(1)
        flat = torch.where(there, windows, mean).flatten(1)
        basis = self._basis(flat)
        dominant = self.dominant(flat, basis)
        # What is removed is ``basis.T @ dominant``; of it alone, its last day and its mean are wanted.
        ends = torch.stack([basis[:, -1], basis.mean(1)]) @ dominant
        last, level = (part.view_as(mean) for part in ends)
        back: Tensor = self.give_back(torch.cat([last, level], -1))
        return torch.addmm(flat, basis.T, dominant, alpha=-1).view_as(windows) + back

    def dominant(self, series: Tensor, basis: Tensor) -> Tensor:
        """Components of ``series`` ``[window, n]`` in its frequencies of largest amplitude, 0 in the others.

        Returns:
            ``[2 * frequencies of the window, n]``, coordinates in ``basis``.
        """
        components = basis @ series
        share = self._share(components.detach())
        return (components.view(2, -1, series.shape[1]) * share).flatten(0, 1)

    def _basis(self, series: Tensor) -> Tensor:
        if series.dtype == self.forward_basis.dtype == torch.float32:
            return self.forward_basis
        basis, _ = orthonormal_basis(len(series))
        return basis.to(series)

    @torch.no_grad()
    def _share(self, components: Tensor) -> Tensor:
        """How much of each frequency is removed: ``[frequencies of the window, n]`` in [0, 1]."""
        cosine, sine = components.view(2, -1, components.shape[1])
        amplitude = torch.hypot(cosine, sine).mul_(self.amplitude_scale.to(components)[:, None])
        largest = largest_first(amplitude, self.frequencies + 1)
        # The second and third term keep the rounding of a window without any variation from choosing a frequency.
        ramp = (RAMP * amplitude).add_(1e-3 * largest[0]).add_(1e-6)
        return (amplitude - largest[-1]).div_(ramp).clamp_(0, 1)


def largest_first(values: Tensor, count: int) -> Tensor:
    """The ``count`` largest entries along the first dimension, falling: ``[count, …]``.

    On a CPU by comparing row after row, an eleventh of the time of ``topk`` where the first dimension is short and the
    others are long; the same bits.
    """
    if values.device.type != "cpu":
        return values.topk(count, dim=0).values
    found: list[Tensor] = []
    for row in values.unbind(0):
        rest = row
        for place, larger in enumerate(found):
            found[place], rest = torch.maximum(larger, rest), torch.minimum(larger, rest)
        if len(found) < count:
            found.append(rest)
    return torch.stack(found)


class SliceNorm(nn.Module):
    """Bring each slice of each window and channel to mean 0 and deviation 1.

    The slices' lengths differ by at most one day and cover the whole window. Level and log scale of a slice return
    through a linear map that is added to its days: a slice of a single day, whose rest is 0, still says its level.

    Source: Liu et al. (2023), "Adaptive normalization for non-stationary time series forecasting: a temporal slice
    perspective".
    """

    member: Tensor

    def __init__(self, hidden_size: int, window: int, slices: int) -> None:
        super().__init__()
        if not 1 <= slices <= window:
            raise ValueError(f"san_slices = {slices} must be from 1 to {window}, the window")
        self.register_buffer("member", slice_members(window, slices).float(), persistent=False)
        self.give_back = nn.Linear(2 * hidden_size, hidden_size)
        nn.init.eye_(self.give_back.weight)
        nn.init.zeros_(self.give_back.bias)

    def forward(self, windows: Tensor, present: Tensor) -> Tensor:
        """``[window, blocks, samples, channels]`` normalised by slices, plus a map of levels and scales."""
        member, there = self.member.to(windows), present[..., None].to(windows)
        flat = windows.flatten(1)
        count = (member @ there.flatten(1)).view(-1, *there.shape[1:]).clamp_min(1)
        level = self._sum(windows * there) / count
        centred = torch.addmm(flat, member.T, level.flatten(1), alpha=-1)
        variance = self._sum(centred.square().view_as(windows) * there) / count
        scale = (variance + SMALLEST_DEVIATION**2).sqrt()
        back = self.give_back(torch.cat([level, scale.log()], -1))
        spread = member.T @ scale.reciprocal().flatten(1)
        return torch.addmm(centred * spread, member.T, back.flatten(1)).view_as(windows)

    def _sum(self, windows: Tensor) -> Tensor:
        """``[slices, blocks, samples, channels]``, sum over the days of each slice."""
        return (self.member.to(windows) @ windows.flatten(1)).view(-1, *windows.shape[1:])


def orthonormal_basis(window: int) -> tuple[Tensor, Tensor]:
    """The real Fourier basis of ``window`` days, in float64.

    Returns:
        ``[2 * frequencies, window]`` orthonormal rows, the cosines of all ``frequencies = window // 2 + 1`` and
        then their sines (rows of 0 for the mean and, in an even window, the fastest frequency, which have none);
        and ``[frequencies]``, what turns the norm of a frequency's two components into ``abs`` of its ``rfft``.
    """
    frequency = torch.arange(window // 2 + 1, dtype=torch.float64)
    angle = 2 * math.pi / window * frequency[:, None] * torch.arange(window, dtype=torch.float64)
    alone = (frequency == 0) | (2 * frequency == window)
    norm = (window / (2.0 - alone.double())).sqrt()
    sine = torch.where(alone[:, None], 0.0, angle.sin())
    return torch.cat([angle.cos(), sine]) / norm.repeat(2)[:, None], norm


def slice_members(window: int, slices: int) -> Tensor:
    """``[slices, window]``, 1.0 where a day belongs to a slice: runs of days, each day in exactly one."""
    slice_of_day = torch.arange(window) * slices // window
    return (torch.arange(slices)[:, None] == slice_of_day).double()
