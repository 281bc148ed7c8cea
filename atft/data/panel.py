"""The panel on disk, opened for reading: Arrow tensors, memory-mapped (docs/decisions/0001)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atft.data.manifest import NAME, Manifest, corrupt, sha256_of
from atft.data.resident import Maps
from atft.data.tensors import (
    CHUNK_DAYS,
    CLOSE,
    DAYS,
    LABEL,
    OPEN,
    OPTIONAL,
    ROWS,
    STOCKS,
    TABLES,
    TRADABLE,
    VOLUME,
    chunk_name,
    read_table,
    read_tensor,
)
from atft.data.writing import write_panel

__all__ = ["CHUNK_DAYS", "Panel", "write_panel"]


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
        label: ``[days, stocks]`` float64, the source's own label (``manifest.roles.label`` states its horizon and lag),
            NaN where missing; None where the source has none.
        delisted: ``[stocks]`` datetime64[D], last day of the listing, NaT open; None where the source does not tell.
        maps: the mapped files of the chunks, which keep what is resident of them within bounds.
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
    label: NDArray[np.float64] | None
    maps: Maps
    delisted: NDArray[np.datetime64] | None = None

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
        days = read_table(path / DAYS)["date"].to_numpy().astype("datetime64[D]")
        stocks = read_table(path / STOCKS)
        names = stocks["industry"].to_pylist()
        known = sorted({name for name in names if name is not None})
        place = {name: number for number, name in enumerate(known)}
        n, features = len(names), [feature.name for feature in manifest.features]
        shape = manifest.days, n
        close = read_tensor(path / CLOSE, shape, np.float64)
        present = np.isfinite(close)
        optional = {name: read_tensor(path / name, shape, OPTIONAL[name]) for name in OPTIONAL.keys() & manifest.files}
        tradable = present & optional[TRADABLE].astype(bool) if TRADABLE in optional else present
        days_of = [min(CHUNK_DAYS, manifest.days - first) for first in range(0, manifest.days, CHUNK_DAYS)]
        maps = Maps.of(path, {chunk_name(each): (days, n, len(features)) for each, days in enumerate(days_of)})
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
            markets=stocks["market"].to_pylist() if "market" in stocks.column_names else [None] * n,
            chunks=maps.arrays,
            label=optional.get(LABEL),
            maps=maps,
            delisted=stocks["delisted"].to_numpy().astype("datetime64[D]")
            if "delisted" in stocks.column_names
            else None,
        )

    def rows(self) -> NDArray[np.uint64] | None:
        """``[days, stocks]``, a number for each row of the source, 0 where there is none; None where it is not kept.

        Raises:
            UseError: the file is not the one that was written.
        """
        if ROWS not in self.manifest.files:
            return None
        if sha256_of(self.path / ROWS) != self.manifest.files[ROWS].sha256:
            corrupt(self.path, f"the bytes of {ROWS} are not those that were written")
        return read_tensor(self.path / ROWS, (len(self.days), len(self.codes)), np.uint64)

    @property
    def sha256(self) -> str:
        """Hash of the panel's data."""
        return self.manifest.sha256

    def features(
        self,
        first: int,
        last: int,
        stocks: NDArray[np.integer[Any]] | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Features of days ``first`` to ``last - 1``.

        Args:
            first: number of the first day.
            last: number of the day after the last one.
            stocks: ``[n]`` places of the stocks wanted; all of them by default.
            out: ``[last - first, n, features]`` float32 to fill and return; made anew by default.

        Returns:
            ``[last - first, n, features]`` float32, NaN where missing; read-only, without a copy, where all stocks of
            days in one chunk are asked for and no ``out`` is given.

        Raises:
            ValueError: days outside the calendar.
        """
        if not 0 <= first <= last <= len(self.days):
            raise ValueError(f"days {first} to {last - 1} are not in the panel's 0 to {len(self.days) - 1}")
        chunk, start = divmod(first, CHUNK_DAYS)
        if stocks is None and out is None and first < last and (last - 1) // CHUNK_DAYS == chunk:
            return self.chunks[chunk][start : start + last - first]
        count = len(self.codes) if stocks is None else len(stocks)
        shape = (last - first, count, len(self.feature_names))
        taken = np.empty(shape, np.float32) if out is None else out
        for begin in range(first - start, last, CHUNK_DAYS):
            days = slice(max(first, begin), min(last, begin + CHUNK_DAYS))
            source = self.chunks[begin // CHUNK_DAYS][days.start - begin : days.stop - begin]
            target = taken[days.start - first : days.stop - first]
            if stocks is None:
                target[:] = source
            else:
                np.take(source, stocks, axis=1, out=target, mode="wrap")
        self.maps.have_read(last - first, count)
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


def _check_files(path: Path, manifest: Manifest) -> None:
    expected = {*TABLES, *map(chunk_name, range(math.ceil(manifest.days / CHUNK_DAYS)))}
    if expected != manifest.files.keys() - {*OPTIONAL, ROWS}:
        corrupt(path, f"{NAME} lists {len(manifest.files)} files where its {manifest.days} days need {len(expected)}")
    for name, file in manifest.files.items():
        size = (path / name).stat().st_size if (path / name).is_file() else None
        if size != file.bytes:
            corrupt(path, f"{name} is missing" if size is None else f"{name} has {size} bytes instead of {file.bytes}")
    for name in manifest.files.keys() & {*TABLES, *OPTIONAL}:
        if sha256_of(path / name) != manifest.files[name].sha256:
            corrupt(path, f"the bytes of {name} are not those that were written")
