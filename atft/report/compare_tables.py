"""The tables of a comparison, as text ready to be set on the screen, in Markdown or on a page."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atft.config import Tier, flat
from atft.report.charts import phase_name
from atft.report.tables import DASH, clock, show

Told = Mapping[str, Any]

WIDTH = 120
"""Characters of a line of text on the screen."""
TEST_ROWS = (
    ("sharpe_annual", "Test Sharpe, a year", 2),
    ("sharpe_net_annual", "after costs", 2),
    ("ic", "Test IC", 4),
    ("rank_ic", "Test rank IC", 4),
    ("pooled_sharpe", "Test Sharpe, a stock-day (pooled)", 4),
    ("turnover", "Turnover a day", 2),
)
PHASE_ROWS = (
    ("epochs", "Epochs", 0),
    ("best_sharpe", "Best validation Sharpe", 3),
    ("final_sharpe", "Final validation Sharpe", 3),
    ("kept_sharpe", "Kept validation Sharpe", 3),
    ("best_loss", "Best validation loss", 4),
    ("final_loss", "Final validation loss", 4),
    ("final_train_loss", "Final training loss", 4),
    ("best_ic", "Best validation IC", 4),
    ("final_ic", "Final validation IC", 4),
)
BATCH_COLUMNS = ("count", "mean", "std", "min", "max", "range", "expected_std", "ratio", "expected_range")
RANGE_NOTE = (
    "The range grows with the number of batches: 20 draws of one normal distribution span 3.7 of its deviations, 200 "
    "span 5.5. Two ranges say nothing unless both counts and both expected deviations are beside them. Hold the ratio "
    "of observed to expected deviation against 1: what is above it is learning within the phase, or days that differ "
    "more than the sample explains. Expected: what the draw of its days does to the Sharpe ratio of one batch."
)
SEEDS_NOTE = "Of several seeds, each figure is their mean ± the standard deviation over them."
BEST_NOTE = (
    "Best: the best of the phase's epochs, which is higher the more epochs there are and the noisier they are; final: "
    "its last epoch; kept: the epoch whose weights went on. Sharpe ratios of the validation period are per day."
)


@dataclass(frozen=True)
class Table:
    """A table of text: its head and rows begin with the name of the row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class _Stated:
    """A setting that is always told: its path where one setting is all of it, its name, and how it is told."""

    path: str
    name: str
    told: Callable[[Tier], object]
    learned: bool = True


def _batch(tier: Tier) -> str:
    return f"{tier.batch.samples:,} = {tier.batch.days} days × {tier.batch.stocks_per_day} stocks"


def _rates(tier: Tier) -> str:
    return ", ".join(f"{rate:.1e}" for rate in dict.fromkeys(phase.learning_rate for phase in tier.phases.values()))


_STATED = (
    _Stated("batch.days", "effective batch, stock-days", _batch),
    _Stated("model.hidden_size", "hidden size", lambda tier: tier.model.hidden_size),
    _Stated("objective.weights.sharpe", "weight of Sharpe", lambda tier: tier.objective.weights.sharpe),
    _Stated("objective.weights.rank_ic", "weight of rank IC", lambda tier: tier.objective.weights.rank_ic),
    _Stated("objective.weights.cs_ic", "weight of cross-sectional IC", lambda tier: tier.objective.weights.cs_ic),
    _Stated("", "epochs", lambda tier: sum(phase.epochs for phase in tier.phases_to_run().values())),
    _Stated("", "learning rate", _rates),
    _Stated("precision", "precision asked", lambda tier: tier.precision),
    _Stated("", "mode", lambda tier: tier.mode, False),
    _Stated("", "loader workers", lambda tier: tier.runtime.loader_workers, False),
)
"""The parameters that the original experiment's analysis compared."""


def setting_rows(tiers: Sequence[Tier]) -> list[dict[str, Any]]:
    """The parameters of the original experiment's table, and all others that learning depends on and that differ."""
    rows: list[dict[str, Any]] = [
        {"name": each.name, "values": [str(each.told(tier)) for tier in tiers], "learned": each.learned}
        for each in _STATED
    ]
    told = {each.path for each in _STATED} | {"seed"}
    stated = [{path: _shown(value) for path, value in flat(tier.learning())} for tier in tiers]
    for path in dict.fromkeys(path for each in stated for path in each):
        values = [each.get(path, DASH) for each in stated]
        if len(set(values)) > 1 and path not in told:
            rows.append({"name": path, "values": values, "learned": True})
    return [{**row, "differs": len(set(row["values"])) > 1} for row in rows]


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def over_seeds(found: Told | None, digits: int) -> str:
    """A figure over seeds: its mean, with the deviation where there are several."""
    if not found:
        return DASH
    told = f"{found['mean']:,.{digits}f}"
    return told if found["deviation"] is None or not digits else f"{told} ± {found['deviation']:,.{digits}f}"


def interval(found: Told | None, digits: int = 2) -> str:
    """The interval of an estimate."""
    if not found or found.get("low") is None or found.get("high") is None:
        return DASH
    return f"{found['low']:.{digits}f} to {found['high']:.{digits}f}"


def difference(found: Told | None, digits: int = 2) -> str:
    """A difference with half of its interval."""
    if not found or found.get("estimate") is None:
        return DASH
    told = f"{found['estimate']:+.{digits}f}"
    return told if found.get("high") is None else f"{told} ± {found['high'] - found['estimate']:.{digits}f}"


def results(report: Told) -> Table:
    """What each configuration came to; of two, also the change."""
    held = report["configurations"]
    two = len(held) == 2
    tests = report["comparisons"][0]["tests"] if two else {}
    rows = []
    for name, words, digits in TEST_ROWS:
        rows.append(
            [words, *(over_seeds(each["test"][name], digits) for each in held), difference(tests.get(name), digits)]
        )
        if name == "sharpe_annual":
            rows.append(["its 95 % interval", *(interval(each["sharpe_annual_interval"]) for each in held), ""])
    rows.append(["Best validation Sharpe, a day", *(_best(each, "sharpe", max) for each in held), ""])
    rows.append(["Best validation loss", *(_best(each, "loss", min) for each in held), ""])
    rows.append(["Run time", *(_time(each["cost"]["seconds"]) for each in held), _factor(held, "cost", "seconds")])
    for name, words in (("steps", "Optimizer steps"), ("samples", "Stock-days trained on"), ("epochs", "Epochs")):
        rows.append([words, *(over_seeds(each[name], 0) for each in held), _factor(held, name)])
    parameters = [each["parameters"] for each in held]
    change = _times(parameters) if two else ""
    rows.append(["Parameters, counted", *(show(each, 0) for each in parameters), change])
    rows.append(["Precision in effect", *(", ".join(each["precision"]) or DASH for each in held), ""])
    rows.append(["Seeds", *(", ".join(map(str, each["seeds"])) for each in held), ""])
    head = ["", *(each["name"] for each in held), f"less {report['baseline']}"]
    if not two:
        head, rows = head[:-1], [row[:-1] for row in rows]
    return Table("Final results", head, rows, SEEDS_NOTE)


def _best(told: Told, name: str, better: Any) -> str:
    known = {phase: each.get(f"best_{name}") for phase, each in told["phases"].items()}
    values = {phase: each["mean"] for phase, each in known.items() if each}
    if not values:
        return DASH
    phase = better(values, key=values.__getitem__)
    return f"{over_seeds(known[phase], 3 if name == 'sharpe' else 4)} ({phase_name(phase)})"


def _time(found: Told | None) -> str:
    return DASH if not found else clock(found["mean"])


def _factor(held: Sequence[Told], *path: str) -> str:
    values = []
    for each in held:
        found: Any = each
        for name in path:
            found = found[name]
        values.append(found["mean"] if found else None)
    return _times(values)


def _times(values: Sequence[float | None]) -> str:
    """How many times the first value the second is; empty where that cannot be told."""
    first, second = values if len(values) == 2 else (None, None)
    return f"× {second / first:.2f}" if first and second else ""


def settings(report: Told) -> Table:
    """Settings side by side: which differ, and whether learning depends on them."""
    rows = [[row["name"], *row["values"], _difference_words(row)] for row in report["settings"]]
    notes = " ".join(f"{each['first']} against {each['second']}: {each['causality']}" for each in report["comparisons"])
    return Table("Configuration differences", ["", *_names(report), ""], rows, notes)


def _difference_words(row: Told) -> str:
    if not row["differs"]:
        return "same"
    return "differs, learning" if row["learned"] else "differs, runtime only"


def _names(report: Told) -> list[str]:
    return [each["name"] for each in report["configurations"]]


def differences(report: Told, key: str) -> Table:
    """The differences with their intervals, a row each."""
    words = {"sharpe_annual": ("Sharpe, a year", 2), "sharpe_net_annual": ("after costs", 2), "ic": ("IC", 4)}
    rows = []
    for each in report[key]:
        for name, found in each["tests"].items():
            one, two = found["seeds"]
            seeds = f"{one}, {'paired' if found['paired_seeds'] else 'each'}" if one == two else f"{one} and {two}"
            rows.append([
                f"{each['first']} less {each['second']}: {words[name][0]}",
                difference(found, words[name][1]), interval(found, words[name][1]),
                show(found["p_value"], 4), show(found["p_value_holm"], 4), seeds, str(found["days"]),
                show(found["days_error"], words[name][1]), show(found["seeds_error"], words[name][1]),
            ])  # fmt: skip
    title = "Differences, paired by day" if key == "comparisons" else "All pairs"
    head = ["", "difference", "95 % interval", "p", "p (Holm)", "seeds", "days", "error: days", "error: seeds"]
    methods = list(dict.fromkeys(found["method"] for each in report[key] for found in each["tests"].values()))
    note = (
        "The verdict is about the annual Sharpe ratio; the other rows are for reading. Error: standard error of the "
        "difference that days, and the spread over seeds, give by themselves; seeds share their days, so that seeds × "
        f"days are not as many observations. Method of the first row: {methods[0]}."
    )
    return Table(title, head, rows, note)


def phases(report: Told) -> list[Table]:
    """One table for each phase."""
    held = report["configurations"]
    found = []
    for number, name in enumerate(phase_names(report)):
        rows = [
            [words, *(over_seeds(each["phases"].get(name, {}).get(key), digits) for each in held)]
            for key, words, digits in PHASE_ROWS
        ]
        rows.append(["Time", *(_time(each["phases"].get(name, {}).get("seconds")) for each in held)])
        found.append(Table(f"Phase {number}: {phase_name(name)}", ["", *_names(report)], rows))
    return found


def phase_names(report: Told) -> list[str]:
    """The phases of all configurations, in order."""
    return list(dict.fromkeys(name for each in report["configurations"] for name in each["phases"]))


def progression(report: Told) -> Table:
    """All phases in one table, for a screen: best and final validation Sharpe, loss and IC of each configuration."""
    rows = []
    for name in phase_names(report):
        for each in report["configurations"]:
            held = each["phases"].get(name)
            if held:
                cells = [over_seeds(held.get(key), digits) for key, _, digits in PHASE_ROWS if key != "kept_sharpe"]
                rows.append([f"{phase_name(name)}, {each['name']}", *cells, _time(held.get("seconds"))])
    head = [
        "",
        "epochs",
        "best Sharpe",
        "final Sharpe",
        "best loss",
        "final loss",
        "train loss",
        "best IC",
        "final IC",
        "time",
    ]
    return Table("Phase by phase, on the validation period", head, rows, BEST_NOTE)


def batches(report: Told) -> Table:
    """The distribution of the batch Sharpe ratio, by phase."""
    rows = []
    for name in phase_names(report):
        for each in report["configurations"]:
            held = each["phases"].get(name, {}).get("batch_sharpe")
            if held:
                rows.append([f"{phase_name(name)}, {each['name']}", *(_batch_cell(held, key) for key in BATCH_COLUMNS)])
    head = ["", "batches", "mean", "sd", "min", "max", "range", "expected sd", "sd / expected", "range of noise alone"]
    several = (
        " " + "Of several seeds: means over them." if any(len(c["seeds"]) > 1 for c in report["configurations"]) else ""
    )
    return Table("Batch Sharpe", head, rows, RANGE_NOTE + several)


def _batch_cell(held: Told, key: str) -> str:
    found = held.get(key)
    if not found:
        return DASH
    if key == "ratio" and held.get("ratio_error"):
        return f"{found['mean']:.2f} ± {held['ratio_error']['mean']:.2f}"
    return f"{found['mean']:,.{0 if key == 'count' else 3}f}"


def costs(report: Told) -> Table:
    """Time, throughput, and what it cost."""
    rows = []
    for each in report["configurations"]:
        cost = each["cost"]
        device = ", ".join(each["devices"]) or DASH
        workers = "–".join(map(str, [*each["workers"][:1], *each["workers"][1:][-1:]])) or DASH
        rows.append([
            each["name"], f"{workers} × {device}", ", ".join(map(str, each["threads"])) or DASH, _time(cost["seconds"]),
            over_seeds(cost["worker_hours"], 3), _rounded(cost["stock_days_per_second"]),
            *([over_seeds(cost["money"], 2)] if any(c["cost"]["money"] for c in report["configurations"]) else []),
        ])  # fmt: skip
    head = ["", "workers", "threads", "run time", "worker-hours", "stock-days/s"]
    head += ["money"] if rows and len(rows[0]) > len(head) else []
    note = "A run. Worker-hours: workers × time, of CPUs or GPUs as said; stock-days/s: within optimizer steps."
    return Table("Time and cost", head, rows, note)


def _rounded(found: Told | None) -> str:
    return DASH if not found else f"{found['mean']:,.0f}"


def all_of(report: Told) -> list[Table]:
    """Every table of a page, in order."""
    found = [results(report), settings(report)]
    found += [differences(report, "comparisons")] if any(each["tests"] for each in report["comparisons"]) else []
    found += [differences(report, "pairs")] if report["pairs"] else []
    return [*found, *phases(report), batches(report), costs(report)]


def text(report: Told) -> str:
    """For the screen."""
    held = [results(report), settings(report)]
    held += [differences(report, "comparisons")] if any(each["tests"] for each in report["comparisons"]) else []
    held += [differences(report, "pairs")] if report["pairs"] else []
    held += [progression(report), batches(report), costs(report)]
    lines = [part for sentence in report["verdict"] for part in textwrap.wrap(sentence, WIDTH, subsequent_indent="  ")]
    for each in held:
        lines += ["", *_columns(each)]
    return "\n".join([*lines, *([f"written: {report['out']}"] if report.get("out") else [])])


def _columns(table: Table) -> Iterator[str]:
    cells = [list(table.head), *map(list, table.rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(table.head))]
    yield table.title
    for row in cells:
        told = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        yield ("  " + "  ".join(told)).rstrip()
    yield from textwrap.wrap(table.note, WIDTH, initial_indent="  ", subsequent_indent="  ")


def markdown(report: Told) -> str:
    """A whole file: the verdict, then the tables of the original experiment's analysis."""
    lines = [f"# {' against '.join(reversed(_names(report)))}", "", *(f"- {each}" for each in report["verdict"])]
    headed = False
    for table in all_of(report):
        if table.title.startswith("Phase ") and not headed:
            lines, headed = [*lines, "", "## Training, phase by phase", "", BEST_NOTE], True
        level = "###" if table.title.startswith("Phase ") else "##"
        lines += ["", f"{level} {table.title}", "", *_markdown_rows(table)]
        lines += ["", table.note] if table.note else []
    return "\n".join(lines) + "\n"


def _markdown_rows(table: Table) -> Iterator[str]:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    yield row(table.head)
    yield row(["---", *["---:"] * (len(table.head) - 1)])
    yield from (row(each) for each in table.rows)
