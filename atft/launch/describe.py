"""What a table or a panel holds, said in words and drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atft.data.describe import Description, PanelRows, Rows, SourceRows, describe
from atft.data.describe.model import Series
from atft.data.manifest import NAME
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.errors import UseError
from atft.launch import places
from atft.report.preview import preview
from atft.storage import Store, is_remote, local_path

SHOWN = 5


def describe_data(place: Path, *, roles: Path | None, out: Path | None) -> dict[str, Any]:
    """Describe a table or a panel, and draw it where ``out`` says.

    Raises:
        UseError: nothing there, a table that cannot be read, or a picture that cannot be written.
    """
    if out is not None and out.suffix.lower() != ".svg":
        raise UseError(f"--out {out}: the picture is an SVG. Mend: a name that ends in .svg.")
    found, by_day = describe(_rows(place, roles))
    report = found.model_dump(mode="json") | {"preview": str(out) if out else None}
    if out is not None:
        _draw(found, by_day, out)
    return report | {"text": "\n".join([*told(found), *([f"preview: {out}"] if out else [])])}


def _draw(found: Description, by_day: Series, out: Path) -> None:
    years = [year.model_dump() for year in found.years]
    try:
        out.write_text(preview(found.place, by_day.days, by_day.rows, by_day.living, years), encoding="utf-8")
    except ModuleNotFoundError as error:
        raise UseError(
            f"{out}: a picture needs {error.name}, which is not installed. Mend: pip install 'atft[report]'."
        ) from None
    except OSError as error:
        raise UseError(
            f"{out}: cannot be written: {error.strerror or error}. Mend: a directory that is writable."
        ) from None


def _rows(place: Path, roles: Path | None) -> Rows:
    if _is_panel(place):
        if roles is not None:
            raise UseError(f"--roles: {place} is a panel, whose columns are known. Mend: leave --roles out.")
        return PanelRows(Panel.open(places.open_panel(place).path))
    given = Roles.read(roles) if roles else Roles()
    return SourceRows(places.open_source(place), given)


def _is_panel(place: Path) -> bool:
    if is_remote(place):
        return Path(place.name).suffix == "" and Store(places.as_uri(place)).exists(NAME)
    return (local_path(place) / NAME).is_file()


def told(found: Description) -> Iterator[str]:
    """The description in lines."""
    yield (
        f"{found.kind} {found.place}: {found.rows:,} rows of {found.stocks:,} stocks on {found.days:,} days, "
        f"{found.first_day}..{found.last_day}"
    )
    if found.markets:
        yield "markets: " + ", ".join(f"{name} ({days:,} trading days)" for name, days in found.markets.items())
    yield ""
    yield f"{'year':>6} {'stocks':>7} {'rows':>10} {'missing':>8} {'begin':>6} {'end':>6}"
    for year in found.years:
        yield (
            f"{year.year:>6} {year.stocks:>7,} {year.rows:>10,} {year.missing_share:>8.2%} {year.entries:>6,} "
            f"{year.exits:>6,}"
        )
    yield ""
    yield from _gaps(found)
    if found.findings:
        yield "outliers and blemishes (count, first examples):"
    for each in found.findings:
        yield f"  {each.count:>9,}  {each.what}" + (f": {'; '.join(each.examples)}" if each.examples else "")
    yield from _survivorship(found)
    yield from _twins(found)


def _gaps(found: Description) -> Iterator[str]:
    gaps = found.gaps
    yield (
        f"gaps: {gaps.missing:,} stock-days ({gaps.share:.2%}) lie between a stock's first and last row and have none, "
        f"in {gaps.stocks:,} stocks"
    )
    for gap in gaps.longest[:SHOWN]:
        yield f"  {gap.days:>9,}  days of {gap.code}, {gap.first}..{gap.last}"
    if gaps.thin_days_count:
        yield (
            f"  {gaps.thin_days_count:>9,}  days on which fewer than half of the living stocks have a row: "
            f"{', '.join(map(str, gaps.thin_days[:SHOWN]))}"
        )
    if gaps.longest_break:
        at = gaps.longest_break
        yield f"  the longest break of {at.code or 'the market'}: {at.days} calendar days, {at.first}..{at.last}"


def _survivorship(found: Description) -> Iterator[str]:
    it = found.survivorship
    yield (
        f"survivorship: {it.to_the_end:,} of {it.stocks:,} stocks trade to the end, {it.from_the_start:,} from the "
        f"start; {it.exits:,} end earlier in {it.stock_years:,.0f} stock-years"
    )
    for sign in it.signs:
        yield f"  sign: {sign}."
    if it.signs:
        yield "  A sign, no proof: that takes the list of what was listed at the time (roles listed and delisted)."
    else:
        yield "  No sign; which is no proof that all that left are there."


def _twins(found: Description) -> Iterator[str]:
    twins = found.twins
    if twins.copied_codes:
        groups = "; ".join(" = ".join(codes) for codes in twins.copies[:SHOWN])
        yield f"doubles: {twins.copied_codes:,} codes share months of the same daily returns with another: {groups}"
    if twins.renamed_count:
        yield (
            f"renamed, perhaps: {twins.renamed_count:,} codes end the day before another begins within 5 % of the same "
            f"price: {'; '.join(twins.renamed[:SHOWN])}"
        )
    if not twins.copied_codes and not twins.renamed_count:
        yield "doubles: none: no two codes share a price history, and none goes on under another name"
