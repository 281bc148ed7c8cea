"""The exact step: the gradient of the whole batch, whatever it is cut into."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.blocks import Blocks
from atft.experiment.oracle import loss_in_one_piece
from atft.model.architectures import ARCHITECTURES
from atft.model.random_keys import RandomKeys
from atft.model.ranking import NetworkShape, RankingNetwork
from atft.objective.mix import Mix
from atft.objective.rows import RowSettings
from atft.train.partition import Cut, cuts
from atft.train.step import ExactStep, NonFiniteError, ReplayError, Shard
from tests.market import cut, random_blocks

LEVELS = (0.1, 0.5, 0.9)
TEMPERATURE = 0.2
ALL = frozenset({"variable_selection", "temporal", "adaptive_norm", "graph"})
MIXES = {
    "pooled": ("pooled", {"sharpe": 1.0, "rank_ic": 0.0, "cs_ic": 0.0, "quantile": 0.0}, 0.0),
    "portfolio": ("portfolio", {"sharpe": 1.0, "rank_ic": 0.0, "cs_ic": 0.0, "quantile": 0.0}, 0.0),
    "mixed": ("portfolio", {"sharpe": 0.5, "rank_ic": 0.3, "cs_ic": 0.2, "quantile": 2.0}, 0.0),
    "turnover": ("portfolio", {"sharpe": 1.0, "rank_ic": 0.0, "cs_ic": 0.0, "quantile": 0.0}, 0.002),
}


def make(
    kind: str,
    *,
    dtype: torch.dtype = torch.float64,
    dropout: float = 0.3,
    hidden: int = 8,
    features: int = 5,
    window: int = 6,
    architecture: str = "atft",
) -> tuple[ExactStep, dict[str, object]]:
    torch.manual_seed(0)
    shape = NetworkShape(
        features=features, hidden_size=hidden, window=window, attention_heads=2, graph_heads=2, lstm_layers=1,
        dropout=dropout, fan_frequencies=1, san_slices=2, quantiles=LEVELS, horizons=1,
    )  # fmt: skip
    network = ARCHITECTURES[architecture](shape).to(dtype)
    sharpe_kind, weights, cost = MIXES[kind]
    rows = RowSettings(LEVELS, TEMPERATURE, cost, weights["rank_ic"] > 0, weights["quantile"] > 0)
    step = ExactStep(network, Mix(sharpe_kind, **weights), rows, nullcontext, torch.device("cpu"))  # type: ignore[arg-type]
    return step, {"kind": sharpe_kind, "weights": weights, "temperature": TEMPERATURE, "cost": cost, "levels": LEVELS}


def gradient(network: RankingNetwork, parts: frozenset[str] = ALL) -> torch.Tensor:
    return torch.cat([p.grad.flatten().double() for p in network.parameters_of(parts) if p.grad is not None])


def shard(blocks: Blocks) -> Shard:
    """All blocks, as the only worker has them."""
    return Shard(partial(cut, blocks), [len(blocks.numbers)])


def of_oracle(
    step: ExactStep, blocks: Blocks, keys: RandomKeys, oracle: dict[str, object]
) -> tuple[float, torch.Tensor]:
    network = step.network.double()
    network.zero_grad(set_to_none=True)
    loss = loss_in_one_piece(network, blocks, ALL, keys, **oracle)  # type: ignore[arg-type]
    loss.backward()
    return float(loss.detach()), gradient(network)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", MIXES)
@pytest.mark.parametrize("per", [1, 2, 5, 8])
@pytest.mark.parametrize("kept", [0, 1, 99])
def test_gradient_is_that_of_the_whole_batch_for_every_partition(kind: str, per: int, kept: int) -> None:
    step, oracle = make(kind)
    blocks, keys = random_blocks(1, blocks=8), RandomKeys(3, 17)
    found = step(shard(blocks), ALL, keys, cut=Cut(per, kept))
    own = gradient(step.network)
    loss, expected = of_oracle(step, blocks, keys, oracle)
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert own.abs().max() > 0
    assert distance(own, expected) <= 1e-12


@pytest.mark.parametrize("architecture", ["mlp", "lstm"])
@pytest.mark.parametrize(("per", "kept"), [(1, 0), (3, 1), (8, 99)])
def test_gradient_of_another_architecture_is_that_of_the_whole_batch_too(
    architecture: str, per: int, kept: int
) -> None:
    step, oracle = make("mixed", architecture=architecture)
    blocks, keys = random_blocks(1, blocks=8), RandomKeys(3, 17)
    found = step(shard(blocks), frozenset(), keys, cut=Cut(per, kept))
    own = gradient(step.network)
    loss, expected = of_oracle(step, blocks, keys, oracle)
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert len(own) == sum(parameter.numel() for parameter in step.network.parameters())
    assert distance(own, expected) <= 1e-12


@pytest.mark.parametrize("kind", MIXES)
def test_gradient_in_float32_is_as_good_as_that_of_one_piece(kind: str) -> None:
    step, oracle = make(kind, dtype=torch.float32)
    blocks, keys = random_blocks(2, blocks=8), RandomKeys(3, 17)
    step(shard(blocks), ALL, keys, cut=Cut(8, 1))
    one_piece = gradient(step.network)
    step(shard(blocks), ALL, keys, cut=Cut(3, 1))
    own = gradient(step.network)
    _, expected = of_oracle(step, blocks, keys, oracle)
    assert distance(own, expected) <= max(1e-6, 2 * distance(one_piece, expected))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(5, 9), st.integers(1, 9), st.integers(0, 9))
def test_loss_and_gradient_do_not_depend_on_the_partition(seed: int, count: int, per: int, kept: int) -> None:
    step, _ = make("portfolio")
    blocks, keys = random_blocks(seed, blocks=count), RandomKeys(seed, 1)
    whole = step(shard(blocks), ALL, keys, cut=Cut(count, count))
    expected = gradient(step.network)
    parts = step(shard(blocks), ALL, keys, cut=Cut(per, kept))
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
    assert parts.samples == whole.samples == int(blocks.valid.sum() - (blocks.valid.sum(-1) == 1).sum())
    assert distance(gradient(step.network), expected) <= 1e-12


def test_averaging_micro_batches_is_another_gradient() -> None:
    """What the project exists to avoid: the mean of the micro-batches' own losses, far outside every bound."""
    step, _ = make("pooled", dropout=0.0)
    blocks, keys = random_blocks(4, blocks=8), RandomKeys(0, 0)
    step(shard(blocks), ALL, keys, cut=Cut(8, 1))
    exact = gradient(step.network)
    naive = torch.zeros_like(exact)
    for first, last in cuts(8, 2):
        step(shard(cut(blocks, first, last)), ALL, keys, cut=Cut(2, 1))
        naive += gradient(step.network) / 4
    assert distance(naive, exact) > 0.05


def test_a_replayed_micro_batch_draws_the_same_dropout() -> None:
    step, _ = make("pooled")
    blocks = random_blocks(5, blocks=8)
    results = []
    for kept in (0, 4):
        step(shard(blocks), ALL, RandomKeys(1, 1), cut=Cut(2, kept))
        results.append(gradient(step.network))
    assert torch.equal(results[0], results[1])
    step(shard(blocks), ALL, RandomKeys(1, 2), cut=Cut(2, 4))
    assert distance(gradient(step.network), results[0]) > 1e-3


def test_a_second_pass_that_differs_stops_the_step() -> None:
    step, _ = make("pooled")
    blocks, calls = random_blocks(6, blocks=8), []

    def changing(first: int, last: int) -> Blocks:
        calls.append(1)
        return cut(random_blocks(len(calls), blocks=8) if first == 0 else blocks, first, last)

    with pytest.raises(ReplayError, match="block 0"):
        step(Shard(changing, [8]), ALL, RandomKeys(0, 0), cut=Cut(4, 1))


def test_every_parameter_of_the_phase_has_a_gradient_where_all_is_masked_but_one_block() -> None:
    step, _ = make("pooled")
    blocks = random_blocks(7, blocks=8)
    blocks.valid[1:] = False
    step(shard(blocks), ALL, RandomKeys(0, 0), cut=Cut(1, 0))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in step.network.parameters_of(ALL))


def test_a_part_that_is_off_gets_no_gradient() -> None:
    step, _ = make("pooled")
    parts = ALL - {"graph"}
    step(shard(random_blocks(8, blocks=8)), parts, RandomKeys(0, 0), cut=Cut(4, 1))
    inside = {id(p) for p in step.network.parameters_of(parts)}
    outside = [p for p in step.network.parameters() if id(p) not in inside]
    assert outside
    assert all(p.grad is None for p in outside)


def test_a_loss_scale_leaves_the_gradients_as_they_are() -> None:
    step, _ = make("pooled")
    blocks = random_blocks(9, blocks=8)
    step(shard(blocks), ALL, RandomKeys(0, 0), cut=Cut(4, 1))
    expected = gradient(step.network)
    step(shard(blocks), ALL, RandomKeys(0, 0), cut=Cut(4, 1), loss_scale=1024.0)
    assert distance(gradient(step.network), expected) <= 1e-12


def test_a_gradient_that_is_not_finite_is_named() -> None:
    step, _ = make("pooled")
    name, parameter = next(iter(step.network.score_head.named_parameters()))
    parameter.register_hook(lambda grad: grad * torch.nan)
    with pytest.raises(NonFiniteError, match=rf"gradient of score_head\.{name}"):
        step(shard(random_blocks(1, blocks=8)), ALL, RandomKeys(0, 0), cut=Cut(4, 1))


def test_scores_that_are_not_finite_are_named() -> None:
    step, _ = make("pooled")
    with torch.no_grad():
        next(step.network.score_head.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="the rows of the days"):
        step(shard(random_blocks(1, blocks=8)), ALL, RandomKeys(0, 0), cut=Cut(4, 1))


def test_too_few_counted_days_are_an_error_not_a_number() -> None:
    step, _ = make("portfolio")
    with pytest.raises(ValueError, match="needs 8"):
        step(shard(random_blocks(1, blocks=3)), ALL, RandomKeys(0, 0), cut=Cut(1, 1))


@pytest.mark.parametrize("kind", ["pooled", "portfolio"])
@pytest.mark.parametrize("parts", [ALL, frozenset({"variable_selection", "temporal"})], ids=["all", "baseline"])
@pytest.mark.parametrize("seed", [3, 7])
def test_gradient_in_bfloat16_is_within_a_hundredth(kind: str, parts: frozenset[str], seed: int) -> None:
    step, _ = make(kind, dtype=torch.float32, hidden=64, features=40, window=20, dropout=0.1)
    blocks = random_blocks(seed, blocks=4, days=4, stocks=64, features=40, window=20, neighbours=10)
    half = ExactStep(step.network, step.mix, step.rows, partial(torch.autocast, "cpu", torch.bfloat16), step.device)
    half(shard(blocks), parts, RandomKeys(0, 0), cut=Cut(2, 1))
    found = gradient(step.network, parts)
    step.network.double()
    step(shard(blocks), parts, RandomKeys(0, 0), cut=Cut(4, 1))
    assert distance(found, gradient(step.network, parts)) <= 1e-2


@pytest.mark.parametrize("architecture", ["mlp", "lstm"])
def test_gradient_of_another_architecture_under_bfloat16_is_within_a_hundredth(architecture: str) -> None:
    step, _ = make("pooled", dtype=torch.float32, hidden=32, features=20, window=10, architecture=architecture)
    blocks = random_blocks(3, blocks=4, days=4, stocks=32, features=20, window=10, neighbours=4)
    half = ExactStep(step.network, step.mix, step.rows, partial(torch.autocast, "cpu", torch.bfloat16), step.device)
    half(shard(blocks), frozenset(), RandomKeys(0, 0), cut=Cut(2, 1))
    found = gradient(step.network)
    step.network.double()
    step(shard(blocks), frozenset(), RandomKeys(0, 0), cut=Cut(4, 1))
    assert distance(found, gradient(step.network)) <= 1e-2
