"""Long tables of daily bars, read and checked: the ambiguous is refused, the blemished repaired and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft.data.roles import BARS, PRICES, UNKNOWN_INDUSTRIES, Roles, nearest
from atft.errors import UseError

BIG_MOVE = 0.5
_SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv"}
_OWN_AT_ONCE = 16
T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """A source whose rows can be relied on.

    Attributes:
        bars: ``date`` (Date), ``code`` (String), ``open high low close volume`` (Float64, null where missing; a price
            that the source lacks has no column), ``industry`` (String, null where unknown), sorted by code, date.
        own_names: own feature columns, in order.
        counts: rows (or values of own features) repaired or dropped, by reason; and what is worth a look.
        rows_read: rows in the source.
        path: of the source.
    """

    bars: pl.DataFrame
    own_names: tuple[str, ...]
    counts: dict[str, int]
    rows_read: int
    path: Path
    _scan: pl.LazyFrame
    _rows: NDArray[np.int64]

    def own_columns(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Own features one by one: name and ``[rows of bars]`` float32, NaN where missing.

        Read from the source when asked for, a few at a time, so that it is not gone through for each of them.
        """
        for start in range(0, len(self.own_names), _OWN_AT_ONCE):
            batch = list(self.own_names[start : start + _OWN_AT_ONCE])
            table = _own_columns(self._scan, batch, self.path)
            for name in batch:
                kept = table[name].to_numpy()[self._rows]
                kept[~np.isfinite(kept)] = np.nan
                yield name, kept

    @property
    def frame(self) -> pl.DataFrame:
        """``bars`` with the own features (Float32) behind."""
        own = [pl.Series(name, values, nan_to_null=True) for name, values in self.own_columns()]
        return self.bars.hstack(own)


def read(path: str | Path, roles: Roles | None = None, *, strict: bool = False, most_bad: float = 0.01) -> Checked:
    """Read and check a Parquet or CSV file, or a directory of them.

    Args:
        path: of the file or directory.
        roles: which column is which.
        strict: refuse any blemish, and rows out of order.
        most_bad: largest share of blemished rows that is repaired.

    Raises:
        UseError: missing or unreadable file, missing column, wrong type, nothing in a column, no rows, a single stock
            or day, two different rows for one (date, code), a constant own feature, or too many blemished rows.
    """
    path, roles = Path(path), roles or Roles()
    scan = _scan(path, roles)
    schema = _guard(path, scan.collect_schema)
    _check_columns(path, roles, schema)
    own_names = tuple(roles.own(schema.names()))
    bars = _canonical(path, scan, roles, schema)
    _check_filled(path, roles, bars)
    rows_read, counts = bars.height, dict[str, int]()
    late = pl.col("date") < pl.col("date").shift(1).over("code")
    counts["out of order"] = bars.select(late.sum()).item()
    bars = bars.sort("code", "date", "row")
    bad_own = _check_own(path, scan, own_names, bars, counts)
    bars = bars.with_columns(pl.Series("bad", bad_own[bars["row"].to_numpy()]))
    bars = _drop_repeated(path, bars, counts)
    bars = _repair(bars, counts)
    blemished = counts.pop("blemished rows")
    counts = {reason: number for reason, number in counts.items() if number}
    _check_share(path, blemished, rows_read, counts, strict, most_bad)
    _check_size(path, bars)
    counts |= {reason: number for reason, number in _notes(bars).items() if number}
    rows = bars["row"].to_numpy().astype(np.int64)
    return Checked(bars.drop("row", "bad"), own_names, counts, rows_read, path, scan, rows)


def _guard(path: Path, act: Callable[[], T]) -> T:
    try:
        return act()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise UseError(
            f"{path}: cannot be read: {reason}. Mend: write it again; it may be truncated, or not what its name says."
        ) from None


def _files(path: Path) -> tuple[list[Path], str]:
    if not path.exists():
        raise UseError(f"{path}: no such file or directory. Mend: a Parquet or CSV file, or a directory of them.")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES) if path.is_dir() else [path]
    kinds = {_SUFFIXES.get(file.suffix.lower(), file.suffix) for file in found}
    if len(kinds) != 1 or not kinds <= set(_SUFFIXES.values()):
        seen = ", ".join(sorted(kinds)) or "no such file"
        raise UseError(f"{path}: must be Parquet (.parquet, .pq) or CSV (.csv), of one kind only; found: {seen}.")
    return found, kinds.pop()


def _scan(path: Path, roles: Roles) -> pl.LazyFrame:
    files, kind = _files(path)
    if kind == "parquet":
        return _guard(path, lambda: pl.scan_parquet(files, glob=False, hive_partitioning=False))
    head = _guard(path, lambda: pl.scan_csv(files, glob=False, infer_schema_length=0).collect_schema())
    text = {name: pl.String for name in (roles.date, roles.code, roles.industry) if name is not None and name in head}
    return _guard(path, lambda: pl.scan_csv(files, glob=False, infer_schema_length=None, schema_overrides=text))


def _check_columns(path: Path, roles: Roles, schema: pl.Schema) -> None:
    for role, column in roles.columns().items():
        if column not in schema:
            optional = "" if role in ("date", "code", "close") else f", or '{role}: null' if the source has none"
            raise UseError(
                f"{path}: no column {column!r} for role {role}. {nearest(column, schema.names())} "
                f"Mend: '{role}: COLUMN' in the roles{optional}."
            )
        wrong = _wrong_type(role, schema[column])
        if wrong:
            raise UseError(f"{path}: column {column!r} (role {role}) is {schema[column]}, not {wrong}.")
    for column in roles.own(schema.names()):
        if not schema[column].is_numeric():
            raise UseError(f"{path}: own feature {column!r} is {schema[column]}, not a number.")


def _wrong_type(role: str, dtype: pl.DataType) -> str:
    """What the column should have been, or an empty string."""
    if role == "date":
        return "" if dtype in (pl.Date, pl.Datetime, pl.String) else "a date"
    if role in ("code", "industry"):
        fits = dtype in (pl.String, pl.Categorical, pl.Enum) or dtype.is_integer()
        return "" if fits else "text or a whole number"
    return "" if dtype.is_numeric() else "a number"


def _canonical(path: Path, scan: pl.LazyFrame, roles: Roles, schema: pl.Schema) -> pl.DataFrame:
    """The roles' columns under their roles' names and types, with the ``row`` they stand on in the source."""
    columns = roles.columns()
    raw = _guard(path, lambda: scan.select(pl.col(column).alias(role) for role, column in columns.items()).collect())
    numbers = [pl.col(role).cast(pl.Float64) for role in BARS if role in columns]
    dates = _dates(path, roles, raw, schema[columns["date"]])
    made = raw.select(
        pl.int_range(pl.len()).alias("row"),
        dates.alias("date"),
        pl.col("code").cast(pl.String),
        *(x.replace(float("nan"), None) if x.meta.output_name() != "close" else x for x in numbers),
        *([_industry()] if roles.industry else []),
    )
    if made.height == 0:
        raise UseError(f"{path}: holds no rows. Mend: a table with one row per (date, code).")
    for role in ("date", "code"):
        empty = made[role].null_count()
        if empty:
            raise UseError(f"{path}: {empty} of {made.height} rows have no {role} (column {columns[role]!r}).")
    return made


def _industry() -> pl.Expr:
    name = pl.col("industry").cast(pl.String).str.strip_chars()
    return pl.when(~name.str.to_lowercase().is_in(UNKNOWN_INDUSTRIES)).then(name).alias("industry")


def _dates(path: Path, roles: Roles, raw: pl.DataFrame, dtype: pl.DataType) -> pl.Series:
    given = raw["date"]
    if dtype == pl.Date:
        return given
    if dtype == pl.String:
        made, wanted = given.str.to_date("%Y-%m-%d", strict=False), "ISO dates such as 2017-12-08"
        wrong = made.is_null() & given.is_not_null()
    else:
        made, wanted = given.dt.date(), "days (timestamps at midnight): intraday rows are not daily bars"
        wrong = raw.select((pl.col("date").dt.time() != pl.time(0)).fill_null(False)).to_series()
    if wrong.any():
        raise UseError(
            f"{path}: column {roles.date!r} (role date) must hold {wanted}; {wrong.sum()} of {raw.height} rows do not, "
            f"the first is {given.filter(wrong)[0]}."
        )
    return made


def _check_filled(path: Path, roles: Roles, bars: pl.DataFrame) -> None:
    for role, column in roles.columns().items():
        values = bars[role]
        if values.null_count() == bars.height or (role == "close" and values.is_nan().all()):
            optional = "" if role == "close" else f" Mend: '{role}: null' in the roles if the source has none."
            raise UseError(f"{path}: column {column!r} (role {role}) is empty in all {bars.height} rows.{optional}")


def _own_columns(scan: pl.LazyFrame, names: list[str], path: Path) -> pl.DataFrame:
    return _guard(path, lambda: scan.select(pl.col(name).cast(pl.Float32, strict=False) for name in names).collect())


def _check_own(
    path: Path, scan: pl.LazyFrame, names: tuple[str, ...], bars: pl.DataFrame, counts: dict[str, int]
) -> NDArray[np.bool_]:
    """``[rows of the source]``: True where an own feature is infinite. Columns are read a few at a time."""
    infinite = np.zeros(bars.height, bool)
    same = bars.select((pl.col("code") == pl.col("code").shift(1)) & (pl.col("date") == pl.col("date").shift(1)))
    second = np.flatnonzero(same.to_series().fill_null(False).to_numpy())
    rows = bars["row"].to_numpy()
    for start in range(0, len(names), _OWN_AT_ONCE):
        batch = list(names[start : start + _OWN_AT_ONCE])
        table = _own_columns(scan, batch, path)
        for name in batch:
            values = table[name].to_numpy()
            _check_varies(path, name, values)
            _check_repeats(path, bars, second, name, values[rows[second]], values[rows[second - 1]])
            wrong = np.isinf(values)
            counts[f"{name} infinite"] = int(wrong.sum())
            infinite |= wrong
    return infinite


def _check_varies(path: Path, name: str, values: NDArray[np.float32]) -> None:
    known = values[np.isfinite(values)]
    if known.size == 0:
        raise UseError(
            f"{path}: own feature {name!r} is empty in all {values.size} rows. Mend: leave it out of the roles."
        )
    if known.min() == known.max():
        raise UseError(
            f"{path}: own feature {name!r} is {known[0]:g} in all of its {known.size} values and can tell no stock "
            "from another. Mend: leave it out of roles.features."
        )


def _check_repeats(
    path: Path,
    bars: pl.DataFrame,
    second: NDArray[np.intp],
    name: str,
    later: NDArray[np.float32],
    earlier: NDArray[np.float32],
) -> None:
    differ = ~((later == earlier) | (np.isnan(later) & np.isnan(earlier)))
    if differ.any():
        _refuse_conflict(path, bars, second[differ], name)


def _refuse_conflict(path: Path, bars: pl.DataFrame, rows: NDArray[np.intp], what: str) -> None:
    date, code = bars["date"][int(rows[0])], bars["code"][int(rows[0])]
    raise UseError(
        f"{path}: {len(rows)} rows repeat a (date, code) with other values, the first on {date} for {code!r}, in {what}"
        ". Which one holds cannot be told. Mend: keep one row per (date, code)."
    )


def _drop_repeated(path: Path, bars: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
    again = (pl.col("code") == pl.col("code").shift(1)) & (pl.col("date") == pl.col("date").shift(1))
    repeated = bars.select(again.fill_null(False)).to_series()
    for name in (role for role in (*BARS, "industry") if role in bars.columns):
        differ = bars.select(~pl.col(name).eq_missing(pl.col(name).shift(1))).to_series() & repeated
        if differ.any():
            _refuse_conflict(path, bars, np.flatnonzero(differ.to_numpy()), name)
    counts["repeated rows"] = int(repeated.sum())
    return bars.filter(~repeated)


def _repair(bars: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
    """Blemished values taken out, rows without a close dropped; ``counts`` gets the reasons and the rows touched."""
    touched = bars["bad"].to_numpy().copy()

    def found(reason: str, condition: pl.Expr) -> pl.Series:
        wrong = bars.select(condition.fill_null(False)).to_series()
        counts[reason] = counts.get(reason, 0) + int(wrong.sum())
        touched[wrong.to_numpy()] = True
        return wrong

    close = pl.col("close")
    dropped = found("close missing", close.is_null() | close.is_nan())
    dropped |= found("close infinite", close.is_infinite())
    dropped |= found("close not positive", close.is_finite() & (close <= 0))
    for name in (name for name in (*PRICES, "volume") if name in bars.columns and name != "close"):
        least = pl.col(name) < 0 if name == "volume" else pl.col(name) <= 0
        wrong = found(f"{name} infinite", pl.col(name).is_infinite())
        wrong |= found(
            f"{name} negative" if name == "volume" else f"{name} not positive", pl.col(name).is_finite() & least
        )
        bars = bars.with_columns(pl.when(~wrong).then(name).alias(name))
    crossed = pl.Series([False]).new_from_index(0, bars.height)
    if {"high", "low"} <= set(bars.columns):
        crossed |= found("high below low", pl.col("high") < pl.col("low"))
    ends = [~pl.lit(dropped) & (pl.lit(crossed) == False)]  # noqa: E712
    outside = [close > pl.col("high")] * ("high" in bars.columns) + [close < pl.col("low")] * ("low" in bars.columns)
    if outside:
        crossed |= found("close outside low to high", ends[0] & pl.any_horizontal(outside))
    others = [name for name in PRICES if name in bars.columns and name != "close"]
    bars = bars.with_columns(pl.when(~crossed).then(name).alias(name) for name in others)
    counts["blemished rows"] = int(touched.sum()) + counts["repeated rows"]
    return bars.filter(~dropped)


def _check_share(path: Path, blemished: int, rows: int, counts: dict[str, int], strict: bool, most_bad: float) -> None:
    told = ", ".join(f"{reason}: {number}" for reason, number in counts.items())
    if strict and counts:
        raise UseError(
            f"{path}: blemished, and strict allows nothing ({told}; {rows} rows). Mend: the source, or no strict."
        )
    if blemished > most_bad * rows:
        raise UseError(
            f"{path}: {blemished} of {rows} rows are blemished ({blemished / rows:.2%}; {told}), above most_bad = "
            f"{most_bad:.2%}. Mend: check the roles (adjusted closes beside unadjusted highs?), or raise most_bad."
        )


def _check_size(path: Path, bars: pl.DataFrame) -> None:
    for what, least, mend in (
        ("code", 2, "a cross-section needs at least 2 stocks"),
        ("date", 2, "a return needs 2 days"),
    ):
        number = bars[what].n_unique()
        if number < least:
            raise UseError(f"{path}: {bars.height} usable rows hold {number} different {what}: {mend}.")


def _notes(bars: pl.DataFrame) -> dict[str, int]:
    """What is worth a look but is left as it is."""
    move = pl.col("close") / pl.col("close").shift(1).over("code") - 1
    notes = {f"daily moves above {BIG_MOVE:.0%} (kept)": int(bars.select((move.abs() > BIG_MOVE).sum()).item())}
    if "industry" in bars.columns:
        groups = bars.group_by("code").agg(pl.col("industry").drop_nulls().n_unique().alias("groups"))
        notes["stocks whose industry changes (first kept)"] = groups.filter(pl.col("groups") > 1).height
        first, known = pl.col("industry").first(), pl.col("industry").count()
        late = bars.group_by("code").agg((first.is_null() & (known > 0)).alias("late"))
        notes["stocks whose industry is known only later (left unknown)"] = int(late["late"].sum())
    return notes
