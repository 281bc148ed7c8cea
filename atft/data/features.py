"""The computed features: one table of names, formulas, lookbacks and Polars expressions.

Every feature of day ``t`` uses the closes of days ``t - lookback_days`` to ``t`` and nothing else, to the last bit.
``python -m atft.data.features > docs/guide/features.md`` writes the table of the guide.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft.data import windows as w

HISTORY = 64
"""Days that stand in front of the days asked for: at least the longest lookback, and one for a shift into nothing."""
INPUTS = ("day", "industry", "open", "high", "low", "close", "volume")
_BATCH = 24

Expr = pl.Expr


@dataclass(frozen=True)
class Feature:
    """A computed feature.

    Attributes:
        name: of the column in the panel.
        formula: in the notation of the guide's table.
        lookback_days: market days before ``t`` that day ``t``'s value may depend on.
        expression: on a frame laid out as :func:`compute` does.
    """

    name: str
    formula: str
    lookback_days: int
    expression: Expr = field(compare=False, repr=False)


O, H, L, C, V = (pl.col(name) for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
_DAY, _INDUSTRY = pl.col("day"), pl.col("industry")


def _log(x: Expr) -> Expr:
    return w.step(pl.when(x > 0).then(x.log()))


def _where(condition: Expr, x: Expr) -> Expr:
    """``x`` on the days on which ``condition`` is there."""
    return w.step(pl.when(condition.is_not_null()).then(x))


_C1 = w.step(C.shift(1))
_R = w.step(w.ratio(C, _C1) - 1)
_M = _where(_R, w.mean_over(_R, _DAY))
_GROUP = w.step(pl.when(_INDUSTRY >= 0).then(_DAY * 1_000_000 + _INDUSTRY))
_TR = _where(H + L + _C1, pl.max_horizontal(H - L, (H - _C1).abs(), (L - _C1).abs()))
_TP = w.step((H + L + C) / 3)
_DV = w.step(C * V)
_HL = w.step((H - L) / C)


def _root(x: Expr) -> Expr:
    return pl.when(x >= 0).then(x.sqrt())


def _returns() -> Iterator[Feature]:
    for n in (1, 2, 3, 5, 10, 20, 40, 60):
        yield Feature(f"return_{n}", f"C / C[-{n}] − 1", n, w.ratio(C, C.shift(n)) - 1)
    for n, skip in ((20, 5), (60, 5), (60, 20)):
        formula = f"C[-{skip}] / C[-{n}] − 1"
        yield Feature(f"momentum_{n}_{skip}", formula, n, w.ratio(C.shift(skip), C.shift(n)) - 1)
    bend = w.ratio(C, C.shift(20)) - w.ratio(C.shift(20), C.shift(40))
    yield Feature("acceleration_20", "C / C[-20] − C[-20] / C[-40]", 40, bend)
    path = w.summed((C - _C1).abs(), 20)
    yield Feature("efficiency_20", "(C − C[-20]) / sum20 |C − C[-1]|", 20, w.ratio(C - C.shift(20), path))
    for n in (1, 5):
        change = w.ratio(C.shift(n) - C, C.shift(n))
        formula = f"−(C / C[-{n}] − 1) / std20(r)"
        yield Feature(f"reversal_{n}", formula, 20, w.ratio(change, w.deviation(_R, 20)))
    yield Feature("gap", "O / C[-1] − 1", 1, w.ratio(O, _C1) - 1)
    yield Feature("gap_5", "mean5(O / C[-1] − 1)", 5, w.mean(w.ratio(O, _C1) - 1, 5))
    yield Feature("intraday", "C / O − 1", 0, C / O - 1)
    yield Feature("intraday_5", "mean5(C / O − 1)", 4, w.mean(C / O - 1, 5))
    yield Feature("autocorrelation_20", "corr20(r, r[-1]), over days with both", 21, _correlation(_R, _R.shift(1), 20))


def _correlation(x: Expr, y: Expr, n: int) -> Expr:
    a, b = _where(y, x), _where(x, y)
    return w.ratio(w.covariance(a, b, n), w.deviation(a, n) * w.deviation(b, n))


def _risk() -> Iterator[Feature]:
    for n in (5, 10, 20, 60):
        yield Feature(f"volatility_{n}", f"std{n}(r)", n, w.deviation(_R, n))
    ratio = w.ratio(w.deviation(_R, 10), w.deviation(_R, 60))
    yield Feature("volatility_ratio_10_60", "std10(r) / std60(r)", 60, ratio)
    yield Feature(
        "parkinson_20",
        "√mean20(ln²(H / L) / (4 ln 2))",
        19,
        _root(w.mean(_log(H / L) * _log(H / L) / (4 * math.log(2)), 20)),
    )
    gk = _log(H / L) * _log(H / L) / 2 - (2 * math.log(2) - 1) * _log(C / O) * _log(C / O)
    formula = "√mean20(½ ln²(H / L) − (2 ln 2 − 1) ln²(C / O))"
    yield Feature("garman_klass_20", formula, 19, _root(w.mean(gk, 20)))
    rs = _log(H / C) * _log(H / O) + _log(L / C) * _log(L / O)
    formula = "√mean20(ln(H / C) ln(H / O) + ln(L / C) ln(L / O))"
    yield Feature("rogers_satchell_20", formula, 19, _root(w.mean(rs, 20)))
    down, up = _R.clip(upper_bound=0), _R.clip(lower_bound=0)
    yield Feature("downside_20", "√mean20(min(r, 0)²)", 20, w.mean(down * down, 20).sqrt())
    share = w.ratio(w.mean(down * down, 60), w.mean(_R * _R, 60))
    yield Feature("downside_share_60", "mean60(min(r, 0)²) / mean60(r²)", 60, share)
    yield Feature("gain_loss_20", "sum20 max(r, 0) / sum20 |r|", 20, w.ratio(w.summed(up, 20), w.summed(_R.abs(), 20)))
    for n in (20, 60):
        formula = f"mean{n}((r − mean{n} r)³) / std{n}(r)³"
        spread = w.variance(_R, n)
        yield Feature(f"skew_{n}", formula, n, w.ratio(w.central_moment(_R, n, 3), spread * spread.sqrt()))
    spread = w.variance(_R, 60)
    formula = "mean60((r − mean60 r)⁴) / std60(r)⁴ − 3"
    yield Feature("kurtosis_60", formula, 60, w.ratio(w.central_moment(_R, 60, 4), spread * spread) - 3)
    yield Feature("highest_return_20", "max20(r)", 20, w.highest(_R, 20))
    yield Feature("lowest_return_20", "min20(r)", 20, w.lowest(_R, 20))


def _ranges() -> Iterator[Feature]:
    yield Feature("range", "(H − L) / C", 0, _HL)
    yield Feature("range_5", "mean5((H − L) / C)", 4, w.mean(_HL, 5))
    ratio = w.ratio(w.mean(_HL, 5), w.mean(_HL, 20))
    yield Feature("range_ratio_5_20", "mean5((H − L) / C) / mean20((H − L) / C)", 19, ratio)
    yield Feature("atr_14", "mean14(TR) / C", 14, w.mean(_TR, 14) / C)
    yield Feature("close_location", "(C − L) / (H − L)", 0, w.ratio(C - L, H - L))
    formula = "mean10((C − L) / (H − L))"
    yield Feature("close_location_10", formula, 9, w.mean(w.ratio(C - L, H - L), 10))
    for n in (20, 60):
        yield Feature(f"from_high_{n}", f"C / max{n}(H) − 1", n - 1, C / w.highest(H, n) - 1)
        yield Feature(f"from_low_{n}", f"C / min{n}(L) − 1", n - 1, C / w.lowest(L, n) - 1)


def _volumes() -> Iterator[Feature]:
    for n in (5, 20, 60):
        yield Feature(f"volume_ratio_{n}", f"V / mean{n}(V)", n - 1, w.ratio(V, w.mean(V, n)))
    for n in (20, 60):
        x = V.log1p()
        formula = f"(ln(1 + V) − mean{n} ln(1 + V)) / std{n} ln(1 + V)"
        yield Feature(f"volume_z_{n}", formula, n - 1, w.ratio(x - w.mean(x, n), w.deviation(x, n)))
    for n in (1, 20):
        yield Feature(f"dollar_volume_{n}", f"ln(1 + mean{n}(C V))", n - 1, w.mean(_DV, n).log1p())
    for n in (20, 60):
        formula = f"ln(1 + 10⁹ mean{n}(|r| / (C V)))"
        yield Feature(f"amihud_{n}", formula, n, (w.mean(w.ratio(_R.abs(), _DV), n) * 1e9).log1p())
    for short, long in ((5, 20), (20, 60)):
        trend = w.ratio(w.mean(_DV, short), w.mean(_DV, long))
        yield Feature(f"turnover_trend_{short}_{long}", f"mean{short}(C V) / mean{long}(C V)", long - 1, trend)
    variation = w.ratio(w.deviation(V, 20), w.mean(V, 20))
    yield Feature("volume_variation_20", "std20(V) / mean20(V)", 19, variation)
    formula = "corr20(r, ln(1 + V)), over days with both"
    yield Feature("volume_return_correlation_20", formula, 20, _correlation(_R, V.log1p(), 20))
    signed = w.ratio(w.summed(V * _R.sign(), 20), w.summed(V, 20))
    yield Feature("signed_volume_20", "sum20(sign(r) V) / sum20(V)", 20, signed)
    paid = w.ratio(w.summed(_TP * V, 20), w.summed(_where(_TP, V), 20))
    yield Feature("from_vwap_20", "C sum20(V) / sum20(TP V) − 1", 19, w.ratio(C, paid) - 1)
    flow = w.step(_TP * V * (_TP - _TP.shift(1)).sign())
    share = w.ratio(w.summed(flow.clip(lower_bound=0), 14), w.summed(flow.abs(), 14))
    yield Feature("money_flow_14", "sum14(TP V where TP rose) / sum14(TP V where TP moved)", 14, share)


def _oscillators() -> Iterator[Feature]:
    move = w.step(C - _C1)
    for n in (6, 14, 28):
        share = w.ratio(w.summed(move.clip(lower_bound=0), n), w.summed(move.abs(), n))
        yield Feature(f"rsi_{n}", f"100 sum{n} max(C − C[-1], 0) / sum{n} |C − C[-1]|", n, 100 * share)
    low = w.lowest(L, 14)
    k14 = w.ratio(C - low, w.highest(H, 14) - low)
    yield Feature("stochastic_k_14", "100 (C − min14 L) / (max14 H − min14 L)", 13, 100 * k14)
    yield Feature("stochastic_d_14", "mean3(stochastic_k_14)", 15, 100 * w.mean(k14, 3))
    high, low = w.highest(H, 28), w.lowest(L, 28)
    formula = "−100 (max28 H − C) / (max28 H − min28 L)"
    yield Feature("williams_r_28", formula, 27, -100 * w.ratio(high - C, high - low))
    formula = "(TP − mean20 TP) / (0.015 mean20 |TP − mean20 TP|)"
    yield Feature("cci_20", formula, 19, w.ratio(_TP - w.mean(_TP, 20), 0.015 * w.mean_distance(_TP, 20)))
    macd = w.step((w.fading(C, 51, 12) - w.fading(C, 51, 26)) / C)
    yield Feature("macd_12_26", "(ema12 C − ema26 C) / C, each cut after 51 days", 50, macd)
    formula = "macd_12_26 − ema9(macd_12_26), cut after 10 days"
    yield Feature("macd_histogram_12_26_9", formula, 59, macd - w.fading(macd, 10, 9))
    level, spread = w.mean(C, 20), w.deviation(C, 20)
    formula = "(C − mean20 C + 2 std20 C) / (4 std20 C)"
    yield Feature("bollinger_b_20", formula, 19, w.ratio(C - level, 4 * spread) + 0.5)
    yield Feature("bollinger_width_20", "4 std20(C) / mean20(C)", 19, 4 * spread / level)
    up = 100 * (1 - w.days_since(H, 26, w.highest(H, 26)) / 25)
    down = 100 * (1 - w.days_since(L, 26, w.lowest(L, 26)) / 25)
    yield Feature("aroon_up_25", "100 (25 − days since max26 H) / 25", 25, up)
    yield Feature("aroon_down_25", "100 (25 − days since min26 L) / 25", 25, down)


def _averages() -> Iterator[Feature]:
    for n in (5, 10, 20, 30, 60):
        yield Feature(f"average_ratio_{n}", f"mean{n}(C) / C − 1", n - 1, w.mean(C, n) / C - 1)
    for short, long in ((5, 20), (20, 60)):
        cross = w.mean(C, short) / w.mean(C, long) - 1
        yield Feature(f"average_cross_{short}_{long}", f"mean{short}(C) / mean{long}(C) − 1", long - 1, cross)


def _market() -> Iterator[Feature]:
    def beta(n: int) -> Expr:
        return w.ratio(w.covariance(_R, _M, n), w.variance(_M, n))

    for n in (20, 60):
        yield Feature(f"beta_{n}", f"cov{n}(r, m) / var{n}(m)", n, beta(n))
        yield Feature(f"market_correlation_{n}", f"corr{n}(r, m)", n, _correlation(_R, _M, n))
    alone = w.variance(_R, 60) - beta(60) * w.covariance(_R, _M, 60)
    yield Feature("residual_volatility_60", "√(var60(r) − beta_60 cov60(r, m))", 60, _root(alone))
    yield Feature("residual_return_1", "r − beta_60 m", 60, _R - beta(60) * _M)
    for n in (5, 20):
        formula = f"(sum{n}(r) − beta_60 sum{n}(m)) / residual_volatility_60"
        left = w.summed(_R, n) - beta(60) * w.summed(_M, n)
        yield Feature(f"residual_momentum_{n}", formula, 60, w.ratio(left, _root(alone)))


def _cross_section() -> Iterator[Feature]:
    def col(name: str) -> Expr:
        return pl.col(name)

    def rank(name: str) -> Expr:
        return w.rank_over(col(name), _DAY)

    for n in (1, 5, 20):
        yield Feature(f"rank_return_{n}", f"rank(return_{n})", n, rank(f"return_{n}"))
    for n in (5, 20):
        yield Feature(f"rank_mean_{n}", f"mean{n}(rank(r))", n, w.mean(w.rank_over(_R, _DAY), n))
    shift = rank("return_5") - rank("return_60")
    yield Feature("rank_shift_return_5_60", "rank(return_5) − rank(return_60)", 60, shift)
    shift = rank("dollar_volume_1") - rank("dollar_volume_20")
    yield Feature("rank_shift_dollar_volume", "rank(dollar_volume_1) − rank(dollar_volume_20)", 19, shift)
    shift = rank("volatility_5") - rank("volatility_60")
    yield Feature("rank_shift_volatility_5_60", "rank(volatility_5) − rank(volatility_60)", 60, shift)
    ranked = {"return_1": 1, "return_5": 5, "return_20": 20, "volatility_20": 20, "volume_ratio_20": 19, "rsi_14": 14}
    for name, lookback in ranked.items():
        inside = w.rank_over(col(name), _GROUP)
        yield Feature(f"industry_rank_{name}", f"rank of {name} in its industry", lookback, inside)
    for n in (1, 5, 20):
        group = w.mean_over(col(f"return_{n}"), _GROUP)
        formula = f"return_{n} − its mean in the industry"
        yield Feature(f"industry_relative_return_{n}", formula, n, col(f"return_{n}") - group)
    for n in (5, 20):
        group = w.mean_over(col(f"return_{n}"), _GROUP)
        yield Feature(f"industry_return_{n}", f"mean of return_{n} in the industry", n, group)


FEATURES: tuple[Feature, ...] = (
    *_returns(),
    *_risk(),
    *_ranges(),
    *_volumes(),
    *_oscillators(),
    *_averages(),
    *_market(),
    *_cross_section(),
)

BY_NAME = {feature.name: feature for feature in FEATURES}
_MADE = {**w.STEPS, **{feature.name: feature.expression for feature in FEATURES}}


@cache
def _needs(name: str) -> frozenset[str]:
    """All columns that a column is made of, itself included."""
    roots = _MADE[name].meta.root_names() if name in _MADE else []
    return frozenset((name,)).union(*(_needs(root) for root in roots))


def missing_inputs(name: str, inputs: Collection[str]) -> list[str]:
    """Inputs (``open``, ``industry``, …) that feature ``name`` needs and that are not among ``inputs``."""
    return [needed for needed in INPUTS[1:] if needed in _needs(name) and needed not in inputs]


def _layers(names: Sequence[str]) -> Iterator[tuple[list[Expr], list[str]]]:
    """The columns that ``names`` need, each after those that it is made of, and the older columns still needed then."""
    wanted = frozenset[str]().union(*map(_needs, names)) - set(INPUTS)
    roots = {name: set(_MADE[name].meta.root_names()) for name in wanted}
    done, held = set(INPUTS), set(INPUTS)
    while left := wanted - done:
        ready = [name for name in _MADE if name in left and roots[name] <= done]
        done.update(ready)
        held &= set(names).union(*(roots[name] for name in left - set(ready)))
        yield [_MADE[name].alias(name) for name in ready], sorted(held)
        held.update(ready)


def compute(
    columns: Mapping[str, NDArray[np.float64]], industries: NDArray[np.int32], names: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Features of all but the first ``HISTORY`` days of a dense grid.

    Args:
        columns: ``[stocks, days]`` per input column (``open``, …, ``volume``), NaN where missing.
        industries: ``[stocks]``, number of the industry, -1 unknown.
        names: the features wanted.

    Yields:
        Name and ``[days - HISTORY, stocks]`` float32 in the order of ``names``; NaN where missing or not finite.
    """
    stocks, days = next(iter(columns.values())).shape
    grid = pl.DataFrame(
        {
            "day": np.tile(np.arange(days, dtype=np.int64), stocks),
            "industry": np.repeat(industries.astype(np.int64), days),
            **{name: pl.Series(values.reshape(-1), nan_to_null=True) for name, values in columns.items()},
        }
    )
    for start in range(0, len(names), _BATCH):
        batch = list(names[start : start + _BATCH])
        frame = grid
        for made, held in _layers(batch):
            frame = frame.select(*held, *made)
        for name in batch:
            values = frame[name].cast(pl.Float32).to_numpy().reshape(stocks, days)[:, HISTORY:].T
            yield name, np.where(np.isfinite(values), values, np.float32(np.nan))


NOTATION = """\
`O H L C V`: open, high, low, close and volume of day *t*; `X[-n]`: *n* market days earlier. `r = C / C[-1] − 1`;
`m`: mean of `r` over all stocks of the day; `TP = (H + L + C) / 3`; `TR = max(H − L, |H − C[-1]|, |L − C[-1]|)`.
`meanN`, `sumN`, `maxN`, `minN`, `stdN`, `varN`, `covN`, `corrN`: over the last *N* market days, day *t* included
(population moments); missing unless two thirds of the days are there. `emaN`: exponential mean of span *N*, cut off as
stated, its weights summing to 1 over the days that are there. `rank`: average rank among the day's stocks, −½ to ½.
An `industry` needs at least 2 stocks on the day. A division by 0 is missing. *Lookback* is the number of market days
before *t* that the value can depend on. In a panel of several markets the days, and the day's stocks, are those of the
stock's own market.
"""


def render() -> str:
    """The guide's page: one row per computed feature."""
    rows = "\n".join(
        f"| `{f.name}` | `{f.formula.replace('|', chr(92) + '|')}` | {f.lookback_days} |" for f in FEATURES
    )
    return (
        "# Computed features\n\n"
        "<!-- Generated by `python -m atft.data.features > docs/guide/features.md`; do not edit. -->\n\n"
        f"{len(FEATURES)} features, each known at the close of its day. What a source cannot give (no volume, no "
        "industry)\nis left out and named in the panel's manifest. The panel holds them normalised over each day's "
        f"stocks.\n\n{NOTATION}\n| name | formula | lookback days |\n| --- | --- | --- |\n{rows}\n"
    )


if __name__ == "__main__":
    print(render(), end="")
