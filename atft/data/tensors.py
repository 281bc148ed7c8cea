"""The files of a panel: their names, and how each is read and written."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

CHUNK_DAYS = 64
DAYS, STOCKS, CLOSE = "days.arrow", "stocks.arrow", "close.arrow"
OPEN, VOLUME, TRADABLE, LABEL = "open.arrow", "volume.arrow", "tradable.arrow", "label.arrow"
ROWS = "rows.arrow"
"""A number for each row of the source, by which an append sees whether old rows were revised."""
TABLES = (DAYS, STOCKS, CLOSE)
OPTIONAL = {OPEN: np.float64, VOLUME: np.float64, TRADABLE: np.uint8, LABEL: np.float64}
"""Files that a panel has where its source has the column, and their dtypes."""


def chunk_name(number: int) -> str:
    """Of the file with the features of ``CHUNK_DAYS`` days."""
    return f"features/{number:05d}.arrow"


def read_table(path: Path) -> Any:
    """An Arrow table."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def map_file(path: Path) -> mmap.mmap:
    """The file, mapped for reading."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def tensor_in(mapped: mmap.mmap, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """The tensor in a mapped file, without a copy.

    Raises:
        ValueError: another shape or dtype.
    """
    array: NDArray[Any] = pa.ipc.read_tensor(pa.BufferReader(pa.py_buffer(mapped))).to_numpy()
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} holds {array.dtype} {array.shape} instead of {np.dtype(dtype)} {shape}")
    return array


def read_tensor(path: Path, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """The tensor in a file, memory-mapped.

    Raises:
        ValueError: another shape or dtype.
    """
    return tensor_in(map_file(path), path.name, shape, dtype)


def write_tensor(path: Path, array: NDArray[Any]) -> None:
    """Write an Arrow tensor."""
    with pa.OSFile(str(path), "wb") as sink:
        pa.ipc.write_tensor(pa.Tensor.from_numpy(np.ascontiguousarray(array)), sink)


def write_table(path: Path, table: Any) -> None:
    """Write an Arrow table."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
