"""Writing a panel: whole, under its name, or nothing."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atft.data.manifest import NAME, SCHEMA_VERSION, FeatureEntry, Manifest
from atft.data.room import Room, making
from atft.data.tensors import (
    CHUNK_DAYS,
    CLOSE,
    DAYS,
    LABEL,
    OPEN,
    STOCKS,
    TRADABLE,
    VOLUME,
    chunk_name,
    write_table,
)


@dataclass(frozen=True)
class Content:
    """What a panel holds beside its features.

    Attributes:
        days: ``[days]``, rising.
        codes: ``[stocks]``.
        industries: ``[stocks]`` names (None unknown) or numbers (below 0 unknown).
        markets: ``[stocks]`` names, None unknown.
        feature_names: ``[features]``.
        tables: ``[days, stocks]`` by name of the file; the close is among them.
        delisted: ``[stocks]`` last day of the listing, None open; None where nobody said.
    """

    days: NDArray[np.datetime64]
    codes: Sequence[str]
    industries: Sequence[str | None] | NDArray[np.integer[Any]]
    markets: Sequence[str | None]
    feature_names: Sequence[str]
    tables: Mapping[str, NDArray[Any]]
    delisted: Sequence[dt.date | None] | None = None

    @classmethod
    def of(
        cls,
        days: NDArray[np.datetime64],
        codes: Sequence[str],
        industries: Sequence[str | None] | NDArray[np.integer[Any]],
        markets: Sequence[str | None] | None,
        feature_names: Sequence[str],
        tables: Mapping[str, NDArray[Any] | None],
        delisted: Sequence[dt.date | None] | None = None,
    ) -> Content:
        """Checked, and as it is kept: tables that are None left out, what is not finite missing.

        Raises:
            ValueError: arrays that do not fit one another.
        """
        kept = {name: _as_kept(table) for name, table in tables.items() if table is not None}
        markets = [None] * len(codes) if markets is None else markets
        shape = (len(days), len(codes), len(feature_names))
        shapes = {name: table.shape for name, table in kept.items()}
        if {*shapes.values()} != {shape[:2]} or {len(industries), len(markets)} != {shape[1]} or min(shape) < 1:
            told = f"{shapes}, industries {len(industries)}, markets {len(markets)}"
            raise ValueError(f"days, codes, feature_names are {shape}, but there are {told}")
        return cls(days, codes, industries, markets, feature_names, kept, delisted)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Days, stocks, features."""
        return len(self.days), len(self.codes), len(self.feature_names)

    @property
    def chunks(self) -> int:
        """Files that the features take."""
        return math.ceil(len(self.days) / CHUNK_DAYS)

    def days_of(self, number: int) -> range:
        """Days of chunk ``number``."""
        return range(number * CHUNK_DAYS, min((number + 1) * CHUNK_DAYS, len(self.days)))


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
    label: NDArray[np.float64] | None = None,
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
        label: as ``volume``.
        markets: ``[stocks]`` names (None unknown); None where there are none.
        manifest_extra: other fields of the manifest; ``features`` replaces the plain entries.
        overwrite: replace a panel that is there, once the new one is whole.

    Raises:
        UseError: something is at ``path`` already, or it cannot be written.
        ValueError: arrays that do not fit one another.
    """
    tables = {CLOSE: close, OPEN: open, VOLUME: volume, TRADABLE: tradable, LABEL: label}
    content = Content.of(days, codes, industries, markets, feature_names, tables)
    with making(Path(path), overwrite) as room:
        room.resume(None)
        room.check_space(4 * math.prod(content.shape) + sum(table.nbytes for table in content.tables.values()))
        written = 0
        for number, chunk in enumerate(_chunks(features)):
            write_chunk(room, content, number, chunk)
            written += len(chunk)
        if written != len(days):
            raise ValueError(f"features cover {written} of {len(days)} days")
        return complete(room, content, manifest_extra or {})


def _chunks(features: NDArray[np.float32] | Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    if not isinstance(features, np.ndarray):
        yield from features
        return
    whole: NDArray[np.float32] = features
    for first in range(0, max(len(whole), 1), CHUNK_DAYS):
        yield whole[first : first + CHUNK_DAYS]


def write_chunk(room: Room, content: Content, number: int, chunk: NDArray[np.float32]) -> None:
    """Write the features of ``CHUNK_DAYS`` days.

    Raises:
        ValueError: another shape or dtype than the panel's.
    """
    expected = (len(content.days_of(number)), *content.shape[1:])
    if chunk.shape != expected or chunk.dtype != np.float32:
        raise ValueError(f"features of chunk {number} are {chunk.dtype} {chunk.shape}, not float32 {expected}")
    room.write(chunk_name(number), chunk)


def complete(room: Room, content: Content, extra: Mapping[str, Any]) -> Manifest:
    """Write what a panel holds beside its features, and last what it says about itself."""
    with room.placing(DAYS) as part:
        write_table(part, pa.table({"date": pa.array(np.asarray(content.days, "datetime64[D]"))}))
    with room.placing(STOCKS) as part:
        write_table(part, _stocks(content))
    for name, table in content.tables.items():
        room.write(name, table)
    entries = tuple(FeatureEntry(name=name, formula=name, lookback_days=None) for name in content.feature_names)
    stated: dict[str, Any] = {"features": entries, **extra}
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        first_day=content.days[0].astype(object),
        last_day=content.days[-1].astype(object),
        days=content.shape[0],
        stocks=content.shape[1],
        chunk_days=CHUNK_DAYS,
        files=dict(sorted(room.files.items())),
        **stated,
    )
    (room.panel / NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def _stocks(content: Content) -> Any:
    present = np.isfinite(content.tables[CLOSE])
    some = present.any(axis=0)
    ends = [present.argmax(axis=0), len(content.days) - 1 - present[::-1].argmax(axis=0)]
    first, last = (pa.array(np.asarray(content.days, "datetime64[D]")[end], mask=~some) for end in ends)
    stated = {} if content.delisted is None else {"delisted": pa.array(list(content.delisted), pa.date32())}
    return pa.table(
        {
            "code": pa.array(list(content.codes)),
            "industry": pa.array([_name(each) for each in content.industries], pa.string()),
            "market": pa.array(list(content.markets), pa.string()),
            "first_day": first,
            "last_day": last,
            **stated,
        }
    )


def _name(industry: Any) -> str | None:
    if industry is None or isinstance(industry, str):
        return industry
    return str(industry) if industry >= 0 else None


def _as_kept(table: NDArray[Any]) -> NDArray[Any]:
    """A table as it is written: flags as bytes, since Arrow has no tensor of bits; NaN where it is not finite."""
    if table.dtype == bool:
        return table.astype(np.uint8)
    return np.where(np.isfinite(table), table, np.nan) if table.dtype == np.float64 else table
