"""The columns of a source under their roles' names and types; what has another type or no values is refused."""

from __future__ import annotations

import datetime as dt

import polars as pl
import polars.selectors as cs

from atft.data.files import Source, guard
from atft.data.roles import BARS, UNKNOWN_INDUSTRIES, Roles, nearest
from atft.errors import UseError

FIRST_DATE, LAST_DATE = dt.date(1700, 1, 1), dt.date(2199, 12, 31)
"""Dates outside are misread numbers."""
TRUE, FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")
_DATES = ("date", "listed", "delisted")
_TEXTS = ("code", "industry", "market")


def check_columns(source: Source, roles: Roles, schema: pl.Schema) -> None:
    """Refuse a column that is not there, of a wrong type, or contradicted by the directory that its file lies in.

    Raises:
        UseError: as said.
    """
    for role, column in roles.columns().items():
        if column not in schema:
            optional = "" if role in ("date", "code", "close") else f", or '{role}: null' if the source has none"
            raise UseError(
                f"{source}: no column {column!r} for role {role}. {nearest(column, schema.names())} "
                f"Mend: '{role}: COLUMN' in the roles{optional}."
            )
        wrong = _wrong_type(role, schema[column])
        if wrong:
            raise UseError(
                f"{source}: column {column!r} (role {role}) is {schema[column]}, not {wrong}. "
                "Mend: another column in the roles, or that type in the source."
            )
        contradicted = source.contradictions(column)
        if contradicted:
            raise UseError(
                f"{source}: column {column!r} (role {role}) differs in {contradicted} rows from the directory "
                f"{column}=… that they lie in. Mend: leave the column out of the files, or lay them where they belong."
            )
    for column in roles.own(schema.names()):
        if not schema[column].is_numeric():
            raise UseError(
                f"{source}: own feature {column!r} is {schema[column]}, not a number. Mend: leave it out of the roles."
            )


def _wrong_type(role: str, dtype: pl.DataType) -> str:
    """What the column should have been, or an empty string."""
    if role in _DATES:
        return "" if dtype in (pl.Date, pl.Datetime, pl.String) else "a date"
    if role in _TEXTS:
        fits = dtype in (pl.String, pl.Categorical, pl.Enum) or dtype.is_integer()
        return "" if fits else "text or a whole number"
    if role == "tradable":
        return "" if dtype in (pl.Boolean, pl.String) or dtype.is_numeric() else "true or false"
    return "" if dtype.is_numeric() else "a number"


def canonical(place: str, scan: pl.LazyFrame, roles: Roles, schema: pl.Schema) -> pl.DataFrame:
    """The roles' columns under their roles' names and types, with the ``row`` they stand on in the source.

    Raises:
        UseError: no rows, a row without a date, code or market, or values that are no dates, codes or flags.
    """
    columns = roles.columns()
    wanted = [cs.by_name(column).as_expr().alias(role) for role, column in columns.items()]
    raw = guard(place, lambda: scan.select(wanted).collect())
    if raw.height == 0:
        raise UseError(f"{place}: holds no rows. Mend: a table with one row per (date, code).")
    numbers = [pl.col(role).cast(pl.Float64) for role in (*BARS, "adjustment", "label") if role in columns]
    texts = [_text(role) for role in _TEXTS if role in columns]
    made = raw.select(
        pl.int_range(pl.len()).alias("row"),
        *(_dates(place, role, columns[role], raw[role]) for role in _DATES if role in columns),
        *texts,
        *(x.replace(float("nan"), None) if x.meta.output_name() != "close" else x for x in numbers),
        *([_flag(place, columns["tradable"], raw["tradable"])] if "tradable" in columns else []),
    )
    _check_known(place, columns, made)
    return made.select("row", *(role for role in columns))


def _text(role: str) -> pl.Expr:
    """Text; null where it says nothing."""
    if role == "code":
        return pl.when(pl.col(role).cast(pl.String).str.strip_chars() != "").then(pl.col(role).cast(pl.String))
    name = pl.col(role).cast(pl.String).str.strip_chars()
    nothing = UNKNOWN_INDUSTRIES if role == "industry" else ("",)
    return pl.when(~name.str.to_lowercase().is_in(nothing)).then(name).alias(role)


def _check_known(place: str, columns: dict[str, str], made: pl.DataFrame) -> None:
    for role in ("date", "code", "market"):
        empty = made[role].null_count() if role in columns else 0
        if empty:
            raise UseError(
                f"{place}: {empty} of {made.height} rows have no {role} (column {columns[role]!r}). "
                "Mend: leave such rows out, or fill them in."
            )
    hidden = made["code"].str.contains(r"[\x00-\x1f\x7f]")
    if hidden.any():
        raise UseError(
            f"{place}: {hidden.sum()} of {made.height} rows have a code with control characters (column "
            f"{columns['code']!r}), the first is {made['code'].filter(hidden)[0]!r}. Mend: plain text."
        )
    if "market" in columns:
        several = made.group_by("code").agg(pl.col("market").n_unique()).filter(pl.col("market") > 1)
        if several.height:
            raise UseError(
                f"{place}: {several.height} codes trade on more than one market (column {columns['market']!r}), the "
                f"first is {several['code'].min()!r}. Mend: one code per market, such as 'ABC.XNYS'."
            )


def _flag(place: str, column: str, given: pl.Series) -> pl.Series:
    if given.dtype == pl.Boolean:
        return given
    text = pl.col("tradable").cast(pl.String).str.strip_chars().str.to_lowercase()
    said = pl.when(text.is_in(TRUE)).then(True).when(text.is_in(FALSE)).then(False)
    made = given.to_frame().select(said.alias("tradable"), (text.is_not_null() & (text != "")).alias("given"))
    wrong = made["given"] & made["tradable"].is_null()
    if wrong.any():
        raise UseError(
            f"{place}: column {column!r} (role tradable) must say true or false, or 1 or 0; {wrong.sum()} of "
            f"{len(given)} rows do not, the first is {given.filter(wrong)[0]!r}. Mend: such a column."
        )
    return made["tradable"]


def _dates(place: str, role: str, column: str, given: pl.Series) -> pl.Series:
    """Days; refused where a value is none, or no day that a market can have known."""
    if given.dtype == pl.Date:
        made, wrong, wanted = given, None, ""
    elif given.dtype == pl.String:
        text = given.str.strip_chars()
        made, wanted = text.str.to_date("%Y-%m-%d", strict=False), "ISO dates such as 2017-12-08"
        wrong = made.is_null() & text.is_not_null() & (text != "")
    else:
        made, wanted = given.dt.date(), "days (timestamps at midnight): intraday rows are not daily bars"
        wrong = (given.dt.time() != dt.time(0)).fill_null(False)
    if wrong is None or not wrong.any():
        wanted = f"dates from {FIRST_DATE} to {LAST_DATE}"
        beyond = (made < FIRST_DATE) | (made > LAST_DATE)
        wrong = beyond.fill_null(False) if role == "date" else beyond.fill_null(False) & False
    if wrong.any():
        raise UseError(
            f"{place}: column {column!r} (role {role}) must hold {wanted}; {wrong.sum()} of {len(given)} rows do not, "
            f"the first is {given.filter(wrong)[0]}. Mend: such a column."
        )
    return made.alias(role)


def check_filled(place: str, roles: Roles, bars: pl.DataFrame) -> None:
    """Refuse a role whose column holds nothing.

    Raises:
        UseError: as said.
    """
    for role, column in roles.columns().items():
        values = bars[role]
        nothing = values.null_count() == bars.height or (role == "close" and values.is_nan().all())
        if nothing and role not in ("listed", "delisted"):
            mend = (
                "name the column that holds them"
                if role == "close"
                else f"'{role}: null' in the roles if there is none"
            )
            raise UseError(
                f"{place}: column {column!r} (role {role}) is empty in all {bars.height} rows. Mend: {mend}."
            )
