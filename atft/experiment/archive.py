"""Archives are written: one file, the same bytes for the same run, verified by reading all of it back."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from atft.errors import UseError
from atft.experiment.archive_format import MANIFEST, Manifest
from atft.experiment.unarchive import verify

LEVEL = 4
"""Of compression: weights hardly shrink, event logs do at any level."""


def files_of(folder: Path) -> list[str]:
    """Names of the files under a directory, sorted; without those that are being written.

    Raises:
        UseError: there is a link, or something else that is no file.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") and part.endswith(".tmp") for part in path.relative_to(folder).parts):
            continue
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise UseError(f"{path}: is no plain file, and an archive holds nothing else. Mend: replace or remove it.")
        if path.is_file():
            found.append(path.relative_to(folder).as_posix())
    return found


def write(
    out: Path, folder: Path, names: Sequence[str], run: str, history: Sequence[Mapping[str, Any]] = ()
) -> Manifest:
    """Write files of a run into one file, and read it back; what is there is never replaced.

    Args:
        out: the file.
        folder: the run's directory.
        names: of its files, relative to that.
        run: its name relative to where runs lie.
        history: entries of the index about it, as plain data.

    Raises:
        UseError: the file exists or cannot be written, or a file of the run changed meanwhile; nothing is left behind.
    """
    if out.exists():
        raise UseError(f"archive {out}: exists already. Mend: another name.")
    temporary = out.with_name(f".{out.name}.{uuid4().hex}.tmp")
    try:
        manifest = Manifest(run, {name: _hashed(folder / name) for name in names}, history)
        with temporary.open("xb") as file:
            _pack(file, folder, manifest)
            file.flush()
            os.fsync(file.fileno())
        _check(temporary, manifest, out)
        temporary.rename(out)
    except OSError as error:
        raise UseError(f"archive {out}: cannot be written: {error.strerror or error}. Mend: another place.") from None
    finally:
        temporary.unlink(missing_ok=True)
    return manifest


def _pack(file: BinaryIO, folder: Path, manifest: Manifest) -> None:
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        content = manifest.dump()
        tar.addfile(_member(MANIFEST, len(content)), io.BytesIO(content))
        for name in sorted(manifest.files):
            with (folder / name).open("rb") as source:
                tar.addfile(_member(f"{manifest.run}/{name}", manifest.files[name][1]), source)


def _check(written: Path, manifest: Manifest, out: Path) -> None:
    try:
        same, reason = verify(written).dump() == manifest.dump(), "its manifest is another one"
    except UseError as error:
        same, reason = False, str(error).partition(" Nothing was")[0].partition(": ")[2]
    if not same:
        raise UseError(
            f"archive {out}: what was written and read back is not the run ({reason}); it is not kept. "
            "Mend: archive again when nothing writes to the run, or to another disk."
        )


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)  # no owner, no time, mode 0644
    member.size = size
    return member


def _hashed(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
