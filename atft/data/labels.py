"""Labels: the return that a decision at the close of day ``t`` earns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atft import config
from atft.data.markets import check_execution
from atft.data.panel import Panel
from atft.errors import UseError


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


def decided_returns(panel: Panel, label: config.Label) -> NDArray[np.float64]:
    """The returns that decisions earn under ``label``: computed from closes, or the panel's own label.

    Returns:
        ``[days, stocks]`` float64, NaN where unknown or where the label ends beyond the calendar.

    Raises:
        UseError: as :func:`check_label`.
    """
    check_label(panel, label)
    return known_returns(panel, label)


def known_returns(panel: Panel, label: config.Label) -> NDArray[np.float64]:
    """As :func:`decided_returns`, for whoever needs scores and no returns: unknown where the panel has no own label."""
    if not label.own:
        return forward_returns(panel.close, label.horizon, label.execution_lag)
    returns = np.full(panel.close.shape, np.nan)
    known = len(returns) - label.horizon - label.execution_lag
    if panel.label is not None and known > 0:
        returns[:known] = panel.label[:known]
    return returns


def check_label(panel: Panel, label: config.Label) -> None:
    """Refuse a label that the panel cannot give.

    Raises:
        UseError: an own label that is not there, that covers other days, or that the tier does not mention; execution
            at a close that is past when the decision is taken.
    """
    check_execution(str(panel.path), panel.manifest.sessions, label.execution_lag)
    stated = panel.manifest.roles.label if panel.manifest.roles else None
    if label.own is None and panel.label is not None:
        raise UseError(
            f"{panel.path}: has an own label, and the tier does not say which return a decision earns. Mend: "
            "--set label.own=true for the panel's own label, --set label.own=false for returns of closes."
        )
    if label.own and (panel.label is None or stated is None):
        raise UseError(
            f"label.own = true: the panel {panel.path} has no own label. Mend: a role 'label' when it is built, or "
            "--set label.own=false."
        )
    if label.own and len(set(panel.markets)) > 1:
        raise UseError(
            f"label.own = true: {panel.path} holds several markets, where a label that skips its market's holidays "
            "spans more days of the calendar than its horizon, and the purge between periods would be too short. Mend: "
            "--set label.own=false, or a panel for each market."
        )
    if label.own and stated and (stated.horizon, stated.execution_lag) != (label.horizon, label.execution_lag):
        raise UseError(
            f"label.horizon = {label.horizon}, label.execution_lag = {label.execution_lag}: the own label of "
            f"{panel.path} has horizon {stated.horizon} and execution lag {stated.execution_lag} (its roles), and the "
            f"purge between periods goes by them. Mend: --set label.horizon={stated.horizon} "
            f"--set label.execution_lag={stated.execution_lag}."
        )


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
