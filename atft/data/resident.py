"""Mapped files of which a bounded part is resident, however large they are."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atft.data.tensors import map_file, tensor_in

MOST_RESIDENT = 2 << 30
"""Bytes of mapped files that a process keeps resident. Pages that are let go stay in the system's cache while it has
room: what is read again is mapped again, not read from disk again."""
_LOOKS = 8
"""Looks at what is resident while as much is read: it may be above the bound by a part of this size."""
_AROUND = 1 << 16
"""Bytes that the system maps around an address that is read."""


@dataclass(eq=False)
class Maps:
    """The mapped tensors of a panel's features.

    Attributes:
        arrays: views of the files, read-only.
    """

    arrays: tuple[NDArray[np.float32], ...]
    _files: tuple[mmap.mmap, ...]
    _touched: int = 0
    _floor: int = field(default_factory=lambda: shared_bytes())

    @classmethod
    def of(cls, folder: Path, shapes: Mapping[str, tuple[int, int, int]]) -> Maps:
        """Maps the files in ``folder`` that ``shapes`` names.

        Raises:
            OSError: a file that cannot be mapped.
            ValueError: a tensor of another shape or dtype.
        """
        files = tuple(map_file(folder / name) for name in shapes)
        named = zip(files, shapes.items(), strict=True)
        return cls(tuple(tensor_in(file, name, shape, np.float32) for file, (name, shape) in named), files)

    def have_read(self, days: int, stocks: int) -> None:
        """Let go of all resident pages once they are more than ``MOST_RESIDENT`` bytes; who reads notices nothing.

        May be called from several threads; what is lost between them only delays the next look.

        Args:
            days: that were read.
            stocks: that were read of each.
        """
        day = self.arrays[0][0].nbytes if self.arrays else 0
        self._touched += days * min(day, stocks * (_AROUND + day // len(self.arrays[0][0])))
        if self._touched * _LOOKS > MOST_RESIDENT:
            self._touched = 0
            if shared_bytes() - self._floor > MOST_RESIDENT:
                for file in self._files:
                    file.madvise(mmap.MADV_DONTNEED)
                self._floor = shared_bytes()


def shared_bytes() -> int:
    """Bytes of files (and shared memory) that are resident in this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[2]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
