"""``atft compare``: runs side by side, on the screen, as JSON, Markdown or one HTML file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atft.data.labels import decided_returns, label_dates
from atft.errors import UseError
from atft.evaluate import result
from atft.evaluate.pooled import pooled_by_day
from atft.evaluate.result import Result
from atft.experiment import compare, compare_each, compare_words, ensemble
from atft.experiment.compare_runs import Configuration, PhaseOf, Pooled, Ran, Usage, configurations
from atft.experiment.runs import Run
from atft.experiment.score_table import read_test_scores
from atft.launch import places
from atft.report import compare_html, compare_tables
from atft.report.compare_curves import Curves, Line
from atft.report.material import Material, load
from atft.storage import is_remote

SUFFIXES = (".html", ".md")
SAME_POOLED = 1e-6
"""Relative difference from which a pooled Sharpe ratio that is computed anew is not the run's own."""


def compare_runs(
    named: Sequence[Path], *, baseline: Path | None = None, out: Path | None = None, common_days: bool = False,
    all_pairs: bool = False, price_per_hour: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compare runs; those of one recipe are seeds of one configuration.

    Args:
        named: directories or URIs of the runs.
        baseline: one of them, or one more, whose configuration the others are held against; the first's where None.
        out: an HTML or Markdown file; none is written where None.
        common_days: pair the days that both have, also where panels, days or labels differ.
        all_pairs: also every two configurations.
        price_per_hour: of one worker.

    Raises:
        UseError: fewer than two configurations, a run that is missing or named twice, a result that cannot be read,
            runs that cannot be compared, or a file that cannot be written.
    """
    paths = list(named) if baseline is None or _among(baseline, named) else [baseline, *named]
    _check(paths, out, price_per_hour)
    runs = [_read(path, name) for path, name in zip(paths, _names(paths))]
    found = configurations(runs)
    held = _of(found, runs[_place(baseline or paths[0], paths)])
    found = [held, *(each for each in found if each is not held)]
    comparisons = compare.against(found, held, common_days=common_days)
    told = [compare_each.figures_of(each, price_per_hour) for each in found]
    expected = compare_each.expectations(found)
    report: dict[str, Any] = {
        "baseline": held.name,
        "verdict": compare_words.sentences(comparisons, expected, told),
        "configurations": told,
        "comparisons": [_plain(each) for each in comparisons],
        "pairs": [_plain(each) for each in compare.pairs(found, common_days=common_days)] if all_pairs else [],
        "expectations": expected,
        "settings": compare_tables.setting_rows([each.tier for each in found]),
    }
    if out is not None:
        report["out"] = str(out)
        if out.suffix.lower() == ".html":
            compare_html.write(out, report, _curves(found))
        else:
            compare_html.write_text(out, compare_tables.markdown(report))
    return report | {"text": compare_tables.text(report)}


def _plain(comparison: compare.Comparison) -> dict[str, Any]:
    tests = {
        name: {**dataclasses.asdict(each), "standing": compare_words.standing(each)}
        for name, each in comparison.tests.items()
    }
    return {
        "first": comparison.first, "second": comparison.second, "tests": tests,
        "standing": compare_words.standing(comparison.tests.get(compare_words.MAIN)),
        "causality": compare_words.causality(comparison), "differences": comparison.differences.plain(),
        "left_out": list(comparison.left_out), "notes": list(comparison.notes),
    }  # fmt: skip


def _check(paths: Sequence[Path], out: Path | None, price_per_hour: float | None) -> None:
    if len(paths) < 2:
        raise UseError(f"{paths[0]}: one run alone cannot be compared. Mend: name two runs or more.")
    known: dict[str, Path] = {}
    for path in paths:
        identity = _identity(path)
        if identity in known:
            raise UseError(f"{path}: is named twice (as {known[identity]} too). Mend: name each run once.")
        known[identity] = path
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise UseError(f"--out {out}: ends in {out.suffix or 'nothing'}. Mend: a name that ends in .html or .md.")
    if price_per_hour is not None and not (math.isfinite(price_per_hour) and price_per_hour >= 0):
        raise UseError(f"--price-per-hour {price_per_hour}: must be 0 or more. Mend: --price-per-hour 2.5.")


def _identity(path: Path) -> str:
    return places.as_uri(path) if is_remote(path) else str(places.absolute(path))


def _among(path: Path, paths: Sequence[Path]) -> bool:
    return _identity(path) in map(_identity, paths)


def _place(path: Path, paths: Sequence[Path]) -> int:
    return list(map(_identity, paths)).index(_identity(path))


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of the runs' directories; their whole paths where two share one."""
    plain = [path.name for path in paths]
    return [name if plain.count(name) == 1 else str(path) for name, path in zip(plain, paths)]


def _of(found: Sequence[Configuration], run: Ran) -> Configuration:
    return next(each for each in found if run in each.runs)


def _read(path: Path, name: str) -> Ran:
    """What is known of a run, finished or not.

    Raises:
        UseError: no run there, or a result that cannot be read.
    """
    run = places.open_run(path)
    held = load(run.path)
    found = result.read(run.result) if run.result.exists() else None
    started = held.last("run_started")
    samples = sum(event.get("samples") or 0 for event in held.steps)
    return Ran(
        name=name,
        tier=run.tier,
        panel=run.panel_sha256,
        result=found,
        state="evaluated" if found else held.gaps[0],
        baseline=run.baseline or _ensemble(run),
        phases=tuple(_phases(held)),
        parameters=found.parameters if found else started.get("parameters"),
        steps=found.steps if found else len(held.steps) or None,
        samples=found.samples if found else samples or None,
        precision=found.precision if found else started.get("precision"),
        usage=_usage(held, found),
        pooled=_pooled(run, found),
    )


def _ensemble(run: Run) -> str | None:
    """What a run is called where it is an ensemble: no seed of its tier."""
    if not ensemble.is_ensemble(run.path):
        return None
    return f"{run.tier.name}, ensemble of {len(ensemble.read(run.path).members)}"


def _phases(held: Material) -> list[PhaseOf]:
    return [
        PhaseOf(
            each.name, each.epochs, each.best_epoch, each.expected_std,
            each.batch_sharpe[np.isfinite(each.batch_sharpe)], each.seconds,
        )
        for each in held.phases
    ]  # fmt: skip


def _usage(held: Material, found: Result | None) -> Usage:
    """What the run took; of one that is not finished, its steps alone."""
    started = held.last("run_started")
    steps = [(event.get("seconds") or 0.0, event.get("world_size") or 1) for event in held.steps]
    stepping = sum(seconds for seconds, _ in steps)
    whole = found.runtime_seconds if found else None
    workers = steps[-1][1] if steps else found.world_size if found else None
    spent = None
    if steps or whole:
        rest = max((whole or stepping) - stepping, 0.0)
        spent = sum(seconds * count for seconds, count in steps) + rest * (workers or 1)
    return Usage(whole, stepping or None, spent, workers, started.get("device"), started.get("threads"))


def _pooled(run: Run, found: Result | None) -> Pooled | None:
    """The pooled Sharpe ratio by day, where the tier expects one and scores and panel are there."""
    stated = run.tier.expectation
    if found is None or stated is None or stated.metric != "pooled_sharpe" or run.baseline:
        return None
    try:
        panel = places.open_panel(run.panel)
        scored = read_test_scores(run.path, panel)
    except UseError:
        return None  # a panel that has moved: the interval is missing, and the verdict says so
    label = run.tier.label
    returns = decided_returns(panel, label)[scored.days].astype(np.float64)
    value, influence = pooled_by_day(scored.scores, returns, np.isfinite(scored.scores) & np.isfinite(returns))
    own = found.test.pooled_sharpe
    if own is None or not math.isclose(value, own, rel_tol=SAME_POOLED, abs_tol=1e-9):
        return None
    ends = panel.days[label_dates(panel.days, label.horizon, label.execution_lag)[scored.days]]
    return Pooled(value, tuple(ends.astype("datetime64[D]").tolist()), influence)


def _curves(found: Sequence[Configuration]) -> Curves:
    """What the pictures are drawn from."""
    evaluated = [each for each in found if each.evaluated]
    days: list[Any] = []
    lines: dict[str, Line] = {}
    if evaluated:
        runs = [run for each in evaluated for run in each.evaluated]
        days, values = compare.on_common_days(compare.UNITS["sharpe_annual"], runs)
        place = 0
        for each in evaluated:
            count = len(each.evaluated)
            lines[each.name] = Line(values[place : place + count])
            place += count
    return Curves(
        names=[each.name for each in found],
        epochs={
            each.name: [[(phase.name, phase.epochs) for phase in run.phases] for run in each.runs] for each in found
        },
        batches={
            each.name: {
                name: [
                    (phase.batch_sharpe, phase.expected_std)
                    for run in each.runs
                    for phase in run.phases
                    if phase.name == name
                ]
                for name in dict.fromkeys(phase.name for run in each.runs for phase in run.phases)
            }
            for each in found
        },
        days=days,
        daily=lines,
    )
