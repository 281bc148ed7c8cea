"""The picture of a table or a panel: who is there when, what is missing, who comes and goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from atft.report.svg import caption_panel, colour, new_figure, standalone, to_svg

WIDTH, HEIGHT = 940, 620


def preview(
    place: str,
    days: npt.NDArray[np.datetime64],
    rows: npt.NDArray[np.int64],
    living: npt.NDArray[np.int64],
    years: Sequence[Mapping[str, Any]],
) -> str:
    """An SVG file of its own.

    Args:
        place: what is described.
        days: ``[days]`` datetime64[D].
        rows: ``[days]`` stocks with a row.
        living: ``[days]`` stocks between their first and last row whose market trades.
        years: of each calendar year its ``year``, ``entries`` and ``exits``.
    """
    figure, (stocks, missing, turnover) = new_figure(WIDTH, HEIGHT, rows=3, height_ratios=[3, 2, 2])
    stocks.fill_between(days, living, color=colour("model"), alpha=0.18, linewidth=0)
    stocks.plot(days, rows, color=colour("model"), linewidth=1.6)
    stocks.set_ylim(bottom=0)
    caption_panel(stocks, "Stocks with a row, by day; shaded: between their first row and their last")
    share = 100 * (1 - rows / np.maximum(living, 1))
    missing.fill_between(days, share, color=colour("loss"), alpha=0.7, linewidth=0)
    missing.set_ylim(bottom=0, top=max(1.0, float(share.max()) * 1.05))
    caption_panel(missing, "Missing of them, %")
    begin = [np.datetime64(f"{year['year']}-07-01") for year in years]
    turnover.bar(begin, [year["entries"] for year in years], width=200, color=colour("gain"), alpha=0.85)
    turnover.bar(begin, [-year["exits"] for year in years], width=200, color=colour("loss"), alpha=0.85)
    turnover.axhline(0, color=colour("ink"), linewidth=1.2)
    caption_panel(turnover, "Stocks that begin (up) and end (down) inside the table, by year")
    said = (
        f"{int(rows.max())} stocks with a row at most, {int(rows.min())} at least; {float(share.max()):.1f} % of the "
        f"living ones missing at most; {sum(year['entries'] for year in years)} begin and "
        f"{sum(year['exits'] for year in years)} end inside the table"
    )
    return standalone(to_svg(figure, "preview", f"What {place} holds", said), WIDTH, HEIGHT)
