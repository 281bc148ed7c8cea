"""The statistical checks on a panel, and on its source's own features, read a few days or one feature at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atft.config import Split, Tier
from atft.data.graph import daily_returns
from atft.data.grid import Grid
from atft.data.leakage.rebuild import computed_names
from atft.data.panel import Panel
from atft.data.sources import Checked
from atft.data.splits import Periods, periods_of
from atft.errors import UseError
from atft.evaluate.leakage import foresight, hindsight, series, staleness, universe
from atft.evaluate.leakage.finding import Finding, clean, not_checked, suspect

MOST_DAYS, MOST_STOCKS, MOST_PAIRS = 400, 1500, 60
"""Days and stocks of a panel that are looked at, evenly spread, and days on which features are compared in pairs."""
RAW = "whole-sample traces"
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class _Sums:
    """What the sampled days gave.

    Attributes:
        daily: day and rank correlations with returns around it.
        hindsight: ``[features, targets]``, mean over early days.
    """

    daily: list[tuple[int, npt.NDArray[np.float64]]]
    hindsight: npt.NDArray[np.float64]


def of_panel(panel: Panel, tell: Tell, seed: int) -> Iterator[Finding]:
    """Returns to come, whole-sample prices, staleness, shifted values, survivorship.

    Args:
        panel: the data.
        tell: told the stage.
        seed: of the sample of stocks.
    """
    names, stocks = panel.feature_names, _sample(len(panel.codes), MOST_STOCKS, seed)
    close = np.asarray(panel.close)[:, stocks]
    seen = _correlations(panel, close, stocks, tell)
    if seen.daily:
        yield from foresight.findings(foresight.profile(names, seen.daily, len(panel.days)))
        yield from hindsight.findings(names, seen.hindsight, len(stocks))
    else:
        yield not_checked(foresight.CHECK, "suspicion", f"no day has {foresight.LEAST_STOCKS} stocks")
        yield not_checked(hindsight.CHECK, "suspicion", f"no day has {foresight.LEAST_STOCKS} stocks")
    still = _still(panel, stocks, tell)
    yield from staleness.stale_findings(names, still, [str(day) for day in panel.days[1:]])
    yield from _shifts(panel, stocks)
    yield from universe.findings(np.asarray(panel.close))


def _sample(count: int, most: int, seed: int) -> npt.NDArray[np.int64]:
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _correlations(panel: Panel, close: npt.NDArray[np.float64], stocks: npt.NDArray[np.int64], tell: Tell) -> _Sums:
    count = len(panel.days)
    days = np.unique(np.linspace(0, count - 2, min(MOST_DAYS, count - 1)).astype(int))
    known, daily, early = hindsight.Hindsight.of(close), [], []
    for place, day in enumerate(days.tolist()):
        tell("correlations with returns to come", place / len(days))
        values = panel.features(day, day + 1, stocks)[0].astype(np.float64)
        found = foresight.rank_correlations(values, foresight.targets(close, day))
        if np.isfinite(found).any():
            daily.append((day, found))
        if day < hindsight.EARLY * count:
            early.append(foresight.rank_correlations(values, known.targets(day)))
    return _Sums(daily, _mean(early) if early else np.zeros((len(panel.feature_names), 2 * len(hindsight.KINDS) - 1)))


def _mean(tables: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    stacked = np.stack(tables)
    known = np.isfinite(stacked)
    return np.asarray(np.where(known, stacked, 0.0).sum(0) / np.maximum(known.sum(0), 1))


def _still(panel: Panel, stocks: npt.NDArray[np.int64], tell: Tell) -> npt.NDArray[np.bool_]:
    """``[days - 1, features]``, with at most a hundred of the stocks: a day that stands still does so for all."""
    few = stocks[:: max(1, len(stocks) // 100)]
    found, before = [], panel.features(0, 1, few)[0]
    for day in range(1, len(panel.days)):
        tell("staleness", day / len(panel.days))
        today = panel.features(day, day + 1, few)[0]
        found.append(staleness.standing(today, before))
        before = today
    return np.array(found)


def _shifts(panel: Panel, stocks: npt.NDArray[np.int64]) -> Iterator[Finding]:
    known = set(computed_names(panel))
    own, computed = ([n for n, name in enumerate(panel.feature_names) if (name in known) == side] for side in (0, 1))
    if not own or not computed:
        lacking = "own" if not own else "computed"
        yield not_checked(staleness.SHIFTED, "suspicion", f"the panel holds no {lacking} features")
        return
    most = max(staleness.SHIFTS)
    if len(panel.days) <= most + 1:
        yield not_checked(staleness.SHIFTED, "suspicion", f"{len(panel.days)} days are too few")
        return
    days = np.unique(np.linspace(0, len(panel.days) - 1 - most, MOST_PAIRS).astype(int)).tolist()
    sums: dict[int, list[npt.NDArray[np.float64]]] = {shift: [] for shift in (0, *staleness.SHIFTS)}
    for day in days:
        values = panel.features(day, day + 1, stocks)[0][:, own].astype(np.float64)
        for shift, tables in sums.items():
            later = panel.features(day + shift, day + shift + 1, stocks)[0][:, computed].astype(np.float64)
            tables.append(staleness.cross_correlations(values, later))
    means = {shift: np.mean(tables, axis=0) for shift, tables in sums.items()}
    names = panel.feature_names
    yield from staleness.shift_findings([names[n] for n in own], [names[n] for n in computed], means.pop(0), means)


def of_source(panel: Panel, checked: Checked, tier: Tier, tell: Tell) -> Iterator[Finding]:
    """The source's own features as they are, before any normalisation, one at a time.

    Args:
        panel: the data.
        checked: its source.
        tier: whose split tells training days from test days.
        tell: told the stage.
    """
    if not checked.own_names:
        yield not_checked(RAW, "suspicion", "the source has no features of its own")
        return
    cells, shape = Grid.of(checked).cells, panel.close.shape
    returns, spans = daily_returns(np.asarray(panel.close)), _spans(panel, tier)
    named = 0
    for place, (name, column) in enumerate(checked.own_columns()):
        tell("own features, one at a time", place / len(checked.own_names))
        values = np.full(shape[0] * shape[1], np.nan)
        values[cells] = column
        for sign in series.signs(values.reshape(shape), returns, spans, len(checked.own_names)):
            named += 1
            yield suspect(sign.check, name, sign.evidence, sign.mend)
    if not named:
        yield clean(
            RAW,
            "suspicion",
            f"{len(checked.own_names)} own features: no whole-sample extreme, no scale counted back "
            "from the end, no scaler fitted on test days, no back-filled run",
        )


def _stated(split: Split, panel: Panel) -> list[npt.NDArray[np.bool_]]:
    return [
        (panel.days >= np.datetime64(span.first, "D")) & (panel.days <= np.datetime64(span.last, "D"))
        for span in (split.train, split.validate_, split.test)
    ]


def _decided(periods: Periods, panel: Panel) -> list[npt.NDArray[np.bool_]]:
    return [_inside(days, len(panel.days)) for days in (periods.train, periods.validate, periods.test)]


def _spans(panel: Panel, tier: Tier) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Spans that a scaler may have been fitted on, by name; those without a test day are called ``train only``."""
    spans = {"all days": np.ones(len(panel.days), bool)}
    try:
        periods = periods_of(tier, panel)
    except UseError:
        return spans
    stated = _stated(tier.split, panel) if isinstance(tier.split, Split) else _decided(periods, panel)
    train, validate, test = stated
    decided = {
        name: _inside(days, len(panel.days)) for name, days in zip(("train", "test"), (periods.train, periods.test))
    }
    return {
        **spans,
        "train only": train,
        "train only, decision days": decided["train"],
        "the test days": test,
        "the test decision days": decided["test"],
        "validation and test days": validate | test,
        "train to test": train | validate | test,
    }


def _inside(days: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(count, bool)
    mask[days] = True
    return mask
