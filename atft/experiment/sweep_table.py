"""What a sweep found: a line for each point with its error, and whether any differs from the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from atft.evaluate.deflation import expected_maximum, probabilistic_sharpe
from atft.evaluate.metrics import LEAST_OBSERVATIONS, SMALLEST_STD, Floats, robust_error, sharpe_influence
from atft.evaluate.multiple import holm
from atft.experiment.validation_days import ValidationDays

LEVEL = 0.05
NAN = float("nan")

Seeds = Mapping[int, ValidationDays]
"""The finished runs of a point by their seeds."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, with the chance of the days and of training in its error.

    Attributes:
        value: the mean.
        error: its standard error; NaN where nothing is known of it.
        freedom: degrees of freedom of that error, after Welch and Satterthwaite; infinite for the days' part.
    """

    value: float
    error: float
    freedom: float

    @property
    def p_value(self) -> float:
        """Two-sided, of a true value of 0."""
        if not self.error > 0:
            return NAN
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.freedom))


def estimate(values: Floats, influences: Floats | None, horizon: int) -> Estimate:
    """Mean over seeds of a statistic of daily series, and its standard error over seeds and days.

    The variance is that of the seeds' mean over days, by the long-run variance of its influence (what all seeds share
    of the days does not average out), and that between seeds beyond what their own days explain, over their number.

    Args:
        values: ``[seeds]``.
        influences: ``[seeds, days]`` what each day adds to each value's error; None where there are no days, and the
            error is that over seeds alone.
        horizon: days that each return spans.
    """
    seeds, mean = len(values), float(values.mean())
    between = float(values.var(ddof=1)) if seeds > 1 else NAN
    if influences is None:
        return Estimate(mean, math.sqrt(between / seeds) if seeds > 1 else NAN, max(seeds - 1, 1))
    together = influences.mean(axis=0)
    of_days = robust_error(together, horizon)[0] ** 2 if together.std() > SMALLEST_STD else 0.0
    of_training = 0.0
    if seeds > 1:
        apart = (influences - together) * math.sqrt(seeds / (seeds - 1))
        own = float(
            np.mean([robust_error(each, horizon)[0] ** 2 if each.std() > SMALLEST_STD else 0.0 for each in apart])
        )
        of_training = max(between - own, 0.0) / seeds
    variance = of_days + of_training
    spread = of_days**2 / max(influences.shape[1] - 1, 1) + of_training**2 / max(seeds - 1, 1)
    return Estimate(mean, math.sqrt(variance) if variance > 0 else NAN, variance**2 / spread if spread > 0 else 1.0)


def of_point(runs: Seeds) -> Estimate:
    """The validation metric of a point over its seeds."""
    chosen = list(runs.values())
    values = np.array([NAN if run.value is None else run.value for run in chosen])
    days, influences = _influences(chosen)
    return estimate(values, influences if days else None, chosen[0].horizon)


def of_difference(runs: Seeds, reference: Seeds) -> Estimate:
    """A point less the reference, paired by seed and day; of the seeds that both have finished."""
    seeds = [seed for seed in runs if seed in reference]
    if not seeds:
        return Estimate(NAN, NAN, 1.0)
    both = [run for seed in seeds for run in (runs[seed], reference[seed])]
    values = np.array([NAN if run.value is None else run.value for run in both]).reshape(-1, 2)
    days, influences = _influences(both)
    paired = influences[::2] - influences[1::2] if days else None
    return estimate(values[:, 0] - values[:, 1], paired, both[0].horizon)


def _influences(runs: Sequence[ValidationDays]) -> tuple[int, Floats]:
    """``[runs, days]`` influence of each run's value on the days that all have; no days where there are too few."""
    series = [run.series() for run in runs]
    if any(each is None for each in series):
        return 0, np.empty((len(runs), 0))
    common = sorted(set.intersection(*(set(run.dates) for run in runs)))
    rows = []
    for run, each in zip(runs, series, strict=True):
        assert each is not None
        by_date = dict(zip(run.dates, each, strict=True))
        rows.append([by_date[date] for date in common])
    table = np.array(rows, dtype=float)
    table = table[:, np.isfinite(table).all(axis=0)]
    if table.shape[1] < LEAST_OBSERVATIONS or table.std(axis=1).min() <= SMALLEST_STD:
        return 0, np.empty((len(runs), 0))
    if runs[0].metric == "sharpe":
        unit = runs[0].horizon ** -0.5  # a ratio of `horizon` days as one of a day
        return table.shape[1], unit * np.array([sharpe_influence(row) for row in table])
    return table.shape[1], table - table.mean(axis=1, keepdims=True)


@dataclass(frozen=True)
class Member:
    """A point as the table takes it.

    Attributes:
        name, value: of the point.
        runs: its finished runs by seed.
        states: of all its trials by seed.
    """

    name: str
    value: Any
    runs: Seeds
    states: Mapping[int, str]

    @property
    def complete(self) -> bool:
        """Nothing was stopped early: what remains would be the mean of those that did well."""
        return bool(self.runs) and "stopped" not in self.states.values()


def table(members: Sequence[Member], reference: str | None) -> dict[str, Any]:
    """Rows by point, the family's corrections and a verdict, as plain data.

    Args:
        members: the points in their order.
        reference: name of the one that the others are compared with.
    """
    base = next((each for each in members if each.name == reference and each.complete), None)
    rows = [_row(each, base) for each in members]
    compared = [row for row in rows if row["difference"] is not None]
    for row, p in zip(compared, holm(np.array([_nan(row["p_value"]) for row in compared])), strict=True):
        row["p_value_holm"] = _number(float(p))
    found = {"rows": rows, "reference": base.name if base else None, "deflation": _deflation(rows)}
    return found | {"verdict": verdict(found, members)}


def _row(member: Member, base: Member | None) -> dict[str, Any]:
    first = next(iter(member.runs.values()), None)
    own = of_point(member.runs) if member.complete else Estimate(NAN, NAN, 1.0)
    apart = of_difference(member.runs, base.runs) if member.complete and base and member is not base else None
    runs = list(member.runs.values())
    return {
        "point": member.name, "value": member.value,
        "seeds": len(member.states), "finished": len(runs),
        "states": {state: list(member.states.values()).count(state) for state in sorted(set(member.states.values()))},
        "metric": first.metric if first else None,
        "mean": _number(own.value), "error": _number(own.error),
        "difference": None if apart is None else _number(apart.value),
        "difference_error": None if apart is None else _number(apart.error),
        "p_value": None if apart is None else _number(apart.p_value), "p_value_holm": None,
        "best_epochs": [run.best_epoch for run in runs], "phase": first.phase if first else None,
        "steps": first.steps if first else None, "samples": first.samples if first else None,
        "seconds": sum(run.seconds for run in runs) / len(runs) if runs else None,
    }  # fmt: skip


def _deflation(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The best point's lead over the mean of all, against what the best of as many equal points would lead by chance.

    The noise of a point by itself is half the variance of a difference of two, in which the days that all points share
    are gone.

    Source: Bailey and López de Prado (2014), eq. 1 and 2, with the noise of the estimates for the trials' variance.
    """
    means = [(row["mean"], row["point"]) for row in rows if row["mean"] is not None]
    noises = [row["difference_error"] for row in rows if row["difference_error"] is not None]
    if len(means) < 2 or not noises:
        return None
    best, name = max(means)
    variance = float(np.mean(np.square(noises))) / 2
    lead, chance = best - float(np.mean([value for value, _ in means])), expected_maximum(len(means), variance)
    return {
        "points": len(means), "best": name, "lead": lead, "by_chance": chance,
        "probability": probabilistic_sharpe(lead, math.sqrt(variance), chance),
    }  # fmt: skip


def verdict(found: Mapping[str, Any], members: Sequence[Member]) -> list[str]:
    """What the table says, in sentences; noise is called noise."""
    rows, reference = found["rows"], found["reference"]
    failed = sum(state == "failed" for each in members for state in each.states.values())
    told = [*_compared(rows, reference)]
    if found["deflation"]:
        distinguished = any(row["p_value_holm"] is not None and row["p_value_holm"] <= LEVEL for row in rows)
        told.append(_chance(found["deflation"], distinguished))
    stopped = [each.name for each in members if "stopped" in each.states.values()]
    if stopped:
        told.append(f"Stopped early and not compared: {', '.join(stopped)}.")
    if failed:
        told.append(f"{failed} trial(s) failed; --resume tries them again.")
    if any(row["finished"] == 1 for row in rows if row["mean"] is not None):
        told.append("One seed at some points: what another seed would change is in no error there.")
    return told


def _compared(rows: Sequence[Mapping[str, Any]], reference: str | None) -> list[str]:
    compared = [row for row in rows if row["p_value_holm"] is not None]
    if reference is None:
        return ["The reference is not finished: nothing is compared."]
    if not compared:
        return ["No value can be compared with the reference: too few days or seeds, or too few trials that finished."]
    real = [row for row in compared if row["p_value_holm"] <= LEVEL]
    if not real:
        least = min(row["p_value_holm"] for row in compared)
        return [f"No value is distinguishable from the reference {reference}: the least corrected p is {least:.2g}."]
    return [
        f"{row['point']} is {'better' if row['difference'] > 0 else 'worse'} than {reference}: "
        f"{row['difference']:+.4g} ± {row['difference_error']:.2g}, corrected p {row['p_value_holm']:.2g}."
        for row in real
    ]


def _chance(found: Mapping[str, Any], distinguished: bool) -> str:
    told = (
        f"{found['best']} leads the mean of {found['points']} points by {found['lead']:.4g}, and the best of as many "
        f"equal points leads by {found['by_chance']:.4g} by chance: that there is more to it has probability "
        f"{found['probability']:.2f} after this deflation"
    )
    if distinguished and found["probability"] < 1 - LEVEL:
        return f"{told}, so that it is a candidate and no more."
    return f"{told}."


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _nan(value: float | None) -> float:
    return NAN if value is None else value
