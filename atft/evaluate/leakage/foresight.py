"""Correlations of features with returns to come: how much a feature may know before it is implausible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from atft.evaluate.leakage.finding import FALSE_ALARM, Finding, clean, not_checked, suspect
from atft.evaluate.metrics import Floats

LEADS = tuple(range(-10, 11))
"""Single days: lead ``j`` is the return from close ``t + j - 1`` to ``t + j``; 1 and above is the future."""
HORIZONS = (5, 20, 60)
"""Days of the returns from close ``t`` on."""
PLAUSIBLE = {1: 0.10, 5: 0.12, 20: 0.20, 60: 0.35}
"""Mean daily rank IC of a single feature that is still believed, by the days that the return spans. Published
signals reach .02 to .05 a day; over weeks, few independent periods and common factors allow more."""
BLOCKS, LEAST_BLOCKS = 20, 6
LEAST_STOCKS = 10
"""Stocks of a day below which it does not count."""

CHECK = "returns to come"
MEND = "compute the feature from closes up to its own day; a rebuild (--pipeline) proves it"


@dataclass(frozen=True)
class Profile:
    """Rank ICs of features by target, averaged within blocks of days.

    Attributes:
        names: of the features.
        leads: ``[blocks, features, len(LEADS)]``.
        horizons: ``[blocks, features, len(HORIZONS)]``; NaN in blocks that a horizon overlaps with the next.
        days: days that count.
    """

    names: Sequence[str]
    leads: Floats
    horizons: Floats
    days: int


def targets(close: Floats, day: int) -> Floats:
    """``[stocks, len(LEADS) + len(HORIZONS)]`` log returns around ``day``; NaN where a close is missing."""
    log, count = np.log(close), len(close)
    spans = [(day + lead - 1, day + lead) for lead in LEADS] + [(day, day + horizon) for horizon in HORIZONS]
    found = np.full((close.shape[1], len(spans)), np.nan)
    for column, (begin, end) in enumerate(spans):
        if begin >= 0 and end < count:
            found[:, column] = log[end] - log[begin]
    return found


def rank_correlations(features: Floats, wanted: Floats) -> Floats:
    """Correlation of each feature with each target's ranks over one day's stocks.

    Args:
        features: ``[stocks, features]``, normalised or ranked over the day; NaN where missing.
        wanted: ``[stocks, targets]``; NaN where missing.

    Returns:
        ``[features, targets]``; NaN where fewer than ``LEAST_STOCKS`` stocks have both or one side does not vary.
    """
    there, known = np.isfinite(features), np.isfinite(wanted)
    ranked = stats.rankdata(np.where(known, wanted, np.nan), axis=0, nan_policy="omit")
    x, y = np.where(there, features, 0.0), np.where(known, ranked, 0.0)
    counts = there.T.astype(float) @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = x.T @ known / counts, there.T.astype(float) @ y / counts
        cross = x.T @ y / counts - mean_x * mean_y
        spread_x = (x * x).T @ known / counts - mean_x**2
        spread_y = there.T.astype(float) @ (y * y) / counts - mean_y**2
        found = cross / np.sqrt(np.maximum(spread_x, 0.0) * np.maximum(spread_y, 0.0))
    found[(counts < LEAST_STOCKS) | (spread_x < 1e-12) | (spread_y < 1e-9)] = np.nan
    return np.asarray(found)


def profile(names: Sequence[str], daily: Sequence[tuple[int, Floats]], days: int) -> Profile:
    """Daily correlations gathered into blocks of consecutive days, whose means are nearly independent.

    Args:
        names: of the features.
        daily: day number and ``[features, targets]`` as of :func:`rank_correlations`, rising.
        days: of the calendar.
    """
    width, tables = len(LEADS), np.stack([table for _, table in daily])
    place = np.array([day for day, _ in daily])
    block = np.minimum(place * BLOCKS // days, BLOCKS - 1)
    by_block = [_mean(tables[block == number]) for number in range(BLOCKS)]
    horizons = np.stack([table[:, width:] for table in by_block])
    for column, horizon in enumerate(HORIZONS):
        every = -(-2 * horizon * BLOCKS // days)  # blocks at least twice as long as the horizon
        horizons[:, :, column] = _thinned(tables[:, :, width + column], place, days, max(1, every))
    return Profile(names, np.stack([table[:, :width] for table in by_block]), horizons, len(daily))


def _thinned(values: Floats, place: np.ndarray, days: int, every: int) -> Floats:
    """Means of fewer and longer blocks, in the first rows of ``[BLOCKS, features]``."""
    count = BLOCKS // every
    found = np.full((BLOCKS, values.shape[1]), np.nan)
    for number in range(count):
        inside = (place * count // days) == number
        found[number] = _mean(values[inside])
    return found


def _mean(values: Floats) -> Floats:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(0) / known.sum(0))


def lower_bounds(blocks: Floats, tests: int) -> tuple[Floats, Floats]:
    """Mean over blocks, and what its size surely exceeds at ``FALSE_ALARM`` over ``tests`` tests.

    Student's t on block means; NaN below ``LEAST_BLOCKS`` blocks.
    """
    known = np.isfinite(blocks)
    count = known.sum(0)
    mean = _mean(blocks)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.where(known, (blocks - mean) ** 2, 0.0).sum(0) / (count - 1)
        error = np.sqrt(spread / count)
    beyond = stats.t.isf(FALSE_ALARM / 2 / tests, np.maximum(count - 1, 1))
    return mean, np.where(count >= LEAST_BLOCKS, np.abs(mean) - beyond * error, np.nan)


def findings(found: Profile) -> Iterator[Finding]:
    """Features whose correlation with a return to come is surely more than is plausible, one row each."""
    futures = [column for column, lead in enumerate(LEADS) if lead >= 1]
    tests = len(found.names) * (len(futures) + len(HORIZONS))
    mean, low = lower_bounds(found.leads, tests)
    far, far_low = lower_bounds(found.horizons, tests)
    if not np.isfinite(low[:, futures]).any():
        yield not_checked(
            CHECK,
            "suspicion",
            f"{found.days} days of {LEAST_STOCKS} stocks or more give no error bar "
            f"({BLOCKS} blocks of days are compared)",
        )
        return
    named = 0
    for number, name in enumerate(found.names):
        told = _implausible(mean[number], low[number], far[number], far_low[number])
        if told:
            named += 1
            yield suspect(CHECK, name, told, MEND)
    skipped = [horizon for column, horizon in enumerate(HORIZONS) if not np.isfinite(far_low[:, column]).any()]
    least = f"; horizons {skipped} days not checked: the calendar is too short" if skipped else ""
    if not named:
        largest = float(np.nanmax(np.abs(mean[:, futures])))
        at = found.names[int(np.nanargmax(np.nanmax(np.abs(mean[:, futures]), axis=1)))]
        yield clean(
            CHECK,
            "suspicion",
            f"{len(found.names)} features × leads 1 to {LEADS[-1]}: the largest rank IC is "
            f"{largest:.3f} ({at}), {PLAUSIBLE[1]:g} is believed{least}",
        )


def _implausible(mean: Floats, low: Floats, far: Floats, far_low: Floats) -> str:
    leads = [column for column, lead in enumerate(LEADS) if lead >= 1 and low[column] > PLAUSIBLE[1]]
    if leads:
        first = leads[int(np.argmax(np.abs(mean[leads])))]
        return (
            f"{_shape(mean, low)}: rank IC {mean[first]:+.3f} with the return of day t{LEADS[first]:+d}, surely above "
            f"{low[first]:.3f}; {PLAUSIBLE[1]:g} is believed"
        )
    for column, horizon in enumerate(HORIZONS):
        if far_low[column] > PLAUSIBLE[horizon]:
            return (
                f"knows the coming {horizon} days: rank IC {far[column]:+.3f} with their return, surely above "
                f"{far_low[column]:.3f}; {PLAUSIBLE[horizon]:g} is believed"
            )
    return ""


def _shape(mean: Floats, low: Floats) -> str:
    """What the profile over leads looks like, in words."""
    known = {lead: mean[column] for column, lead in enumerate(LEADS) if low[column] > PLAUSIBLE[1]}
    ahead, behind = [lead for lead in known if lead >= 1], [lead for lead in known if lead <= 0]
    if behind and len(ahead) > 1 and min(known[lead] * known[ahead[0]] for lead in known) > 0:
        return f"a window around its day, t{min(behind):+d} to t{max(ahead):+d}"
    if len(ahead) == 1 and ahead[0] == 1 and abs(mean[LEADS.index(0)]) < abs(known[1]) / 2:
        return "the label's own day, of which the day before knows nothing"
    return f"knows t{min(ahead):+d} to t{max(ahead):+d}" if len(ahead) > 1 else f"knows day t{ahead[0]:+d}"
