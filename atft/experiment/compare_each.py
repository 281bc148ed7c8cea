"""One configuration by itself: its figures over seeds, and whether it reached what was expected of it beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from atft.config import Expectation
from atft.evaluate import metrics
from atft.evaluate.over_seeds import Seen, over_seeds, with_stated_error
from atft.evaluate.summary import TRADING_DAYS
from atft.experiment.compare import UNITS, Estimate, nothing, on_common_days, seen, told
from atft.experiment.compare_progress import cost_of, phases_of, spread
from atft.experiment.compare_runs import Configuration, Ran

FIGURES = ("sharpe_annual", "sharpe_net_annual", "sharpe_daily", "ic", "rank_ic", "pooled_sharpe", "turnover",
           "max_drawdown")  # fmt: skip
"""Figures of the test period that are told of each configuration."""


def figures_of(configuration: Configuration, price_per_hour: float | None) -> dict[str, Any]:
    """Everything that is told of one configuration by itself; figures are means and spreads over its seeds."""
    tier, runs = configuration.tier, configuration.runs
    costs = [cost_of(run, price_per_hour) for run in runs]
    tests = [run.result.test for run in configuration.evaluated if run.result is not None]
    interval = own_interval(configuration, "sharpe_annual")
    return {
        "name": configuration.name,
        "tier": tier.name,
        "runs": [{"name": run.name, "seed": run.seed, "state": run.state} for run in runs],
        "seeds": [run.seed for run in runs],
        "parameters": runs[0].parameters,
        "precision": sorted({run.precision for run in runs if run.precision}),
        "mode": tier.mode,
        "batch": {**tier.batch.model_dump(), "samples": tier.batch.samples},
        "steps": spread(run.steps for run in runs),
        "samples": spread(run.samples for run in runs),
        "epochs": spread(sum(len(phase.epochs) for phase in run.phases) for run in runs),
        "devices": sorted({f"{run.usage.device}" for run in runs if run.usage.device}),
        "workers": sorted({run.usage.workers for run in runs if run.usage.workers}),
        "threads": sorted({run.usage.threads for run in runs if run.usage.threads}),
        "test": {name: spread(getattr(test, name) for test in tests) for name in FIGURES},
        "test_days": tests[0].days if tests else None,
        "sharpe_annual_interval": None if interval is None else asdict(interval),
        "cost": {name: spread(each[name] for each in costs) for name in costs[0]},
        "phases": phases_of(configuration),
    }


def own_interval(configuration: Configuration, metric: str) -> Estimate | None:
    """A test figure of one configuration over its seeds and days; None where it has none.

    A figure without a daily series (``rank_ic``) has the days' error that its runs' results state, all of it taken as
    shared by the seeds.
    """
    runs = configuration.evaluated
    if not runs:
        return None
    first = runs[0].result
    assert first is not None
    horizon = first.test.horizon
    if metric == "pooled_sharpe":
        return _pooled(runs, horizon)
    if metric == "rank_ic":
        return _stated(runs)
    name = {"sharpe_daily": "sharpe_annual", "sharpe_net": "sharpe_net_annual"}.get(metric, metric)
    _, values = on_common_days(UNITS[name], runs)
    if values.shape[1] < metrics.LEAST_OBSERVATIONS or values.std(axis=1).min() <= metrics.SMALLEST_STD:
        return nothing(values.shape[1], (len(runs), 0))
    held, scale = seen(UNITS[name], values, horizon), 1.0 if name == metric else 1 / math.sqrt(TRADING_DAYS)
    return told(over_seeds(Seen(held.values * scale, held.influences * scale), horizon))


def _pooled(runs: Sequence[Ran], horizon: int) -> Estimate | None:
    held = [run.pooled for run in runs if run.pooled is not None]
    if len(held) < len(runs) or len({each.dates for each in held}) > 1:
        return None
    found = Seen(np.array([each.value for each in held]), np.array([each.influence for each in held]))
    return told(over_seeds(found, horizon))


def _stated(runs: Sequence[Ran]) -> Estimate | None:
    tests = [run.result.test for run in runs if run.result is not None]
    values, bounds = [test.rank_ic for test in tests], [test.rank_ic_ci95 for test in tests]
    if any(value is None for value in values) or any(each is None for each in bounds):
        return None
    errors = [(each[1] - each[0]) / 2 / metrics.Z95 for each in bounds if each]
    found = with_stated_error(np.array(values, dtype=np.float64), float(np.mean(errors)), tests[0].days)
    return told(found)


def expectations(configurations: Sequence[Configuration]) -> list[dict[str, Any]]:
    """What tiers were expected to reach beforehand, held against what they did; of those that state it."""
    found = []
    for each in configurations:
        stated = each.tier.expectation
        if stated is not None and not each.runs[0].baseline:
            reached = own_interval(each, stated.metric)
            found.append({"configuration": each.name, **stated.model_dump(), **judged(stated, reached)})
    return found


def judged(stated: Expectation, reached: Estimate | None) -> dict[str, Any]:
    """Whether a stated range and target were met, given the interval of what was reached.

    Of the range: ``within``, ``exceeded``, ``missed`` or ``undecidable``; of the target: ``met``, ``missed`` or
    ``undecidable``, None where none was stated.
    """
    low, high = (None, None) if reached is None else (reached.low, reached.high)
    answer: dict[str, Any] = {"reached": None if reached is None else asdict(reached)}
    if low is None or high is None:
        return answer | {"range": "undecidable", "target_verdict": None if stated.target is None else "undecidable"}
    within = stated.low <= low and high <= stated.high
    range_ = "missed" if high < stated.low else "exceeded" if low > stated.high else "within" if within else ""
    target = None
    if stated.target is not None:
        target = "met" if low >= stated.target else "missed" if high < stated.target else "undecidable"
    return answer | {"range": range_ or "undecidable", "target_verdict": target}
