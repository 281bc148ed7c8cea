import torch
import torch.nn.functional as F

from atft.model.gating import GatedResidual, GatedResidualNetwork

NUMBERS = torch.tensor([0, 1])


def test_a_gated_residual_is_the_published_formula() -> None:
    torch.manual_seed(0)
    layer = GatedResidual(6, 0.0, "a").double()
    torch.nn.init.normal_(layer.gate.weight)
    torch.nn.init.normal_(layer.gate.bias)
    x, skip = torch.randn(2, 5, 6).double(), torch.randn(2, 5, 6).double()
    value, gate = layer.gate.weight[:6], layer.gate.weight[6:]
    added = skip + (x @ value.T + layer.gate.bias[:6]) * torch.sigmoid(x @ gate.T + layer.gate.bias[6:])
    expected = (added - added.mean(-1, keepdim=True)) / (added.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x, skip, None, NUMBERS), expected)


def test_the_gate_starts_half_open_and_both_halves_get_a_gradient() -> None:
    torch.manual_seed(0)
    layer = GatedResidual(8, 0.0, "a")
    x = torch.randn(2, 40, 8)
    value, gate = F.linear(x, layer.gate.weight, layer.gate.bias).chunk(2, -1)
    assert torch.equal(gate, torch.zeros_like(gate))
    assert 0.5 < float(value.detach().std()) < 2
    (layer(x, x, None, NUMBERS) * torch.randn(2, 40, 8)).sum().backward()
    for half in layer.gate.weight.grad.chunk(2):
        assert (half.abs().amax(1) > 0).all()


def test_every_parameter_of_a_gated_residual_network_learns_from_the_start() -> None:
    torch.manual_seed(0)
    network = GatedResidualNetwork(8, 0.0, "a")
    (network(torch.randn(2, 40, 8), None, NUMBERS) * torch.randn(2, 40, 8)).sum().backward()
    assert all((parameter.grad.abs() > 0).any() for parameter in network.parameters())
