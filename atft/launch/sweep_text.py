"""What the command line says of a sweep, and the files that say it too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atft.experiment.sweep_plan import Plan, run_name
from atft.launch.places import as_uri
from atft.launch.sweep_book import Book
from atft.report import sweep as report

LOOKS = "No run of a sweep has looked at the test period: points are chosen on the validation period alone."


def of_plan(plan: Plan, search: str) -> dict[str, Any]:
    """What a sweep would do, as plain data."""
    points = [
        {
            "point": point.name, "value": point.value, "reference": point == plan.reference,
            "effective_batch": point.tier.batch.samples,
            "steps_per_epoch": point.tier.steps_per_epoch, "epoch_stock_days": point.tier.epoch_stock_days,
            "epochs": {name: phase.epochs for name, phase in point.tier.phases_to_run().items()},
            "steps": _epochs(point) * point.tier.steps_per_epoch,
            "samples": _epochs(point) * point.tier.epoch_stock_days,
        }
        for point in plan.points
    ]  # fmt: skip
    asked = plan.sweep.range
    return {
        "sweep": plan.sweep.name, "tier": plan.base.tier.name, "variable": plan.sweep.variable,
        "hold": plan.sweep.hold, "metric": plan.base.tier.validation_metric, "seeds": list(plan.sweep.seeds),
        "settings": dict(plan.sweep.settings), "threads": plan.base.tier.runtime.threads, "points": points,
        "runs": [trial.name for trial in plan.trials], "search": search,
        "trials": asked.trials if asked and search != "grid" else None,
    }  # fmt: skip


def _epochs(point: Any) -> int:
    return sum(phase.epochs for phase in point.tier.phases_to_run().values())


def plan_lines(plan: Plan, told: Mapping[str, Any]) -> str:
    """The points of a sweep that was not carried out."""
    lines = [
        *_facts(plan),
        f"  {'point':24} {'batch':>7} {'steps/epoch':>11} {'steps':>9} {'stock-days':>12}  epochs by phase",
    ]
    for each in told["points"]:
        phases = ", ".join(f"{name} {epochs}" for name, epochs in each["epochs"].items())
        lines.append(
            f"{'*' if each['reference'] else ' '} {each['point']:24} {each['effective_batch']:>7,} "
            f"{each['steps_per_epoch']:>11,} {each['steps']:>9,} {each['samples']:>12,}  {phases}"
        )
    if told["trials"]:
        lines.append(f"{told['search']} tries {told['trials']} values in {plan.sweep.range}, each under every seed")
    lines.append("* the reference: the others are compared with it. Nothing was trained.")
    return "\n".join(lines)


def _facts(plan: Plan) -> list[str]:
    """What a sweep is, in sentences."""
    held = {
        "samples": "Held: stock-days. A larger batch takes fewer steps; warm-up stays as many steps.",
        "steps": "Held: optimizer steps. A larger batch sees more stock-days.",
        None: "",
    }[plan.sweep.hold]
    shared = ", ".join(f"{path} = {value}" for path, value in plan.sweep.settings.items())
    lines = [
        f"Sweep {plan.sweep.name}: {plan.sweep.variable} of tier {plan.base.tier.name}, {len(plan.points)} points × "
        f"{len(plan.sweep.seeds)} seeds ({', '.join(map(str, plan.sweep.seeds))}), "
        f"{plan.base.tier.runtime.threads} processor(s) a trial.",
        held,
        ""
        if plan.reference is None or plan.reference.is_own
        else f"No value is the tier's own: the first, {plan.reference.name}, is the reference.",
        f"All points differ from the tier in {shared}." if shared else "",
    ]
    return [line for line in lines if line]


def report_of(plan: Plan, found: Mapping[str, Any], book: Book, root: Path) -> dict[str, Any]:
    """What a sweep came to, as plain data."""
    where = as_uri(root)
    best = max((row for row in found["rows"] if row["mean"] is not None), key=lambda row: row["mean"], default=None)
    chosen = best["point"] if best else None
    return {
        "sweep": plan.sweep.name, "description": plan.sweep.description, "variable": plan.sweep.variable,
        "tier": plan.base.tier.name, "hold": plan.sweep.hold, "metric": plan.base.tier.validation_metric,
        "directory": where, "best": chosen, "facts": _facts(plan), **found,
        "trials": book.trials, "failed": book.named("failed"),
        "notes": [
            f"Validation: {report.UNITS[plan.base.tier.validation_metric]} at the best epoch of the last phase, mean "
            "over seeds; ± standard error over seeds and validation days. Differences are paired by seed and day.",
            LOOKS + (f" `atft evaluate {where}/{run_name(chosen, plan.sweep.seeds[0])}` looks, once, and is counted."
                     if chosen else ""),
        ],
    }  # fmt: skip


def report_lines(told: Mapping[str, Any]) -> str:
    """The table, the verdict and where the rest is."""
    errors = [f"{each['run']}: {each['state']}: {each['error']}" for each in told["trials"] if each["error"]]
    return "\n".join([
        "", *told["facts"], "", *report.lines(told["rows"], told["reference"]), "", *told["verdict"], *errors, "",
        *told["notes"], f"table and picture: {told['directory']}/sweep.html",
    ])  # fmt: skip


def files_of(told: Mapping[str, Any]) -> dict[str, str]:
    """``sweep.md`` and ``sweep.html``."""
    shown = {**told, "title": f"Sweep {told['sweep']}: {told['variable']} of {told['tier']}"}
    errors = [f"{each['run']}: {each['error']}" for each in told["trials"] if each["error"]]
    shown["notes"] = [*told["notes"], *errors]
    svg = report.picture(told["rows"], told["reference"], variable=told["variable"], metric=told["metric"])
    return {"sweep.md": report.markdown(shown), "sweep.html": report.page(shown, svg)}
