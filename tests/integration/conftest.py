"""A small market, a small tier and a finished run, made once through the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from atft.config import Tier
from atft.experiment.tiers import NOT_SETTINGS, PREFIX, SHORT_NAMES, resolve
from tests.integration.command import Outcome, Stopped, at_step, run, stop_at

TINY = """
extends: quickstart
description: Seconds on one core.
epoch_stock_days: 384
batch: {days: 8, stocks_per_day: 16, block_days: 2}
window: {days: 6, least_present: 4}
split:
  train: {first: 2015-01-01, last: 2015-10-31}
  validate: {first: 2015-11-01, last: 2016-01-31}
  test: {first: 2016-02-01, last: 2016-12-31}
graph: {neighbours: 4, lookback_days: 20}
model: {hidden_size: 8, attention_heads: 2, graph_heads: 2, dropout: 0.2}
phases:
  baseline: {epochs: 2, warmup_steps: 2}
  adaptive_norm: {epochs: 1, warmup_steps: 0}
  gat: {epochs: 2, warmup_steps: 0}
  fine_tuning: {epochs: 1}
runtime: {threads: 1}
"""
"""Four phases of 3 steps an epoch; 4 blocks of 2 days × 16 stocks; dropout on."""


@pytest.fixture(scope="session", autouse=True)
def plain_environment() -> Iterator[None]:
    """No settings from the outside, and none that a run leaves for other tests."""
    stated = {name for name in os.environ if name.startswith(PREFIX) and name not in NOT_SETTINGS} | SHORT_NAMES.keys()
    kept = {name: os.environ.pop(name) for name in stated & os.environ.keys()}
    threads = torch.get_num_threads()
    yield
    os.environ.update(kept)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic market of 60 stocks × 420 days, its panel in ``panel``."""
    path = tmp_path_factory.mktemp("market") / "market"
    made = run("data", "synth", path, "--stocks", 60, "--days", 420, "--start", "2015-01-02")
    assert made.code == 0, made
    return path


@pytest.fixture(scope="session")
def panel(market: Path) -> Path:
    return market / "panel"


@pytest.fixture(scope="session")
def tier_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiers") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def tiny(tier_file: Path) -> Tier:
    """The settings of the small tier."""
    return resolve(str(tier_file)).tier


Train = Callable[..., Outcome]


@pytest.fixture(scope="session")
def train(tier_file: Path, panel: Path) -> Train:
    """``train(runs, name, …)``: trains the small tier on the small market."""

    def command(runs: Path, name: str, *more: object) -> Outcome:
        return run("train", "--accept=all", tier_file, "--data", panel, "--runs", runs, "--run", name, *more)

    return command


@pytest.fixture(scope="session")
def whole(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted; read it, never write into it."""
    runs = tmp_path_factory.mktemp("runs")
    done = train(runs, "whole", "--json")
    assert done.code == 0, done
    return runs / "whole"


@pytest.fixture(scope="session")
def stopped(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped in its second epoch; read it, or take a copy."""
    runs = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, at_step(5))
        with pytest.raises(Stopped):
            train(runs, "part")
    return runs / "part"


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the report out where a test is about what comes before it: it takes half of the time."""
    monkeypatch.setattr("atft.report.html.write_report", lambda path: path / "report.html")
