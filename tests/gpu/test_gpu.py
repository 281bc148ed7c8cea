"""What only a GPU can show: the exact step on it, float16 with its loss scale, and memory that really runs out.

``make test-gpu`` runs these; with several GPUs also the ones on one worker per GPU (NCCL).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from atft.blocks import Blocks, shards
from atft.model.random_keys import RandomKeys
from atft.train.collectives import Group
from atft.train.partition import Cut
from atft.train.step import ExactStep, Shard
from tests.market import cut, random_blocks
from tests.unit.train.test_step import ALL, MIXES, distance, gradient, make, of_oracle, shard

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU at hand"),
]


def on_gpu(step: ExactStep, **changes: Any) -> ExactStep:
    fields = {"autocast": step.autocast, "device": torch.device("cuda"), "group": step.group} | changes
    return ExactStep(step.network.to("cuda"), step.mix, step.rows, **fields)


def expected(kind: str, blocks: Blocks) -> tuple[float, torch.Tensor]:
    step, oracle = make(kind)
    return of_oracle(step, blocks, RandomKeys(3, 17), oracle)


@pytest.mark.parametrize("kind", MIXES)
@pytest.mark.parametrize(("per", "kept"), [(1, 0), (3, 1), (8, 1)])
def test_gradient_on_a_gpu_is_that_of_the_batch_in_one_piece(kind: str, per: int, kept: int) -> None:
    step, _ = make(kind)
    blocks = random_blocks(1, blocks=8)
    found = on_gpu(step)(shard(blocks), ALL, RandomKeys(3, 17), cut=Cut(per, kept))
    loss, wanted = expected(kind, blocks)
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert distance(gradient(step.network).cpu(), wanted) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reduced_precision_is_within_a_hundredth(dtype: torch.dtype) -> None:
    step, _ = make("pooled", dtype=torch.float32, hidden=64, features=40, window=20, dropout=0.1)
    blocks = random_blocks(3, blocks=4, days=4, stocks=64, features=40, window=20, neighbours=10)
    scale = 2.0**10 if dtype == torch.float16 else 1.0
    half = on_gpu(step, autocast=partial(torch.autocast, "cuda", dtype))
    half(shard(blocks), ALL, RandomKeys(0, 0), cut=Cut(2, 1), loss_scale=scale)
    found = gradient(step.network)
    step.network.double()
    on_gpu(step)(shard(blocks), ALL, RandomKeys(0, 0), cut=Cut(4, 1))
    assert distance(found, gradient(step.network)) <= 1e-2


def test_memory_that_runs_out_halves_the_micro_batch_and_changes_no_number() -> None:
    step, _ = make("pooled", hidden=64, features=40, window=20)
    blocks = random_blocks(4, blocks=16, days=4, stocks=64, features=40, window=20, neighbours=10)
    ready = on_gpu(step)
    ready(shard(blocks), ALL, RandomKeys(0, 0), cut=Cut(4, 1))
    wanted = gradient(step.network)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    ready(shard(blocks), ALL, RandomKeys(0, 0), cut=Cut(4, 1))
    room = torch.cuda.max_memory_allocated() * 1.5
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        found = ready(shard(blocks), ALL, RandomKeys(0, 0), cut=Cut(16, 1))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found.shrunk > 0
    assert distance(gradient(step.network), wanted) <= 1e-12


def nccl_step(rank: int, world: int, port: int, results: Any) -> None:
    torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
    )
    step, _ = make("portfolio")
    sizes = shards(8, world)
    own = cut(random_blocks(1, blocks=8), sum(sizes[:rank]), sum(sizes[: rank + 1]))
    group = Group.joined(local_rank=rank, local_size=world)
    ready = on_gpu(step, device=torch.device("cuda", rank), group=group)
    found = ready(Shard(partial(cut, own), sizes), ALL, RandomKeys(3, 17), cut=Cut(2, 1))
    results.put((found.loss, gradient(step.network).cpu().numpy()))
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs at hand")
def test_one_worker_on_each_gpu_gives_the_gradient_of_the_whole() -> None:
    from tests.distributed.test_ray import free_port

    world = torch.cuda.device_count()
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    port = free_port()
    workers = [context.Process(target=nccl_step, args=(rank, world, port, results)) for rank in range(world)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    loss, wanted = expected("portfolio", random_blocks(1, blocks=8))
    for own_loss, own in found:
        assert own_loss == pytest.approx(loss, rel=1e-12)
        assert distance(torch.from_numpy(own), wanted) <= 1e-12
