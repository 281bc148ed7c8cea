"""The panel on disk: Arrow tensors, memory-mapped, written whole or not at all (docs/decisions/0001)."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from atft.data.manifest import NAME, SCHEMA_VERSION, FeatureEntry, Manifest, corrupt, files_of, sha256_of
from atft.errors import UseError

CHUNK_DAYS = 64
DAYS, STOCKS, CLOSE = "days.arrow", "stocks.arrow", "close.arrow"
OPEN, VOLUME, TRADABLE = "open.arrow", "volume.arrow", "tradable.arrow"
TABLES = (DAYS, STOCKS, CLOSE)
OPTIONAL = {OPEN: np.float64, VOLUME: np.float64, TRADABLE: np.uint8}
"""Files that a panel has where its source has the column, and their dtypes."""


@dataclass(frozen=True, eq=False, repr=False)
class Panel:
    """A panel opened for reading; its large arrays are views of memory-mapped files.

    Attributes:
        path: of the directory.
        manifest: what it says about itself.
        days: ``[days]`` datetime64[D], the calendar.
        codes: ``[stocks]`` names of the stocks.
        industries: ``[stocks]`` int32, place in ``industry_names``; -1 unknown.
        industry_names: names of the industries.
        feature_names: names of the features.
        close: ``[days, stocks]`` float64, NaN where missing.
        present: ``[days, stocks]`` bool, True where the stock has a row.
        open_price: ``[days, stocks]`` float64, adjusted as the close, NaN where missing; None where the source has
            none (``open`` opens a panel).
        volume: ``[days, stocks]`` float64, shares, so that close × volume is the traded money; NaN where missing; None
            where the source has none.
        tradable: ``[days, stocks]`` bool, True where the stock has a row and can be traded; ``present`` where the
            source does not tell.
        markets: ``[stocks]`` names of their markets, None unknown.
        chunks: ``[chunk_days, stocks, features]`` float32 each, normalised; NaN where missing.
    """

    path: Path
    manifest: Manifest
    days: NDArray[np.datetime64]
    codes: list[str]
    industries: NDArray[np.int32]
    industry_names: list[str]
    feature_names: list[str]
    close: NDArray[np.float64]
    present: NDArray[np.bool_]
    open_price: NDArray[np.float64] | None
    volume: NDArray[np.float64] | None
    tradable: NDArray[np.bool_]
    markets: list[str | None]
    chunks: tuple[NDArray[np.float32], ...]

    @classmethod
    def open(cls, path: str | Path) -> Panel:
        """Open the panel at ``path``, after checking that its files are there, whole and of the stated shapes.

        Raises:
            UseError: no panel, another version, or a file missing, truncated or of another shape.
        """
        path = Path(path)
        manifest = Manifest.read(path)
        _check_files(path, manifest)
        try:
            return cls._read(path, manifest)
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            corrupt(path, str(error).splitlines()[0] if str(error) else type(error).__name__)

    @classmethod
    def _read(cls, path: Path, manifest: Manifest) -> Panel:
        days = _read_table(path / DAYS)["date"].to_numpy().astype("datetime64[D]")
        stocks = _read_table(path / STOCKS)
        names = stocks["industry"].to_pylist()
        known = sorted({name for name in names if name is not None})
        place = {name: number for number, name in enumerate(known)}
        n, features = len(names), [feature.name for feature in manifest.features]
        shape = manifest.days, n
        close = _read_tensor(path / CLOSE, shape, np.float64)
        present = np.isfinite(close)
        optional = {name: _read_tensor(path / name, shape, OPTIONAL[name]) for name in OPTIONAL.keys() & manifest.files}
        tradable = present & optional[TRADABLE].astype(bool) if TRADABLE in optional else present
        chunks = tuple(
            _read_tensor(
                path / _chunk_name(number), (min(CHUNK_DAYS, manifest.days - first), n, len(features)), np.float32
            )
            for number, first in enumerate(range(0, manifest.days, CHUNK_DAYS))
        )
        if (manifest.days, manifest.stocks, manifest.chunk_days) != (len(days), n, CHUNK_DAYS):
            raise ValueError(f"{NAME} and the tables differ in days, stocks or chunk_days")
        return cls(
            path=path,
            manifest=manifest,
            days=days,
            codes=stocks["code"].to_pylist(),
            industries=np.array([-1 if name is None else place[name] for name in names], np.int32),
            industry_names=known,
            feature_names=features,
            close=close,
            present=present,
            open_price=optional.get(OPEN),
            volume=optional.get(VOLUME),
            tradable=tradable,
            markets=stocks["market"].to_pylist(),
            chunks=chunks,
        )

    @property
    def sha256(self) -> str:
        """Hash of the panel's data."""
        return self.manifest.sha256

    def features(self, first: int, last: int, stocks: NDArray[np.integer[Any]] | None = None) -> NDArray[np.float32]:
        """Features of days ``first`` to ``last - 1``.

        Args:
            first: number of the first day.
            last: number of the day after the last one.
            stocks: ``[n]`` places of the stocks wanted; all of them by default.

        Returns:
            ``[last - first, n, features]`` float32, NaN where missing; read-only, without a copy, where all stocks of
            days in one chunk are asked for.

        Raises:
            ValueError: days outside the calendar.
        """
        if not 0 <= first <= last <= len(self.days):
            raise ValueError(f"days {first} to {last - 1} are not in the panel's 0 to {len(self.days) - 1}")
        chunk, start = divmod(first, CHUNK_DAYS)
        if stocks is None and first < last and (last - 1) // CHUNK_DAYS == chunk:
            return self.chunks[chunk][start : start + last - first]
        count = len(self.codes) if stocks is None else len(stocks)
        taken = np.empty((last - first, count, len(self.feature_names)), np.float32)
        for day in range(first, last):
            source = self.chunks[day // CHUNK_DAYS][day % CHUNK_DAYS]
            if stocks is None:
                taken[day - first] = source
            else:
                np.take(source, stocks, axis=0, out=taken[day - first], mode="wrap")
        return taken

    def verify(self) -> None:
        """Hash every file and compare with the manifest.

        Raises:
            UseError: a file that is not the one that was written.
        """
        for name, file in self.manifest.files.items():
            if sha256_of(self.path / name) != file.sha256:
                corrupt(self.path, f"the bytes of {name} are not those that were written")

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Panel.open, (self.path,)

    def __repr__(self) -> str:
        shape = f"{len(self.days)} days × {len(self.codes)} stocks × {len(self.feature_names)} features"
        return f"Panel({str(self.path)!r}: {shape})"


def _chunk_name(number: int) -> str:
    return f"features/{number:05d}.arrow"


def _check_files(path: Path, manifest: Manifest) -> None:
    expected = {*TABLES, *map(_chunk_name, range(math.ceil(manifest.days / CHUNK_DAYS)))}
    if expected != manifest.files.keys() - OPTIONAL.keys():
        corrupt(path, f"{NAME} lists {len(manifest.files)} files where its {manifest.days} days need {len(expected)}")
    for name, file in manifest.files.items():
        size = (path / name).stat().st_size if (path / name).is_file() else None
        if size != file.bytes:
            corrupt(path, f"{name} is missing" if size is None else f"{name} has {size} bytes instead of {file.bytes}")
    for name in manifest.files.keys() & {*TABLES, *OPTIONAL}:
        if sha256_of(path / name) != manifest.files[name].sha256:
            corrupt(path, f"the bytes of {name} are not those that were written")


def _read_table(path: Path) -> Any:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _read_tensor(path: Path, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    array: NDArray[Any] = pa.ipc.read_tensor(pa.memory_map(str(path))).to_numpy()
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{path.name} holds {array.dtype} {array.shape} instead of {np.dtype(dtype)} {shape}")
    return array


def _write_tensor(path: Path, array: NDArray[Any]) -> None:
    with pa.OSFile(str(path), "wb") as sink:
        pa.ipc.write_tensor(pa.Tensor.from_numpy(np.ascontiguousarray(array)), sink)


def _write_table(path: Path, table: Any) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def write_panel(
    path: str | Path,
    *,
    days: NDArray[np.datetime64],
    codes: Sequence[str],
    industries: Sequence[str | None] | NDArray[np.integer[Any]],
    feature_names: Sequence[str],
    close: NDArray[np.float64],
    features: NDArray[np.float32] | Iterable[NDArray[np.float32]],
    open: NDArray[np.float64] | None = None,
    volume: NDArray[np.float64] | None = None,
    tradable: NDArray[np.bool_] | None = None,
    markets: Sequence[str | None] | None = None,
    manifest_extra: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Write a panel: whole, under its name, or nothing.

    Args:
        path: the directory to make.
        days: ``[days]``, rising.
        codes: ``[stocks]``.
        industries: ``[stocks]`` names (None unknown) or numbers (below 0 unknown).
        feature_names: ``[features]``.
        close: ``[days, stocks]`` float64, NaN where missing.
        features: ``[days, stocks, features]`` float32, or its chunks of ``CHUNK_DAYS`` days in order.
        open: ``[days, stocks]`` float64, NaN where missing; None where there is none.
        volume: likewise.
        tradable: ``[days, stocks]`` bool; None where the source does not tell.
        markets: ``[stocks]`` names (None unknown); None where there are none.
        manifest_extra: other fields of the manifest; ``features`` replaces the plain entries.
        overwrite: replace a panel that is there, once the new one is whole.

    Raises:
        UseError: something is at ``path`` already, or it cannot be written.
        ValueError: arrays that do not fit one another.
    """
    path = Path(path)
    given = {CLOSE: close, OPEN: open, VOLUME: volume, TRADABLE: tradable}
    tables = {name: _as_kept(table) for name, table in given.items() if table is not None}
    shape = (len(days), len(codes), len(feature_names))
    markets = [None] * shape[1] if markets is None else markets
    shapes = {name: table.shape for name, table in tables.items()}
    if {*shapes.values()} != {shape[:2]} or {len(industries), len(markets)} != {shape[1]} or min(shape) < 1:
        told = f"{shapes}, industries {len(industries)}, markets {len(markets)}"
        raise ValueError(f"days, codes, feature_names are {shape}, but there are {told}")
    chunks: Iterable[NDArray[np.float32]]
    if isinstance(features, np.ndarray):
        whole: NDArray[np.float32] = features
        chunks = (whole[first : first + CHUNK_DAYS] for first in range(0, max(len(whole), 1), CHUNK_DAYS))
    else:
        chunks = features
    with replacing(path, overwrite) as folder:
        _check_room(path, 4 * math.prod(shape) + sum(table.nbytes for table in tables.values()))
        _write_tables(folder, days, codes, industries, markets, tables)
        _write_chunks(folder, chunks, shape)
        stated: dict[str, Any] = {
            "features": tuple(FeatureEntry(name=n, formula=n, lookback_days=None) for n in feature_names),
            **(manifest_extra or {}),
        }
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            first_day=days[0].astype(object),
            last_day=days[-1].astype(object),
            days=shape[0],
            stocks=shape[1],
            chunk_days=CHUNK_DAYS,
            files=dict(files_of(folder)),
            **stated,
        )
        (folder / NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def _write_tables(
    folder: Path,
    days: NDArray[np.datetime64],
    codes: Sequence[str],
    industries: Sequence[str | None] | NDArray[np.integer[Any]],
    markets: Sequence[str | None],
    tables: Mapping[str, NDArray[Any]],
) -> None:
    names = [
        name if name is None or isinstance(name, str) else (str(name) if name >= 0 else None) for name in industries
    ]
    calendar = pa.array(np.asarray(days, "datetime64[D]"))
    present = np.isfinite(tables[CLOSE])
    some = present.any(axis=0)
    ends = [present.argmax(axis=0), len(days) - 1 - present[::-1].argmax(axis=0)]
    first, last = (pa.array(np.asarray(days, "datetime64[D]")[end], mask=~some) for end in ends)
    _write_table(folder / DAYS, pa.table({"date": calendar}))
    stocks = {
        "code": pa.array(list(codes)),
        "industry": pa.array(names, pa.string()),
        "market": pa.array(list(markets), pa.string()),
        "first_day": first,
        "last_day": last,
    }
    _write_table(folder / STOCKS, pa.table(stocks))
    for name, table in tables.items():
        _write_tensor(folder / name, table)


def _as_kept(table: NDArray[Any]) -> NDArray[Any]:
    """A table as it is written: flags as bytes, since Arrow has no tensor of bits; NaN where it is not finite."""
    return table.astype(np.uint8) if table.dtype == bool else np.where(np.isfinite(table), table, np.nan)


def _write_chunks(folder: Path, chunks: Iterable[NDArray[np.float32]], shape: tuple[int, int, int]) -> None:
    (folder / "features").mkdir()
    written = 0
    for number, chunk in enumerate(chunks):
        expected = (min(CHUNK_DAYS, shape[0] - written), *shape[1:])
        if chunk.shape != expected or chunk.dtype != np.float32:
            raise ValueError(f"features of days {written} on are {chunk.dtype} {chunk.shape}, not float32 {expected}")
        _write_tensor(folder / _chunk_name(number), chunk)
        written += len(chunk)
    if written != shape[0]:
        raise ValueError(f"features cover {written} of {shape[0]} days")


def check_free(path: Path, overwrite: bool) -> None:
    """Refuse a path that something is at already, but for a panel where ``overwrite`` is set.

    Raises:
        UseError: as said.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise UseError(f"{path}: exists already. Mend: another name, or overwrite it (--overwrite).")
    if path.is_symlink() or not (path / NAME).is_file():
        raise UseError(f"{path}: is not a panel (no {NAME} in it), so it is not overwritten. Mend: another name.")


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """An empty directory beside ``path`` that vanishes in the end, with all that is still in it.

    Raises:
        UseError: the disk is full or not writable.
    """
    folder: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        yield folder
    except OSError as error:
        raise UseError(
            f"{path}: cannot be written: {error.strerror or error}. Nothing was left behind. "
            "Mend: a directory that is writable and has room."
        ) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def replacing(path: Path, overwrite: bool) -> Iterator[Path]:
    """An empty directory that takes the name ``path`` when the body is done, and vanishes when it fails.

    Raises:
        UseError: ``path`` is taken, or the disk is full or not writable.
    """
    check_free(path, overwrite)
    with beside(path) as room:
        folder = room / "panel"
        folder.mkdir()
        yield folder
        _take_place(folder, path, room / "old")


def _take_place(folder: Path, path: Path, aside: Path) -> None:
    """Rename ``folder`` to ``path``; an old panel is moved aside first, and back if that fails."""
    if not path.exists():
        os.rename(folder, path)
        return
    os.rename(path, aside)
    try:
        os.rename(folder, path)
    except OSError:
        os.rename(aside, path)
        raise


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise UseError(
            f"{path}: the panel needs {needed / 2**20:,.1f} MiB and the disk has {free / 2**20:,.1f} MiB free. "
            "Mend: make room, or another disk."
        )
