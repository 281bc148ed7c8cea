"""Gradient-boosted trees (LightGBM) on the decision day's features, stopped early by the validation period alone.

Source: Ke et al. (2017), "LightGBM: a highly efficient gradient boosting decision tree".
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from atft.errors import UseError
from atft.evaluate import metrics
from atft.evaluate.baselines import Labels, PanelView
from atft.evaluate.metrics import Floats

PARAMETERS: dict[str, Any] = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "max_bin": 63,
    "bin_construct_sample_cnt": 100_000,
}
MOST_TREES = 1000
PATIENCE = 50
"""Trees without a better squared error on the validation period after which no more are grown."""
MOST_VALUES = 2**29
"""Most training values that are held, a byte each; of a larger table every n-th day is taken, whole."""
ROWS_AT_ONCE = 4096
"""Rows that are read from the panel at a time while values are binned."""


@dataclass(frozen=True)
class Boosted:
    """A fitted model.

    Attributes:
        scores: ``[decisions, stocks]``, NaN where the stock has no row on the day.
        model: the trees as text, which LightGBM reads.
        trees: trees up to the best one.
        parameters: leaf values and thresholds of these trees.
        rows: training stock-days.
        every: every how many-th training day was taken.
        validation_error: squared error on the validation period, of ranks in [-.5, .5], at the best tree.
    """

    scores: Floats
    model: str
    trees: int
    parameters: int
    rows: int
    every: int
    validation_error: float


# Its warnings would stand on standard output, in the midst of what a program reads there.
lgb.register_logger(logging.getLogger("lightgbm"))


class Rows(lgb.Sequence):
    """The valid stock-days of some decisions as rows of a table that is never held: LightGBM reads a piece at a time.

    Args:
        panel: features.
        labels: the decisions.
    """

    batch_size = ROWS_AT_ONCE

    def __init__(self, panel: PanelView, labels: Labels) -> None:
        self._panel, self._days = panel, np.asarray(labels.days, dtype=np.int64)
        self._decision, self._stock = np.nonzero(labels.valid)

    def __len__(self) -> int:
        return len(self._stock)

    def __getitem__(self, index: Any) -> Floats:
        """``[features]`` of one row, or ``[rows, features]`` of a slice or a list of them; NaN where missing."""
        if isinstance(index, int | np.integer):
            row: Floats = self._take(np.array([index]))[0].copy()
            return row
        return self._take(np.arange(len(self))[index])

    def _take(self, rows: npt.NDArray[np.int64]) -> Floats:
        decisions = self._decision[rows]
        pieces = []
        for decision in np.unique(decisions):  # rows go through the days in order
            day = int(self._days[decision])
            pieces.append(self._panel.features(day, day + 1)[0][self._stock[rows[decisions == decision]]])
        return np.concatenate(pieces).astype(np.float64)


def boosted(
    panel: PanelView,
    train: Labels,
    validate: Labels,
    decision_days: Sequence[int] | npt.NDArray[np.int64],
    *,
    seed: int,
    threads: int,
) -> Boosted:
    """Trees on the features that the network sees of the decision day itself.

    The target is the rank of the label among the day's valid stocks, in [-.5, .5]: a squared error would run after
    the few largest returns. Missing features go the way that LightGBM learns for them. For given data, seed and
    settings the trees are the same on any number of threads (``deterministic``, histograms by column); the validation
    error is summed in another order, so that the last tree could differ only between two that are equal to rounding.

    Args:
        panel: features and presence.
        train: decisions of the training period.
        validate: decisions of the validation period, which says when to stop.
        decision_days: days to score.
        seed: of bagging and of the choice of features.
        threads: threads of LightGBM.

    Raises:
        UseError: no valid stock-day in one of the two periods.
    """
    taken, every = thinned(train, panel.features(0, 1).shape[-1])
    for name, labels in (("train", taken), ("validate", validate)):
        if not (labels.valid.sum(1) >= 2).any():
            raise UseError(
                f"lightgbm baseline: split.{name} has no day with two valid stocks (scored and labelled). "
                f"Mend: a longer split.{name}, or a shorter window."
            )
    checked, _ = thinned(validate, panel.features(0, 1).shape[-1])
    settings = {
        **PARAMETERS, "seed": seed, "num_threads": threads, "deterministic": True, "force_col_wise": True,
        "verbosity": -1,
    }  # fmt: skip
    rows = lgb.Dataset(Rows(panel, taken), label=ranked_labels(taken), params=settings)
    held_out = rows.create_valid(Rows(panel, checked), label=ranked_labels(checked))
    model = lgb.train(
        settings, rows, MOST_TREES, valid_sets=[held_out], valid_names=["validate"],
        callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
    )  # fmt: skip
    trees = model.best_iteration or model.current_iteration()
    text = model.model_to_string(num_iteration=trees)
    leaves = [int(line.partition("=")[2]) for line in text.splitlines() if line.startswith("num_leaves=")]
    return Boosted(
        scores=_scores(model, panel, decision_days, trees, threads), model=text, trees=trees,
        parameters=sum(2 * count - 1 for count in leaves), rows=int(taken.valid.sum()), every=every,
        validation_error=float(model.best_score["validate"]["l2"]),
    )  # fmt: skip


def ranked_labels(labels: Labels) -> Floats:
    """``[rows]``: of each valid stock-day the rank of its return on its day, from -.5 to .5."""
    ranks = metrics.ranks(labels.returns, labels.valid)
    scaled: Floats = (ranks - 0.5) / labels.valid.sum(1, keepdims=True).clip(1) - 0.5
    return scaled[labels.valid]


def thinned(labels: Labels, features: int) -> tuple[Labels, int]:
    """As many evenly spaced decisions as ``MOST_VALUES`` allows, and every how many-th was taken."""
    every = max(1, -(-int(labels.valid.sum()) * features // MOST_VALUES))
    return Labels(labels.days[::every], labels.returns[::every], labels.valid[::every]), every


def _scores(
    model: lgb.Booster,
    panel: PanelView,
    decision_days: Sequence[int] | npt.NDArray[np.int64],
    trees: int,
    threads: int,
) -> Floats:
    scores = np.full((len(decision_days), panel.present.shape[1]), np.nan)
    for row, day in enumerate(decision_days):
        present = panel.present[day]
        if present.any():
            x = panel.features(int(day), int(day) + 1)[0][present].astype(np.float64)
            scores[row, present] = model.predict(x, num_iteration=trees, num_threads=threads)
    return scores
