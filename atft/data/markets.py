"""Several markets: who trades on which dates, when they close, and which execution that allows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from atft.data.roles import Hours, Roles
from atft.errors import UseError

if TYPE_CHECKING:
    import polars as pl  # only named here: a manifest is read without loading it

Instants = NDArray[np.datetime64]
"""``datetime64[s]`` in UTC."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Market(_Part):
    """One market of a panel."""

    days: int
    """Dates on which any of its stocks has a row: its trading days."""
    first_day: dt.date
    last_day: dt.date
    hours: Hours | None = None
    """Null where it is the only one and its hours were not stated."""


class Sessions(_Part):
    """The markets of a panel. A decision of a date is taken when the last market that trades on it has closed."""

    markets: dict[str, Market]
    """By name; of a source without the role ``market``, the one that its roles state."""
    apart: str = ""
    """A date on which two markets close at different instants, and when (UTC); empty where there is none."""
    hours_to_next_close: float | None = None
    """Shortest time from a date's last close to the next date's first one, in hours; null where not known."""
    hours_to_next_open: float | None = None
    """Likewise to the next date's first open; null unless every market's open is stated."""


def calendars_of(
    markets: Sequence[str | None], there: NDArray[np.bool_]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The stocks and the own trading days of each market; stocks of unknown market have a calendar of their own.

    Args:
        markets: ``[stocks]`` names, None unknown.
        there: ``[days, stocks]``, True where a stock has a row.

    Returns:
        For each market, by name: numbers of its stocks, and of the days on which any of them has a row, both rising.
    """
    named = np.array([name or "" for name in markets])
    groups = [np.flatnonzero(named == name) for name in np.unique(named)]
    return [(stocks, np.flatnonzero(there[:, stocks].any(axis=1))) for stocks in groups]


def several(markets: Sequence[str | None]) -> bool:
    """Whether the stocks are of more than one market."""
    return len(set(markets)) > 1


def mixed_money(known: Sessions | None) -> str:
    """Why money of different stocks cannot be added or compared; empty where it can."""
    if known is None or len(known.markets) < 2:
        return ""
    stated = {name: each.hours.currency if each.hours else None for name, each in known.markets.items()}
    unknown = [name for name, currency in stated.items() if currency is None]
    if unknown:
        return f"the roles state no currency of {', '.join(unknown[:5])}"
    if len(set(stated.values())) > 1:
        return ", ".join(f"{name} counts in {currency}" for name, currency in list(stated.items())[:5])
    return ""


def check_money(what: str, place: str, known: Sessions | None, without: str) -> None:
    """Refuse figures that set the money of one stock beside that of another, in another currency.

    Args:
        what: is to be computed.
        place: of the panel.
        known: its sessions.
        without: what to ask for instead.

    Raises:
        UseError: markets of different currencies, or of unstated ones.
    """
    reason = mixed_money(known)
    if reason:
        raise UseError(
            f"{what}: takes traded money of stocks of several markets as one unit, and of {place} {reason}. A rate of "
            f"exchange is not known here. Mend: {without}, a panel for each currency, or, where all markets count in "
            "one, 'currency' for each of roles.markets."
        )


def closes(days: NDArray[np.datetime64], hours: Hours) -> Instants:
    """When a market closed on each of ``days`` (datetime64[D], its own dates), in UTC."""
    return _instants(days, hours, lambda day: hours.early_closes.get(day, hours.close))


def opens(days: NDArray[np.datetime64], hours: Hours) -> Instants:
    """When a market opened on each of ``days``, in UTC.

    Raises:
        ValueError: the open is not stated.
    """
    if hours.open is None:
        raise ValueError("the hours do not state an open")
    stated = hours.open
    return _instants(days, hours, lambda day: stated)


def sessions(place: str, bars: pl.DataFrame, roles: Roles) -> Sessions | None:
    """What the rows of a source say about its markets; None where neither they nor the roles name one.

    Args:
        place: of the source.
        bars: ``date`` and, where the source has it, ``market``.
        roles: with the markets' hours.

    Raises:
        UseError: several markets of which one's hours are not stated, or that close too late for the next date.
    """
    days = _trading_days(bars, roles)
    if not days:
        return None
    unknown = sorted(days.keys() - roles.markets.keys())
    if len(days) > 1 and unknown:
        raise UseError(
            f"{place}: {len(days)} markets, and the hours of {', '.join(unknown[:5])} are not stated: which close is "
            f"known at a decision cannot be told. Mend: in the roles, markets: {{{unknown[0]}: {{timezone: "
            'America/New_York, close: "16:00"}}.'
        )
    markets = {
        name: Market(
            days=len(own),
            first_day=own[0].astype(object),
            last_day=own[-1].astype(object),
            hours=roles.markets.get(name),
        )
        for name, own in days.items()
    }
    if unknown:
        return Sessions(markets=markets)
    return _judged(place, markets, days, roles.markets)


def _trading_days(bars: pl.DataFrame, roles: Roles) -> dict[str, NDArray[np.datetime64]]:
    if "market" in bars.columns:
        found = bars.select("market", "date").unique().sort("market", "date").partition_by("market", as_dict=True)
        return {str(key[0]): each["date"].to_numpy().astype("datetime64[D]") for key, each in found.items()}
    own = bars["date"].unique().sort().to_numpy().astype("datetime64[D]")
    return dict.fromkeys(roles.markets, own)


def _judged(
    place: str, markets: dict[str, Market], days: Mapping[str, NDArray[np.datetime64]], hours: Mapping[str, Hours]
) -> Sessions:
    union = np.unique(np.concatenate(list(days.values())))
    ends = {name: _on(union, own, closes(own, hours[name])) for name, own in days.items()}
    first, last = _earliest(ends), _latest(ends)
    to_close = _least_hours(last, first)
    if to_close is not None and to_close <= 0:
        at = int(np.argmin(first[1:] - last[:-1]))
        raise UseError(
            f"{place}: the last market of {union[at]} closes at {_told(last[at])} UTC, and the first one of "
            f"{union[at + 1]} at {_told(first[at + 1])} UTC, not after it: a decision of a date could not be executed "
            "on the next one. Mend: roles.markets (timezone, close), or a panel for each of the markets."
        )
    to_open = None
    if all(hours[name].open for name in days):
        begins = _earliest({name: _on(union, own, opens(own, hours[name])) for name, own in days.items()})
        to_open = _least_hours(last, begins)
    differ = np.flatnonzero(first != last)
    apart = _apart(union, ends, int(differ[0])) if len(differ) else ""
    return Sessions(markets=markets, apart=apart, hours_to_next_close=to_close, hours_to_next_open=to_open)


def _apart(union: NDArray[np.datetime64], ends: Mapping[str, Instants], at: int) -> str:
    there = {name: each[at] for name, each in ends.items() if not np.isnat(each[at])}
    early, late = min(there, key=lambda name: there[name]), max(there, key=lambda name: there[name])
    return f"on {union[at]} {early} closes at {_told(there[early])} and {late} at {_told(there[late])} UTC"


def too_early(known: Sessions | None) -> bool:
    """Whether the next open may come before the last close of a date, or nobody said when it comes."""
    if known is None or len(known.markets) < 2:
        return False
    return known.hours_to_next_open is None or known.hours_to_next_open <= 0


def check_execution(place: str, known: Sessions | None, execution_lag: int, *, next_open: bool = False) -> None:
    """Refuse an execution that comes before the decision that it carries out.

    Args:
        place: of the panel.
        known: its sessions.
        execution_lag: trading days from decision to execution at a close; 0 trades at the very close that decides.
        next_open: execution is at the open of the next date instead.

    Raises:
        UseError: as said, with the date and the instants.
    """
    if known is None or len(known.markets) < 2:
        return
    if next_open and too_early(known):
        told = "not stated" if known.hours_to_next_open is None else f"{known.hours_to_next_open:.1f} hours apart"
        raise UseError(
            f"{place}: execution at the next open, and the last close of a date and the first open of the next are "
            f"{told}. Mend: 'open' in roles.markets, or execution at a close with execution_lag = 1."
        )
    if not next_open and execution_lag == 0 and known.apart:
        raise UseError(
            f"label.execution_lag = 0 trades at the very close that decides, and {place} holds markets that close at "
            f"different instants: {known.apart}. A decision is taken when the last market of its date has closed, so "
            "that the others' close is past. Mend: --set label.execution_lag=1, or a panel for each market."
        )


def _instants(days: NDArray[np.datetime64], hours: Hours, clock: Callable[[dt.date], dt.time]) -> Instants:
    zone = ZoneInfo(hours.timezone)
    dates: list[dt.date] = days.astype("datetime64[D]").tolist()
    local = (dt.datetime.combine(day, clock(day), zone) for day in dates)
    return np.array([each.astimezone(dt.UTC).replace(tzinfo=None) for each in local], "datetime64[s]")


def _on(union: NDArray[np.datetime64], own: NDArray[np.datetime64], instants: Instants) -> Instants:
    """``[days of the union]``: a market's instants, NaT on dates on which it does not trade."""
    laid = np.full(len(union), np.datetime64("NaT", "s"))
    laid[np.searchsorted(union, own)] = instants
    return laid


def _earliest(each: Mapping[str, Instants]) -> Instants:
    return reduce(np.fmin, each.values())


def _latest(each: Mapping[str, Instants]) -> Instants:
    return reduce(np.fmax, each.values())


def _least_hours(last: Instants, following: Instants) -> float | None:
    """Shortest time from a date's last close to the next date's first event, in hours."""
    if len(last) < 2:
        return None
    return float((following[1:] - last[:-1]).min() / np.timedelta64(3600, "s"))


def _told(instant: np.datetime64) -> str:
    return str(instant)[:16].replace("T", " ")
