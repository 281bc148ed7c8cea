"""One feature as its table holds it, before any normalisation: what only the whole sample can have made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from atft.evaluate.leakage.finding import FALSE_ALARM
from atft.evaluate.metrics import Bools, Floats

MOST = 0.9
"""Share of stocks that a whole-sample statistic shows in before it is believed."""
ROUNDING = 1e-6
"""Relative distance below which two numbers in single precision are one."""
LEAST_STOCKS, LEAST_DAYS = 10, 20
"""Stocks, and days of a stock, below which its extremes say nothing."""
FITTED = 1e-6
"""Largest distance from mean 0 and deviation 1 of values that were scaled over just this span."""
LEADING = 3
"""Days with one value at a stock's beginning, where such runs are else rare, that a back-fill makes."""
REPEATS = 0.2
"""Share of repeated values above which a feature is one that moves seldom, and repeats say nothing."""


@dataclass(frozen=True)
class Sign:
    """What was seen in one feature: the check that saw it, the evidence, and the mend."""

    check: str
    evidence: str
    mend: str


def extremes(values: Floats) -> Sign | None:
    """Every stock's maximum (or minimum) is one and the same number, and is reached once: scaled by the whole sample.

    A ratio to a *running* maximum reaches its bound again and again, and on the first day; such are not named.

    Args:
        values: ``[days, stocks]``, NaN where missing.
    """
    there = np.isfinite(values)
    enough = there.sum(0) >= LEAST_DAYS
    if enough.sum() < LEAST_STOCKS:
        return None
    kept, known = values[:, enough], there[:, enough]
    first = kept[known.argmax(0), np.arange(kept.shape[1])]
    for name, end in (
        ("maximum", np.where(known, kept, -np.inf).max(0)),
        ("minimum", np.where(known, kept, np.inf).min(0)),
    ):
        level = float(np.median(end))
        rounding = ROUNDING * max(abs(level), float(np.nanmedian(np.abs(kept))))
        shared = np.abs(end - level) <= rounding
        times = (np.abs(kept[:, shared] - level) <= rounding).sum(0)
        begins = np.abs(first[shared] - level) <= rounding
        if shared.mean() >= MOST and np.median(times) <= 2 and begins.mean() < 0.5:
            return Sign(
                "whole-sample scale",
                f"the {name} of {int(shared.sum())} of {len(end)} stocks is {level:g}, "
                f"reached on {np.median(times):g} day of each: divided by the {name} of the whole sample",
                "divide by a running or trailing extreme",
            )
    return None


def anchored_at_the_end(values: Floats) -> Sign | None:
    """Every stock ends at one and the same number and does not begin there: counted back from the last day.

    So is an adjustment factor that knows later splits, or a price over the last one.

    Args:
        values: ``[days, stocks]``, NaN where missing.
    """
    there = np.isfinite(values)
    moves = np.where(there, values, -np.inf).max(0) > np.where(there, values, np.inf).min(0)
    moves &= there.sum(0) >= LEAST_DAYS
    if moves.sum() < LEAST_STOCKS:
        return None
    stock = np.flatnonzero(moves)
    first = values[there.argmax(0), np.arange(values.shape[1])][stock]
    last = values[len(values) - 1 - there[::-1].argmax(0), np.arange(values.shape[1])][stock]
    level = float(np.median(last))
    first, last = (np.abs(side - level) <= ROUNDING * max(abs(level), 1.0) for side in (first, last))
    if last.mean() >= MOST and first.mean() < 0.5:
        return Sign(
            "adjustment",
            f"{int(last.sum())} of {len(last)} stocks that move end at "
            f"{level:g}, {int(first.sum())} begin there: a factor counted back from the last day "
            "tells on each day what splits will come",
            "count the factor forward from each stock's first day",
        )
    return None


def fitted_span(values: Floats, spans: Mapping[str, Bools]) -> Sign | None:
    """Mean 0 and deviation 1 over a span that holds test days, for all stocks together or for each: a fitted scaler.

    A scaler fitted on training days alone is right; values scaled over each day are 0 and 1 over any span, and right.

    Args:
        values: ``[days, stocks]``, NaN where missing.
        spans: days of each span by name; names that begin with ``train only`` may be fitted on.
    """
    per_day = _fits(values.T)
    if np.isfinite(per_day).any() and np.nanmean(per_day) > MOST:
        return None
    found = {name: share for name, days in spans.items() if (share := _share_fitted(values[days])) is not None}
    if not found or any(name.startswith("train only") for name in found):
        return None
    name, whose = next(iter(found.items()))
    return Sign(
        "scaler",
        f"mean 0 and deviation 1 to {FITTED:g} over {name} ({whose}): its scaler was fitted on test days",
        "fit the scaler on training days only, or scale over each day",
    )


def _share_fitted(values: Floats) -> str | None:
    fits = _fits(values)
    enough = np.isfinite(values).sum(0) >= LEAST_DAYS
    if enough.sum() >= LEAST_STOCKS and np.nanmean(fits[enough]) >= MOST:
        return "each stock by itself"
    return "all stocks together" if np.nan_to_num(_fits(values.reshape(-1, 1)))[0] == 1 else None


def _fits(values: Floats) -> Floats:
    """``[columns]``: 1 where mean and deviation are 0 and 1, NaN below two values."""
    there = np.isfinite(values)
    count = there.sum(0)
    kept = np.where(there, values, 0.0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = kept.sum(0) / count
        deviation = np.sqrt(np.where(there, (kept - mean) ** 2, 0.0).sum(0) / count)
        sample = deviation * np.sqrt(count / (count - 1))
    one = (np.abs(deviation - 1) < FITTED) | (np.abs(sample - 1) < FITTED)
    return np.where(count >= 2, (np.abs(mean) < FITTED) & one, np.nan)


def leading_fill(values: Floats) -> Sign | None:
    """Stocks that begin with a run of one value, in a feature that else moves: filled backwards to the first row.

    Args:
        values: ``[days, stocks]``, NaN where missing.
    """
    runs, repeats, pairs = [], 0, 0
    for column in values.T:
        known = column[np.isfinite(column)]
        if len(known) < LEAST_DAYS:
            continue
        same = known[1:] == known[:-1]
        run = int(len(same) if same.all() else same.argmin())
        runs.append(run + 1)
        repeats, pairs = repeats + int(same[run:].sum()), pairs + len(same) - run
    if len(runs) < LEAST_STOCKS or not pairs or repeats / pairs > REPEATS:
        return None
    long = np.array(runs) >= LEADING
    if long.mean() < 0.5:
        return None
    return Sign(
        "back-filled values",
        f"{int(long.sum())} of {len(runs)} stocks begin with one value for {LEADING} days "
        f"or more (median {np.median(runs):g}), where {repeats / pairs:.1%} of later values repeat: the first "
        "real value was carried back to days that did not know it",
        "leave missing what is missing",
    )


def interior_fill(values: Floats, returns: Floats, tests: int) -> Sign | None:
    """Repeated values that go with the *later* day's return: gaps filled from the day after.

    Where ``x[t] = x[t+1]``, a forward fill repeats what belongs to ``t``, a backward fill what belongs to ``t + 1``.
    Only a feature that goes with its own day's return can tell them apart.

    Args:
        values: ``[days, stocks]``, NaN where missing.
        returns: ``[days, stocks]``, return from ``t - 1`` to ``t``.
        tests: how many features are tested.
    """
    x, later = values[:-1], returns[1:]
    same = x == values[1:]
    whole = np.isfinite(x) & np.isfinite(values[1:]) & np.isfinite(later) & np.isfinite(returns[:-1])
    if not whole.any():
        return None
    whole &= (x > x[whole].min()) & (x < x[whole].max())  # a bound that is met twice repeats too
    share = same[whole].mean() if whole.any() else 0.0
    if not 0 < share < REPEATS or (pairs := int((whole & same).sum())) < 50:
        return None
    own, ahead = (_correlation(x, other, whole & ~same) for other in (returns[:-1], later))
    filled = _correlation(x, later, whole & same)
    beyond = (np.arctanh(filled) - np.arctanh(ahead)) * np.sqrt(pairs - 3) * np.sign(own)
    alike = filled * np.sign(own) > 0.5 * abs(own)
    if abs(own) > 0.05 and alike and beyond > stats.norm.isf(FALSE_ALARM / tests):
        return Sign(
            "back-filled values",
            f"{pairs} values equal the next day's, and go with the next day's return "
            f"(correlation {filled:+.2f}; {own:+.2f} with the own day's elsewhere, {ahead:+.2f} with the next): "
            "gaps were filled from the day after",
            "leave missing what is missing, or fill forward",
        )
    return None


def _correlation(x: Floats, y: Floats, kept: Bools) -> float:
    if kept.sum() < 4:
        return 0.0
    one, other = stats.rankdata(x[kept]), stats.rankdata(y[kept])
    return float(np.clip(np.corrcoef(one, other)[0, 1], -0.999, 0.999)) if one.std() and other.std() else 0.0


def signs(values: Floats, returns: Floats, spans: Mapping[str, Bools], tests: int) -> Iterator[Sign]:
    """All that one feature shows."""
    for found in (
        extremes(values),
        anchored_at_the_end(values),
        fitted_span(values, spans),
        leading_fill(values),
        interior_fill(values, returns, tests),
    ):
        if found is not None:
            yield found
