"""A Ray of this machine alone, which may come up while the command loads the rest of what it needs.

Its processes take seconds to start, in which this one would only wait: so the command line begins it first, and
``ray_train.cluster`` waits for it when a run is ready for its workers. Imports little for that reason.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from atft.launch.workers import Workers

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


class _Start(threading.Thread):
    """Starts Ray, and keeps what went wrong for whoever waits for it.

    It lives until it is told to end: the system kills Ray's processes when the thread that started them is gone.
    """

    def __init__(self, cpus: int) -> None:
        super().__init__(name="atft-ray", daemon=True)
        self._cpus = cpus
        self._failure: BaseException | None = None
        self._up, self._over = threading.Event(), threading.Event()

    def run(self) -> None:
        import ray

        try:
            ray.init(address="local", num_cpus=self._cpus, include_dashboard=False, **QUIET)
        except BaseException as error:
            self._failure = error
        self._up.set()
        self._over.wait()

    def wait(self) -> None:
        self._up.wait()

    def ready(self) -> None:
        self.wait()
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        self._over.set()
        self.join()


_started: _Start | None = None


@contextmanager
def early(workers: str, address: str | None) -> Iterator[None]:
    """What a command may need comes up while its body loads and checks, and is gone when it ends.

    Args:
        workers: as typed: a number or a range.
        address: of a cluster that is there already; None for one of this machine's own.

    Raises:
        UseError: ``workers`` is neither.
    """
    wanted = Workers.parse(workers)
    if wanted.alone or address is not None or find_spec("ray") is None:
        yield
        return
    with _own(wanted):
        yield


@contextmanager
def own_ray(workers: Workers) -> Iterator[None]:
    """A Ray of this machine alone that answers; the one that came up early, or a new one."""
    with _own(workers):
        if _started is not None:
            _started.ready()
        yield


def is_own() -> bool:
    """Whether this process is connected to a Ray that it started itself."""
    return _started is not None


@contextmanager
def _own(workers: Workers) -> Iterator[None]:
    global _started
    import ray  # here and not in the thread: two threads that load modules at once may find them half made

    if _started is not None or ray.is_initialized():
        yield  # whoever began it, or connected this process to another, also ends it
        return
    # Gloo finds its peers by the host's name, which need not resolve on a laptop; all of them are here.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # No other machine that could be drained: one process less to start.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    # Each worker counts as one processor, whatever threads it takes: none of them may wait for another.
    _started = _Start(max(os.cpu_count() or 1, workers.most))
    _started.start()
    try:
        yield
    finally:
        _started.wait()
        ray.shutdown()
        _started.end()
        _started = None
