"""Sweeps by a real Ray Tune: the runs that `atft train` makes, and nothing lost when one or all of them die."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from atft.errors import UseError
from atft.experiment import runs, validation_days
from atft.launch import sweep_trial
from atft.observe import events
from tests.distributed.test_ray import launched, step_at_least, wait_for
from tests.integration.command import Outcome, epochs_of, run, steps_of, weights_of

pytestmark = pytest.mark.ray

SWEEP = """
description: Rates on the small tier.
tier: {tier}
variable: phases.*.learning_rate
values: {values}
range: {{low: 1.0e-4, high: 1.0e-1, log: true, trials: 2}}
seeds: {seeds}
metric: validation
"""


def sweep_file(folder: Path, tier: Path, values: str = "[1.0e-3, 3.0e-3]", seeds: str = "[1]") -> Path:
    path = folder / "rates.yaml"
    path.write_text(SWEEP.format(tier=tier, values=values, seeds=seeds))
    return path


@pytest.fixture(scope="session")
def swept(tier_file: Path, panel: Path, address: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A finished sweep of two points under two seeds, and what it told."""
    folder = tmp_path_factory.mktemp("swept")
    given = ("--data", panel, "--runs", folder / "runs", "--json")
    return folder / "runs/rates", run("sweep", sweep_file(folder, tier_file, seeds="[1, 2]"), *given)


def book_of(path: Path) -> dict[str, Any]:
    return json.loads((path / "sweep.json").read_text())


def states(path: Path) -> dict[str, str]:
    return {each["run"]: each["state"] for each in book_of(path)["trials"]}


def same_training(path: Path, other: Path) -> None:
    """Bit for bit, whatever is no time."""
    assert steps_of(path) == steps_of(other)
    assert epochs_of(path) == epochs_of(other)
    assert weights_of(path) == weights_of(other)


def test_a_trial_is_what_train_makes_of_the_same_settings(
    swept: tuple[Path, Outcome], tier_file: Path, panel: Path, tmp_path: Path
) -> None:
    path, told = swept
    assert told.code == 0, told
    assert states(path) == {f"point-learning_rate-{rate}-s{seed}": "done" for rate in (0.001, 0.003) for seed in (1, 2)}
    flags = ("--lr", 0.003, "--seed", 2)
    done = run(
        "train", "--accept=all", tier_file, "--data", panel, "--runs", tmp_path, "--run", "alone", *flags, "--json"
    )
    assert done.code == 0, done
    same_training(path / "point-learning_rate-0.003-s2", tmp_path / "alone")


def test_no_trial_looks_at_the_test_period_and_a_later_look_is_counted_beside_the_sweep(
    swept: tuple[Path, Outcome],
) -> None:
    path, told = swept
    assert not list(path.rglob("result.json"))
    assert not list(path.parent.rglob("_registry"))
    assert "evaluation_started" not in {event["kind"] for event in events.read(path / "point-learning_rate-0.001-s1")}
    assert told.json["best"] in {"learning_rate-0.001", "learning_rate-0.003"}
    looked = run("evaluate", path / "point-learning_rate-0.001-s1", "--json")
    assert looked.code == 0, looked
    assert list((path.parent / "_registry").rglob("*.json"))
    assert not (path / "_registry").exists()


def test_the_validation_days_are_those_that_chose_the_best_epoch(swept: tuple[Path, Outcome]) -> None:
    path, told = swept
    for row in told.json["rows"]:
        for seed in (1, 2):
            folder = path / f"point-{row['point']}-s{seed}"
            found = validation_days.read(folder)
            assert found is not None
            last = [event for event in epochs_of(folder) if event["phase"] == "fine_tuning"]
            assert found.value == max(event["validation_ic"] for event in last)
            daily = [value for value in found.ic if value is not None]
            assert sum(daily) / len(daily) == pytest.approx(found.value, abs=1e-12)
            assert found.steps == len(steps_of(folder))
            assert found.samples == sum(event["samples"] for event in steps_of(folder))
    assert (path / "sweep.html").read_text().count("<svg") == 1
    assert "| learning_rate-0.003 |" in (path / "sweep.md").read_text()


def test_a_sweep_that_is_there_is_not_written_over_and_a_finished_one_is_told_again(
    swept: tuple[Path, Outcome], tier_file: Path, panel: Path, tmp_path: Path
) -> None:
    path, told = swept
    file = sweep_file(tmp_path, tier_file, seeds="[1, 2]")
    again = run("sweep", file, "--data", panel, "--runs", path.parent, "--json")
    assert again.code == 2
    assert "--resume" in again.json["error"]
    again = run("sweep", file, "--runs", path.parent, "--resume", "--json")
    assert again.code == 0, again
    assert again.json["rows"] == told.json["rows"]
    other = sweep_file(tmp_path, tier_file, values="[1.0e-3, 5.0e-3]", seeds="[1, 2]")
    refused = run("sweep", other, "--runs", path.parent, "--resume")
    assert refused.code == 2
    assert "point-learning_rate-0.003-s1" in refused.err


@pytest.mark.faults
def test_a_killed_sweep_goes_on_and_comes_to_the_same(
    long_tier: Path, panel: Path, address: str, tmp_path: Path
) -> None:
    """Killed with its trial when one run has checkpoints and the other has not begun."""
    file = sweep_file(tmp_path, long_tier)
    given = ["sweep", file, "--data", panel, "--trials-at-once", 1, "--runs", tmp_path / "killed"]
    with launched(*given, "--address", address) as process:
        first = tmp_path / "killed/rates/point-learning_rate-0.001-s1"
        wait_for(process, first, step_at_least(23))
        for each in (trainer_of(first), process.pid):
            os.kill(each, signal.SIGKILL)
        process.wait()
    assert validation_days.read(first) is None
    assert states(first.parent)["point-learning_rate-0.003-s1"] == "planned"
    done = run(*given, "--resume", "--json")
    assert done.code == 0, done
    assert [event["kind"] for event in events.read(first)].count("resumed") == 1
    whole = run(
        "train",
        "--accept=all",
        long_tier,
        "--data",
        panel,
        "--runs",
        tmp_path,
        "--run",
        "whole",
        "--lr",
        0.001,
        "--json",
    )
    assert whole.code == 0, whole
    same_training(first, tmp_path / "whole")
    assert validation_days.read(first) is not None


def trainer_of(path: Path) -> int:
    started = next(event for event in events.read(path) if event["kind"] == "run_started")
    return int(started["workers"][0].rpartition(":")[2])


def test_a_run_that_another_process_still_trains_is_waited_for(
    swept: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = runs.open_run(swept[0] / "point-learning_rate-0.001-s2")
    monkeypatch.setattr(sweep_trial, "PATIENCE_SECONDS", 0.0)
    with sweep_trial._alone(held), pytest.raises(UseError, match="another process"), sweep_trial._alone(held):
        pass
    with sweep_trial._alone(held):
        pass


@pytest.mark.faults
def test_a_trial_that_crashes_stops_no_other_and_is_tried_again(
    tier_file: Path, panel: Path, address: str, tmp_path: Path
) -> None:
    file = sweep_file(tmp_path, tier_file, values="[1.0e+30, 1.0e-3]")
    given = ("sweep", file, "--data", panel, "--runs", tmp_path, "--set", "optimizer.clip_norm=1e30")
    done = run(*given)
    assert done.code == 1, done
    assert states(tmp_path / "rates") == {
        "point-learning_rate-0.001-s1": "done",
        "point-learning_rate-1e30-s1": "failed",
    }
    assert "not finite" in done.out
    assert "1 failed" in done.out
    assert "Traceback" not in done.out + done.err
    again = run(*given, "--resume", "--json")
    assert again.code == 1, again
    assert again.json["failed"] == ["point-learning_rate-1e30-s1"]
    log = events.read(tmp_path / "rates/point-learning_rate-1e30-s1")
    assert [event["kind"] for event in log].count("failed") == 2
    assert [event["kind"] for event in events.read(tmp_path / "rates/point-learning_rate-0.001-s1")].count(
        "run_started"
    ) == 1


@pytest.mark.faults
def test_trials_that_asha_stops_are_not_compared_and_the_reference_is_never_stopped(
    tier_file: Path, panel: Path, address: str, tmp_path: Path
) -> None:
    file = sweep_file(tmp_path, tier_file, values="[1.0e-7, 3.0e-3, 2.0e-7]")
    file.write_text(file.read_text() + "grace_epochs: 1\n")
    given = ("sweep", file, "--data", panel, "--runs", tmp_path, "--scheduler", "asha", "--trials-at-once", 1)
    done = run(*given, "--json")
    assert done.code == 0, done
    rows = {row["point"]: row for row in done.json["rows"]}
    stopped = [name for name, row in rows.items() if "stopped" in row["states"]]
    assert "learning_rate-1e-07" not in stopped  # the first, where no value is the tier's own
    assert stopped == ["learning_rate-2e-07"]
    for name in stopped:
        assert rows[name]["mean"] is None
        assert validation_days.read(tmp_path / "rates" / f"point-{name}-s1") is None
        assert name in " ".join(done.json["verdict"])


@pytest.mark.faults
def test_optuna_suggests_inside_the_range_and_a_resumed_search_counts_what_it_has(
    tier_file: Path, panel: Path, address: str, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    file = sweep_file(tmp_path, tier_file)
    given = ("sweep", file, "--data", panel, "--runs", tmp_path, "--search", "optuna", "--lr", 0.004, "--json")
    refused = run(*given)
    assert refused.code == 2
    assert "varies" in refused.json["error"]
    done = run(*given[:-3], "--json")
    assert done.code == 0, done
    values = [row["value"] for row in done.json["rows"]]
    assert len(values) == 2
    assert all(1e-4 <= value <= 1e-1 for value in values)
    assert values == sorted(values)
    again = run(*given[:-3], "--resume", "--json")
    assert [row["value"] for row in again.json["rows"]] == values
