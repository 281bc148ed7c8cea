"""This node's copy of a remote directory: made once, shared by its processes, whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from atft.errors import UseError
from atft.storage.places import here
from atft.storage.store import Store

Progress = Callable[[str, int, int], None]
"""Called with the file's name, and the bytes so far and in all, of the whole directory."""
MANIFEST = "manifest.json"
ROUNDS = 3
"""Copies made of a directory that changes meanwhile, before giving up."""


def fetch_directory(uri: str, cache: Path, progress: Progress | None = None) -> Path:
    """This node's copy of the directory at ``uri``, made or renewed where its ``manifest.json`` is not the remote one.

    Of several processes that call this at once one copies and the others wait. Files that a process has open stay
    readable when the copy is renewed.

    Args:
        uri: of a directory that is complete once it holds a ``manifest.json``.
        cache: directory for the copies of this node, as :func:`~atft.storage.places.cache_root`.
        progress: told of each chunk that came; not called where the copy is there.

    Returns:
        ``cache/HASH-NAME``: 16 hexadecimal digits of the URI's SHA-256, and its last part.

    Raises:
        UseError: no manifest there, the storage fails, the directory keeps changing, or ``cache`` cannot be written or
            has no room.
    """
    store = Store(uri)
    folder = cache / f"{hashlib.sha256(store.uri.encode()).hexdigest()[:16]}-{store.uri.rpartition('/')[2]}"
    with _alone(cache / f".{folder.name}.lock"):
        for left in cache.glob(f".{glob.escape(folder.name)}.*.tmp"):  # by processes that died: this one is alone
            shutil.rmtree(left, ignore_errors=True)
        for _ in range(ROUNDS):
            manifest = _manifest(store)
            if _held(folder) == manifest:
                return folder
            with _beside(folder) as room:
                _fill(room, store, manifest, progress)
                if _manifest(store) == manifest:
                    _take_place(room, folder)
                    return folder
    raise UseError(
        f"{uri}: changed {ROUNDS} times while it was copied. Mend: wait until it is written, then try again."
    )


def _manifest(store: Store) -> bytes:
    if not store.exists(MANIFEST):
        raise UseError(
            f"{store.uri}: there is no complete directory: it holds no {MANIFEST}. "
            "Mend: name one that does, or wait until it is written."
        )
    return store.read(MANIFEST)


def _held(folder: Path) -> bytes | None:
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError:
        return None


def _fill(room: Path, store: Store, manifest: bytes, progress: Progress | None) -> None:
    sizes = store.list()
    done, total = 0, sum(sizes.values())
    free = shutil.disk_usage(room).free
    if free < total:
        raise UseError(
            f"{room.parent}: {store.uri} needs {total / 2**20:,.1f} MiB and the disk has {free / 2**20:,.1f} MiB free. "
            "Mend: make room, or ATFT_CACHE=/ANOTHER/DISK."
        )
    for name in sorted(sizes.keys() - {MANIFEST}):

        def told(of_file: int, name: str = name, before: int = done) -> None:
            if progress is not None:
                progress(name, before + of_file, total)

        store.download(name, room / name, told)
        done += sizes[name]
    with here(room / MANIFEST, "written"), (room / MANIFEST).open("wb") as file:
        file.write(manifest)
        file.flush()
        os.fsync(file.fileno())
    if progress is not None:
        progress(MANIFEST, total, total)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process holds ``lock``, and hold it."""
    with here(lock, "locked"):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    with file:
        with here(lock, "locked"):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """An empty directory beside ``folder`` that vanishes in the end, unless it was renamed."""
    room = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with here(room, "made"):
        room.mkdir()
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _take_place(room: Path, folder: Path) -> None:
    """Rename ``room`` to ``folder``; an older copy is moved aside and removed, its files stay for who has them open."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.old.tmp")
    with here(folder, "replaced"):
        if folder.exists():
            folder.rename(aside)
        room.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)
