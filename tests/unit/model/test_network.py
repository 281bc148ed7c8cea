from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from atft.blocks import Blocks
from atft.model.network import PARTS, Network, Output, windows
from atft.model.random_keys import RandomKeys

from .examples import SUBSETS, blocks, network, poison, shape, take, with_features

KEYS = RandomKeys(seed=3, step=8)
NAMES = {subset: "+".join(sorted(subset)) or "none" for subset in SUBSETS}
every_subset = pytest.mark.parametrize("parts", SUBSETS, ids=NAMES.values())


def total(output: Output, weights: Tensor) -> Tensor:
    """A scalar that every output has its own part in."""
    return (output.scores * weights).sum() + (output.quantiles * weights[..., None, None]).square().sum()


def gradients(net: Network, pieces: list[Blocks], weights: list[Tensor], parts: frozenset[str]) -> list[Tensor]:
    net.zero_grad()
    for piece, weight in zip(pieces, weights, strict=True):
        total(net(piece, parts, KEYS), weight).backward()
    return [parameter.grad.clone() for parameter in net.parameters_of(parts)]


@settings(max_examples=12, deadline=None)
@given(st.permutations(range(4)), st.sets(st.integers(1, 3)), st.sampled_from([SUBSETS[0], SUBSETS[7], SUBSETS[-1]]))
def test_any_grouping_of_blocks_gives_the_same_numbers_and_gradients(
    order: list[int], cuts: set[int], parts: frozenset[str]
) -> None:
    net, some = network(lstm_layers=2), blocks(4)
    bounds = [0, *sorted(cuts), 4]
    groups = [list(order[a:b]) for a, b in pairwise(bounds)]
    weights = torch.randn(some.scored.shape, generator=torch.Generator().manual_seed(1)).double()
    whole = net(some, parts, KEYS)
    for group in groups:
        part = net(take(some, group), parts, KEYS)
        torch.testing.assert_close(part.scores, whole.scores[group], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(part.quantiles, whole.quantiles[group], rtol=1e-12, atol=1e-14)
    ours = gradients(net, [take(some, group) for group in groups], [weights[group] for group in groups], parts)
    for mine, theirs in zip(ours, gradients(net, [some], [weights], parts), strict=True):
        assert float((mine - theirs).norm()) <= 1e-12 * max(1.0, float(theirs.norm()))


def test_dropout_is_on_with_keys_and_differs_between_steps() -> None:
    net, some = network(), blocks()
    runs = [net(some, PARTS, keys).scores for keys in (None, KEYS, RandomKeys(3, 9), KEYS)]
    assert torch.equal(runs[1], runs[3])
    assert all(float((runs[a] - runs[b]).abs().max()) > 0.01 for a, b in ((0, 1), (0, 2), (1, 2)))


@every_subset
def test_every_parameter_that_takes_part_gets_a_gradient_and_no_other(parts: frozenset[str]) -> None:
    net, some = network(), blocks()
    nothing = replace(some, scored=torch.zeros_like(some.scored), present=torch.zeros_like(some.present))
    for piece in (some, nothing):
        net.zero_grad()
        net(piece, parts, KEYS).scores.square().sum().backward()
        taking = {id(parameter) for parameter in net.parameters_of(parts)}
        for name, parameter in net.named_parameters():
            assert (parameter.grad is not None) == (id(parameter) in taking), name
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@every_subset
def test_what_is_off_is_never_touched(parts: frozenset[str]) -> None:
    net, some = network(), blocks()
    expected = net(some, parts, KEYS)
    off = (PARTS - parts) | ({"plain_embedding"} if "variable_selection" in parts else set())
    for name in off:
        poison(getattr(net, name))
    assert torch.equal(net(some, parts, KEYS).scores, expected.scores)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_every_part_changes_the_output_when_it_is_switched_on(part: str) -> None:
    net, some = network(), blocks()
    for rest in (subset for subset in SUBSETS if part not in subset):
        difference = net(some, rest | {part}, None).scores - net(some, rest, None).scores
        assert float(difference.detach().abs()[some.scored].mean()) > 0.01, rest


@every_subset
def test_the_output_varies_with_the_input_of_the_last_day_in_evaluation(parts: frozenset[str]) -> None:
    torch.manual_seed(0)
    net = Network(shape(dropout=0.1, san_slices=7)).eval()
    some = blocks()
    changed = some.features.clone()
    changed[:, -1] += 0.5
    out, other = net(some, parts, None), net(with_features(some, changed), parts, None)
    scored = some.scored[:, -1]
    assert float(out.scores[some.scored].detach().std()) > 0.02
    assert float((out.scores - other.scores).detach()[:, -1][scored].abs().median()) > 1e-3
    assert float((out.quantiles - other.quantiles).detach()[:, -1][scored].abs().amax()) > 1e-5


@every_subset
def test_features_that_are_missing_or_of_absent_stocks_reach_nothing(parts: frozenset[str]) -> None:
    net, some = network(), blocks()
    features = torch.where(some.present[..., None], some.features, 1e9).requires_grad_()
    features.register_hook(lambda gradient: _assert_zero(gradient[some.features.isnan()]))
    out = net(with_features(some, features), parts, KEYS)
    expected = net(some, parts, KEYS)
    assert torch.equal(out.scores, expected.scores)
    assert torch.isfinite(expected.quantiles).all()
    total(out, torch.ones_like(out.scores)).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters_of(parts))


def _assert_zero(values: Tensor) -> None:
    assert (values == 0).all()


@every_subset
def test_a_later_day_never_changes_an_earlier_score(parts: frozenset[str]) -> None:
    net, some = network(), blocks()
    later = some.features.clone()
    later[:, -2:] = torch.randn_like(later[:, -2:])
    present = some.present.clone()
    present[:, -2:] = ~present[:, -2:]
    neighbours = some.neighbours.clone()
    neighbours[:, -2:] = -1
    other = replace(some, features=later, present=present, neighbours=neighbours)
    assert torch.equal(net(other, parts, KEYS).scores[:, :-2], net(some, parts, KEYS).scores[:, :-2])


def test_without_a_part_that_looks_at_windows_only_the_decision_day_counts() -> None:
    net, some = network(), blocks()
    earlier = some.features.clone()
    earlier[:, :6] = torch.randn_like(earlier[:, :6])
    for parts in (frozenset[str](), frozenset({"variable_selection", "graph"})):
        assert torch.equal(net(with_features(some, earlier), parts, None).scores, net(some, parts, None).scores)
    for part in ("temporal", "adaptive_norm"):
        difference = (
            net(with_features(some, earlier), frozenset({part}), None).scores
            - net(some, frozenset({part}), None).scores
        )
        assert float(difference.detach().abs().max()) > 1e-3


def test_renumbering_the_stocks_renumbers_the_scores() -> None:
    net, some = network(), blocks()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    position = torch.cat([order.argsort(), torch.tensor([-1])])
    other = replace(
        some,
        features=some.features[:, :, order],
        present=some.present[:, :, order],
        scored=some.scored[:, :, order],
        neighbours=position[some.neighbours[:, :, order]],
        edges=some.edges[:, :, order],
    )
    torch.testing.assert_close(net(other, PARTS, None).scores, net(some, PARTS, None).scores[:, :, order])


@every_subset
def test_a_stock_that_is_not_scored_scores_zero_and_influences_no_other(parts: frozenset[str]) -> None:
    net, some = network(), blocks()
    never = some.scored.clone()
    never[:, :, 2] = False
    masked = replace(some, scored=never)
    features = some.features.clone()
    features[:, :, 2] = 50.0
    out, other = net(masked, parts, None), net(with_features(masked, features), parts, None)
    assert (out.scores[~never] == 0).all()
    assert (out.quantiles[~never] == 0).all()
    assert torch.equal(out.scores, other.scores)


def test_windows_are_those_of_unfold_and_so_is_their_gradient() -> None:
    days = torch.randn(3, 9, 4, 5, dtype=torch.float64, requires_grad=True)
    expected = days.unfold(1, 7, 1).permute(4, 0, 1, 2, 3).reshape(7, 3, 12, 5)
    assert torch.equal(windows(days, 7), expected)
    weight = torch.randn(7, 3, 12, 5, dtype=torch.float64)
    (ours,) = torch.autograd.grad((windows(days, 7) * weight).sum(), days)
    (theirs,) = torch.autograd.grad((expected * weight).sum(), days)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("parts", [SUBSETS[0], SUBSETS[-1]], ids=["none", "all"])
def test_scores_are_float32_under_autocast_and_close_to_the_full_precision(parts: frozenset[str]) -> None:
    net, some = network().float(), blocks()
    with torch.autocast("cpu", torch.bfloat16):
        out = net(some, parts, KEYS)
    assert (out.scores.dtype, out.quantiles.dtype) == (torch.float32, torch.float32)
    total(out, torch.ones_like(out.scores)).backward()
    expected = net(some, parts, KEYS)
    torch.testing.assert_close(out.scores, expected.scores, rtol=0.05, atol=0.1)


def test_a_whole_cross_section_is_scored_like_its_parts_without_a_graph() -> None:
    net, some = network(), blocks(1, stocks=1026)
    parts = PARTS - {"graph"}
    some = replace(some, neighbours=torch.full_like(some.neighbours, -1))
    few = replace(
        some, **{n: getattr(some, n)[:, :, :64] for n in ("features", "present", "scored", "neighbours", "edges")}
    )
    torch.testing.assert_close(net(some, parts, None).scores[:, :, :64], net(few, parts, None).scores)


def test_a_network_without_quantile_horizons_gives_none() -> None:
    net, some = network(horizons=0), blocks()
    assert net(some, PARTS, KEYS).quantiles.shape == (3, 3, 6, 0, 3)


@pytest.mark.parametrize(
    ("some", "parts", "message"),
    [
        (blocks(), frozenset({"lstm"}), "unknown parts"),
        (blocks(window=6), PARTS, "window of 6 days"),
        (blocks(features=4), PARTS, "4 features"),
    ],
)
def test_what_does_not_fit_is_refused(some: Blocks, parts: frozenset[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network()(some, parts, None)


def test_every_dropout_of_the_network_has_its_own_layer() -> None:
    layers = [module.layer for module in network().modules() if hasattr(module, "layer")]
    assert len(layers) == len(set(layers)) >= 6
