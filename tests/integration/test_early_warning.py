"""Early warnings of real runs: in the log, on the screen, in `atft watch`, and as what ends a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atft.model.network import Network
from atft.model.ranking import Output
from atft.observe import events
from atft.observe.rules import NAMES
from tests.integration.command import refused, run, weights_of
from tests.integration.conftest import Train

CONSTANT = "constant-output"


@pytest.fixture
def collapsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network gives every stock one score, in training and in evaluation."""
    forward = Network.forward

    def flat(self: Network, *arguments: Any) -> Output:
        output = forward(self, *arguments)
        return replace(output, scores=output.scores * 0.0 + 0.5)

    monkeypatch.setattr(Network, "forward", flat)


def kinds(path: Path, kind: str) -> list[events.Event]:
    return [event for event in events.read(path) if event["kind"] == kind]


def test_a_healthy_run_raises_no_warning(whole: Path) -> None:
    assert kinds(whole, "early_warning") == []
    told = run("watch", whole, "--once", "--json")
    assert told.code == 0
    assert told.json["standing"] == {}
    assert told.json["ended"]


def test_a_collapsed_output_is_told_and_ends_the_run_that_asks_for_it(
    collapsed: None, train: Train, tmp_path: Path
) -> None:
    stopped = train(tmp_path, "flat", "--stop-on", CONSTANT)
    assert stopped.code == 1
    assert "stopped by an early warning (constant-output: " in stopped.err
    assert "--run flat --resume without that --stop-on" in stopped.err
    path = tmp_path / "flat"
    (warned,) = kinds(path, "early_warning")
    assert (warned["rule"], warned["since"]) == (CONSTANT, 3)  # at the end of the first epoch
    (ended,) = kinds(path, "stopped")
    assert ended["step"] == 4
    assert CONSTANT in ended["reason"]
    assert not (path / "result.json").exists()
    told = run("watch", path, "--once")
    assert told.code == 1
    assert "constant-output (since step 3, stands)" in told.out
    again = run("watch", path, "--once", "--json")
    assert again.code == 1
    assert list(json.loads(again.out)["standing"]) == [CONSTANT]


def test_a_run_that_was_stopped_goes_on_without_the_flag_as_if_it_had_not_been(
    train: Train, whole: Path, panel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atft.train.validation.FLAT", 10.0)  # every output counts as constant: nothing else differs
    assert train(tmp_path, "s1", "--stop-on", "all").code == 1
    monkeypatch.undo()
    assert train(tmp_path, "s1", "--resume").code == 0
    assert weights_of(tmp_path / "s1") == weights_of(whole)


def test_a_run_behind_its_baseline_is_told_so(train: Train, whole: Path, tmp_path: Path) -> None:
    behind = train(tmp_path, "slow", "--lr", "1e-9", "--against", whole)
    assert behind.code == 0, behind
    (warned,) = kinds(tmp_path / "slow", "early_warning")
    assert warned["rule"] == "behind-baseline"
    assert whole.name in warned["text"]
    assert "early warning (behind-baseline" in behind.err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--stop-on", "collapse"), ("--stop-on collapse: no such early warning", *NAMES)),
        (("--against", "nowhere"), ("no tier named 'nowhere'", "the directory of a run")),
    ],
)
def test_what_cannot_be_watched_for_is_refused_before_anything_is_made(
    train: Train, tmp_path: Path, given: tuple[str, ...], told: tuple[str, ...]
) -> None:
    refused(train(tmp_path, "mine", *given), *told)
    assert not (tmp_path / "mine").exists()


def test_a_run_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    refused(run("watch", tmp_path / "nowhere"), "no run there")
