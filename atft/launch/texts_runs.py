"""What the command line says about runs: rows of the list, and the page of one run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from atft.experiment.listing import Listed, duration
from atft.experiment.run_facts import by_hand_in_words

HEADING = ("run", "state", "tier", "seed", "batch", "hidden", "fold", "Sharpe a year", "IC", "age", "runtime")
RIGHT = frozenset({"seed", "batch", "hidden", "fold", "Sharpe a year", "IC", "age", "runtime"})


def row(run: Listed, now: float) -> dict[str, Any]:
    """A run as ``--json`` lists it."""
    facts, began = run.facts, run.began()
    names = ("tier", "rival", "seed", "mode", "batch", "batch_days", "stocks_per_day", "hidden", "fold", "parameters",
             "sharpe_annual", "sharpe_annual_ci95", "ic", "ic_ci95", "runtime_seconds", "reason")  # fmt: skip
    return {
        "name": run.name,
        "state": run.state,
        "label": run.label,
        "since": run.time.isoformat() if run.time else None,
        "age_seconds": None if began is None else max(0.0, now - began.timestamp()),
        **{name: facts.get(name) for name in names},
    }


def of_list(report: Mapping[str, Any]) -> str:
    """The list of runs as a table, and what is to be known about it."""
    rows = [_cells(each) for each in report["runs"]]
    lines = table([HEADING, *rows]) if rows else ["no runs"]
    if any(each["sharpe_annual_ci95"] for each in report["runs"]):
        lines.append("± half of the 95 % interval; test period, before costs")
    if report["deleted"]:
        lines.append(f"{report['deleted']} deleted not shown (--state deleted)")
    lines += [f"not read: {each}" for each in report["unreadable"]]
    return "\n".join(lines)


def _cells(told: Mapping[str, Any]) -> tuple[str, ...]:
    tier = f"{told['tier']} ({told['rival']})" if told["rival"] else told["tier"]
    batch = None if told["batch"] is None else f"{told['batch']:,}"
    cells = [told["name"], told["label"], tier, told["seed"], batch, told["hidden"], told["fold"]]
    cells += [
        spread(told["sharpe_annual"], told["sharpe_annual_ci95"], 2),
        spread(told["ic"], told["ic_ci95"], 3),
        None if told["age_seconds"] is None else duration(told["age_seconds"]),
        None if told["runtime_seconds"] is None else duration(told["runtime_seconds"]),
    ]
    return tuple("-" if cell is None else str(cell) for cell in cells)


def spread(value: float | None, interval: Sequence[float] | None, digits: int) -> str:
    """A figure and half the width of its interval."""
    if value is None:
        return "-"
    around = f" ± {(interval[1] - interval[0]) / 2:.{digits}f}" if interval else ""
    return f"{value:+.{digits}f}{around}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under the first of them, in columns; numbers to the right."""
    widths = [max(len(each[column]) for each in rows) for column in range(len(rows[0]))]
    right = [name in RIGHT for name in rows[0]]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in zip(each, widths, right)
        ).rstrip()
        for each in rows
    ]


def of_run(report: Mapping[str, Any]) -> str:
    """All about one run."""
    parts = [
        f"{report['run']}: {report['label']}" + (f" since {_when(report['since'])}" if report["since"] else ""),
        *([f"  {report['reason']}"] if report["reason"] else []),
        f"  {report['directory']}" + ("" if report["present"] else " (files not there)"),
        *_settings(report),
        *_again(report),
        *_made_with(report["environment"]),
        *_states(report["history"]),
        *_results(report["facts"]),
        *_files(report["files"]),
    ]
    return "\n".join(parts + ([f"tier file: {report['tier_file']}"] if report.get("tier_file") else []))


def _settings(report: Mapping[str, Any]) -> list[str]:
    facts = report["facts"]
    told = [("tier", facts.get("tier")), ("seed", facts.get("seed")), ("mode", facts.get("mode"))]
    told += [("baseline's run", facts.get("rival")), ("fold", facts.get("fold")), ("hidden size", facts.get("hidden"))]
    lines = ["settings", "  " + ", ".join(f"{name} {value}" for name, value in told if value is not None)]
    if facts.get("batch"):
        days, stocks = facts["batch_days"], facts["stocks_per_day"]
        lines.append(f"  effective batch {facts['batch']:,} = {days} days × {stocks} stocks")
    lines += [f"  {line}" for line in by_hand_in_words(facts)]
    against = differing(report if "differs" in report else facts)
    head = [f"  against its baseline {facts.get('baseline')}"] if against else []
    return [*lines, *head, *(f"    {line}" for line in against)]


def differing(facts: Mapping[str, Any]) -> list[str]:
    """What differs from the baseline, in words."""
    if facts.get("baseline_problem"):
        return [f"baseline cannot be read: {facts['baseline_problem']}"]
    differs = facts.get("differs")
    if differs is None:
        return []
    return [f"{path}: {was} → {now}" for path, (was, now) in differs.items()] or ["as its baseline"]


def _again(report: Mapping[str, Any]) -> list[str]:
    if report["reproduce"] is None:
        return []
    lines = ["to make it again", f"  {report['reproduce']['command']}"]
    lines += [f"  {note}" for note in report["reproduce"]["notes"]]
    return [*lines, f"  The data is now {report['data']['now']}."]


def _made_with(environment: Mapping[str, Any] | None) -> list[str]:
    if not environment:
        return ["environment", "  not recorded"]
    hardware, code = environment["hardware"], environment["code"]
    memory = f", {hardware['memory_bytes'] / 2**30:.0f} GiB" if hardware.get("memory_bytes") else ""
    gpus = f"{', '.join(hardware['gpus'])} (CUDA {hardware['cuda']})" if hardware["gpus"] else "no GPU"
    changed = {True: ", with local changes", None: ", perhaps with local changes"}.get(code["dirty"], "")
    revision = f"commit {code['commit']}{changed}" if code["commit"] else "no checkout"
    packages = "  ".join(f"{name} {version}" for name, version in environment["packages"].items())
    return [
        "environment, of the process that launched it",
        f"  {hardware['cpu']}, {hardware['cores']} cores{memory}; {gpus}; {hardware['system']}",
        f"  atft {code['version']}, {revision}",
        f"  {packages}",
    ]


def _states(history: Sequence[Mapping[str, Any]]) -> list[str]:
    if not history:
        return ["states", "  none recorded: told by its files"]
    lines = []
    for entry in history:
        facts = entry["facts"]
        more = [facts["reason"]] if facts.get("reason") else []
        more += ["resumed"] if facts.get("resumed") else []
        more += [f"{name} {facts[name]}" for name in ("archive", "restored") if facts.get(name)]
        lines.append(f"  {_when(entry['time'])}  {entry['state']:11}  {'; '.join(more)}".rstrip())
    return ["states", *lines]


def _results(facts: Mapping[str, Any]) -> list[str]:
    names = ("sharpe_annual", "sharpe_net_annual", "sharpe_daily", "pooled_sharpe", "ic", "rank_ic", "turnover",
             "max_drawdown", "test_days", "parameters", "steps", "samples", "runtime_seconds")  # fmt: skip
    lines = []
    for name in names:
        if facts.get(name) is not None:
            interval = facts.get(f"{name}_ci95")
            around = f"  [{interval[0]:+.4f}, {interval[1]:+.4f}]" if interval else ""
            value = f"{facts[name]:,}" if isinstance(facts[name], int) else f"{facts[name]:+.4f}"
            lines.append(f"  {name:18} {value}{around}")
    return ["results", *(lines or ["  none yet"])]


def _files(files: Mapping[str, int]) -> list[str]:
    if not files:
        return []
    lines = [f"  {size:>13,}  {name}" for name, size in files.items()]
    return [f"files: {len(files)}, {sum(files.values()):,} bytes", *lines]


def _when(time: str) -> str:
    return f"{dt.datetime.fromisoformat(time):%Y-%m-%d %H:%M:%S} UTC"
