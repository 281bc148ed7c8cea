"""Settings in YAML that are named: shipped ones by their name, a user's own by the path of a file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from atft.errors import UseError


def path_of(name: str, directory: Path) -> Path:
    """The file of a name: itself where it is one, else that of the directory of shipped ones."""
    return Path(name) if name.endswith((".yaml", ".yml")) else directory / f"{name}.yaml"


def read(path: Path, name: str, *, kind: str, known: Sequence[str]) -> dict[str, Any]:
    """What the file says.

    Args:
        path: of the file.
        name: it was asked for by.
        kind: what it is, in a word: ``tier`` or ``sweep``.
        known: names of the shipped ones.

    Raises:
        UseError: no such file (the nearest name is told), no YAML, or no mapping.
    """
    try:
        stated = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Nearest: {near[0]}." if near else ""
        raise UseError(
            f"no {kind} named {name!r}.{hint} There are: {', '.join(known)}; or give a .yaml file."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UseError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(stated, dict):
        raise UseError(f"{path}: a {kind} is a mapping of settings, found {type(stated).__name__}.")
    return stated
