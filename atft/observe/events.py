"""What happened in a run, one JSON object a line: ``events.jsonl`` in the run's directory.

The file is the only record that the report, ``resume`` and later the metrics are made from. It is only ever
appended to, so that a killed run loses at most the line being written.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from atft.errors import UseError

FILE_NAME = "events.jsonl"

Event = dict[str, Any]
Subscriber = Callable[[Event], None]


class EventLog:
    """Append-only log of a run; subscribers get each event after it is on file.

    Args:
        path: the file, or the run's directory, where it is called ``events.jsonl``. A log that exists is
            continued; a last line that was torn by a kill is closed off first. None: keep no file, which is what
            all workers but the leading one do.

    Raises:
        UseError: the file cannot be opened for writing.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._subscribers: list[Subscriber] = []
        self._lock = threading.RLock()
        self._file: IO[bytes] | None = None
        if path is None:
            return
        self.path = _file(path)
        torn = _ends_torn(self.path)
        try:
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the log
        except OSError as error:
            raise UseError(
                f"{self.path}: the event log cannot be written ({error.strerror}). Mend: a run directory that "
                "exists and is writable."
            ) from error
        if torn:
            self._append(b"\n")

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call ``subscriber(event)`` after each event from now on."""
        with self._lock:
            self._subscribers.append(subscriber)

    def write(self, kind: str, **fields: Any) -> Event:
        """Append one event and hand it to the subscribers.

        A subscriber that raises is dropped and the log says so: a screen that fails must not end a run.

        Args:
            kind: what happened, as ``step`` or ``epoch``.
            fields: plain data, numpy or torch scalars and arrays, paths, dates; a float
                that is not finite becomes null.

        Returns:
            The event as it stands in the file, with ``time`` in Unix seconds.

        Raises:
            UseError: the disk is full or the file cannot be written.
        """
        event: Event = {"time": time.time(), "kind": kind, **{name: plain(value) for name, value in fields.items()}}
        with self._lock:
            self._append(json.dumps(event, allow_nan=False, separators=(",", ":")).encode() + b"\n")
            for subscriber in list(self._subscribers):
                try:
                    subscriber(event)
                except Exception as error:
                    self._drop(subscriber, error)
        return event

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drop(self, subscriber: Subscriber, error: Exception) -> None:
        self._subscribers.remove(subscriber)
        name = getattr(subscriber, "__name__", type(subscriber).__name__)
        self.write("warning", text=f"{name} no longer receives events: {type(error).__name__}: {error}")

    def _append(self, line: bytes) -> None:
        if self._file is None:
            return
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise UseError(
                f"{self.path}: an event could not be written ({error.strerror}). The run stops rather than go on "
                "unrecorded. Mend: free space on that disk and resume the run."
            ) from error


def read(path: str | os.PathLike[str]) -> list[Event]:
    """All events of a log in the order they were written; lines torn by a kill are left out.

    Args:
        path: the file, or the run's directory.

    Raises:
        UseError: there is no such file.
    """
    file = _file(path)
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise UseError(
            f"{file}: the event log cannot be read ({error.strerror}). Mend: name a run's directory."
        ) from error
    return [event for event in map(_parse, lines) if event is not None]


def steps(path: str | os.PathLike[str]) -> list[Event]:
    """The optimizer steps of a run in order, each once.

    A resumed run repeats the steps since its checkpoint; the later writing counts.

    Raises:
        UseError: there is no such file.
    """
    return latest(read(path), "step", ("step",))


def latest(events: Iterable[Event], kind: str, key: tuple[str, ...]) -> list[Event]:
    """The events of one kind, one for each value of the fields in ``key``: the last written, in order of the first."""
    found: dict[tuple[Any, ...], Event] = {}
    for event in events:
        if event["kind"] == kind:
            found[tuple(event.get(name) for name in key)] = event
    return list(found.values())


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: arrays as lists, floats that are not finite as None, anything unknown as text."""
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy and torch, without importing either
        return plain(value.tolist())
    return str(value)


def _file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    return path / FILE_NAME if path.is_dir() else path


def _ends_torn(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        return False


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None
