"""The pure decisions of training: cuts, learning rates, divergence, precision, loss scale."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atft.blocks import shards
from atft.config import Phase
from atft.objective.mix import Mix
from atft.objective.rows import TERMS
from atft.train import optimizer, partition
from atft.train.memory import free_bytes, kept_bytes
from atft.train.partition import Cut
from atft.train.phases import FLOOR, divergence, learning_rate
from atft.train.precision import LossScale, in_effect
from atft.train.validation import expected_std


@given(st.integers(1, 64), st.integers(1, 80))
def test_cuts_cover_every_block_once_in_order(blocks: int, per: int) -> None:
    found = partition.cuts(blocks, per)
    assert [number for first, last in found for number in range(first, last)] == list(range(blocks))
    assert all(0 < last - first <= per for first, last in found)


@given(st.integers(1, 64), st.floats(1, 1e9), st.floats(0, 1e12))
def test_an_automatic_cut_fits_and_never_vanishes(blocks: int, block_bytes: float, free: float) -> None:
    cut = partition.cut_for("auto", "auto", blocks=blocks, block_bytes=block_bytes, free_bytes=free)
    assert 1 <= cut.blocks <= blocks
    assert 1 <= cut.kept <= -(-blocks // cut.blocks)
    held = cut.blocks * cut.kept
    assert held == 1 or held * block_bytes <= partition.MEMORY_SHARE * free


def test_a_stated_cut_is_kept_but_for_more_blocks_than_there_are() -> None:
    def stated(per: int, kept: int) -> Cut:
        return partition.cut_for(per, kept, blocks=8, block_bytes=1e15, free_bytes=1.0)

    assert stated(3, 2) == Cut(3, 2)
    assert stated(30, 7) == Cut(8, 1)


@given(st.integers(1, 64), st.integers(1, 64))
def test_halving_a_cut_always_ends_at_one_block_and_one_graph(blocks: int, kept: int) -> None:
    cut: Cut | None = Cut(blocks, kept)
    seen = []
    while cut is not None:
        seen.append(cut)
        cut = cut.halved()
    assert seen[-1] == Cut(1, 1)
    assert all(after.blocks * after.kept < before.blocks * before.kept for before, after in pairwise(seen))


@given(st.integers(1, 100), st.integers(1, 100))
def test_shards_share_all_blocks_as_equally_as_can_be(blocks: int, workers: int) -> None:
    found = shards(blocks, workers)
    assert (len(found), sum(found)) == (workers, blocks)
    assert max(found) - min(found) <= 1


def test_what_a_graph_keeps_is_counted_without_parameters_and_each_tensor_once() -> None:
    layer = torch.nn.Linear(10, 20, bias=False)
    x = torch.randn(30, 10, requires_grad=True)
    # The product keeps x; the square keeps its own input; the sum keeps nothing.
    assert kept_bytes(lambda: layer(x).square().sum(), layer.parameters()) == 4 * (30 * 10 + 30 * 20)


def phase(schedule: str, warmup: int) -> Phase:
    return Phase(epochs=1, learning_rate=2.0, schedule=schedule, warmup_steps=warmup, parts=("temporal",))  # type: ignore[arg-type]


def test_learning_rate_warms_up_and_stays() -> None:
    rates = [learning_rate(phase("constant", 4), step, 10) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0] + [2.0] * 6)


def test_cosine_schedule_falls_from_its_peak_to_its_floor() -> None:
    rates = [learning_rate(phase("cosine", 0), step, 11) for step in range(11)]
    assert rates[0] == pytest.approx(2.0)
    assert rates[5] == pytest.approx(2.0 * (FLOOR + (1 - FLOOR) / 2))
    assert rates[-1] == pytest.approx(2.0 * FLOOR)
    assert rates == sorted(rates, reverse=True)


def test_divergence_is_three_epochs_of_better_loss_and_worse_metric() -> None:
    assert divergence([5, 4, 3, 2], [9, 8, 7, 6]) == 0
    assert divergence([5, 6, 4, 3, 2], [1, 9, 8, 7, 6]) == 1
    assert divergence([5, 4, 3], [9, 8, 7]) is None
    assert divergence([5, 4, 3, 2], [9, 8, 9, 6]) is None
    assert divergence([5, 4, 4, 2], [9, 8, 7, 6]) is None


@pytest.mark.parametrize(
    ("asked", "device", "name", "scaled"),
    [
        ("32", "cpu", "float32", False),
        ("16-mixed", "cpu", "bfloat16", False),
        ("bf16-mixed", "cuda", "bfloat16", False),
        ("16-mixed", "cuda", "float16", True),
    ],
)
def test_precision_says_what_is_in_effect(asked: str, device: str, name: str, scaled: bool) -> None:
    found = in_effect(asked, torch.device(device))  # type: ignore[arg-type]
    assert (found.name, found.scaled) == (name, scaled)


def test_autocast_computes_in_the_precision_that_it_names() -> None:
    for asked, dtype in (("32", torch.float32), ("16-mixed", torch.bfloat16)):
        with in_effect(asked, torch.device("cpu")).autocast():  # type: ignore[arg-type]
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_loss_scale_halves_on_overflow_and_stops_below_one() -> None:
    scale = LossScale(4.0)
    assert [scale.overflow() for _ in range(3)] == [True, True, False]
    assert scale.overflows == 3


def test_a_loss_scale_doubles_after_a_run_of_good_steps() -> None:
    scale = LossScale(4.0, growth_steps=3)
    for _ in range(3):
        scale.success()
    assert scale.value == 8.0


def test_biases_and_norms_do_not_decay() -> None:
    from atft.config import Optimizer

    layer = torch.nn.Linear(3, 2)
    found = optimizer.build(layer.parameters(), Optimizer(weight_decay=0.1, beta1=0.9, beta2=0.9, clip_norm=1.0))
    decays = {tuple(p.shape): group["weight_decay"] for group in found.param_groups for p in group["params"]}
    assert decays == {(2, 3): 0.1, (2,): 0.0}


def test_free_memory_is_a_number_of_bytes() -> None:
    assert 1e6 < free_bytes(torch.device("cpu")) < 1e14


def table_of(gains: np.ndarray) -> torch.Tensor:
    """Rows of days from gains ``[days, stocks]``."""
    table = torch.zeros(len(gains), len(TERMS), dtype=torch.float64)
    columns = {"counted": np.ones(len(gains)), "pooled_count": np.full(len(gains), gains.shape[1]),
               "pooled_sum": gains.sum(1), "pooled_squares": (gains**2).sum(1)}  # fmt: skip
    for name, values in columns.items():
        table[:, TERMS.index(name)] = torch.from_numpy(np.asarray(values, dtype=float))
    return table


def test_expected_noise_of_independent_stock_days_is_one_over_the_root_of_their_number() -> None:
    gains = np.random.default_rng(0).standard_normal((400, 64))
    found = expected_std(table_of(gains), Mix("pooled", 1, 0, 0, 0), 16, seed=0)
    assert found == pytest.approx(1 / np.sqrt(16 * 64), rel=0.1)


def test_stock_days_that_move_together_are_noisier_than_independent_ones() -> None:
    random = np.random.default_rng(0)
    gains = random.standard_normal((400, 64)) + random.standard_normal((400, 1))
    found = expected_std(table_of(gains), Mix("pooled", 1, 0, 0, 0), 16, seed=0)
    assert found is not None
    assert found > 4 / np.sqrt(16 * 64)


def test_expected_noise_of_a_portfolio_is_that_of_its_days() -> None:
    mix = Mix("portfolio", 1, 0, 0, 0)
    draws = np.random.default_rng(1).standard_normal((20_000, 16))
    observed = (draws.mean(1) / draws.std(1)).std()
    assert expected_std(torch.zeros(0, len(TERMS)), mix, 16, seed=0) == pytest.approx(observed, rel=0.05)
    assert expected_std(torch.zeros(0, len(TERMS)), mix, 3, seed=0) is None


def test_pages_that_are_kept_are_not_cleared_again() -> None:
    """In a process of its own: what the C library is told holds to its end."""
    code = (
        "import resource, torch; from atft.train.memory import keep_pages\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20): torch.ones(4_000_000)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "torch.set_num_threads(1); plain = faults(); assert keep_pages(); faults(); print(plain, faults())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    plain, kept = map(int, done.stdout.split())
    assert kept < plain / 10
