"""Labels: the return that a decision at the close of day ``t`` earns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def _check(horizon: int, lag: int) -> None:
    if horizon < 1 or lag < 0:
        raise ValueError(f"a label needs horizon ≥ 1 and lag ≥ 0, got horizon {horizon} and lag {lag}")


def forward_returns(close: NDArray[np.float64], horizon: int, lag: int) -> NDArray[np.float64]:
    """Simple return from ``t + lag`` to ``t + lag + horizon``.

    Args:
        close: ``[days, stocks]``, NaN where missing.
        horizon: trading days held, at least 1.
        lag: trading days between decision and execution, at least 0.

    Returns:
        ``[days, stocks]`` float64, NaN where either close is missing or beyond the calendar.

    Raises:
        ValueError: horizon or lag out of range.
    """
    _check(horizon, lag)
    returns = np.full(close.shape, np.nan)
    known = len(close) - lag - horizon
    if known > 0:
        returns[:known] = close[lag + horizon :] / close[lag : lag + known] - 1
    return returns


def label_dates(days: NDArray[np.datetime64], horizon: int, lag: int) -> NDArray[np.int64]:
    """Index of the day on which each decision's label ends.

    Args:
        days: ``[days]``, the calendar.
        horizon: trading days held, at least 1.
        lag: trading days between decision and execution, at least 0.

    Returns:
        ``[days]`` int64, -1 where the label ends beyond the calendar.

    Raises:
        ValueError: horizon or lag out of range.
    """
    _check(horizon, lag)
    ends = np.arange(len(days), dtype=np.int64) + lag + horizon
    return np.where(ends < len(days), ends, -1)
