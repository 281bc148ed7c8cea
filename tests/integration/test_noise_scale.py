"""What a run tells of its gradient noise, and that telling it changes nothing that is learned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atft.observe import events
from atft.observe.events import Event
from tests.integration.command import Stopped, at_step, figures_of, steps_of, stop_at, weights_of
from tests.integration.conftest import Train

EVERY = ("--set", "runtime.noise_scale_steps=2", "--max-epochs", 3)


def measured(run: Path) -> list[Event]:
    """The events of measuring, without times."""
    found = events.latest(events.read(run), "noise_scale", ("step",))
    return [{name: value for name, value in each.items() if name not in {"time", "seconds"}} for each in found]


@pytest.fixture(scope="module")
def watched(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two phases, 9 steps, every second of which is measured."""
    runs = tmp_path_factory.mktemp("watched")
    done = train(runs, "watched", *EVERY)
    assert done.code == 0, done
    return runs / "watched"


def test_every_second_step_is_measured_and_a_phase_begins_anew(watched: Path) -> None:
    found = measured(watched)
    assert [each["step"] for each in found] == [2, 4, 6, 8]
    assert [each["phase"] for each in found] == ["baseline"] * 3 + ["adaptive_norm"]
    assert [each["measured"] for each in found] == [1, 2, 3, 1]
    for each in found:
        assert (each["blocks"], each["samples"]) == (4, 128)
        assert each["noise"] > 0
        assert (each["noise_scale"] is None) == (each["reason"] is not None)


def test_measuring_changes_no_number_of_training(train: Train, watched: Path, tmp_path: Path) -> None:
    done = train(tmp_path, "plain", "--set", "runtime.noise_scale_steps=0", "--max-epochs", 3)
    assert done.code == 0, done
    plain = tmp_path / "plain"
    assert measured(plain) == []
    assert steps_of(plain) == steps_of(watched)
    assert weights_of(plain) == weights_of(watched)
    assert figures_of(plain) == figures_of(watched)


def test_a_resumed_run_measures_as_an_unbroken_one(
    train: Train, watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, at_step(5))
    with pytest.raises(Stopped):
        train(tmp_path, "part", *EVERY)
    resumed = train(tmp_path, "part", "--resume", *EVERY)
    assert resumed.code == 0, resumed
    assert measured(tmp_path / "part") == measured(watched)


def test_a_run_from_before_the_setting_still_reads(watched: Path, tmp_path: Path) -> None:
    from atft.experiment.runs import open_run

    described = json.loads((watched / "config.json").read_text())
    del described["tier"]["runtime"]["noise_scale_steps"]
    (tmp_path / "config.json").write_text(json.dumps(described))
    assert open_run(tmp_path).tier.sha256() == open_run(watched).tier.sha256()
