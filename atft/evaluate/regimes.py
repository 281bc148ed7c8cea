"""Parts of a period that are looked at apart: by calendar, and by what the market was like at each decision."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from atft.evaluate.costs import daily_returns
from atft.evaluate.execution import Days
from atft.evaluate.metrics import Bools, Floats

TRAILING_DAYS = 20
"""Trading days that the market's volatility and direction are taken over."""
LEAST_PAST = 60
"""Past volatilities that thirds are taken of; before there are so many the regime is unknown."""

Dates = npt.NDArray[np.datetime64]
Part = tuple[str, str, Bools]
"""Kind of the part, its name, and ``[decisions]`` which of them it holds."""


def market_returns(close: Floats) -> Floats:
    """``[all days]`` return of the equal-weight market: mean over the stocks with a close on both days.

    NaN on the first day, and where there is no such stock.
    """
    returns = daily_returns(close)
    known = np.isfinite(returns)
    result = np.full(len(close), np.nan)
    np.divide(np.where(known, returns, 0.0).sum(1), known.sum(1), out=result, where=known.any(1))
    return result


def volatility_regimes(market: Floats, days: Days) -> list[str]:
    """``low``, ``mid`` or ``high`` volatility of the market at each decision, or ``unknown``.

    The standard deviation of the last ``TRAILING_DAYS`` daily returns, the decision day's included, against the thirds
    of all such values up to that day: nothing later enters, so that a regime never changes when days are added.

    Args:
        market: ``[all days]`` returns, NaN where unknown.
        days: numbers of the decision days.
    """
    trailing = np.array([_deviation(market[max(0, day + 1 - TRAILING_DAYS) : day + 1]) for day in range(len(market))])
    names = []
    for day in days:
        past = trailing[: day + 1]
        past = past[np.isfinite(past)]
        if len(past) < LEAST_PAST or not np.isfinite(trailing[day]):
            names.append("unknown")
            continue
        low, high = np.quantile(past, [1 / 3, 2 / 3])
        names.append("low" if trailing[day] <= low else "high" if trailing[day] > high else "mid")
    return names


def trend_regimes(market: Floats, days: Days) -> list[str]:
    """``up`` or ``down``: whether the market rose over the last ``TRAILING_DAYS`` days, the decision day's included.

    ``unknown`` where a return among them is.
    """
    names = []
    for day in days:
        window = market[max(0, day + 1 - TRAILING_DAYS) : day + 1]
        known = len(window) == TRAILING_DAYS and bool(np.isfinite(window).all())
        names.append(("up" if np.prod(1 + window) > 1 else "down") if known else "unknown")
    return names


def _deviation(window: Floats) -> float:
    return float(window.std(ddof=1)) if len(window) == TRAILING_DAYS and np.isfinite(window).all() else float("nan")


def parts(dates: Dates, market: Floats, days: Days) -> Iterator[Part]:
    """The parts of a period: years, quarters, its two halves, and regimes; those that hold no decision are left out.

    Args:
        dates: ``[decisions]`` day on which each decision's return has been earned.
        market: ``[all days]`` returns of the equal-weight market.
        days: ``[decisions]`` numbers of the decision days.
    """
    count = len(dates)
    years, months = dates.astype("datetime64[Y]").astype(str), dates.astype("datetime64[M]").astype(np.int64)
    quarters = [f"{year} Q{month % 12 // 3 + 1}" for year, month in zip(years, months)]
    halves = np.where(np.arange(count) < (count + 1) // 2, "first", "second")
    labelled = {
        "year": (years, sorted(set(years))),
        "quarter": (np.array(quarters), sorted(set(quarters))),
        "half": (halves, ["first", "second"]),
        "volatility": (np.array(volatility_regimes(market, days)), ["low", "mid", "high", "unknown"]),
        "market": (np.array(trend_regimes(market, days)), ["up", "down", "unknown"]),
    }
    for kind, (names, order) in labelled.items():
        for name in order:
            held = names == name
            if held.any():
                yield kind, str(name), held
