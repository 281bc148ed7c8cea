"""A backtest by bookkeeping: shares and cash in plain Python, one tranche, day and stock after the other.

An oracle for ``trading``, ``execution`` and ``costs``: it shares no code with them, holds no weights but money, and
looks every price up by walking back in time.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field


@dataclass
class Market:
    """Tables ``[day][stock]``; None is missing."""

    close: list
    open: list
    volume: list
    may: list

    @classmethod
    def of(cls, close, open_, volume, may):
        def plain(table):
            return [[None if math.isnan(value) else float(value) for value in row] for row in table]

        return cls(plain(close), plain(open_), plain(volume), may.tolist())

    def price(self, at, day, stock):
        return (self.open if at == "open" else self.close)[day][stock]

    def last_price(self, at, day, stock):
        """The latest price that anyone has seen at that moment."""
        if at == "open" and self.open[day][stock] is not None:
            return self.open[day][stock]
        while day >= 0:
            if at == "close" and self.close[day][stock] is not None:
                return self.close[day][stock]
            if at == "open":
                if day and self.close[day - 1][stock] is not None:
                    return self.close[day - 1][stock]
                if day and self.open[day - 1][stock] is not None:
                    return self.open[day - 1][stock]
            day -= 1
        return None

    def gone(self, day, stock):
        """No price of any kind from this day on."""
        return all(
            table[later][stock] is None for later in range(day, len(self.close)) for table in (self.close, self.open)
        )

    def gone_by_close(self, at, day, stock):
        if at == "open":
            return self.gone(day, stock)
        return all(self.close[later][stock] is None for later in range(day, len(self.close)))

    def traded_money(self, day, stock):
        found = [
            self.close[each][stock] * self.volume[each][stock]
            for each in range(max(0, day - 19), day + 1)
            if self.close[each][stock] is not None and self.volume[each][stock] is not None
        ]
        return sum(found) / len(found)

    def volatility(self, day, stock):
        found = [
            self.close[each][stock] / self.close[each - 1][stock] - 1
            for each in range(max(1, day - 19), day + 1)
            if self.close[each][stock] is not None and self.close[each - 1][stock] is not None
        ]
        return statistics.stdev(found)


@dataclass
class Tranche:
    """A part of the capital."""

    cash: float = 1.0
    shares: dict = field(default_factory=dict)

    def settle(self, market, at, day, delisting_return):
        """Pay out what has left."""
        for stock in list(self.shares):
            if market.gone_by_close(at, day, stock):
                self.cash += self.shares.pop(stock) * market.last_price(at, day, stock) * (1 + delisting_return)

    def worth(self, market, at, day):
        return self.cash + sum(count * market.last_price(at, day, stock) for stock, count in self.shares.items())


def run(market, targets, decision_days, *, at, lag, horizon, delisting_return=0.0, bps=0.0, impact=0.0, capital=1.0):
    """Per decision ``(gross, turnover, cost)``, as fractions of the tranche."""
    delay = 1 if at == "open" else lag
    tranches, found = {}, []
    for row, day in enumerate(decision_days):
        now, then = day + delay, day + delay + horizon
        tranche = tranches.setdefault(day % horizon, Tranche())
        tranche.settle(market, at, now, delisting_return)
        worth = tranche.worth(market, at, now)
        traded = cost = 0.0
        for stock, weight in enumerate(targets[row]):
            price = market.price(at, now, stock)
            if price is None or not market.may[now][stock]:
                continue
            had = tranche.shares.pop(stock, 0.0)
            if weight:
                tranche.shares[stock] = weight * worth / price
            bought = tranche.shares.get(stock, 0.0) - had
            tranche.cash -= bought * price
            share = abs(bought * price) / worth
            traded += share
            cost += bps / 1e4 * share
            if impact and share:
                part = share * capital / horizon / market.traded_money(day, stock)
                cost += impact * share * market.volatility(day, stock) * math.sqrt(part)
        tranche.settle(market, at, then, delisting_return)
        found.append((tranche.worth(market, at, then) / worth - 1, traded, cost))
    return found
