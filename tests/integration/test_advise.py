"""``atft advise``: from a tier after a short training, and from a run's own measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from atft.config import Tier
from atft.data.panel import Panel
from atft.experiment.advise import Candidate
from atft.experiment.advise_branch import Rate, branches
from atft.experiment.advise_walk import Walk
from atft.observe import events
from atft.train.checkpoint import checksum
from atft.train.setup import prepare
from tests.integration.command import refused, run, unchanged
from tests.integration.conftest import Train

FEW = ("--steps", 4, "--candidates", "64,100,128,256")


@pytest.fixture(scope="module")
def told(tier_file: Path, panel: Path) -> Any:
    done = run(
        "advise", tier_file, "--data", panel, *FEW, "--branch", "--branch-samples", 512, "--seeds", "1,2", "--json"
    )
    assert done.code == 0, done
    return done.json


@pytest.fixture(scope="module")
def measured(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one phase that measured two steps of six."""
    runs = tmp_path_factory.mktemp("advised")
    done = train(runs, "run", "--max-epochs", 2, "--set", "runtime.noise_scale_steps=3")
    assert done.code == 0, done
    return runs / "run"


def test_a_tier_is_told_its_noise_its_candidates_and_the_rules(told: Any) -> None:
    noise = told["noise_scale"]
    assert noise["measured"] == 8  # four steps of each of two seeds
    assert noise["noise"] > 0
    assert (noise["noise_scale"] is None) == (noise["reason"] is not None)
    rows = {each["samples"]: each for each in told["candidates"]}
    assert list(rows) == [64, 100, 128, 256]
    assert "whole blocks of 32" in rows[100]["why_not"]
    assert "portfolio Sharpe ratio needs 8" in rows[64]["why_not"]
    assert rows[128]["sharpe_error"] == pytest.approx(5**-0.5)
    assert rows[256]["sharpe_error"] == pytest.approx(13**-0.5)
    assert 0 < rows[128]["step_seconds"] <= rows[256]["step_seconds"]
    assert 0 < rows[128]["peak_bytes"] < rows[256]["peak_bytes"]
    assert rows[128]["steps_per_epoch"] == 3
    assert told["rules"]["root"] == pytest.approx(told["parameters"] ** 0.5)


def test_branches_train_on_equal_data_from_the_same_weights(told: Any) -> None:
    assert [(each["samples"], each["steps"]) for each in told["branches"]] == [(128, 4), (256, 2)]
    small, large = told["branches"]
    assert large["learning_rate"] == pytest.approx(small["learning_rate"] * 2**0.5)
    assert large["worse"] == pytest.approx(large["loss"] - small["loss"])
    assert large["low"] < large["worse"] < large["high"]


@pytest.mark.parametrize("rule", ["sqrt", "held"])
def test_a_branch_begins_where_the_walk_stands_and_leaves_it_there(tiny: Tier, panel: Path, rule: Rate) -> None:
    walk = Walk(prepare(tiny, Panel.open(panel)), tiny.phases["gat"])
    size = walk.size(tiny.batch, 1)
    for number in range(2):
        walk.gradient(size, number)
        walk.update(1e-3)
    before = checksum(walk.state())
    candidate = Candidate(tiny.batch.samples, tiny.batch)
    found = branches(walk, [candidate, candidate], [5], 256, rule, lambda *ignored: None)
    assert found[0] == found[1]
    assert checksum(walk.state()) == before
    walk.gradient(size, 2)
    walk.update(1e-3)
    assert checksum(walk.state()) != before


def test_a_run_is_advised_from_what_it_measured_and_is_left_as_it_was(measured: Path) -> None:
    with unchanged(measured):
        done = run("advise", measured, "--candidates", "128,256", "--json")
    assert done.code == 0, done
    last = [each for each in events.read(measured) if each["kind"] == "noise_scale"][-1]
    assert (last["step"], last["measured"]) == (6, 2)
    for name in ("noise", "signal", "noise_scale", "low", "high", "at_least", "reason"):
        assert done.json["noise_scale"][name] == last[name]
    assert [each["phase"] for each in done.json["phases"]] == ["baseline"]


def test_a_run_that_measured_nothing_says_so_and_how_to_measure(whole: Path) -> None:
    done = run("advise", whole, "--candidates", "128")
    assert done.code == 0, done
    assert "not estimable, the run measured nothing in phase fine_tuning (runtime.noise_scale_steps" in " ".join(
        done.out.split()
    )
    assert "Does not follow" in done.out


def test_wrong_use_is_refused_before_anything_is_computed(tier_file: Path, panel: Path, measured: Path) -> None:
    refused(run("advise", tier_file), "--data is missing")
    refused(run("advise", tier_file, "--data", panel, "--candidates", "many"), "--candidates many")
    refused(run("advise", tier_file, "--data", panel, "--phase", "warm"), "--phase warm", "fine_tuning")
    refused(run("advise", tier_file, "--data", panel, "--branch", "--seeds", "1"), "--seeds 1", "at least two")
    refused(run("advise", tier_file, "--data", panel, "--branch", "--candidates", "100"), "--branch needs two batches")
    refused(run("advise", measured, "--set", "batch.days=16", "--set", "epoch_stock_days=512"), "its weights belong")


def test_json_is_plain_data(told: Any) -> None:
    assert json.loads(json.dumps(told, allow_nan=False)) == told
