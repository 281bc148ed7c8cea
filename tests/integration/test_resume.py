"""A run that stopped goes on as if it had not, or says why it cannot and leaves everything as it is."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from atft.observe import events
from atft.observe.events import Event
from atft.train import loop
from tests.integration.command import (
    Stopped,
    at_step,
    epochs_of,
    figures_of,
    refused,
    run,
    run_apart,
    steps_of,
    stop_at,
    unchanged,
    weights_of,
)
from tests.integration.conftest import Train


def end_of(kind: str, **fields: object) -> Callable[[Event], bool]:
    return lambda event: event["kind"] == kind and all(event[name] == value for name, value in fields.items())


def same_run(resumed: Path, whole: Path) -> None:
    """Bit for bit, whatever is no time."""
    assert steps_of(resumed) == steps_of(whole)
    assert epochs_of(resumed) == epochs_of(whole)
    assert figures_of(resumed) == figures_of(whole)
    assert weights_of(resumed) == weights_of(whole)
    last, other = (torch.load(path / "checkpoints/last.pt", weights_only=True) for path in (resumed, whole))
    weights, others = last["state"]["network"], other["state"]["network"]
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in others)


STOPS = {
    "after an epoch, before its checkpoint": ([end_of("epoch", phase="baseline", epoch=2)], 60.0),
    "in the middle of an epoch": ([at_step(5)], 60.0),
    "in the middle of an epoch with a checkpoint in it": ([at_step(12)], 0.0),
    "between two phases": ([end_of("phase_finished", phase="adaptive_norm")], 60.0),
    "at the start of a phase": ([end_of("phase_started", phase="gat")], 60.0),
    "three times": ([at_step(4), at_step(8), at_step(14)], 0.0),
}


@pytest.mark.parametrize("where", STOPS)
def test_a_resumed_run_is_bitwise_the_unbroken_one(
    where: str, whole: Path, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    stops, save_seconds = STOPS[where]
    monkeypatch.setattr(loop, "SAVE_SECONDS", save_seconds)
    for number, reached in enumerate(stops):
        stop_at(monkeypatch, reached)
        with pytest.raises(Stopped):
            train(tmp_path, "broken", *(["--resume"] if number else []))
    assert not (tmp_path / "broken/result.json").exists()
    done = train(tmp_path, "broken", "--resume")
    assert done.code == 0, done
    same_run(tmp_path / "broken", whole)


KILLED_AT_A_STEP = """
import os, signal, sys
from atft.observe.events import EventLog
from atft.train import loop
write, loop.SAVE_SECONDS = EventLog.write, 0.0
def write_and_die(log, kind, **fields):
    write(log, kind, **fields)
    if kind == "step" and fields["step"] == 11:
        os.kill(os.getpid(), signal.SIGKILL)
EventLog.write = write_and_die
from atft.cli import main
main(sys.argv[1:])
"""


def test_a_process_that_is_told_to_stop_finishes_its_step_and_goes_on_bitwise(
    whole: Path, tier_file: Path, panel: Path, train: Train, tmp_path: Path, no_report: None
) -> None:
    given = ("train", "--accept=all", tier_file, "--data", panel, "--runs", tmp_path, "--run", "told")
    done = run_apart(*given, program=("-c", KILLED_AT_A_STEP.replace("SIGKILL", "SIGTERM")))
    assert done.code == 1
    assert "stopped as asked after step 12; its checkpoint is written" in done.err
    assert "Traceback" not in done.err
    done = train(tmp_path, "told", "--resume")
    assert done.code == 0, done
    assert "resumed after step 12" in done.err
    same_run(tmp_path / "told", whole)


def test_a_killed_process_is_resumed_bitwise_by_another(
    whole: Path, tier_file: Path, panel: Path, train: Train, tmp_path: Path, no_report: None
) -> None:
    given = ("train", "--accept=all", tier_file, "--data", panel, "--runs", tmp_path, "--run", "killed")
    assert run_apart(*given, program=("-c", KILLED_AT_A_STEP)).code == -signal.SIGKILL
    log = tmp_path / "killed/events.jsonl"
    with log.open("ab") as file:
        file.write(b'{"time":1.0,"kind":"ste')  # what a kill in the middle of a write leaves
    done = train(tmp_path, "killed", "--resume")
    assert done.code == 0, done
    assert re.search(r"resumed after step (9|10)\b", done.err)  # that of step 10 was being written
    same_run(tmp_path / "killed", whole)


def test_a_run_goes_on_by_the_name_of_its_tier_in_another_mode_and_counts_all_its_seconds(
    whole: Path, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    stop_at(monkeypatch, end_of("phase_finished", phase="gat"))
    with pytest.raises(Stopped):
        train(tmp_path, "slow")
    trained = sum(event["seconds"] for event in events.steps(tmp_path / "slow"))
    where = ("--runs", tmp_path, "--run", "slow")
    done = run("train", "--accept=all", "tiny", *where, "--resume", "--set", "mode=safe", "--set", "runtime.threads=1")
    assert done.code == 0, done
    assert steps_of(tmp_path / "slow") == steps_of(whole)
    log = events.read(tmp_path / "slow")
    restarted = max(number for number, event in enumerate(log) if event["kind"] == "run_started")
    assert log[restarted]["loader_workers"] == 0
    since = log[-1]["time"] - log[restarted]["time"]
    finished = next(event["seconds"] for event in log if event["kind"] == "run_finished")
    assert finished == pytest.approx(trained + since, abs=0.5)


def test_a_run_is_never_written_over(train: Train, stopped: Path) -> None:
    with unchanged(stopped.parent):
        refused(train(stopped.parent, "part"), str(stopped), "exists already", "--resume")


def test_resuming_asks_for_the_name_of_a_run(tier_file: Path, panel: Path, tmp_path: Path) -> None:
    with unchanged(tmp_path):
        refused(run("train", "--accept=all", tier_file, "--data", panel, "--runs", tmp_path, "--resume"), "--run NAME")


def test_a_run_that_is_not_there_cannot_go_on(train: Train, tmp_path: Path) -> None:
    with unchanged(tmp_path):
        refused(train(tmp_path, "none", "--resume"), "none", "no run there", "Mend")


@pytest.mark.parametrize("given", [("--lr", 1e-4), ("--set", "model.dropout=0.1"), ("--seed", 9), ("--max-epochs", 3)])
def test_what_is_learned_by_cannot_change_in_the_middle(train: Train, stopped: Path, given: tuple[object, ...]) -> None:
    with unchanged(stopped.parent):
        refused(train(stopped.parent, "part", "--resume", *given), str(stopped), "other settings", "Mend")


def test_a_finished_run_has_nothing_to_go_on_with(train: Train, whole: Path) -> None:
    with unchanged(whole.parent):
        refused(train(whole.parent, "whole", "--resume"), str(whole), "finished already", "atft report")


@pytest.fixture(scope="module")
def other_panel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("other") / "market"
    made = run("data", "synth", path, "--stocks", 60, "--days", 420, "--start", "2015-01-02", "--seed", 8)
    assert made.code == 0, made
    return path / "panel"


def test_a_run_stays_on_its_panel(tier_file: Path, stopped: Path, other_panel: Path) -> None:
    with unchanged(stopped.parent):
        where = ("--data", other_panel, "--runs", stopped.parent, "--run", "part")
        refused(run("train", "--accept=all", tier_file, *where, "--resume"), str(other_panel), "was started on", "Mend")


def test_a_panel_that_was_replaced_under_its_name_is_noticed(
    tier_file: Path, panel: Path, other_panel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, runs = tmp_path / "panel", tmp_path / "runs"
    shutil.copytree(panel, data)
    stop_at(monkeypatch, at_step(5))
    with pytest.raises(Stopped):
        run("train", "--accept=all", tier_file, "--data", data, "--runs", runs, "--run", "part")
    shutil.rmtree(data)
    shutil.copytree(other_panel, data)
    with unchanged(runs):
        resumed = run("train", "--accept=all", tier_file, "--runs", runs, "--run", "part", "--resume")
        refused(resumed, str(runs / "part"), "data differs", "Mend")


def flip_a_bit(path: Path) -> None:
    """In the middle of a weight, where the format itself notices nothing."""
    weight = torch.load(path, weights_only=True)["state"]["network"]["temporal.lstm.weight_hh_l0"]
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 42] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(b"{}" * 5000), "damaged"),
        (lambda path: path.unlink(), "no checkpoint"),
        (flip_a_bit, "damaged"),
    ],
    ids=["truncated", "empty", "no checkpoint's bytes", "missing", "one bit of a weight"],
)
def test_a_damaged_checkpoint_is_told_and_left_alone(
    train: Train, stopped: Path, tmp_path: Path, damage: Callable[[Path], object], told: str
) -> None:
    shutil.copytree(stopped, tmp_path / "part")
    damage(tmp_path / "part/checkpoints/last.pt")
    with unchanged(tmp_path):
        for outcome in (train(tmp_path, "part", "--resume"), run("evaluate", tmp_path / "part")):
            refused(outcome, str(tmp_path / "part/checkpoints/last.pt"), told, "Mend")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "missing": lambda path: path.unlink(),
    "one bit of a weight": flip_a_bit,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_taken_and_told(
    damage: str, train: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    stop_at(monkeypatch, at_step(11))
    with pytest.raises(Stopped):
        train(tmp_path, "part")
    last, before = (tmp_path / "part/checkpoints" / name for name in ("last.pt", "previous.pt"))
    step = torch.load(before, weights_only=True)["state"]["progress"]["step"]
    DAMAGES[damage](last)
    done = train(tmp_path, "part", "--resume")
    assert done.code == 0, done
    assert f"warning: {last}: " in done.err
    assert "previous.pt, is taken instead" in done.err
    assert f"resumed after step {step}\n" in done.err
    same_run(tmp_path / "part", whole)


def test_a_run_goes_on_as_its_own_tier_only(train: Train, stopped: Path) -> None:
    with unchanged(stopped.parent):
        refused(
            run("train", "quickstart", "--runs", stopped.parent, "--run", "part", "--resume"), "as tier tiny", "Mend"
        )


def test_a_run_is_begun_gone_on_with_or_told_by_one_command(
    train: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    refused(run("train", "quickstart", "--runs", tmp_path, "--again"), "--run NAME")
    for step in (1, 8):  # before the first checkpoint, and after it
        stop_at(monkeypatch, at_step(step))
        with pytest.raises(Stopped):
            train(tmp_path, "job", "--again")
    monkeypatch.undo()
    for _ in range(2):
        done = train(tmp_path, "job", "--again", "--json")
        assert done.code == 0, done
    same_run(tmp_path / "job", whole)


@pytest.mark.parametrize("damage", ["truncated", "one bit"])
def test_damaged_weights_are_written_again_from_the_state(
    damage: str, train: Train, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_report: None
) -> None:
    stop_at(monkeypatch, end_of("phase_finished", phase="baseline"))
    with pytest.raises(Stopped):
        train(tmp_path, "part")
    weights = tmp_path / "part/checkpoints/best-0-baseline.safetensors"
    content = bytearray(weights.read_bytes())
    content[-99] ^= 0x40
    weights.write_bytes(content[:100] if damage == "truncated" else content)
    done = train(tmp_path, "part", "--resume")
    assert done.code == 0, done
    same_run(tmp_path / "part", whole)


def test_a_run_whose_settings_are_damaged_is_told(train: Train, stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "part")
    config = tmp_path / "part/config.json"
    config.write_text(config.read_text()[:200])
    with unchanged(tmp_path):
        for outcome in (train(tmp_path, "part", "--resume"), run("evaluate", tmp_path / "part")):
            refused(outcome, str(config), "cannot be read")
