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
FILTERS = ("last close", "lowest close of the second half", "return from first to last close")
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
    log = np.log(close)
    there = np.isfinite(log)
    stock = np.arange(log.shape[1])
    first_day, last_day = there.argmax(0), len(log) - 1 - there[::-1].argmax(0)
    first, last = log[first_day, stock], log[last_day, stock]
    steps = log[STEP:] - log[:-STEP]
    with np.errstate(invalid="ignore"):
        known = np.isfinite(steps)
        mean = np.where(known, steps, 0).sum(0) / np.maximum(known.sum(0), 1)
        daily = np.sqrt(np.where(known, (steps - mean) ** 2, 0).sum(0) / np.maximum(known.sum(0), 1) / STEP)
    length = last_day - first_day
    drift = float(np.median((last - first) / length))
    deviation = np.maximum(daily, 1e-6) * np.sqrt(length)
    half = len(log) // 2
    late = log[half:]
    has_late = np.isfinite(late).any(0)
    lowest = np.where(np.isfinite(late), late, np.inf).min(0)
    below_last = stats.norm.cdf((last.min() - first - drift * length) / deviation)
    least_gain = (last - first - drift * length).min()
    below_gain = stats.norm.cdf(least_gain / deviation)
    # Reflection: a walk that ends below passes below at least that often; twice is the probability of passing.
    begin = np.where(np.isfinite(log[:half]), log[:half], np.nan)
    before = _last_value(begin)
    reach = np.sqrt(np.maximum(np.isfinite(late).sum(0), 1)) * np.maximum(daily, 1e-6)
    usable = has_late & np.isfinite(before)
    floor = lowest[usable].min() if usable.any() else -np.inf
    gap = np.minimum((floor - before[usable]) / reach[usable], 0.0)
    below_lowest = 2 * stats.norm.cdf(gap - max(drift, 0.0) * np.sqrt(half) / np.maximum(daily[usable], 1e-6))
    levels = (f"{np.exp(last.min()):.4g}", f"{np.exp(floor):.4g}", f"{np.expm1(least_gain):+.0%} beside the median")
    for name, level, chances in zip(FILTERS, levels, (below_last, below_lowest, below_gain), strict=True):
        expected = float(np.minimum(chances, 1.0).sum())
        if np.exp(-expected) < FALSE_ALARM / 4:
            yield (
                f"no {name} is below {level}, where chance leaves {expected:.0f} stocks below: a floor that was drawn "
                "when the ends were known"
            )


def _last_value(values: Floats) -> Floats:
    there = np.isfinite(values)
    last = len(values) - 1 - there[::-1].argmax(0)
    return np.where(there.any(0), values[last, np.arange(values.shape[1])], np.nan)
