"""The published protocol on an evaluated run: its kept scores beside baselines, market, luck and papers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atft.data.gather import scorable_days
from atft.data.panel import Panel
from atft.data.splits import periods_of
from atft.errors import UseError
from atft.evaluate import baselines, metrics, published
from atft.evaluate.metrics import Bools, Floats, Interval
from atft.evaluate.protocol import (
    Luck,
    ProtocolFigures,
    counted_days,
    luck,
    market_figures,
    protocol_figures,
    sharpe_difference,
)
from atft.evaluate.siblings import baseline_runs
from atft.experiment.assess import Ground
from atft.experiment.runs import Run
from atft.experiment.score_table import read_test_scores


@dataclass(frozen=True)
class Row:
    """One ranking under the protocol.

    Attributes:
        name: the run, the baseline, or ``equal weight``.
        figures: of the protocol.
        above_market: its top-5 Sharpe ratio minus the equal-weight market's; None for the market itself.
        above_base: its precision minus the share of all stocks that did not fall; None for the market itself.
        left_out: stock-days without score or return, of those that could be scored.
    """

    name: str
    figures: ProtocolFigures
    above_market: Interval | None
    above_base: Interval | None
    left_out: int


@dataclass(frozen=True)
class Protocol:
    """A run under the protocol.

    Attributes:
        rows: the run first, then baselines, the market last.
        luck: what random rankings reach.
        first_date, last_date: label dates.
        days: days that count.
        days_left_out: days of fewer than ten stocks.
        stocks: of the panel.
        is_published: whether days and stocks are those of the papers, whose figures may be laid beside.
    """

    rows: tuple[Row, ...]
    luck: Luck
    first_date: str
    last_date: str
    days: int
    days_left_out: int
    stocks: int
    is_published: bool


def under_protocol(run: Run, panel: Panel) -> Protocol:
    """Lay a run's kept scores under the protocol; the network is not run again.

    Args:
        run: evaluated.
        panel: the data that it was evaluated on.

    Raises:
        UseError: another label than the protocol's, other data than the run's, or no day with ten stocks.
    """
    ground = _ground(run, panel)
    test = ground.outcomes(ground.periods.test)
    labelled = test.scorable & np.isfinite(test.returns)
    days = counted_days(labelled)
    if not len(days):
        raise UseError(f"{run.path}: no test day has the ten stocks that the rsr protocol picks. Mend: a wider panel.")
    returns, labelled = test.returns[days], labelled[days]
    market = market_figures(returns, labelled)
    rows = [
        _row(name, scores[days], returns, labelled, market) for name, scores in _rankings(run, ground, test.labels())
    ]
    rows.append(Row("equal weight", market, None, None, 0))
    dates = test.dates.astype("datetime64[D]").astype(str)
    known = (published.FIRST_DATE, published.LAST_DATE, published.DAYS, published.STOCKS)
    return Protocol(
        tuple(rows), luck(returns, labelled), dates[0], dates[-1], len(days), len(dates) - len(days),
        len(panel.codes), not run.tier.label.own and (dates[0], dates[-1], len(dates), len(panel.codes)) == known,
    )  # fmt: skip


def _ground(run: Run, panel: Panel) -> Ground:
    label = run.tier.label
    if (label.horizon, label.execution_lag) != (1, 0):
        raise UseError(
            f"{run.path}: label.horizon = {label.horizon}, label.execution_lag = {label.execution_lag}; the rsr "
            "protocol ranks by the return from one close to the next, horizon 1 and lag 0. Mend: a run with that label."
        )
    if panel.sha256 != run.panel_sha256:
        raise UseError(
            f"{run.path}: was evaluated on other data than {panel.path} holds now. Mend: the panel that it was made on."
        )
    periods = periods_of(run.tier, panel)
    return Ground(panel, scorable_days(panel.present, run.tier.window), periods, run.tier)


def _rankings(run: Run, ground: Ground, test: baselines.Labels) -> Iterator[tuple[str, Floats]]:
    """The run's scores, those of its siblings, and of two baselines that need closes only."""
    if run.baseline == "equal_weight":
        raise UseError(
            f"{run.path}: equal weight ranks no stock, and the protocol is of rankings; its row stands beside every "
            "run. Mend: another run."
        )
    yield _shown(run.path), _kept(run.path, ground)
    found = {}
    for path, told in baseline_runs(run.path, run.tier.model_dump(mode="json"), run.panel_sha256):
        if told["baseline"]["name"] != "equal_weight":
            found[_shown(path)] = _kept(path, ground)
    yield from found.items()
    if not any(name.startswith("reversal") for name in [_shown(run.path), *found]):
        yield "reversal", baselines.reversal(ground.panel.close, test.days, ground.panel.markets)
    train = ground.outcomes(ground.periods.train).labels()
    panel = ground.panel
    yield "published ridge", baselines.published_ridge(panel.close, train, test.days, panel.markets)[0]


def _shown(path: Path) -> str:
    """The name of a run without what only tells baselines of other settings apart."""
    name = path.name
    return name.removeprefix("baseline-").rpartition("-")[0] if name.startswith("baseline-") else name


def _kept(path: Path, ground: Ground) -> Floats:
    held, days = read_test_scores(path, ground.panel), ground.periods.test
    if not np.isin(held.days, days).all():
        raise UseError(f"{path}: its kept scores are not of the test days of its tier. Mend: evaluate a new run.")
    scores = np.full((len(days), len(ground.panel.codes)), np.nan)
    scores[np.searchsorted(days, held.days)] = held.scores
    return scores


def _row(name: str, scores: Floats, returns: Floats, labelled: Bools, market: ProtocolFigures) -> Row:
    valid = labelled & np.isfinite(scores)
    scored = counted_days(valid)
    figures = protocol_figures(scores[scored], returns[scored], valid[scored])
    return Row(
        name,
        figures,
        above_market=sharpe_difference(figures.top, market.top[scored]),
        above_base=metrics.mean_interval(figures.hits - market.hits[scored]),
        left_out=int((labelled & ~valid).sum()),
    )


def as_plain(found: Protocol) -> dict[str, object]:
    """The protocol's figures as plain data."""

    def interval(value: Interval | None) -> Mapping[str, float | None] | None:
        if value is None:
            return None
        held = {"estimate": value.estimate, "low": value.low, "high": value.high}
        return {name: each if np.isfinite(each) else None for name, each in held.items()}

    return {
        "protocol": "rsr",
        "first_date": found.first_date,
        "last_date": found.last_date,
        "days": found.days,
        "days_left_out": found.days_left_out,
        "stocks": found.stocks,
        "is_published": found.is_published,
        "rows": [
            {"name": row.name, "left_out": row.left_out}
            | {
                name: interval(getattr(row.figures, name))
                for name in ("ic", "icir", "precision", "sharpe", "mrr", "irr")
            }
            | {"above_market": interval(row.above_market), "above_base": interval(row.above_base)}
            for row in found.rows
        ],
        "luck": vars(found.luck),
        "published": [vars(each) for each in published.PUBLISHED] if found.is_published else [],
    }
