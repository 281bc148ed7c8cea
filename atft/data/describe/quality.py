"""Values that are wrong or rare: what they are, how many, and the first examples."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from atft.data.describe.model import Finding
from atft.data.repair import BIG_MOVE, PRICE_RANGE

EXAMPLES = 3
STALE_ROWS, DRY_ROWS = 10, 5
"""Rows of one close, or without volume, that make a run worth telling."""
UNDONE = 0.1
"""A big move that the next row takes back to within this of where it began looks like a misprint."""
BACK = "moves above 50 % that the next row takes back"
MOVES = f"moves above {BIG_MOVE:.0%} from the row before".replace("%", " %")
STALE, DRY = f"runs of {STALE_ROWS} or more rows at one close", f"runs of {DRY_ROWS} or more rows without volume"


class Findings:
    """Counts and first examples by what they are of, gathered group by group."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, list[tuple[str, str]]] = {}

    def add(self, what: str, found: pl.DataFrame, told: pl.Expr | None = None) -> None:
        """Count rows of ``found`` (with ``date`` and ``code``) as ``what``, with ``told`` after each example."""
        if not found.height:
            return
        self._counts[what] = self._counts.get(what, 0) + found.height
        text = pl.concat_str(pl.lit(" "), told) if told is not None else pl.lit("")
        first = found.select("date", "code", text.alias("told")).bottom_k(EXAMPLES, by=["date", "code"])
        shown = [(str(date), f"{date} {code}{said}") for date, code, said in first.iter_rows()]
        self._first[what] = sorted([*self._first.get(what, []), *shown])[:EXAMPLES]

    def count(self, what: str, number: int) -> None:
        """Count without examples."""
        if number:
            self._counts[what] = self._counts.get(what, 0) + number

    def __iter__(self) -> Iterator[Finding]:
        for what, count in self._counts.items():
            yield Finding(what=what, count=count, examples=tuple(text for _, text in self._first.get(what, [])))


def sound(bars: pl.DataFrame, findings: Findings) -> pl.DataFrame:
    """Rows sorted by code and date, once each, with a close that is a price; what is not is told."""
    bars = bars.sort("code", "date", maintain_order=True)
    again = (pl.col("code") == pl.col("code").shift(1)) & (pl.col("date") == pl.col("date").shift(1))
    others = [name for name in bars.columns if name not in ("date", "code")]
    same = pl.all_horizontal([pl.col(name).eq_missing(pl.col(name).shift(1)) for name in others])
    marked = bars.with_columns(again.fill_null(False).alias("again"), same.alias("same"))
    findings.add("rows repeated with the same values", marked.filter("again", "same"))
    findings.add("rows repeated with other values", marked.filter(pl.col("again") & ~pl.col("same")))
    bars = marked.filter(~pl.col("again")).drop("again", "same")
    for what, condition, told in _blemishes(bars.columns):
        findings.add(what, bars.filter(condition.fill_null(False)), told)
    close = pl.col("close")
    return bars.filter(close.is_finite() & close.is_between(*PRICE_RANGE))


def _blemishes(columns: list[str]) -> Iterator[tuple[str, pl.Expr, pl.Expr | None]]:
    o, h, lo, c, v = (pl.col(name) for name in ("open", "high", "low", "close", "volume"))
    yield "close missing", c.is_null() | c.is_nan(), None
    yield "close not positive", c <= 0, _text(c)
    yield "close infinite or beyond any price", (c > 0) & ~c.is_between(*PRICE_RANGE) & ~c.is_nan(), _text(c)
    for name in ("open", "high", "low"):
        if name in columns:
            price = pl.col(name)
            wrong = (price <= 0) | ((price > 0) & ~price.is_between(*PRICE_RANGE) & ~price.is_nan())
            yield f"{name} not a price", wrong, _text(price)
    ends = pl.concat_str(_text(lo), pl.lit(" to "), _text(h)) if {"high", "low"} <= set(columns) else c
    if {"high", "low"} <= set(columns):
        yield "high below low", h < lo, ends
        yield "close outside low to high", (h >= lo) & ((c > h) | (c < lo)), _of(c, ends)
        if "open" in columns:
            yield "open outside low to high", (h >= lo) & ((o > h) | (o < lo)), _of(o, ends)
    if "volume" in columns:
        yield "volume negative or infinite", (v < 0) | v.is_infinite(), _text(v)
    if "tradable" in columns:
        yield "days on which the stock was not tradable", ~pl.col("tradable"), None
    yield "rows on a weekend", pl.col("date").dt.weekday() >= 6, None


def _text(value: pl.Expr) -> pl.Expr:
    return value.round_sig_figs(6).cast(pl.String)


def _of(value: pl.Expr, ends: pl.Expr) -> pl.Expr:
    return pl.concat_str(_text(value), pl.lit(" of "), ends)


def look_at_moves(bars: pl.DataFrame, findings: Findings) -> pl.DataFrame:
    """Tell big moves and runs of sound rows; gives them back with ``move``, the return from the row before."""
    move = pl.col("close") / pl.col("close").shift(1).over("code") - 1
    bars = bars.with_columns(move.alias("move"))
    big = bars.with_columns(
        (pl.col("close").shift(-1).over("code") / pl.col("close").shift(1).over("code") - 1).alias("after")
    ).filter(pl.col("move").abs() > BIG_MOVE)
    share = pl.concat_str((100 * pl.col("move")).round(1).cast(pl.String), pl.lit(" %"))
    findings.add(MOVES, big, share)
    findings.add(BACK, big.filter(pl.col("after").abs() < UNDONE), share)
    findings.add(STALE, _runs(bars, pl.col("close"), STALE_ROWS), pl.concat_str("rows", pl.lit(" rows")))
    if "volume" in bars.columns:
        dry = _runs(bars, pl.col("volume") == 0, DRY_ROWS, pl.col("volume") == 0)
        findings.add(DRY, dry, pl.concat_str("rows", pl.lit(" rows")))
    return bars


def _runs(bars: pl.DataFrame, value: pl.Expr, least: int, where: pl.Expr | None = None) -> pl.DataFrame:
    """First ``date``, ``code`` and ``rows`` of each run of a stock's rows with the same ``value``."""
    new = ~value.eq_missing(value.shift(1)) | (pl.col("code") != pl.col("code").shift(1)).fill_null(True)
    numbered = bars.with_columns(new.cum_sum().alias("run"), (where if where is not None else pl.lit(True)).alias("in"))
    runs = numbered.filter(pl.col("in")).group_by("run").agg(pl.col("date", "code").first(), pl.len().alias("rows"))
    return runs.filter(pl.col("rows") >= least)
