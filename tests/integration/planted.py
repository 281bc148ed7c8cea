"""Training on a synthetic market and asking what of the planted signal was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from atft.data.panel import Panel
from atft.data.synth import PARTS
from atft.evaluate.predict import predict
from atft.evaluate.summary import TestSummary
from atft.experiment.assess import Outcomes, summarised
from atft.experiment.tiers import resolve
from atft.launch.local import synthesize
from atft.observe.events import EventLog
from atft.train.loop import Trainer
from atft.train.setup import prepare


def market(out: Path, **options: Any) -> Path:
    """A synthetic market in ``out``; returns ``out``."""
    synthesize(out, options)
    return out


def trained(folder: Path, run: Path, **flags: Any) -> tuple[TestSummary, dict[str, float]]:
    """Train ``quickstart`` with ``flags`` on the market in ``folder``.

    Returns:
        The summary of the test period, and the mean daily correlation of the scores with each planted part.
    """
    setup = prepare(resolve("quickstart", environ={}, flags=flags).tier, Panel.open(folder / "panel"))
    run.mkdir(parents=True)
    with EventLog(run / "events.jsonl") as events:
        trainer = Trainer(setup, run, events)
        trainer.run()
    trainer.load_best()
    parts = frozenset(list(trainer.phases.values())[-1].parts)
    test = Outcomes.of(setup.panel, setup.gatherer.scorable, setup.tier, setup.periods.test)
    scores = predict(setup.network, setup.gatherer, test.days, parts, device=setup.device)
    found = {part: _correlation(scores, values[test.days]) for part, values in _truth(folder, setup.panel).items()}
    return summarised(scores, test, setup.tier), found


def _truth(folder: Path, panel: Panel) -> dict[str, np.ndarray]:
    """The planted parts as ``[days, stocks]``, NaN where there is no row."""
    truth = pl.read_parquet(folder / "truth.parquet")
    days = np.searchsorted(panel.days, truth["date"].to_numpy().astype("datetime64[D]"))
    stocks = np.searchsorted(np.array(panel.codes), truth["code"].to_numpy().astype(str))
    tables = {}
    for part in PARTS:
        tables[part] = np.full(panel.close.shape, np.nan)
        tables[part][days, stocks] = truth[part].to_numpy()
    return tables


def _correlation(scores: np.ndarray, values: np.ndarray) -> float:
    kept = np.isfinite(scores) & np.isfinite(values)
    return float(np.mean([np.corrcoef(s[k], v[k])[0, 1] for s, v, k in zip(scores, values, kept) if k.sum() > 2]))
