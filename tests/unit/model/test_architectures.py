"""The architectures that a tier is compared with keep what makes a step exact: causality, masks, keyed dropout."""

from dataclasses import replace

import pytest
import torch

from atft.model.architectures import ARCHITECTURES
from atft.model.random_keys import RandomKeys
from atft.model.ranking import PARTS, RankingNetwork

from .examples import blocks, shape, take, with_features

KEYS = RandomKeys(seed=3, step=8)
NONE: frozenset[str] = frozenset()
every_other = pytest.mark.parametrize("name", ["mlp", "lstm"])


def network(name: str, **changes: object) -> RankingNetwork:
    torch.manual_seed(0)
    made = ARCHITECTURES[name](shape(**changes)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@every_other
def test_any_grouping_of_blocks_gives_the_same_scores_with_dropout_on(name: str) -> None:
    net, some = network(name, lstm_layers=2), blocks(4)
    whole = net(some, NONE, KEYS)
    for group in ([2], [3, 0], [1, 2, 3]):
        part = net(take(some, group), NONE, KEYS)
        torch.testing.assert_close(part.scores, whole.scores[group], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(part.quantiles, whole.quantiles[group], rtol=1e-12, atol=1e-14)


@every_other
def test_dropout_follows_its_keys_and_every_dropout_has_its_own(name: str) -> None:
    net, some = network(name), blocks()
    runs = [net(some, NONE, keys).scores.detach() for keys in (None, KEYS, RandomKeys(3, 9), KEYS)]
    assert torch.equal(runs[1], runs[3])
    assert all(float((runs[a] - runs[b]).abs().max()) > 0.01 for a, b in ((0, 1), (0, 2), (1, 2)))
    layers = [module.layer for module in net.modules() if hasattr(module, "layer")]
    assert len(layers) == len(set(layers)) >= 3


@every_other
def test_a_later_day_never_changes_an_earlier_score(name: str) -> None:
    net, some = network(name), blocks()
    later = some.features.clone()
    later[:, -2:] = torch.randn_like(later[:, -2:])
    before, after = (net(each, NONE, KEYS).scores.detach() for each in (some, with_features(some, later)))
    assert torch.equal(before[:, :-2], after[:, :-2])
    assert float((before - after)[:, -2:].abs().max()) > 1e-3


@every_other
def test_features_that_are_missing_or_of_absent_stocks_reach_nothing(name: str) -> None:
    net, some = network(name), blocks()
    features = torch.where(some.present[..., None], some.features, 1e9).requires_grad_()
    out = net(with_features(some, features), NONE, KEYS)
    assert torch.equal(out.scores, net(some, NONE, KEYS).scores)
    out.scores.sum().backward()
    assert features.grad is not None
    assert (features.grad[some.features.isnan()] == 0).all()
    assert (out.scores[~some.scored] == 0).all()


def test_the_lstm_sees_its_window_and_the_perceptron_only_the_decision_day() -> None:
    some = blocks()
    earlier = some.features.clone()
    earlier[:, 0] = torch.randn_like(earlier[:, 0])
    changed = {
        name: float((net(with_features(some, earlier), NONE, None).scores - net(some, NONE, None).scores).abs().max())
        for name in ("mlp", "lstm")
        for net in [network(name)]
    }
    assert changed["mlp"] == 0
    assert changed["lstm"] > 1e-6


@every_other
def test_a_stock_is_scored_by_itself_whatever_its_neighbours(name: str) -> None:
    net, some = network(name), blocks()
    alone = replace(some, neighbours=torch.full_like(some.neighbours, -1))
    assert torch.equal(net(alone, PARTS, None).scores, net(some, PARTS, None).scores)


@every_other
def test_every_parameter_takes_part_also_where_nothing_is_scored(name: str) -> None:
    net, some = network(name), blocks()
    nothing = replace(some, scored=torch.zeros_like(some.scored), present=torch.zeros_like(some.present))
    for piece in (some, nothing):
        net.zero_grad()
        net(piece, NONE, KEYS).scores.square().sum().backward()
        taking = {id(parameter) for parameter in net.parameters_of(NONE)}
        for own, parameter in net.named_parameters():
            assert id(parameter) in taking, own
            assert parameter.grad is not None, own
            assert torch.isfinite(parameter.grad).all(), own


@every_other
def test_scores_under_autocast_are_float32_and_close_to_the_full_precision(name: str) -> None:
    net, some = network(name).float(), blocks()
    with torch.autocast("cpu", torch.bfloat16):
        out = net(some, NONE, KEYS)
    assert out.scores.dtype == torch.float32
    torch.testing.assert_close(out.scores, net(some, NONE, KEYS).scores, rtol=0.05, atol=0.1)
