"""How much memory of tensors a piece of work holds at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.profiler import ProfilerActivity, profile


def peak_bytes(run: Callable[[], object]) -> int:
    """Most bytes of CPU tensors that ``run()`` holds at once and gives back before it returns.

    What was there before and what stays afterwards is not in it: parameters, optimizer state, and the gradients that
    are left. Counted from every allocation that torch's allocator tells its profiler, so that it is the same number
    each time and on a busy machine; memory that a library takes past that allocator is not seen.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        kept = run()
    live = peak = 0
    for size in _given_back(_allocations(found)):
        live += size
        peak = max(peak, live)
    del kept
    return peak


def _allocations(found: Any) -> list[tuple[int, int]]:
    """Address and size of each allocation in order of time; a negative size where it is freed."""
    roots = found.profiler.kineto_results.experimental_event_tree()
    events = [event for event in _walk(roots) if event.tag.name == "Allocation"]
    events.sort(key=lambda event: int(event.start_time_ns))
    return [(event.extra_fields.ptr, event.extra_fields.alloc_size) for event in events]


def _walk(events: Any) -> Iterator[Any]:
    for event in events:
        yield event
        yield from _walk(event.children)


def _given_back(allocations: list[tuple[int, int]]) -> list[int]:
    """The sizes of those allocations, and frees, of which both lie within the list."""
    opened: dict[int, int] = {}
    chosen: list[int] = []
    for number, (address, size) in enumerate(allocations):
        if size > 0:
            opened[address] = number
        elif address in opened:
            chosen += [opened.pop(address), number]
    return [allocations[number][1] for number in sorted(chosen)]
