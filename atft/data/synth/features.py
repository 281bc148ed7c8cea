"""The own features of a synthetic market and the signal that is planted in them.

All own features are standard normal, independent over features, stocks and days, so that each part of the signal can
be had in one way only:

- linear: a weighted sum of ``linear_1..4`` today. Any model has it.
- lagged: ``lagged_1`` of the trading day before. Today's value says nothing: a model needs a memory. One day, not a
  mean of several: the signal of one day must say nothing about the next day's, so that labels shifted by a day destroy
  it (a mean of five days would keep .8 of itself).
- interaction: with ``a, b`` the sizes ``|value_1|, |value_2|`` less their mean, ``a + 0.4 b`` where ``choice > 0``,
  else ``0.4 a + b``. Its correlation with every feature, and with any weighted sum of features, is 0. A network that
  transforms each feature alone and weighs them sample by sample learns it; one that first mixes all features linearly
  does not in the time that it is given here. Measured among 80 features, 3 epochs of 50,000 samples, part's IC .078,
  as correlation of the output with the part: variable selection .34, linear embedding with LSTM .01. Tried and
  dropped: products of pairs (selection learns them late), the chosen size alone (.16 in 5 epochs), sizes without a
  choice (easier at .39, but no interaction).
- spillover: the mean of ``news`` over the stock's cluster mates today, itself left out. A model needs its neighbours,
  which the correlation of trailing returns shows.

A missing value counts as 0 (its mean) in the signal, so that the signal is a function of what the table shows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from atft.data.synth.layout import Layout
from atft.data.synth.options import SynthOptions

Array = NDArray[np.float64]

PARTS = ("linear", "lagged", "interaction", "spillover")
LINEAR_WEIGHTS = (0.6, -0.5, 0.45, -0.45)
LAG = 1
"""Trading days from the value of ``lagged_1`` to the day whose signal it is."""
LESS_CHOSEN = 0.4
"""Weight of the size that is not chosen. At 0 the part is harder to learn: sums of functions of one feature each then
reach .71 of it, not .92."""
MEAN_SIZE = math.sqrt(2 / math.pi)
"""Mean of |x| for a standard normal x."""


def feature_names(options: SynthOptions) -> list[str]:
    """Names of the own features, in the order of the table's columns."""
    linear = [f"linear_{number + 1}" for number in range(len(LINEAR_WEIGHTS))]
    noise = [f"noise_{number + 1}" for number in range(options.noise_features)]
    return [*linear, "lagged_1", "choice", "value_1", "value_2", "news", *noise]


def make_features(options: SynthOptions, present: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
    """Own features by name, each ``[days, stocks]`` float32, NaN where missing or without a row."""
    features = {}
    for name in feature_names(options):
        random = options.stream(f"feature {name}")
        values = random.standard_normal(present.shape, dtype=np.float32)
        values[(random.random(present.shape, dtype=np.float32) < options.missing_feature_share) | ~present] = np.nan
        features[name] = values
    return features


def standardised_parts(features: dict[str, NDArray[np.float32]], layout: Layout) -> dict[str, Array]:
    """The four parts of the signal by name, each ``[days, stocks]``, root mean cross-sectional variance 1."""
    known = {name: np.nan_to_num(values).astype(np.float64) for name, values in features.items()}
    parts = {
        "linear": _linear(known),
        "lagged": _lagged(known["lagged_1"]),
        "interaction": _interaction(features, known),
        "spillover": _spillover(known["news"], ~np.isnan(features["news"]), layout.cluster),
    }
    return {name: part / _deviation(part, layout.present) for name, part in parts.items()}


def _linear(known: dict[str, Array]) -> Array:
    terms = [weight * known[f"linear_{number + 1}"] for number, weight in enumerate(LINEAR_WEIGHTS)]
    return np.asarray(np.sum(terms, axis=0))


def _lagged(values: Array) -> Array:
    result = np.zeros_like(values)
    result[LAG:] = values[:-LAG]
    return result


def _interaction(features: dict[str, NDArray[np.float32]], known: dict[str, Array]) -> Array:
    first, second = np.abs(known["value_1"]) - MEAN_SIZE, np.abs(known["value_2"]) - MEAN_SIZE
    chosen = np.where(known["choice"] > 0, first + LESS_CHOSEN * second, LESS_CHOSEN * first + second)
    complete = ~np.any([np.isnan(features[name]) for name in ("choice", "value_1", "value_2")], axis=0)
    return np.where(complete, chosen, 0.0)


def _spillover(news: Array, known: NDArray[np.bool_], cluster: NDArray[np.int64]) -> Array:
    """Mean of ``news`` over the known values of the other stocks of the cluster; 0 where there is none."""
    others = sum_by_group(news, cluster)[:, cluster] - news
    count = sum_by_group(known.astype(np.float64), cluster)[:, cluster] - known
    return np.where(count > 0, others / np.maximum(count, 1), 0.0)


def sum_by_group(values: Array, group: NDArray[np.int64]) -> Array:
    """``[days, groups]`` sums over the stocks of each group; every number from 0 to the last one has a stock."""
    # Not a matrix product: its last bits may depend on the number of threads.
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    return np.add.reduceat(values[:, order], starts, axis=1)


def _deviation(part: Array, present: NDArray[np.bool_]) -> float:
    """Root of the mean over days of the variance over the stocks that have a row."""
    counts = present.sum(1)
    counted = counts > 1
    mean = np.where(present, part, 0).sum(1) / np.maximum(counts, 1)
    variance = np.where(present, (part - mean[:, None]) ** 2, 0).sum(1) / np.maximum(counts, 1)
    return float(np.sqrt(variance[counted].mean()))
