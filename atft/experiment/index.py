"""The index of runs: which state each run is in, and was in, written beside the runs as it happens.

A directory of small JSON files, one for each change of state. Files are only ever added, each whole and under a name
of its own, so that any number of processes may write at once, on a disk or in an object store. A run's name and the
time and state of a change stand in the file's name, and the rest in the file.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args
from uuid import uuid4

from atft.errors import UseError
from atft.experiment.names import PLAIN, check_name
from atft.observe.events import plain

NAME = "_runs"
"""Directory of the index beside the runs; no run can have this name."""
SCHEMA_VERSION = 1
READERS = 16
"""Entries that are read at once: an object store answers each in its own time."""
State = Literal["planned", "running", "interrupted", "failed", "done", "archived", "deleted"]
STATES: tuple[State, ...] = get_args(State)
TIME = "%Y%m%dT%H%M%S.%fZ"
FILE = re.compile(rf"(?P<run>.+)/(?P<time>\d{{8}}T\d{{6}}\.\d{{6}}Z)-(?P<state>{'|'.join(STATES)})-[0-9a-f]{{8}}\.json")


class Files(Protocol):
    """A directory, here or in an object store, as :class:`atft.storage.Store` is one."""

    uri: str

    def list(self) -> Mapping[str, int]:
        """Files by relative name."""

    def read(self, name: str) -> bytes:
        """All bytes of a file."""

    def upload(self, local: Path, name: str) -> object:
        """Put a file there, whole or not at all."""


@dataclass(frozen=True)
class Entry:
    """One change of a run's state.

    Attributes:
        run: name relative to where runs lie, as ``first`` or ``sweep-x/point-3-s1``.
        state: which it came into.
        time: when, in UTC, by the clock of the machine that wrote it.
        facts: what was known then.
        file: name of the entry's file.
    """

    run: str
    state: State
    time: dt.datetime
    facts: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""


@dataclass(frozen=True)
class RunStatus:
    """What the index knows of a run.

    Attributes:
        run: its name.
        history: its entries, the earliest first; at least one.
    """

    run: str
    history: tuple[Entry, ...]

    @property
    def state(self) -> State:
        """The state that it came into last."""
        return self.history[-1].state

    @property
    def time(self) -> dt.datetime:
        """When it came into that state."""
        return self.history[-1].time

    @property
    def life(self) -> tuple[Entry, ...]:
        """The entries since it last began anew: names may be used again, of runs that were deleted or archived."""
        first = 0
        for number, entry in enumerate(self.history):
            before = self.history[number - 1].state if number else None
            if entry.state == "planned" or (
                entry.state == "running" and before != "planned" and not entry.facts.get("resumed")
            ):
                first = number
        return self.history[first:]

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of it by now: of each fact the latest; ``reason`` is that of the last entry or none."""
        life = self.life
        known = {name: value for entry in life for name, value in entry.facts.items() if name != "reason"}
        last = life[-1].facts
        return known | ({"reason": last["reason"]} if "reason" in last else {})


@dataclass(frozen=True)
class Read:
    """All that lies in an index.

    Attributes:
        entries: the earliest first.
        unreadable: files that are no entries or are damaged, each with the reason in words.
    """

    entries: tuple[Entry, ...]
    unreadable: tuple[str, ...]

    def runs(self) -> dict[str, RunStatus]:
        """Each run's state and history, by name."""
        by_name: dict[str, list[Entry]] = {}
        for entry in self.entries:
            by_name.setdefault(entry.run, []).append(entry)
        return {name: RunStatus(name, tuple(history)) for name, history in sorted(by_name.items())}


class RunIndex:
    """The states of all runs of one place.

    Args:
        files: the directory; made when first written to.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._last = dt.datetime.min.replace(tzinfo=dt.UTC)

    @property
    def uri(self) -> str:
        """Where it lies."""
        return self._files.uri

    def record(self, run: str, state: State, **facts: Any) -> None:
        """Write down that a run came into a state; what others write at the same time is not touched.

        Args:
            run: name relative to where runs lie.
            state: which it came into.
            facts: whatever is worth knowing, as plain data; a number that is not finite becomes null. ``reason`` says
                in words why it came into this state; ``resumed=True`` that ``running`` goes on and does not begin anew.

        Raises:
            UseError: a name that no run can have, or the place cannot be written.
        """
        self._last = max(dt.datetime.now(dt.UTC), self._last + dt.timedelta(microseconds=1))
        file = f"{check_name(run)}/{self._last.strftime(TIME)}-{state}-{uuid4().hex[:8]}.json"
        self.add(Entry(run, state, self._last, plain(facts), file))

    def add(self, entry: Entry) -> None:
        """Put an entry there as it is, under its own name.

        Raises:
            UseError: the place cannot be written.
        """
        told = {"schema_version": SCHEMA_VERSION, "run": entry.run, "state": entry.state, "facts": dict(entry.facts)}
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, "entry.json")
            local.write_text(json.dumps(told, allow_nan=False) + "\n")
            self._files.upload(local, entry.file)

    def read(self) -> Read:
        """All entries, and the names of the files that are none.

        Raises:
            UseError: the place does not answer.
        """
        names = list(self._files.list())
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(self._read, names))
        entries = [each for each in found if isinstance(each, Entry)]
        unreadable = [each for each in found if isinstance(each, str)]
        return Read(tuple(sorted(entries, key=_order)), tuple(unreadable))

    def entries(self) -> tuple[Entry, ...]:
        """All entries that can be read, the earliest first; :meth:`read` tells of the others.

        Raises:
            UseError: the place does not answer.
        """
        return self.read().entries

    def runs(self) -> dict[str, RunStatus]:
        """Each run's state and history, by name.

        Raises:
            UseError: the place does not answer.
        """
        return self.read().runs()

    def _read(self, name: str) -> Entry | str:
        """The entry in a file, or why it is none."""
        named = entry_of(name, {})
        if named is None:
            return f"{self.uri}/{name}: is no entry of the index of runs, by its name"
        try:
            told = json.loads(self._files.read(name))
            if told["schema_version"] != SCHEMA_VERSION:
                return (
                    f"{self.uri}/{name}: schema_version = {told['schema_version']!r}, this atft reads {SCHEMA_VERSION}"
                )
            if (told["run"], told["state"]) != (named.run, named.state):
                return f"{self.uri}/{name}: holds an entry of {told['run']}, {told['state']}"
            facts: dict[str, Any] = dict(told["facts"])
        except UseError as error:
            return str(error)
        except (ValueError, KeyError, TypeError) as error:
            return f"{self.uri}/{name}: cannot be read ({type(error).__name__}: {error})"
        return replace(named, facts=facts)


def entry_of(file: str, facts: Any) -> Entry | None:
    """The entry whose file has this name and whose facts are these; None where it is none."""
    match = FILE.fullmatch(file)
    if match is None or not isinstance(facts, Mapping) or not all(map(PLAIN.fullmatch, match["run"].split("/"))):
        return None
    try:
        time = dt.datetime.strptime(match["time"], TIME).replace(tzinfo=dt.UTC)
    except ValueError:
        return None  # a 99th month
    (state,) = [each for each in STATES if each == match["state"]]
    return Entry(match["run"], state, time, facts, file)


def _order(entry: Entry) -> tuple[dt.datetime, str]:
    return entry.time, entry.file
