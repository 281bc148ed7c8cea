"""``atft evaluate RUN --protocol rsr``: the published protocol's table, in words and on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from atft.evaluate import published
from atft.evaluate.metrics import Interval
from atft.experiment import runs
from atft.experiment.protocol import Protocol, Row, as_plain, under_protocol
from atft.launch import places
from atft.train.checkpoint import write_text

FILE_NAME = "protocol_rsr.json"


def protocol_run(path: Path) -> dict[str, Any]:
    """Lay an evaluated run under the published protocol and keep its figures in the run's directory.

    Raises:
        UseError: the run is not evaluated, of another label or other data, or its directory cannot be written.
    """
    place = places.place_of(path)
    run = runs.open_run(place.path)
    found = under_protocol(run, places.open_panel(run.panel))
    plain = as_plain(found)
    target = place.path / FILE_NAME
    with place.kept():
        write_text(target, json.dumps(plain, indent=2) + "\n")
    return plain | {"run": str(path), "file": str(target), "text": "\n".join([*text_of(found), "", f"file: {target}"])}


COLUMNS = (26, 8, 6, 8, 9, 15, 9, 15, 7, 7)
HEADER = ("", "IC", "ICIR", "prec@10", "SR top 5", "95 %", "− market", "95 %", "MRR", "IRR")


def text_of(found: Protocol) -> Iterator[str]:
    """The table, what papers report, and what can be said of the first row."""
    left_out = f", {found.days_left_out} days of fewer than ten stocks left out" if found.days_left_out else ""
    span = f"{found.days} label days {found.first_date}..{found.last_date}"
    yield f"rsr protocol, {span}, {found.stocks:,} stocks{left_out}"
    yield _line(HEADER)
    for row in found.rows:
        yield _line(_cells(row))
    chance = found.luck
    reached = {
        "prec@10": (chance.precision, 3),
        "SR": (chance.sharpe, 2),
        "MRR": (chance.mrr, 4),
        "IRR": (chance.irr, 2),
    }
    ranges = [f"{name} {low:.{digits}f} to {high:.{digits}f}" for name, ((low, high), digits) in reached.items()]
    yield f"luck (95 % of {chance.draws} random rankings): {', '.join(ranges)}"
    if found.is_published:
        yield ""
        yield from _papers()
    yield ""
    yield from _said(found)


def _line(cells: Sequence[str]) -> str:
    first, *others = zip(cells, COLUMNS)
    return f"{first[0][: first[1]]:{first[1]}}" + "".join(f" {cell:>{width}}" for cell, width in others)


def _cells(row: Row) -> list[str]:
    figures = row.figures
    return [
        row.name, _number(figures.ic, 4), _number(figures.icir, 3), _number(figures.precision, 3),
        _number(figures.sharpe, 2), _span(figures.sharpe), _number(row.above_market, 2), _span(row.above_market),
        _number(figures.mrr, 4), _number(figures.irr, 2),
    ]  # fmt: skip


def _papers() -> Iterator[str]:
    yield "published, without intervals"
    source = ""
    for each in published.PUBLISHED:
        if each.source != source:
            source = each.source
            yield f"  {source}"
        told = (each.ic, 3), (each.icir, 3), (each.precision, 3), (each.sharpe, 3), (each.irr, 2)
        ic, icir, precision, sharpe, irr = ("–" if value is None else f"{value:.{digits}f}" for value, digits in told)
        yield _line([f"    {each.model}", ic, icir, precision, sharpe, "", "", "", "", irr])


def _said(found: Protocol) -> Iterator[str]:
    """What the intervals carry, and nothing more."""
    own, market = found.rows[0], found.rows[-1].figures
    sharpe = own.figures.sharpe
    yield f"{own.name}: top-5 Sharpe {sharpe.estimate:.2f} ({_span(sharpe)}), {_standing(sharpe, 'different from 0')}."
    if own.above_market is not None and own.above_base is not None:
        yield (
            f"Minus the equal-weight market's {market.sharpe.estimate:.2f}: {own.above_market.estimate:+.2f} "
            f"({_span(own.above_market)}), {_standing(own.above_market, 'different from the market')}."
        )
        yield (
            f"Of its ten first stocks {100 * own.figures.precision.estimate:.1f} % did not fall, of all stocks "
            f"{100 * market.precision.estimate:.1f} %: {_standing(own.above_base, 'different from a random pick')}."
        )
    if own.left_out:
        yield f"{own.left_out:,} stock-days had no score and are left out of its figures."
    if found.is_published:
        yield from _said_of_papers(found, market.sharpe)
    else:
        yield "Days and stocks are not those of the papers, so that their figures are not laid beside."


def _said_of_papers(found: Protocol, market: Interval) -> Iterator[str]:
    ratios = [each.sharpe for each in published.PUBLISHED if each.sharpe is not None]
    low, high = found.luck.sharpe
    below = sum(ratio < market.estimate for ratio in ratios)
    inside = sum(market.low <= ratio <= market.high for ratio in ratios)
    lucky = sum(low <= ratio <= high for ratio in ratios)
    yield (
        f"Of {len(ratios)} published top-5 ratios, {below} are below the equal-weight market's {market.estimate:.2f}, "
        f"{inside} inside its interval ({_span(market)}), and {lucky} inside the range of luck."
    )


def _standing(interval: Interval, words: str) -> str:
    return f"shown to be {words}" if interval.low > 0 or interval.high < 0 else f"noise: not shown to be {words}"


def _number(interval: Interval | None, digits: int) -> str:
    return "–" if interval is None or interval.estimate != interval.estimate else f"{interval.estimate:.{digits}f}"


def _span(interval: Interval | None) -> str:
    if interval is None or interval.low != interval.low:
        return "–"
    return f"{interval.low:.2f} .. {interval.high:.2f}"
