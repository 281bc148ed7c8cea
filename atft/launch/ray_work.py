"""What a worker of a Ray cluster does."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch

from atft.errors import AtftError, UseError
from atft.experiment.runs import Run
from atft.launch.places import Place, open_panel, run_place
from atft.launch.ray_backend import TAKEN_AWAY
from atft.launch.training import carried_out
from atft.observe.events import EventLog
from atft.observe.watch import Watched
from atft.train.collectives import CollectiveError, Group
from atft.train.keeper import has_checkpoint
from atft.train.setup import prepare
from atft.train.wishes import Interrupted, Leaving, Wishes


def carry_out(run: bytes, uri: str | None, line: Any, watched: bytes) -> None:
    """Train a run as one of its workers.

    Args:
        run: the pickled :class:`~atft.experiment.runs.Run`.
        uri: of the run in its object store, None where its directory is on all machines.
        line: to the launcher, :class:`~atft.launch.line.Line`.
        watched: the pickled :class:`~atft.observe.watch.Watched`.

    Raises:
        AtftError: what stopped the run; told to the launcher too, unless another try may mend it.
    """
    if ray.get(line.failure.remote()) is not None:
        return  # an error that another try would only repeat; the launcher tells it
    context = ray.train.get_context()
    group = Group.joined(local_rank=context.get_local_rank(), local_size=context.get_local_world_size())
    try:
        _train(pickle.loads(run), uri, group, line, pickle.loads(watched))
    except (CollectiveError, Leaving):
        raise  # a worker is gone: Ray starts all of them again
    except AtftError as error:
        stopped = isinstance(error, Interrupted)
        if group.leads or not stopped:  # all of them stop, and the leading one knows why
            ray.get(line.fail.remote(type(error).__name__, str(error)))
        if not stopped:
            raise


def _train(run: Run, uri: str | None, group: Group, line: Any, watched: Watched) -> None:
    place = Place(run.path, uri)
    if uri is not None:
        place = run_place(Path(uri).parent, Path(uri).name)  # this machine's working copy
        run = replace(run, path=place.path)
    # The first worker of each machine leaves the graph beside the panel, and the others read it.
    if group.local_rank > 0:
        group.meet()
    setup = prepare(run.tier, open_panel(run.panel), group=group, device=ray.train.torch.get_device())
    if group.local_rank == 0:
        group.meet()
    if uri is None:
        _check_shared(run, group)
    elif group.leads:
        place.fetch()
    resume = bool(group.shared(has_checkpoint(run.path) if group.leads else None))
    keeping = place.kept() if group.leads else nullcontext(lambda name: None)
    with keeping as published, EventLog(run.events if group.leads else None) as events:
        if group.leads:
            events.subscribe(lambda event: line.tell.remote(event))
        wishes = _polled(line) if group.leads else _own
        carried_out(
            run, setup, events, registry=place.registry, resume=resume, wishes=wishes, published=published,
            watched=watched,
        )  # fmt: skip


def _own() -> Wishes:
    return Wishes(leave=TAKEN_AWAY.is_set())


def _polled(line: Any) -> Callable[[], Wishes]:
    """Asks the launcher whether to stop, without ever waiting for the answer."""
    stop, pending = False, line.stop_asked.remote()

    def wishes() -> Wishes:
        nonlocal stop, pending
        ready, _ = ray.wait([pending], timeout=0)
        if ready:
            stop, pending = ray.get(pending), line.stop_asked.remote()
        return Wishes(stop=stop, leave=TAKEN_AWAY.is_set())

    return wishes


def _check_shared(run: Run, group: Group) -> None:
    """Every worker sees what the leading one writes: without that, a restart elsewhere would lose the run."""
    token = group.shared(f"{time.time():.6f}" if group.leads else None)
    marker = run.path / ".shared"
    if group.leads:
        marker.write_text(token)
    group.meet()
    try:
        seen = marker.read_text() == token
    except OSError:
        seen = False
    everyone = group.least(float(seen)) == 1.0
    if group.leads:
        marker.unlink()
    if not everyone:
        raise UseError(
            f"{run.path}: is not the same directory on all workers' machines. Mend: --runs on a volume that they share."
        )
