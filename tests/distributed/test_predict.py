"""Any number of real processes writes the same file, to the last byte."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from atft.data.panel import Panel, write_panel
from atft.errors import RunError, UseError
from atft.experiment import runs
from atft.experiment.tiers import resolve
from atft.launch.prediction import NAME, Trained, predict_run
from atft.storage import Mirror, Store
from atft.train.checkpoint import save_weights
from atft.train.setup import build_network
from tests.integration.command import unchanged
from tests.s3_server import s3_server

DAYS, STOCKS, FEATURES = 26, 23, 5
EMPTY = 12
"""A day on which no stock has a row: scored days are no multiple of 2 or 3 and fall into two runs."""
FLAGS = {
    "window.days": 5, "window.least_present": 3, "graph.neighbours": 4, "graph.lookback_days": 6,
    "model.hidden_size": 8, "model.attention_heads": 2, "model.graph_heads": 2, "mode": "optimized",
    "precision": "bf16-mixed",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as training leaves it, with weights that were drawn, on a panel that was drawn."""
    folder, random = tmp_path_factory.mktemp("run"), np.random.default_rng(3)
    close = np.exp(0.02 * random.standard_normal((DAYS, STOCKS)).cumsum(0))
    close[random.random(close.shape) < 0.2] = np.nan
    close[EMPTY] = np.nan
    days = np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-01-01") + DAYS)
    features = random.standard_normal((DAYS, STOCKS, FEATURES)).astype(np.float32)
    write_panel(
        folder / "panel",
        days=days,
        codes=[f"S{number:02}" for number in range(STOCKS)],
        industries=random.integers(0, 4, STOCKS),
        feature_names=list("abcde"),
        close=close,
        features=np.where(np.isfinite(close)[..., None], features, np.nan),
    )
    resolved = resolve("quickstart", environ={}, flags=FLAGS)
    assert resolved.tier.runtime.threads == 0, (
        "threads have to be the same for any number of workers without being asked"
    )
    runs.create(folder / "run", resolved, folder / "panel", Panel.open(folder / "panel").manifest, [])
    last = len(resolved.tier.phases_to_run()) - 1
    name = f"best-{last}-{list(resolved.tier.phases_to_run())[last]}.safetensors"
    network = build_network(resolved.tier, features=FEATURES)
    save_weights(folder / "run/checkpoints" / name, network.state_dict())
    (folder / "run/result.json").touch()
    return folder / "run"


@pytest.fixture(autouse=True)
def other_threads() -> Iterator[None]:
    """A process that computes on two threads, as one that a machine's processors decide for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_the_file_is_the_same_for_any_number_of_workers(run: Path, tmp_path: Path) -> None:
    files = {}
    for workers in (1, 2, 3):
        out = tmp_path / f"{workers}.parquet"
        told = predict_run(run, out=out, workers=workers, quiet=True)
        files[workers] = out.read_bytes()
        assert told["days"] % 2
        assert told["days"] % 3
    assert files[1] == files[2] == files[3]
    table = pq.read_table(tmp_path / "3.parquet")
    keys = list(zip(table["date"].to_pylist(), table["code"].to_pylist()))
    assert len(keys) == len(set(keys)) > 200
    assert len(set(table["score"].to_pylist())) > 0.99 * len(keys)


def test_scores_are_computed_in_the_precision_of_the_run(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run/config.json"
    config.write_text(config.read_text().replace('"precision": "bf16-mixed"', '"precision": "32"'))
    found = []
    for each in (run, tmp_path / "run"):
        predict_run(each, out=tmp_path / "scores.parquet", overwrite=True, quiet=True)
        found.append(pq.read_table(tmp_path / "scores.parquet")["score"].to_numpy())
    assert 1e-6 < np.abs(found[0] - found[1]).max() < 0.05 * found[1].std()


def test_a_score_that_is_not_finite_leaves_nothing_behind(run: Path, tmp_path: Path) -> None:
    weights = Trained.open(run).weights
    content = weights.read_bytes()
    tier = runs.open_run(run).tier
    network = build_network(tier, features=FEATURES)
    with torch.no_grad():
        network.get_parameter("score_head.score.weight").fill_(torch.inf)
    save_weights(weights, network.state_dict())
    try:
        with unchanged(run), unchanged(tmp_path), pytest.raises(RunError) as error:
            predict_run(run, out=tmp_path / "scores.parquet", quiet=True)
    finally:
        weights.write_bytes(content)
    assert "scores are not finite, first on day number" in str(error.value)


def test_a_run_and_a_panel_in_an_object_store_are_scored_like_those_on_a_disk(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_run(run, out=tmp_path / "scores.parquet", quiet=True)
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run/config.json"
    config.write_text(config.read_text().replace(str(run.parent / "panel"), "s3://bucket/panel"))
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for folder, uri in ((tmp_path / "run", "s3://bucket/runs/run"), (run.parent / "panel", "s3://bucket/panel")):
            Mirror(folder, Store(uri)).push_changed()
        monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "cache"))
        predict_run(Path("s3://bucket/runs/run"), quiet=True)
        assert Store("s3://bucket/runs/run").read(NAME) == (tmp_path / "scores.parquet").read_bytes()
        shutil.rmtree(tmp_path / "cache")  # on another machine
        with pytest.raises(UseError, match="exists already"):
            predict_run(Path("s3://bucket/runs/run"), quiet=True)
