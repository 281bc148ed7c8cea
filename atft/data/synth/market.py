"""A synthetic market: the rows a user would have, and the truth behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft.data.synth.features import PARTS, make_features, standardised_parts
from atft.data.synth.layout import Layout, make_layout
from atft.data.synth.options import SynthOptions
from atft.data.synth.prices import Bars, make_bars, noise_returns
from atft.data.synth.reach import LEAST_STOCKS, Reachable, measure, signal_scale
from atft.errors import UseError

Array = NDArray[np.float64]

LEAST_DAYS = 2
"""Days with labels that a planted strength can be measured on."""
LOWEST_RETURN = -0.9
"""Returns are cut here, so that a price stays positive under any planted strength; never met at usual ones."""


@dataclass(frozen=True)
class Market:
    """A synthetic market.

    Attributes:
        options: what it was made from.
        table: one row per stock-day, by date and code: ``date, code, open, high, low, close, volume, industry`` and
            the own features (float32, null where missing).
        truth: for the same rows ``date, code, signal`` and the signal's four parts (float64), which sum to it. The
            signal is the part of the coming simple return (``execution_lag`` closes ahead, for one day) that the
            features foretell.
        clusters: ``code, cluster``, one row per stock: who is whose mate.
        reachable: the best any model can reach.
    """

    options: SynthOptions
    table: pl.DataFrame
    truth: pl.DataFrame
    clusters: pl.DataFrame
    reachable: Reachable


def make_market(options: SynthOptions) -> Market:
    """The market that ``options`` describe; the same options give the same market, bit by bit.

    The noise does not depend on ``ic``, nor one ingredient on another.
    """
    layout = make_layout(options)
    features = make_features(options, layout.present)
    noise = noise_returns(options, layout)
    ahead = options.execution_lag + 1
    # Row t: decision at t; the return from close t + lag to close t + lag + 1. Only this many decisions have one.
    valid = layout.present[:-ahead] & layout.present[options.execution_lag : -1] & layout.present[ahead:]
    _check_some_labels(options, valid)

    parts = standardised_parts(features, layout)
    parts = {name: part * np.sqrt(getattr(options.shares, name)) for name, part in parts.items()}
    scale = signal_scale(sum_of(parts)[:-ahead], noise[ahead:], valid, options.ic)
    parts = {name: part * scale for name, part in parts.items()}
    signal = sum_of(parts)

    returns = noise
    returns[ahead:] += signal[:-ahead]
    np.maximum(returns, LOWEST_RETURN, out=returns)
    bars = make_bars(options, returns)
    reachable = measure(
        signal[:-ahead], parts["linear"][:-ahead], returns[ahead:], valid, options.ic, options.shares.linear
    )
    keys = _keys(layout)
    return Market(
        options=options,
        table=_table(keys, layout, bars, features),
        truth=_columns(keys, layout, {"signal": signal, **parts}),
        clusters=pl.DataFrame({"code": layout.codes, "cluster": layout.cluster}),
        reachable=reachable,
    )


def _check_some_labels(options: SynthOptions, valid: NDArray[np.bool_]) -> None:
    days = int((valid.sum(1) >= LEAST_STOCKS).sum())
    if days < LEAST_DAYS:
        raise UseError(
            f"the market of {options.stocks} stocks × {options.days} days has {days} days on which "
            f"at least {LEAST_STOCKS} stocks have a next return (execution_lag = {options.execution_lag}), "
            f"below {LEAST_DAYS}. "
            "Mend: more days or stocks, or lower shares of missing, late and delisted stocks."
        )


def sum_of(parts: dict[str, Array]) -> Array:
    """The signal: the sum of its parts, always in one order."""
    return np.asarray(np.sum([parts[name] for name in PARTS], axis=0))


def _keys(layout: Layout) -> pl.DataFrame:
    days, stocks = np.nonzero(layout.present)
    return pl.DataFrame(
        {
            "date": pl.Series(layout.calendar).cast(pl.Date).gather(days),
            "code": pl.Series(layout.codes).gather(stocks),
            "stock": stocks,
        }
    )


def _table(keys: pl.DataFrame, layout: Layout, bars: Bars, features: dict[str, NDArray[np.float32]]) -> pl.DataFrame:
    prices = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    industry = pl.Series("industry", layout.industry_names).gather(keys["stock"])
    table = _columns(keys, layout, prices).with_columns(industry)
    return table.hstack(_columns(keys, layout, dict(features)).drop("date", "code"))


def _columns(keys: pl.DataFrame, layout: Layout, arrays: dict[str, NDArray[np.generic]]) -> pl.DataFrame:
    columns = [pl.Series(name, values[layout.present], nan_to_null=True) for name, values in arrays.items()]
    return keys.select("date", "code").hstack(columns)
