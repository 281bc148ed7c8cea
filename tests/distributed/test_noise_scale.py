"""The gradient noise scale is the same on any number of real processes, in any micro-batches."""

from __future__ import annotations

from typing import Any

import pytest

from atft.blocks import shards
from atft.launch.processes import run_group
from tests.distributed.workers import BLOCKS, Case, noise

CASES = [Case("portfolio", per, kept) for per, kept in ((1, 1), (5, 99), (BLOCKS, 1))]
NUMBERS = ("noise", "signal", "noise_scale", "low", "high", "at_least")


@pytest.fixture(scope="module")
def found() -> dict[int, list[list[dict[str, Any]]]]:
    return {world: run_group(noise, world, CASES, timeout=60) for world in (1, 2)}


def test_workers_and_micro_batches_measure_the_same(found: dict[int, list[list[dict[str, Any]]]]) -> None:
    reference = found[1][0][0]["told"]
    assert reference["noise"] > 0
    for workers in found.values():
        for worker in workers:
            for each in worker:
                for name in NUMBERS:
                    expected = reference[name]
                    assert each["told"][name] == (None if expected is None else pytest.approx(expected, rel=1e-8))
                assert each["told"]["measurement"]["covariance"] == pytest.approx(
                    reference["measurement"]["covariance"], rel=1e-8
                )


def test_workers_agree_to_the_last_bit_and_keep_their_gradient(found: dict[int, list[list[dict[str, Any]]]]) -> None:
    for one, other in zip(*found[2], strict=True):
        assert one["kept"]
        assert other["kept"]
        assert {**one["told"], "seconds": 0} == {**other["told"], "seconds": 0}


def test_measuring_sends_two_numbers_a_block_in_one_gather(found: dict[int, list[list[dict[str, Any]]]]) -> None:
    for world, workers in found.items():
        expected = [] if world == 1 else [("all_gather", max(shards(BLOCKS, world)) * 2 * 8)]
        assert [each["seen"] for worker in workers for each in worker] == [expected] * world * len(CASES)
