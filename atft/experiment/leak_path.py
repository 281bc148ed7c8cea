"""Proofs on the data path that training reads: each part is made again from closes whose future is another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from atft.config import Combinatorial, Tier
from atft.data import build, gather, labels, sampler, splits
from atft.data import graph as graphs
from atft.data.graph import TrailingGraph
from atft.data.panel import Panel
from atft.data.splits import input_reach
from atft.errors import UseError
from atft.evaluate.leakage.finding import Finding, clean, leak, not_checked

Days = npt.NDArray[np.int64]
DEFECT = "report it as a defect: this part of the data path may see closes up to its day only"
LABELS_CHECKED = 5000
PLANS = 6
"""Effective batches that are planned twice."""


@dataclass(frozen=True)
class Parts:
    """What the data path is made of; tests put a part that leaks in the place of one.

    Attributes:
        build: a panel from a table, see :func:`atft.data.build.build`.
        graph: neighbours of some days, see :func:`atft.data.graph.trailing_graph`.
        cached_graph: the graph that training would read, None where there is none yet.
        labels: returns to come, see :func:`atft.data.labels.forward_returns`.
        scorable: which stocks can be scored, see :func:`atft.data.gather.scorable_days`.
        periods: decision days, see :func:`atft.data.splits.decision_days`.
        sampler: draws days and stocks, see :class:`atft.data.sampler.BlockSampler`.
    """

    build: Callable[..., Any] = build.build
    graph: Callable[..., TrailingGraph] = graphs.trailing_graph
    cached_graph: Callable[..., TrailingGraph | None] = graphs.cached_graph
    labels: Callable[..., npt.NDArray[np.float64]] = labels.forward_returns
    scorable: Callable[..., npt.NDArray[np.bool_]] = gather.scorable_days
    periods: Callable[..., splits.Periods] = splits.decision_days
    sampler: Callable[..., Any] = sampler.BlockSampler


def another_future(panel: Panel, day: int, seed: int) -> Panel:
    """The panel with other closes, lost rows and lost stocks after day number ``day``."""
    random = np.random.default_rng([seed, day])
    close = np.array(panel.close)
    later = close[day + 1 :]
    later *= np.exp(random.normal(0, 0.2, later.shape))
    later[random.random(later.shape) < 0.1] = np.nan
    later[:, random.random(close.shape[1]) < 0.1] = np.nan
    return replace(panel, close=close, present=np.isfinite(close))


def truncated(panel: Panel, day: int) -> Panel:
    """The panel as it was at the close of day number ``day``; its features are not cut."""
    until = slice(0, day + 1)
    return replace(panel, days=panel.days[until], close=panel.close[until], present=panel.present[until])


def findings(panel: Panel, tier: Tier, days: Sequence[int], parts: Parts, seed: int) -> Iterator[Finding]:
    """Graph, masks, stock samples, labels and periods, one row each.

    Args:
        panel: the data.
        tier: graph, window, label and split that are used.
        days: numbers of the days after which the future is changed.
        parts: the data path.
        seed: of the other futures.
    """
    yield _graph(panel, tier, days, parts, seed)
    yield _cached(panel, tier, parts, seed)
    yield _masks(panel, tier, days, parts, seed)
    yield _samples(panel, tier, days, parts, seed)
    yield _labels(panel, tier, parts, seed)
    yield _periods(panel, tier, parts)


def _graph(panel: Panel, tier: Tier, days: Sequence[int], parts: Parts, seed: int) -> Finding:
    check = "graph rebuilt"
    linked = 0
    for day in days:
        span = range(max(0, day - 1), day + 1)
        plain = parts.graph(panel, tier.graph, days=span)
        linked += int((plain.index[span.start : span.stop] >= 0).sum())
        for how, other in (("another market", another_future(panel, day, seed)), ("gone", truncated(panel, day))):
            made = parts.graph(other, tier.graph, days=span)
            place = _first_difference(plain, made, span)
            if place is not None:
                at, stock = place
                return leak(
                    check,
                    "graph",
                    f"the neighbours of {panel.codes[stock]!r} on {panel.days[at]} change when "
                    f"what follows {panel.days[day]} is {how}",
                    DEFECT,
                )
    if not linked:
        return not_checked(
            check,
            "proof",
            f"no stock has a neighbour on {_told(panel, days)}: graph.lookback_days = {tier.graph.lookback_days}",
        )
    return clean(check, "proof", f"{linked:,} edges around {_told(panel, days)} do not change with what follows")


def _first_difference(one: TrailingGraph, other: TrailingGraph, span: range) -> tuple[int, int] | None:
    at = slice(span.start, span.stop)
    wrong = ((one.index[at] != other.index[at]) | (one.correlation[at] != other.correlation[at])).any(-1)
    if not wrong.any():
        return None
    day, stock = np.argwhere(wrong)[0]
    return span.start + int(day), int(stock)


def _cached(panel: Panel, tier: Tier, parts: Parts, seed: int) -> Finding:
    check = "graph in the panel"
    found = parts.cached_graph(panel, tier.graph)
    if found is None:
        return not_checked(check, "proof", f"the panel holds no graph of tier {tier.name} yet: training makes it")
    days = np.sort(np.random.default_rng(seed).choice(len(panel.days), min(8, len(panel.days)), replace=False))
    for day in map(int, days):
        place = _first_difference(
            found, parts.graph(truncated(panel, day), tier.graph, days=range(day, day + 1)), range(day, day + 1)
        )
        if place is not None:
            return leak(
                check,
                "graph",
                f"the neighbours of {panel.codes[place[1]]!r} on {panel.days[day]} in "
                f"{panel.path / 'graphs'} are not those of the closes up to that day",
                "remove the panel's folder graphs: training makes it again",
            )
    return clean(check, "proof", f"the stored graph of tier {tier.name} is that of trailing closes on {len(days)} days")


def _masks(panel: Panel, tier: Tier, days: Sequence[int], parts: Parts, seed: int) -> Finding:
    check = "masks rebuilt"
    plain = parts.scorable(np.asarray(panel.present), tier.window)
    for day in days:
        made = parts.scorable(another_future(panel, day, seed).present, tier.window)
        wrong = plain[: day + 1] != made[: day + 1]
        if wrong.any():
            at, stock = np.argwhere(wrong)[0]
            return leak(
                check,
                "universe",
                f"whether {panel.codes[stock]!r} can be scored on {panel.days[at]} changes with "
                f"what follows {panel.days[day]}",
                DEFECT,
            )
    return clean(
        check, "proof", f"{int(plain.sum()):,} stock-days can be scored; none up to {_told(panel, days)} changes"
    )


def _samples(panel: Panel, tier: Tier, days: Sequence[int], parts: Parts, seed: int) -> Finding:
    check, day = "stock samples", days[len(days) // 2]
    size = max(2, min(tier.batch.stocks_per_day, len(panel.codes) // 3))
    batch = tier.batch.model_copy(update={"days": 8, "block_days": 2, "stocks_per_day": size})
    span = range(max(0, day - 13), min(len(panel.days), day + 11))
    sides = [
        (parts.graph(side, tier.graph, days=span), parts.scorable(np.asarray(side.present), tier.window))
        for side in (panel, another_future(panel, day, seed))
    ]
    (graph, scorable), (other, later) = sides
    past = slice(0, day + 1)  # what is before is the same, so that only the sampler itself can make a difference
    other.index[past], other.correlation[past], later[past] = graph.index[past], graph.correlation[past], scorable[past]
    days_drawn = np.arange(span.start, span.stop)
    try:
        made = [parts.sampler(days_drawn, *side, batch, tier.seed) for side in sides]
    except UseError as error:
        return not_checked(check, "proof", f"the panel is too short: {error}")
    blocks = 0
    for step in range(PLANS):
        plan, again = (each.plan(step) for each in made)
        told = plan.first_days <= day
        blocks += int(told.sum())
        same = np.array_equal(plan.first_days, again.first_days)
        if not (same and np.array_equal(plan.stocks[told], again.stocks[told])):
            return leak(
                check,
                "sampler",
                f"days or stocks of the plan of step {step} change with what follows {panel.days[day]}",
                DEFECT,
            )
    return clean(check, "proof", f"{blocks} blocks of {PLANS} plans up to {panel.days[day]} do not change")


def _labels(panel: Panel, tier: Tier, parts: Parts, seed: int) -> Finding:
    """Every label against the closes themselves, by plain arithmetic on single values."""
    check, lag, close = "labels recomputed", tier.label.execution_lag, panel.close
    if tier.label.own:
        return not_checked(check, "proof", "the tier takes the panel's own label, which nothing here can compute")
    random = np.random.default_rng(seed)
    count = 0
    for horizon in sorted({tier.label.horizon, *tier.label.quantile_horizons}):
        made = parts.labels(np.asarray(close), horizon, lag)
        rows = random.integers(0, len(close), LABELS_CHECKED)
        for day, stock in zip(rows.tolist(), random.integers(0, close.shape[1], LABELS_CHECKED).tolist()):
            begin, end = day + lag, day + lag + horizon
            expected = float(close[end, stock]) / float(close[begin, stock]) - 1 if end < len(close) else float("nan")
            found = float(made[day, stock])
            if not (found == expected or (found != found and expected != expected)):
                return leak(
                    check,
                    "label",
                    f"the label of {panel.codes[stock]!r} on {panel.days[day]} is {found:.6g}, and "
                    f"{expected:.6g} from close t+{lag} to t+{lag + horizon}",
                    DEFECT,
                )
            count += found == found
    if not count:
        return not_checked(check, "proof", f"no label is known at horizon {tier.label.horizon} and lag {lag}")
    return clean(check, "proof", f"{count:,} labels are the return of their own interval, from t+{lag} on")


def _overlapping(earlier: Days, later: Days, span: int) -> int | None:
    """A decision of ``earlier`` whose label of ``span`` days shares one with that of a later decision."""
    place = np.searchsorted(later, earlier)
    far = len(later) and int(max(earlier.max(), later.max())) + 2 * span
    padded = np.concatenate([[-far], later, [far]])
    near = np.minimum(padded[place + 1] - earlier, earlier - padded[place])
    return int(earlier[near.argmin()]) if len(earlier) and near.min() < span else None


def _periods(panel: Panel, tier: Tier, parts: Parts) -> Finding:
    check, label = "periods", tier.label
    try:
        reach = input_reach(tier, panel.manifest.features, panel.manifest.longest_span)
        told = (reach,) if isinstance(tier.split, Combinatorial) else ()
        periods = parts.periods(panel.days, tier.split, tier.label, *told)
    except UseError as error:
        return not_checked(check, "proof", f"the split of tier {tier.name} does not fit the calendar: {error}")
    for name, earlier, later in (
        ("train", periods.train, periods.validate),
        ("train", periods.train, periods.test),
        ("validate", periods.validate, periods.test),
    ):
        day = _overlapping(earlier, later, label.longest - label.execution_lag)
        if day is not None:
            return leak(
                check,
                "split",
                f"the label of the decision of {name} on {panel.days[day]} spans days that a label judged later spans",
                "purge the decisions whose label reaches into the next period",
            )
    return clean(
        check,
        "proof",
        f"label intervals of {len(periods.train)} training, {len(periods.validate)} validation and "
        f"{len(periods.test)} test days do not overlap",
    )


def _told(panel: Panel, days: Sequence[int]) -> str:
    return ", ".join(str(panel.days[day]) for day in days)
