"""Plans of effective batches: what they depend on, which days and stocks they hold."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.config import Batch, Graph
from atft.data.graph import TrailingGraph, trailing_graph
from atft.data.panel import Panel, write_panel
from atft.data.sampler import BlockSampler, Plan, grow_sample, surely_held
from atft.errors import UseError

K, STOCKS, DAYS = 10, 500, 90
BATCH = Batch(days=16, stocks_per_day=64, block_days=4)
DECISIONS = np.arange(50, DAYS)
SCORABLE = np.ones((DAYS, STOCKS), bool)


@functools.cache
def factor_graph() -> TrailingGraph:
    """Neighbours in a market of one common factor, 25 sector factors and own noise; sectors are not told."""
    rng = np.random.default_rng(0)
    sector = rng.integers(0, 25, STOCKS)
    common, by_sector = rng.standard_normal((DAYS, 1)), rng.standard_normal((DAYS, 25))[:, sector]
    moves = 0.01 * (common * rng.uniform(0.5, 1.5, STOCKS) + by_sector + 1.2 * rng.standard_normal((DAYS, STOCKS)))
    chosen = Graph(neighbours=K, lookback_days=40, shrinkage=0.2, industry_bonus=0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "panel"
        write_panel(
            path,
            days=np.datetime64("2020-01-01") + np.arange(DAYS),
            codes=[str(number) for number in range(STOCKS)],
            industries=np.full(STOCKS, -1),
            feature_names=["none"],
            close=np.exp(np.cumsum(moves, axis=0)),
            features=np.zeros((DAYS, STOCKS, 1), np.float32),
        )
        return trailing_graph(Panel.open(path), chosen, days=range(50, DAYS))


def empty_graph(days: int = DAYS, stocks: int = STOCKS) -> TrailingGraph:
    return TrailingGraph(np.full((days, stocks, K), -1, np.int32), np.zeros((days, stocks, K), np.float32))


def sampler(seed: int = 7, graph: TrailingGraph | None = None, scorable: np.ndarray = SCORABLE) -> BlockSampler:
    return BlockSampler(DECISIONS, graph or factor_graph(), scorable, BATCH, seed)


def kept_neighbours(index: np.ndarray, stocks: np.ndarray) -> float:
    """Neighbours that a sampled stock has in the sample, on average."""
    return float(np.isin(index[stocks], stocks[stocks >= 0]).sum(axis=1).mean())


def same(first: Plan, second: Plan) -> bool:
    return np.array_equal(first.first_days, second.first_days) and np.array_equal(first.stocks, second.stocks)


def test_plan_depends_on_seed_and_step_only() -> None:
    one, other = sampler(), sampler()
    forwards = [one.plan(step) for step in range(6)]
    backwards = [other.plan(step) for step in reversed(range(6))][::-1]
    assert all(same(*pair) for pair in zip(forwards, backwards))
    assert not any(same(forwards[0], plan) for plan in forwards[1:])
    assert not same(forwards[0], sampler(seed=8).plan(0))


def test_blocks_of_one_step_have_different_stock_samples() -> None:
    plan = sampler(graph=empty_graph()).plan(0)
    assert len({tuple(stocks) for stocks in plan.stocks}) == BATCH.blocks


@settings(max_examples=150, deadline=None)
@given(
    decisions=st.sets(st.integers(0, 40), max_size=41),
    block_days=st.integers(1, 5),
    blocks=st.integers(1, 6),
    seed=st.integers(0, 3),
)
def test_blocks_are_distinct_runs_inside_the_decision_days_or_refused(
    decisions: set[int], block_days: int, blocks: int, seed: int
) -> None:
    def cells(offset: int) -> int:
        return sum(
            set(range(start, start + block_days)) <= decisions
            for start in range(offset - block_days, 41 + block_days, block_days)
        )

    batch = Batch(days=blocks * block_days, stocks_per_day=2, block_days=block_days)
    days = np.array(sorted(decisions), dtype=np.int64)
    build = functools.partial(BlockSampler, days, empty_graph(41, 3), np.ones((41, 3), bool), batch, seed)
    if max(map(cells, range(block_days))) < blocks:
        with pytest.raises(UseError, match=rf"needs {blocks} separate runs .* {batch.days} decision days"):
            build()
        return
    for step in range(4):
        first_days = build().plan(step).first_days
        held = [day + later for day in first_days.tolist() for later in range(block_days)]
        assert len(held) == len(set(held)) == batch.days
        assert set(held) <= decisions


def test_every_decision_day_is_drawn_from_every_place_in_a_block() -> None:
    drawn = np.zeros((DAYS, BATCH.block_days), int)
    few = sampler(graph=empty_graph(), scorable=np.zeros_like(SCORABLE))
    for step in range(150):
        for day in few.plan(step).first_days:
            drawn[np.arange(day, day + BATCH.block_days), np.arange(BATCH.block_days)] += 1
    assert (drawn[DECISIONS[3:-3]] > 0).all()
    assert drawn[: DECISIONS[0]].sum() == 0


def test_too_few_decision_days_are_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(UseError) as refused:
        BlockSampler(np.arange(11), empty_graph(), SCORABLE, BATCH, 0)
    message = str(refused.value)
    assert "16 decision days at least" in message
    assert "the 11 decision days given hold 2" in message
    assert "--set batch.days=8" in message
    with pytest.raises(UseError, match=r"smaller batch\.block_days"):
        BlockSampler(np.array([0, 2, 4]), empty_graph(), SCORABLE, BATCH, 0)


def test_stocks_are_different_and_eligible_on_the_first_day() -> None:
    rng = np.random.default_rng(3)
    scorable = rng.random(SCORABLE.shape) < 0.5
    drawn = sampler(scorable=scorable)
    for step in range(10):
        plan = drawn.plan(step)
        assert plan.stocks.shape == (BATCH.blocks, BATCH.stocks_per_day)
        for day, stocks in zip(plan.first_days, plan.stocks):
            assert scorable[day, stocks].all()
            assert (np.diff(stocks) > 0).all()


def test_where_too_few_are_eligible_all_are_taken_and_the_rest_is_padding() -> None:
    scorable = np.zeros_like(SCORABLE)
    scorable[:, [3, 40, 41]] = True
    for stocks in sampler(scorable=scorable).plan(0).stocks:
        assert stocks.tolist() == [3, 40, 41] + [-1] * 61


def test_sampled_stock_keeps_half_of_its_neighbours_and_a_plain_sample_does_not() -> None:
    grown, plain = [], []
    drawn, rng = sampler(), np.random.default_rng(0)
    for step in range(25):
        plan = drawn.plan(step)
        for day, stocks in zip(plan.first_days, plan.stocks):
            index = factor_graph().index[day]
            grown.append(kept_neighbours(index, stocks))
            plain.append(kept_neighbours(index, rng.choice(STOCKS, 64, replace=False)))
    assert np.mean(grown) >= K / 2
    assert np.mean(plain) < K / 4


def test_no_stock_is_starved_and_none_is_drawn_all_the_time() -> None:
    drawn = np.zeros(STOCKS)
    one = sampler()
    steps = 100
    for step in range(steps):
        np.add.at(drawn, one.plan(step).stocks.ravel(), 1)
    relative = drawn / (steps * BATCH.blocks * 64 / STOCKS)
    assert relative.min() > 0.2
    assert relative.max() < 3.0


def test_stock_without_links_is_drawn_at_its_plain_share() -> None:
    index = factor_graph().index[60].copy()
    lonely = np.arange(STOCKS) < 100
    index[lonely] = -1
    index[index < 100] = -1
    rng = np.random.default_rng(5)
    eligible = np.ones(STOCKS, bool)
    counts = [lonely[grow_sample(index, eligible, 64, rng)].sum() for _ in range(200)]
    expected = 64 * 100 / STOCKS
    deviation = np.sqrt(expected * 0.8 / 200)
    assert abs(np.mean(counts) - expected) < 4 * deviation


def test_without_a_graph_the_sample_is_a_plain_one() -> None:
    rng = np.random.default_rng(5)
    eligible = np.arange(STOCKS) % 2 == 0
    drawn = np.zeros(STOCKS)
    for _ in range(400):
        stocks = grow_sample(empty_graph().index[0], eligible, 64, rng)
        assert len(set(stocks.tolist())) == 64
        drawn[stocks] += 1
    assert drawn[~eligible].sum() == 0
    expected = 400 * 64 / 250
    assert np.abs(drawn[eligible] - expected).max() < 5 * np.sqrt(expected)


def grown_by_looking_at_all_stocks(
    index: np.ndarray, eligible: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """The sample by its definition: each stock added is searched for among the neighbours of all."""
    among = np.append(eligible, False)
    links = np.where(among[index] & eligible[:, None], index, -1)
    degree = (links >= 0).sum(axis=1) + np.array([(links == stock).sum() for stock in range(len(eligible))])
    lonely, linked = np.flatnonzero(eligible & (degree == 0)), np.flatnonzero(eligible & (degree > 0))
    plain = int(rng.hypergeometric(len(lonely), len(linked), size))
    drawn = rng.choice(lonely, plain, replace=False).tolist()
    weight, lots = 1.0 / np.sqrt(np.maximum(degree, 1)), np.full(len(degree), -np.inf)
    lots[linked] = rng.random(len(linked)) * 1e-6
    seeds, cluster, best, score = rng.permutation(linked).tolist(), size, -1, lots
    while len(drawn) < size:
        if cluster >= max(2, size // 2) or score[best] <= 1e-6:
            best = next(seed for seed in seeds if lots[seed] >= 0)
            score, cluster = lots.copy(), 0
        drawn.append(best)
        cluster += 1
        lots[best] = score[best] = -np.inf
        for stock in links[best][links[best] >= 0]:
            score[stock] += weight[stock]
        for stock in np.flatnonzero((links == best).any(axis=1)):
            score[stock] += weight[stock]
        best = int(score.argmax())
    return np.array(drawn)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), stocks=st.sampled_from([4, 40, 200]), k=st.integers(1, 6))
def test_a_sample_is_that_of_its_definition_stock_by_stock(seed: int, stocks: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    others = rng.permuted(np.tile(np.arange(1, stocks), (stocks, 1)), axis=1)[:, :k]
    index = ((np.arange(stocks)[:, None] + others) % stocks).astype(np.int32)
    index[rng.random(index.shape) < rng.choice([0.0, 0.3, 0.9])] = -1
    eligible = rng.random(stocks) < rng.choice([0.5, 1.0])
    size = int(rng.integers(0, eligible.sum() + 1))
    found = grow_sample(index, eligible, size, np.random.default_rng(seed))
    np.testing.assert_array_equal(
        found, grown_by_looking_at_all_stocks(index, eligible, size, np.random.default_rng(seed))
    )


def test_exactly_as_many_as_are_eligible_can_be_grown() -> None:
    eligible = np.zeros(STOCKS, bool)
    eligible[10:74] = True
    grown = grow_sample(factor_graph().index[60], eligible, 64, np.random.default_rng(0))
    assert sorted(grown.tolist()) == list(range(10, 74))


def test_nothing_after_a_day_changes_a_block_that_starts_up_to_that_day() -> None:
    day, rng = 68, np.random.default_rng(2)
    graph, scorable = factor_graph(), SCORABLE.copy()
    index = graph.index.copy()
    index[day + 1 :] = index[day + 1 :, rng.permutation(STOCKS)]
    scorable[day + 1 :] = rng.random(scorable[day + 1 :].shape) < 0.5
    one, other = sampler(), sampler(graph=TrailingGraph(index, graph.correlation), scorable=scorable)
    changed = 0
    for step in range(20):
        before, after = one.plan(step), other.plan(step)
        np.testing.assert_array_equal(before.first_days, after.first_days)
        early = before.first_days <= day
        np.testing.assert_array_equal(before.stocks[early], after.stocks[early])
        changed += (before.stocks[~early] != after.stocks[~early]).any(axis=1).sum()
    assert changed > 0


@settings(max_examples=100, deadline=None)
@given(runs=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 14)), min_size=1, max_size=5), block=st.integers(1, 5))
def test_blocks_that_surely_fit_do_at_every_offset_and_are_nearly_all(runs: list[tuple[int, int]], block: int) -> None:
    days, at = [], 0
    for gap, length in runs:
        at += gap
        days += range(at, at + length)
        at += length
    whole = [
        sum(set(range(start, start + block)) <= set(days) for start in range(offset, at, block))
        for offset in range(block)
    ]
    sure = surely_held(np.array(days), block)
    assert sure <= min(whole)
    assert min(whole) - sure <= len(runs)
