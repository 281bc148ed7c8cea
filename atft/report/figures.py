"""The report's charts. Each function draws one figure from plain numbers and gives it back as SVG text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atft.report.svg import FONT_SIZE, caption_panel, colour, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

WIDE, NARROW = 940, 420
"""Pixels of a chart over the whole page, and of the one that takes its place on a narrow screen."""
HALF = 450
"""Pixels of a chart that shares a row."""
MOST_POINTS = 1000
"""Batches drawn as points; of more, every n-th is drawn, and all count in means and bands."""


@dataclass(frozen=True)
class Line:
    """One series of a chart: its name in the legend, the role of its colour, its dashes."""

    name: str
    role: str
    dashes: str = "solid"
    width: float = 1.8


LINES = {
    "model": Line("model", "model", "solid", 2.6),
    "model_net": Line("model, net of cost", "model", "dotted", 2.0),
    "ridge": Line("ridge", "ridge"),
    "reversal": Line("1-day reversal", "reversal", "dashed"),
    "equal_weight": Line("equal weight", "equal", "dashdot"),
    "shuffled": Line("shuffled labels", "second"),
}


@dataclass(frozen=True)
class Span:
    """A phase on the horizontal axis of steps or epochs: from ``first`` to ``last``, both included."""

    name: str
    first: float
    last: float


def intervals(rows: Sequence[tuple[str, str, float, float, float]], width: int, name: str) -> str:
    """Sharpe ratios with their 95 % intervals, one under the other.

    Args:
        rows: ``(label, role, value, low, high)``, first on top.
        width: pixels.
        name: unique on the page.
    """
    figure, (panel,) = new_figure(width, 46 + 34 * len(rows))
    for place, (_, role, value, low, high) in enumerate(rows):
        first = place == 0
        panel.plot([low, high], [place, place], color=colour(role), linewidth=4 if first else 2.4, alpha=0.55)
        panel.plot([value], [place], "o", color=colour(role), markersize=10 if first else 7.5)
    panel.axvline(0, color=colour("ink"), linewidth=1.2)
    panel.set_yticks(range(len(rows)), [row[0] for row in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.grid(axis="y", visible=False)
    panel.grid(axis="x", color=colour("grid"), linewidth=1)
    panel.spines["bottom"].set_visible(False)
    for label in panel.get_yticklabels():
        label.set_color(colour("ink"))
    said = "; ".join(f"{row[0]} {row[2]:.2f}, {row[3]:.2f} to {row[4]:.2f}" for row in rows)
    return to_svg(figure, name, "Annual Sharpe ratio with 95 % interval", said)


def wealth(dates: Sequence[dt.date], series: dict[str, Floats], width: int, name: str) -> str:
    """Cumulative compounded return, and the fall from the highest point so far, over the test period.

    Args:
        dates: ``[days]``.
        series: daily simple returns ``[days]`` by key of :data:`LINES`; NaN counts as no return.
        width: pixels.
        name: unique on the page.
    """
    figure, (top, bottom) = new_figure(width, 430 if width == WIDE else 400, rows=2, height_ratios=[2.2, 1])
    days = day_numbers(dates)
    for key, returns in reversed(series.items()):
        line = LINES[key]
        total, fall = wealth_and_fall(returns)
        style: dict[str, Any] = {"color": colour(line.role), "linewidth": line.width, "linestyle": line.dashes}
        top.plot(days, 100 * (total - 1), **style)
        if key == "model":
            bottom.fill_between(days, 100 * fall, color=colour(line.role), alpha=0.18, linewidth=0)
        if key != "model_net":
            bottom.plot(days, 100 * fall, **{**style, "linewidth": 0.7 * line.width})
    top.axhline(0, color=colour("muted"), linewidth=1)
    caption_panel(top, "Cumulative return, %")
    caption_panel(bottom, "Drawdown, %")
    date_axis(bottom, dates)
    ends = "; ".join(f"{LINES[key].name} {100 * (wealth_and_fall(r)[0][-1] - 1):.1f} %" for key, r in series.items())
    return to_svg(figure, name, "Cumulative return and drawdown over the test period", f"At the end: {ends}.")


def wealth_and_fall(returns: Floats) -> tuple[Floats, Floats]:
    """Compounded wealth from 1, and its fall from the highest so far (0 or less), both ``[days]``."""
    total: Floats = np.cumprod(1 + np.nan_to_num(returns), dtype=np.float64)
    return total, total / np.maximum(np.maximum.accumulate(total), 1.0) - 1


def monthly_ic(dates: Sequence[dt.date], ic: Floats, width: int, name: str) -> str:
    """Mean information coefficient of each month, with its standard error.

    Args:
        dates: ``[days]``.
        ic: ``[days]`` information coefficients; NaN where a day has none.
        width: pixels.
        name: unique on the page.
    """
    months, means, errors = by_month(dates, ic)
    figure, (panel,) = new_figure(width, 280)
    places = np.arange(len(months))
    shades = [colour("model" if mean >= 0 else "loss") for mean in means]
    panel.bar(places, means, color=shades, width=0.66, alpha=0.85)
    panel.errorbar(places, means, yerr=errors, fmt="none", ecolor=colour("ink"), elinewidth=1.2, capsize=3)
    panel.axhline(0, color=colour("ink"), linewidth=1.2)
    panel.axhline(float(np.nanmean(ic)), color=colour("second"), linewidth=1.6, linestyle="dashed")
    every = max(1, -(-len(months) // (12 if width > NARROW else 8)))
    years = len({month[:4] for month in months}) > 1
    names = [_month_name(month, years) for month in months]
    panel.set_xticks(places[::every], names[::every])
    panel.grid(axis="x", visible=False)
    caption_panel(panel, "IC by month")
    said = ", ".join(f"{month} {mean:.3f}" for month, mean in zip(months, means))
    return to_svg(figure, name, "Information coefficient by month", said)


def by_month(dates: Sequence[dt.date], values: Floats) -> tuple[list[str], Floats, Floats]:
    """Months as ``YYYY-MM`` in order, the mean of each, its standard error; months without a value are left out."""
    groups: dict[str, list[float]] = {}
    for date, value in zip(dates, values):
        if np.isfinite(value):
            groups.setdefault(f"{date:%Y-%m}", []).append(float(value))
    months = sorted(groups)
    means = np.array([np.mean(groups[month]) for month in months])
    errors = np.array([np.std(groups[month], ddof=min(1, len(groups[month]) - 1)) for month in months])
    return months, means, errors / np.sqrt([len(groups[month]) for month in months])


def deciles(means: Floats, width: int, name: str) -> str:
    """Mean daily return of the stocks in each tenth of the scores.

    Args:
        means: ``[10]`` simple returns per day, lowest scores first.
        width: pixels.
        name: unique on the page.
    """
    figure, (panel,) = new_figure(width, 280)
    points = 1e4 * means
    panel.bar(
        np.arange(1, len(points) + 1),
        points,
        color=[colour("model" if point >= 0 else "loss") for point in points],
        width=0.7,
        alpha=0.85,
    )
    panel.axhline(0, color=colour("ink"), linewidth=1.2)
    panel.set_xticks(range(1, len(points) + 1))
    panel.set_xlabel("lowest scores  →  highest scores", fontsize=FONT_SIZE, color=colour("muted"), labelpad=8)
    caption_panel(panel, "Mean daily return by decile of score, basis points")
    said = ", ".join(f"{place}: {point:.1f}" for place, point in enumerate(points, 1))
    return to_svg(figure, name, "Mean daily return by decile of score", said)


def losses(epochs: dict[str, Floats], spans: Sequence[Span], width: int, name: str) -> str:
    """Training and validation loss by epoch, over all phases.

    Args:
        epochs: ``train_loss``, ``validation_loss``, ``best`` (1 at a phase's best epoch), each ``[epochs]``.
        spans: where phases lie on the axis of epochs.
        width: pixels.
        name: unique on the page.
    """
    figure, (top, bottom) = new_figure(width, 380, rows=2)
    _curve(top, epochs["train_loss"], epochs["best"], spans, "second")
    _curve(bottom, epochs["validation_loss"], epochs["best"], spans, "model")
    caption_panel(top, "Training loss by epoch")
    caption_panel(bottom, "Validation loss by epoch")
    phase_axis(figure.axes, spans)
    return to_svg(figure, name, "Training and validation loss by epoch", _ends(epochs, "train_loss", "validation_loss"))


def validation(epochs: dict[str, Floats], spans: Sequence[Span], width: int, name: str) -> str:
    """Validation Sharpe ratio and information coefficient by epoch; arguments as for :func:`losses`."""
    figure, (top, bottom) = new_figure(width, 380, rows=2)
    _curve(top, epochs["validation_sharpe"], epochs["best"], spans, "model")
    _curve(bottom, epochs["validation_ic"], epochs["best"], spans, "model")
    for panel in (top, bottom):
        keep_zero(panel)
    caption_panel(top, "Validation Sharpe a day, by epoch")
    caption_panel(bottom, "Validation IC by epoch")
    phase_axis(figure.axes, spans)
    said = _ends(epochs, "validation_sharpe", "validation_ic")
    return to_svg(figure, name, "Validation Sharpe and information coefficient by epoch", said)


def batch_sharpe(
    steps: Floats, values: Floats, spans: Sequence[Span], expected: Sequence[float | None], width: int, name: str
) -> str:
    """The Sharpe ratio of each batch, its running mean, and the band that sampling noise alone would fill.

    Args:
        steps: ``[steps]`` numbers of optimizer steps, rising.
        values: ``[steps]`` batch Sharpe ratios; NaN where there is none.
        spans: where phases lie on the axis of steps.
        expected: the expected sampling deviation in each phase; None where it is not known.
        width: pixels.
        name: unique on the page.
    """
    figure, (panel,) = new_figure(width, 300)
    for span, deviation in zip(spans, expected):
        inside = (steps >= span.first) & (steps <= span.last) & np.isfinite(values)
        if inside.any():
            _strip(panel, steps[inside], values[inside], deviation, max(1, len(steps) // MOST_POINTS))
    panel.axhline(0, color=colour("ink"), linewidth=1)
    caption_panel(panel, "Batch Sharpe by step")
    phase_axis([panel], spans)
    seen = values[np.isfinite(values)]
    said = f"{len(seen)} batches, mean {seen.mean():.3f}, standard deviation {seen.std():.3f}"
    return to_svg(figure, name, "Batch Sharpe ratio of every optimizer step", said)


def _strip(panel: Axes, steps: Floats, values: Floats, deviation: float | None, every: int) -> None:
    running = running_mean(values)
    if deviation:
        low, high = running - 1.96 * deviation, running + 1.96 * deviation
        panel.fill_between(steps, low, high, color=colour("model"), alpha=0.14, linewidth=0)
    panel.plot(steps[::every], values[::every], "o", color=colour("muted"), markersize=3.4, alpha=0.55, mew=0)
    panel.plot(steps, running, color=colour("model"), linewidth=2.2)


def running_mean(values: Floats) -> Floats:
    """Centred mean over a tenth of the values (at least 9, at the ends fewer), ``[values]``."""
    reach = max(4, len(values) // 20)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(values))
    means: Floats = (sums[high] - sums[low]) / (high - low)
    return means


def _curve(panel: Axes, values: Floats, best: Floats, spans: Sequence[Span], role: str) -> None:
    """One curve by epoch, broken between phases, ringed where a phase was best."""
    places = np.arange(1, len(values) + 1)
    for span in spans:
        inside = (places >= span.first) & (places <= span.last)
        panel.plot(places[inside], values[inside], color=colour(role), linewidth=2, marker="o", markersize=3.2)
    chosen = best > 0
    panel.plot(
        places[chosen], values[chosen], "o", color=colour(role), markerfacecolor=colour("paper"), markersize=9, mew=2.2
    )


def keep_zero(panel: Axes) -> None:
    """Show 0 where a metric is near it or crosses it."""
    low, high = panel.get_ylim()
    if low < 0 < high:
        panel.axhline(0, color=colour("ink"), linewidth=1)


def phase_axis(panels: Sequence[Axes], spans: Sequence[Span]) -> None:
    """Thin lines between phases, their names over the lowest panel's axis, whole numbers on it."""
    from matplotlib.ticker import MaxNLocator

    first, last = spans[0].first, spans[-1].last
    for panel in panels:
        panel.set_xlim(first - 0.5 - 0.01 * (last - first), last + 0.5 + 0.01 * (last - first))
        for span in spans[1:]:
            panel.axvline(span.first - 0.5, color=colour("grid"), linewidth=1.2, linestyle=(0, (3, 3)))
    lowest = panels[-1]
    lowest.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    width = lowest.figure.get_size_inches()[0] * 72 - 60  # type: ignore[union-attr]
    for place, span in enumerate(spans, 1):
        room = width * (span.last - span.first + 1) / (last - first + 1)
        words = span.name.split()
        fits = [text for text in (" ".join(words), "\n".join(words)) if _width(text) < room]
        text = fits[0] if fits else str(place)
        middle = (span.first + span.last) / 2
        lowest.annotate(
            text,
            (middle, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -25),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=FONT_SIZE,
            color=colour("ink"),
        )


def _width(text: str) -> float:
    """Width of the longest line in points, about."""
    return 0.53 * FONT_SIZE * max(map(len, text.splitlines()))


def _ends(epochs: dict[str, Floats], *names: str) -> str:
    parts = []
    for name in names:
        values = epochs[name][np.isfinite(epochs[name])]
        if len(values):
            parts.append(f"{name.replace('_', ' ')} from {values[0]:.4f} to {values[-1]:.4f}")
    return "; ".join(parts)


def day_numbers(dates: Sequence[dt.date]) -> Floats:
    """Dates as places on an axis."""
    from matplotlib.dates import date2num

    return np.asarray(date2num(list(dates)), dtype=np.float64)  # type: ignore[no-untyped-call]


def date_axis(panel: Axes, dates: Sequence[dt.date]) -> None:
    """A horizontal axis of dates, from the first to the last."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))  # type: ignore[no-untyped-call]
    if len(dates) > 1:
        ends = day_numbers([dates[0], dates[-1]])
        panel.set_xlim(float(ends[0]), float(ends[1]))


def _month_name(month: str, years: bool) -> str:
    name = dt.date.fromisoformat(f"{month}-01").strftime("%b")
    return f"{name}\n{month[:4]}" if years and month.endswith("-01") else name
