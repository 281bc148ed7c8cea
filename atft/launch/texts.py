"""What the command line says when something is done."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from atft.errors import UseError
from atft.evaluate.result import Result, Statistics, Test
from atft.evaluate.result_inference import Estimate, Inference
from atft.evaluate.summary import TRADING_DAYS
from atft.experiment.runs import Run
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


def baseline_row(name: str, found: Sequence[tuple[Run, Result]]) -> dict[str, Any]:
    """The figures of a baseline's runs, one for each seed: means over the seeds, and their spread where there are some.

    Intervals, Sharpe ratios and errors are of a year; of several seeds, the error is the mean of theirs.
    """
    tests = [each.test for _, each in found]
    year = TRADING_DAYS**0.5

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    def spread(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.stdev(known) if len(known) > 1 else None

    errors = [None if each.sharpe_standard_error is None else each.sharpe_standard_error * year for each in tests]
    first = found[0][1]
    return {
        "name": name,
        "runs": [str(run.path) for run, _ in found],
        "seeds": [each.seed for _, each in found],
        "ic": mean([each.ic for each in tests]),
        "ic_spread": spread([each.ic for each in tests]),
        "rank_ic": mean([each.rank_ic for each in tests]),
        "sharpe_annual": mean([each.sharpe_annual for each in tests]),
        "sharpe_annual_error": mean(errors),
        "sharpe_annual_spread": spread([each.sharpe_annual for each in tests]),
        "sharpe_net_annual": mean([each.sharpe_net_annual for each in tests]),
        "turnover": mean([each.turnover for each in tests]),
        "parameters": first.parameters,
        "seconds": mean([each.runtime_seconds for _, each in found]),
        "settings": dict(first.baseline.settings) if first.baseline else {},
    }


def of_baselines(rows: Mapping[str, Mapping[str, Any]], test: Test) -> str:
    """The baselines' figures in columns."""
    lines = [
        f"test period {test.first_date}..{test.last_date}, {test.days} label days",
        f"{'':14} {'IC':>8} {'± seeds':>8} {'rank IC':>8} {'Sharpe/year':>12} {'± error':>8} {'± seeds':>8} {'net':>7} "
        f"{'turnover':>9} {'parameters':>11} {'seconds':>8}",
    ]
    for name, row in rows.items():
        lines.append(
            f"{name.replace('_', ' '):14} {_text(row['ic'], 4):>8} {_text(row['ic_spread'], 4):>8} "
            f"{_text(row['rank_ic'], 4):>8} {_text(row['sharpe_annual'], 2):>12} "
            f"{_text(row['sharpe_annual_error'], 2):>8} {_text(row['sharpe_annual_spread'], 2):>8} "
            f"{_text(row['sharpe_net_annual'], 2):>7} {_text(row['turnover'], 2):>9} {row['parameters']:>11,} "
            f"{row['seconds']:>8.1f}"
        )
    lines.append("error: standard error over the test days. seeds: standard deviation over the runs' seeds.")
    lines += [f"{name.replace('_', ' ')}: {path}" for name, row in rows.items() for path in row["runs"]]
    return "\n".join(lines)


def of_result(found: Result, places: Mapping[str, str]) -> str:
    """The verdict, the figures, how sure they are, and where to find the rest."""
    rows = {
        f"{found.baseline.name if found.baseline else 'model'} ({found.tier})": found.test,
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
