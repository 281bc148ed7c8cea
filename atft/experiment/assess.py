"""The one look at the test period: the model beside its baselines, as ``result.json`` tells it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atft.config import Tier
from atft.data.labels import decided_returns, label_dates
from atft.data.panel import Panel
from atft.data.splits import Periods
from atft.evaluate import baselines, result, result_parts
from atft.evaluate.predict import predict
from atft.evaluate.summary import TestSummary, summarise, summarise_equal_weight, summarise_shuffled
from atft.objective.rows import TERMS
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
        returns: ``[decisions, stocks]``, NaN where unknown.
        scorable: ``[decisions, stocks]`` bool, known at the decision.
    """

    days: npt.NDArray[np.int64]
    dates: npt.NDArray[np.datetime64]
    returns: Floats
    scorable: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, panel: Panel, scorable: Bools, tier: Tier, days: npt.NDArray[np.int64]) -> Outcomes:
        """The outcomes of decisions on ``days``."""
        label = tier.label
        ends = panel.days[label_dates(panel.days, label.horizon, label.execution_lag)[days]]
        returns = decided_returns(panel, label)[days]
        return cls(days, ends, returns, scorable[days])

    def valid(self, scores: Floats) -> npt.NDArray[np.bool_]:
        """What counts: scorable, scored and labelled."""
        return self.scorable & np.isfinite(scores) & np.isfinite(self.returns)

    def labels(self) -> baselines.Labels:
        """All scorable decisions with a label, as a baseline trains on them."""
        return baselines.Labels(self.days, self.returns, self.scorable & np.isfinite(self.returns))


def assess(
    trainer: Trainer, run: str, *, seconds: float, progress: Callable[[int, int], None] | None = None
) -> result.Result | None:
    """Evaluate the last phase's best weights on the test period, beside the baselines; collective.

    Args:
        trainer: after its last phase.
        run: name of the run.
        seconds: run time so far.
        progress: called with days done and in all.

    Returns:
        The result on the leading worker, None on the others.
    """
    setup, state = trainer.setup, trainer.progress
    tier, panel = setup.tier, setup.panel
    trainer.load_best()
    parts = frozenset(list(trainer.phases.values())[-1].parts)
    test = Outcomes.of(panel, setup.gatherer.scorable, tier, setup.periods.test)
    # A day at a time, as `atft predict` does it: the same bits, which a later panel's further days do not move.
    scores = predict(
        setup.network, setup.gatherer, test.days, parts, device=setup.device,
        precision_context=setup.precision.autocast, progress=progress, group=setup.group, days_at_once=1,
    )  # fmt: skip
    sampled_ic = _sampled_ic(setup, parts)
    if not setup.group.leads:
        return None
    summary = summarised(scores, test, tier)
    return result.Result(
        run=run,
        tier=tier.name,
        seed=tier.seed,
        config_sha256=tier.sha256(),
        data_sha256=panel.sha256,
        parameters=setup.parameters,
        effective_batch=result.EffectiveBatch(
            days=tier.batch.days, stocks_per_day=tier.batch.stocks_per_day, samples=state.samples / max(1, state.step)
        ),
        world_size=setup.group.world_size,
        micro_batches=-(-setup.shards[0] // state.micro_batch_blocks),
        precision=setup.precision.name,
        sharpe_kind=tier.objective.sharpe_kind,
        validation_metric=tier.validation_metric,
        steps=state.step,
        samples=state.samples,
        phases=_phases(trainer),
        batch_sharpe=_batch_sharpe(trainer),
        divergences=tuple(result.Divergence(**each.model_dump()) for each in state.divergences),
        test=result_parts.model_part(
            summary,
            test.dates,
            missing_labels=int((test.scorable & np.isfinite(scores) & ~np.isfinite(test.returns)).sum()),
            sampled_ic=sampled_ic,
        ),
        baselines=all_baselines(panel, setup.gatherer.scorable, setup.periods, tier, test, scores),
        planted=planted(panel.path),
        runtime_seconds=seconds,
    )


def summarised(scores: Floats, outcomes: Outcomes, tier: Tier) -> TestSummary:
    """Statistics of scores over a period, at the tier's cost and horizon."""
    return summarise(
        scores, outcomes.returns, outcomes.valid(scores), cost_bps=tier.label.cost_bps, horizon=tier.label.horizon
    )


def all_baselines(
    panel: Panel, scorable: Bools, periods: Periods, tier: Tier, test: Outcomes, scores: Floats
) -> result.Baselines:
    """Every baseline on the same days and stocks; the shuffled one permutes ``scores``."""
    simple = simple_baselines(panel, scorable, periods, tier, test)
    shuffled = summarise_shuffled(
        scores, test.returns, test.valid(scores), cost_bps=tier.label.cost_bps, seed=SHUFFLE_SEED, repeats=SHUFFLES,
        horizon=tier.label.horizon,
    )  # fmt: skip
    return result.Baselines(**simple, shuffled=result_parts.shuffled_part(shuffled, test.dates))


def simple_baselines(
    panel: Panel, scorable: Bools, periods: Periods, tier: Tier, test: Outcomes
) -> dict[str, result.Baseline]:
    """The baselines that need no model: reversal, ridge, equal weight."""
    train = Outcomes.of(panel, scorable, tier, periods.train)
    reversal = summarised(baselines.reversal(panel.close, test.days), test, tier)
    ridge_scores, fit = baselines.ridge(panel, train.labels(), test.days)
    equal = summarise_equal_weight(
        test.returns,
        test.scorable & np.isfinite(test.returns),
        cost_bps=tier.label.cost_bps,
        horizon=tier.label.horizon,
    )
    return {
        "reversal": result_parts.baseline_part(reversal, test.dates),
        "ridge": result_parts.baseline_part(
            summarised(ridge_scores, test, tier),
            test.dates,
            penalty=fit.penalty,
            training_rows=fit.rows,
            filled_share=fit.filled_share,
        ),
        "equal_weight": result_parts.baseline_part(equal, test.dates),
    }


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
    if len(setup.periods.test) < 2 * setup.tier.batch.block_days:
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
