"""The checkpoints of a run: written by the leading worker in the background, read by it and shared with the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from atft.errors import UseError
from atft.observe.events import EventLog
from atft.train import checkpoint
from atft.train.collectives import Group

LAST, PREVIOUS = "last.pt", "previous.pt"

T = TypeVar("T")


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a run has written a state to go on from."""
    return any((run_dir / "checkpoints" / name).exists() for name in (LAST, PREVIOUS))


def phases_done(run_dir: Path) -> int:
    """How many phases a run's last checkpoint has behind it.

    Raises:
        UseError: there is no checkpoint, or it is damaged.
    """
    folder = run_dir / "checkpoints"
    return int(checkpoint.load_latest(folder / LAST, folder / PREVIOUS)[0]["progress"]["phase"])


class Keeper:
    """Keeps the last two states of a run and the best weights of each phase.

    A state is copied when it is handed over and written while training goes on; the next one waits until then, so that
    at most one copy is held. Only the leading worker touches files.

    Args:
        folder: where the files lie, inside the run's directory.
        group: the workers of the run.
        events: told of every state that is on disk.
        published: called with the names of files, relative to the run's directory, that are complete.
    """

    def __init__(
        self, folder: Path, group: Group, events: EventLog, published: Callable[[str], object] = lambda name: None
    ) -> None:
        self.folder = folder
        self._group, self._events, self._published = group, events, published
        self._pool = ThreadPoolExecutor(1, "atft-checkpoint")
        self._pending: Future[None] | None = None
        self.saved_at = time.monotonic()

    def save(self, state: dict[str, Any], step: int) -> None:
        """Write ``state``, that after optimizer step ``step``, in the background.

        Raises:
            UseError: the state before could not be written.
        """
        if self._group.leads:
            self.wait()
            self._pending = self._pool.submit(self._write, checkpoint.copied(state), step)
        self.saved_at = time.monotonic()

    def wait(self) -> None:
        """Until what was handed over is on disk.

        Raises:
            UseError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def check(self) -> None:
        """Raise what went wrong in the background, if anything did; does not wait."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def close(self) -> None:
        """Wait, and end the thread; nothing can be saved afterwards.

        Raises:
            UseError: what was handed over last could not be written.
        """
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def load(self) -> tuple[dict[str, Any], str | None]:
        """The state to go on from, on every worker, and what is to be told where it is not the last one.

        Raises:
            UseError: there is none that can be read.
        """
        return self._led(lambda: checkpoint.load_latest(self.folder / LAST, self.folder / PREVIOUS))

    def save_weights(self, name: str, weights: dict[str, torch.Tensor]) -> None:
        """Write weights now, under ``name``."""
        if self._group.leads:
            checkpoint.save_weights(self.folder / name, weights)
            self._published(f"{self.folder.name}/{name}")

    def restore_weights(self, name: str, weights: dict[str, torch.Tensor]) -> None:
        """Write ``weights`` under ``name`` unless they are there already: the file may be lost or damaged."""
        if not self._group.leads:
            return
        try:
            found = checkpoint.load_weights(self.folder / name)
        except UseError:
            found = {}
        same = found.keys() == weights.keys() and all(torch.equal(found[each], weights[each]) for each in weights)
        if not same:
            self.save_weights(name, weights)

    def _led(self, load: Callable[[], T]) -> T:
        """What the leading worker loads, on every worker; what it cannot load is an error on every worker."""
        found, error = None, None
        if self._group.leads:
            try:
                found = load()
            except UseError as refused:
                error = str(refused)
        shared: tuple[T, str | None] = self._group.shared((found, error))
        if shared[1] is not None:
            raise UseError(shared[1])
        return shared[0]

    def _write(self, state: dict[str, Any], step: int) -> None:
        began = time.monotonic()
        checkpoint.save_state(self.folder / LAST, state, previous=self.folder / PREVIOUS)
        self._published(f"{self.folder.name}/{LAST}")
        path = f"{self.folder.name}/{LAST}"
        self._events.write("checkpoint", path=path, step=step, seconds=time.monotonic() - began)
