"""Backtests of a run's scores on its panel: every strategy, cost and execution that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from atft.config import Label
from atft.data.markets import check_execution, check_money, mixed_money, too_early
from atft.data.panel import Panel
from atft.errors import UseError
from atft.evaluate.backtest import Backtest, Decisions, costed
from atft.evaluate.costs import PARTICIPATION, Costs, liquidity, trailing_money
from atft.evaluate.execution import At, Execution, Rules, executed
from atft.evaluate.metrics import Bools, Floats
from atft.evaluate.neutral import check_known, neutralise
from atft.evaluate.regimes import market_returns
from atft.evaluate.strategies import Strategy
from atft.evaluate.trading import trade
from atft.experiment.score_table import Scored

DEFAULT_QUANTILE = 0.1
MOST_K, K_SHARE = 50, 10
"""Stocks of the default ``top-k``: 50, but no more than a tenth of the smallest day's."""


@dataclass(frozen=True)
class Neutral:
    """What scores or positions are made neutral to.

    Attributes:
        by: ``industry``, ``size`` (log of the trailing mean traded money, in place of a market value, which bars do
            not tell), or names of the panel's features.
        positions: False neutralises the scores, before the strategy turns them into positions; True the positions.
    """

    by: tuple[str, ...] = ()
    positions: bool = False


@dataclass(frozen=True)
class Setting:
    """What is backtested: every combination of strategies, executions and costs.

    Attributes:
        strategies: how scores become positions.
        executions: ``close``, ``open`` or both.
        costs: paid in turn.
        neutral: of all strategies.
        drift: whether weights drift between decisions.
        delisting_return: what a stock that leaves for good earns after its last known price.
        participation: share of a stock's traded money that capacity is stated for.
    """

    strategies: tuple[Strategy, ...]
    executions: tuple[At, ...]
    costs: tuple[Costs, ...]
    neutral: Neutral = Neutral()
    drift: bool = True
    delisting_return: float = 0.0
    participation: float = PARTICIPATION


def default_strategies(scored: Scored, quantile: float | None = None, k: int | None = None) -> tuple[Strategy, ...]:
    """The market and the three strategies, with settings that fit the days' numbers of stocks where none is stated."""
    count = np.isfinite(scored.scores).sum(1)
    fewest = int(count[count > 0].min(initial=MOST_K * K_SHARE))
    return (
        Strategy("equal-weight"),
        Strategy("score"),
        Strategy("quantile", quantile=DEFAULT_QUANTILE if quantile is None else quantile),
        Strategy("top-k", k=max(1, min(MOST_K, fewest // K_SHARE)) if k is None else k),
    )


def default_executions(panel: Panel, label: Label, scored: Scored) -> tuple[At, ...]:
    """The close, and the open where the panel has opens after every decision and a day left for the exit."""
    opens = panel.open_price is not None and bool(np.isfinite(panel.open_price).any())
    reached = len(scored.days) and scored.days[0] + 1 + label.horizon < len(panel.days)
    return ("close", "open") if opens and reached and not too_early(panel.manifest.sessions) else ("close",)


def backtests(panel: Panel, label: Label, scored: Scored, setting: Setting) -> Iterator[Backtest]:
    """Every strategy, execution and cost of ``setting``, in this order.

    Args:
        panel: prices, and what else is asked for.
        label: of the run's tier: horizon and execution lag.
        scored: the scores.
        setting: what is wanted.

    Raises:
        UseError: something that the panel does not hold, or bounds of a strategy.
    """
    _check(setting)
    ready = {at: decided(panel, label, scored, at, setting) for at in setting.executions}
    for strategy in setting.strategies:
        for decisions in ready.values():
            targets = strategy.targets(decisions.scores, decisions.scored, decisions.dates)
            if setting.neutral.positions:
                targets = _neutral_positions(panel, decisions, targets, setting.neutral.by)
            trades = trade(targets, decisions.execution, drift=setting.drift)
            for costs in setting.costs:
                yield costed(
                    decisions, strategy, trades, costs, drift=setting.drift, participation=setting.participation
                )


def decided(panel: Panel, label: Label, scored: Scored, at: At, setting: Setting) -> Decisions:
    """Scores ready to be traded at the close or the open.

    Raises:
        UseError: the panel does not hold what is needed.
    """
    check_execution(str(panel.path), panel.manifest.sessions, label.execution_lag, next_open=at == "open")
    rules = Rules(at, label.execution_lag, label.horizon, setting.delisting_return)
    close = np.asarray(panel.close)
    listed = None if panel.delisted is None else np.searchsorted(panel.days, panel.delisted, side="right") - 1
    execution = executed(
        scored.days, close, rules=rules, open_=panel.open_price, tradable=panel.tradable, markets=panel.markets,
        listed_until=listed,
    )  # fmt: skip
    scores = scored.scores[np.isin(scored.days, execution.days)]
    known = np.isfinite(scores)
    if setting.neutral.by and not setting.neutral.positions:
        scores = _neutralised(panel, execution, scores, known, setting.neutral.by)
    sessions, impact = panel.manifest.sessions, any(costs.impact for costs in setting.costs)
    if impact:
        check_money("impact", str(panel.path), sessions, "no --impact")
    market = None if mixed_money(sessions) else liquidity(close, panel.volume, execution.days)
    if market is None and impact:
        raise UseError(
            f"impact: {panel.path} does not tell the traded money and volatility of any stock around every decision. "
            "Mend: no --impact, or a panel built from a table with the role volume that begins a month earlier."
        )
    return Decisions(scores, known, execution, panel.days[execution.exits], market_returns(close), market)


def _check(setting: Setting) -> None:
    neutral = setting.neutral
    if neutral.positions and (named := [each.label for each in setting.strategies if each.long_only]):
        raise UseError(
            f"neutral positions of {', '.join(named)}: a long-only strategy cannot be neutral to anything. "
            "Mend: --neutralise-what scores, or --strategy score or quantile."
        )


def _neutralised(panel: Panel, execution: Execution, values: Floats, valid: Bools, by: Sequence[str]) -> Floats:
    groups = panel.industries if "industry" in by else None
    if groups is not None:
        check_known(groups)
    characteristics = [characteristic(panel, execution, name) for name in by if name != "industry"]
    return neutralise(values, valid, groups=groups, characteristics=characteristics)


def _neutral_positions(panel: Panel, decisions: Decisions, targets: Floats, by: Sequence[str]) -> Floats:
    """Positions less what is explained, at unit gross again; stocks that are scored but not held take part."""
    left = _neutralised(panel, decisions.execution, targets, decisions.scored, by)
    gross = np.abs(left).sum(1, keepdims=True)
    held: Floats = np.divide(left, gross, out=np.zeros_like(left), where=gross > 0)
    return held


def characteristic(panel: Panel, execution: Execution, name: str) -> Floats:
    """``[decisions, stocks]`` a characteristic by name, as known at each decision; NaN where unknown.

    Raises:
        UseError: the panel does not hold it.
    """
    days = execution.days
    if name == "size":
        check_money("neutralise size", str(panel.path), panel.manifest.sessions, "--neutralise industry")
        money = trailing_money(np.asarray(panel.close), panel.volume, days)
        return np.log(money, out=np.full_like(money, np.nan), where=money > 0)
    if name not in panel.feature_names:
        raise UseError(
            f"neutralise {name!r}: is neither industry nor size, nor one of the {len(panel.feature_names)} features of "
            f"{panel.path}. Mend: --neutralise industry,size, or a feature such as {panel.feature_names[0]}."
        )
    place = panel.feature_names.index(name)
    rows = [panel.features(int(day), int(day) + 1)[0, :, place] for day in days]
    found: Floats = np.stack(rows).astype(np.float64)
    return found
