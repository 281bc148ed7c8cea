"""Returns without signal, and bars from returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atft.data.synth.layout import Layout
from atft.data.synth.options import SynthOptions

Array = NDArray[np.float64]

DAILY_DEVIATION = 0.02
"""Standard deviation of a stock's daily simple return."""
MARKET_SHARE, INDUSTRY_SHARE, CLUSTER_SHARE, OWN_SHARE = 0.15, 0.10, 0.35, 0.40
"""Shares of a return's variance. The cluster's share is what 60 days of returns need to show a stock's mates."""
MARKET_DRIFT = 0.0003
"""Mean daily return of the market."""
TAIL_DEGREES = 5
"""Degrees of freedom of the own returns' Student-t distribution."""
LARGEST_OWN = 15.0
"""Own returns are cut at this many standard deviations: no stock loses all in a day."""


@dataclass(frozen=True)
class Bars:
    """Open, high, low and close in USD, volume in shares; each ``[days, stocks]``."""

    open: Array
    high: Array
    low: Array
    close: Array
    volume: NDArray[np.int64]


def noise_returns(options: SynthOptions, layout: Layout) -> Array:
    """``[days, stocks]`` simple returns into each day's close, without any signal."""
    shape = (options.days, options.stocks)
    market = options.stream("market").standard_normal((options.days, 1))
    beta = 1 + 0.2 * options.stream("beta").standard_normal(options.stocks)
    industry = options.stream("industry").standard_normal((options.days, layout.industry.max() + 1))
    cluster = options.stream("cluster").standard_normal((options.days, layout.cluster.max() + 1))
    spread = np.exp(0.15 * options.stream("own deviation").standard_normal(options.stocks))
    own = options.stream("own").standard_t(TAIL_DEGREES, shape) / np.sqrt(TAIL_DEGREES / (TAIL_DEGREES - 2))
    standardised = (
        np.sqrt(MARKET_SHARE) * market * beta
        + np.sqrt(INDUSTRY_SHARE) * industry[:, layout.industry]
        + np.sqrt(CLUSTER_SHARE) * cluster[:, layout.cluster]
        + np.sqrt(OWN_SHARE) * np.clip(own, -LARGEST_OWN, LARGEST_OWN) * spread
    )
    return np.asarray(MARKET_DRIFT + DAILY_DEVIATION * standardised)


def make_bars(options: SynthOptions, returns: Array) -> Bars:
    """Bars whose closes compound ``returns`` from 20 to 200 USD on the first day."""
    shape = returns.shape
    first = np.exp(options.stream("price").uniform(np.log(20), np.log(200), shape[1]))
    growth = 1 + returns
    growth[0] = 1
    close = first * np.cumprod(growth, axis=0)
    before = close / growth
    night = 0.4 * returns + 0.3 * DAILY_DEVIATION * options.stream("night").standard_normal(shape)
    opening = before * np.exp(night)
    reach = 0.4 * DAILY_DEVIATION * np.abs(options.stream("range").standard_normal((2, *shape)))
    high = np.maximum(opening, close) * (1 + reach[0])
    low = np.minimum(opening, close) / (1 + reach[1])
    return Bars(opening, high, low, close, _volume(options, returns))


def _volume(options: SynthOptions, returns: Array) -> NDArray[np.int64]:
    random = options.stream("volume")
    level = np.log(5e5) + random.standard_normal(returns.shape[1])
    surprise = 0.35 * np.minimum(np.abs(returns) / DAILY_DEVIATION, 6)
    shares = np.exp(level + surprise + 0.4 * random.standard_normal(returns.shape))
    return np.asarray(1 + shares.astype(np.int64))
