"""Which charts a run's material allows, and the drawing of each for wide and for narrow pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from atft.report import figures
from atft.report.figures import HALF, LINES, NARROW, WIDE, Span
from atft.report.material import Floats, Material, Phase, dates, floats
from atft.report.verdict import interval_of, number_of

PHASE_NAMES = {"baseline": "Baseline", "adaptive_norm": "Adaptive Norm", "gat": "GAT", "fine_tuning": "Fine-tuning"}


@dataclass(frozen=True)
class Chart:
    """One figure of the page.

    Attributes:
        drawings: ``(class, svg)``: one for all widths, or a wide and a narrow one.
        legend: ``(name, role, dashes)`` of each series; empty where the drawing names them.
        note: what to read from it.
    """

    drawings: list[tuple[str, str]]
    note: str
    legend: list[tuple[str, str, str]]


def all_of(run: Material) -> dict[str, Chart | None]:
    """Every chart by name; None where the run does not hold what it needs."""
    test: Mapping[str, Any] = run.result.get("test") or {}
    baselines: Mapping[str, Any] = run.result.get("baselines") or {}
    return {
        "intervals": _intervals(test, baselines),
        "wealth": _wealth(test, baselines),
        "monthly_ic": _monthly_ic(test),
        "deciles": _deciles(test),
        "losses": _learning(run, "losses"),
        "validation": _learning(run, "validation"),
        "batch_sharpe": _batch_sharpe(run),
    }


def phase_name(name: str) -> str:
    """A phase's name as the page shows it."""
    return PHASE_NAMES.get(name, name.replace("_", " "))


def inside_band(phase: Phase) -> float | None:
    """Share of a phase's batches within the band of sampling noise about their running mean."""
    seen = phase.batch_sharpe[np.isfinite(phase.batch_sharpe)]
    if not len(seen) or phase.expected_std is None:
        return None
    return float((np.abs(seen - figures.running_mean(seen)) <= 1.96 * phase.expected_std).mean())


def _two(draw: Callable[[int, str], str], name: str) -> list[tuple[str, str]]:
    return [("wide", draw(WIDE, name)), ("narrow", draw(NARROW, f"{name}-narrow"))]


def _intervals(test: Mapping[str, Any], baselines: Mapping[str, Any]) -> Chart | None:
    rows = []
    for key, held in (("model", test), *baselines.items()):
        value, bounds = number_of(held or {}, "sharpe_annual"), interval_of(held or {})
        if value is not None and bounds is not None and key in LINES:
            rows.append((LINES[key].name, LINES[key].role, value, *bounds))
    if not rows or not test:
        return None
    order = [line.name for line in LINES.values()]
    rows.sort(key=lambda row: order.index(row[0]))
    return Chart(_two(lambda width, name: figures.intervals(rows, width, name), "intervals"), "", [])


def _wealth(test: Mapping[str, Any], baselines: Mapping[str, Any]) -> Chart | None:
    own = test.get("series") or {}
    days = dates(own.get("dates"))
    series: dict[str, Floats] = {"model": floats(own.get("gross")), "model_net": floats(own.get("net"))}
    for key in ("ridge", "reversal", "equal_weight"):
        held = (baselines.get(key) or {}).get("series") or {}
        series[key] = _aligned(days, dates(held.get("dates")), floats(held.get("gross")))
    series = {key: values for key, values in series.items() if len(values) == len(days) and np.isfinite(values).any()}
    if len(days) < 2 or "model" not in series:
        return None
    return Chart(
        _two(lambda width, name: figures.wealth(days, series, width, name), "wealth"),
        "Before costs but for the dotted line; returns compound. Equal weight holds every stock, long only: it moves "
        "with the market, the others are dollar-neutral.",
        [(LINES[key].name, LINES[key].role, LINES[key].dashes) for key in series],
    )


def _aligned(days: list[Any], own: list[Any], values: Floats) -> Floats:
    """``values`` on ``days``, NaN where there is none; a baseline may count other days than the model."""
    if len(own) != len(values):
        return np.array([])
    held = dict(zip(own, values))
    return np.array([held.get(day, np.nan) for day in days])


def _monthly_ic(test: Mapping[str, Any]) -> Chart | None:
    own = test.get("series") or {}
    days, ic = dates(own.get("dates")), floats(own.get("ic"))
    if not days or len(days) != len(ic) or not np.isfinite(ic).any():
        return None
    _, means, _ = figures.by_month(days, ic)
    note = (
        f"{int((means > 0).sum())} of {len(means)} months above 0. Whiskers: one standard error; "
        f"dashes: the mean of all days, {float(np.nanmean(ic)):.4f}."
    )
    return Chart([("", figures.monthly_ic(days, ic, HALF, "monthly-ic"))], note, [])


def _deciles(test: Mapping[str, Any]) -> Chart | None:
    means = floats(test.get("deciles"))
    if not len(means) or not np.isfinite(means).all():
        return None
    note = f"Highest less lowest tenth: {1e4 * (means[-1] - means[0]):.1f} basis points a day, before cost."
    return Chart([("", figures.deciles(means, HALF, "deciles"))], note, [])


def _learning(run: Material, which: str) -> Chart | None:
    phases = [phase for phase in run.phases if phase.epochs]
    if not phases:
        return None
    rows = [(epoch, phase.best_epoch == epoch["epoch"]) for phase in phases for epoch in phase.epochs]
    names = ("train_loss", "validation_loss", "validation_sharpe", "validation_ic")
    curves = {name: floats([epoch.get(name) for epoch, _ in rows]) for name in names}
    curves["best"] = np.array([float(best) for _, best in rows])
    spans, first = [], 1
    for phase in phases:
        spans.append(Span(phase_name(phase.name), first, first + len(phase.epochs) - 1))
        first += len(phase.epochs)
    draw = figures.losses if which == "losses" else figures.validation
    return Chart([("", draw(curves, spans, HALF, which))], "", [])


def _batch_sharpe(run: Material) -> Chart | None:
    phases = [phase for phase in run.phases if np.isfinite(phase.batch_sharpe).any()]
    if not phases:
        return None
    steps = np.concatenate([phase.steps for phase in phases])
    values = np.concatenate([phase.batch_sharpe for phase in phases])
    spans = [Span(phase_name(phase.name), float(phase.steps[0]), float(phase.steps[-1])) for phase in phases]
    expected = [phase.expected_std for phase in phases]
    note = "Each point is one effective batch, the line their running mean. " + (
        "The band holds 95 % of batches if nothing but the sample moves them: inside it there is no news."
        if any(expected)
        else "The expected sampling noise is not known, so that no band is drawn."
    )
    return Chart(
        _two(lambda width, name: figures.batch_sharpe(steps, values, spans, expected, width, name), "batch-sharpe"),
        note,
        [],
    )
