"""`atft sweep` up to where Ray would start, and a trial of it in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atft.experiment import sweep, validation_days
from atft.experiment.sweep_plan import Plan, planned
from atft.launch.places import Place, registry_of
from atft.launch.sweep_trial import Job, carry_out
from atft.observe.events import EventLog
from tests.integration.command import Stopped, at_step, epochs_of, refused, run, steps_of, stop_at, weights_of

FILE = """
description: Rates on the small tier.
tier: {tier}
variable: phases.*.learning_rate
values: [1.0e-3, 3.0e-3]
seeds: [1]
metric: validation
"""


@pytest.fixture
def file(tmp_path: Path, tier_file: Path) -> Path:
    path = tmp_path / "rates.yaml"
    path.write_text(FILE.format(tier=tier_file))
    return path


@pytest.fixture
def plan(file: Path) -> Plan:
    return planned(sweep.read(str(file)))


def test_a_dry_run_shows_every_point_and_leaves_nothing(panel: Path, tmp_path: Path, file: Path) -> None:
    done = run("sweep", file, "--data", panel, "--runs", tmp_path / "runs", "--dry-run")
    assert done.code == 0, done
    assert "learning_rate-0.001" in done.out
    assert not (tmp_path / "runs").exists()
    told = run("sweep", "batch", "--hold", "steps", "--seeds", 5, "--dry-run", "--json").json
    assert [(each["value"], each["steps"], each["samples"]) for each in told["points"]] == [
        (1024, 2900, 2969600),
        (2048, 2900, 5939200),
        (4096, 2900, 11878400),
    ]
    assert len(told["runs"]) == 15
    assert [each["point"] for each in told["points"] if each["reference"]] == ["batch-1024"]


def test_wrong_use_is_refused_before_anything_is_there(panel: Path, tmp_path: Path, file: Path) -> None:
    where = ("--data", panel, "--runs", tmp_path / "runs")
    refused(run("sweep", "lrr", *where), "Nearest: lr")
    refused(run("sweep", "batch", *where), "--hold samples", "--hold steps")
    refused(run("sweep", file, *where, "--hold", "steps"), "changes no batch")
    refused(run("sweep", file, *where, "--lr", 1e-3), "varies")
    refused(run("sweep", file, *where, "--seeds", "x"), "--seeds x")
    refused(run("sweep", file, *where, "--search", "optuna"), "no range")
    refused(run("sweep", "epochs", *where, "--scheduler", "asha"), "--scheduler asha", "different phases")
    refused(run("sweep", file, "--runs", tmp_path / "runs"), "--data is missing")
    refused(run("sweep", file, *where, "--resume"), "there is no sweep")
    wide = ("--set", "batch.stocks_per_day=64", "--set", "epoch_stock_days=5120")
    refused(run("sweep", file, *where, *wide), "60 stocks", "learning_rate-0.001, learning_rate-0.003")
    assert not (tmp_path / "runs").exists()


def test_a_trial_that_was_interrupted_goes_on_bitwise(
    plan: Plan, panel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [Job(plan, tmp_path / name, panel).pickled() for name in ("whole", "broken")]
    trial, reports = {"trial": "point-learning_rate-0.003-s1"}, []
    carry_out(told[0], trial, reports.append)
    stop_at(monkeypatch, at_step(11))
    with pytest.raises(Stopped):
        carry_out(told[1], trial, reports.append)
    assert len(reports) == 1
    assert validation_days.read(tmp_path / "broken/point-learning_rate-0.003-s1") is None
    carry_out(told[1], trial, reports.append)
    whole, broken = (tmp_path / name / "point-learning_rate-0.003-s1" for name in ("whole", "broken"))
    kinds = [event["kind"] for event in map(json.loads, (broken / "events.jsonl").open())]
    assert kinds.count("resumed") == 1
    assert steps_of(broken) == steps_of(whole)
    assert epochs_of(broken) == epochs_of(whole)
    assert weights_of(broken) == weights_of(whole)
    assert not list(tmp_path.rglob("result.json")) + list(tmp_path.rglob("_registry"))
    one, other = (validation_days.read(path) for path in (whole, broken))
    assert one is not None
    assert other is not None
    assert one.model_copy(update={"seconds": 0.0}) == other.model_copy(update={"seconds": 0.0})
    assert reports[0] == reports[1] == {"metric": one.value, "epoch": 6}


def test_a_trial_tells_a_scheduler_every_epoch_once_and_again_in_a_later_sitting(
    plan: Plan, panel: Path, tmp_path: Path
) -> None:
    told = Job(plan, tmp_path, panel, by_epoch=True).pickled()
    trial = {"trial": "point-learning_rate-0.003-s1"}
    first, again, stopped = [], [], []
    carry_out(told, trial, first.append)
    figures = [event["validation_ic"] for event in epochs_of(tmp_path / trial["trial"])]
    assert [each["epoch"] for each in first] == [1, 2, 3, 4, 5, 6]
    assert [each["metric"] for each in first[:5]] == figures[:5]
    carry_out(told, trial, again.append)
    assert again == first
    # One that was stopped early tells how far it came, trains no step more and claims no final figure.
    (tmp_path / trial["trial"] / validation_days.NAME).unlink()
    carry_out(
        Job(plan, tmp_path, panel, stopped=frozenset({trial["trial"]}), by_epoch=True).pickled(), trial, stopped.append
    )
    assert stopped == first[:5]
    assert len(steps_of(tmp_path / trial["trial"])) == 18


def test_a_scheduler_that_ends_a_trial_leaves_a_run_that_can_go_on(plan: Plan, panel: Path, tmp_path: Path) -> None:
    told = Job(plan, tmp_path, panel, by_epoch=True).pickled()
    trial = {"trial": "point-learning_rate-0.003-s1"}

    def ended(found: dict[str, float]) -> None:
        if found["epoch"] == 3:
            raise SystemExit(0)  # as Ray Tune ends the thread of a trial that it stops

    with pytest.raises(SystemExit):
        carry_out(told, trial, ended)
    path = tmp_path / trial["trial"]
    assert validation_days.read(path) is None
    assert len(epochs_of(path)) == 3
    again = []
    carry_out(told, trial, again.append)  # trains the third epoch again, which was told already
    assert [each["epoch"] for each in again] == [1, 2, 3, 4, 5, 6]
    assert validation_days.read(path) is not None
    assert "failed" not in {event["kind"] for event in map(json.loads, (path / "events.jsonl").open())}


def test_a_look_at_a_run_of_a_sweep_is_counted_beside_the_sweep(tmp_path: Path) -> None:
    run_of_sweep = Place(tmp_path / "rates/point-learning_rate-0.001-s1")
    assert run_of_sweep.registry._files.uri == registry_of(tmp_path)._files.uri


def test_a_trial_that_fails_says_so_in_its_own_log(
    plan: Plan, panel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = EventLog.write

    def broken(log: EventLog, kind: str, **fields: object) -> object:
        if kind == "step":
            raise MemoryError("no room for step 1")
        return write(log, kind, **fields)

    monkeypatch.setattr(EventLog, "write", broken)
    with pytest.raises(MemoryError):
        carry_out(Job(plan, tmp_path, panel).pickled(), {"trial": "point-learning_rate-0.001-s1"}, lambda found: None)
    last = json.loads((tmp_path / "point-learning_rate-0.001-s1/events.jsonl").read_text().splitlines()[-1])
    assert (last["kind"], last["error"]) == ("failed", "no room for step 1")
