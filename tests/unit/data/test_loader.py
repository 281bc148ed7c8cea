"""Data prepared ahead: the same numbers for any number of threads, bounded, and ended with the loop."""

from __future__ import annotations

import functools
import itertools
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from atft.blocks import Blocks, concatenate
from atft.config import Batch, Label, Window
from atft.data import loader as loading
from atft.data.gather import Gatherer
from atft.data.graph import TrailingGraph
from atft.data.loader import Loader
from atft.data.panel import Panel, write_panel
from atft.data.sampler import BlockSampler, Plan

DAYS, STOCKS, FEATURES, K = 60, 30, 4, 3
BATCH = Batch(days=12, stocks_per_day=8, block_days=3)


@functools.cache
def prepared_market() -> tuple[BlockSampler, Gatherer]:
    rng = np.random.default_rng(0)
    close = np.exp(0.1 * rng.standard_normal((DAYS, STOCKS)))
    close[rng.random(close.shape) < 0.1] = np.nan
    table = rng.standard_normal((DAYS, STOCKS, FEATURES)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:  # its maps outlive the directory
        path = Path(folder) / "panel"
        write_panel(
            path,
            days=np.datetime64("2020-01-01") + np.arange(DAYS),
            codes=[str(number) for number in range(STOCKS)],
            industries=rng.integers(-1, 3, STOCKS),
            feature_names=["a", "b", "c", "d"],
            close=close,
            features=table,
        )
        panel = Panel.open(path)
    offsets = rng.integers(1, STOCKS, (DAYS, 1, K))
    index = ((np.arange(STOCKS)[:, None] + offsets) % STOCKS).astype(np.int32)
    graph = TrailingGraph(index, rng.random(index.shape, dtype=np.float32))
    label = Label(horizon=1, execution_lag=0, cost_bps=0, quantile_horizons=(1,))
    gatherer = Gatherer(panel, graph, Window(days=5, least_present=3), label)
    return BlockSampler(np.arange(5, 55), graph, gatherer.scorable, BATCH, seed=1), gatherer


@pytest.fixture(autouse=True)
def _four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "processors", lambda: 4)


def load(steps: object = range(5), *, workers: int, plan: object = None, **options: int) -> Loader:
    sampler, gatherer = prepared_market()
    return Loader(plan or sampler.plan, gatherer, steps, days=BATCH.block_days, workers=workers, **options)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("atft-loader")]


def assert_same(blocks: Blocks, other: Blocks) -> None:
    for name, tensor in vars(blocks).items():
        torch.testing.assert_close(tensor, getattr(other, name), rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("largest_ahead", [0, 1 << 30], ids=["gathered when asked", "prepared ahead"])
def test_numbers_are_those_of_the_plan_for_any_workers_and_any_cut(workers: int, largest_ahead: int) -> None:
    sampler, gatherer = prepared_market()
    steps = [4, 0, 7, 8, 9, 2]
    with load(steps, workers=workers, largest_ahead=largest_ahead) as loader:
        seen = []
        for prepared in loader:
            plan = sampler.plan(prepared.step)
            whole = gatherer.blocks(plan.first_days, plan.stocks, np.arange(BATCH.blocks), BATCH.block_days)
            np.testing.assert_array_equal(prepared.plan.stocks, plan.stocks)
            assert_same(prepared.blocks(0, BATCH.blocks), whole)
            assert_same(concatenate([prepared.blocks(0, 1), prepared.blocks(1, 4)]), whole)
            assert all(tensor.is_contiguous() for tensor in vars(prepared.blocks(1, 3)).values())
            seen.append(prepared.step)
    assert seen == steps


def test_workers_are_at_most_the_processors() -> None:
    assert load(workers=99).workers == 4
    assert load(workers=2).workers == 2
    with load(workers=0) as loader:
        next(loader)
        assert loader.workers == len(threads()) == 0


def test_threads_end_with_the_loop() -> None:
    with load(workers=3) as loader:
        next(loader)
        assert len(threads()) > 0
    assert threads() == []
    assert list(loader) == []


def test_threads_end_when_the_consumer_fails() -> None:
    def consume() -> None:
        with load(itertools.count(), workers=3) as loader:
            for _ in loader:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    assert threads() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_failure_of_a_worker_is_raised_where_its_step_would_have_come(workers: int) -> None:
    def plan(step: int) -> Plan:
        if step == 3:
            raise KeyError("step 3")
        return prepared_market()[0].plan(step)

    seen = []

    def consume() -> None:
        with load(itertools.count(), workers=workers, plan=plan) as loader:
            for prepared in loader:
                seen.append(prepared.step)

    with pytest.raises(KeyError, match="step 3"):
        consume()
    assert seen == [0, 1, 2]
    assert threads() == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_endless_steps_are_prepared_a_bounded_number_ahead(workers: int) -> None:
    planned = []

    def plan(step: int) -> Plan:
        planned.append(step)
        return prepared_market()[0].plan(step)

    with load(itertools.count(), workers=workers, plan=plan) as loader:
        for _ in range(3):
            next(loader)
        time.sleep(0.2)
        assert len(planned) == (3 + workers + 1 if workers else 3)


def test_data_is_prepared_while_the_consumer_computes() -> None:
    def plan(step: int) -> Plan:
        time.sleep(0.05)
        return prepared_market()[0].plan(step)

    waited = {}
    for workers in (0, 1):
        with load(workers=workers, plan=plan) as loader:
            waited[workers] = []
            for prepared in loader:
                waited[workers].append(prepared.wait_seconds)
                time.sleep(0.15)
    assert min(waited[0]) >= 0.05
    assert waited[1][0] >= 0.05
    assert np.median(waited[1][1:]) < 0.02


def test_waiting_counts_what_is_gathered_when_asked() -> None:
    with load(workers=1, largest_ahead=0) as loader:
        prepared = next(loader)
        before = prepared.wait_seconds
        prepared.blocks(0, 4)
        assert prepared.wait_seconds > before
    with load(workers=1) as loader:
        prepared = next(loader)
        before = prepared.wait_seconds
        prepared.blocks(0, 4)
        assert prepared.wait_seconds == before
