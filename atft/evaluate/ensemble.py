"""Several models as one: how their scores are combined, and what each further member adds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from atft.evaluate import metrics, portfolio, resampling
from atft.evaluate.holdings import Holdings
from atft.evaluate.metrics import Floats

Combine = Literal["mean-rank", "mean-score"]
MOST_SUBSETS = 40
"""Subsets of one size that a figure is averaged over; all of them where there are no more."""
REPEATS = 1000
LEAST_DAYS = 20
"""Days that an interval needs."""


def standing(scores: Floats, how: Combine) -> Floats:
    """Scores of one model on a scale that models share.

    Args:
        scores: ``[days, stocks]``, NaN where not scored.
        how: ``mean-rank``: ranks of the day from -1 to 1, ties sharing their average; ``mean-score``: deviations from
            the day's mean in units of its standard deviation. A day of equal scores is 0 throughout.

    Returns:
        ``[days, stocks]``, NaN where not scored.
    """
    scored = np.isfinite(scores)
    count = np.maximum(scored.sum(1, keepdims=True), 1)
    if how == "mean-rank":
        return np.asarray((2 * metrics.ranks(scores, scored) - count - 1) / np.maximum(count - 1, 1))
    centred = np.where(scored, scores - np.where(scored, scores, 0.0).sum(1, keepdims=True) / count, 0.0)
    deviation = np.sqrt(np.square(centred).sum(1, keepdims=True) / count)
    size = np.abs(np.where(scored, scores, 0.0)).max(1, initial=0.0, keepdims=True)
    spread = deviation > portfolio.SMALLEST_SPREAD * size
    return np.where(scored, np.divide(centred, deviation, out=np.zeros_like(centred), where=spread), np.nan)


def combined(scores: Sequence[Floats], how: Combine) -> Floats:
    """The mean of the members' :func:`standing` of each stock on each day.

    Args:
        scores: of each member ``[days, stocks]``, NaN where not scored.
        how: see :func:`standing`.

    Returns:
        ``[days, stocks]``; NaN where any member has no score.
    """
    return np.asarray(np.mean([standing(each, how) for each in scores], axis=0))


@dataclass(frozen=True)
class Gain:
    """An ensemble of some number of members, averaged over subsets of that size.

    Attributes:
        members: how many.
        subsets: that were averaged over.
        sharpe: annual Sharpe ratio before costs.
        sharpe_low, sharpe_high: least and most over the subsets.
        ic: mean information coefficient.
        sharpe_gain: of one member more: ``sharpe`` less that of one member fewer; None for one member.
        sharpe_gain_ci95: 95 % over the days, by a stationary block bootstrap; None where there are too few. Chance in
            which members were trained is not in it: the range over subsets shows that.
        ic_gain, ic_gain_ci95: the same of ``ic``.
    """

    members: int
    subsets: int
    sharpe: float
    sharpe_low: float
    sharpe_high: float
    ic: float
    sharpe_gain: float | None = None
    sharpe_gain_ci95: tuple[float, float] | None = None
    ic_gain: float | None = None
    ic_gain_ci95: tuple[float, float] | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON has it: null for what is not known."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class _Size:
    """Daily series of all subsets of one size: ``[subsets, days]`` each."""

    gross: Floats
    ics: Floats


def gains(
    scores: Sequence[Floats], returns: Floats, holdings: Holdings, how: Combine, *, horizon: int, year: float,
    seed: int = 0,
) -> list[Gain]:  # fmt: skip
    """What 1, 2, … members come to, and what each further one adds.

    Args:
        scores: of each member ``[days, stocks]``, NaN where not scored.
        returns: ``[days, stocks]`` over the holding period, NaN where unknown.
        holdings: what any of them holds: all members score the same stocks.
        how: see :func:`standing`.
        horizon: days that each return spans.
        year: trading days of a year.
        seed: of the subsets and the resamples.
    """
    rows = np.flatnonzero(holdings.scored.sum(1) >= 2)
    held, returns = holdings.on(rows), returns[rows]
    on_scale = [standing(np.where(held.scored, each[rows], np.nan), how) for each in scores]
    random = np.random.default_rng(seed)
    sizes = [_size(on_scale, returns, held, number, random) for number in range(1, len(scores) + 1)]
    annual = math.sqrt(year / horizon)
    draws = _draws(sizes[-1].gross[0], horizon, random)
    found: list[Gain] = []
    before: tuple[Floats, Floats] | None = None
    for number, size in enumerate(sizes, start=1):
        ratios = annual * np.array([metrics.sharpe(each) for each in size.gross])
        gain = Gain(number, len(ratios), float(ratios.mean()), float(ratios.min()), float(ratios.max()),
                    metrics.mean(_over_subsets(size.ics)))  # fmt: skip
        resampled = _resampled(size, draws, annual)
        if before is not None:
            own = (found[-1].sharpe, found[-1].ic)
            gain = Gain(
                **{**asdict(gain), "sharpe_gain": gain.sharpe - own[0], "ic_gain": gain.ic - own[1],
                   "sharpe_gain_ci95": _middle(resampled[0] - before[0]),
                   "ic_gain_ci95": _middle(resampled[1] - before[1])}
            )  # fmt: skip
        before = resampled
        found.append(gain)
    return found


def _size(
    on_scale: Sequence[Floats], returns: Floats, holdings: Holdings, number: int, random: np.random.Generator
) -> _Size:
    gross, ics = [], []
    for members in subsets(len(on_scale), number, random):
        scores = np.mean([on_scale[member] for member in members], axis=0)
        valid = np.isfinite(scores) & np.isfinite(returns)
        held = holdings.taken(portfolio.positions(scores, holdings.scored))
        gross.append(portfolio.daily_returns(held, holdings.earned)[0])
        ics.append(metrics.information_coefficient(scores, returns, valid))
    return _Size(np.array(gross), np.array(ics))


def subsets(members: int, number: int, random: np.random.Generator) -> list[tuple[int, ...]]:
    """All subsets of ``number`` of ``members``, or ``MOST_SUBSETS`` different ones drawn at random."""
    if math.comb(members, number) <= MOST_SUBSETS:
        return list(combinations(range(members), number))
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < MOST_SUBSETS:
        drawn[tuple(sorted(random.choice(members, number, replace=False).tolist()))] = None
    return list(drawn)


def _draws(daily: Floats, horizon: int, random: np.random.Generator) -> resampling.Indices | None:
    """Days of each resample ``[REPEATS, days]``; None for too few days, or returns that do not vary."""
    if len(daily) < LEAST_DAYS or not daily.std() > metrics.SMALLEST_STD:
        return None
    length = resampling.block_length(metrics.sharpe_influence(daily), horizon).stationary
    return resampling.stationary_indices(len(daily), length, REPEATS, random)


def _resampled(size: _Size, draws: resampling.Indices | None, annual: float) -> tuple[Floats, Floats]:
    """Annual Sharpe ratio and mean IC of each resample, averaged over the subsets."""
    if draws is None:
        nothing = np.full(1, np.nan)
        return nothing, nothing
    ratios = annual * np.mean([resampling.sharpes_of(each, draws) for each in size.gross], axis=0)
    return ratios, np.asarray(np.nanmean(_over_subsets(size.ics)[draws], axis=1))


def _middle(values: Floats) -> tuple[float, float] | None:
    if not np.isfinite(values).all():
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _over_subsets(ics: Floats) -> Floats:
    """Mean over the subsets, of the days on which each of them has one: ``[days]``, NaN on the others."""
    return np.asarray(ics.mean(0))
