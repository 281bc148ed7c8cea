"""The loss curve is the same on any number of workers, after a resize and after a resume: at every step of it."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from pathlib import Path

import pytest
import torch

from atft.config import PARTS, Tier
from atft.errors import RunError
from atft.experiment.verify import Course, Curve, courses
from atft.experiment.verify_work import Job, only_last_phase, run_directory
from atft.launch import verify
from atft.observe import events
from atft.train import checkpoint
from tests.integration.command import steps_of

STEPS = 50
DTYPES = ("float64", "float32")
DEVIATION = 1 / sqrt(8 - 3)
"""Expected sampling deviation of a portfolio Sharpe ratio over the small tier's 8 days."""


@pytest.fixture(scope="session")
def job(tiny: Tier, panel: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(only_last_phase(tiny, STEPS), panel, tmp_path_factory.mktemp("courses"))


@pytest.fixture(scope="session")
def curves(job: Job) -> dict[Course, Curve]:
    """Runs on 1, 2 and 4 workers, one resized 1 → 4 → 2, one resumed on 2, in both number formats."""
    among = [course for dtype in DTYPES for course in courses([1, 2, 4], STEPS, dtype)]
    return verify.trained(job, among, lambda stage, done: None)


def of(curves: dict[Course, Curve], dtype: str) -> dict[Course, Curve]:
    return {course: curve for course, curve in curves.items() if course.dtype == dtype}


def losses(job: Job, name: str) -> list[float]:
    steps = steps_of(job.folder / name)
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    return [step["loss"] for step in steps]


def test_the_runs_are_what_they_are_said_to_be(job: Job, curves: dict[Course, Curve]) -> None:
    teams = {
        "1": [1] * 50, "2": [2] * 50, "4": [4] * 50, "resized": [1] * 16 + [4] * 17 + [2] * 17, "resumed": [2] * 50,
        "nudged": [1] * 50,
    }  # fmt: skip
    assert job.tier.model.dropout > 0
    for course in curves:
        told = events.read(run_directory(job.folder, course))
        kind = course.name.partition("-")[2]
        assert [step["world_size"] for step in steps_of(run_directory(job.folder, course))] == teams[kind]
        starts = [event for event in told if event["kind"] == "phase_started"]
        assert len(starts) == len(course.legs)
        assert all(set(event["parts"]) == set(PARTS) for event in starts)
        assert not [event for event in told if event["kind"] == "epoch"]


@pytest.mark.parametrize("kind", ["2", "4", "resized", "resumed"])
def test_loss_of_every_step_is_that_of_one_worker(kind: str, job: Job, curves: dict[Course, Curve]) -> None:
    alone, found = losses(job, "float64-1"), losses(job, f"float64-{kind}")
    assert len(set(alone)) == STEPS
    assert found == pytest.approx(alone, rel=1e-9, abs=0)


@pytest.mark.parametrize("kind", ["2", "4", "resized", "resumed"])
def test_loss_of_the_first_ten_steps_in_float32_is_that_of_one_worker(
    kind: str, job: Job, curves: dict[Course, Curve]
) -> None:
    for alone, found in list(zip(losses(job, "float32-1"), losses(job, f"float32-{kind}")))[:10]:
        assert abs(found - alone) <= 1e-5 * max(abs(alone), DEVIATION)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_resume_on_as_many_workers_is_bitwise(dtype: str, job: Job, curves: dict[Course, Curve]) -> None:
    whole, resumed = job.folder / f"{dtype}-2", job.folder / f"{dtype}-resumed"
    assert steps_of(resumed) == steps_of(whole)
    states = [checkpoint.load_state(path / "checkpoints" / "last.pt") for path in (whole, resumed)]
    assert states[0]["network"].keys() == states[1]["network"].keys()
    assert all(torch.equal(value, states[1]["network"][name]) for name, value in states[0]["network"].items())


@pytest.mark.parametrize("dtype", DTYPES)
def test_verify_determinism_tells_that_all_runs_pass(
    dtype: str, job: Job, curves: dict[Course, Curve], tier_file: Path, panel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(verify, "trained", lambda own, among, tell: asked.append((own, among)) or of(curves, dtype))
    report = verify.determinism(str(tier_file), {}, panel, workers="1,2,4", steps=STEPS, dtype=dtype, quiet=True)
    assert [replace(own, folder=job.folder, dtype="float64") for own, _ in asked] == [job]
    assert [course for _, among in asked for course in among] == list(of(curves, dtype))
    verify.judge(report)
    assert report["passed"]
    assert [run["bitwise"] for run in report["runs"]] == [None, None, None, None, True, None]
    assert [run["judged"] for run in report["runs"]] == [True] * 5 + [False]
    assert report["runs"][-1]["largest"] > 0
    text = report["text"].splitlines()
    assert "1 → 4 → 2 workers, resumed after steps 16 and 33" in report["text"]
    assert len([line for line in text if line.endswith(" pass")]) == 6
    assert text[-1] == "all 5 runs pass"
    assert {len(curve) for curve in report["losses"].values()} == {STEPS}


def changed(curve: Curve, step: int, factor: float) -> Curve:
    return replace(curve, losses={**curve.losses, step: curve.losses[step] * factor})


def without(curve: Curve, step: int) -> Curve:
    return replace(curve, losses={each: loss for each, loss in curve.losses.items() if each != step})


BREAKS = {
    "a step off by a billionth and a half": ("float64-4", lambda c: changed(c, 37, 1 + 1.5e-9), "loss difference"),
    "the fourth step in float32": ("float32-4", lambda c: changed(c, 4, 1.01), "loss difference"),
    "a step that is not a number": ("float64-4", lambda c: changed(c, 50, float("nan")), "loss difference"),
    "a step that is lost": ("float64-resized", lambda c: without(c, 33), "49 of 50"),
    "a resume with another gradient": (
        "float32-resumed", lambda c: replace(c, norms={**c.norms, 50: c.norms[50] * (1 + 1e-15)}), "not bitwise",
    ),
    "a worker with other weights": ("float64-4", lambda c: replace(c, weights=[1, 1, 2, 1]), "different weights"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_run_beyond_its_bound_fails(name: str, job: Job, curves: dict[Course, Curve]) -> None:
    broken, change, told = BREAKS[name]
    own = of(curves, broken.partition("-")[0])
    report = verify.determinism_report(
        job, STEPS, {course: change(curve) if course.name == broken else curve for course, curve in own.items()}
    )
    failed = [line for line in report["text"].splitlines() if " FAIL: " in line]
    assert len(failed) == 1
    assert told in failed[0]
    with pytest.raises(RunError, match=told) as raised:
        verify.judge(report)
    assert raised.value.exit_code == 1


def test_where_rounding_alone_gets_as_far_the_failure_says_so(job: Job, curves: dict[Course, Curve]) -> None:
    broken = {"float64-4", "float64-nudged"}
    own = of(curves, "float64")
    own |= {course: changed(curve, 40, 1 + 1e-8) for course, curve in own.items() if course.name in broken}
    report = verify.determinism_report(job, STEPS, own)
    assert len([run for run in report["runs"] if run["problems"]]) == 1
    with pytest.raises(
        RunError, match=r"4 workers: .*Mend: weights that are off by one rounding .* 1\.0e-08; check with"
    ):
        verify.judge(report)


def test_float32_after_ten_steps_is_reported_and_not_judged(job: Job, curves: dict[Course, Curve]) -> None:
    own = of(curves, "float32")
    course = next(each for each in own if each.name == "float32-4")
    report = verify.determinism_report(job, STEPS, {**own, course: changed(own[course], 11, 1.5)})
    assert report["passed"]
    assert report["runs"][2]["at_step"] == 11
