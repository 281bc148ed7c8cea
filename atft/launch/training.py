"""What every worker of a run does, however it was started: train, evaluate once, and report."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from atft.data.labels import label_dates
from atft.data.loader import workers_in_use
from atft.evaluate import result
from atft.experiment.registry import Registry, dates_sha256
from atft.experiment.runs import Run
from atft.launch import texts
from atft.observe.events import EventLog, read
from atft.observe.watch import UNWATCHED, Watch, Watched
from atft.schemes import fold_told
from atft.train.loop import Trainer
from atft.train.setup import Setup
from atft.train.wishes import Wishes


def carried_out(
    run: Run,
    setup: Setup,
    events: EventLog,
    *,
    registry: Registry,
    resume: bool,
    wishes: Callable[[], Wishes] = Wishes,
    published: Callable[[str], object] = lambda name: None,
    baseline: result.BaselineRun | None = None,
    watched: Watched = UNWATCHED,
) -> None:
    """Train a run to its end, evaluate it, write result and report; called by every worker of ``setup.group``.

    Args:
        run: the run.
        setup: its tier made ready for this worker.
        events: the run's log on the leading worker, a log without a file on the others.
        registry: where the evaluation is written down.
        resume: go on from the last checkpoint.
        wishes: looked at before each step.
        published: called with the names of files, relative to the run's directory, that are complete.
        baseline: which baseline it is a run of, where it is one.
        watched: what may end it early.

    Raises:
        UseError, RunError: as :meth:`Trainer.resume` and :meth:`Trainer.run` raise them.
    """
    started = time.monotonic()
    watch = Watch(watched, events)
    if setup.group.leads:
        if resume and run.events.exists():
            watch.learn(read(run.events))
        events.subscribe(watch)

    def wished() -> Wishes:
        found, reason = wishes(), watch.stopping
        return replace(found, stop=True, reason=reason) if reason else found

    with Trainer(setup, run.path, events, published=published, wishes=wished) as trainer:
        if resume:
            trainer.resume()  # before anything is written: a checkpoint that is refused leaves the run as it is
            started -= trainer.progress.train_seconds
        _announce(events, run, trainer)
        if resume:
            _tell_resumed(events, trainer)
        trainer.run()
        finish(run, trainer, events, started, registry, baseline)


def finish(
    run: Run, trainer: Trainer, events: EventLog, started: float, registry: Registry,
    baseline: result.BaselineRun | None = None,
) -> None:  # fmt: skip
    """Evaluate a trained run and write result and report; called by every worker."""
    from atft.experiment import reference, score_table
    from atft.experiment.assess import assess  # loaded now: no worker waits for them before its first step
    from atft.report.html import write_report

    events.write("evaluation_started", days=len(trainer.setup.periods.test))
    seconds = time.monotonic() - started
    found = assess(trainer, run.path.name, registry=registry, seconds=seconds, baseline=baseline)
    if found is None:
        return
    score_table.write(found.scores, run.path / score_table.TEST_SCORES)
    setup = trainer.setup
    reference.write(run.path, reference.reference_of(setup.panel, setup.periods.train, setup.gatherer.scorable))
    result.write(run.result, found.result)
    test = found.result.test
    events.write("evaluation_finished", sharpe_annual=test.sharpe_annual, ic=test.ic)
    report = write_report(run.path)
    events.write("run_finished", result=str(run.result), report=str(report), seconds=time.monotonic() - started)


def check_registry(registry: Registry, setup: Setup) -> None:
    """What the evaluation at a run's end will need can be read now, before anything is computed.

    Raises:
        UseError: an entry of the registry for this test period, or one that overlaps it, cannot be read.
    """
    label, days = setup.tier.label, setup.panel.days
    ends = days[label_dates(days, label.horizon, label.execution_lag)[setup.periods.test]]
    registry.trials(setup.panel.sha256, dates_sha256(ends), (ends[0].item(), ends[-1].item()))


def told(run: Run, registry: Registry) -> dict[str, Any]:
    """What a finished run came to, for the command line, its Sharpe ratio deflated by all trials until now."""
    found = deflated_now(result.read(run.result), registry)
    places = {"run": str(run.path), "result": str(run.result), "report": str(run.path / "report.html")}
    return places | {
        "test": found.test.model_dump(mode="json", exclude={"series"}),
        "text": texts.of_result(found, places),
    }


def deflated_now(found: result.Result, registry: Registry) -> result.Result:
    """A result whose Sharpe ratio is deflated by what the registry holds today, if that is more than it held then.

    Raises:
        UseError: an entry of the registry cannot be read.
    """
    from atft.evaluate.inference import deflated  # loads scipy, which no worker needs before its first step

    test, sure = found.test, found.test.inference
    if sure is None or test.sharpe_daily is None or test.sharpe_standard_error is None:
        return found
    search = registry.trials(found.data_sha256, sure.test_sha256).search
    held, known = sure.deflated, (search.trials, search.elsewhere)
    if search.trials < held.trials or known == (held.trials, held.elsewhere):
        return found  # of a run that was copied away from its registry, what it knew itself is the best there is
    now = deflated(test.sharpe_daily, test.sharpe_standard_error, search)
    renewed = test.model_copy(update={"inference": sure.model_copy(update={"deflated": now})})
    return found.model_copy(update={"test": renewed})


@contextmanager
def asked_to_stop() -> Iterator[Wishes]:
    """Wishes that SIGTERM turns into a stop with a checkpoint, in place of a death in the middle of a step."""
    wishes = Wishes()

    def stop(number: int, frame: object) -> None:
        if wishes.stop:  # asked twice: at once, as without this handler
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        wishes.stop = True

    if threading.current_thread() is not threading.main_thread():
        yield wishes
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield wishes
    finally:
        signal.signal(signal.SIGTERM, before)


def _announce(events: EventLog, run: Run, trainer: Trainer) -> None:
    tier, setup = trainer.setup.tier, trainer.setup
    batch = tier.batch
    workers = setup.group.everyone(f"{socket.gethostname()}:{os.getpid()}")
    events.write(
        "run_started", run=run.path.name, tier=tier.name, seed=tier.seed, parameters=setup.parameters,
        world_size=setup.group.world_size, shards=setup.shards, workers=workers,
        machines=setup.group.machines(),
        effective_batch={**batch.model_dump(), "samples": batch.samples}, precision_asked=tier.precision,
        precision=setup.precision.name, device=setup.device.type, threads=setup.threads,
        loader_workers=workers_in_use(tier.runtime.loader_workers), steps_per_epoch=tier.steps_per_epoch,
        total_steps=trainer.total_steps,
        fold=fold_told(tier.split),
        phases=[{"name": name, **phase.model_dump()} for name, phase in trainer.phases.items()],
    )  # fmt: skip
    for text in setup.warnings:
        events.write("warning", text=text)


def _tell_resumed(events: EventLog, trainer: Trainer) -> None:
    before, now = trainer.progress.world_size, trainer.setup.group.world_size
    if trainer.fallback:
        events.write("warning", text=trainer.fallback)
    events.write("resumed", step=trainer.progress.step, world_size_before=before, world_size=now)
