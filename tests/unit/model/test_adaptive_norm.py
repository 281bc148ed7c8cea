import numpy as np
import pytest
import torch
from torch import Tensor

from atft.model.adaptive_norm import (
    SMALLEST_DEVIATION,
    AdaptiveNorm,
    FrequencyNorm,
    SliceNorm,
    largest_first,
    orthonormal_basis,
    slice_members,
)


def some_windows(length: int = 11, samples: int = 6, channels: int = 4) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randn(length, 2, samples, channels, generator=g, dtype=torch.float64)


def removed_by(layer: FrequencyNorm, series: Tensor) -> Tensor:
    basis, _ = orthonormal_basis(len(series))
    return basis.T @ layer.dominant(series, basis)


def everywhere(windows: Tensor) -> Tensor:
    return torch.ones(windows.shape[:-1], dtype=torch.bool)


@pytest.mark.parametrize("length", [2, 7, 20])
def test_the_basis_is_orthonormal_and_its_amplitudes_are_those_of_numpy(length: int) -> None:
    basis, scale = orthonormal_basis(length)
    used = basis[basis.abs().sum(1) > 1e-9]
    torch.testing.assert_close(used @ used.T, torch.eye(length, dtype=torch.float64), rtol=0, atol=1e-14)
    series = torch.randn(length, dtype=torch.float64)
    cosine, sine = (basis @ series).view(2, -1)
    np.testing.assert_allclose(torch.hypot(cosine, sine) * scale, np.abs(np.fft.rfft(series.numpy())), atol=1e-12)


@pytest.mark.parametrize("length", [11, 20])
def test_fan_removes_what_numpy_finds_in_the_largest_frequencies(length: int) -> None:
    layer, windows = FrequencyNorm(4, length, 3).double(), some_windows(length, samples=200)
    spectrum = np.fft.rfft(windows.numpy(), axis=0)
    order = np.sort(np.abs(spectrum), axis=0)[::-1]
    kept = np.abs(spectrum) >= order[2]
    expected = np.fft.irfft(np.where(kept, spectrum, 0), n=length, axis=0)
    clear = order[2] > 1.1 * order[3] + 2e-3 * order[0]
    removed = removed_by(layer, windows.flatten(1)).view_as(windows).numpy()
    assert 0.3 < clear.mean() < 1
    np.testing.assert_allclose(removed[:, clear], expected[:, clear], atol=1e-12)


def test_fan_does_not_jump_where_two_amplitudes_change_places() -> None:
    day = torch.arange(20, dtype=torch.float64) * 2 * torch.pi / 20
    layer = FrequencyNorm(1, 20, 1).double()
    above, below = (((1 + e) * torch.cos(2 * day) + torch.cos(5 * day))[:, None] for e in (1e-9, -1e-9))
    assert float((removed_by(layer, above) - removed_by(layer, below)).abs().max()) < 1e-6


def test_slices_cover_every_day_exactly_once_also_when_they_do_not_divide_the_window() -> None:
    for length in range(1, 24):
        for slices in range(1, length + 1):
            members = slice_members(length, slices)
            assert (members.sum(0) == 1).all()
            assert members.sum(1).min() >= 1
            assert members.sum(1).max() - members.sum(1).min() <= 1
            assert (members.argmax(0).diff() >= 0).all()


def test_san_is_the_mean_and_deviation_of_the_days_present_of_each_slice() -> None:
    torch.manual_seed(0)
    layer, windows = SliceNorm(4, 11, 3).double(), some_windows()
    torch.nn.init.normal_(layer.give_back.weight)
    present = torch.rand(windows.shape[:-1], generator=torch.Generator().manual_seed(2)) > 0.3
    out = layer(windows, present)
    slice_of_day = slice_members(11, 3).argmax(0)
    for b, n in np.ndindex(2, 6):
        for s in range(3):
            days = (slice_of_day == s) & present[:, b, n]
            if not days.any():
                continue
            part = windows[days, b, n]
            scale = (part.var(0, correction=0) + SMALLEST_DEVIATION**2).sqrt()
            back = layer.give_back(torch.cat([part.mean(0), scale.log()]))
            torch.testing.assert_close(out[days, b, n], (part - part.mean(0)) / scale + back)


@pytest.mark.parametrize("slices", [1, 3, 11])
def test_the_last_day_changes_the_output_in_evaluation(slices: int) -> None:
    layer, windows = AdaptiveNorm(4, 11, 3, slices).double().eval(), some_windows()
    changed = windows.clone()
    changed[-1] += 0.5
    difference = layer(changed, everywhere(windows)) - layer(windows, everywhere(windows))
    assert (difference[-1].abs().amax(-1) > 0.01).all()
    assert float(layer(windows, everywhere(windows))[-1].detach().std()) > 0.1


def test_a_constant_window_still_says_its_level() -> None:
    layer = AdaptiveNorm(4, 11, 3, 4).double()
    low, high = torch.ones(11, 1, 1, 4).double(), 3 * torch.ones(11, 1, 1, 4).double()
    for windows in (low, high):
        torch.testing.assert_close(layer(windows, everywhere(windows)), windows)


def test_absent_days_have_no_influence_and_get_no_gradient() -> None:
    layer, windows = AdaptiveNorm(4, 11, 3, 3).double(), some_windows()
    present = torch.rand(windows.shape[:-1], generator=torch.Generator().manual_seed(3)) > 0.4
    present[:, 0, 0] = False
    other = windows.where(present[..., None], 1e3).requires_grad_()
    out = layer(other, present)
    torch.testing.assert_close(out.detach(), layer(windows, present).detach(), rtol=0, atol=0)
    out.square().sum().backward()
    assert torch.isfinite(other.grad).all()
    assert (other.grad[~present] == 0).all()


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    layer = SliceNorm(2, 7, 3).double()
    torch.nn.init.normal_(layer.give_back.weight)
    windows = some_windows(7, 2, 2).requires_grad_()
    present = torch.rand(7, 2, 2, generator=torch.Generator().manual_seed(3)) > 0.2
    assert torch.autograd.gradcheck(lambda w: layer(w, present), windows)


def test_it_computes_in_float32_under_autocast() -> None:
    layer, windows = AdaptiveNorm(4, 11, 3, 3), some_windows().float()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(windows.bfloat16(), everywhere(windows))
    assert torch.equal(out, layer(windows.bfloat16().float(), everywhere(windows)))


@pytest.mark.parametrize(
    ("frequencies", "slices", "message"), [(6, 3, "fan_frequencies = 6"), (2, 12, "san_slices = 12")]
)
def test_more_than_the_window_holds_is_refused(frequencies: int, slices: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaptiveNorm(4, 11, frequencies, slices)


@pytest.mark.parametrize("count", [1, 3, 11])
def test_the_largest_entries_are_those_of_topk_to_the_last_bit(count: int) -> None:
    values = torch.randn(11, 500, generator=torch.Generator().manual_seed(count)).round(decimals=1)  # with ties
    assert torch.equal(largest_first(values, count), values.topk(count, dim=0).values)
