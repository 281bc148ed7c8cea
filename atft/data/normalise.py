"""Cross-sectional normalisation: each feature over the stocks of one day."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDEST = 5.0
"""z-scores are cut here, in standard deviations."""

Rows = NDArray[np.float32]


def ranks(rows: Rows) -> Rows:
    """``√12 ((rank − ½) / n − ½)`` with average ranks: mean 0, standard deviation about 1.

    Args:
        rows: ``[rows, stocks]`` float32; NaN where missing.

    Returns:
        ``[rows, stocks]`` float32; NaN stays NaN, and rows with fewer than 2 values are missing.
    """
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    n = np.isfinite(ordered).sum(axis=1, keepdims=True)
    place = np.arange(rows.shape[1], dtype=np.int32)
    new = np.ones(rows.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    final = np.ones(rows.shape, bool)
    final[:, :-1] = new[:, 1:]
    last = np.minimum.accumulate(np.where(final, place, len(place))[:, ::-1], axis=1)[:, ::-1]
    scaled = np.sqrt(12) * (((first + last + 1) / 2) / np.maximum(n, 1) - 0.5)
    scaled[(place >= n) | (n < 2)] = np.nan
    result = np.empty(rows.shape, np.float32)
    np.put_along_axis(result, order, scaled.astype(np.float32), axis=1)
    return result


def zscores(rows: Rows) -> Rows:
    """Distance from the mean in population standard deviations, cut at ±``WIDEST``.

    Args:
        rows: ``[rows, stocks]`` float32; NaN where missing.

    Returns:
        ``[rows, stocks]`` float32; NaN stays NaN; rows with fewer than 2 values are missing, rows of one value are 0.
    """
    result = np.full(rows.shape, np.nan, np.float32)
    for row, out in zip(rows, result, strict=True):
        known = np.isfinite(row)
        values = row[known].astype(np.float64)  # only these: a stock that is not there moves no bit
        if len(values) >= 2:
            spread = values.std() if values.min() < values.max() else 1.0
            out[known] = (
                np.clip((values - values.mean()) / spread, -WIDEST, WIDEST) if values.min() < values.max() else 0
            )
    return result


METHODS = {"rank": ranks, "zscore": zscores}
