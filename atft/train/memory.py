"""How much memory a forward pass keeps, and how much this process may still take."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

KEEP = ((-3, 2**30), (-1, 2**31 - 1), (-2, 2**26))
"""``M_MMAP_THRESHOLD``, ``M_TRIM_THRESHOLD`` and ``M_TOP_PAD`` of ``mallopt(3)``, in bytes."""
LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""Limit and use of this process's control group, version 2 and version 1."""


def kept_bytes(forward: Callable[[], Tensor], parameters: Iterable[Tensor]) -> int:
    """Bytes that the graph of ``forward()`` keeps for its backward pass, without ``parameters``."""
    storages: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = forward()
    del kept
    return sum(storages.values())


def keep_pages() -> bool:
    """Let the C library keep memory that tensors have freed, for those of the next step; False where it cannot.

    Otherwise large tensors are mapped anew each time, and the kernel clears their pages again: a tenth of a step on a
    CPU. Nothing else changes, but that the process stays as large as it once was.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False  # not glibc
    return all(mallopt(option, value) == 1 for option, value in KEEP)


def free_bytes(device: torch.device) -> float:
    """Bytes free on ``device``; on a CPU the least of what the machine and the control group have left."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return min([_available(), *_left_in_groups()])


def _available() -> float:
    """``MemAvailable``, which counts page cache that can be given up; no bound where the system has none."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return float(found[0][1]) * 1024 if found else float("inf")


def _left_in_groups() -> list[float]:
    left = []
    for limit, use in LIMITS:
        try:
            left.append(float(limit.read_text()) - float(use.read_text()))
        except (OSError, ValueError):
            continue
    return left
