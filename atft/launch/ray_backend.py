"""What Ray loads in each process that has to do with a run: its controller, its helpers, and then the workers.

All but the workers only pass the task on, so this module imports Ray alone and loads the rest where it is needed:
seconds of a run's start.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from typing import Any

import ray.train.torch
from ray.train.torch import TorchConfig

GRACE_SECONDS = 25.0
"""How long a worker that is told to go may take for a checkpoint: less than the 30 s that Kubernetes gives."""
TAKEN_AWAY = threading.Event()
"""Set by SIGTERM: this worker's machine or pod is about to go."""


def work(told: dict[str, Any]) -> None:
    """What each worker runs, again after every restart: :func:`atft.launch.ray_work.carry_out` of what it was told."""
    from atft.launch.ray_work import carry_out

    carry_out(**told)


class _Backend(ray.train.torch.config._TorchBackend):
    """Ray's own, whose workers write a checkpoint when they are told to go."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        super().on_start(worker_group, backend_config)
        worker_group.execute(_go_gently)


@dataclass
class Config(TorchConfig):
    """Ray's own settings of a process group, with workers that go gently."""

    @property
    def backend_cls(self) -> type[_Backend]:
        """What starts the process group."""
        return _Backend


def _go_gently() -> None:
    """Let SIGTERM end this worker after a checkpoint; runs in its main thread, while training has another."""

    def go(number: int, frame: object) -> None:
        TAKEN_AWAY.set()
        last = threading.Timer(GRACE_SECONDS, os._exit, (1,))
        last.daemon = True
        last.start()

    signal.signal(signal.SIGTERM, go)
