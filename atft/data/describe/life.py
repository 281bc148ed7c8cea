"""When stocks are there: coverage by year, gaps, and whether any ever left."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft.data.describe.model import Gap, Gaps, Series, Survivorship, Year

EDGE_DAYS = 21
"""A stock whose last row falls into its market's last month of trading counts as one that goes on; so at the start."""
LOW_RATE = 0.03
"""Share of the stocks that leave in a year: low for a real market. That of the United States has lain well above it for
decades; see Doidge, Karolyi and Stulz (2017), "The U.S. listing gap", on delist rates."""
SHOWN = 10
Days = NDArray[np.int32]
"""Days since 1970, rising."""


@dataclass(frozen=True)
class Life:
    """The days on which a stock has a sound row, and the prices at both ends."""

    market: str | None
    days: Days
    first_close: float
    last_close: float


def lives(bars: pl.DataFrame) -> Iterator[tuple[str, Life]]:
    """The lives of the stocks of sound rows, sorted by code and date."""
    market = "market" if "market" in bars.columns else pl.lit(None, pl.String).alias("market")
    days = pl.col("date").cast(pl.Int32)
    plain = bars.select("code", market, days.alias("day"), "close")
    for (code,), part in plain.partition_by("code", as_dict=True, maintain_order=True).items():
        close = part["close"]
        yield str(code), Life(part["market"][0], part["day"].to_numpy().copy(), close[0], close[-1])


def calendars(known: Mapping[str, Life]) -> dict[str | None, Days]:
    """The trading days of each market: those on which any of its stocks has a row."""
    found: dict[str | None, list[Days]] = {}
    for life in known.values():
        found.setdefault(life.market, []).append(life.days)
    return {market: np.unique(np.concatenate(days)) for market, days in found.items()}


@dataclass(frozen=True)
class Span:
    """A stock among its market's trading days: places of its first and last row, and whether these are the market's."""

    first: int
    last: int
    begins: bool
    ends: bool


def spans(known: Mapping[str, Life], days: Mapping[str | None, Days]) -> dict[str, Span]:
    """Where each stock stands on its market's calendar."""
    found = {}
    for code, life in known.items():
        calendar = days[life.market]
        first, last = np.searchsorted(calendar, life.days[[0, -1]]).tolist()
        edge = min(EDGE_DAYS, max(1, len(calendar) // 10))
        found[code] = Span(first, last, first >= edge, last < len(calendar) - edge)
    return found


def years(known: Mapping[str, Life], days: Mapping[str | None, Days], where: Mapping[str, Span]) -> tuple[Year, ...]:
    """Coverage by calendar year."""
    first, last = (_year(np.array([each[end] for each in days.values()])) for end in (0, -1))
    numbers = np.arange(int(first.min()), int(last.max()) + 1)
    begins = np.arange(numbers[0] - 1970, numbers[-1] - 1968).astype("datetime64[Y]")
    edges = begins.astype("datetime64[D]").astype(np.int64)
    rows, stocks, life_days, entries, exits = (np.zeros(len(numbers), np.int64) for _ in range(5))
    cuts = {market: np.searchsorted(calendar, edges) for market, calendar in days.items()}
    for code, life in known.items():
        own = np.diff(np.searchsorted(life.days, edges))
        span, cut = where[code], cuts[life.market]
        rows += own
        stocks += own > 0
        life_days += np.diff(np.clip(cut, span.first, span.last + 1)).astype(np.int64)
        begin, end = (_year(life.days[[0, -1]]) - numbers[0]).tolist()
        entries[begin] += span.begins
        exits[end] += span.ends
    missing = np.divide(life_days - rows, life_days, out=np.zeros(len(numbers)), where=life_days > 0)
    return tuple(
        Year(year=year, rows=r, stocks=s, missing_share=m, entries=n, exits=x)
        for year, r, s, m, n, x in zip(*(each.tolist() for each in (numbers, rows, stocks, missing, entries, exits)))
    )


def series(known: Mapping[str, Life], days: Mapping[str | None, Days], where: Mapping[str, Span]) -> Series:
    """Rows and living stocks by day of all markets together."""
    union = np.unique(np.concatenate(list(days.values())))
    rows, living = np.zeros(len(union), np.int64), np.zeros(len(union), np.int64)
    for code, life in known.items():
        rows[np.searchsorted(union, life.days)] += 1
        calendar = days[life.market]
        living[np.searchsorted(union, calendar[where[code].first : where[code].last + 1])] += 1
    return Series(union.astype("datetime64[D]"), rows, living)


def gaps(known: Mapping[str, Life], days: Mapping[str | None, Days], where: Mapping[str, Span], by_day: Series) -> Gaps:
    """Missing days inside the stocks' lives."""
    missing, lived, longest = 0, 0, []
    for code, life in known.items():
        calendar, span = days[life.market], where[code]
        lived += span.last - span.first + 1
        lacks = span.last - span.first + 1 - len(life.days)
        missing += lacks
        if lacks:
            places = np.searchsorted(calendar, life.days)
            at = int(np.diff(places).argmax())
            first, last = places[at] + 1, places[at + 1] - 1
            longest.append(
                Gap(code=code, first=_date(calendar[first]), last=_date(calendar[last]), days=last - first + 1)
            )
    longest.sort(key=lambda gap: (-gap.days, gap.first, gap.code))
    thin = by_day.days[2 * by_day.rows < by_day.living]
    return Gaps(
        missing=missing,
        share=missing / lived,
        stocks=len(longest),
        longest=tuple(longest[:SHOWN]),
        thin_days=tuple(thin[:SHOWN].tolist()),
        thin_days_count=len(thin),
        longest_break=max(filter(None, map(_break, days.items())), key=lambda gap: gap.days, default=None),
    )


def _break(market: tuple[str | None, Days]) -> Gap | None:
    name, days = market
    if len(days) < 2:
        return None
    at = int(np.diff(days).argmax())
    first, last = days[at] + 1, days[at + 1] - 1
    if last < first:
        return None
    return Gap(code=name or "", first=_date(first), last=_date(last), days=int(last - first + 1))


def survivorship(known: Mapping[str, Life], days: Mapping[str | None, Days], where: Mapping[str, Span]) -> Survivorship:
    """Whether stocks that left are there, and how likely so few exits are in a real market."""
    from scipy.stats import poisson

    lived = sum(int(life.days[-1] - life.days[0]) for life in known.values()) / 365.25
    exits, entries = (sum(getattr(span, name) for span in where.values()) for name in ("ends", "begins"))
    chance = float(poisson.cdf(exits, LOW_RATE * lived))
    found = {
        "stocks": len(known),
        "to_the_end": len(known) - exits,
        "from_the_start": len(known) - entries,
        "exits": exits,
        "entries": entries,
        "stock_years": lived,
        "expected_exits": LOW_RATE * lived,
        "chance": chance,
    }
    return Survivorship(**found, signs=tuple(_signs(found)))


def _signs(found: Mapping[str, float]) -> Iterator[str]:
    stocks, exits, years_ = found["stocks"], found["exits"], found["stock_years"]
    expected = f"at a low {LOW_RATE:.0%} a year about {found['expected_exits']:.0f} would have left"
    if found["chance"] < 0.01 and exits == 0:
        yield (
            f"all {stocks:,} stocks survive: none ever leaves in {years_:,.0f} stock-years; {expected}. A strong sign "
            "that the table was chosen among survivors"
        )
    elif found["chance"] < 0.01:
        yield (
            f"only {exits:,} of {stocks:,} stocks leave in {years_:,.0f} stock-years; {expected}. A "
            "sign that most that left are missing"
        )
    if found["entries"] == 0 and found["expected_exits"] > 5:
        yield "no stock begins later than the market: new listings are missing, or the universe was fixed"
    elif found["from_the_start"] == stocks and exits == 0:
        yield "every stock is there at both ends of the table: the universe was fixed"


def _year(days: Days) -> NDArray[np.int64]:
    return np.asarray(days).astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970


def _date(day: int | np.integer) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(int(day))
