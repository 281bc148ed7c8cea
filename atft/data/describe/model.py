"""What a description says."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Finding(_Part):
    """Something that is wrong, or rare enough to be looked at."""

    what: str
    count: int
    examples: tuple[str, ...]
    """The first ones by date."""


class Year(_Part):
    """A calendar year."""

    year: int
    stocks: int
    """With at least one row."""
    rows: int
    missing_share: float
    """Of the stock-days between each stock's first and last row, those without a row."""
    entries: int
    """Stocks whose first row falls into the year, later than the market's first days."""
    exits: int
    """Stocks whose last row falls into the year, earlier than the market's last days."""


class Gap(_Part):
    """Trading days of its market on which a stock has no row, between two rows."""

    code: str
    first: dt.date
    last: dt.date
    days: int


class Gaps(_Part):
    """What is missing inside the stocks' lives."""

    missing: int
    """Stock-days."""
    share: float
    stocks: int
    """With at least one missing day."""
    longest: tuple[Gap, ...]
    """The longest one of each of the stocks with the longest ones."""
    thin_days: tuple[dt.date, ...]
    """Dates on which fewer than half of the living stocks of a trading market have a row; the first ones."""
    thin_days_count: int
    longest_break: Gap | None
    """The longest stretch of days on which a whole market has no row, in calendar days."""


class Survivorship(_Part):
    """Whether stocks that left are there."""

    stocks: int
    to_the_end: int
    """Stocks with a row in the last days of their market."""
    from_the_start: int
    exits: int
    entries: int
    stock_years: float
    """Sum of the stocks' lives."""
    expected_exits: float
    """At a rate of leaving that is low for a real market."""
    chance: float
    """Of no more exits than there are at that rate (Poisson)."""
    signs: tuple[str, ...]


class Twins(_Part):
    """Codes that may be one stock."""

    copies: tuple[tuple[str, ...], ...]
    """Codes that share at least two months of the same daily returns; the first groups."""
    copied_codes: int
    renamed: tuple[str, ...]
    """Codes that end on the day before another begins at nearly the same price; the first ones."""
    renamed_count: int


class Description(_Part):
    """What a table or a panel holds."""

    place: str
    kind: str
    """``source`` or ``panel``."""
    rows: int
    stocks: int
    days: int
    first_day: dt.date
    last_day: dt.date
    markets: dict[str, int]
    """Trading days of each; empty where none is named."""
    years: tuple[Year, ...]
    gaps: Gaps
    findings: tuple[Finding, ...]
    survivorship: Survivorship
    twins: Twins


@dataclass(frozen=True)
class Series:
    """By day, for the picture.

    Attributes:
        days: ``[days]`` datetime64[D].
        rows: ``[days]`` stocks with a row.
        living: ``[days]`` stocks between their first and last row whose market trades.
    """

    days: NDArray[np.datetime64]
    rows: NDArray[np.int64]
    living: NDArray[np.int64]
