"""How runs came to their results: phase by phase, batch by batch, and what it took of the machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import integrate, stats

from atft.experiment.compare_runs import Configuration, PhaseOf, Ran

VALIDATION = {"sharpe": max, "ic": max, "rank_ic": max, "loss": min}
"""Validation figures, and which of two is the better one."""


def spread(values: Iterable[float | None]) -> dict[str, Any] | None:
    """Mean and standard deviation over seeds of what is known; None where nothing is."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    return {
        "mean": statistics.fmean(known),
        "deviation": statistics.stdev(known) if len(known) > 1 else None,
        "seeds": len(known),
    }


def expected_range(count: int, deviation: float) -> float:
    """Mean range (largest less least) of ``count`` independent normal draws: it grows with their number.

    Source: Tippett (1925); the factor is ``∫ 1 − Φ(x)^n − (1 − Φ(x))^n dx``, 3.73 for 20 draws and 5.49 for 200.
    """
    if count < 2:
        return 0.0

    def rest(x: float) -> float:
        below = float(stats.norm.cdf(x))
        return 1 - below**count - (1 - below) ** count

    return float(integrate.quad(rest, -9, 9, limit=200)[0]) * deviation


def batch_figures(values: Any, expected: float | None) -> dict[str, Any]:
    """The distribution of a phase's batch Sharpe ratios, beside what the sample alone gives.

    Args:
        values: ``[batches]``, finite.
        expected: sampling deviation of one batch; None where not known.
    """
    count = len(values)
    found: dict[str, Any] = {"count": count, "expected_std": expected}
    if not count:
        return found | dict.fromkeys(("mean", "std", "min", "max", "range", "ratio", "ratio_error", "expected_range"))
    std = float(np.std(values, ddof=1)) if count > 1 else None
    ratio = std / expected if std is not None and expected else None
    return found | {
        "mean": float(np.mean(values)),
        "std": std,
        "min": float(np.min(values)),
        "max": float(np.max(values)),
        "range": float(np.ptp(values)),
        "ratio": ratio,
        "ratio_error": ratio / math.sqrt(2 * (count - 1)) if ratio is not None else None,
        "expected_range": expected_range(count, expected) if expected else None,
    }


def phase_figures(phase: PhaseOf) -> dict[str, Any]:
    """Best, last and kept validation figures of a phase, its losses, epochs and time."""
    found: dict[str, Any] = {"epochs": len(phase.epochs), "best_epoch": phase.best_epoch}
    for name, better in VALIDATION.items():
        found |= _of_metric(phase, name, better)
    found["final_train_loss"] = _number(phase.epochs[-1], "train_loss") if phase.epochs else None
    seconds = [_number(epoch, "seconds") for epoch in phase.epochs]
    known = [each for each in seconds if each is not None]
    found["seconds"] = phase.seconds if phase.seconds is not None else (sum(known) if known else None)
    found["batch_sharpe"] = batch_figures(phase.batch_sharpe, phase.expected_std)
    return found


def _of_metric(phase: PhaseOf, name: str, better: Callable[[list[float]], float]) -> dict[str, Any]:
    rows = [(epoch["epoch"], _number(epoch, f"validation_{name}")) for epoch in phase.epochs]
    known = [value for _, value in rows if value is not None]
    kept = next((value for epoch, value in rows if epoch == phase.best_epoch), None)
    best = better(known) if known else None
    return {
        f"best_{name}": best,
        f"best_{name}_epoch": next((epoch for epoch, value in rows if value == best and best is not None), None),
        f"final_{name}": rows[-1][1] if rows else None,
        f"kept_{name}": kept,
    }


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def phases_of(configuration: Configuration) -> dict[str, dict[str, Any]]:
    """Phase by phase, each figure as its mean and spread over the seeds."""
    names = list(dict.fromkeys(phase.name for run in configuration.runs for phase in run.phases))
    return {name: _over_seeds([_phase(run, name) for run in configuration.runs]) for name in names}


def _phase(run: Ran, name: str) -> dict[str, Any]:
    found = next((phase for phase in run.phases if phase.name == name), None)
    return phase_figures(found) if found else {}


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    found: dict[str, Any] = {}
    for name in names:
        held = [row.get(name) for row in rows]
        nested = [each for each in held if isinstance(each, Mapping)]
        found[name] = _over_seeds(nested) if nested else spread(held)
    return found


def cost_of(run: Ran, price_per_hour: float | None) -> dict[str, Any]:
    """Time, throughput and cost of a run; None where it is not known.

    Args:
        run: the run.
        price_per_hour: of one worker; no money is told where None.
    """
    used = run.usage
    hours = None if used.worker_seconds is None else used.worker_seconds / 3600
    rate = run.samples / used.step_seconds if run.samples and used.step_seconds else None
    return {
        "seconds": used.seconds,
        "worker_hours": hours,
        "stock_days_per_second": rate,
        "money": hours * price_per_hour if hours is not None and price_per_hour is not None else None,
    }
