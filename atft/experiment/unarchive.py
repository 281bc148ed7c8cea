"""Archives are read: verified in full, and restored whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

from atft.errors import UseError
from atft.experiment.archive_format import HEADER, MANIFEST, WRITER, Manifest, damaged

CHUNK = 2**20
LARGEST_MANIFEST = 256 * CHUNK
DAMAGE = (EOFError, tarfile.TarError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError)


def verify(archive: Path) -> Manifest:
    """Read all of an archive and compare every file with its hash.

    Raises:
        UseError: it is no archive of a run, or damaged in any way; the message says how.
    """
    return _read(archive, lambda name, chunks: [None for _ in chunks])


def restore(archive: Path, target: Path) -> Manifest:
    """Read an archive into the directory ``target``, which is there only once every file is verified.

    Args:
        archive: the file.
        target: a directory that does not exist.

    Raises:
        UseError: ``target`` exists, the archive is damaged, or files cannot be written; nothing is left behind.
    """
    if target.exists():
        raise UseError(f"{target}: exists already, and a run is never written over. Mend: another --runs.")
    staged = target.with_name(f".{target.name}.{uuid4().hex}.tmp")

    def put(name: str, chunks: Iterator[bytes]) -> None:
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)

    made = not target.parent.exists()
    try:
        staged.mkdir(parents=True)
        manifest = _read(archive, put)
        staged.rename(target)
    except OSError as error:
        raise UseError(
            f"{target}: cannot be written: {error.strerror or error}. Mend: room and permission, or another --runs."
        ) from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if made and not target.exists():
            with suppress(OSError):
                target.parent.rmdir()
    return manifest


def manifest_of(archive: Path) -> Manifest:
    """The manifest alone, of an archive whose files are not verified.

    Raises:
        UseError: it has none that can be read.
    """
    with _opened(archive) as (tar, _):
        return _manifest(tar, archive)


def _read(archive: Path, take: Callable[[str, Iterator[bytes]], object]) -> Manifest:
    """Hand every file to ``take`` in chunks, and hold it against the manifest."""
    with _opened(archive) as (tar, unzipped):
        manifest = _manifest(tar, archive)
        left = dict(manifest.files)
        while (member := tar.next()) is not None:
            name = member.name.removeprefix(f"{manifest.run}/")
            if member.name == name or name not in left or not member.isreg():
                raise damaged(archive, f"it holds {member.name!r}, which its manifest does not name, or names once")
            sha256, size = left.pop(name)
            source, digest = tar.extractfile(member), hashlib.sha256()
            assert source is not None  # of a plain file
            take(name, _chunks(source, digest.update))
            if member.size != size or digest.hexdigest() != sha256:
                raise damaged(archive, f"the content of {name} is not what its hash says")
        if left:
            raise damaged(archive, f"{len(left)} files of its manifest are missing, the first is {min(left)}")
        while unzipped.read(CHUNK):  # to its end, where the checksum of all of it stands
            pass
    return manifest


def _chunks(source: IO[bytes], seen: Callable[[bytes], None]) -> Iterator[bytes]:
    while chunk := source.read(CHUNK):
        seen(chunk)
        yield chunk


def _manifest(tar: tarfile.TarFile, archive: Path) -> Manifest:
    first = tar.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > LARGEST_MANIFEST:
        raise damaged(archive, f"it does not begin with {MANIFEST}")
    source = tar.extractfile(first)
    assert source is not None  # of a plain file
    return Manifest.load(source.read(), archive)


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[tarfile.TarFile, gzip.GzipFile]]:
    """An archive as a tar that is read from front to back; whatever cannot be read in it is told as damage."""
    try:
        file = archive.open("rb")
    except OSError as error:
        raise UseError(f"{archive}: cannot be read: {error.strerror}. Mend: name an archive.") from None
    with file:
        if file.read(len(HEADER) + len(WRITER)) != HEADER + WRITER:
            raise damaged(archive, "it does not begin as archives of runs do")
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as tar:
                yield tar, unzipped
        except DAMAGE as error:
            raise damaged(archive, f"{error}".strip() or type(error).__name__) from None
