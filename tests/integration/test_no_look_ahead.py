"""What happens after a day changes nothing at that day or before it; a signal is worth nothing a day off."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats

from atft.config import Tier
from atft.data.labels import forward_returns
from atft.data.panel import Panel
from atft.data.sampler import BlockSampler
from atft.evaluate.predict import predict
from atft.experiment.tiers import resolve
from atft.launch.local import synthesize
from atft.train.setup import Setup, prepare
from tests.integration.command import run

CUT = 150
"""The day after which everything is another market."""
ALL_PARTS = frozenset({"variable_selection", "temporal", "adaptive_norm", "graph"})


def perturbed(table: pl.DataFrame, day: int) -> pl.DataFrame:
    """Another future: other prices, volumes and features, lost rows, early delistings, another industry."""
    random = np.random.default_rng(3)
    cut = sorted(table["date"].unique())[day]
    past, future = table.filter(pl.col("date") <= cut), table.filter(pl.col("date") > cut)
    codes = sorted(past["code"].unique())
    unknown = past.filter(pl.col("industry") == "n/a")["code"].unique().to_list()
    assert unknown, "no industry that becomes known"
    gone, moved = random.permutation(codes)[:6].tolist(), unknown + random.permutation(codes)[:20].tolist()
    prices = ["open", "high", "low", "close"]
    own = [name for name in table.columns if name not in {*prices, "date", "code", "volume", "industry"}]
    factors = pl.Series("factor", np.exp(random.normal(0, 0.2, future.height)))
    future = future.with_columns(
        *(pl.col(name) * factors for name in prices),
        pl.col("volume") * random.integers(1, 9, future.height),
        *(pl.col(name).shuffle(seed=number) * 3 for number, name in enumerate(own)),
        pl.when(pl.col("code").is_in(moved)).then(pl.lit("Industry 01")).otherwise("industry").alias("industry"),
    )
    kept = pl.Series(random.random(future.height) > 0.1)
    return pl.concat([past, future.filter(kept & ~pl.col("code").is_in(gone))]).sample(fraction=1, shuffle=True, seed=5)


@dataclass(frozen=True)
class Side:
    """One of the two markets, made ready under the same tier and weights."""

    setup: Setup

    @property
    def panel(self) -> Panel:
        return self.setup.panel

    def places(self, codes: list[str]) -> npt.NDArray[np.int64]:
        place = {code: number for number, code in enumerate(self.panel.codes)}
        return np.array([place[code] for code in codes])


@pytest.fixture(scope="module")
def sides(market: Path, tiny: Tier, tmp_path_factory: pytest.TempPathFactory) -> tuple[Side, Side]:
    """The market, and the market with another future; the second one lacks the stocks that are listed only then."""
    table = pl.read_parquet(market / "market.parquet")
    made = []
    for each in (table, perturbed(table, CUT)):
        folder = tmp_path_factory.mktemp("side")
        each.write_parquet(folder / "market.parquet")
        shutil.copy(market / "roles.yaml", folder)
        source = (folder / "market.parquet", folder / "panel", "--roles", folder / "roles.yaml")
        done = run("data", "build", *source, "--most-bad", 0.9)
        assert done.code == 0, done
        made.append(Side(prepare(tiny, Panel.open(folder / "panel"))))
    first, second = made
    second.setup.network.load_state_dict(first.setup.network.state_dict())
    return first, second


@pytest.fixture(scope="module")
def codes(sides: tuple[Side, Side]) -> list[str]:
    """Stocks that both markets hold; all that were there by the day of the cut are among them."""
    first, second = sides
    by_then = {code for code, there in zip(first.panel.codes, first.panel.present[: CUT + 1].any(axis=0)) if there}
    both = sorted(set(first.panel.codes) & set(second.panel.codes))
    assert by_then <= set(both)
    return both


def test_the_two_markets_share_their_past_and_nothing_else(sides: tuple[Side, Side], codes: list[str]) -> None:
    first, second = (side.panel.close[:, side.places(codes)] for side in sides)
    assert np.array_equal(first[: CUT + 1], second[: CUT + 1], equal_nan=True)
    later = slice(CUT + 1, None)
    both = np.isfinite(first[later]) & np.isfinite(second[later])
    assert (first[later] != second[later])[both].mean() > 0.99
    assert (np.isfinite(first[later]) & ~np.isfinite(second[later])).sum() > 1000


def test_no_feature_knows_the_future(sides: tuple[Side, Side], codes: list[str]) -> None:
    first, second = (side.panel.features(0, CUT + 1)[:, side.places(codes)] for side in sides)
    names = sides[0].panel.feature_names
    assert len(names) >= 60 + 13
    differ = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    assert [name for name, wrong in zip(names, differ.any(axis=(0, 1))) if wrong] == []
    known = np.isfinite(first[CUT]).mean(axis=0)
    assert known.min() > 0.5, f"{names[known.argmin()]} is missing too often to be tested"
    later = [side.panel.features(CUT + 1, CUT + 2)[0][side.places(codes)] for side in sides]
    assert np.nanmax(abs(later[0] - later[1]), axis=0).min() > 0, "a feature that the next day does not move"


def test_no_neighbour_and_no_mask_knows_the_future(sides: tuple[Side, Side], codes: list[str]) -> None:
    graphs = []
    for side in sides:
        graph, places = side.setup.graph, side.places(codes)
        named = np.append(np.array(side.panel.codes), "none")[graph.index[: CUT + 2, places]]
        graphs.append((named, graph.correlation[: CUT + 2, places]))
        assert (named[: CUT + 1] != "none").mean() > 0.5
    for first, second in zip(*graphs, strict=True):
        assert np.array_equal(first[: CUT + 1], second[: CUT + 1])
        assert not np.array_equal(first[CUT + 1], second[CUT + 1])
    scorable = [side.setup.gatherer.scorable[: CUT + 1, side.places(codes)] for side in sides]
    assert np.array_equal(*scorable)


def sampler(side: Side) -> BlockSampler:
    """Draws blocks of two days, of which the last may begin on the day of the cut and end in another future."""
    setup, days = side.setup, np.arange(CUT - 12, CUT + 2)
    return BlockSampler(days, setup.graph, setup.gatherer.scorable, setup.tier.batch, setup.tier.seed)


def test_no_draw_of_days_and_stocks_knows_the_future(sides: tuple[Side, Side]) -> None:
    first, second = (sampler(side) for side in sides)
    names = [np.append(np.array(side.panel.codes), "none") for side in sides]
    at_the_cut = 0
    for step in range(40):
        one, other = first.plan(step), second.plan(step)
        assert np.array_equal(one.first_days, other.first_days)
        assert np.array_equal(names[0][one.stocks], names[1][other.stocks])
        at_the_cut += int((one.first_days == CUT).sum())
    assert at_the_cut > 5


def test_no_score_of_a_block_knows_the_future(sides: tuple[Side, Side]) -> None:
    for step in range(8):
        outputs = []
        for side in sides:
            plan, gatherer = sampler(side).plan(step), side.setup.gatherer
            blocks = gatherer.blocks(plan.first_days, plan.stocks, np.arange(len(plan.first_days)), 2)
            with torch.no_grad():
                output = side.setup.network.eval()(blocks, ALL_PARTS, None)
            told = torch.from_numpy(plan.first_days)[:, None] + torch.arange(2) <= CUT
            outputs.append((output.scores[told], output.quantiles[told], blocks.scored[told], blocks.neighbours[told]))
        assert outputs[0][2].float().mean() > 0.9
        assert (outputs[0][3] >= 0).any()
        for one, other in zip(*outputs, strict=True):
            assert torch.equal(one, other)


def predictions(side: Side, days: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    setup = side.setup
    return predict(setup.network, setup.gatherer, days, ALL_PARTS, device="cpu", days_at_once=1)


def test_no_prediction_knows_the_future(sides: tuple[Side, Side], codes: list[str]) -> None:
    days = np.arange(100, CUT + 2)
    first, second = (predictions(side, days)[:, side.places(codes)] for side in sides)
    assert np.isfinite(first).sum() > 2000
    assert np.nanstd(first[-2]) > 0
    assert np.array_equal(first[:-1], second[:-1], equal_nan=True)
    assert not np.array_equal(first[-1], second[-1], equal_nan=True), "the day after the cut has to differ"


def daily_ic(scores: npt.NDArray[Any], returns: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Correlation of each day's scores with its returns by scipy; days of fewer than 10 stocks left out."""
    found = []
    for one, other in zip(scores, returns, strict=True):
        there = np.isfinite(one) & np.isfinite(other)
        if there.sum() >= 10:
            found.append(stats.pearsonr(one[there], other[there]).statistic)
    return np.array(found)


def mean_and_error(values: npt.NDArray[Any]) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def shifted_ics(scores: npt.NDArray[Any], close: npt.NDArray[Any], days: npt.NDArray[np.int64]) -> dict[int, Any]:
    """Mean IC and its error of the scores of ``days`` against the returns of the label and of its neighbours."""
    returns = forward_returns(close, 1, 0)
    return {shift: mean_and_error(daily_ic(scores[days], returns[days + shift])) for shift in (-1, 0, 1)}


def test_the_planted_signal_foretells_its_own_day_and_no_other(market: Path, panel: Path) -> None:
    opened = Panel.open(panel)
    truth = pl.read_parquet(market / "truth.parquet")
    signal = np.full(opened.close.shape, np.nan)
    day = np.searchsorted(opened.days, truth["date"].to_numpy().astype("datetime64[D]"))
    signal[day, np.searchsorted(np.array(opened.codes), truth["code"].to_numpy().astype(str))] = truth["signal"]
    found = shifted_ics(signal, opened.close, np.arange(1, 418))
    assert found[0][0] == pytest.approx(0.15, abs=3 * found[0][1])
    assert found[0][0] > 15 * found[0][1]
    for shift in (-1, 1):
        assert abs(found[shift][0]) < 3 * found[shift][1]


def test_what_a_trained_network_says_is_worth_nothing_a_day_off(
    tier_file: Path, tmp_path: Path, no_report: None
) -> None:
    """In a market whose signal is a sum of the day's own features: nothing else is foretold, nothing is late."""
    shares = {"linear": 1.0, "lagged": 0.0, "interaction": 0.0, "spillover": 0.0}
    synthesize(tmp_path / "m", {"stocks": 60, "days": 420, "ic": 0.3, "shares": shares})
    more = (
        "epoch_stock_days=10240",
        "max_epochs=1",
        "phases.baseline.learning_rate=6e-3",
        "model.dropout=0.0",
        "objective.weights.cs_ic=1.0",
    )
    where = ("--data", tmp_path / "m/panel", "--runs", tmp_path, "--run", "trained")
    done = run("train", "--accept=all", tier_file, *where, *(part for each in more for part in ("--set", each)))
    assert done.code == 0, done
    setup = prepare(resolve(str(tier_file)).tier, Panel.open(tmp_path / "m/panel"))
    setup.network.load_state_dict(load_file(tmp_path / "trained/checkpoints/best-0-baseline.safetensors"))
    scores, days = np.full(setup.panel.close.shape, np.nan), setup.periods.test[1:-1]
    scores[days] = predict(setup.network, setup.gatherer, days, {"variable_selection", "temporal"}, device="cpu")
    found = shifted_ics(scores, setup.panel.close, days)
    print(found)
    assert 0.2 < found[0][0] < 0.3 + 3 * found[0][1]
    assert abs(found[1][0]) < 3 * found[1][1]
    # A return that is over is known, and is a feature: little has to be left there, not nothing.
    assert abs(found[-1][0]) < 0.2 * found[0][0]
