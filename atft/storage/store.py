"""A directory at a URI, through pyarrow's file systems."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar
from uuid import uuid4

from atft.errors import UseError
from atft.storage.backend import OBJECT_STORES, is_lasting, mend, open_filesystem, reason
from atft.storage.places import SCHEME, here, is_inside, is_remote, is_temporary, local_path

T = TypeVar("T")
Signature = tuple[int, int]
"""``(mtime_ns, size)`` of a local file: what tells that it changed."""
CHUNK = 8 * 2**20
"""Bytes read or written at a time."""


class Entry(NamedTuple):
    """A file of a store: its bytes, and when it was written, in nanoseconds since 1970 by the storage's clock or 0."""

    size: int
    modified_ns: int


class Store:
    """A directory at a URI.

    For S3 the environment gives ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL`` (a server other than Amazon's, with
    its scheme), ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, and ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
    ``AWS_SESSION_TOKEN`` or whatever else Amazon's SDK finds credentials in. ``?endpoint_override=``, ``?scheme=``
    and ``?region=`` in the URI come before these. Some servers refuse the checksums that the SDK adds to uploads:
    ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required`` leaves them out, and is set for this process where an endpoint
    is given and the variable is not.

    On object stores a file is seen whole or not at all; elsewhere it is written beside and renamed. Deleting on S3
    leaves an empty object ``DIRECTORY/`` behind, which is not listed here.

    Args:
        uri: ``s3://bucket/directory``, another URI that pyarrow knows, or a local path.
        tries: most attempts at one operation where a failure may pass; at least 1.
        wait: seconds before the second attempt, doubled before each further one.

    Raises:
        UseError: no such kind of storage, or options that it does not have.
    """

    def __init__(self, uri: str | Path, *, tries: int = 5, wait: float = 0.5) -> None:
        self.tries, self.wait = tries, wait
        whole = SCHEME.sub(r"\1://", str(uri), count=1)
        self.uri = whole.partition("?")[0].rstrip("/")
        if is_remote(uri):
            self._files, root = self._attempt(self.uri, "opened", lambda: open_filesystem(whole))
        else:
            from pyarrow.fs import LocalFileSystem

            self._files, root = LocalFileSystem(), str(local_path(uri).absolute())
        self._root = root.rstrip("/")
        self._whole = self._files.type_name in OBJECT_STORES

    def __repr__(self) -> str:
        return f"Store({self.uri!r})"

    def list(self) -> dict[str, int]:
        """Size in bytes of every file under the directory, by relative name; without files that are being written.

        Raises:
            UseError: it cannot be listed, or its bucket does not exist.
        """
        return {name: entry.size for name, entry in self.entries().items()}

    def entries(self) -> dict[str, Entry]:
        """As :meth:`list`, with the time of writing."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._root, recursive=True, allow_not_found=True)
        found = self._attempt(self.uri, "listed", lambda: self._files.get_file_info(selector))
        if not found and self._whole:
            self._check_bucket()
        start = len(self._root) + 1
        files = {
            info.path[start:]: Entry(info.size, info.mtime_ns or 0) for info in found if info.type == FileType.File
        }
        return {name: files[name] for name in sorted(files) if not is_temporary(name)}

    def folders(self) -> tuple[str, ...]:
        """Names of the directories directly under it; on object stores, of all that have something in them.

        Raises:
            UseError: it cannot be listed.
        """
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._root, recursive=False, allow_not_found=True)
        found = self._attempt(self.uri, "listed", lambda: self._files.get_file_info(selector))
        return tuple(sorted(info.base_name for info in found if info.type == FileType.Directory))

    def exists(self, name: str) -> bool:
        """Whether there is a file ``name``.

        Raises:
            UseError: the storage does not say.
        """
        from pyarrow.fs import FileType

        path = self._path(name)
        info = self._attempt(f"{self.uri}/{name}", "looked up", lambda: self._files.get_file_info(path))
        return bool(info.type == FileType.File)

    def read(self, name: str) -> bytes:
        """All bytes of the file ``name``.

        Raises:
            UseError: no such file, or the storage fails.
        """
        path = self._path(name)

        def once() -> bytes:
            with self._files.open_input_stream(path) as source:
                return bytes(source.read())

        return self._attempt(f"{self.uri}/{name}", "read", once)

    def upload(self, local: Path, name: str) -> Signature:
        """Store the bytes that ``local`` holds when this begins; what is appended meanwhile is left out.

        Returns:
            The signature of what was stored.

        Raises:
            UseError: no such local file, one that becomes shorter meanwhile, or the storage fails.
        """
        path = self._path(name)
        return _uninterrupted(lambda: self._attempt(f"{self.uri}/{name}", "written", lambda: self._put(local, path)))

    def download(self, name: str, local: Path, told: Callable[[int], None] | None = None) -> None:
        """Copy the file ``name`` to ``local``, which is replaced once all bytes are on disk.

        Args:
            name: of the file.
            local: where to; directories on the way are made.
            told: called with the number of bytes so far, after each chunk.

        Raises:
            UseError: no such file, the storage fails, or ``local`` cannot be written.
        """
        path = self._path(name)
        self._attempt(f"{self.uri}/{name}", "read", lambda: self._get(path, local, told))

    def delete(self, name: str) -> None:
        """Remove the file ``name``.

        Raises:
            UseError: no such file, or the storage fails.
        """
        place, path = f"{self.uri}/{name}", self._path(name)
        if not self.exists(name):
            raise _missing(place)

        def once() -> None:
            with contextlib.suppress(FileNotFoundError):  # by an earlier attempt whose answer was lost
                self._files.delete_file(path)

        self._attempt(place, "deleted", once)

    def check_writable(self) -> None:
        """Write a marker of a few bytes, and remove it.

        Raises:
            UseError: either fails; the message says where and why.
        """
        name = f".atft-{uuid4().hex}.tmp"
        path = self._path(name)

        def once() -> None:
            self._make_directory_of(path)
            with self._files.open_output_stream(path) as sink:
                sink.write(b"atft\n")

        self._attempt(self.uri, "written", once)
        self.delete(name)

    def _path(self, name: str) -> str:
        if not is_inside(name):
            raise UseError(f"{self.uri}: {name!r} is not a name inside it. Mend: a relative name without '.' or '..'.")
        return f"{self._root}/{name}"

    def _check_bucket(self) -> None:
        from pyarrow.fs import FileType

        bucket = self._root.partition("/")[0]
        if self._attempt(self.uri, "listed", lambda: self._files.get_file_info(bucket)).type == FileType.NotFound:
            raise UseError(f"{self.uri}: there is no bucket {bucket!r}. Mend: make the bucket, or name another.")

    def _make_directory_of(self, path: str) -> None:
        if not self._whole:
            self._files.create_dir(path.rpartition("/")[0], recursive=True)

    def _put(self, local: Path, path: str) -> Signature:
        folder, _, name = path.rpartition("/")
        staged = path if self._whole else f"{folder}/.{name}.{uuid4().hex}.tmp"
        with here(local, "read"):
            file = local.open("rb")
        with file:
            stat = os.fstat(file.fileno())
            self._make_directory_of(path)
            try:
                with self._files.open_output_stream(staged) as sink:
                    _copy(file, sink, stat.st_size, local)
                if staged != path:
                    self._files.move(staged, path)
            except Exception as error:
                if staged != path or isinstance(error, UseError):
                    with contextlib.suppress(OSError):
                        self._files.delete_file(staged)
                raise
        return stat.st_mtime_ns, stat.st_size

    def _get(self, path: str, local: Path, told: Callable[[int], None] | None) -> None:
        temporary = local.with_name(f".{local.name}.{os.getpid()}-{threading.get_ident()}.tmp")
        with self._files.open_input_file(path) as source:
            with here(local, "written"):
                local.parent.mkdir(parents=True, exist_ok=True)
                file = temporary.open("wb")
            try:
                with file:
                    _receive(source, file, local, told)
                with here(local, "written"):
                    temporary.replace(local)
            finally:
                temporary.unlink(missing_ok=True)

    def _attempt(self, place: str, doing: str, work: Callable[[], T]) -> T:
        from pyarrow import ArrowException

        began = time.monotonic()
        for number in range(1, self.tries + 1):
            try:
                return work()
            except (OSError, ArrowException) as error:
                if isinstance(error, FileNotFoundError) and doing == "read":
                    raise _missing(place) from error
                if is_lasting(error) or number == self.tries:
                    spent = f" after {number} tries in {time.monotonic() - began:.1f} s" if number > 1 else ""
                    raise UseError(f"{place}: cannot be {doing}{spent}: {reason(error)}. {mend(error)}") from error
            time.sleep(self.wait * 2 ** (number - 1))
        raise ValueError(f"a store needs at least 1 try, got {self.tries}")


def _missing(place: str) -> UseError:
    return UseError(f"{place}: there is no such file. Mend: name one that is there, or store it first.")


def _copy(file: BinaryIO, sink: Any, size: int, local: Path) -> None:
    while size:
        with here(local, "read"):
            chunk = file.read(min(CHUNK, size))
        if not chunk:
            raise UseError(
                f"{local}: became {size} bytes shorter while it was stored, and is not stored. "
                "Mend: append to such a file, or replace it by renaming another."
            )
        sink.write(chunk)
        size -= len(chunk)


def _receive(source: Any, file: BinaryIO, local: Path, told: Callable[[int], None] | None) -> None:
    done, size = 0, source.size()
    while done < size:
        chunk = source.read(min(CHUNK, size - done))
        if not chunk:
            raise OSError(f"only {done} of {size} bytes came")
        with here(local, "written"):
            file.write(chunk)
        done += len(chunk)
        if told is not None:
            told(done)
    with here(local, "written"):
        file.flush()
        os.fsync(file.fileno())


def _uninterrupted(work: Callable[[], T]) -> T:
    """Do ``work`` where Ctrl-C cannot cut it: pyarrow completes, with the bytes so far, an object that is let go."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()
