"""What a model has to beat: scores that need no training, a causal ridge, and scores without information."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from atft.data.markets import calendars_of, several
from atft.errors import UseError
from atft.evaluate.metrics import Bools, Floats, check_shapes

RIDGE_PENALTY = 10.0
"""λ of the published ridge, on the sum (not the mean) of squared errors."""
PUBLISHED_DAYS = 16
PUBLISHED_AVERAGES = (5, 10, 20, 30)
PUBLISHED_LOOKBACK = PUBLISHED_DAYS - 1 + max(PUBLISHED_AVERAGES)
"""Closes, the decision day's included, that the published ridge needs of a stock: 45."""

Days = npt.NDArray[np.int64]
Inputs = Callable[[int], Floats]
"""Of a day's number, ``[stocks, inputs]`` float64 known at that day's close; NaN in a row that is not to be used."""


class PanelView(Protocol):
    """What the baselines read of a panel."""

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """``[days, stocks]``, True where the stock has a row on that day."""

    def features(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """``[last - first, stocks, features]`` of days ``first`` to ``last - 1``, NaN where missing."""


@dataclass(frozen=True)
class Labels:
    """Decisions with their outcomes, of one period.

    Attributes:
        days: ``[decisions]`` numbers of the decision days in the panel.
        returns: ``[decisions, stocks]`` forward simple returns; may be NaN where not valid.
        valid: ``[decisions, stocks]``, True where scored and labelled.
    """

    days: Sequence[int] | Days
    returns: Floats
    valid: Bools

    def __post_init__(self) -> None:
        check_shapes(returns=self.returns, valid=self.valid)
        if len(self.days) != len(self.returns):
            raise ValueError(f"{len(self.days)} days, but {len(self.returns)} rows of returns")


@dataclass(frozen=True)
class RidgeFit:
    """A fitted ridge.

    Attributes:
        coefficients: ``[inputs]``, return per unit of input; the intercept does not matter to a ranking.
        penalty: λ on the sum of squared errors.
        rows: training stock-days.
        days: training days that hold at least two of them.
        filled: training inputs that were missing and set to 0, of ``rows × inputs``.
    """

    coefficients: Floats
    penalty: float
    rows: int
    days: int
    filled: int

    @property
    def filled_share(self) -> float:
        """Share of the training inputs that were missing."""
        return self.filled / (self.rows * self.coefficients.size)


@dataclass
class NormalEquations:
    """Sums over rows that a ridge needs: memory does not grow with the rows. All in float64."""

    inputs: int
    rows: int = 0
    days: int = 0
    filled: int = 0
    sum_x: Floats = field(init=False)
    sum_xx: Floats = field(init=False)
    sum_xy: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.sum_x, self.sum_xy = np.zeros(self.inputs), np.zeros(self.inputs)
        self.sum_xx = np.zeros((self.inputs, self.inputs))

    def add_day(self, x: Floats, returns: Floats, filled: int = 0) -> None:
        """Add one day: ``x [rows, inputs]`` and its ``returns [rows]``, demeaned here. A single row is left out."""
        if len(x) < 2:
            return
        self.rows, self.days, self.filled = self.rows + len(x), self.days + 1, self.filled + filled
        self.sum_x += x.sum(0)
        self.sum_xx += x.T @ x
        self.sum_xy += x.T @ (returns - returns.mean())

    def solve(self, penalty: float) -> RidgeFit:
        """The ridge with an intercept: inputs centred over all rows (the targets are, being centred on each day).

        Raises:
            UseError: no rows, or a penalty that is not positive.
        """
        if not self.rows:
            raise UseError(
                "ridge baseline: the training period has no day with two valid stocks (scored and labelled). "
                "Mend: an earlier split.train.first, or a shorter window."
            )
        if not penalty > 0:
            raise UseError(f"ridge baseline: penalty = {penalty} must be above 0. Mend: {RIDGE_PENALTY:g}")
        average = self.sum_x / self.rows
        gram = self.sum_xx - self.rows * np.outer(average, average)
        coefficients = np.linalg.solve(gram + penalty * np.eye(self.inputs), self.sum_xy).astype(np.float64)
        return RidgeFit(coefficients, penalty, self.rows, self.days, self.filled)


def on_own_days(
    rule: Callable[[Floats, Days], Floats],
    close: Floats,
    decision_days: Sequence[int] | Days,
    markets: Sequence[str | None] = (),
) -> Floats:
    """Scores of a rule that counts back in trading days, each market's on its own trading days.

    A day on which a stock's market was closed is none of its days, so that a holiday takes no reading away; a day on
    which the market traded and the stock did not is a missing close, as in a single market.

    Args:
        rule: of ``close [days, stocks]`` and ``[decisions]`` numbers of its days.
        close: ``[days, stocks]`` on the calendar of all markets, NaN where missing.
        decision_days: ``[decisions]`` numbers of days.
        markets: ``[stocks]`` names; none where there is one market.

    Returns:
        ``[decisions, stocks]``; NaN also where the stock's market is closed on the decision day.
    """
    days = np.asarray(decision_days, dtype=np.int64)
    if not several(markets):
        return rule(close, days)
    scores = np.full((len(days), close.shape[1]), np.nan)
    for stocks, own in calendars_of(markets, np.isfinite(close)):
        trades = np.isin(days, own)
        scores[np.ix_(trades, stocks)] = rule(close[np.ix_(own, stocks)], np.searchsorted(own, days[trades]))
    return scores


def reversal(close: Floats, decision_days: Sequence[int] | Days, markets: Sequence[str | None] = ()) -> Floats:
    """Minus the last day's return, close to close.

    Args:
        close: ``[days, stocks]``, NaN where missing.
        decision_days: ``[decisions]`` numbers of days.
        markets: ``[stocks]`` names; where there are several, the day before is the market's own.

    Returns:
        ``[decisions, stocks]``; NaN where the close of the day or of the day before is missing.
    """
    return on_own_days(_reversal, close, decision_days, markets)


def _reversal(close: Floats, days: Days) -> Floats:
    before = np.where(days[:, None] > 0, close[np.maximum(days - 1, 0)], np.nan)
    scores: Floats = 1.0 - close[days] / before
    return scores


MOMENTUM_DAYS = 252
"""Trading days from the first close of a momentum to the decision: a year."""
MOMENTUM_SKIPPED = 21
"""Last trading days that a momentum leaves out, since they reverse: a month."""
MOMENTUM_LEAST = 63
"""A momentum of fewer days is none."""


def momentum(
    close: Floats,
    decision_days: Sequence[int] | Days,
    markets: Sequence[str | None] = (),
    *,
    lookback: int = MOMENTUM_DAYS,
    skipped: int = MOMENTUM_SKIPPED,
) -> Floats:
    """The return of the past year without its last month: ``close[t − skipped] / close[t − lookback] − 1``.

    Args:
        close: ``[days, stocks]``, NaN where missing.
        decision_days: ``[decisions]`` numbers of days.
        markets: ``[stocks]`` names; where there are several, the days are each market's own.
        lookback: days from the first close to the decision.
        skipped: days from the last close to the decision.

    Returns:
        ``[decisions, stocks]``; NaN where one of the two closes or that of the decision day is missing; of several
        markets, also where the stock's own has less history than ``lookback``.

    Raises:
        ValueError: ``skipped`` is not below ``lookback``, or a day has less history than ``lookback``.

    Source: Jegadeesh and Titman (1993), in its usual form of 12 months without the last one.
    """
    days = np.asarray(decision_days, dtype=np.int64)
    if not 0 <= skipped < lookback or (days < lookback).any():
        raise ValueError(f"momentum of {lookback} days without the last {skipped}, on days from {days.min(initial=0)}")

    def rule(close: Floats, days: Days) -> Floats:
        scores: Floats = close[(days - skipped).clip(0)] / close[(days - lookback).clip(0)] - 1.0
        return np.where(np.isfinite(close[days]) & (days >= lookback)[:, None], scores, np.nan)

    return on_own_days(rule, close, days, markets)


def own_history(close: Floats, first_decision: int, markets: Sequence[str | None] = ()) -> int:
    """Trading days before day ``first_decision``: those of the panel, or of the market with the fewest of its own.

    A market that has fewer than a momentum needs is left out of that, and has none until it has more; where all have
    fewer, the most count.
    """
    if not several(markets):
        return first_decision
    histories = [int(np.searchsorted(own, first_decision)) for _, own in calendars_of(markets, np.isfinite(close))]
    return min((each for each in histories if each >= MOMENTUM_LEAST), default=max(histories))


def momentum_lookback(first_decision: int) -> int:
    """Days of the momentum that a period can have whose first decision is on day ``first_decision``: a year at most.

    Raises:
        UseError: fewer than ``MOMENTUM_LEAST``.
    """
    if first_decision < MOMENTUM_LEAST:
        raise UseError(
            f"momentum baseline: the first test decision is day {first_decision} of the panel, and a momentum needs at "
            f"least {MOMENTUM_LEAST} days before it. Mend: a panel that begins earlier, a later split.test.first, or "
            "leave it out of --only."
        )
    return min(MOMENTUM_DAYS, first_decision)


def ridge(
    panel: PanelView,
    train: Labels,
    decision_days: Sequence[int] | Days,
    *,
    penalty: float = RIDGE_PENALTY,
) -> tuple[Floats, RidgeFit]:
    """Ridge on the features that the network sees of the decision day itself, fitted on the training period only.

    The features are normalised over each day's cross-section already, so that a missing one is set to 0, its
    mean; how many were is in the fit. The target is the label minus its mean over the day's valid stocks.

    Args:
        panel: features and presence.
        train: decisions of the training period.
        decision_days: days to score.
        penalty: λ on the sum of squared errors.

    Returns:
        ``[decisions, stocks]`` scores, NaN where the stock has no row on the day; and the fit.
    """
    fit = normal_equations(panel, train).solve(penalty)
    return linear_scores(panel, decision_days, fit.coefficients[:, None])[0], fit


def normal_equations(panel: PanelView, train: Labels) -> NormalEquations:
    """The sums of :func:`ridge` over the training decisions, read day by day."""
    sums = NormalEquations(panel.features(0, 1).shape[-1])
    for day, returns, valid in zip(train.days, train.returns, train.valid, strict=True):
        x = panel.features(int(day), int(day) + 1)[0][valid].astype(np.float64)
        missing = np.isnan(x)
        x[missing] = 0.0
        sums.add_day(x, returns[valid], int(missing.sum()))
    return sums


def linear_scores(panel: PanelView, decision_days: Sequence[int] | Days, coefficients: Floats) -> Floats:
    """Scores by some linear rules, ``coefficients [inputs, rules]``, in one pass over the days.

    Returns:
        ``[rules, decisions, stocks]``, NaN where the stock has no row on the day; a missing input counts as 0.
    """
    scores = np.full((coefficients.shape[1], len(decision_days), panel.present.shape[1]), np.nan)
    for row, day in enumerate(decision_days):
        present = panel.present[day]
        x = panel.features(int(day), int(day) + 1)[0][present].astype(np.float64)
        scores[:, row, present] = (np.nan_to_num(x, nan=0.0) @ coefficients).T
    return scores


def published_inputs(close: Floats, markets: Sequence[str | None] = ()) -> Inputs:
    """Inputs of the ridge in the literature on the NASDAQ data: prices of the last 16 days over the last close.

    For each of the last 16 days: its close and its moving averages over 5, 10, 20 and 30 days, 80 in all, each
    divided by the decision day's close, less 1.

    Args:
        close: ``[days, stocks]``, NaN where missing.
        markets: ``[stocks]`` names; where there are several, the days are each market's own.

    Returns:
        A function of a day's number that gives ``[stocks, 80]``; NaN in all of a row where one of the stock's last
        45 closes is missing.

    Source: the inputs of Feng et al. (2019), Temporal Relational Ranking for Stock Prediction.
    """

    if several(markets):
        return _of_markets(close, markets)

    def inputs(day: int) -> Floats:
        stocks = close.shape[1]
        if day + 1 < PUBLISHED_LOOKBACK:
            return np.full((stocks, PUBLISHED_DAYS * (1 + len(PUBLISHED_AVERAGES))), np.nan)
        prices = close[day + 1 - PUBLISHED_LOOKBACK : day + 1].T
        averages = [
            sliding_window_view(prices, length, axis=1).mean(-1)[:, -PUBLISHED_DAYS:] for length in PUBLISHED_AVERAGES
        ]
        x: Floats = np.concatenate([prices[:, -PUBLISHED_DAYS:], *averages], axis=1) / prices[:, -1:] - 1.0
        x[np.isnan(prices).any(1)] = np.nan
        return x

    return inputs


def _of_markets(close: Floats, markets: Sequence[str | None]) -> Inputs:
    """:func:`published_inputs` of each market on its own days, together; NaN where a market is closed."""
    each = [
        (stocks, own, published_inputs(close[np.ix_(own, stocks)]))
        for stocks, own in calendars_of(markets, np.isfinite(close))
    ]

    def inputs(day: int) -> Floats:
        x = np.full((close.shape[1], PUBLISHED_DAYS * (1 + len(PUBLISHED_AVERAGES))), np.nan)
        for stocks, own, of_own in each:
            if day in own:
                x[stocks] = of_own(int(np.searchsorted(own, day)))
        return x

    return inputs


def published_ridge(
    close: Floats,
    train: Labels,
    decision_days: Sequence[int] | Days,
    markets: Sequence[str | None] = (),
    *,
    penalty: float = RIDGE_PENALTY,
) -> tuple[Floats, RidgeFit]:
    """Ridge on :func:`published_inputs`, which need closes only: a check of the whole evaluation on known data.

    Args:
        close: ``[days, stocks]``, NaN where missing.
        train: decisions of the training period.
        decision_days: days to score.
        markets: ``[stocks]`` names; where there are several, the days are each market's own.
        penalty: λ on the sum of squared errors, of inputs that are not scaled.

    Returns:
        ``[decisions, stocks]`` scores, NaN where one of the stock's last 45 closes is missing; and the fit.
    """
    inputs = published_inputs(close, markets)
    sums = NormalEquations(PUBLISHED_DAYS * (1 + len(PUBLISHED_AVERAGES)))
    for day, returns, valid in zip(train.days, train.returns, train.valid, strict=True):
        x = inputs(int(day))
        used = valid & ~np.isnan(x[:, 0])
        sums.add_day(x[used], returns[used])
    fit = sums.solve(penalty)
    return np.stack([inputs(int(day)) @ fit.coefficients for day in decision_days]), fit


def shuffled(scores: Floats, valid: Bools, *, seed: int, repeats: int) -> Iterator[Floats]:
    """The scores with the valid stocks of each day permuted among themselves: what is left without information.

    Args:
        scores: ``[days, stocks]``.
        valid: ``[days, stocks]``, True where scored and labelled.
        seed: of all shuffles.
        repeats: how many shuffles to make.

    Yields:
        ``[days, stocks]``; entries that are not valid stay as they are.
    """
    check_shapes(scores=scores, valid=valid)
    random = np.random.default_rng(seed)
    for _ in range(repeats):
        result = scores.copy()
        for day, kept in enumerate(valid):
            result[day, kept] = random.permutation(scores[day, kept])
        yield result
