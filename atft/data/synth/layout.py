"""Who is in the market and when: calendar, industries, clusters, listings, gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atft.data.synth.options import SynthOptions

UNKNOWN_INDUSTRY = "n/a"
HOLIDAYS = ("01-01", "07-04", "12-25")


@dataclass(frozen=True)
class Layout:
    """The market without its numbers.

    Attributes:
        calendar: ``[days]`` datetime64[D], the trading days.
        codes: ``[stocks]`` names, rising.
        industry: ``[stocks]`` number of each stock's true industry.
        cluster: ``[stocks]`` number of each stock's cluster; a cluster lies within one industry.
        industry_names: ``[stocks]`` names as the table gives them, some unknown.
        present: ``[days, stocks]`` True where the table has a row.
    """

    calendar: NDArray[np.datetime64]
    codes: list[str]
    industry: NDArray[np.int64]
    cluster: NDArray[np.int64]
    industry_names: list[str]
    present: NDArray[np.bool_]


def make_layout(options: SynthOptions) -> Layout:
    """Draw who belongs where and who is there when."""
    industry, cluster = _groups(options)
    unknown = options.stream("unknown industry").permutation(options.stocks)
    names = [f"Industry {number + 1:02d}" for number in industry]
    for stock in unknown[: round(options.unknown_industry_share * options.stocks)]:
        names[stock] = UNKNOWN_INDUSTRY
    width = max(4, len(str(options.stocks)))
    codes = [f"S{number + 1:0{width}d}" for number in range(options.stocks)]
    return Layout(_calendar(options), codes, industry, cluster, names, _presence(options))


def _calendar(options: SynthOptions) -> NDArray[np.datetime64]:
    years = range(options.start.year, options.start.year + options.days // 250 + 3)
    holidays = [f"{year:04d}-{day}" for year in years for day in HOLIDAYS]
    start = np.full(options.days, options.start, dtype="datetime64[D]")
    return np.busday_offset(
        start, np.arange(options.days), roll="forward", holidays=np.array(holidays, "datetime64[D]")
    )


def _groups(options: SynthOptions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Industry and cluster of each stock; drawn, so that a code says nothing about them."""
    industry, cluster = np.empty(options.stocks, np.int64), np.empty(options.stocks, np.int64)
    shuffled = options.stream("groups").permutation(options.stocks)
    clusters = 0
    for number, members in enumerate(np.array_split(shuffled, options.industries)):
        industry[members] = number
        for mates in np.array_split(members, max(1, round(len(members) / options.cluster_size))):
            cluster[mates] = clusters
            clusters += 1
    return industry, cluster


def _presence(options: SynthOptions) -> NDArray[np.bool_]:
    days, stocks = options.days, options.stocks
    day = np.arange(days)[:, None]
    present = options.stream("missing").random((days, stocks)) >= options.missing_share

    random = options.stream("listings")
    shuffled = random.permutation(stocks)
    late = shuffled[: round(options.listed_late_share * stocks)]
    # From the other end, so that no stock is both; rounding may make the two counts exceed the stocks by one.
    leaving = shuffled[len(late) :][::-1][: round(options.delisted_share * stocks)]
    present[:, late] &= day >= random.integers(1, days // 2, len(late))
    present[:, leaving] &= day <= random.integers(days // 5, days - 1, len(leaving))

    random = options.stream("suspensions")
    suspended = random.permutation(stocks)[: round(options.suspended_share * stocks)]
    first = random.integers(0, days, len(suspended))
    length = random.integers(5, 21, len(suspended))
    present[:, suspended] &= (day < first) | (day >= first + length)
    return present
