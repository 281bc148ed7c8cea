"""Training on the workers of a Ray cluster: Ray Train starts them, watches them, and starts them again."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from atft.data.loader import processors
from atft.errors import AtftError, RunError, UseError
from atft.experiment.runs import Run
from atft.launch.line import Line
from atft.launch.places import Place, open_panel, run_place
from atft.launch.training import asked_to_stop, carried_out
from atft.launch.workers import Workers
from atft.observe.console import Screen
from atft.observe.events import Event, EventLog
from atft.storage.backend import open_filesystem
from atft.train.collectives import CollectiveError, Group
from atft.train.keeper import has_checkpoint
from atft.train.setup import prepare
from atft.train.wishes import Interrupted, Leaving, Wishes

ANSWER_SECONDS = 5.0
"""How long an address may take to answer."""
POLL_SECONDS = 0.2
GRACE_SECONDS = 25.0
"""How long a worker that is told to go may take for a checkpoint: less than the 30 s that Kubernetes gives."""


@contextmanager
def cluster(address: str | None, workers: Workers, threads: int) -> Iterator[None]:
    """Connected to the Ray cluster at ``address``, or to one of this machine alone that ends with the context.

    Raises:
        UseError: nothing answers at the address, or what answers is no Ray cluster.
    """
    if ray.is_initialized():
        yield  # whoever connected this process also disconnects it
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        # Gloo finds its peers by the host's name, which need not resolve on a laptop; all of them are here.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        # No other machine that could be drained: one process less to start.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        cpus = max(processors(), workers.most * max(1, threads))
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    else:
        _check_answers(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if "nauthenticated" in str(error):
                raise UseError(
                    f"--address {address}: the cluster wants a token. Mend: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or "
                    "~/.ray/auth_token, as on the machine where `ray start --head` ran."
                ) from None
            raise UseError(
                f"--address {address}: no Ray cluster answers there ({_line_of(error)}). Mend: the address that "
                "`ray start --head` printed, or leave --address out to train on this machine."
            ) from None
    try:
        yield
    finally:
        ray.shutdown()


def fit(run: Run, place: Place, workers: Workers, screen: Screen) -> None:
    """Train ``run`` on ``workers`` of the cluster that this process is connected to, and evaluate it.

    Workers that die are started again and go on from the last checkpoint. The same errors as training in one process.

    Raises:
        UseError, RunError: as :func:`~atft.launch.training.carried_out` raises them on a worker.
        RunError: workers died more often than ``runtime.retries``.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    line = ray.remote(Line).options(num_cpus=0, scheduling_strategy=here).remote()
    # Workers may be on other machines: they are told what the run is, and only the leading one opens its files.
    told = {"run": replace(run, path=run.path.resolve()), "uri": place.uri, "line": line}
    trainer = TorchTrainer(_work, train_loop_config=told, **_configs(run, place, workers))
    place.store()  # what the launcher wrote is there before a worker looks for it
    with asked_to_stop() as wishes, _listening(line, screen, wishes):
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            _raise_told(line)
            raise RunError(_told_by_workers(error, run.tier.runtime.retries)) from error
    _raise_told(line)
    place.fetch()


def _configs(run: Run, place: Place, workers: Workers) -> dict[str, Any]:
    runtime = run.tier.runtime
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = resources.get("GPU", 0) > 0
    number: Any = (workers.least, workers.most) if workers.elastic else workers.most
    scaling: dict[str, Any] = {
        "num_workers": number,
        "use_gpu": gpus,
        "resources_per_worker": {"CPU": max(1, runtime.threads)} | ({"GPU": 1} if gpus else {}),
        "elastic_resize_monitor_interval_s": runtime.resize_seconds,
    }
    return {
        "scaling_config": ScalingConfig(**scaling),
        "run_config": RunConfig(
            name=".ray",
            **_ray_storage(run, place),
            failure_config=FailureConfig(max_failures=runtime.retries),
        ),
        "torch_config": _Config(
            backend="cpu:gloo,cuda:nccl" if gpus else "gloo", timeout_s=max(1, int(runtime.collective_timeout_seconds))
        ),
    }


def _ray_storage(run: Run, place: Place) -> dict[str, Any]:
    """Where Ray keeps notes of its own, which nothing here reads: a place that all workers have."""
    if place.uri is None:
        return {"storage_path": str(run.path.resolve())}
    system, path = open_filesystem(place.uri)
    return {"storage_path": path, "storage_filesystem": system}


def _work(config: dict[str, Any]) -> None:
    """What each worker runs, again after every restart."""
    line = config["line"]
    if ray.get(line.failure.remote()) is not None:
        return  # an error that another try would only repeat; the launcher tells it
    context = ray.train.get_context()
    group = Group.joined(local_rank=context.get_local_rank(), local_size=context.get_local_world_size())
    try:
        _train(config["run"], config["uri"], group, line)
    except (CollectiveError, Leaving):
        raise  # a worker is gone: Ray starts all of them again
    except AtftError as error:
        ray.get(line.fail.remote(type(error).__name__, str(error)))
        if not isinstance(error, Interrupted):
            raise


def _train(run: Run, uri: str | None, group: Group, line: Any) -> None:
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
        carried_out(run, setup, events, registry=place.registry, resume=resume, wishes=wishes, published=published)


_TAKEN_AWAY = threading.Event()
"""Set by SIGTERM: this worker's machine or pod is about to go."""


def _own() -> Wishes:
    return Wishes(leave=_TAKEN_AWAY.is_set())


def _polled(line: Any) -> Callable[[], Wishes]:
    """Asks the launcher whether to stop, without ever waiting for the answer."""
    stop, pending = False, line.stop_asked.remote()

    def wishes() -> Wishes:
        nonlocal stop, pending
        ready, _ = ray.wait([pending], timeout=0)
        if ready:
            stop, pending = ray.get(pending), line.stop_asked.remote()
        return Wishes(stop=stop, leave=_TAKEN_AWAY.is_set())

    return wishes


class _Backend(ray.train.torch.config._TorchBackend):
    """Ray's own, whose workers write a checkpoint when they are told to go."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        super().on_start(worker_group, backend_config)
        worker_group.execute(_go_gently)


@dataclass
class _Config(TorchConfig):
    @property
    def backend_cls(self) -> type[_Backend]:
        return _Backend


def _go_gently() -> None:
    """Let SIGTERM end this worker after a checkpoint; runs in its main thread, while training has another."""

    def go(number: int, frame: object) -> None:
        _TAKEN_AWAY.set()
        last = threading.Timer(GRACE_SECONDS, os._exit, (1,))
        last.daemon = True
        last.start()

    signal.signal(signal.SIGTERM, go)


@contextmanager
def _listening(line: Any, screen: Screen, wishes: Wishes) -> Iterator[None]:
    """Shows what the leading worker tells and passes on what this process is asked, from a thread of its own."""
    done = threading.Event()

    def listen() -> None:
        told = False
        while True:
            last = done.wait(POLL_SECONDS)
            if wishes.stop and not told:
                told = True
                line.stop.remote()
            for event in _taken(line):
                screen(event)
            if last:
                return

    thread = threading.Thread(target=listen, name="atft-line", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _taken(line: Any) -> list[Event]:
    try:
        events: list[Event] = ray.get(line.take.remote(), timeout=10)
    except RayError:
        return []  # the cluster is gone or slow; the run's own log has them
    return events


def _raise_told(line: Any) -> None:
    """The error that a worker told, as if it had been raised here."""
    try:
        failure = ray.get(line.failure.remote(), timeout=10)
    except RayError:
        return
    if failure is not None:
        kind, text = failure
        raise {"UseError": UseError, "Interrupted": Interrupted}.get(kind, RunError)(text)


def _told_by_workers(error: ray.train.TrainingFailedError, retries: int) -> str:
    failures = getattr(error, "worker_failures", None) or {0: error}
    told = "; ".join(f"worker {rank}: {_line_of(each)}" for rank, each in sorted(failures.items()))
    return (
        f"the workers failed more often than runtime.retries = {retries} allows; the last time: {told}. "
        "Mend: look at the workers' logs, then go on with --resume; nothing but the steps since the last checkpoint "
        "is lost."
    )


def _line_of(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


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


def _check_answers(address: str) -> None:
    """Nothing that Ray does about an address that does not answer ends in reasonable time."""
    found = re.fullmatch(r"(?:\[?([^\[\]]+)\]?):(\d+)", address)
    if address == "auto":
        return
    if not found:
        raise UseError(f"--address {address}: not of the form HOST:PORT. Mend: HOST:6379, or auto for this machine's.")
    try:
        socket.create_connection((found[1], int(found[2])), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UseError(
            f"--address {address}: does not answer ({error}). Mend: the address that `ray start --head` printed, or "
            "leave --address out to train on this machine."
        ) from None
