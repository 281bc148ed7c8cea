"""The one look at the test period: the model beside its baselines, as ``result.json`` tells it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atft.config import Label, Tier
from atft.data.labels import decided_returns, label_dates
from atft.data.panel import Panel
from atft.data.sampler import surely_held
from atft.data.splits import Periods
from atft.evaluate import baselines, portfolio, result, result_parts
from atft.evaluate.backtest import Backtest
from atft.evaluate.costs import Costs
from atft.evaluate.execution import Execution, Rules, executed
from atft.evaluate.holdings import Holdings
from atft.evaluate.inference import inference
from atft.evaluate.predict import predict
from atft.evaluate.summary import TestSummary, summarise, summarise_equal_weight, summarise_shuffled
from atft.experiment.backtests import Setting, backtests, default_executions, default_strategies
from atft.experiment.registry import OWN, Kind, Registry, Trials, dates_sha256, evaluation_of
from atft.experiment.score_table import Scored, as_table, origin
from atft.objective.rows import TERMS
from atft.schemes import fold_told
from atft.train.loop import Trainer
from atft.train.setup import Setup
from atft.train.validation import sampled_table

SHUFFLES = 200
SHUFFLE_SEED = 0

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outcomes:
    """Decisions of a period and what came of them.

    Attributes:
        days: ``[decisions]`` day numbers.
        dates: ``[decisions]`` label dates, datetime64[D].
        returns: ``[decisions, stocks]`` labels, NaN where unknown.
        scorable: ``[decisions, stocks]`` bool, known at the decision.
        close: ``[all days, stocks]``, NaN where missing.
        label: what the decisions earn.
    """

    days: npt.NDArray[np.int64]
    dates: npt.NDArray[np.datetime64]
    returns: Floats
    scorable: npt.NDArray[np.bool_]
    close: Floats
    label: Label

    @classmethod
    def of(cls, panel: Panel, scorable: Bools, tier: Tier, days: npt.NDArray[np.int64]) -> Outcomes:
        """The outcomes of decisions on ``days``."""
        label = tier.label
        ends = panel.days[label_dates(panel.days, label.horizon, label.execution_lag)[days]]
        returns = decided_returns(panel, label)[days]
        return cls(days, ends, returns, scorable[days], np.asarray(panel.close), label)

    def valid(self, scores: Floats) -> npt.NDArray[np.bool_]:
        """What a ranking is judged on: scorable, scored and labelled."""
        return self.scorable & np.isfinite(scores) & np.isfinite(self.returns)

    def holdings(self, scores: Floats) -> Holdings:
        """What a portfolio is made of: scorable and scored, whatever becomes of it (decision 20).

        A label of the panel's own has no price that a missing one could be valued at: only labelled stocks are held.
        """
        if self.label.own:
            return Holdings.labelled(self.returns, self.valid(scores), portfolio.stretches(self.days))
        return Holdings.executed(self.scorable & np.isfinite(scores), self._execution)

    @cached_property
    def _execution(self) -> Execution:
        rules = Rules("close", self.label.execution_lag, self.label.horizon)
        return executed(self.days, self.close, rules=rules)

    def labels(self) -> baselines.Labels:
        """All scorable decisions with a label, as a baseline trains on them."""
        return baselines.Labels(self.days, self.returns, self.scorable & np.isfinite(self.returns))


@dataclass(frozen=True)
class Ground:
    """What an evaluation stands on.

    Attributes:
        panel: the data.
        scorable: ``[days, stocks]`` bool, known at the decision.
        periods: decision days of the three periods.
        tier: label, cost and the rest of the settings.
    """

    panel: Panel
    scorable: Bools
    periods: Periods
    tier: Tier

    @classmethod
    def of(cls, setup: Setup) -> Ground:
        """The ground that a tier was trained on."""
        return cls(setup.panel, setup.gatherer.scorable, setup.periods, setup.tier)

    def outcomes(self, days: npt.NDArray[np.int64]) -> Outcomes:
        """The outcomes of decisions on ``days``."""
        return Outcomes.of(self.panel, self.scorable, self.tier, days)


@dataclass(frozen=True)
class Assessed:
    """A run's look at its test period.

    Attributes:
        result: as ``result.json`` tells it.
        scores: of the test decisions, kept so that no later statistic needs a second look.
    """

    result: result.Result
    scores: pa.Table


def assess(
    trainer: Trainer,
    run: str,
    *,
    registry: Registry,
    seconds: float,
    progress: Callable[[int, int], None] | None = None,
    baseline: result.BaselineRun | None = None,
) -> Assessed | None:
    """Evaluate the last phase's best weights on the test period, beside the baselines; collective.

    The evaluation is written down before anyone sees what it came to.

    Args:
        trainer: after its last phase.
        run: name of the run.
        registry: of all evaluations.
        seconds: run time so far.
        progress: called with days done and in all.
        baseline: which baseline it is a run of, where it is one.

    Returns:
        The result and the scores on the leading worker, None on the others.
    """
    setup, state = trainer.setup, trainer.progress
    tier = setup.tier
    trainer.load_best()
    parts = frozenset(list(trainer.phases.values())[-1].parts)
    # A day at a time, as `atft predict` does it: the same bits, which a later panel's further days do not move.
    scores = predict(
        setup.network, setup.gatherer, setup.periods.test, parts, device=setup.device,
        precision_context=setup.precision.autocast, progress=progress, group=setup.group, days_at_once=1,
    )  # fmt: skip
    sampled_ic = _sampled_ic(setup, parts)
    if not setup.group.leads:
        return None
    return evaluated(
        scores, Ground.of(setup), registry, run=run, sampled_ic=sampled_ic, weights=trainer.best_file,
        parameters=setup.parameters,
        effective_batch=result.EffectiveBatch(
            days=tier.batch.days, stocks_per_day=tier.batch.stocks_per_day, samples=state.samples / max(1, state.step)
        ),
        world_size=setup.group.world_size, micro_batches=-(-setup.shards[0] // state.micro_batch_blocks),
        precision=setup.precision.name, steps=state.step, samples=state.samples, phases=_phases(trainer),
        batch_sharpe=_batch_sharpe(trainer),
        divergences=tuple(result.Divergence(**each.model_dump()) for each in state.divergences),
        runtime_seconds=seconds, baseline=baseline,
    )  # fmt: skip


def evaluated(
    scores: Floats,
    ground: Ground,
    registry: Registry,
    *,
    run: str,
    baseline: result.BaselineRun | None = None,
    variant: str = OWN,
    sampled_ic: float = float("nan"),
    weights: Path | None = None,
    summary: TestSummary | None = None,
    simple: dict[str, result.Baseline] | None = None,
    **made: Any,
) -> Assessed:
    """The one place where a run's scores meet the outcomes of its test period, whatever made them.

    The evaluation is written down before anyone sees what it came to.

    Args:
        scores: ``[test decisions, stocks]``, NaN where not scored.
        ground: data, periods and settings.
        registry: of all evaluations.
        run: name of the run.
        baseline: which baseline it is a run of, where it is one.
        variant: what the registry calls it, where it is no single network.
        sampled_ic: mean information coefficient on stock samples; NaN where not measured.
        weights: file of the network's weights, where a network made the scores.
        summary: statistics of positions that do not follow from scores; those of the scores where not given.
        simple: what :func:`simple_baselines` gives, where it is known already.
        made: fields of the result that say how the scores came about.
    """
    panel, tier = ground.panel, ground.tier
    test = ground.outcomes(ground.periods.test)
    scores = np.where(test.scorable, scores, np.nan)  # whatever made them, of the stocks that can be scored
    simple = simple if simple is not None else simple_baselines(ground, test)
    shuffled = summarise_shuffled(
        scores, test.returns, test.valid(scores), cost_bps=tier.label.cost_bps, seed=SHUFFLE_SEED, repeats=SHUFFLES,
        horizon=tier.label.horizon, holdings=test.holdings(scores),
    )  # fmt: skip
    summary = summary or summarised(scores, test, tier)
    rivals = result.Baselines(**simple, shuffled=result_parts.shuffled_part(shuffled, test.dates))
    part = result_parts.model_part(
        summary, test.dates, sampled_ic=sampled_ic, strategies=strategies(panel, tier, test, scores),
        missing_labels=int((test.scorable & np.isfinite(scores) & ~np.isfinite(test.returns)).sum()),
    )  # fmt: skip
    looked: list[tuple[Kind, str, result.Statistics]] = [
        ("baseline", baseline.name, part) if baseline else ("network", variant, part)
    ]
    looked += [("baseline", name, each) for name, each in rivals if name != "shuffled"]
    known = recorded(registry, run, ground, test.dates, looked)
    others = {name: each.series for name, each in rivals if each.series is not None}
    assert part.series is not None
    sure = inference(summary, part.series, others, known.search, dates_sha256(test.dates))
    found = result.Result(
        run=run, tier=tier.name, seed=tier.seed, config_sha256=tier.sha256(), data_sha256=panel.sha256,
        sharpe_kind=tier.objective.sharpe_kind, validation_metric=tier.validation_metric, baseline=baseline,
        test=part.model_copy(update={"inference": sure}), baselines=rivals,
        planted=planted(panel.path), fold=_fold(tier), **made,
    )  # fmt: skip
    return Assessed(found, as_table(panel, test.days, scores, origin(run, tier, panel, weights)))


def strategies(panel: Panel, tier: Tier, test: Outcomes, scores: Floats) -> list[Backtest]:
    """What the usual strategies make of the scores, at the tier's cost, at the close and the open."""
    scored = Scored(test.days, scores)
    setting = Setting(
        strategies=default_strategies(scored),
        executions=default_executions(panel, tier.label, scored),
        costs=(Costs(bps=tier.label.cost_bps),),
    )
    return list(backtests(panel, tier.label, scored, setting))


def summarised(scores: Floats, outcomes: Outcomes, tier: Tier) -> TestSummary:
    """Statistics of scores over a period, at the tier's cost and horizon."""
    return summarise(
        scores, outcomes.returns, outcomes.valid(scores), cost_bps=tier.label.cost_bps, horizon=tier.label.horizon,
        holdings=outcomes.holdings(scores),
    )  # fmt: skip


def market(outcomes: Outcomes, tier: Tier) -> TestSummary:
    """Statistics of holding every stock that can be scored, in equal parts."""
    everything = np.where(outcomes.scorable, 0.0, np.nan)
    return summarise_equal_weight(
        outcomes.returns, outcomes.valid(everything), cost_bps=tier.label.cost_bps, horizon=tier.label.horizon,
        holdings=outcomes.holdings(everything),
    )  # fmt: skip


def simple_baselines(ground: Ground, test: Outcomes) -> dict[str, result.Baseline]:
    """The baselines that need no model: reversal, ridge with the published penalty, equal weight."""
    panel, tier = ground.panel, ground.tier
    train = ground.outcomes(ground.periods.train)
    reversal = summarised(baselines.reversal(panel.close, test.days, panel.markets), test, tier)
    ridge_scores, fit = baselines.ridge(panel, train.labels(), test.days)
    return {
        "reversal": result_parts.baseline_part(reversal, test.dates),
        "ridge": result_parts.baseline_part(
            summarised(ridge_scores, test, tier),
            test.dates,
            penalty=fit.penalty,
            training_rows=fit.rows,
            filled_share=fit.filled_share,
        ),
        "equal_weight": result_parts.baseline_part(market(test, tier), test.dates),
    }


def recorded(
    registry: Registry, run: str, ground: Ground, dates: npt.NDArray[np.datetime64],
    looked: Sequence[tuple[Kind, str, result.Statistics]],
) -> Trials:  # fmt: skip
    """Write down what was evaluated, and say what is known of the test period then.

    Args:
        registry: of all evaluations.
        run: name of the run.
        ground: data and settings.
        dates: ``[decisions]`` label dates of the test period.
        looked: kind, name and outcome of each evaluation.

    Raises:
        UseError: the registry cannot be written, or an entry cannot be read.
    """
    sha256 = ground.panel.sha256
    for kind, variant, each in looked:
        registry.record(
            evaluation_of(
                registry.name_of(run), ground.tier, sha256, dates, kind=kind, variant=variant, days=each.days,
                sharpe_daily=each.sharpe_daily, ic=each.ic,
            )
        )  # fmt: skip
    return registry.trials(sha256, dates_sha256(dates))


def _fold(tier: Tier) -> result.FoldOf | None:
    told = fold_told(tier.split)
    return result.FoldOf(**told) if told else None


def _phases(trainer: Trainer) -> Sequence[result.PhaseResult]:
    per_epoch = trainer.setup.tier.steps_per_epoch
    return tuple(
        result.PhaseResult(
            name=record.name,
            epochs=tuple(result.Epoch(**epoch.model_dump(), steps=per_epoch) for epoch in record.epochs),
            best_epoch=record.best_epoch,
            parts=trainer.phases[record.name].parts,
        )
        for record in trainer.progress.phases
    )


def _batch_sharpe(trainer: Trainer) -> result.BatchSharpe:
    found = trainer.progress.batch_sharpes
    mean = found.total / found.count
    return result.BatchSharpe(
        count=found.count,
        mean=mean,
        std=max(0.0, found.squares / found.count - mean**2) ** 0.5,
        min=found.least,
        max=found.most,
        range=(found.most or 0.0) - (found.least or 0.0),
        expected_std=trainer.progress.phases[-1].expected_batch_sharpe_std,
    )


def _sampled_ic(setup: Setup, parts: frozenset[str]) -> float:
    """Mean IC over stock samples as in training, on the test days; NaN where they hold too few blocks."""
    if not surely_held(setup.periods.test, setup.tier.batch.block_days):
        return float("nan")
    table = sampled_table(setup, parts, setup.covering_sampler(setup.periods.test))
    counted = table[:, TERMS.index("counted")] > 0
    return float(table[counted, TERMS.index("ic")].mean())


def planted(panel: Path) -> dict[str, float] | None:
    """Best reachable figures of a synthetic market whose panel lies beside its truth; None for other data."""
    try:
        truth = json.loads((panel.parent / "truth.json").read_text())["reachable"]
    except (OSError, ValueError, KeyError):
        return None
    return {name: float(value) for name, value in truth.items() if isinstance(value, int | float)}
