"""Checkpoints: written whole or not at all, and read without running code."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from atft.errors import RunError, UseError

VERSION = 1


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` with a temporary path beside ``path`` and move the result into place once it is on disk.

    Raises:
        RunError: the file cannot be written (disk full, no permission); what stood at ``path`` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except Exception as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"{path}: cannot be written: {error}. Mend: free space there, or name another run directory."
        ) from error


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state that a run goes on from: tensors, numbers, strings, lists and dicts of them."""
    write_atomically(path, lambda temporary: torch.save({"version": VERSION, **state}, temporary))


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote.

    Raises:
        UseError: missing, damaged, or of another version.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UseError(
            f"{path}: there is no checkpoint to go on from. Mend: start a new run without --resume."
        ) from None
    except Exception as error:
        raise UseError(f"{path}: the checkpoint is damaged ({type(error).__name__}). Mend: start a new run.") from error
    if state.get("version") != VERSION:
        raise UseError(f"{path}: checkpoint version {state.get('version')}, this program reads {VERSION}.")
    return state


def save_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write a network's weights as safetensors."""
    contiguous = {name: value.detach().contiguous().clone() for name, value in weights.items()}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary))


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read weights that :func:`save_weights` wrote.

    Raises:
        UseError: missing or damaged.
    """
    try:
        weights: dict[str, torch.Tensor] = load_file(path)
        return weights
    except FileNotFoundError:
        raise UseError(f"{path}: no such weights. Mend: train the run to the end of its phase first.") from None
    except Exception as error:
        raise UseError(f"{path}: the weights are damaged ({type(error).__name__}).") from error
