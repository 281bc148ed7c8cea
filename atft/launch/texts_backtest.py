"""What ``atft backtest`` says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from atft.evaluate.backtest import Backtest, Part
from atft.evaluate.metrics import Interval
from atft.experiment.backtests import Setting

NAME, DASH = 16, "–"


def of(found: Sequence[Backtest], setting: Setting, *, detailed: bool, mixed_money: str = "") -> str:
    """All backtests in a table, those of one strategy in detail.

    Args:
        found: the backtests.
        setting: that they were made by.
        detailed: tell each of them in detail.
        mixed_money: why there is no capacity, where money of different stocks cannot be compared.
    """
    lines = [*_heading(found[0], setting), "", *_table(found, len(setting.costs))]
    if detailed:
        for each in found[:: len(setting.costs)]:
            lines += ["", *_detail(each, mixed_money)]
    return "\n".join(lines)


def _heading(first: Backtest, setting: Setting) -> Iterator[str]:
    rules, costs = first.rules, first.costs
    days = f"{len(first.dates)} decisions" + (f", each held {rules.horizon} days" if rules.horizon > 1 else "")
    yield f"test period {first.dates[0]}..{first.dates[-1]}, {days}"
    told = [f"close: {_when(rules.lag)}", "open: the next"]
    if setting.neutral.by:
        what = "positions" if setting.neutral.positions else "scores"
        told.append(f"{what} neutral to {', '.join(setting.neutral.by)}")
    if costs.impact:
        told.append(f"impact {costs.impact:g} × σ √(trade / traded money) at a capital of {costs.capital:,.0f}")
    if costs.borrow_bps:
        told.append(f"loans of stocks {costs.borrow_bps:g} bp a year")
    yield "; ".join(told + ([] if setting.drift else ["weights do not drift"]))


def _when(lag: int) -> str:
    return "the one that decides" if lag == 0 else f"{lag} day{'s' if lag > 1 else ''} after the decision"


def _table(found: Sequence[Backtest], costs: int) -> Iterator[str]:
    rows = [found[first : first + costs] for first in range(0, len(found), costs)]
    nets = "".join(f"{f'at {each.costs.bps:g} bp':>12}" for each in rows[0])
    yield f"{'Sharpe a year':{NAME}} {'':6} {'gross':>7} {'95 % interval':>18} {nets} {'turnover':>9} {'drawdown':>9}"
    for row in rows:
        one = row[0]
        sharpes = "".join(f"{_number(each.sharpe_net.estimate):>12}" for each in row)
        yield (
            f"{one.strategy.label:{NAME}} {one.rules.at:6} {_number(one.sharpe.estimate):>7} {_span(one.sharpe):>18} "
            f"{sharpes} {_number(_mean(one)):>9} {_percent(one.drawdown.depth):>9}"
        )
        if one.excess:
            over = "".join(f"{_number(each.excess.estimate if each.excess else None):>12}" for each in row)
            yield f"{'  over the market':{NAME}} {'':5} {'':7} {'':18} {over}"


def _detail(found: Backtest, mixed_money: str) -> Iterator[str]:
    yield f"{found.strategy.label}, {found.rules.at}, at {found.costs.bps:g} bp"
    for name, side in (("long side", found.long), ("short side", found.short)):
        if side:
            yield f"  {name:20} {1e4 * side.mean_return:8.2f} bp a day, Sharpe {_number(side.sharpe.estimate)}"
    yield f"  {'mean return':20} {1e4 * found.gross.mean():8.2f} bp a day, {1e4 * found.net.mean():.2f} after cost"
    if found.costs.impact:
        yield f"  {'market impact':20} {1e4 * found.impact:8.2f} bp a day"
    fall = found.drawdown_net
    if fall.trough is not None:
        back = f"recovered {fall.recovered}" if fall.recovered is not None else "not recovered"
        began = fall.peak if fall.peak is not None else "the start"
        yield f"  {'drawdown after cost':20} {_percent(fall.depth):>8} from {began} to {fall.trough}, {back}"
    trades = found.trades
    yield (
        f"  {'not as planned':20} {trades.blocked:,} stock-days not tradable, {trades.stale:,} exits at an older "
        f"price, {trades.delisted:,} positions in stocks that left; |Σw| at most {found.net_exposure:.3f}"
    )
    if mixed_money:
        yield f"  {'capacity':20} not told: {mixed_money}"
    yield from _capacity(found)
    kind = None
    yield (
        f"  {'':20} {'days':>5} {'Sharpe net':>11} {'95 % interval':>18} {'gross':>8} {'IC':>8} {'turnover':>9} "
        f"{'drawdown':>9}"
    )
    for part in found.parts:
        if part.kind != kind and kind is not None:
            yield ""
        kind = part.kind
        yield _part(part)
    yield ""
    yield "  returns by month, after cost"
    for month, _, net in found.months():
        yield f"  {month:20} {_percent(net):>8}"


def _capacity(found: Backtest) -> Iterator[str]:
    bears = found.capacity
    if not bears:
        return
    if math.isnan(bears.half):
        yield f"  {'capacity':20} none: the other costs leave nothing that impact could take"
    else:
        yield (
            f"  {'capacity':20} impact takes half of the net return at {_money(bears.half)}, all of it at "
            f"{_money(bears.all)} (coefficient {bears.coefficient:g})"
        )
    yield (
        f"  {'participation':20} {100 * (1 - bears.share):.0f} % of the value traded stays below "
        f"{100 * bears.participation:g} % of traded money up to a capital of {_money(bears.at_participation)}"
    )


def _part(part: Part) -> str:
    name = part.name if part.kind in ("year", "quarter") else f"{part.kind} {part.name}"
    return (
        f"  {name:20} {part.days:5} {_number(part.sharpe_net.estimate):>11} {_span(part.sharpe_net):>18} "
        f"{_number(part.sharpe.estimate):>8} {_number(part.ic.estimate, 4):>8} {_number(part.turnover):>9} "
        f"{_percent(part.max_drawdown_net):>9}"
    )


def _mean(found: Backtest) -> float:
    return float(found.turnover.mean()) if len(found.turnover) else math.nan


def _number(value: float | None, digits: int = 2) -> str:
    return DASH if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return DASH if math.isnan(value) else f"{100 * value:.1f} %"


def _money(value: float) -> str:
    return DASH if math.isnan(value) else "any capital" if math.isinf(value) else f"{value:,.0f}"


def _span(interval: Interval) -> str:
    return f"{_number(interval.low)} .. {_number(interval.high)}"
