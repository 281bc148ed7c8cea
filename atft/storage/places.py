"""What a place is, remote or here, and errors of the files that are here."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from atft.errors import UseError

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}")
"""Of a URI; one slash is enough, for that is what :class:`Path` leaves of two."""
TEMPORARY = ".*.tmp"


def is_remote(place: str | Path) -> bool:
    """Whether ``place`` is a URI of another scheme than ``file``."""
    scheme = SCHEME.match(str(place))
    return scheme is not None and scheme[1].lower() != "file"


def local_path(place: str | Path) -> Path:
    """The path that ``place``, a path or a ``file://`` URI, stands for.

    Raises:
        UseError: a place that is not on this node.
    """
    if SCHEME.match(str(place)) is None:
        return Path(place)
    parts = urlsplit(str(place))
    if is_remote(place) or parts.netloc not in {"", "localhost"}:
        raise UseError(f"{place}: is not on this node. Mend: a path here, or file:///PATH.")
    return Path(unquote(parts.path))


def cache_root() -> Path:
    """Where copies of remote directories lie: ``$ATFT_CACHE``, ``$XDG_CACHE_HOME/atft`` or ``~/.cache/atft``.

    Raises:
        UseError: none of them is known.
    """
    if own := os.environ.get("ATFT_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "atft"
    try:
        return Path.home() / ".cache" / "atft"
    except RuntimeError:
        raise UseError(
            "copies of remote files have no place: this user has no home directory. Mend: ATFT_CACHE=/DIRECTORY."
        ) from None


def is_temporary(name: str) -> bool:
    """Whether a file is being written, by its name or that of a directory above it: ``.*.tmp``."""
    return any(fnmatch(part, TEMPORARY) for part in PurePosixPath(name).parts)


def is_inside(name: str) -> bool:
    """Whether ``name`` is a plain relative name that cannot lead out of the directory it is relative to."""
    return not {"", ".", ".."} & set(name.split("/"))


@contextlib.contextmanager
def here(path: Path, doing: str) -> Iterator[None]:
    """Failures of the body are told as those of the local file ``path``.

    Args:
        path: of the file.
        doing: what is done to it, as ``written``.

    Raises:
        UseError: the body raised an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise UseError(
            f"{path}: cannot be {doing}: {error.strerror or error}. "
            "Mend: a place on this node that is there, permitted and has room."
        ) from error
