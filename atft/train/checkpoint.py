"""Checkpoints: written whole or not at all, and read without running code."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from atft.errors import UseError

VERSION = 4


def write_atomically(path: Path, write: Callable[[Path], None], *, previous: Path | None = None) -> None:
    """Call ``write`` with a temporary path beside ``path`` and move the result into place once it is on disk.

    Args:
        path: the file.
        write: makes it.
        previous: where the file that stood at ``path`` goes; it is replaced where not given.

    Raises:
        UseError: the file cannot be written (disk full, no permission); what stood at ``path`` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
    except Exception as error:
        temporary.unlink(missing_ok=True)
        raise UseError(
            f"{path}: cannot be written: {error}. Mend: free space there, or name another run directory."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, all of it or nothing.

    Raises:
        UseError: as :func:`write_atomically` raises it.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def checksum(value: Any, before: int = 0) -> int:
    """CRC-32 of tensors, numbers, strings, lists and dicts of them: neither format that is used here has its own."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().contiguous().flatten()
        return zlib.crc32(plain.view(torch.uint8).numpy().data, checksum(f"{value.dtype} {tuple(value.shape)}", before))
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple):
        for part in value:
            before = checksum(part, before)
        return before
    return zlib.crc32(repr(value).encode(), before)


def copied(value: Any) -> Any:
    """``value`` with tensors of its own on the CPU, which nothing that happens later changes."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: copied(part) for name, part in value.items()}
    return [copied(part) for part in value] if isinstance(value, list | tuple) else value


def save_state(path: Path, state: dict[str, Any], *, previous: Path | None = None) -> None:
    """Write the state that a run goes on from: tensors, numbers, strings, lists and dicts of them."""
    whole = {"version": VERSION, "checksum": checksum(state), "state": state}
    write_atomically(path, lambda temporary: torch.save(whole, temporary), previous=previous)


def load_latest(path: Path, previous: Path) -> tuple[dict[str, Any], str | None]:
    """The state in ``path``, or the one before where that is damaged or missing.

    Returns:
        The state, and what is to be told where it is not the last one.

    Raises:
        UseError: neither can be read.
    """
    try:
        return load_state(path), None
    except UseError as error:
        if not previous.exists():
            raise
        return load_state(previous), f"{error} The checkpoint before it, {previous.name}, is taken instead."


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote.

    Raises:
        UseError: missing, damaged, or of another version.
    """
    try:
        whole: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        version, found = whole.get("version"), checksum(whole.get("state"))
    except FileNotFoundError:
        raise UseError(
            f"{path}: there is no checkpoint to go on from. Mend: start a new run under another name."
        ) from None
    except Exception as error:
        raise UseError(f"{path}: the checkpoint is damaged ({type(error).__name__}). Mend: start a new run.") from error
    if version != VERSION:
        raise UseError(f"{path}: checkpoint version {version}, this program reads {VERSION}. Mend: start a new run.")
    if found != whole.get("checksum"):
        raise UseError(f"{path}: the checkpoint is damaged: its bytes are not those written. Mend: start a new run.")
    state: dict[str, Any] = whole["state"]
    return state


def save_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write a network's weights as safetensors."""
    contiguous = {name: value.detach().contiguous().clone() for name, value in weights.items()}
    told = {"checksum": str(checksum(sorted(contiguous.items())))}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary, metadata=told))


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read weights that :func:`save_weights` wrote.

    Raises:
        UseError: missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in sorted(file.keys())}
            told = (file.metadata() or {}).get("checksum")
    except FileNotFoundError:
        raise UseError(f"{path}: no such weights. Mend: train the run to the end of its phase first.") from None
    except Exception as error:
        raise UseError(f"{path}: the weights are damaged ({type(error).__name__}). Mend: start a new run.") from error
    if told != str(checksum(list(weights.items()))):
        raise UseError(f"{path}: the weights are damaged: their bytes are not those written. Mend: start a new run.")
    return weights
