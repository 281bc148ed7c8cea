"""The baselines as runs: what each is, and the scores of those that are no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from atft.data.loader import processors
from atft.errors import UseError
from atft.evaluate import baselines, result
from atft.evaluate.metrics import Floats
from atft.evaluate.summary import TestSummary
from atft.evaluate.tuned_ridge import PENALTIES, tuned_ridge
from atft.experiment.assess import Ground, market

TRAINED = ("mlp", "lstm")
"""Networks of as many parameters as the tier's, trained like it."""
SEEDED = ("lightgbm", *TRAINED)
"""Baselines that draw something: a run for each seed. The others come to the same with any."""


@dataclass(frozen=True)
class Rival:
    """A baseline that was fitted, if there is anything to fit.

    Attributes:
        scores: ``[test decisions, stocks]``, NaN where not scored.
        described: what ``result.json`` tells of it.
        parameters: numbers that were fitted.
        samples: stock-days that they were fitted on.
        summary: statistics of its positions where they do not follow from scores.
        files: what else belongs into the run's directory, by name.
    """

    scores: Floats
    described: result.BaselineRun
    parameters: int = 0
    samples: int = 0
    summary: TestSummary | None = None
    files: Mapping[str, str] = field(default_factory=dict)


def reversal(ground: Ground) -> Rival:
    """Minus the last day's return."""
    scores = baselines.reversal(ground.panel.close, ground.periods.test, ground.panel.markets)
    return Rival(scores, _described("reversal", "1 − close[t] / close[t − 1]"))


def momentum(ground: Ground) -> Rival:
    """The past year's return without the last month's, or as much of the year as the panel holds."""
    days, panel = ground.periods.test, ground.panel
    lookback = baselines.momentum_lookback(baselines.own_history(panel.close, int(days[0]), panel.markets))
    rule = f"close[t − {baselines.MOMENTUM_SKIPPED}] / close[t − {lookback}] − 1"
    settings = {"lookback_days": lookback, "skipped_days": baselines.MOMENTUM_SKIPPED}
    scores = baselines.momentum(panel.close, days, panel.markets, lookback=lookback)
    return Rival(scores, _described("momentum", rule, settings))


def equal_weight(ground: Ground) -> Rival:
    """1/n of every stock, long only: no ranking."""
    test = ground.outcomes(ground.periods.test)
    scores = np.where(test.scorable, 0.0, np.nan)
    return Rival(scores, _described("equal_weight", "long 1 / n of every stock"), summary=market(test, ground.tier))


def ridge(ground: Ground) -> Rival:
    """Linear in the features of the decision day, its penalty chosen on the validation period."""
    train, validate = (ground.outcomes(days).labels() for days in (ground.periods.train, ground.periods.validate))
    metric = choice_metric(ground)
    found = tuned_ridge(ground.panel, train, validate, ground.periods.test, metric)
    settings = {
        "penalty": found.fit.penalty, "training_rows": found.fit.rows, "training_days": found.fit.days,
        "filled_share": found.fit.filled_share, "chosen_by": f"validation {metric}",
    }  # fmt: skip
    tried = tuple({"penalty": each, f"validation_{metric}": value} for each, value in zip(PENALTIES, found.figures))
    described = _described("ridge", "coefficients · features of the decision day", settings, tried)
    return Rival(found.scores, described, found.fit.coefficients.size, found.fit.rows)


def lightgbm(ground: Ground) -> Rival:
    """Gradient-boosted trees on the features of the decision day, stopped by the validation period."""
    boosting = _boosting()
    train, validate = (ground.outcomes(days).labels() for days in (ground.periods.train, ground.periods.validate))
    found = boosting.boosted(
        ground.panel, train, validate, ground.periods.test, seed=ground.tier.seed,
        threads=ground.tier.runtime.threads or processors(),
    )  # fmt: skip
    settings = {
        **boosting.PARAMETERS, "most_trees": boosting.MOST_TREES, "patience": boosting.PATIENCE, "trees": found.trees,
        "training_rows": found.rows, "every_nth_day": found.every, "validation_error": found.validation_error,
        "target": "rank of the label on its day, -.5 to .5",
    }  # fmt: skip
    described = _described("lightgbm", "trees of the features of the decision day", settings)
    return Rival(found.scores, described, found.parameters, found.rows, files={"model.txt": found.model})


FITTED: Mapping[str, Callable[[Ground], Rival]] = {
    "reversal": reversal,
    "momentum": momentum,
    "equal_weight": equal_weight,
    "ridge": ridge,
    "lightgbm": lightgbm,
}
"""Baselines that are no network, the quickest first."""
NAMES = (*FITTED, *TRAINED)


def choice_metric(ground: Ground) -> str:
    """What a choice on the validation period is made by: as in the tier; the IC where the tier has its own loss."""
    metric = ground.tier.validation_metric
    return "ic" if metric == "loss" else metric


def result_fields(rival: Rival) -> dict[str, Any]:
    """The fields of a result that say how the scores came about, for what was not trained by steps."""
    return {
        "parameters": rival.parameters,
        "effective_batch": result.EffectiveBatch(days=0, stocks_per_day=0, samples=0),
        "world_size": 1,
        "micro_batches": 1,
        "precision": "float64",
        "steps": 0,
        "samples": rival.samples,
        "phases": (),
        "batch_sharpe": result.BatchSharpe(count=0, mean=None, std=None, min=None, max=None, range=None),
        "baseline": rival.described,
    }


def _described(
    name: str, rule: str, settings: Mapping[str, Any] | None = None, choices: tuple[dict[str, Any], ...] = ()
) -> result.BaselineRun:
    return result.BaselineRun(name=name, rule=rule, settings=dict(settings or {}), choices=choices)


def _boosting() -> ModuleType:
    try:
        return import_module("atft.evaluate.boosting")
    except (ImportError, OSError) as error:  # OSError: its library lacks one of its own, such as libgomp
        raise UseError(
            f"lightgbm baseline: LightGBM cannot be loaded ({error}). "
            "Mend: pip install lightgbm (and the system's libgomp), or leave it out of --only."
        ) from None
