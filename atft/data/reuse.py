"""Memory of gathered data that is used again for later data, once nothing refers to what was in it."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Memory = Callable[[int], Bytes]
"""Gives so many bytes, ``[bytes]``, with anything in them."""


def fresh(size: int) -> Bytes:
    """New memory: the system clears each page of it when it is first written to."""
    return np.empty(size, np.uint8)


class Reused:
    """A :data:`Memory` that takes back what it gave.

    A piece is given again when the last array, tensor or view of it is gone, and not before. There are never more
    pieces than were held at one time: where no free one is large enough, the largest of them is let go for a new one.
    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[Bytes] = []
        # Not guarded by the lock: what is returned may be so in any thread at any time, also by one that holds it.
        self._returned: deque[Bytes] = deque()

    def __call__(self, size: int) -> Bytes:
        """So many bytes, which are nobody else's while anything refers to them."""
        piece = self._fitting(size)
        if piece is None:
            piece = fresh(size)
        lent = _Lent(piece)
        weakref.finalize(lent, self._returned.append, piece).atexit = False
        return np.asarray(lent)[:size]

    def _fitting(self, size: int) -> Bytes | None:
        """The free piece that was used last among the smallest ones that are large enough; None without one."""
        with self._lock:
            while self._returned:
                self._free.append(self._returned.popleft())
            self._free.sort(key=len)
            fitting = [place for place, piece in enumerate(self._free) if len(piece) >= size]
            if fitting:
                smallest = len(self._free[fitting[0]])
                return self._free.pop(max(place for place in fitting if len(self._free[place]) == smallest))
            if self._free:
                self._free.pop()
            return None


class _Lent:
    """What every array over a piece of memory keeps alive: numpy takes the arrays' memory to be this object's."""

    def __init__(self, piece: Bytes) -> None:
        self.__array_interface__: dict[str, Any] = piece.__array_interface__
