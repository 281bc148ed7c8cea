"""Rows of a source that cannot stay as they are: dropped or repaired, and counted by reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft.data.roles import PRICES, Roles
from atft.errors import UseError

BIG_MOVE = 0.5
PRICE_RANGE = (1e-9, 1e15)
"""Prices outside are no prices; inside, no ratio of two and no product with a volume overflows."""
MOST_VOLUME, MOST_LABEL = 1e18, 1e6
UNLISTED = ("before listing", "after delisting")
FACTOR_DIGITS = 8
"""Significant digits of a relative adjustment factor."""
_OFF_TIES = np.sqrt(5) / 12
"""Of a last digit; irrational, so that no ratio of short numbers is rounded up in one table and down in the next."""
_POWERS = np.array([10**power for power in range(23)], np.float64)
"""All powers of ten that float64 holds exactly."""
DROPS = (*UNLISTED, "repeated rows", "adjustment not positive", *(f"close {wrong}" for wrong in
         ("missing", "infinite", "not positive", "out of range")))  # fmt: skip
"""Reasons for which a row is not kept; each row that goes is counted under one of them."""


def drop_unlisted(bars: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
    """Rows within the stock's listing; both ends count, a missing one is open."""
    early = pl.col("date") < pl.col("listed") if "listed" in bars.columns else pl.lit(False)
    late = pl.col("date") > pl.col("delisted") if "delisted" in bars.columns else pl.lit(False)
    marked = bars.with_columns(early.fill_null(False).alias("early"), late.fill_null(False).alias("late"))
    counts[UNLISTED[0]] = int(marked["early"].sum())
    counts[UNLISTED[1]] = marked.select((~pl.col("early") & pl.col("late")).sum()).item()
    return marked.filter(~pl.col("early") & ~pl.col("late")).drop("early", "late", "listed", "delisted", strict=False)


def drop_repeated(place: str, bars: pl.DataFrame, compared: Sequence[str], counts: dict[str, int]) -> pl.DataFrame:
    """One row per (date, code), of rows sorted by code and date.

    Raises:
        UseError: rows of one (date, code) that differ in a column of ``compared``.
    """
    again = (pl.col("code") == pl.col("code").shift(1)) & (pl.col("date") == pl.col("date").shift(1))
    repeated = bars.select(again.fill_null(False)).to_series()
    for name in compared:
        differ = bars.select(~pl.col(name).eq_missing(pl.col(name).shift(1))).to_series() & repeated
        if differ.any():
            refuse_conflict(place, bars, np.flatnonzero(differ.to_numpy()), name)
    counts["repeated rows"] = int(repeated.sum())
    return bars.filter(~repeated)


def refuse_conflict(place: str, bars: pl.DataFrame, rows: NDArray[np.intp], what: str) -> NoReturn:
    """Refuse ``rows``, which repeat another row's (date, code) with another value of ``what``."""
    date, code = bars["date"][int(rows[0])], bars["code"][int(rows[0])]
    raise UseError(
        f"{place}: {len(rows)} rows repeat a (date, code) with other values, the first on {date} for {code!r}, in "
        f"{what}. Which one holds cannot be told. Mend: keep one row per (date, code)."
    )


def adjust(bars: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
    """Prices × factor and volume / factor, the factor taken relative to the stock's first one.

    A vendor scales factors so that the last one is 1, which lets an early price know of later splits; relative to the
    first one, a price depends on nothing after its day. Relative factors are rounded (:func:`steady`), so that they
    are the same to the last bit when a vendor scales all of a stock's factors anew. Rows without a factor are dropped.
    """
    if "adjustment" not in bars.columns:
        return bars
    given = pl.col("adjustment")
    bars = bars.with_columns(pl.when(given.is_finite() & (given > 0)).then(given).alias("adjustment"))
    counts["adjustment not positive"] = bars["adjustment"].null_count()
    bars = bars.filter(given.is_not_null())
    ratio = bars.select(given / given.first().over("code")).to_series().to_numpy()
    bars, relative = bars.with_columns(pl.Series("relative", steady(ratio), pl.Float64)), pl.col("relative")
    scaled = [(pl.col(name) * relative).alias(name) for name in PRICES if name in bars.columns]
    volume = [(pl.col("volume") / relative).alias("volume")] if "volume" in bars.columns else []
    return bars.with_columns(*scaled, *volume).drop("adjustment", "relative")


def steady(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratios to ``FACTOR_DIGITS`` significant digits: the same bits for what differs by a few roundings of float64.

    A quotient of two factors moves by up to 4e-16 of itself when both are scaled by a constant; the steps of the result
    are 1e-8 to 1e-7 of it, and lie so that short decimal fractions are far from where one step ends and the next
    begins. What has at most 8 digits stays as it is, up to the last bit.

    Args:
        ratio: above 0; what lies outside 1e-14 to 1e14 is left alone.
    """
    inside = (ratio >= 1e-14) & (ratio <= 1e14)
    kept = np.where(inside, ratio, 1.0)
    power = FACTOR_DIGITS - 1 - np.floor(np.log10(kept)).astype(np.int64)
    up, down = _POWERS[power.clip(0)], _POWERS[(-power).clip(0)]
    steps = np.floor(kept * up / down + 0.5 + _OFF_TIES)  # where log10 is a digit off the number is the same
    rounded: NDArray[np.float64] = np.where(inside, steps * down / up, ratio)
    return rounded


def repair(bars: pl.DataFrame, counts: dict[str, int]) -> tuple[pl.DataFrame, int]:
    """Blemished values taken out, rows without a close dropped.

    Args:
        bars: with a column ``bad``, True where a row is blemished already.
        counts: gets the reasons.

    Returns:
        The rows that stay, and how many were blemished.
    """
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
    dropped |= found("close out of range", _out_of_range("close") & (close > 0))
    for name in (name for name in ("open", "high", "low", "volume", "label") if name in bars.columns):
        wrong = found(f"{name} infinite", pl.col(name).is_infinite())
        if name != "label":
            told, least = ("negative", pl.col(name) < 0) if name == "volume" else ("not positive", pl.col(name) <= 0)
            wrong |= found(f"{name} {told}", pl.col(name).is_finite() & least)
        wrong |= found(f"{name} out of range", _out_of_range(name) & ~pl.lit(wrong))
        bars = bars.with_columns(pl.when(~wrong).then(name).alias(name))
    crossed = pl.Series([False]).new_from_index(0, bars.height)
    if {"high", "low"} <= set(bars.columns):
        crossed |= found("high below low", pl.col("high") < pl.col("low"))
    outside = [close > pl.col("high")] * ("high" in bars.columns) + [close < pl.col("low")] * ("low" in bars.columns)
    if outside:
        inside = ~pl.lit(dropped) & ~pl.lit(crossed)
        crossed |= found("close outside low to high", inside & pl.any_horizontal(outside))
    others = [name for name in PRICES if name in bars.columns and name != "close"]
    bars = bars.with_columns(pl.when(~crossed).then(name).alias(name) for name in others)
    if "tradable" in bars.columns:
        found("tradable missing (taken as not)", pl.col("tradable").is_null() & ~pl.lit(dropped))
    again = counts.get("repeated rows", 0) + counts.get("adjustment not positive", 0)
    return bars.filter(~dropped), int(touched.sum()) + again


def _out_of_range(name: str) -> pl.Expr:
    value = pl.col(name)
    if name in ("volume", "label"):
        return value.is_finite() & (value.abs() > (MOST_VOLUME if name == "volume" else MOST_LABEL))
    return value.is_finite() & ((value < PRICE_RANGE[0]) | (value > PRICE_RANGE[1]))


def mark_suspended(bars: pl.DataFrame, roles: Roles) -> pl.DataFrame:
    """``tradable`` (Boolean, never null) where the source tells or volumes of 0 do; the rows stay."""
    if "tradable" not in bars.columns and not roles.zero_volume_is_suspended:
        return bars
    stated = pl.col("tradable").fill_null(False) if "tradable" in bars.columns else pl.lit(True)
    traded = (pl.col("volume") != 0).fill_null(True) if roles.zero_volume_is_suspended else pl.lit(True)
    return bars.with_columns((stated & traded).alias("tradable"))


def notes(bars: pl.DataFrame) -> dict[str, int]:
    """What is worth a look but is left as it is."""
    move = pl.col("close") / pl.col("close").shift(1).over("code") - 1
    found = {f"daily moves above {BIG_MOVE:.0%} (kept)": int(bars.select((move.abs() > BIG_MOVE).sum()).item())}
    if "tradable" in bars.columns:
        found["days on which a stock was not tradable (kept)"] = int((~bars["tradable"]).sum())
    if "industry" in bars.columns:
        groups = bars.group_by("code").agg(pl.col("industry").drop_nulls().n_unique().alias("groups"))
        found["stocks whose industry changes (first kept)"] = groups.filter(pl.col("groups") > 1).height
        first, known = pl.col("industry").first(), pl.col("industry").count()
        late = bars.group_by("code").agg((first.is_null() & (known > 0)).alias("late"))
        found["stocks whose industry is known only later (left unknown)"] = int(late["late"].sum())
    return {reason: number for reason, number in found.items() if number}
