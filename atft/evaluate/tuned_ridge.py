"""A ridge whose penalty is chosen on the validation period: the linear model at its best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atft.errors import UseError
from atft.evaluate import metrics, portfolio
from atft.evaluate.baselines import Labels, PanelView, RidgeFit, linear_scores, normal_equations
from atft.evaluate.metrics import Floats

PENALTIES = tuple(10.0**power for power in range(9))
"""The grid of λ on the sum of squared errors, from almost none to where only each input's own covariance is left."""


@dataclass(frozen=True)
class TunedRidge:
    """A ridge and how its penalty was chosen.

    Attributes:
        scores: ``[decisions, stocks]``, NaN where the stock has no row on the day.
        fit: the ridge that was chosen.
        metric: what it was chosen by.
        figures: of each penalty of ``PENALTIES``, the metric on the validation period; NaN where undefined.
    """

    scores: Floats
    fit: RidgeFit
    metric: str
    figures: tuple[float, ...]


def tuned_ridge(
    panel: PanelView,
    train: Labels,
    validate: Labels,
    decision_days: Sequence[int] | npt.NDArray[np.int64],
    metric: str,
) -> TunedRidge:
    """The ridge of :func:`atft.evaluate.baselines.ridge` with the penalty that is best on the validation period.

    Fitted on the training period only, for each penalty from the same sums; what is chosen is not fitted again.

    Args:
        panel: features and presence.
        train: decisions of the training period.
        validate: decisions of the validation period.
        decision_days: days to score.
        metric: ``sharpe``, ``ic`` or ``rank_ic``.

    Raises:
        UseError: no training row, no feature with a value in the training period, or no penalty with a metric.
    """
    sums = normal_equations(panel, train)
    if sums.rows and sums.filled == sums.rows * sums.inputs:
        raise UseError(
            f"ridge baseline: none of the panel's {sums.inputs} features has a value on the training days. "
            "Mend: an earlier or later split.train, or a panel with other features."
        )
    fits = [sums.solve(penalty) for penalty in PENALTIES]
    candidates = linear_scores(panel, validate.days, np.column_stack([fit.coefficients for fit in fits]))
    figures = tuple(figure(metric, scores, validate) for scores in candidates)
    if not np.isfinite(figures).any():
        raise UseError(
            f"ridge baseline: no penalty has a validation {metric}: the validation period has too few labelled stocks. "
            "Mend: a longer split.validate."
        )
    best = fits[int(np.nanargmax(figures))]
    return TunedRidge(linear_scores(panel, decision_days, best.coefficients[:, None])[0], best, metric, figures)


def figure(metric: str, scores: Floats, outcomes: Labels) -> float:
    """One figure of a period to choose by: ``sharpe`` (per holding period), ``ic`` or ``rank_ic``; NaN if undefined."""
    valid = outcomes.valid & np.isfinite(scores)
    if metric == "sharpe":
        gross, _ = portfolio.daily_returns(portfolio.positions(scores, valid), outcomes.returns)
        return metrics.sharpe(gross[valid.sum(1) >= 2])
    daily = {"ic": metrics.information_coefficient, "rank_ic": metrics.rank_ic}[metric]
    return metrics.mean(daily(scores, outcomes.returns, valid))
