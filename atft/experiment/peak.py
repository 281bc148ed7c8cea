"""How much memory a computation holds at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Most bytes of tensors that are alive at once during ``work``, beyond those that were alive before.

    On a GPU this is the rise of ``torch.cuda.max_memory_allocated``. On a CPU every allocation and release of torch's
    allocator is taken from the profiler and added up in order; numpy's arrays, which prepared blocks lie in, and what
    libraries take for themselves are not in it.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _quiet_errors(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    alive = peak = 0
    for change in _changes(recorded):
        alive += change
        peak = max(peak, alive)
    return peak


def _changes(recorded: profile) -> list[int]:
    """Bytes of each allocation, negative for releases, in the order in which they happened."""
    events: Any = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    memory = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    return [size for _, size in sorted(memory, key=lambda each: each[0])]


@contextlib.contextmanager
def _quiet_errors() -> Iterator[None]:
    """Nothing on standard error: torch's profiler announces itself there, past Python."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
