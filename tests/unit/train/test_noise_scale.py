"""The gradient noise scale: its parts against plain autograd, its value where known, its interval by simulation."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch

from atft.blocks import Blocks
from atft.model.random_keys import RandomKeys
from atft.objective.rows import day_rows
from atft.train.noise_scale import (
    LEAST_BATCHES,
    NO_MEMORY,
    WINDOW,
    Measurement,
    block_products,
    estimate,
    fieller,
    measurement,
    taken,
    total_square,
)
from atft.train.partition import Cut
from atft.train.step import ExactStep, Shard
from tests.market import cut, random_blocks
from tests.unit.train.test_step import ALL, MIXES, gradient, make

KEYS = RandomKeys(3, 17)


def oracle_gradients(step: ExactStep, blocks: Blocks) -> torch.Tensor:
    """``[blocks, parameters]``: a copy of the network for each block, one backward pass over the whole loss."""
    copies = {number: copy.deepcopy(step.network) for number in range(len(blocks.numbers))}
    rows = []
    for number, network in copies.items():
        one = cut(blocks, number, number + 1)
        output = network(one, ALL, KEYS)
        rows.append(day_rows(output.scores, output.quantiles, one, step.rows))
    torch.autograd.backward(step.mix.loss(step.mix.parts(torch.cat(rows))))
    return torch.stack([gradient(network) for network in copies.values()]).double()


def after_a_step(kind: str, per: int = 3, seed: int = 1) -> tuple[ExactStep, Blocks, torch.Tensor]:
    """A step with its gradient in place, its blocks, and ``[blocks, 2]`` as measured."""
    step, _ = make(kind)
    blocks = random_blocks(seed, blocks=8)
    shard = Shard(partial(cut, blocks), [8])
    outcome = step(shard, ALL, KEYS, cut=Cut(per, 1))
    return step, blocks, block_products(step, shard, ALL, KEYS, outcome.slopes, 1.0)


@pytest.mark.parametrize("kind", MIXES)
def test_products_of_blocks_are_those_of_plain_autograd(kind: str) -> None:
    step, blocks, found = after_a_step(kind)
    each = oracle_gradients(step, blocks)
    whole = each.sum(0)
    assert torch.allclose(found[:, 0], each.square().sum(1), rtol=1e-10)
    assert torch.allclose(found[:, 1], each @ whole, rtol=1e-8, atol=1e-10 * float(whole.norm() ** 2))
    assert total_square(step, ALL) == pytest.approx(float(whole @ whole), rel=1e-10)


def test_noise_and_signal_are_the_covariance_and_the_mean_of_the_blocks() -> None:
    step, blocks, found = after_a_step("pooled")
    own = 8 * oracle_gradients(step, blocks).numpy()
    told = measurement(1, found, total_square(step, ALL))
    assert isinstance(told, Measurement)
    noise = np.trace(np.cov(own.T))
    assert told.noise == pytest.approx(noise, rel=1e-8)
    pairs = own @ own.T
    assert told.signal == pytest.approx(pairs[~np.eye(8, dtype=bool)].mean(), rel=1e-6)
    left = [np.delete(own, number, 0) for number in range(8)]
    noises = np.array([np.trace(np.cov(each.T)) for each in left])
    signals = np.array([(each @ each.T)[~np.eye(7, dtype=bool)].mean() for each in left])
    expected = 7 * np.cov([noises, signals], bias=True)
    assert told.noise_variance == pytest.approx(expected[0, 0], rel=1e-6)
    assert told.signal_variance == pytest.approx(expected[1, 1], rel=1e-6)
    assert told.covariance == pytest.approx(expected[0, 1], rel=1e-6)


def test_fixed_slopes_tell_most_of_how_the_gradient_of_the_statistic_varies() -> None:
    """Leaving out one block and taking the Sharpe ratio anew is what the linearised objective stands for."""
    step, _ = make("pooled", dropout=0.0)
    blocks = random_blocks(5, blocks=12)
    shard = Shard(partial(cut, blocks), [12])
    outcome = step(shard, ALL, KEYS, cut=Cut(12, 1))
    told = measurement(1, block_products(step, shard, ALL, KEYS, outcome.slopes, 1.0), total_square(step, ALL))
    assert isinstance(told, Measurement)
    left = []
    for number in range(12):
        order = [each for each in range(12) if each != number]
        rest = Blocks(**{name: tensor[order] for name, tensor in vars(blocks).items()})
        step(Shard(partial(cut, rest), [11]), ALL, KEYS, cut=Cut(11, 1))
        left.append(gradient(step.network).numpy())
    anew = 12 * 11 * np.cov(np.array(left).T, bias=True).trace()
    assert told.noise == pytest.approx(anew, rel=0.1)


@pytest.mark.parametrize("per", [1, 3, 8])
def test_measuring_leaves_the_gradient_to_the_last_bit(per: int) -> None:
    step, _ = make("mixed", dtype=torch.float32)
    blocks = random_blocks(1, blocks=8)
    shard = Shard(partial(cut, blocks), [8])
    outcome = step(shard, ALL, KEYS, cut=Cut(per, 1))
    before, random = gradient(step.network), torch.get_rng_state()
    window: list[Measurement] = []
    taken(step, window, shard, ALL, KEYS, outcome, number=1, samples=112, loss_scale=1.0)
    assert len(window) == 1
    assert torch.equal(gradient(step.network), before)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_loss_scale_changes_no_measured_number() -> None:
    step, blocks, found = after_a_step("pooled")
    shard = Shard(partial(cut, blocks), [8])
    outcome = step(shard, ALL, KEYS, cut=Cut(3, 1))
    scaled = block_products(step, shard, ALL, KEYS, outcome.slopes, 2.0**16)
    assert torch.allclose(scaled, found, rtol=1e-12, atol=0)


def test_the_window_holds_the_last_steps() -> None:
    step, _ = make("pooled")
    blocks = random_blocks(1, blocks=4)
    shard = Shard(partial(cut, blocks), [4])
    outcome = step(shard, ALL, KEYS, cut=Cut(4, 1))
    window = [Measurement(step=number, blocks=4, noise=1.0, signal=1.0) for number in range(WINDOW)]
    taken(step, window, shard, ALL, KEYS, outcome, number=99, samples=56, loss_scale=1.0)
    assert [each.step for each in window] == [*range(1, WINDOW), 99]


def test_one_block_does_not_tell_its_noise() -> None:
    step, _ = make("pooled")
    shard = Shard(partial(cut, random_blocks(1, blocks=3)), [1])
    outcome = step(shard, ALL, KEYS, cut=Cut(1, 1))
    found = taken(step, [], shard, ALL, KEYS, outcome, number=1, samples=14, loss_scale=1.0)
    assert found["noise_scale"] is None
    assert "one block" in found["reason"]


def test_memory_that_runs_out_while_measuring_is_told_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    step, _ = make("pooled")
    blocks = random_blocks(1, blocks=4)
    shard = Shard(partial(cut, blocks), [4])
    outcome = step(shard, ALL, KEYS, cut=Cut(4, 1))
    before = gradient(step.network)

    def full(*ignored: object, **more: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. (injected)")

    monkeypatch.setattr(torch.autograd, "grad", full)
    window: list[Measurement] = []
    found = taken(step, window, shard, ALL, KEYS, outcome, number=1, samples=56, loss_scale=1.0)
    assert found["noise_scale"] is None
    assert "memory" in found["reason"]
    assert window == []
    window = drawn(np.random.default_rng(0), 5, 16, 2.0)
    later = taken(step, window, shard, ALL, KEYS, outcome, number=6, samples=56, loss_scale=1.0)
    assert "memory" in later["missed"]
    assert (later["measured"], later["reason"]) == (5, None)
    assert later["noise_scale"] > 0
    assert torch.equal(gradient(step.network), before)


@pytest.mark.parametrize(("value", "word"), [(NO_MEMORY, "memory"), (np.inf, "finite"), (np.nan, "finite")])
def test_a_block_without_a_gradient_is_no_measurement(value: float, word: str) -> None:
    products = torch.ones(4, 2, dtype=torch.float64)
    products[2] = value
    found = measurement(1, products, 1.0)
    assert isinstance(found, str)
    assert word in found


def drawn(rng: np.random.Generator, batches: int, blocks: int, scale: float, dimensions: int = 40) -> list[Measurement]:
    """Measurements of a linear model with Gaussian noise: a block's gradient is ``G`` and a draw of ``N(0, Σ)``."""
    spectrum = rng.gamma(1.0, 1.0, dimensions)
    mean = np.zeros(dimensions)
    mean[0] = np.sqrt(spectrum.sum() / scale)
    found = []
    for number in range(batches):
        parts = (mean + np.sqrt(spectrum) * rng.standard_normal((blocks, dimensions))) / blocks
        whole = parts.sum(0)
        products = torch.from_numpy(np.stack([np.square(parts).sum(1), parts @ whole], 1))
        told = measurement(number + 1, products, float(whole @ whole))
        assert isinstance(told, Measurement)
        found.append(told)
    return found


def test_a_known_noise_scale_is_found_without_bias() -> None:
    rng = np.random.default_rng(0)
    signals, noises = [], []
    for _ in range(300):
        found = estimate(drawn(rng, 2, 8, 8.0), 1.0)
        assert found.noise is not None
        assert found.signal is not None
        signals.append(8.0 * found.signal / found.noise)
        noises.append(found.noise)
    assert np.mean(signals) == pytest.approx(1.0, abs=4 * np.std(signals) / 300**0.5)
    assert np.mean(noises) == pytest.approx(40.0, rel=0.05)


@pytest.mark.parametrize(("batches", "blocks", "scale"), [(5, 16, 4.0), (20, 16, 16.0), (1, 16, 2.0), (20, 2, 2.0)])
def test_the_interval_holds_a_known_noise_scale_as_often_as_it_says(batches: int, blocks: int, scale: float) -> None:
    rng, held, told = np.random.default_rng(1), 0, 0
    for _ in range(120):
        found = estimate(drawn(rng, batches, blocks, scale), 256.0)
        if found.noise_scale is not None:
            told += 1
            held += found.low <= 256.0 * scale <= found.high  # type: ignore[operator]
    assert told > 100
    assert held / told >= 0.90


def test_no_signal_is_not_estimable_and_says_at_least_how_much() -> None:
    rng, told, wrong = np.random.default_rng(2), 0, 0
    for _ in range(100):
        found = estimate(drawn(rng, 3, 8, 1e9), 64.0)
        told += found.noise_scale is not None
        if found.noise_scale is None:
            assert "not distinguishable from 0" in str(found.reason)
            assert found.at_least is not None
            assert found.at_least > 0
        wrong += found.noise_scale is not None
    assert wrong <= 5


def test_too_few_batches_of_two_blocks_are_not_estimable_yet() -> None:
    rng = np.random.default_rng(3)
    few = drawn(rng, LEAST_BATCHES - 1, 2, 0.1)
    assert estimate(few, 1.0).noise_scale is None
    assert "before 3" in str(estimate(few, 1.0).reason)
    assert estimate(drawn(rng, 12, 2, 0.1), 1.0).noise_scale is not None
    assert estimate([], 1.0).reason == "no step was measured"


def test_fieller_is_the_set_of_ratios_that_a_t_test_does_not_refute() -> None:
    from scipy import stats

    covariance = np.array([[0.5, 0.1], [0.1, 0.2]])
    low, high = fieller(4.0, 3.0, covariance, 7)
    for end in (low, high):
        assert end is not None
        error = np.sqrt(covariance[0, 0] - 2 * end * covariance[0, 1] + end**2 * covariance[1, 1])
        assert abs(4.0 - end * 3.0) / error == pytest.approx(stats.t.ppf(0.975, 7), rel=1e-9)
    assert low is not None
    assert high is not None
    assert low < 4 / 3 < high
