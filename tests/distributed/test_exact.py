"""The gradient of the whole effective batch on any number of real processes, in any micro-batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from atft.blocks import shards
from atft.launch.processes import Failed, run_group, watched_group
from atft.model.random_keys import RandomKeys
from tests.distributed.workers import (
    BLOCKS,
    Case,
    batch,
    exact,
    one_cannot_load,
    one_dies,
    one_hangs,
    out_of_memory_once,
    overflow,
)
from tests.unit.train.test_step import MIXES, distance, make, of_oracle

WORLDS = (1, 2, 3, 4)
MASKED_SHARDS = {"": (), "a masked shard": tuple(range(18, 24)), "ragged masks": (0, 5, 23)}


def cases() -> list[Case]:
    found = [Case(kind, per, kept) for kind in MIXES for per in (1, 5, BLOCKS) for kept in (1, 99)]
    found += [Case("portfolio", 2, 0, masked) for masked in MASKED_SHARDS.values() if masked]
    # Turnover needs days that follow one another inside a block.
    return [*found, Case("turnover", 5, 2, days=2), Case("pooled", 6, 1, MASKED_SHARDS["a masked shard"])]


@pytest.fixture(scope="module")
def oracle() -> list[tuple[float, torch.Tensor]]:
    found = []
    known: dict[tuple[Any, ...], tuple[float, torch.Tensor]] = {}
    for case in cases():
        key = (case.kind, case.masked, case.days)
        if key not in known:
            step, settings = make(case.kind)
            known[key] = of_oracle(step, batch(case), RandomKeys(3, 17), settings)
        found.append(known[key])
    return found


@pytest.fixture(scope="module", params=WORLDS, ids=lambda world: f"{world} workers")
def everywhere(request: pytest.FixtureRequest) -> tuple[int, list[list[dict[str, Any]]]]:
    return request.param, run_group(exact, request.param, cases(), timeout=60)


def test_gradient_is_that_of_the_batch_in_one_piece(
    everywhere: tuple[int, list[list[dict[str, Any]]]], oracle: list[tuple[float, torch.Tensor]]
) -> None:
    _, workers = everywhere
    for worker in workers:
        for case, found, (loss, expected) in zip(cases(), worker, oracle, strict=True):
            assert found["loss"] == pytest.approx(loss, rel=1e-12), case
            assert distance(found["gradient"], expected) <= 1e-12, case
            assert not any(found["without"])


def test_all_workers_hold_the_same_table_loss_and_gradient_to_the_last_bit(
    everywhere: tuple[int, list[list[dict[str, Any]]]],
) -> None:
    _, workers = everywhere
    for worker in workers[1:]:
        for own, first in zip(worker, workers[0], strict=True):
            assert own["loss"] == first["loss"]
            assert own["samples"] == first["samples"]
            assert torch.equal(own["table"], first["table"])
            assert torch.equal(own["gradient"], first["gradient"])


def test_one_gather_and_every_gradient_byte_once(everywhere: tuple[int, list[list[dict[str, Any]]]]) -> None:
    world, workers = everywhere
    sizes = shards(BLOCKS, world)
    for worker in workers:
        for case, found in zip(cases(), worker, strict=True):
            gathered = (max(sizes) * case.days + 1) * found["table"].shape[1] * 8
            reduced = found["gradient"].numel() * 8
            wanted = [] if world == 1 else [("all_gather", gathered), ("all_reduce", reduced)]
            assert found["seen"] == wanted, case
            assert found["told"] == ((0, 0, 0, 0) if world == 1 else (1, 1, gathered, reduced))


def test_micro_batches_are_as_many_as_were_really_run(everywhere: tuple[int, list[list[dict[str, Any]]]]) -> None:
    world, workers = everywhere
    for rank, worker in enumerate(workers):
        own = shards(BLOCKS, world)[rank]
        for case, found in zip(cases(), worker, strict=True):
            assert found["micro_batches"] == -(-own // case.per)
            assert found["kept"] == min(case.kept, found["micro_batches"])


@pytest.mark.parametrize("kind", ["pooled", "portfolio"])
def test_float32_on_three_workers_is_as_good_as_one_piece(kind: str) -> None:
    case = Case(kind, 5, 1, dtype=torch.float32)
    whole = run_group(exact, 1, [Case(kind, BLOCKS, 1, dtype=torch.float32)])[0][0]["gradient"]
    found = run_group(exact, 3, [case])[0][0]["gradient"]
    step, settings = make(kind, dtype=torch.float32)
    _, expected = of_oracle(step, batch(case), RandomKeys(3, 17), settings)
    assert distance(found, expected) <= max(1e-6, 2 * distance(whole, expected))


@pytest.mark.parametrize("stage", ["forward", "backward"])
@pytest.mark.parametrize("kept", [1, 99])
def test_out_of_memory_on_one_worker_changes_no_number(
    stage: str, kept: int, oracle: list[tuple[float, torch.Tensor]]
) -> None:
    case = Case("portfolio", 12, kept)
    found = run_group(out_of_memory_once, 2, case, stage, 4)
    loss, expected = oracle[cases().index(Case("portfolio", BLOCKS, 1))]
    assert [each["shrunk"] for each in found] == [2, 0]
    assert [each["micro_batches"] for each in found] == [4, 1]
    for each in found:
        assert each["loss"] == pytest.approx(loss, rel=1e-12)
        assert distance(each["gradient"], expected) <= 1e-12
        assert [name for name, _ in each["seen"]] == ["all_gather", "all_reduce"]


def test_an_overflow_on_one_worker_halves_the_loss_scale_of_all() -> None:
    found = run_group(overflow, 2, 2.0**140)
    assert found[0]["overflows"] == found[1]["overflows"] > 5
    assert found[0]["scale"] == found[1]["scale"] == 2.0 ** (140 - found[0]["overflows"])
    assert torch.equal(found[0]["gradient"], found[1]["gradient"])
    assert torch.isfinite(found[0]["gradient"]).all()


@pytest.mark.parametrize("who", [0, 2])
def test_a_worker_that_hangs_is_named(who: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = watched_group(one_hangs, 3, who, 60.0, timeout=3)
    told = [
        outcome.text for outcome in found if isinstance(outcome, Failed) and "gather of rows failed" in outcome.text
    ]
    assert len(told) == 2
    assert any("anks 2" in text if who == 2 else "rank 0" in text for text in told), told


def test_a_worker_that_is_killed_ends_the_others_with_an_error() -> None:
    found = watched_group(one_dies, 2, 1, timeout=5)
    assert all(isinstance(outcome, Failed) for outcome in found)
    assert "sum of gradients failed" in found[0].text
    assert "exit code -9" in found[1].text


def test_what_the_leading_worker_cannot_load_is_an_error_on_all(tmp_path: Any) -> None:
    found = run_group(one_cannot_load, 2, str(tmp_path))
    assert found[0] == found[1]
    assert "there is no checkpoint" in found[0]
