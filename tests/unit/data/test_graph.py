"""The graph of a day: correlations against numpy, ranking, what it may not see, and its cache."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from atft.config import Graph
from atft.data.graph import daily_returns, trailing_graph
from atft.data.panel import Panel, write_panel

SETTINGS = Graph(neighbours=4, lookback_days=15, shrinkage=0.3, industry_bonus=0.2)
DAYS, STOCKS = 50, 24
INDUSTRIES = np.random.default_rng(0).integers(-1, 4, STOCKS).astype(np.int32)


Make = Callable[..., Panel]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes a panel of given closes and industries, each time under another name, and opens it."""
    numbers = itertools.count()

    def write(close: np.ndarray, industries: np.ndarray = INDUSTRIES) -> Panel:
        path = tmp_path / str(next(numbers))
        days = np.datetime64("2020-01-01") + np.arange(len(close))
        codes = [str(number) for number in range(close.shape[1])]
        features = np.zeros((*close.shape, 1), np.float32)
        write_panel(
            path, days=days, codes=codes, industries=industries, feature_names=["none"], close=close, features=features
        )
        return Panel.open(path)

    return write


def closes(seed: int = 0, *, gaps: float = 0.08) -> np.ndarray:
    """A common factor and own noise, missing days, a late and a dead stock."""
    rng = np.random.default_rng(seed)
    moves = 0.01 * (rng.standard_normal((DAYS, 1)) + 1.5 * rng.standard_normal((DAYS, STOCKS)))
    close = 50 * np.exp(np.cumsum(moves, axis=0))
    close[rng.random(close.shape) < gaps] = np.nan
    close[:30, 3] = np.nan
    close[35:, 5] = np.nan
    return close


def one_day_by_numpy(panel: Panel, settings: Graph, day: int) -> tuple[list[list[int]], list[list[float]]]:
    """The graph of a day from its definition, pair by pair, with ``np.corrcoef`` of mean-imputed returns."""
    filled: dict[int, np.ndarray] = {}
    for stock in range(STOCKS):
        own = np.full(settings.lookback_days, np.nan)
        for back in range(settings.lookback_days):
            now = day - settings.lookback_days + 1 + back
            if now >= 1:
                own[back] = panel.close[now, stock] / panel.close[now - 1, stock] - 1
        known = np.isfinite(own)
        if panel.present[day, stock] and known.sum() >= 2 * settings.lookback_days / 3:
            filled[stock] = np.where(known, own, own[known].mean())
    neighbours: list[list[int]] = [[-1] * settings.neighbours for _ in range(STOCKS)]
    correlations: list[list[float]] = [[0.0] * settings.neighbours for _ in range(STOCKS)]
    if len(filled) < 2:
        return neighbours, correlations
    stocks = sorted(filled)
    sample = np.corrcoef([filled[stock] for stock in stocks])
    target = sample[~np.eye(len(stocks), dtype=bool)].mean()
    shrunk = (1 - settings.shrinkage) * sample + settings.shrinkage * target
    for row, stock in enumerate(stocks):
        candidates = []
        for column, other in enumerate(stocks):
            same = panel.industries[stock] == panel.industries[other] >= 0
            if other != stock:
                rank = shrunk[row, column] + settings.industry_bonus * same
                candidates.append((-rank, other, shrunk[row, column]))
        for place, (_, other, correlation) in enumerate(sorted(candidates)[: settings.neighbours]):
            neighbours[stock][place], correlations[stock][place] = other, correlation
    return neighbours, correlations


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        SETTINGS.model_copy(update={"shrinkage": 0.0, "industry_bonus": 0.0}),
        SETTINGS.model_copy(update={"industry_bonus": 50.0, "neighbours": 30}),
    ],
    ids=["usual", "plain correlation", "industry first, more neighbours than stocks"],
)
def test_graph_is_that_of_the_definition_taken_pair_by_pair(settings: Graph, make: Make) -> None:
    panel = make(closes())
    graph = trailing_graph(panel, settings, days=range(DAYS))
    linked = 0
    for day in range(DAYS):
        neighbours, correlations = one_day_by_numpy(panel, settings, day)
        np.testing.assert_array_equal(graph.index[day], neighbours, err_msg=f"day {day}")
        np.testing.assert_allclose(graph.correlation[day], correlations, atol=3e-7, err_msg=f"day {day}")
        linked += (graph.index[day] >= 0).sum()
    assert linked > 1000
    assert graph.index.dtype == np.int32
    assert graph.correlation.dtype == np.float32


def test_days_without_enough_history_have_an_empty_graph(make: Make) -> None:
    graph = trailing_graph(make(closes(gaps=0.0)), SETTINGS, days=range(DAYS))
    assert (graph.index[:10] == -1).all()  # 9 returns of 15 at most: less than two thirds
    assert (graph.correlation[:10] == 0).all()
    assert (graph.index[10, 0] >= 0).all()


def test_stock_that_does_not_move_has_no_neighbours_and_is_nobodys(make: Make) -> None:
    close = closes()
    close[:, 7] = 12.5
    graph = trailing_graph(make(close), SETTINGS, days=range(DAYS))
    assert (graph.index[:, 7] == -1).all()
    assert not (graph.index == 7).any()


def test_stock_without_a_row_on_the_day_takes_no_part(make: Make) -> None:
    close = closes(gaps=0.0)
    close[40, 2] = np.nan
    graph = trailing_graph(make(close), SETTINGS, days=range(40, 41))
    assert (graph.index[40, 2] == -1).all()
    assert not (graph.index[40] == 2).any()


def test_unknown_industry_is_not_a_group(make: Make) -> None:
    panel = make(closes(), np.full(STOCKS, -1))
    plain = SETTINGS.model_copy(update={"industry_bonus": 0.0})
    with_bonus = trailing_graph(panel, SETTINGS, days=range(40, 50))
    without = trailing_graph(panel, plain, days=range(40, 50))
    np.testing.assert_array_equal(with_bonus.index, without.index)


def test_equal_candidates_are_ranked_by_stock_number_for_any_number_of_threads(make: Make) -> None:
    panel = make(closes(gaps=0.0)[:, [0, 1] * (STOCKS // 2)], np.zeros(STOCKS, int))
    graphs = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            graphs.append(trailing_graph(panel, SETTINGS, days=range(DAYS)))
            with ThreadPoolExecutor(1) as later:  # what our threads were limited to is not left to others
                assert torch.get_num_threads() == later.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)
    assert graphs[0].index[30, 8].tolist() == [0, 2, 4, 6]
    assert graphs[0].index[30, 0].tolist() == [2, 4, 6, 8]
    np.testing.assert_array_equal(graphs[0].index, graphs[1].index)
    np.testing.assert_array_equal(graphs[0].correlation, graphs[1].correlation)


def test_differences_below_the_rounding_of_a_matrix_product_do_not_rank(make: Make) -> None:
    close = np.empty((DAYS, STOCKS))
    rng = np.random.default_rng(2)
    noise = rng.standard_normal(DAYS)
    for stock in range(STOCKS):  # the later a stock, the nearer to stock 0, by about 1e-10 each
        moves = 0.01 * (noise + 1e-5 * (STOCKS - stock) * rng.standard_normal(DAYS) * (stock > 0))
        close[:, stock] = 50 * np.exp(np.cumsum(moves))
    graph = trailing_graph(make(close, np.full(STOCKS, -1)), SETTINGS, days=range(40, 41))
    assert graph.index[40, 0].tolist() == [1, 2, 3, 4]
    assert graph.index[40, 20].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("day", [12, 29, 44])
def test_nothing_after_a_day_changes_the_graph_of_that_day(day: int, make: Make) -> None:
    changed, rng = closes(), np.random.default_rng(1)
    changed[day + 1 :] = rng.uniform(10, 20, changed[day + 1 :].shape)
    changed[day + 1 :][rng.random(changed[day + 1 :].shape) < 0.3] = np.nan
    before, after = (trailing_graph(make(close), SETTINGS, days=range(DAYS)) for close in (closes(), changed))
    np.testing.assert_array_equal(before.index[: day + 1], after.index[: day + 1])
    np.testing.assert_array_equal(before.correlation[: day + 1], after.correlation[: day + 1])
    assert (before.index[day + 1 :] != after.index[day + 1 :]).any()


def test_some_days_are_those_days_of_the_whole_and_leave_no_cache(make: Make) -> None:
    panel = make(closes())
    some = trailing_graph(panel, SETTINGS, days=range(20, 30))
    assert not (panel.path / "graphs").exists()
    whole = trailing_graph(panel, SETTINGS)
    np.testing.assert_array_equal(some.index[20:30], whole.index[20:30])
    np.testing.assert_array_equal(some.correlation[20:30], whole.correlation[20:30])
    assert (some.index[:20] == -1).all()
    assert (some.index[30:] == -1).all()


def test_returns_of_missing_or_broken_closes_are_missing() -> None:
    close = np.array([[1.0, 2.0, 0.0], [1.5, np.nan, 1.0], [3.0, 4.0, 1.0]])
    expected = [[np.nan, np.nan, np.nan], [0.5, np.nan, np.nan], [1.0, np.nan, 0.0]]
    np.testing.assert_array_equal(daily_returns(close), expected)


class Calls:
    """Counts the days that were computed."""

    def __init__(self) -> None:
        self.parts: list[float] = []

    def __call__(self, what: str, part: float) -> None:
        self.parts.append(part)


def computed(panel: Panel, settings: Graph = SETTINGS) -> int:
    """Days that had to be computed to get the graph, after checking that it is the right one."""
    calls = Calls()
    graph = trailing_graph(panel, settings, progress=calls)
    fresh = trailing_graph(panel, settings, days=range(DAYS))
    np.testing.assert_array_equal(graph.index, fresh.index)
    np.testing.assert_array_equal(graph.correlation, fresh.correlation)
    assert calls.parts == sorted(calls.parts)
    return len(calls.parts)


def test_graph_is_computed_once_per_panel_and_setting(make: Make) -> None:
    panel = make(closes())
    assert computed(panel) == DAYS
    assert computed(panel) == 0
    assert not trailing_graph(panel, SETTINGS).index.flags.writeable  # a map, not a copy
    assert computed(panel, SETTINGS.model_copy(update={"shrinkage": 0.4})) == DAYS
    assert len(list((panel.path / "graphs").iterdir())) == 2
    another = make(closes(seed=1))
    shutil.copytree(panel.path / "graphs", another.path / "graphs")
    assert computed(another) == DAYS
    assert computed(Panel.open(panel.path)) == 0


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "no checksums", "garbled checksums"])
def test_damaged_cache_is_rebuilt(make: Make, damage: str) -> None:
    panel = make(closes())
    computed(panel)
    (folder,) = (panel.path / "graphs").iterdir()
    target, checksums = folder / "index.arrow", folder / "checksums.json"
    content = bytearray(target.read_bytes())
    if damage == "truncated":
        target.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        target.write_bytes(content)
    elif damage == "empty":
        target.write_bytes(b"")
    elif damage == "no checksums":
        checksums.unlink()
    else:
        checksums.write_text("[1]")
    assert computed(panel) == DAYS
    assert computed(panel) == 0


def test_panel_that_cannot_be_written_keeps_its_graph_in_memory(make: Make, tmp_path: Path) -> None:
    panel = make(closes())
    (panel.path / "graphs").write_text("a file where the folder should be")
    assert computed(panel) == DAYS
    assert computed(replace(panel, path=tmp_path / "missing")) == DAYS


def test_disk_that_fills_up_leaves_nothing_behind(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    panel = make(closes())
    monkeypatch.setattr(Path, "rename", full)
    assert computed(panel) == DAYS
    assert list((panel.path / "graphs").iterdir()) == []


def test_all_who_may_read_the_panel_may_read_its_graph(make: Make) -> None:
    panel = make(closes())
    computed(panel)
    (folder,) = (panel.path / "graphs").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o755
