"""Gathered tensors against loops over single stocks and days, and what they may not see."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atft.blocks import EDGE_FEATURES, Blocks, concatenate
from atft.config import Label, Window
from atft.data.gather import Gatherer
from atft.data.graph import TrailingGraph
from atft.data.panel import Panel, write_panel

DAYS, STOCKS, FEATURES, K = 70, 13, 5, 4
WINDOW = Window(days=6, least_present=4)
LABEL = Label(horizon=2, execution_lag=1, cost_bps=0, quantile_horizons=(1, 5))
BLOCK_DAYS = 3


def panel_of(close: np.ndarray, table: np.ndarray) -> Panel:
    """A panel of these closes and features; some industries are unknown."""
    industries = np.maximum(np.random.default_rng(3).integers(-2, 2, STOCKS), -1)
    with tempfile.TemporaryDirectory() as folder:  # its maps outlive the directory
        path = Path(folder) / "panel"
        write_panel(
            path,
            days=np.datetime64("2020-01-01") + np.arange(DAYS),
            codes=[str(number) for number in range(STOCKS)],
            industries=industries,
            feature_names=[str(number) for number in range(FEATURES)],
            close=close,
            features=table,
        )
        return Panel.open(path)


def market() -> tuple[np.ndarray, np.ndarray]:
    """Closes and features with gaps of both kinds."""
    rng = np.random.default_rng(0)
    close = 50 * np.exp(np.cumsum(0.02 * rng.standard_normal((DAYS, STOCKS)), axis=0))
    close[rng.random(close.shape) < 0.15] = np.nan
    table = rng.standard_normal((DAYS, STOCKS, FEATURES)).astype(np.float32)
    table[rng.random(table.shape) < 0.1] = np.nan
    table[np.isnan(close)] = np.nan
    return close, table


def graph() -> TrailingGraph:
    rng = np.random.default_rng(1)
    index = np.full((DAYS, STOCKS, K), -1, np.int32)
    for day in range(DAYS):
        for stock in range(STOCKS):
            others = rng.permutation(np.delete(np.arange(STOCKS), stock))[: rng.integers(0, K + 1)]
            index[day, stock, : len(others)] = others
    correlation = np.where(index >= 0, rng.uniform(-1, 1, index.shape), 0).astype(np.float32)
    return TrailingGraph(index, correlation)


TABLE = market()[1]
PANEL, GRAPH = panel_of(*market()), graph()
FIRST_DAYS = np.array([62, 2, 67, 0, 30, 45])
"""Across two files of features, into the days before the panel, and up to its end."""
SAMPLES = np.array(
    [
        [0, 2, 5, 7, 8, 11],
        [1, 3, 4, 9, 12, -1],
        [6, 10, 2, 1, 0, 12],
        [12, 0, 7, -1, -1, -1],
        [0, 3, 6, 9, 10, 11],
        [1, 2, 3, 4, 5, 6],
    ]
)
NUMBERS = np.array([3, 0, 9, 4, 1, 7])


def gatherer(panel: Panel = PANEL, edges: TrailingGraph = GRAPH) -> Gatherer:
    return Gatherer(panel, edges, WINDOW, LABEL)


def scorable(day: int, stock: int) -> bool:
    window = [PANEL.present[past, stock] for past in range(day - WINDOW.days + 1, day + 1) if past >= 0]
    return bool(PANEL.present[day, stock] and sum(window) >= WINDOW.least_present)


def forward(day: int, stock: int, horizon: int) -> float:
    begin, end = day + LABEL.execution_lag, day + LABEL.execution_lag + horizon
    return PANEL.close[end, stock] / PANEL.close[begin, stock] - 1 if end < DAYS else np.nan


def one_block_by_loops(first_day: int, stocks: list[int], number: int) -> dict[str, np.ndarray]:
    """The fields of a block from their definitions in ``atft.blocks``, one entry at a time."""
    context, n = WINDOW.days - 1 + BLOCK_DAYS, len(stocks)
    out = {
        "features": np.full((context, n, FEATURES), np.nan),
        "present": np.zeros((context, n), bool),
        "scored": np.zeros((BLOCK_DAYS, n), bool),
        "neighbours": np.full((BLOCK_DAYS, n, K), -1),
        "edges": np.zeros((BLOCK_DAYS, n, K, 2)),
        "returns": np.zeros((BLOCK_DAYS, n)),
        "valid": np.zeros((BLOCK_DAYS, n), bool),
        "quantile_returns": np.full((BLOCK_DAYS, n, len(LABEL.quantile_horizons)), np.nan),
        "numbers": np.array(number),
    }
    for position, stock in enumerate(stocks):
        if stock < 0:
            continue
        for place in range(context):
            day = first_day - WINDOW.days + 1 + place
            if day >= 0:
                out["features"][place, position] = TABLE[day, stock]
                out["present"][place, position] = PANEL.present[day, stock]
        for place in range(BLOCK_DAYS):
            day = first_day + place
            if not scorable(day, stock):
                continue
            out["scored"][place, position] = True
            earned = forward(day, stock, LABEL.horizon)
            if np.isfinite(earned):
                out["valid"][place, position], out["returns"][place, position] = True, earned
            for column, horizon in enumerate(LABEL.quantile_horizons):
                out["quantile_returns"][place, position, column] = forward(day, stock, horizon)
            for edge, other in enumerate(GRAPH.index[day, stock].tolist()):
                if other in stocks and other >= 0 and scorable(day, other):
                    out["neighbours"][place, position, edge] = stocks.index(other)
                    same = PANEL.industries[stock] == PANEL.industries[other] >= 0
                    out["edges"][place, position, edge] = GRAPH.correlation[day, stock, edge], same
    return out


def assert_same(blocks: Blocks, other: Blocks) -> None:
    for name, tensor in vars(blocks).items():
        torch.testing.assert_close(tensor, getattr(other, name), rtol=0, atol=0, equal_nan=True, msg=name)


def linked_industries(blocks: Blocks) -> np.ndarray:
    """``[edges, 2]``, industries at both ends of every edge."""
    block, day, position, edge = np.nonzero(blocks.neighbours.numpy() >= 0)
    other = blocks.neighbours.numpy()[block, day, position, edge]
    return PANEL.industries[np.stack([SAMPLES[block, position], SAMPLES[block, other]], axis=1)]


def test_every_field_is_that_of_its_definition_taken_entry_by_entry() -> None:
    blocks = gatherer().blocks(FIRST_DAYS, SAMPLES, NUMBERS, BLOCK_DAYS)
    for block in range(len(FIRST_DAYS)):
        expected = one_block_by_loops(int(FIRST_DAYS[block]), SAMPLES[block].tolist(), int(NUMBERS[block]))
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(blocks, name)[block].numpy(), values, rtol=1e-12, err_msg=name)
    assert EDGE_FEATURES == ("correlation", "same_industry")
    assert blocks.window == WINDOW.days
    assert (blocks.neighbours >= 0).sum() > 20
    kinds = {(int(a), int(b)) for a, b in linked_industries(blocks)}
    assert {(-1, -1), (1, 1), (0, 1)} <= kinds
    assert (blocks.scored & ~blocks.valid).any()
    assert blocks.scored.any(dim=-1).any(dim=-1).tolist() == [True, True, True, False, True, True]


def test_scorable_is_a_row_on_the_day_and_enough_rows_in_the_window() -> None:
    expected = [[scorable(day, stock) for stock in range(STOCKS)] for day in range(DAYS)]
    np.testing.assert_array_equal(gatherer().scorable, expected)
    assert 0 < np.mean(expected) < 0.9


def test_tensors_have_the_promised_types_are_contiguous_and_own_their_memory() -> None:
    panel = panel_of(*market())
    blocks = gatherer(panel).blocks(FIRST_DAYS, SAMPLES, NUMBERS, BLOCK_DAYS)
    types = {name: tensor.dtype for name, tensor in vars(blocks).items()}
    assert types == {
        "features": torch.float32, "present": torch.bool, "scored": torch.bool, "neighbours": torch.int64,
        "edges": torch.float32, "returns": torch.float64, "valid": torch.bool, "quantile_returns": torch.float64,
        "numbers": torch.int64,
    }  # fmt: skip
    assert all(tensor.is_contiguous() for tensor in vars(blocks).values())
    for tensor in vars(blocks).values():
        tensor.zero_()
    again = gatherer(panel).blocks(FIRST_DAYS, SAMPLES, NUMBERS, BLOCK_DAYS)
    assert_same(again, gatherer().blocks(FIRST_DAYS, SAMPLES, NUMBERS, BLOCK_DAYS))
    assert NUMBERS.tolist() == [3, 0, 9, 4, 1, 7]


def test_blocks_together_are_the_blocks_one_by_one() -> None:
    one = gatherer()
    together = one.blocks(FIRST_DAYS, SAMPLES, NUMBERS, BLOCK_DAYS)
    singly = [one.blocks(FIRST_DAYS[[i]], SAMPLES[[i]], NUMBERS[[i]], BLOCK_DAYS) for i in range(len(FIRST_DAYS))]
    assert_same(together, concatenate(singly))


def test_memory_of_a_block_is_told_exactly() -> None:
    blocks = gatherer().blocks(FIRST_DAYS, SAMPLES, NUMBERS, BLOCK_DAYS)
    held = sum(tensor.nbytes for tensor in vars(blocks).values())
    assert gatherer().block_bytes(BLOCK_DAYS, SAMPLES.shape[1]) * len(FIRST_DAYS) == held


def test_without_quantile_horizons_their_returns_are_empty() -> None:
    label = LABEL.model_copy(update={"quantile_horizons": ()})
    blocks = Gatherer(PANEL, GRAPH, WINDOW, label).blocks(FIRST_DAYS, SAMPLES, NUMBERS, BLOCK_DAYS)
    assert blocks.quantile_returns.shape == (len(FIRST_DAYS), BLOCK_DAYS, 6, 0)


@pytest.mark.parametrize("first_day", [-1, DAYS - BLOCK_DAYS + 1])
def test_block_outside_the_panel_is_refused(first_day: int) -> None:
    with pytest.raises(ValueError, match="days 0 to 67"):
        gatherer().blocks(np.array([first_day]), SAMPLES[:1], NUMBERS[:1], BLOCK_DAYS)


def test_cross_section_holds_every_stock_that_can_be_scored_on_any_of_its_days() -> None:
    one = gatherer()
    blocks, stocks = one.cross_section(10, 4)
    expected = [stock for stock in range(STOCKS) if any(scorable(day, stock) for day in range(10, 14))]
    assert stocks.tolist() == expected
    assert blocks.numbers.tolist() == [0]
    np.testing.assert_array_equal(blocks.scored[0].numpy(), one.scorable[10:14][:, stocks])
    assert_same(blocks, one.blocks(np.array([10]), stocks[None], np.array([0]), 4))


def test_cross_section_of_days_on_which_nothing_can_be_scored_is_empty() -> None:
    blocks, stocks = gatherer().cross_section(0, 2)
    assert len(stocks) == 0
    assert blocks.features.shape == (1, WINDOW.days + 1, 0, FEATURES)


@pytest.mark.parametrize("day", [8, 22, 30])
def test_nothing_after_a_day_changes_what_blocks_up_to_that_day_see(day: int) -> None:
    rng = np.random.default_rng(4)
    close, table = market()
    close[day + 1 :] = rng.uniform(10, 20, close[day + 1 :].shape)
    close[day + 1 :][rng.random(close[day + 1 :].shape) < 0.5] = np.nan
    table[day + 1 :] = rng.standard_normal(table[day + 1 :].shape)
    index = GRAPH.index.copy()
    index[day + 1 :] = index[day + 1 :, ::-1]
    changed = gatherer(panel_of(close, table), replace(GRAPH, index=index))
    for first_day in range(day - BLOCK_DAYS + 2):
        arguments = np.array([first_day]), SAMPLES[:1], NUMBERS[:1], BLOCK_DAYS
        before, after = gatherer().blocks(*arguments), changed.blocks(*arguments)
        for name in ("features", "present", "scored", "neighbours", "edges"):
            np.testing.assert_array_equal(getattr(before, name).numpy(), getattr(after, name).numpy(), err_msg=name)
    later = np.array([day - BLOCK_DAYS + 2]), SAMPLES[:1], NUMBERS[:1], BLOCK_DAYS
    before, after = gatherer().blocks(*later), changed.blocks(*later)
    assert not torch.equal(before.features.nan_to_num(), after.features.nan_to_num())
