"""Names of runs: what a run may be called, and which runs lie in a directory of their own beside others."""

from __future__ import annotations

import re
from pathlib import Path

from atft.errors import UseError

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MEMBER = re.compile(r"fold-\d{2,}|point-.+|member-.+")
"""Runs that belong together lie in one directory: folds, points of a sweep, members of an ensemble."""


def is_member(name: str) -> bool:
    """Whether a run of this name is one of several in a directory of their own, and counted with what lies beside that.

    Args:
        name: of its directory, without those above it.
    """
    return MEMBER.fullmatch(name) is not None


def root_and_name(run: Path) -> tuple[Path, str]:
    """Where runs lie, and the name of a run relative to that: ``runs`` and ``sweep-x/point-3-s1``.

    Args:
        run: its directory, or its URI as a path.
    """
    if is_member(run.name) and not run.parent.name:
        run = run.absolute()  # named from inside the directory of its like
    name, root = run.name, run.parent
    while is_member(name.split("/")[0]) and root.name:
        name, root = f"{root.name}/{name}", root.parent
    return root, name


def run_path(root: Path, name: str) -> Path:
    """Directory of the run ``name`` under ``root``.

    Raises:
        UseError: a name that no run can have.
    """
    return root / check_name(name)


def check_name(name: str) -> str:
    """The name of a run relative to where runs lie, as it may be used in paths.

    Raises:
        UseError: one of its parts is no plain directory name.
    """
    for part in name.split("/"):
        check_part(part)
    return name


def check_part(name: str) -> None:
    """A name of one directory.

    Raises:
        UseError: it is no plain directory name.
    """
    if not PLAIN.fullmatch(name):
        raise UseError(f"run name {name!r}: letters, digits, '.', '_' and '-' only, starting with a letter or digit.")
