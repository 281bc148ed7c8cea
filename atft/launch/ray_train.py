"""Training on the workers of a Ray cluster: Ray Train starts them, watches them, and starts them again.

This is the side of the launcher; ``ray_backend`` is what all processes of Ray load, ``ray_work`` what a worker does.
"""

from __future__ import annotations

import pickle
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
import ray.train
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from atft.errors import RunError, UseError
from atft.experiment.runs import Run
from atft.launch.line import Line
from atft.launch.own_ray import QUIET, is_own, own_ray
from atft.launch.places import Place
from atft.launch.ray_backend import Config, work
from atft.launch.training import asked_to_stop
from atft.launch.workers import Workers
from atft.observe.events import Event, Subscriber
from atft.observe.watch import UNWATCHED, Watched
from atft.storage.backend import open_filesystem
from atft.train.wishes import Interrupted, Wishes

ANSWER_SECONDS = 5.0
"""How long an address may take to answer."""
POLL_SECONDS = 0.2


@contextmanager
def cluster(address: str | None, workers: Workers) -> Iterator[None]:
    """Connected to the Ray cluster at ``address``, or to one of this machine alone that ends with the context.

    Raises:
        UseError: nothing answers at the address, or what answers is no Ray cluster.
    """
    if address is None:
        with own_ray(workers):
            yield
        return
    if ray.is_initialized():
        yield  # whoever connected this process also disconnects it
        return
    _check_answers(address)
    try:
        ray.init(address=address, **QUIET)
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


def fit(run: Run, place: Place, workers: Workers, screen: Subscriber, watched: Watched = UNWATCHED) -> None:
    """Train ``run`` on ``workers`` of the cluster that this process is connected to, and evaluate it.

    Workers that die are started again and go on from the last checkpoint. The same errors as training in one process.

    Raises:
        UseError, RunError: as :func:`~atft.launch.training.carried_out` raises them on a worker.
        RunError: workers died more often than ``runtime.retries``.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    line = ray.remote(Line).options(num_cpus=0, scheduling_strategy=here).remote()
    # Workers may be on other machines: they are told what the run is, and only the leading one opens its files.
    # Pickled, so that the processes of Ray that pass it on need not load what it is made of.
    told = {"run": pickle.dumps(replace(run, path=run.path.resolve())), "uri": place.uri, "line": line,
            "watched": pickle.dumps(watched)}  # fmt: skip
    trainer = TorchTrainer(work, train_loop_config=told, **_configs(run, place, workers))
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
        "resources_per_worker": {"CPU": 1 if is_own() else max(1, runtime.threads)} | ({"GPU": 1} if gpus else {}),
        "elastic_resize_monitor_interval_s": runtime.resize_seconds,
    }
    return {
        "scaling_config": ScalingConfig(**scaling),
        "run_config": RunConfig(
            name=".ray",
            **_ray_storage(run, place),
            failure_config=FailureConfig(max_failures=runtime.retries),
        ),
        "torch_config": Config(
            backend="cpu:gloo,cuda:nccl" if gpus else "gloo", timeout_s=max(1, int(runtime.collective_timeout_seconds))
        ),
    }


def _ray_storage(run: Run, place: Place) -> dict[str, Any]:
    """Where Ray keeps notes of its own, which nothing here reads: a place that all workers have."""
    if place.uri is None:
        return {"storage_path": str(run.path.resolve())}
    system, path = open_filesystem(place.uri)
    return {"storage_path": path, "storage_filesystem": system}


@contextmanager
def _listening(line: Any, screen: Subscriber, wishes: Wishes) -> Iterator[None]:
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
