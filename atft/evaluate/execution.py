"""When and at what price decisions are executed: the next close or the next open, and what happens where neither is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from atft.data.markets import calendars_of, several
from atft.errors import UseError
from atft.evaluate.metrics import Bools, Floats, check_shapes

At = Literal["close", "open"]
Days = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rules:
    """How decisions are executed.

    Attributes:
        at: ``close`` executes at the close of ``t + lag``, ``open`` at the open of ``t + 1`` for a decision at the
            close of ``t``.
        lag: trading days between decision and execution at a close, at least 0; of no effect at an open.
        horizon: trading days that a position is held, at least 1.
        delisting_return: what a stock that leaves for good earns after its last known price, as a fraction from
            -1 (all lost) on; 0 sells at the last known price.

    Raises:
        UseError: a value out of bounds.
    """

    at: At = "close"
    lag: int = 0
    horizon: int = 1
    delisting_return: float = 0.0

    def __post_init__(self) -> None:
        if self.at not in get_args(At):
            raise UseError(f"execution {self.at!r} is none of {', '.join(get_args(At))}. Mend: one of them.")
        if self.lag < 0 or self.horizon < 1:
            raise UseError(
                f"execution: lag = {self.lag} must be at least 0 and horizon = {self.horizon} at least 1. "
                "Mend: the tier's label.execution_lag and label.horizon."
            )
        if not -1 <= self.delisting_return < np.inf:
            raise UseError(
                f"delisting return = {self.delisting_return:g} must be at least -1 (all lost). "
                "Mend: --delisting-return -0.3."
            )

    @property
    def delay(self) -> int:
        """Rows of the price table between a decision and its execution."""
        return 1 if self.at == "open" else self.lag


@dataclass(frozen=True)
class Execution:
    """What can be traded after each decision, and what holding a stock until its exit earns.

    Attributes:
        rules: that it was made by.
        days: ``[decisions]`` numbers of the decision days, rising.
        exits: ``[decisions]`` numbers of the days on which the positions end.
        tradable: ``[decisions, stocks]``, True where a stock has a price and may be traded at the execution.
        returns: ``[decisions, stocks]`` simple returns from the execution to the exit, at the last known price where
            there is none on the day itself; NaN for a stock without any price yet, or one that had left before.
        stale: ``[decisions, stocks]``, True where the exit is not at a price of its day: the stock is suspended.
        delisted: ``[decisions, stocks]``, True where the stock leaves for good before its exit.
        left_out: decisions whose exit lies beyond the calendar.
    """

    rules: Rules
    days: Days
    exits: Days
    tradable: Bools
    returns: Floats
    stale: Bools
    delisted: Bools
    left_out: int


def executed(
    days: Days,
    close: Floats,
    *,
    rules: Rules,
    open_: Floats | None = None,
    tradable: Bools | None = None,
    markets: Sequence[str | None] = (),
    listed_until: Days | None = None,
) -> Execution:
    """Prices and returns of decisions.

    A stock is *delisted* at an exit where it has no price from there to the end of the table, though its own market
    traded after its last one; a stock that is merely suspended, or whose market is closed, is held at its last known
    price, which for an execution at opens may be the close before. Whether a stock comes back is not known at the time,
    yet it decides about no position: a delisted one is paid out, a suspended one stays.

    Args:
        days: numbers of the decision days in the tables, rising.
        close: ``[all days, stocks]``, NaN where missing.
        rules: of the execution.
        open_: ``[all days, stocks]``, NaN where missing; needed for execution at opens.
        tradable: ``[all days, stocks]``, False where a stock may not be traded though it has a price.
        markets: ``[stocks]`` names; none where there is one market.
        listed_until: ``[stocks]`` number of the last day of each listing, where listings are known: a stock whose
            listing ends inside the table leaves, though its market does not trade again in it.

    Raises:
        UseError: execution at opens without opens, or no decision whose exit lies inside the calendar.
        ValueError: shapes differ.
    """
    price = _prices(close, rules, open_)
    if tradable is not None:
        check_shapes(close=close, tradable=tradable)
    entries = days + rules.delay
    kept = entries + rules.horizon < len(close)
    if not kept.any():
        raise UseError(
            f"execution at {rules.at}: none of {len(days)} decisions has its exit, {rules.delay} + {rules.horizon} "
            f"trading days later, inside the calendar of {len(close)} days. Mend: a panel that ends later."
        )
    entries, exits = entries[kept], entries[kept] + rules.horizon
    known = _last_known(price, close, rules.at)
    last_day = _last_day(np.isfinite(price) | np.isfinite(close), markets, listed_until)
    gone_before, gone = entries[:, None] > last_day, exits[:, None] > last_day
    returns = known[exits] / known[entries] - 1
    delisted = gone & ~gone_before
    returns = np.where(delisted, (1 + returns) * (1 + rules.delisting_return) - 1, returns)
    can = np.isfinite(price[entries])
    return Execution(
        rules=rules,
        days=days[kept],
        exits=exits,
        tradable=can if tradable is None else can & tradable[entries],
        returns=np.where(gone_before, np.nan, returns),
        stale=~np.isfinite(price[exits]) & ~gone & np.isfinite(returns),
        delisted=delisted & np.isfinite(returns),
        left_out=int((~kept).sum()),
    )


def _prices(close: Floats, rules: Rules, open_: Floats | None) -> Floats:
    if rules.at == "close":
        return close
    if open_ is None or not np.isfinite(open_).any():
        raise UseError(
            "execution at open: the panel has no opening prices. "
            "Mend: --execution close, or a panel built from a table with the role open."
        )
    check_shapes(close=close, open=open_)
    return open_


def _last_known(price: Floats, close: Floats, at: At) -> Floats:
    """``[all days, stocks]`` the last price known at each day's execution; NaN before the first."""
    filled = price
    if at == "open":  # the close of the day before is known at an open, and later than its own open
        before = np.vstack([np.full((1, close.shape[1]), np.nan), close[:-1]])
        filled = np.where(np.isfinite(price), price, before)
    rows = np.where(np.isfinite(filled), np.arange(len(filled))[:, None], -1)
    np.maximum.accumulate(rows, axis=0, out=rows)
    known: Floats = np.where(rows >= 0, np.take_along_axis(filled, rows.clip(0), axis=0), np.nan)
    return known


def _last_day(there: Bools, markets: Sequence[str | None], listed_until: Days | None) -> Days:
    """``[stocks]`` number of the last day with any price, -1 without one.

    That of the table's last day where a stock's market ends with it, and its listing does not.
    """
    end = len(there) - 1
    last: Days = np.where(there.any(0), end - there[::-1].argmax(0), -1).astype(np.int64)
    if several(markets):
        for stocks, own in calendars_of(markets, there):
            stays = np.isin(last[stocks], own[-1:])
            if listed_until is not None:
                stays &= listed_until[stocks] >= end
            last[stocks[stays]] = end
    return last
