"""The pictures of a comparison. Each function draws one from :class:`Curves` and gives it back as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from atft.report.charts import Chart, phase_name
from atft.report.compare_curves import Curves
from atft.report.figures import NARROW, WIDE, Span, date_axis, day_numbers, keep_zero, phase_axis
from atft.report.material import Floats, floats
from atft.report.svg import caption_panel, colour, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROLES = ("equal", "model", "ridge", "second", "reversal")
"""Colours of configurations, the baseline's first; a sixth begins again, in dashes."""
DASHES = ("solid", "dashed", "dotted", "dashdot")
MOST_POINTS = 300
"""Batches of one configuration and phase that are drawn as points; of more, every n-th is drawn and all count."""


def look(place: int) -> tuple[str, str]:
    """Role of the colour, and dashes, of the configuration at a place."""
    return ROLES[place % len(ROLES)], DASHES[place // len(ROLES) % len(DASHES)]


def all_of(curves: Curves) -> dict[str, Chart | None]:
    """Every picture by name; None where the runs do not hold what it needs."""
    return {
        "validation": validation(curves),
        "batches": batches(curves),
        "wealth": wealth(curves),
        "differences": differences(curves),
    }


def legend(curves: Curves, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """``(name, role, dashes)`` of configurations."""
    return [(name, *look(list(curves.names).index(name))) for name in names]


def _two(draw: Any, name: str) -> list[tuple[str, str]]:
    return [("wide", draw(WIDE, name)), ("narrow", draw(NARROW, f"{name}-narrow"))]


def spans(curves: Curves) -> list[Span]:
    """Where each phase lies on an axis of epochs that all runs share: as long as its longest run."""
    lengths: dict[str, int] = {}
    for runs in curves.epochs.values():
        for phases in runs:
            for name, epochs in phases:
                lengths[name] = max(lengths.get(name, 0), len(epochs))
    found, first = [], 1
    for name, length in lengths.items():
        if length:
            found.append(Span(name, first, first + length - 1))
            first += length
    return found


def validation(curves: Curves) -> Chart | None:
    """Validation Sharpe by epoch: a thin line for each seed, a thick one for the mean of several."""
    held = spans(curves)
    starts = {span.name: span.first for span in held}
    known = [
        name
        for name in curves.names
        if any(np.isfinite(_sharpes(e)).any() for r in curves.epochs.get(name, ()) for _, e in r)
    ]
    if not held or not known:
        return None

    def draw(width: int, name: str) -> str:
        figure, (panel,) = new_figure(width, 330)
        for each in known:
            role, dashes = look(list(curves.names).index(each))
            runs = curves.epochs[each]
            several = len(runs) > 1
            for phases in runs:
                for phase, epochs in phases:
                    places = starts[phase] + np.arange(len(epochs)) if epochs else np.array([])
                    style: dict[str, Any] = (
                        {"linewidth": 1, "alpha": 0.45} if several else {"linewidth": 2, "marker": "o"}
                    )
                    panel.plot(places, _sharpes(epochs), color=colour(role), linestyle=dashes, markersize=3.2, **style)
            if several:
                for span in held:
                    places, means = _mean(span, runs)
                    panel.plot(
                        places, means, color=colour(role), linewidth=2.4, linestyle=dashes, marker="o", markersize=3.6
                    )
        keep_zero(panel)
        caption_panel(panel, "Validation Sharpe a day, by epoch")
        phase_axis([panel], [Span(phase_name(span.name), span.first, span.last) for span in held])
        said = "; ".join(f"{each} {_last(curves, each)}" for each in known)
        return to_svg(figure, name, "Validation Sharpe ratio by epoch of all configurations", f"At the end: {said}.")

    several = any(len(runs) > 1 for runs in curves.epochs.values())
    note = "Thick: mean of the seeds; thin: each of them." if several else ""
    return Chart(_two(draw, "compare-validation"), note, legend(curves, known))


def _sharpes(epochs: Sequence[Any]) -> Floats:
    return floats([epoch.get("validation_sharpe") for epoch in epochs])


def _mean(span: Span, runs: Sequence[Any]) -> tuple[Floats, Floats]:
    """Epochs of a phase that every run has, and the mean over the runs."""
    held = [_sharpes(dict(phases).get(span.name, ())) for phases in runs]
    length = min(map(len, held))
    means: Floats = np.mean([each[:length] for each in held], axis=0) if length else np.array([])
    return span.first + np.arange(length, dtype=np.float64), means


def _last(curves: Curves, name: str) -> str:
    ends = [_sharpes(phases[-1][1]) for phases in curves.epochs[name] if phases and phases[-1][1]]
    known = [float(each[-1]) for each in ends if len(each) and np.isfinite(each[-1])]
    return f"{np.mean(known):.3f}" if known else "unknown"


def batches(curves: Curves) -> Chart | None:
    """Batch Sharpe ratios by phase: points, what 95 % of them span, and the wedge that the sample alone would fill."""
    phases = list(dict.fromkeys(name for held in curves.batches.values() for name in held))
    phases = [name for name in phases if any(len(v) for held in curves.batches.values() for v, _ in held.get(name, ()))]
    known = [
        name for name in curves.names if any(len(v) for held in curves.batches.get(name, {}).values() for v, _ in held)
    ]
    if not phases or not known:
        return None

    def draw(width: int, name: str) -> str:
        figure, (panel,) = new_figure(width, 340)
        random = np.random.default_rng(0)  # where points lie beside one another means nothing
        for place, phase in enumerate(phases):
            for number, each in enumerate(known):
                middle = place + (number - (len(known) - 1) / 2) * 0.8 / len(known)
                held = curves.batches[each].get(phase, ())
                _strip(panel, middle, 0.72 / len(known), held, look(list(curves.names).index(each))[0], random)
        panel.axhline(0, color=colour("ink"), linewidth=1)
        panel.set_xticks(range(len(phases)), [phase_name(phase).replace(" ", "\n") for phase in phases])
        for label in panel.get_xticklabels():
            label.set_color(colour("ink"))
        panel.set_xlim(-0.5, len(phases) - 0.5)
        panel.grid(axis="x", visible=False)
        for left, _ in pairwise(range(len(phases))):
            panel.axvline(left + 0.5, color=colour("grid"), linewidth=1.2, linestyle=(0, (3, 3)))
        caption_panel(panel, "Batch Sharpe by phase")
        return to_svg(
            figure, name, "Batch Sharpe ratios by phase, beside their expected noise", _said(curves, known, phases)
        )

    note = (
        "Points: effective batches. Shaded cone: what 95 % of them would fill if nothing but the sample moved them, "
        "its width how often each value would come; bar: what 95 % of them do fill. Where the bar is no longer "
        "than the cone there is no news in the ups and downs, whatever their range."
    )
    return Chart(_two(draw, "compare-batches"), note, legend(curves, known))


def _strip(
    panel: Axes, middle: float, width: float, held: Sequence[Any], role: str, random: np.random.Generator
) -> None:
    values = np.concatenate([each for each, _ in held]) if held else np.array([])
    if not len(values):
        return
    expected = [deviation for _, deviation in held if deviation]
    if expected:
        size, centre = float(np.mean(expected)), float(values.mean())
        heights = np.linspace(-1.96, 1.96, 41)
        density = np.exp(-(heights**2) / 2) * width / 2
        panel.fill_betweenx(
            centre + size * heights, middle - density, middle + density, color=colour(role), alpha=0.2, linewidth=0
        )
    few = values[:: max(1, len(values) // MOST_POINTS)]
    places = middle + random.uniform(-0.32, 0.32, len(few)) * width
    panel.plot(places, few, "o", color=colour(role), markersize=3, alpha=0.5, mew=0)
    low, high = np.quantile(values, [0.025, 0.975])
    panel.plot([middle, middle], [low, high], color=colour(role), linewidth=3, solid_capstyle="butt")
    panel.plot(
        [middle], [values.mean()], "o", color=colour(role), markerfacecolor=colour("paper"), markersize=6.5, mew=2
    )


def _said(curves: Curves, known: Sequence[str], phases: Sequence[str]) -> str:
    told = []
    for each in known:
        for phase in phases:
            held = curves.batches[each].get(phase, ())
            values = np.concatenate([v for v, _ in held]) if held else np.array([])
            if len(values):
                told.append(
                    f"{each}, {phase_name(phase)}: {len(values)} batches, {values.mean():.3f} ± {values.std():.3f}"
                )
    return "; ".join(told)


def wealth(curves: Curves) -> Chart | None:
    """Cumulative test returns, compounded: the mean of a configuration's seeds, each seed thin."""
    if len(curves.days) < 2 or not curves.daily:
        return None

    def draw(width: int, name: str) -> str:
        figure, (panel,) = new_figure(width, 330)
        days = day_numbers(curves.days)
        for each, line in curves.daily.items():
            role, dashes = look(list(curves.names).index(each))
            if len(line.seeds) > 1:
                for row in line.seeds:
                    panel.plot(days, _grown(row), color=colour(role), linewidth=1, alpha=0.4, linestyle=dashes)
            panel.plot(days, _grown(line.mean), color=colour(role), linewidth=2.4, linestyle=dashes)
        panel.axhline(0, color=colour("ink"), linewidth=1)
        caption_panel(panel, "Cumulative test return, %")
        date_axis(panel, curves.days)
        said = "; ".join(f"{each} {_grown(line.mean)[-1]:.1f} %" for each, line in curves.daily.items())
        return to_svg(figure, name, "Cumulative return over the test period", f"At the end: {said}.")

    several = any(len(line.seeds) > 1 for line in curves.daily.values())
    note = "Before costs, compounded, on the days that all have." + (
        " Thick: equal shares in all seeds, which vary less than one of them; thin: each seed." if several else ""
    )
    return Chart(_two(draw, "compare-wealth"), note, legend(curves, list(curves.daily)))


def _grown(daily: Floats) -> Floats:
    found: Floats = 100 * (np.cumprod(1 + daily, dtype=np.float64) - 1)
    return found


def differences(curves: Curves) -> Chart | None:
    """Sum of the daily differences from the baseline, with the cone that days without any difference would stay in."""
    if not curves.names or curves.names[0] not in curves.daily or len(curves.daily) < 2 or len(curves.days) < 2:
        return None
    base = curves.daily[curves.names[0]].mean
    moved = {name: line.mean - base for name, line in curves.daily.items() if name != curves.names[0]}

    def draw(width: int, name: str) -> str:
        figure, (panel,) = new_figure(width, 330)
        days = day_numbers(curves.days)
        for each, daily in moved.items():
            role, dashes = look(list(curves.names).index(each))
            cone = 100 * 1.96 * daily.std() * np.sqrt(np.arange(1, len(daily) + 1))
            panel.fill_between(days, -cone, cone, color=colour(role), alpha=0.12, linewidth=0)
            panel.plot(days, 100 * np.cumsum(daily), color=colour(role), linewidth=2.4, linestyle=dashes)
        panel.axhline(0, color=colour("ink"), linewidth=1)
        caption_panel(panel, f"Sum of daily returns less those of {curves.names[0]}, percentage points")
        date_axis(panel, curves.days)
        said = "; ".join(f"{each} {100 * daily.sum():+.1f} points" for each, daily in moved.items())
        return to_svg(figure, name, f"Cumulative daily difference from {curves.names[0]}", f"At the end: {said}.")

    note = (
        "The cone holds 95 % of such sums, day by day, if these very models earn the same and days are independent. "
        "Chance in training is not in it: a line can leave it because of the seeds that were drawn. The test above "
        "counts that too, where there are several seeds."
    )
    return Chart(_two(draw, "compare-differences"), note, legend(curves, list(moved)))
