"""What the command line says when something is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from atft.errors import UseError
from atft.evaluate.result import Baseline, Result, Statistics
from atft.evaluate.result_inference import Estimate, Inference
from atft.report.verdict import verdict

M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], options: Mapping[str, Any]) -> M:
    """``options`` as ``model``.

    Raises:
        UseError: all that is wrong with them.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        told = [
            f"--{'.'.join(map(str, each['loc'])).replace('_', '-')} = {each['input']!r}: "
            + each["msg"].removeprefix("Value error, ")
            for each in error.errors()
        ]
        raise UseError("; ".join(told) + ".") from None


def of_market(truth: Mapping[str, Any]) -> str:
    """What a synthetic market holds and what can be reached on it."""
    options, reach = truth["options"], truth["reachable"]
    return (
        f"synthetic market of {options['stocks']} stocks × {options['days']} days, planted IC {options['ic']:g}\n"
        f"best reachable: IC {reach['ic']:.4f}; held in proportion to the true signal, Sharpe "
        f"{reach['sharpe_annual']:.1f} a year ({reach['sharpe_daily']:.3f} a day)\n"
        f"a ridge on today's features reaches IC {reach['ridge_ic']:.4f}"
    )


def of_panel(report: Mapping[str, Any]) -> str:
    """What a panel holds, and what was repaired or dropped on the way."""
    lines = [
        f"panel {report['panel']}: {report['days']:,} days {report['first_day']}..{report['last_day']} × "
        f"{report['stocks']:,} stocks × {report['features']} features, in {report['seconds']:.0f} s"
    ]
    lines += [f"  {count:>9,}  {reason}" for reason, count in report["counts"].items()]
    return "\n".join(lines)


def of_baselines(found: Mapping[str, Baseline], dates: npt.NDArray[np.datetime64]) -> str:
    """The baselines' figures in columns."""
    return "\n".join([f"test period {dates[0]}..{dates[-1]}, {len(dates)} label days", *_table(found)])


def of_result(found: Result, places: Mapping[str, str]) -> str:
    """The verdict, the figures, how sure they are, and where to find the rest."""
    rows = {
        f"model ({found.tier})": found.test,
        **{name: getattr(found.baselines, name) for name in type(found.baselines).model_fields},
    }
    verdicts = [
        f"  {sentence}"
        for sentence in verdict(found.model_dump(mode="json"), [each.note for each in found.divergences])
    ]
    where = [f"{name}: {places[name]}" for name in ("result", "report")]
    return "\n".join(["", *verdicts, "", *_table(rows), "", *_sure(found.test.inference), *where])


def _sure(found: Inference | None) -> list[str]:
    """Intervals beside Lo's, and the paired tests, in columns; nothing for a result without them."""
    if found is None:
        return []
    lines = [f"{'':28} {'estimate':>9} {'95 % interval':>18}"]
    named = (("Sharpe/year, bootstrap", found.sharpe_annual_bootstrap), ("ICIR", found.icir),
             ("rank ICIR", found.rank_icir))  # fmt: skip
    lines += [f"{name:28} {_text(each.estimate, 2):>9} {_span(each):>18}" for name, each in named]
    lines += ["", f"{'Sharpe/year, model less':28} {'estimate':>9} {'95 % interval':>18} {'p':>7} {'p (Holm)':>9}"]
    lines += [
        f"  {name.replace('_', ' '):26} {_text(each.sharpe_annual.estimate, 2):>9} {_span(each.sharpe_annual):>18} "
        f"{_text(each.p_value, 4):>7} {_text(each.p_value_holm, 4):>9}"
        for name, each in found.against.items()
    ]
    return [*lines, ""]


def _span(found: Estimate) -> str:
    return f"{_text(found.low, 2)} .. {_text(found.high, 2)}"


def _table(rows: Mapping[str, Statistics]) -> list[str]:
    lines = [
        f"{'':20} {'IC':>8} {'ICIR':>7} {'rank IC':>8} {'Sharpe/year':>12} "
        f"{'95 % interval':>18} {'net':>8} {'turnover':>9}"
    ]
    for name, each in rows.items():
        low, high = each.sharpe_annual_ci95 or (None, None)
        interval = f"{_text(low, 2)} .. {_text(high, 2)}"
        lines.append(
            f"{name.replace('_', ' '):20} {_text(each.ic, 4):>8} {_text(each.icir, 3):>7} {_text(each.rank_ic, 4):>8} "
            f"{_text(each.sharpe_annual, 2):>12} {interval:>18} "
            f"{_text(each.sharpe_net_annual, 2):>8} {_text(each.turnover, 2):>9}"
        )
    return lines


def _text(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
