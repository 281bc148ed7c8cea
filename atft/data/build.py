"""From a long table to a panel, in bounded memory: a few months of days at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft.data import features, normalise, sources
from atft.data.manifest import FeatureEntry, Manifest
from atft.data.panel import CHUNK_DAYS, beside, check_free, write_panel
from atft.data.roles import BARS, Roles, nearest
from atft.errors import UseError

ROWS_AT_ONCE = 500_000
"""Stock-days whose features are computed together, history included: about 1 GiB of intermediate columns."""
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Grid:
    """The bars of a source on all market days.

    Attributes:
        days: ``[days]`` datetime64[D]: every date on which any stock has a row.
        codes: ``[stocks]``, sorted.
        industries: ``[stocks]`` names, None unknown.
        markets: ``[stocks]`` names, None unknown or where the source has none.
        columns: ``[stocks, days]`` float64 per bar column of the source, NaN where missing.
        tradable: ``[stocks, days]`` bool, False where unknown; None where the source does not tell.
        cells: ``[rows of the source]``, place ``day * stocks + stock`` of each row.
    """

    days: NDArray[np.datetime64]
    codes: list[str]
    industries: list[str | None]
    markets: list[str | None]
    columns: dict[str, NDArray[np.float64]]
    tradable: NDArray[np.bool_] | None
    cells: NDArray[np.int64]

    @classmethod
    def of(cls, checked: sources.Checked) -> Grid:
        """Lay the rows of a checked source out by stock and day."""
        bars = checked.bars
        days, day = np.unique(bars["date"].to_numpy(), return_inverse=True)
        codes, stock = np.unique(bars["code"].to_numpy().astype(str), return_inverse=True)
        columns = {}
        for name in (name for name in BARS if name in bars.columns):
            columns[name] = np.full((len(codes), len(days)), np.nan)
            columns[name][stock, day] = bars[name].to_numpy()
        tradable = None
        if "tradable" in bars.columns:
            tradable = np.zeros((len(codes), len(days)), bool)
            tradable[stock, day] = bars["tradable"].fill_null(False).to_numpy()
        return cls(
            days=days.astype("datetime64[D]"),
            codes=codes.tolist(),
            industries=_first_of(bars, "industry", codes.tolist()),
            markets=_first_of(bars, "market", codes.tolist()),
            columns=columns,
            tradable=tradable,
            cells=day * len(codes) + stock,
        )

    def numbers(self) -> NDArray[np.int32]:
        """``[stocks]`` int32, a number per industry, -1 unknown."""
        place = {name: number for number, name in enumerate(sorted({name for name in self.industries if name}))}
        return np.array([-1 if name is None else place[name] for name in self.industries], np.int32)

    def span(self, first: int, last: int) -> dict[str, NDArray[np.float64]]:
        """Bars of days ``first`` to ``last - 1`` with ``features.HISTORY`` days in front, NaN before the calendar."""
        start = first - features.HISTORY
        front = max(0, -start)
        return {
            name: np.pad(values[:, max(0, start) : last], ((0, 0), (front, 0)), constant_values=np.nan)
            for name, values in self.columns.items()
        }


def _first_of(bars: pl.DataFrame, column: str, codes: Sequence[str]) -> list[str | None]:
    """What the first row of each stock says, even where that is unknown: what is stated later was not known before."""
    if column not in bars.columns:
        return [None] * len(codes)
    named = dict(bars.select("code", column).unique("code", keep="first", maintain_order=True).iter_rows())
    return [named.get(code) for code in codes]


def build(
    source: str | Path,
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

    Args:
        source: Parquet or CSV file, or a directory of them.
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
    source, out, roles = Path(source), Path(out), roles or Roles()
    tell = progress or (lambda stage, part: None)
    check_free(out, overwrite)
    method = _method(normalise)
    tell("read", 0.0)
    checked = sources.read(source, roles, strict=strict, most_bad=most_bad)
    names, left_out = choose(computed, checked)
    grid = Grid.of(checked)
    tell("read", 1.0)
    entries = [features.BY_NAME[name] for name in names]
    extra = {
        "source": source.name,
        "roles": roles,
        "normalise": normalise,
        "features": (
            *(FeatureEntry(name=f.name, formula=f.formula, lookback_days=f.lookback_days) for f in entries),
            *(FeatureEntry(name=n, formula=f"column {n}", lookback_days=None) for n in checked.own_names),
        ),
        "left_out": left_out,
        "rows_read": checked.rows_read,
        "rows_kept": checked.bars.height,
        "counts": checked.counts,
    }
    with _own(out, checked, grid) as own:
        return write_panel(
            out,
            days=grid.days,
            codes=grid.codes,
            industries=grid.industries,
            feature_names=[*names, *checked.own_names],
            close=grid.columns["close"].T,
            open=grid.columns["open"].T if "open" in grid.columns else None,
            volume=grid.columns["volume"].T if "volume" in grid.columns else None,
            tradable=None if grid.tradable is None else grid.tradable.T,
            markets=grid.markets,
            features=_chunks(grid, names, own, method, tell),
            manifest_extra=extra,
            overwrite=overwrite,
        )


def _method(name: str) -> Callable[[normalise.Rows], normalise.Rows]:
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


@dataclass(frozen=True)
class _Own:
    """Own features laid out by day in a scratch file, read (not mapped) so that memory holds what is asked for only."""

    names: tuple[str, ...]
    days: int
    stocks: int
    file: IO[bytes] | None

    def read(self, place: int, first: int, last: int) -> NDArray[np.float32]:
        """``[last - first, stocks]`` of one feature."""
        assert self.file is not None
        self.file.seek(4 * self.stocks * (place * self.days + first))
        values = np.frombuffer(self.file.read(4 * self.stocks * (last - first)), np.float32)
        return values.reshape(last - first, self.stocks)


@contextlib.contextmanager
def _own(out: Path, checked: sources.Checked, grid: Grid) -> Iterator[_Own]:
    """The own features, in a scratch directory beside ``out``."""
    days, stocks = len(grid.days), len(grid.codes)
    if not checked.own_names:
        yield _Own((), days, stocks, None)
        return
    with beside(out) as folder, (folder / "own").open("w+b") as file:
        for name in checked.own_names:
            values = np.full(days * stocks, np.nan, np.float32)
            values[grid.cells] = checked.own(name)
            file.write(values.data)
        yield _Own(checked.own_names, days, stocks, file)


def _chunks(
    grid: Grid,
    names: Sequence[str],
    own: _Own,
    method: Callable[[normalise.Rows], normalise.Rows],
    tell: Progress,
) -> Iterator[NDArray[np.float32]]:
    """Normalised features ``[CHUNK_DAYS, stocks, features]``, chunk by chunk."""
    days, stocks, numbers = len(grid.days), len(grid.codes), grid.numbers()
    absent = ~np.isfinite(grid.columns["close"]).T
    at_once = max(1, (ROWS_AT_ONCE // stocks - features.HISTORY) // CHUNK_DAYS) * CHUNK_DAYS

    def scaled(day: int, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        rows[:, absent[day]] = np.nan
        return method(rows)

    with ThreadPoolExecutor() as pool:
        for first in range(0, days, at_once):
            tell("features", first / days)
            last = min(first + at_once, days)
            made = np.empty((last - first, len(names) + len(own.names), stocks), np.float32)
            for place, (_, values) in enumerate(features.compute(grid.span(first, last), numbers, names)):
                made[:, place] = values
            for place in range(len(own.names)):
                made[:, len(names) + place] = own.read(place, first, last)
            for start in range(0, last - first, CHUNK_DAYS):
                block = made[start : start + CHUNK_DAYS]
                chunk = np.empty((len(block), stocks, made.shape[1]), np.float32)
                numbered = range(first + start, first + start + len(block))
                for place, rows in enumerate(pool.map(scaled, numbered, block)):
                    chunk[place] = rows.T
                yield chunk
    tell("features", 1.0)
