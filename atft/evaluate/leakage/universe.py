"""Whether a universe was chosen by what became of its stocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from atft.evaluate.leakage.finding import FALSE_ALARM, Finding, clean, not_checked, suspect
from atft.evaluate.metrics import Floats

CHECK = "survivorship"
LEAVERS_A_YEAR = 0.02
"""Share of stocks that leaves any broad market in a year, at least: listed companies leave at 4 to 8 %."""
YEAR = 252
LEAST_DAYS, LEAST_STOCKS, STEP = 120, 20, 20
"""Below these nothing is said; returns of ``STEP`` days give each stock's deviation."""
SURE = 7.0
"""Stocks that chance leaves below the lowest value seen, on average, before a floor is believed: none would be left
with probability exp(-7) = .0009; the deviations are estimated, and a margin is left for that."""
FILTERS = ("last close", "lowest close", "return from first to last close", "lowest close of the second half")
MEND = "take the stocks that were listed on each day, those that left later included"


def findings(close: Floats) -> Iterator[Finding]:
    """No stock that leaves, and floors under prices that chance does not leave.

    A filter such as "trades above 5 at the end" leaves no stock below a floor that many would have passed by chance.
    Under a driftless walk (about the cross-section's mean drift) with each stock's own deviation, the number of
    stocks expected below the lowest value seen is at most about 1; how much more it is gives the probability
    ``exp(-expected)`` of that gap.

    Args:
        close: ``[days, stocks]``, NaN where missing.
    """
    there = np.isfinite(close)
    enough = there.sum(0) >= LEAST_DAYS
    if len(close) < LEAST_DAYS or enough.sum() < LEAST_STOCKS:
        yield not_checked(
            CHECK,
            "suspicion",
            f"{len(close)} days and {int(enough.sum())} stocks with {LEAST_DAYS} of "
            f"them say nothing; {LEAST_STOCKS} stocks are needed",
        )
        return
    told = [text for text in (_nobody_leaves(there), *_floors(np.where(there, close, np.nan)[:, enough])) if text]
    if told:
        yield suspect(CHECK, "universe", "; ".join(told), MEND)
    else:
        left = int((~there[-STEP:].any(0)).sum())
        yield clean(
            CHECK,
            "suspicion",
            f"{left} of {close.shape[1]:,} stocks leave before the last {STEP} days, and no "
            f"floor stands under {', '.join(FILTERS)}",
        )


def _nobody_leaves(there: np.ndarray) -> str:
    if (~there[-STEP:].any(0)).any():
        return ""
    years = there.sum() / YEAR
    chance = np.exp(-LEAVERS_A_YEAR * years)
    if chance >= FALSE_ALARM / 4:
        return ""
    return (
        f"not one of {there.shape[1]:,} stocks leaves in {years:,.0f} stock-years, where "
        f"{LEAVERS_A_YEAR * years:,.0f} or more do in a market: only survivors are here"
    )


def _floors(close: Floats) -> Iterator[str]:
    found = [
        f"no {name} below {level}, where {expected:.0f} are expected"
        for name, level, expected in expectations(close)
        if expected > SURE
    ]
    if found:
        yield f"floors that chance does not leave, drawn when the ends were known: {', '.join(found)}"


def expectations(close: Floats) -> Iterator[tuple[str, str, float]]:
    """For each of ``FILTERS``: the lowest value seen, and how many stocks chance would leave below it.

    Args:
        close: ``[days, stocks]``, NaN where missing; each stock with ``LEAST_DAYS`` closes.
    """
    log = np.log(close)
    there, stock, half = np.isfinite(log), np.arange(log.shape[1]), len(log) // 2
    begins, ends = there.argmax(0), len(log) - 1 - there[::-1].argmax(0)
    first, last, length = log[begins, stock], log[ends, stock], ends - begins
    daily = _deviation(log)
    drift = float(np.median((last - first) / length))
    reach = daily * np.sqrt(length)
    below = stats.norm.cdf((last.min() - first - drift * length) / reach)
    yield FILTERS[0], f"{np.exp(last.min()):.4g}", float(below.sum())
    gain = last - first - drift * length
    yield FILTERS[2], f"{np.expm1(gain.min()):+.0%} beside the median", float(stats.norm.cdf(gain.min() / reach).sum())
    for name, edge in ((FILTERS[1], 1), (FILTERS[3], half)):
        before, days = _last_value(log[:edge]), there[edge:].sum(0)
        kept = np.isfinite(before) & (days > 0)
        if kept.sum() >= LEAST_STOCKS:
            floor = np.where(there[edge:], log[edge:], np.inf).min(0)[kept].min()
            passed = _passing(floor - before[kept], max(drift, 0.0) * days[kept], daily[kept] * np.sqrt(days[kept]))
            yield name, f"{np.exp(floor):.4g}", float(passed.sum())


def _deviation(log: Floats) -> Floats:
    """Daily deviation of each stock: the smaller of that of days and of ``STEP`` days, so that none is too large."""
    found = []
    for step in (1, STEP):
        moves = log[step:] - log[:-step]
        known = np.isfinite(moves)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, moves, 0.0).sum(0) / count
        found.append(np.sqrt(np.where(known, (moves - mean) ** 2, 0.0).sum(0) / count / step))
    return np.asarray(np.maximum(np.minimum(*found), 1e-6))


def _passing(gap: Floats, drift: Floats, reach: Floats) -> Floats:
    """Probability that a walk with drift passes ``gap`` (below 0) within its days, by the reflection principle.

    Source: the first-passage law of Brownian motion with drift, for instance Karatzas and Shreve (1991), 3.5.
    """
    low = np.minimum(gap, 0.0)
    mirrored = np.exp(np.minimum(2 * drift * low / reach**2, 0.0)) * stats.norm.cdf((low + drift) / reach)
    return np.asarray(np.minimum(stats.norm.cdf((low - drift) / reach) + mirrored, 1.0))


def _last_value(values: Floats) -> Floats:
    there = np.isfinite(values)
    last = len(values) - 1 - there[::-1].argmax(0)
    return np.where(there.any(0), values[last, np.arange(values.shape[1])], np.nan)
