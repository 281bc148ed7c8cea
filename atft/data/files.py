"""Where a source lies: its files, here or in an object store, as one lazy table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar
from urllib.parse import unquote

import polars as pl
import polars.selectors as cs

from atft.errors import UseError

Kind = Literal["parquet", "csv"]
KINDS: tuple[Kind, ...] = ("parquet", "csv")
SUFFIXES: Mapping[str, Kind] = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv"}
Parts = tuple[tuple[str, str], ...]
"""``(key, value)`` of each ``key=value`` directory that a file lies in."""
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """The files of a table.

    Attributes:
        place: of the file or directory, as the user named it.
        files: paths or URIs, in the order in which their rows are read.
        kind: of all of them.
        parts: of each file, what its ``key=value`` directories say (hive partitions); the same keys for all.
        storage: options of Polars' object store; None for files here.
    """

    place: str
    files: tuple[str, ...]
    kind: Kind
    parts: tuple[Parts, ...]
    storage: Mapping[str, str] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.place

    @property
    def name(self) -> str:
        """Last part of the place."""
        return PurePosixPath(self.place.partition("?")[0]).name

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that the directories' names give."""
        return tuple(key for key, _ in self.parts[0])

    def scan(self, text: Iterable[str] = ()) -> pl.LazyFrame:
        """All rows, lazily; partition keys are text, and count where a file holds a column of that name too.

        Args:
            text: columns of a CSV that are text, whatever they look like (a code 007 stays one).

        Raises:
            UseError: files that cannot be read, or that do not hold the same columns.
        """
        if self.kind == "parquet":
            return self._parquet(self.files, hive=bool(self.keys))
        head = guard(self.place, self._csv(self.files, 0, {}).collect_schema)
        types: dict[str, type[pl.DataType]] = {name: pl.String for name in text if name in head}
        if not self.keys:
            return self._csv(self.files, None, types)
        return guard(self.place, lambda: pl.concat(self._partitions(types), how="vertical_relaxed"))

    def contradictions(self, column: str) -> int:
        """Rows whose own column ``column`` is not what the directory that they lie in says."""
        if column not in self.keys or self.kind != "parquet":
            return 0
        plain = self._parquet(self.files, hive=False)
        if column not in guard(self.place, plain.collect_schema):
            return 0
        stated, own = (self._column(scan, column) for scan in (self.scan(), plain))
        return int(stated.ne_missing(own).sum())

    def _column(self, scan: pl.LazyFrame, column: str) -> pl.Series:
        return guard(self.place, lambda: scan.select(cs.by_name(column).cast(pl.String)).collect().to_series())

    def _parquet(self, files: Sequence[str], *, hive: bool) -> pl.LazyFrame:
        schema = dict.fromkeys(self.keys, pl.String) if hive else None
        return guard(
            self.place,
            lambda: pl.scan_parquet(
                list(files), glob=False, hive_partitioning=hive, hive_schema=schema, storage_options=self._options()
            ),
        )

    def _csv(self, files: Sequence[str], rows: int | None, types: Mapping[str, type[pl.DataType]]) -> pl.LazyFrame:
        return guard(
            self.place,
            lambda: pl.scan_csv(
                list(files),
                glob=False,
                infer_schema_length=rows,
                schema_overrides=dict(types),
                storage_options=self._options(),
            ),
        )

    def _options(self) -> dict[str, str] | None:
        return None if self.storage is None else dict(self.storage)

    def _partitions(self, types: Mapping[str, type[pl.DataType]]) -> list[pl.LazyFrame]:
        together: dict[Parts, list[str]] = {}
        for file, parts in zip(self.files, self.parts):
            together.setdefault(parts, []).append(file)
        return [
            self._csv(files, None, types).with_columns(
                pl.lit(None if value == NO_VALUE else value, pl.String).alias(key) for key, value in parts
            )
            for parts, files in together.items()
        ]


def locate(place: str | Path | Source) -> Source:
    """The files at ``place`` on this machine: a Parquet or CSV file, or a directory of files of one kind.

    Raises:
        UseError: nothing there, files of two kinds, or directories that name different keys.
    """
    if isinstance(place, Source):
        return place
    path = Path(place)
    if not path.exists():
        raise UseError(f"{path}: no such file or directory. Mend: a Parquet or CSV file, or a directory of them.")
    if not path.is_dir():
        return named(str(path), {path.name: str(path)})
    found = (each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES)
    return named(str(path), {each.relative_to(path).as_posix(): str(each) for each in found})


def named(place: str, files: Mapping[str, str], storage: Mapping[str, str] | None = None) -> Source:
    """A source of these files.

    Args:
        place: as the user named it.
        files: name relative to the place → path or URI.
        storage: options of Polars' object store.

    Raises:
        UseError: no file, files of two kinds, or directories that name different keys.
    """
    names = sorted(files)
    kinds = {SUFFIXES.get(PurePosixPath(name).suffix.lower(), PurePosixPath(name).suffix or name) for name in names}
    kind: Kind | None = next((each for each in KINDS if kinds == {each}), None)
    if kind is None:
        seen = ", ".join(sorted(map(str, kinds))) or "no such file"
        raise UseError(
            f"{place}: must be Parquet (.parquet, .pq) or CSV (.csv), of one kind only; found: {seen}. "
            "Mend: name a file, or a directory that holds nothing else of the other kind."
        )
    parts = tuple(_parts(name) for name in names)
    keys = sorted({tuple(key for key, _ in each) for each in parts})
    if len(keys) != 1 or len(set(keys[0])) != len(keys[0]):
        raise UseError(
            f"{place}: its key=value directories do not name the same keys once each: "
            f"{'; '.join('/'.join(each) or 'none' for each in keys[:4])}. Mend: one layout for all files."
        )
    return Source(place, tuple(files[name] for name in names), kind, parts, storage)


def _parts(name: str) -> Parts:
    folders = (folder.partition("=") for folder in PurePosixPath(name).parts[:-1])
    return tuple((key, unquote(value)) for key, mark, value in folders if mark and key)


def guard(place: str, act: Callable[[], T]) -> T:
    """What ``act`` gives; failures of Polars and of files become a user's error about ``place``.

    Raises:
        UseError: as said.
    """
    try:
        return act()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise UseError(
            f"{place}: cannot be read: {reason}. Mend: write it again; it may be truncated, or not what its name says."
        ) from None
