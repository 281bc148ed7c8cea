"""The directories of runs under one root, on a disk or in an object store, looked at without loading what they hold."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from atft.errors import UseError
from atft.experiment.index import READERS
from atft.experiment.names import PLAIN, is_member
from atft.launch import places
from atft.storage import Store, is_remote, local_path

SIGNS = ("events.jsonl", "checkpoints/last.pt", "result.json", "config.json")
"""Files whose time tells when a run last did something."""


class RunFiles:
    """The directories of all runs under ``root``, a directory or a URI."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def uri(self) -> str:
        """The root, as it is told."""
        return places.as_uri(self.root) if is_remote(self.root) else str(local_path(self.root))

    @cached_property
    def store(self) -> Store:
        """All files under the root."""
        return Store(self.uri)

    def of(self, name: str) -> Store:
        """The files of one run."""
        return Store(f"{self.uri}/{name}")

    def present(self, known: Iterable[str] = (), sure: Collection[str] = ()) -> set[str]:
        """Names of the runs that are there: directories with a ``config.json``, also those of folds and members.

        Args:
            known: names to look for beside those that a look around finds.
            sure: names of which a directory in an object store is a run's: none that were ever removed, which leaves
                an empty directory there.
        """
        sure = sure if is_remote(self.root) else ()

        def is_run(name: str) -> bool:
            return name in sure or self.store.exists(f"{name}/config.json")

        folders = [name for name in self.store.folders() if PLAIN.fullmatch(name)]
        groups = {name.rpartition("/")[0] for name in known} - {""}
        with ThreadPoolExecutor(READERS) as pool:
            there = set(_kept(folders, pool.map(is_run, folders)))
            outer = sorted({*(name for name in folders if name not in there), *groups})
            inner = [f"{group}/{name}" for group, found in zip(outer, pool.map(self._members, outer)) for name in found]
            there |= set(_kept(inner, pool.map(is_run, inner)))
            deeper = [name for name in inner if name not in there and name not in outer]
            last = [
                f"{group}/{name}" for group, found in zip(deeper, pool.map(self._members, deeper)) for name in found
            ]
            return there | set(_kept(last, pool.map(is_run, last)))

    def read(self, name: str, file: str) -> dict[str, Any] | None:
        """The JSON object in a run's file; None where there is no such file.

        Raises:
            UseError: it is no JSON object, or the storage fails.
        """
        place = f"{name}/{file}"
        if not self.store.exists(place):
            return None
        try:
            found = json.loads(self.store.read(place))
        except ValueError as error:
            raise UseError(f"{self.uri}/{place}: is no JSON ({error}). Mend: put the file back as it was.") from None
        if not isinstance(found, dict):
            raise UseError(f"{self.uri}/{place}: is no JSON object. Mend: put the file back as it was.")
        return found

    def last_sign(self, name: str) -> float | None:
        """When a run last wrote an event, a checkpoint or its result, in Unix seconds; None where nothing tells."""
        if not is_remote(self.root):
            times = []
            for file in SIGNS:
                with contextlib.suppress(OSError):
                    times.append(Path(self.uri, name, file).stat().st_mtime)
            return max(times, default=None)
        found = self.of(name).entries()
        return max((found[file].modified_ns / 1e9 for file in SIGNS if file in found), default=None)

    def remove(self, name: str) -> None:
        """Remove a run's files, its description last, and this machine's working copy of them.

        A directory here is moved aside first, so that half of a run is never found under its name.

        Raises:
            UseError: a file cannot be removed.
        """
        working = places.run_place(self.root, name).path
        if is_remote(self.root):
            store = self.of(name)
            for file in sorted(store.list(), key=lambda file: file.endswith("config.json")):
                store.delete(file)
            shutil.rmtree(working, ignore_errors=True)
            return
        aside = working.with_name(f".{working.name}.{uuid4().hex}.tmp")
        try:
            working.rename(aside)
            shutil.rmtree(aside)
        except OSError as error:
            raise UseError(f"{error.filename}: cannot be removed: {error.strerror}. Mend: permission.") from None

    def _members(self, group: str) -> list[str]:
        return [name for name in self.of(group).folders() if is_member(name)]


def _kept(names: list[str], keep: Iterable[bool]) -> list[str]:
    return [name for name, kept in zip(names, keep) if kept]
