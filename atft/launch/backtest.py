"""``atft backtest``: other strategies, costs and prices for the scores that a run was evaluated by."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atft.config import Label
from atft.data.labels import label_dates
from atft.data.markets import mixed_money
from atft.data.panel import Panel
from atft.data.splits import periods_of
from atft.errors import UseError
from atft.evaluate.backtest import Backtest
from atft.evaluate.costs import PARTICIPATION, Costs
from atft.evaluate.execution import At
from atft.evaluate.summary import TRADING_DAYS
from atft.experiment.backtests import Neutral, Setting, backtests, default_executions, default_strategies
from atft.experiment.registry import LONGEST_VARIANT, Registry, evaluation_of
from atft.experiment.runs import Run
from atft.experiment.score_table import Scored, read_test_scores
from atft.launch import places, texts_backtest
from atft.observe.events import EventLog
from atft.train.checkpoint import write_text

USUAL_BPS = (5.0, 10.0, 20.0)
"""Costs that are shown beside the tier's own."""


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; None and empty leave the choice to the run.

    Attributes:
        strategy: one strategy, told in detail; all of them without it.
        quantile, k: of the strategies of these names.
        cost_bps: costs to show, in basis points.
        impact: coefficient of market impact.
        capital: money under management.
        borrow_bps: a year on the value sold short.
        neutralise: what the scores are made neutral to.
        neutral_positions: neutralise positions instead.
        execution: ``close`` or ``open``; both without it.
        lag: in place of the tier's execution lag.
        drift: whether weights drift between decisions.
        delisting_return: of a stock that leaves for good.
        participation: share of a stock's traded money that capacity is stated for.
    """

    strategy: str | None = None
    quantile: float | None = None
    k: int | None = None
    cost_bps: tuple[float, ...] = ()
    impact: float = 0.0
    capital: float | None = None
    borrow_bps: float = 0.0
    neutralise: tuple[str, ...] = ()
    neutral_positions: bool = False
    execution: At | None = None
    lag: int | None = None
    drift: bool = True
    delisting_return: float = 0.0
    participation: float = PARTICIPATION

    def label(self, tier: Label) -> Label:
        """The tier's label, executed as asked."""
        return tier if self.lag is None else tier.model_copy(update={"execution_lag": self.lag})

    def setting(self, panel: Panel, label: Label, scored: Scored) -> Setting:
        """What to backtest.

        Raises:
            UseError: a value out of bounds.
        """
        known = default_strategies(scored, self.quantile, self.k)
        chosen = tuple(each for each in known if self.strategy in (None, each.name))
        if self.neutral_positions:
            if not self.neutralise:
                raise UseError("--neutralise-what positions: neutral to what? Mend: --neutralise industry,size.")
            chosen = tuple(each for each in chosen if self.strategy or not each.long_only)
        bps = self.cost_bps or tuple(sorted({label.cost_bps, *USUAL_BPS}))
        return Setting(
            strategies=chosen,
            executions=(self.execution,) if self.execution else default_executions(panel, label, scored),
            costs=tuple(Costs(each, self.impact, self.capital, self.borrow_bps) for each in bps),
            neutral=Neutral(self.neutralise, self.neutral_positions),
            drift=self.drift,
            delisting_return=self.delisting_return,
            participation=self.participation,
        )


def backtest_run(path: Path, asked: Asked, *, data: Path | None = None, out: Path | None = None) -> dict[str, Any]:
    """Backtest the scores of a run's test period.

    Args:
        path: the run's directory or URI.
        asked: what is wanted.
        data: the run's panel, where it has moved.
        out: a JSON file for all figures with the daily returns; none is written without it.

    Returns:
        All figures, for the command line.

    Raises:
        UseError: a run without scores, another panel, settings out of bounds, or a file that cannot be written.
    """
    if out:
        _check_out(out)
    place = places.place_of(path)
    run = places.open_run(path)
    panel = places.open_panel(data or run.panel)
    scored = read_test_scores(run.path, panel)
    label = asked.label(run.tier.label)
    setting = asked.setting(panel, label, scored)
    found = list(backtests(panel, label, scored, setting))
    with place.kept():
        record_look(place.registry, run, panel, setting, found)
    mixed = mixed_money(panel.manifest.sessions)
    report: dict[str, Any] = {"run": str(path), **_told(run, panel, label, asked), "no_capacity": mixed or None}
    if out:
        _write(out, report | {"backtests": [_figures(each, daily=True) for each in found]})
        report["out"] = str(out)
    text = texts_backtest.of(found, setting, detailed=asked.strategy is not None, mixed_money=mixed)
    return report | {"backtests": [_figures(each) for each in found], "text": text}


def record_look(registry: Registry, run: Run, panel: Panel, setting: Setting, found: Sequence[Backtest]) -> None:
    """Write down that the test period of ``run`` was looked at, what was tried, and what each trial gave.

    Every strategy at every price is one more trial, since the best of many is better than it is good. Rates of cost
    are none, as they change no position; nor is the market, which no score enters.
    """
    first = found[:: len(setting.costs)]
    tried = [each for each in first if each.strategy.name != "equal-weight" and not _is_own(each, setting, run)]
    if not tried:
        return
    dates = _test_dates(run, panel)
    for each in tried:
        registry.record(
            evaluation_of(
                registry.name_of(run.path.name), run.tier, panel.sha256, dates,
                kind="baseline" if run.baseline else "backtest", variant=_short(variant(each, setting)),
                days=len(each.dates), sharpe_daily=each.sharpe.estimate / np.sqrt(TRADING_DAYS), ic=each.ic.estimate,
            )
        )  # fmt: skip
    with EventLog(run.events) as events:
        events.write(
            "test_period_backtested",
            trials=[
                {
                    "variant": variant(each, setting),
                    "days": len(each.dates),
                    "sharpe_daily": each.sharpe.estimate / np.sqrt(TRADING_DAYS),
                    "ic": each.ic.estimate,
                }
                for each in tried
            ],
        )


def _is_own(found: Backtest, setting: Setting, run: Run) -> bool:
    """Whether it is what the run's own evaluation traded: the same look again."""
    rules = found.rules
    plain = found.strategy.name == "score" and not setting.neutral.by and not rules.delisting_return
    return plain and rules.at == "close" and rules.lag == run.tier.label.execution_lag


def _test_dates(run: Run, panel: Panel) -> NDArray[np.datetime64]:
    """Label dates of the run's test period: what the registry knows it by, at whatever lag it is traded."""
    label = run.tier.label
    ends = label_dates(panel.days, label.horizon, label.execution_lag)
    return panel.days[ends[periods_of(run.tier, panel).test]]


def _short(text: str) -> str:
    """``text``, or as much of it as the registry takes with a hash of the whole."""
    if len(text) <= LONGEST_VARIANT:
        return text
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: LONGEST_VARIANT - 9]} {mark}"


def variant(found: Backtest, setting: Setting) -> str:
    """What tells one trial from another in one line of plain characters, such as ``quantile 0.1 open``."""
    rules, neutral = found.rules, setting.neutral
    told = [found.strategy.label, rules.at]
    if rules.at == "close":
        told.append(f"lag {rules.lag}")
    if neutral.by:
        told.append(f"{'positions' if neutral.positions else 'scores'} neutral {'+'.join(neutral.by)}")
    if rules.delisting_return:
        told.append(f"delisting {rules.delisting_return:g}")
    return " ".join(told)


def _told(run: Run, panel: Panel, label: Label, asked: Asked) -> dict[str, Any]:
    return {
        "tier": run.tier.name, "panel": str(panel.path), "data_sha256": panel.sha256, "horizon": label.horizon,
        "execution_lag": label.execution_lag, "neutralise": list(asked.neutralise),
        "neutral_positions": asked.neutral_positions, "drift": asked.drift, "delisting_return": asked.delisting_return,
    }  # fmt: skip


def _figures(found: Backtest, *, daily: bool = False) -> dict[str, Any]:
    """All figures of one backtest as plain data, null where undefined."""
    trades = found.trades
    told = {
        "strategy": found.strategy.label, "execution": found.rules.at, "cost_bps": found.costs.bps,
        "impact": found.costs.impact, "capital": found.costs.capital, "borrow_bps": found.costs.borrow_bps,
        "days": len(found.dates), "days_in_cash": found.days_in_cash, "blocked": trades.blocked, "stale": trades.stale,
        "delisted": trades.delisted, "sharpe_annual": found.sharpe, "sharpe_net_annual": found.sharpe_net,
        "ic": found.ic, "turnover": found.turnover.mean() if len(found.turnover) else None,
        "mean_return": found.gross.mean(), "mean_return_net": found.net.mean(), "impact_per_day": found.impact,
        "gross_exposure": found.gross_exposure, "largest_net_exposure": found.net_exposure,
        "drawdown": found.drawdown, "drawdown_net": found.drawdown_net, "long": found.long, "short": found.short,
        "excess_sharpe_annual": found.excess, "excess_return": found.excess_return, "capacity": found.capacity,
        "parts": found.parts,
        "months": [{"month": name, "gross": gross, "net": net} for name, gross, net in found.months()],
    }  # fmt: skip
    if daily:
        told["series"] = {"dates": found.dates, "gross": found.gross, "net": found.net, "turnover": found.turnover}
    return dict(_plain(told))


def _plain(value: Any) -> Any:
    """Plain data for JSON: dataclasses as objects, dates as text, what is not finite as null."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _check_out(out: Path) -> None:
    """Before anything is looked at."""
    if out.is_dir() or not out.parent.is_dir():
        raise UseError(f"{out}: is no file in a directory that is there. Mend: --out FILE.json.")


def _write(out: Path, report: dict[str, Any]) -> None:
    write_text(out, json.dumps(report, indent=2, allow_nan=False) + "\n")
