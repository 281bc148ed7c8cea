"""What one trial of a sweep does, in a process of its own: one run, or a suggested point's runs in their turn."""

from __future__ import annotations

import fcntl
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atft.config import Tier
from atft.data.panel import Panel
from atft.errors import UseError
from atft.experiment import runs, validation_days
from atft.experiment.runs import Run
from atft.experiment.sweep_plan import Plan, Trial
from atft.experiment.validation_days import ValidationDays
from atft.launch.places import Place, open_panel, run_place
from atft.launch.tracked import tracked
from atft.launch.training import asked_to_stop, carried_out
from atft.observe import events
from atft.observe.events import Event, EventLog
from atft.train.keeper import has_checkpoint
from atft.train.progress import EpochRecord
from atft.train.setup import prepare

Report = Callable[[dict[str, Any]], None]
EPOCH, METRIC = "epoch", "metric"
"""What a trial reports: how many epochs are behind it, and its validation metric, to be large."""
LOCK = ".writer"
"""File in a run's directory that the process which trains it holds a lock on."""
PATIENCE_SECONDS = 120.0
"""How long a run may still be trained by a process of a sweep that was killed."""
POLL_SECONDS = 0.5
UNDEFINED = -1e30
"""A metric that is undefined, as something that schedulers and searches can rank."""


@dataclass(frozen=True)
class Job:
    """What all trials of a sweep are told.

    Attributes:
        plan: of the sweep.
        root: the sweep's directory, absolute, or its URI.
        panel: absolute, or its URI.
        command: what the user typed.
        stopped: runs that were stopped early before; they stay so, and only tell again how they went.
        by_epoch: report every epoch, and those of an earlier sitting again, for whoever decides by them.
    """

    plan: Plan
    root: Path
    panel: Path
    command: list[str] = field(default_factory=list)
    stopped: frozenset[str] = frozenset()
    by_epoch: bool = False

    def pickled(self) -> bytes:
        """For the processes of a cluster: what passes it on need not load what it is made of."""
        return pickle.dumps(self)


def carry_out(told: bytes, config: Mapping[str, Any], report: Report) -> None:
    """Train the runs of a trial that are not trained yet, and report their mean validation metric.

    Args:
        told: a pickled :class:`Job`.
        config: ``trial``, the name of one of the plan's runs, or ``value``, what a search suggests.
        report: takes what a scheduler and a search decide by.

    Raises:
        AtftError: what stopped a run.
    """
    job: Job = pickle.loads(told)
    trials = trials_of(job.plan, config)
    by_epoch = job.by_epoch and len(trials) == 1
    values, last = [], 1
    for trial in trials:
        clock = Clock(trial.resolved.tier, report if by_epoch else None)
        found = _trained(job, trial, clock)
        if found is None:
            return
        values.append(UNDEFINED if found.value is None else found.value)
        last = clock.total
    report({METRIC: sum(values) / len(values), EPOCH: last})


def trials_of(plan: Plan, config: Mapping[str, Any]) -> tuple[Trial, ...]:
    """The runs that a trial's configuration stands for."""
    if "trial" in config:
        return tuple(trial for trial in plan.trials if trial.name == config["trial"])
    return plan.trials_of(plan.suggested(config["value"]))


class Clock:
    """Counts the epochs of a run through its phases and reports each once, but for the last: the run is not done yet.

    Args:
        tier: of the run.
        report: takes epoch and metric; None reports nothing.
    """

    def __init__(self, tier: Tier, report: Report | None) -> None:
        self._before: dict[str, int] = {}
        self._metric, self._report, self._reported = tier.validation_metric, report, 0
        self.total = 0
        for name, phase in tier.phases_to_run().items():
            self._before[name] = self.total
            self.total += phase.epochs

    def __call__(self, event: Event) -> None:
        """Report an epoch; any other event is passed over."""
        if event["kind"] != "epoch" or self._report is None:
            return
        number = self._before[event["phase"]] + event["epoch"]
        if number <= self._reported or number == self.total:
            return
        self._reported = number
        stated = {name: event.get(name) for name in EpochRecord.model_fields}
        value = validation_days.metric_of(EpochRecord.model_validate(stated), self._metric)
        self._report({METRIC: max(value, UNDEFINED), EPOCH: number})

    def replay(self, path: Path) -> None:
        """Report what a run has behind it."""
        if self._report is not None and path.exists():
            for event in events.latest(events.read(path), "epoch", ("phase", "epoch")):
                self(event)


def _trained(job: Job, trial: Trial, clock: Clock) -> ValidationDays | None:
    """The validation days of a run, which is trained first, or to its end, where that is not done; None: stopped."""
    place = run_place(job.root, trial.name)
    place.fetch()
    found = validation_days.read(place.path)
    clock.replay(place.path / events.FILE_NAME)
    if found is not None or trial.name in job.stopped:
        return found
    run = _run_of(job, trial, place)
    with _alone(run):
        if (found := validation_days.read(run.path)) is None:
            _train(run, place, open_panel(job.panel), clock, job.command)
    return found or validation_days.read(run.path)


def _train(run: Run, place: Place, panel: Panel, clock: Clock, command: list[str]) -> None:
    setup = prepare(run.tier, panel)
    resumed = has_checkpoint(run.path)
    following = tracked(place, run, command=command, workers="1", resumed=resumed)
    with following as state, place.kept() as published, EventLog(run.events) as log, asked_to_stop() as wishes:
        log.subscribe(state.showing(clock))
        try:
            carried_out(
                run, setup, log, registry=place.registry, resume=resumed, wishes=lambda: wishes,
                published=published, evaluate=False,
            )  # fmt: skip
        except Exception as error:
            log.write("failed", error=str(error) or type(error).__name__)
            raise


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """No other process of this machine trains the run: one of a sweep that was killed may outlive it for a while.

    Raises:
        UseError: another one still does.
    """
    with (run.path / LOCK).open("a") as file:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UseError(
                        f"run {run.path}: another process has been training it for {PATIENCE_SECONDS:.0f} s. "
                        "Mend: wait for the other sweep, or end it."
                    ) from None
                time.sleep(POLL_SECONDS)
        yield


def _run_of(job: Job, trial: Trial, place: Place) -> Run:
    """The run that was begun, or a new one."""
    if (place.path / "config.json").exists():
        run = runs.open_run(place.path)
        if run.tier.sha256() != trial.resolved.tier.sha256():
            raise UseError(f"run {place.path}: has other settings than this sweep. Mend: another --run.")
        return run
    if place.path.is_dir() and not any(place.path.iterdir()):
        place.path.rmdir()  # killed before its description was written
    return runs.create(place.path, trial.resolved, job.panel, open_panel(job.panel).manifest, job.command)
