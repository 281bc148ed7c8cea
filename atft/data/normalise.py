"""Cross-sectional normalisation: each feature over the stocks of one day."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDEST = 5.0
"""z-scores are cut here, in standard deviations."""

_AT_ONCE = 16
"""Rows that are ranked together: what they take then stays in a processor's cache."""

Rows = NDArray[np.float32]


def ranks(rows: Rows) -> Rows:
    """``√12 ((rank − ½) / n − ½)`` with average ranks: mean 0, standard deviation about 1.

    Args:
        rows: ``[rows, stocks]`` float32; NaN where missing.

    Returns:
        ``[rows, stocks]`` float32; NaN stays NaN, and rows with fewer than 2 values are missing.
    """
    result = np.empty(rows.shape, np.float32)
    for first in range(0, len(rows), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        _rank(rows[some], result[some])
    return result


def _rank(rows: Rows, result: Rows) -> None:
    n = np.isfinite(rows).sum(axis=1, keepdims=True)
    place = np.arange(rows.shape[1], dtype=np.int32)
    ordered, order = _sorted(rows, place)
    middle = np.broadcast_to(place + 0.5, rows.shape)
    equal = (ordered[:, 1:] == ordered[:, :-1]) & (place[1:] < n)
    tied = np.flatnonzero(equal.any(axis=1))
    if len(tied):
        middle = middle.copy()
        middle[tied] = _middles(ordered[tied], place)
    scaled = (np.sqrt(12) * (middle / np.maximum(n, 1) - 0.5)).astype(np.float32)
    scaled[(place >= n) | (n < 2)] = np.nan
    np.put_along_axis(result, order, scaled, axis=1)


def _sorted(rows: Rows, place: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Integers in the order of the values of each row, NaN last, and the places that they come from.

    A value and its place are packed into one integer: numpy sorts those three times as fast as it sorts places.
    """
    bits = (rows + np.float32(0)).view(np.int32)  # -0 becomes 0, which it equals
    keys = np.where(np.isnan(rows), np.int32(2**31 - 1), bits ^ ((bits >> 31) & np.int32(2**31 - 1)))
    packed = (keys.astype(np.int64) << 32) | place
    packed.sort(axis=1)
    return packed >> 32, packed & 0xFFFFFFFF


def _middles(ordered: NDArray[np.int64], place: NDArray[np.int32]) -> NDArray[np.float64]:
    """The mean rank less ½ of each place of sorted rows: equals share that of their run."""
    new = np.ones(ordered.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    final = np.ones(ordered.shape, bool)
    final[:, :-1] = new[:, 1:]
    last = np.minimum.accumulate(np.where(final, place, len(place))[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((first + last + 1) / 2)


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
