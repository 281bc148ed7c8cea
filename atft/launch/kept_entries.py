"""Entries of an index in an object store, of which this machine keeps copies."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from atft.storage import Store


class KeptEntries:
    """The files of a store that are written once under names of their own and never again: each is fetched once.

    Args:
        store: where they are.
        folder: where copies are kept; a copy that cannot be kept is fetched again the next time.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.uri = store.uri
        self._store, self._folder = store, folder
        self._sizes: Mapping[str, int] = {}

    def list(self) -> Mapping[str, int]:
        """Files by relative name, as the store has them now."""
        self._sizes = self._store.list()
        return self._sizes

    def read(self, name: str) -> bytes:
        """All bytes of a file: of its copy, where that has the size that the store told."""
        copy = self._folder / name
        with contextlib.suppress(OSError):
            content = copy.read_bytes()
            if len(content) == self._sizes.get(name):
                return content
        content = self._store.read(name)
        with contextlib.suppress(OSError, ValueError):
            json.loads(content)  # what is damaged may yet be mended there, and is not kept
            copy.parent.mkdir(parents=True, exist_ok=True)
            temporary = copy.with_name(f".{copy.name}.{uuid4().hex}.tmp")
            temporary.write_bytes(content)
            os.replace(temporary, copy)
        return content

    def upload(self, local: Path, name: str) -> object:
        """Put a file into the store."""
        return self._store.upload(local, name)
