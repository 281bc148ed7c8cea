"""From a long table to a panel, in bounded memory, going on where a killed build stopped; and new days to a panel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from atft.data import append as appending
from atft.data import features, normalise, sources
from atft.data.chunks import Method, Recipe
from atft.data.files import Source, locate
from atft.data.grid import Grid, RowHashes, sha256_of_rows
from atft.data.manifest import SCHEMA_VERSION, FeatureEntry, Manifest
from atft.data.own_file import Own
from atft.data.panel import Panel
from atft.data.roles import Roles, nearest
from atft.data.room import Room, check_free, making
from atft.data.tensors import CLOSE, LABEL, OPEN, ROWS, TRADABLE, VOLUME, chunk_name
from atft.data.writing import Content, complete, write_chunk
from atft.errors import UseError

Progress = Callable[[str, float], None]
_CODE, _LIBRARIES = (
    ("chunks", "features", "grid", "normalise", "own_file", "tensors", "windows", "writing"),
    ("numpy", "polars", "pyarrow"),
)
"""What the bytes of a feature depend on, beside the rows."""
_KEPT = {CLOSE: "close", OPEN: "open", VOLUME: "volume", LABEL: "label"}
"""Columns of a source that a panel keeps as they are, by name of the file."""


@dataclass(frozen=True)
class _Order:
    """What is to be made of a source.

    Attributes:
        source: the table.
        roles: which column is which.
        normalise: method of scaling.
        computed: all features that the source allows, none, or these.
        strict: refuse any blemished row.
        most_bad: largest share of blemished rows that is repaired.
    """

    source: Source
    roles: Roles
    normalise: str
    computed: bool | Sequence[str]
    strict: bool
    most_bad: float


def build(
    source: str | Path | Source,
    out: str | Path,
    roles: Roles | None = None,
    *,
    normalise: Literal["rank", "zscore"] | str = "rank",
    computed: bool | Sequence[str] = True,
    strict: bool = False,
    most_bad: float = 0.01,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Build the panel ``out`` from the table ``source``.

    A build that is killed leaves the panel that was at ``out`` as it was, and its finished chunks in ``.NAME.build``
    beside it; the same build goes on from them, another one removes them. The bytes of the panel are the same.

    Args:
        source: Parquet or CSV file, or a directory of them, or its files.
        out: directory to make; it appears when it is whole.
        roles: which column is which.
        normalise: ``rank`` or ``zscore``, over each day's stocks.
        computed: all features that the source allows, none, or these (by name).
        strict: refuse any blemished row.
        most_bad: largest share of blemished rows that is repaired.
        overwrite: replace a panel that is there.
        progress: called with the stage's name and the part of it that is done, 0 to 1.

    Raises:
        UseError: a source that cannot be relied on, an unknown feature, or a target that cannot be written.
    """
    tell = progress or (lambda stage, part: None)
    check_free(Path(out), overwrite)
    order = _Order(locate(source), roles or Roles(), normalise, computed, strict, most_bad)
    return _make(order, Path(out), overwrite, None, tell)


def append(
    panel: str | Path,
    source: str | Path | Source,
    *,
    roles: str | Path | None = None,
    strict: bool = False,
    most_bad: float = 0.01,
    progress: Progress | None = None,
) -> Manifest:
    """Bring ``panel`` up to the last day of ``source``, a table that goes on from the one it was built from.

    The panel that comes out is, to the last byte, the one that a new build of ``source`` with the panel's options, and
    its roles or ``roles``, would make. Chunks of whole old days are kept (linked, or laid out anew where new stocks
    came); the rest is computed. New stocks may appear on new days; old rows must be as they were.

    Args:
        panel: directory that :func:`build` made; the new panel takes its place when it is whole.
        source: the whole table, old days and new.
        roles: YAML file with the panel's roles and the hours of markets that begin on the new days; without one, the
            panel's.
        strict: refuse any blemished row.
        most_bad: largest share of blemished rows that is repaired.
        progress: called with the stage's name and the part of it that is done, 0 to 1.

    Raises:
        UseError: a row of an old day that was revised, added or taken away (the first one is named), roles that differ
            by more than added markets, a panel made by other code, or what :func:`build` refuses.
    """
    tell = progress or (lambda stage, part: None)
    old = Panel.open(panel)
    appending.check_panel(old, made_by())
    told = old.manifest
    assert told.roles is not None
    stated = told.roles if roles is None else appending.extended(old, Roles.read(roles), roles)
    order = _Order(locate(source), stated, told.normalise, appending.computed_in(told), strict, most_bad)
    return _make(order, Path(panel), True, appending.Appending(old, order.source, roles), tell)


def _make(order: _Order, out: Path, overwrite: bool, append_to: appending.Appending | None, tell: Progress) -> Manifest:
    method = _method(order.normalise)
    tell("read", 0.0)
    checked = sources.read(order.source, order.roles, strict=order.strict, most_bad=order.most_bad)
    names, left_out = choose(order.computed, checked)
    grid = Grid.of(checked)
    told = _told(order, checked, grid, names, left_out)
    tell("read", 1.0)
    old = append_to.old if append_to else None
    if append_to:
        append_to.check_features(told["features"])
    begin = 0 if old is None else appending.whole_days(old)
    with making(out, overwrite, tell) as room:
        kept = begin if old is not None and old.codes == grid.codes else 0
        room.check_space(_needed(grid, len(names), len(checked.own_names), begin, kept))
        hashes = RowHashes(grid)
        own = Own.laid_out(room.folder / "own", checked, grid, begin, hashes)
        del checked  # its rows are in the grid now, and take a gigabyte where that takes a fifth of it
        tables = {**_tables(grid), ROWS: hashes.table()}
        content = Content.of(
            grid.days, grid.codes, grid.industries, grid.markets, [*names, *own.names], tables, grid.delisted
        )
        if append_to:
            append_to.check_unrevised(content)
        room.resume(_fingerprint(told, sha256_of_rows(grid, tables[ROWS])))
        if old is not None:
            appending.keep_chunks(room, old, content)
        _write(room, content, Recipe(grid, names, own, method), tell)
        return complete(room, content, told)


def _told(
    order: _Order, checked: sources.Checked, grid: Grid, names: list[str], left_out: dict[str, str]
) -> dict[str, Any]:
    """What the manifest says of where a panel came from."""
    entries = [features.BY_NAME[name] for name in names]
    longest = max((feature.lookback_days for feature in entries), default=0)
    calendars = grid.calendars()
    return {
        "source": order.source.name,
        "roles": order.roles,
        "normalise": order.normalise,
        "features": (
            *(FeatureEntry(name=f.name, formula=f.formula, lookback_days=f.lookback_days) for f in entries),
            *(FeatureEntry(name=n, formula=f"column {n}", lookback_days=None) for n in checked.own_names),
        ),
        "left_out": left_out,
        "rows_read": checked.rows_read,
        "rows_kept": checked.bars.height,
        "counts": checked.counts,
        "sessions": checked.sessions,
        "made_by": made_by(),
        "longest_span": max(each.longest(longest) for each in calendars) if len(calendars) > 1 else 0,
    }


def made_by() -> str:
    """Hash of the code and the versions of the libraries that features depend on."""
    code = hashlib.sha256()
    for name in _CODE:
        code.update((Path(__file__).parent / f"{name}.py").read_bytes())
    for library in _LIBRARIES:
        code.update(f"{library} {metadata.version(library)}".encode())
    return code.hexdigest()


def _fingerprint(told: dict[str, Any], rows: str) -> str:
    """Of all that the files of a panel depend on."""
    stated = {name: told[name] for name in ("normalise", "features", "made_by")}
    return hashlib.sha256(f"{SCHEMA_VERSION} {rows} {stated}".encode()).hexdigest()


def _tables(grid: Grid) -> dict[str, NDArray[Any]]:
    """``[days, stocks]`` by name of the file."""
    kept = {name: grid.columns.get(column) for name, column in _KEPT.items()}
    return {name: table.T for name, table in {**kept, TRADABLE: grid.tradable}.items() if table is not None}


def _needed(grid: Grid, computed: int, own: int, begin: int, kept: int) -> int:
    """Bytes on disk while a panel is made: own features from day ``begin``, all features from day ``kept``, tables."""
    days, stocks = len(grid.days), len(grid.codes)
    tables = (2 + len({"open", "volume", "label"} & grid.columns.keys())) * 8 + (grid.tradable is not None)
    return stocks * (4 * own * (days - begin) + 4 * (computed + own) * (days - kept) + tables * days)


def _write(room: Room, content: Content, recipe: Recipe, tell: Progress) -> None:
    """The chunks that are not there yet."""
    wanted = [number for number in range(content.chunks) if chunk_name(number) not in room.files]
    tell("features", 1 - len(wanted) / content.chunks)
    for number, chunk in recipe.chunks(wanted):
        write_chunk(room, content, number, chunk)
        left = sum(chunk_name(each) not in room.files for each in wanted)
        tell("features", 1 - left / content.chunks)


def _method(name: str) -> Method:
    if name not in normalise.METHODS:
        raise UseError(f"normalise = {name!r} is not known. Mend: one of {', '.join(normalise.METHODS)}.")
    return normalise.METHODS[name]


def choose(computed: bool | Sequence[str], checked: sources.Checked) -> tuple[list[str], dict[str, str]]:
    """Names of the features to compute, and those left out with the inputs they lack.

    Raises:
        UseError: unknown names, names whose inputs the source lacks, or nothing at all to compute.
    """
    wanted = list(features.BY_NAME) if computed is True else list(computed or ())
    for name in wanted:
        if name not in features.BY_NAME:
            raise UseError(f"computed: no feature is called {name!r}. {nearest(name, list(features.BY_NAME))}")
    lacking = {name: features.missing_inputs(name, checked.bars.columns) for name in dict.fromkeys(wanted)}
    left_out = {name: f"needs {', '.join(lacks)}" for name, lacks in lacking.items() if lacks}
    if left_out and computed is not True:
        name, needs = next(iter(left_out.items()))
        raise UseError(
            f"computed: {name!r} {needs}, which the source {checked.path} lacks. Mend: the roles, or leave it out."
        )
    names = [name for name in lacking if name not in left_out]
    both = sorted(set(names) & set(checked.own_names))
    if both:
        raise UseError(f"own feature {both[0]!r} has the name of a computed one. Mend: rename the column.")
    if not names and not checked.own_names:
        raise UseError(
            "the panel would hold no features. Mend: name own features in the roles, or let some be computed."
        )
    return names, left_out
