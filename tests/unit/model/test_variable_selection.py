import pytest
import torch
from torch import Tensor

from atft.model.variable_selection import PlainEmbedding, VariableSelection


def rows() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    values = torch.randn(40, 7, generator=g, dtype=torch.float64)
    known = torch.rand(40, 7, generator=g) > 0.3
    known[3] = False
    return values, known


@pytest.fixture
def layer() -> VariableSelection:
    torch.manual_seed(0)
    made = VariableSelection(7, 6).double()
    for parameter in made.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return made


def test_it_equals_a_loop_over_features(layer: VariableSelection) -> None:
    values, known = rows()
    expected = []
    for x, here in zip(values, known, strict=True):
        if not here.any():
            expected.append(layer.absent)
            continue
        weights = layer.weights(x, here)
        total = layer.project.bias.clone()
        for f in range(7):
            if here[f]:
                z = x[f] * layer.slope[f] + layer.offset[f]
                total = total + here.sum() * weights[f] * (
                    layer.project.weight[:, 8 * f : 8 * f + 8] @ (z * z.sigmoid())
                )
        expected.append(total)
    torch.testing.assert_close(layer(values, known), torch.stack(expected))


@pytest.mark.parametrize("stand_in", [0.0, -7.5, 1e6, float("nan"), float("inf")])
def test_a_missing_value_reaches_neither_output_nor_gradient(layer: VariableSelection, stand_in: float) -> None:
    values, known = rows()

    def outcome(given: Tensor) -> list[Tensor]:
        layer.zero_grad()
        given = given.clone().requires_grad_()
        out = layer(given, known)
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        return [out, given.grad, *(parameter.grad.clone() for parameter in layer.parameters())]

    base = outcome(values.where(known, 0.5))
    for ours, theirs in zip(outcome(values.where(known, stand_in)), base, strict=True):
        assert torch.equal(ours, theirs)
    assert (base[1][~known] == 0).all()


def test_weights_of_known_features_sum_to_one_and_missing_ones_are_exactly_zero(layer: VariableSelection) -> None:
    values, known = rows()
    weights = layer.weights(values, known)
    some = known.any(-1)
    torch.testing.assert_close(weights[some].sum(-1), torch.ones(int(some.sum())).double())
    assert (weights[some][~known[some]] == 0).all()


def test_weights_differ_between_instances(layer: VariableSelection) -> None:
    values, _ = rows()
    weights = layer.weights(values, torch.ones_like(values, dtype=torch.bool))
    assert (weights.std(0) > 0.005).all()


def test_a_row_without_features_is_the_learned_absence(layer: VariableSelection) -> None:
    values, known = rows()
    out = layer(values, known)
    assert torch.equal(out[3], layer.absent)
    out[3].sum().backward()
    assert torch.equal(layer.absent.grad, torch.ones_like(layer.absent))


def test_it_starts_as_a_linear_embedding_of_unit_variance() -> None:
    torch.manual_seed(0)
    layer = VariableSelection(64, 32).double()
    torch.nn.init.zeros_(layer.logits.weight)
    torch.nn.init.zeros_(layer.logits.bias)
    x, y = torch.randn(2, 500, 64).double()
    known = torch.ones_like(x, dtype=torch.bool)

    def embed(v: Tensor) -> Tensor:
        return layer(v, known) - layer(torch.zeros_like(v), known)

    torch.testing.assert_close(embed(2 * x - y), 2 * embed(x) - embed(y))
    assert 0.7 < float(layer(x, known).std()) < 1.4


def test_a_plain_embedding_is_the_linear_map_of_what_is_known() -> None:
    torch.manual_seed(0)
    layer = PlainEmbedding(7, 6).double()
    values, known = rows()
    out = layer(values.where(known, float("nan")), known)
    expected = torch.stack([layer.project.weight[:, k] @ v[k] + layer.project.bias for v, k in zip(values, known)])
    some = known.any(-1)
    torch.testing.assert_close(out[some], expected[some])
    assert torch.equal(out[3], layer.absent)


def test_cost_of_the_backward_pass_is_linear_in_the_features() -> None:
    def allocated(features: int) -> int:
        layer = VariableSelection(features, 8)
        values = torch.randn(64, features)
        with torch.profiler.profile(profile_memory=True) as profile:
            layer(values, torch.ones_like(values, dtype=torch.bool)).sum().backward()
        return sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages())

    assert allocated(160) < 4.4 * allocated(40)
