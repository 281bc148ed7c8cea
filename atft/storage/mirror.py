"""A local working directory whose files are kept in a store too."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from atft.errors import UseError
from atft.storage.places import is_temporary
from atft.storage.store import Entry, Signature, Store


class Mirror:
    """Copies of a local directory's files in a store; files called ``.*.tmp`` are left out.

    A file that is appended to is stored as a prefix, as it was when its upload began; a file should otherwise be
    replaced by renaming. Nothing is ever deleted, on either side.

    Args:
        local: the directory.
        remote: where its files are stored under the same names.
        patience: seconds that the storage may fail before the background thread gives up; a shorter outage only
            delays what it stores.
    """

    def __init__(self, local: Path, remote: Store, patience: float = 120.0) -> None:
        self.local, self.remote, self.patience = local, remote, patience
        self._stored: dict[str, Signature] = {}
        self._uploading = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing_since: float | None = None
        self._failure: Exception | None = None

    @property
    def failing_seconds(self) -> float:
        """For how long the background thread has stored nothing because the storage fails; 0 where it does not."""
        since = self._failing_since
        return 0.0 if since is None else time.monotonic() - since

    def push(self, *names: str) -> None:
        """Store the named files now, in this order, changed or not; an outage is not waited for.

        Raises:
            UseError: at the first that cannot be; those after it are not stored.
        """
        for name in names:
            with self._uploading:
                self._stored[name] = self.remote.upload(self.local / name, name)

    def push_changed(self) -> list[str]:
        """Store every file that differs from what was last stored, in the order in which they were written.

        Returns:
            Their names.

        Raises:
            UseError: at the first that cannot be; those before it are stored.
        """
        local = self._signatures()
        changed = sorted(
            (name for name in local if self._stored.get(name) != local[name]), key=lambda name: local[name]
        )
        stored = []
        for name in changed:
            try:
                self.push(name)
            except UseError:
                if (self.local / name).exists():
                    raise
            else:
                stored.append(name)
        return stored

    def pull(self) -> list[str]:
        """Fetch every stored file that is missing here or has another size here.

        A local file that was written after the stored one, by the two clocks, and not stored since is left alone.

        Returns:
            Names of the files that were fetched.

        Raises:
            UseError: the storage fails, or a file cannot be written here.
        """
        local = self._signatures()
        wanted = [
            name for name, entry in self.remote.entries().items() if not self._keeps(name, local.get(name), entry)
        ]
        for name in wanted:
            with self._uploading:
                self.remote.download(name, self.local / name)
                self._stored[name] = _signature(self.local / name)
        return wanted

    def start(self, seconds: float) -> None:
        """From now on store what has changed every ``seconds``, in a thread.

        Raises:
            ValueError: the thread runs already.
        """
        if self._thread is not None:
            raise ValueError(f"{self.local} is being mirrored to {self.remote.uri} already")
        self._thread = threading.Thread(target=self._run, args=(seconds,), name=f"mirror {self.local}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what made the background thread give up.

        Raises:
            UseError: the storage failed for longer than ``patience``.
        """
        if self._failure is None:
            return
        if isinstance(self._failure, UseError):
            raise UseError(str(self._failure)) from self._failure
        raise self._failure

    def close(self) -> None:
        """End the thread and store what is left, waiting for the storage as long as ``patience`` lasts.

        Raises:
            UseError: the storage failed for longer than that, now or earlier.
        """
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        while not self._store_changes() and self._failure is None:
            time.sleep(self._pause)
        self.check()

    @property
    def _pause(self) -> float:
        return self.patience / 20

    def _run(self, seconds: float) -> None:
        wait = seconds
        while not self._closing.wait(wait):
            try:
                wait = seconds if self._store_changes() else min(seconds, self._pause)
            except Exception as error:
                self._failure = error
                return

    def _store_changes(self) -> bool:
        """Whether all changes are stored; a failure is kept once it has lasted too long."""
        began = time.monotonic()
        try:
            self.push_changed()
        except UseError as error:
            if self._failing_since is None:
                self._failing_since = began
            if self._failure is None and self.failing_seconds >= self.patience:
                self._failure = UseError(
                    f"{self.local}: its files could not be stored for {self.failing_seconds:.1f} s, "
                    f"and {self.patience:g} s is the longest outage that is waited for; they are whole here. {error}"
                )
            return False
        self._failing_since = None
        return True

    def _keeps(self, name: str, local: Signature | None, remote: Entry) -> bool:
        """Whether :meth:`pull` leaves the local file as it is."""
        if local is None:
            return False
        modified_ns, size = local
        return size == remote.size or (modified_ns > remote.modified_ns and self._stored.get(name) != local)

    def _signatures(self) -> dict[str, Signature]:
        found = {}
        for folder, _, files in os.walk(self.local):
            for path in (Path(folder, file) for file in files):
                name = path.relative_to(self.local).as_posix()
                if not is_temporary(name):
                    with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                        found[name] = _signature(path)
        return found


def _signature(path: Path) -> Signature:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
