"""The whole description, in one pass over the rows."""

from __future__ import annotations

import datetime as dt

import polars as pl

from atft.data import repair
from atft.data.describe import life as lives
from atft.data.describe.life import Life
from atft.data.describe.model import Description, Series
from atft.data.describe.quality import Findings, look_at_moves, sound
from atft.data.describe.rows import Rows
from atft.data.describe.twins import months, twins
from atft.errors import UseError


def describe(rows: Rows) -> tuple[Description, Series]:
    """What ``rows`` hold, and the series by day for a picture of it.

    Memory holds the rows of ``ROWS_AT_ONCE`` stock-days, 4 bytes for each row and 8 for each month of a stock.

    Raises:
        UseError: rows that cannot be read, or none with a date, a code and a close.
    """
    findings, known, prints, number = Findings(), dict[str, Life](), list[pl.DataFrame](), 0
    findings.count("rows without a date or a code", rows.nameless())
    for group in rows.groups():
        number += group.height
        bars = look_at_moves(_as_built(group, findings), findings)
        known.update(lives.lives(bars))
        prints.append(months(bars))
    if not known:
        raise UseError(f"{rows.place}: no row has a date, a code and a close. Mend: a table of daily bars.")
    known = dict(sorted(known.items()))
    days = lives.calendars(known)
    where = lives.spans(known, days)
    by_day = lives.series(known, days, where)
    first, last = (by_day.days[end].astype(dt.date) for end in (0, -1))
    described = Description(
        place=rows.place,
        kind=rows.kind,
        rows=number + rows.nameless(),
        stocks=len(known),
        days=len(by_day.days),
        first_day=first,
        last_day=last,
        markets={market: len(each) for market, each in days.items() if market is not None},
        years=lives.years(known, days, where),
        gaps=lives.gaps(known, days, where, by_day),
        findings=tuple(findings),
        survivorship=lives.survivorship(known, days, where),
        twins=twins(pl.concat(prints), known, days),
    )
    return described, by_day


def _as_built(group: pl.DataFrame, findings: Findings) -> pl.DataFrame:
    """Sound rows within their listing, prices adjusted as a build would."""
    counts = dict[str, int]()
    bars = repair.drop_unlisted(group, counts)
    bars = repair.adjust(bars.sort("code", "date", maintain_order=True), counts)
    for reason, count in counts.items():
        findings.count(f"rows {reason}" if reason in repair.UNLISTED else reason, count)
    return sound(bars, findings)
