"""Runs with constructed results, to be compared."""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Any

import numpy as np

from atft.config import Tier
from atft.evaluate import result, result_parts, summary
from atft.evaluate.result import Result, Series
from atft.experiment.compare_runs import PhaseOf, Ran
from atft.experiment.tiers import resolve

START = dt.date(2017, 1, 2)


@cache
def tier1() -> Tier:
    return resolve("tier1").tier


@cache
def changed(seed: int = 1, **paths: Any) -> Tier:
    """tier1 with some values, as ``--set`` sets them; dots are written as two underscores."""
    flags = {name.replace("__", "."): value for name, value in paths.items()} | {"seed": seed}
    return resolve("tier1", flags=flags).tier


def dates(days: int, first: dt.date = START) -> tuple[dt.date, ...]:
    return tuple(first + dt.timedelta(days=day) for day in range(days))


@cache
def _template() -> Result:
    random = np.random.default_rng(1)
    scores, returns = random.standard_normal((40, 12)), 0.02 * random.standard_normal((40, 12))
    valid = np.ones((40, 12), dtype=np.bool_)
    days = np.arange("2017-01-02", "2017-02-11", dtype="datetime64[D]")
    one = summary.summarise(scores, returns, valid, cost_bps=5)
    part = result_parts.baseline_part(one, days)
    epoch = result.Epoch(
        epoch=1, train_loss=-0.1, validation_loss=-0.05, validation_sharpe=0.1, validation_ic=0.01, seconds=3.5
    )
    return result.Result(
        run="r", tier="tier1", seed=1, config_sha256="a" * 64, data_sha256="b" * 64, parameters=100,
        effective_batch=result.EffectiveBatch(days=16, stocks_per_day=64, samples=1024.0), world_size=1,
        micro_batches=1, precision="float32", sharpe_kind="pooled", validation_metric="sharpe", steps=10,
        samples=10240, phases=(result.PhaseResult(name="baseline", epochs=(epoch,), best_epoch=1),),
        batch_sharpe=result.BatchSharpe(count=10, mean=0.1, std=0.2, min=-0.3, max=0.6, range=0.9),
        test=result_parts.model_part(one, days, missing_labels=0, sampled_ic=0.0),
        baselines=result.Baselines(reversal=part, ridge=part, equal_weight=part, shuffled=part),
        runtime_seconds=60.0,
    )  # fmt: skip


def evaluated(
    name: str, tier: Tier, gross: Any, *, days: tuple[dt.date, ...] | None = None, panel: str = "b" * 64,
    ic: Any = None, horizon: int = 1, **more: Any,
) -> Ran:  # fmt: skip
    """A finished run that earned ``gross`` on ``days``."""
    gross = np.asarray(gross, dtype=np.float64)
    ics = 0.1 * gross if ic is None else np.asarray(ic, dtype=np.float64)
    held = days or dates(len(gross))
    series = Series(dates=held, gross=tuple(gross), net=tuple(gross - 1e-4), ic=tuple(ics))
    ratio = float(gross.mean() / gross.std())
    told = {"series": series, "days": len(gross), "sharpe_daily": ratio, "sharpe_annual": ratio * 252**0.5,
            "horizon": horizon, "ic": float(ics.mean())}  # fmt: skip
    test = _template().test.model_copy(update=told)
    found = _template().model_copy(update={"run": name, "data_sha256": panel, "test": test, "seed": tier.seed})
    return Ran(name, tier, panel, found, parameters=100, steps=10, samples=10240, precision="float32", **more)


def phase(
    name: str, sharpes: list[float], batches: Any, expected: float | None, seconds: float | None = 10.0
) -> PhaseOf:
    rows = tuple(
        {"epoch": number, "train_loss": -value, "validation_loss": -value, "validation_sharpe": value,
         "validation_ic": value / 10, "seconds": 4.0}
        for number, value in enumerate(sharpes, 1)
    )  # fmt: skip
    best = int(np.argmax(sharpes)) + 1 if sharpes else None
    return PhaseOf(name, rows, best, expected, np.asarray(batches, dtype=np.float64), seconds)
