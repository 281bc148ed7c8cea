"""Rolling windows as Polars expressions that depend on nothing outside the window, to the last bit.

Polars' own rolling functions carry a running state, so that a value that left the window long ago, or the stock
stored before this one, still moves the last digits. Here a window is folded by doubling (2, 4, 8, … days), which takes
2·log2(days) operations and touches the window alone. The columns are laid out stock by stock, each stock's days in a
row with at least ``features.HISTORY`` days in front, so that a plain shift is a shift in market days.

What is used more than once becomes a column of its own (:func:`step`), so that expressions stay small: as one tree,
the feature with the most windows has a hundred thousand nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import polars as pl

Expr = pl.Expr
NEGLIGIBLE = 1e-12
"""A variance below this part of the mean square is rounding, and counts as 0."""

STEPS: dict[str, Expr] = {}
"""Columns on the way to the features, each made of inputs and earlier steps."""
_NAMES: dict[bytes, str] = {}


def step(expression: Expr) -> Expr:
    """The column that ``expression`` is computed into, once however often it is asked for."""
    key = expression.meta.serialize(format="binary")
    if key not in _NAMES:
        _NAMES[key] = f"_{len(_NAMES)}"
        STEPS[_NAMES[key]] = expression
    return pl.col(_NAMES[key])


def least(days: int) -> int:
    """Days of a window that must be there: two thirds, rounded up."""
    return math.ceil(2 * days / 3)


def _fold(x: Expr, days: int, join: Callable[[Expr, Expr, int], Expr]) -> Expr:
    """``x`` of the last ``days`` days, joined by ``join(newer, older, days between them)``."""
    result: Expr | None = None
    block, size, offset = step(x), 1, 0
    while True:
        if days & size:
            result = block if result is None else step(join(result, block.shift(offset), offset))
            offset += size
        if 2 * size > days:
            assert result is not None
            return result
        block = step(join(block, block.shift(size), size))
        size *= 2


def total(x: Expr, days: int) -> Expr:
    """Sum of the last ``days`` days, missing ones counting 0."""
    return _fold(x.fill_null(0.0), days, lambda newer, older, _: newer + older)


def count(x: Expr, days: int) -> Expr:
    """How many of the last ``days`` days are there."""
    return _fold(x.is_not_null().cast(pl.UInt8), days, lambda newer, older, _: newer + older)


def enough(x: Expr, days: int, value: Expr) -> Expr:
    """``value`` where at least two thirds of the window's days are there."""
    return step(pl.when(count(x, days) >= least(days)).then(value))


def mean(x: Expr, days: int, there: Expr | None = None) -> Expr:
    """Mean of the days that are there; ``there`` is missing on the same days as ``x``, and may be known already."""
    there = x if there is None else there
    return enough(there, days, total(x, days) / count(there, days))


def summed(x: Expr, days: int) -> Expr:
    """Sum of the days that are there, where there are enough of them."""
    return enough(x, days, total(x, days))


def variance(x: Expr, days: int) -> Expr:
    """Population variance; exactly 0 where only rounding is left of it."""
    square, level = mean(x * x, days, x), mean(x, days)
    spread = step(square - level * level)
    return step(pl.when(spread > NEGLIGIBLE * square).then(spread).when(spread.is_not_null()).then(0.0))


def deviation(x: Expr, days: int) -> Expr:
    """Population standard deviation."""
    return step(variance(x, days).sqrt())


def covariance(x: Expr, y: Expr, days: int) -> Expr:
    """Population covariance; ``x`` and ``y`` must be missing on the same days."""
    return step(mean(x * y, days, x) - mean(x, days) * mean(y, days, x))


def central_moment(x: Expr, days: int, order: int) -> Expr:
    """Central moment of order 3 or 4, from raw moments."""
    m1, m2, m3 = mean(x, days), mean(x * x, days, x), mean(x * x * x, days, x)
    if order == 3:
        return m3 - 3 * m1 * m2 + 2 * m1 * m1 * m1
    return mean(x * x * x * x, days, x) - 4 * m1 * m3 + 6 * m1 * m1 * m2 - 3 * m1 * m1 * m1 * m1


def _extreme(x: Expr, days: int, pick: Callable[[Sequence[Expr]], Expr]) -> Expr:
    block, size = step(x), 1
    while 2 * size <= days:
        block = step(pick([block, block.shift(size)]))
        size *= 2
    return enough(x, days, pick([block, block.shift(days - size)]) if days > size else block)


def highest(x: Expr, days: int) -> Expr:
    """Largest value of the window."""
    return _extreme(x, days, pl.max_horizontal)


def lowest(x: Expr, days: int) -> Expr:
    """Smallest value of the window."""
    return _extreme(x, days, pl.min_horizontal)


def days_since(x: Expr, days: int, extreme: Expr) -> Expr:
    """Days since ``x`` last was at ``extreme``, 0 to ``days - 1``."""
    return pl.coalesce([pl.when(x.shift(k) == extreme).then(pl.lit(float(k))) for k in range(days)])


def fading(x: Expr, days: int, span: int) -> Expr:
    """Exponential mean of the given span, cut off after ``days`` days; weights of the days there sum to 1."""
    keep = 1 - 2 / (span + 1)

    def join(newer: Expr, older: Expr, between: int) -> Expr:
        return newer + older * keep**between

    weights = _fold(x.is_not_null().cast(pl.Float64), days, join)
    return enough(x, days, _fold(x.fill_null(0.0), days, join) / weights)


def mean_distance(x: Expr, days: int) -> Expr:
    """Mean of ``|x - mean(x)|`` over the window."""
    level = mean(x, days)
    apart = pl.sum_horizontal([(x.shift(k) - level).abs() for k in range(days)])
    return enough(x, days, apart / count(x, days))


def ratio(above: Expr, below: Expr) -> Expr:
    """``above / below``, missing where ``below`` is 0."""
    above, below = step(above), step(below)
    return step(pl.when(below != 0).then(above / below))


FIXED_POINT, LARGEST = 2.0**36, 1000.0


def mean_over(x: Expr, key: Expr, least_members: int = 2) -> Expr:
    """Mean over the rows with the same ``key``; missing where ``key`` is, or where fewer rows are there.

    Summed as integers (steps of 2⁻³⁶, values cut at ±1000), so that neither the order of stocks nor stocks
    that are not there yet move the last bit.
    """
    units = step((x.clip(-LARGEST, LARGEST) * FIXED_POINT).round().cast(pl.Int64))
    members = step(x.count().over(key))
    kept = (members >= least_members) & key.is_not_null()
    return step(pl.when(kept).then(units.sum().over(key) / FIXED_POINT / members))


def rank_over(x: Expr, key: Expr, least_members: int = 2) -> Expr:
    """Average rank among the rows with the same ``key``, from -½ to ½; missing where ``key`` or ``x`` is."""
    members = step(x.count().over(key))
    kept = (members >= least_members) & key.is_not_null()
    return step(pl.when(kept).then((x.rank("average").over(key) - 0.5) / members - 0.5))
