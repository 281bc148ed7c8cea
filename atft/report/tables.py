"""The report's tables and key figures, as text ready to be set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atft.config import flat
from atft.report.charts import inside_band, phase_name
from atft.report.figures import LINES
from atft.report.material import Material, Phase
from atft.report.verdict import interval_of, net_interval_of, number_of

ROWS = ("model", "ridge", "reversal", "equal_weight", "shuffled")
DASH = "–"

Row = dict[str, Any]


@dataclass(frozen=True)
class Tile:
    """A key figure: what it is, its value, and what helps to judge it."""

    name: str
    value: str
    note: str


def show(value: float | None, digits: int = 2, unit: str = "") -> str:
    """A figure as text, a dash where there is none."""
    return DASH if value is None else f"{value:,.{digits}f}{unit}"


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as a percentage."""
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def basis_points(value: float | None) -> str:
    """A fraction in basis points."""
    return DASH if value is None else f"{1e4 * value:.1f}"


def clock(seconds: float | None) -> str:
    """A duration in the two units that matter."""
    if seconds is None:
        return DASH
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def span(bounds: tuple[float, float] | None, digits: int = 2) -> str:
    """An interval as text."""
    return DASH if bounds is None else f"{bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}"


def tiles(test: Mapping[str, Any]) -> list[Tile]:
    """Key figures of the test period; none where there is no test."""
    if not test:
        return []
    drawdown = number_of(test, "max_drawdown")
    bounds = test.get("ic_ci95")
    return [
        Tile("Sharpe, a year", show(number_of(test, "sharpe_annual")), f"95 %: {span(interval_of(test))}"),
        Tile(
            "Sharpe, net of cost",
            show(number_of(test, "sharpe_net_annual")),
            f"95 %: {span(net_interval_of(test))}; {show(number_of(test, 'cost_bps'), 1)} bp a unit, "
            f"turnover {show(number_of(test, 'turnover'))} a day",
        ),
        Tile(
            "Information coefficient",
            show(number_of(test, "ic"), 4),
            f"95 %: {span((bounds[0], bounds[1]) if bounds else None, 3)}",
        ),
        Tile("Rank IC", show(number_of(test, "rank_ic"), 4), f"ICIR {show(number_of(test, 'icir'), 3)}"),
        Tile("Largest drawdown", percent(drawdown and -drawdown), "of compounded wealth, before cost"),
        Tile("Pooled Sharpe", show(number_of(test, "pooled_sharpe"), 3), "a stock-day: the original experiment's form"),
    ]


def comparison(result: Mapping[str, Any], beside: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> list[Row]:
    """The model and its baselines on the test period, a row each, and the baselines' own runs where some lie beside."""
    held = {"model": result.get("test"), **(result.get("baselines") or {})}
    rows = []
    for name in ROWS:
        figures = held.get(name)
        if not isinstance(figures, Mapping):
            continue
        if name == "shuffled":  # its other figures are those of a single shuffle
            figures = {key: figures.get(key) for key in ("sharpe_annual", "sharpe_annual_ci95", "ic")}
        rows.append({"key": name, "role": LINES[name].role, "name": LINES[name].name, "cells": _figures(figures)})
    if rows:
        rows += [{"key": "beside", "role": "second", "name": name, "cells": _figures(each)} for name, each in beside]
    return rows


def strategies(test: Mapping[str, Any]) -> list[Row]:
    """The scores by other strategies and at other prices, a row each; none of a result that does not tell."""
    held = test.get("strategies")
    rows = []
    for figures in held if isinstance(held, list) else ():
        if not isinstance(figures, Mapping):
            continue
        drawdown = number_of(figures, "max_drawdown")
        rows.append(
            {
                "name": str(figures.get("strategy")),
                "execution": str(figures.get("execution")),
                "cells": [
                    show(number_of(figures, "sharpe_annual")),
                    span(interval_of(figures)),
                    show(number_of(figures, "sharpe_net_annual")),
                    basis_points(number_of(figures, "long_return")),
                    basis_points(number_of(figures, "short_return")),
                    show(number_of(figures, "turnover")),
                    percent(drawdown and -drawdown),
                    show(number_of(figures, "excess_sharpe_annual")),
                ],
            }
        )
    return rows


def _figures(figures: Mapping[str, Any]) -> list[str]:
    """The cells of one row of the comparison."""
    drawdown = number_of(figures, "max_drawdown")
    return [
        show(number_of(figures, "sharpe_annual")),
        span(interval_of(figures)),
        show(number_of(figures, "sharpe_net_annual")),
        show(number_of(figures, "ic"), 4),
        show(number_of(figures, "icir"), 3),
        show(number_of(figures, "rank_ic"), 4),
        show(number_of(figures, "turnover")),
        percent(drawdown and -drawdown),
    ]


def phases(held: Sequence[Phase]) -> list[Row]:
    """What each phase did, a row each."""
    rows = []
    for phase in held:
        best = next((epoch for epoch in phase.epochs if epoch["epoch"] == phase.best_epoch), {})
        seen = phase.batch_sharpe[np.isfinite(phase.batch_sharpe)]
        inside = inside_band(phase)
        rows.append(
            {
                "name": phase_name(phase.name),
                "parts": ", ".join(part.replace("_", " ") for part in phase.parts),
                "cells": [
                    str(len(phase.epochs)),
                    DASH if phase.best_epoch is None else str(phase.best_epoch),
                    DASH if phase.learning_rate is None else f"{phase.learning_rate:g}",
                    show(number_of(best, "train_loss"), 4),
                    show(number_of(best, "validation_loss"), 4),
                    show(number_of(best, "validation_sharpe"), 3),
                    show(number_of(best, "validation_ic"), 4),
                    f"{seen.mean():.3f} ± {seen.std():.3f}" if len(seen) else DASH,
                    DASH if phase.expected_std is None else f"± {phase.expected_std:.3f}",
                    percent(inside, 0),
                    clock(phase.seconds),
                ],
            }
        )
    return rows


def facts(run: Material) -> list[tuple[str, str]]:
    """How the run was made: size, batch, steps, time, machine."""
    started, result = run.last("run_started"), run.result
    batch = {**(started.get("effective_batch") or {}), **(run.tier.get("batch") or {})}
    counted = number_of(result.get("effective_batch") or {}, "samples")
    parameters = result.get("parameters", started.get("parameters"))
    samples = result.get("samples", sum(event.get("samples") or 0 for event in run.steps))
    asked, used = started.get("precision_asked"), started.get("precision", result.get("precision"))
    rows = [
        ("Parameters", show(parameters, 0)),
        (
            "Effective batch",
            f"{batch.get('days', '?')} days × {batch.get('stocks_per_day', '?')} stocks, blocks of "
            f"{batch.get('block_days', '?')} days" + (f"; {counted:,.0f} stock-days counted" if counted else ""),
        ),
        ("Optimizer steps", show(result.get("steps", len(run.steps) or None), 0)),
        ("Samples", f"{samples:,} stock-days" if samples else DASH),
        ("Time", clock(result.get("runtime_seconds", run.last("run_finished").get("seconds")))),
        ("Waiting for data", percent(_data_share(run))),
        ("Workers × micro-batches", f"{started.get('world_size', 1)} × {run.last('step').get('micro_batches', DASH)}"),
        ("Device", f"{started.get('device', DASH)}, {started.get('threads', DASH)} threads"),
        ("Precision", f"{used or DASH}" + (f" (asked: {asked})" if asked and asked != used else "")),
        ("Seed", str(result.get("seed", started.get("seed", DASH)))),
    ]
    resumed = sum(event["kind"] == "resumed" for event in run.events)
    if run.accepted:
        rows.append(("Checks", f"accepted: {', '.join(run.accepted)}"))
    return rows + ([("Resumed", f"{resumed} ×")] if resumed else [])


def _data_share(run: Material) -> float | None:
    """Share of the steps' time that was spent waiting for data."""
    total = sum(event.get("seconds") or 0.0 for event in run.steps)
    return sum(event.get("data_seconds") or 0.0 for event in run.steps) / total if total else None


def settings(tier: Mapping[str, Any], provenance: Mapping[str, str]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """All settings by group: ``(group, [(name, value, where it came from)])``."""
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for name, value in flat(tier):
        group = name.split(".")[0] if "." in name else "tier"
        groups.setdefault(group, []).append((name, _shown(value), _source(name, provenance)))
    return list(groups.items())


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else f"{value:,}" if type(value) is int else str(value)


def _source(name: str, provenance: Mapping[str, str]) -> str:
    """Where a value came from: its own entry, or that of the group that was set as a whole."""
    while name:
        if name in provenance:
            return str(provenance[name])
        name = name.rpartition(".")[0]
    return DASH


def hashes(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run can be recognised by."""
    named = (("Configuration", "config_sha256"), ("Data", "data_sha256"))
    return [(label, str(result[name])) for label, name in named if result.get(name)]
