import pytest
import torch
from torch import nn

from atft.model.temporal import LastDayAttention, Temporal

NUMBERS = torch.tensor([0, 1])


def test_last_day_attention_is_that_of_torch_with_one_query() -> None:
    torch.manual_seed(0)
    ours = LastDayAttention(8, 2).double()
    theirs = nn.MultiheadAttention(8, 2, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.randn(8).double(), ours.value.bias]))
        theirs.out_proj.weight.copy_(torch.eye(8))
    last, states = torch.randn(5, 8).double(), torch.randn(6, 5, 8).double()
    present = torch.rand(6, 5) > 0.4
    present[-1] = True
    expected, _ = theirs(last[None], states, states, key_padding_mask=~present.T)
    torch.testing.assert_close(ours(last, states, present), expected[0])


def test_attention_of_a_window_without_any_day_is_finite() -> None:
    layer, states = LastDayAttention(8, 2), torch.randn(6, 5, 8, requires_grad=True)
    found = layer(torch.randn(5, 8), states, torch.zeros(6, 5, dtype=torch.bool))
    found.square().sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(states.grad).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_what_an_absent_day_holds_has_no_influence_but_its_absence_has(layers: int) -> None:
    torch.manual_seed(0)
    layer = Temporal(8, 2, layers, 0.0).double()
    windows, present = torch.randn(6, 2, 3, 8).double(), torch.ones(6, 2, 3, dtype=torch.bool)
    base = layer(windows, present, None, NUMBERS)
    present[2] = False
    out = layer(windows, present, None, NUMBERS)
    windows[2] = 100.0
    assert torch.equal(layer(windows, present, None, NUMBERS), out)
    assert float((out - base).detach().abs().min()) > 0


def test_every_day_of_the_window_and_their_order_matter() -> None:
    torch.manual_seed(0)
    layer = Temporal(8, 2, 1, 0.0).double()
    windows = torch.randn(6, 2, 3, 8).double().requires_grad_()
    present = torch.ones(6, 2, 3, dtype=torch.bool)
    out = layer(windows, present, None, NUMBERS)
    (out * torch.randn_like(out)).sum().backward()
    assert (windows.grad.abs().amax(-1) > 1e-6).all()
    swapped = windows.detach()[[1, 0, 2, 3, 4, 5]]
    assert float((layer(swapped, present, None, NUMBERS) - out).detach().abs().max()) > 1e-4


def test_the_forget_gate_starts_open() -> None:
    lstm = Temporal(8, 2, 2, 0.0).lstm
    for layer in range(2):
        bias = getattr(lstm, f"bias_ih_l{layer}") + getattr(lstm, f"bias_hh_l{layer}")
        assert bias.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
