"""The page of a comparison: one HTML file without scripts or requests, the verdict first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atft.errors import UseError
from atft.report import compare_figures, compare_tables
from atft.report.compare_curves import Curves
from atft.report.html import filled, write_page

TEMPLATE = "compare.html.j2"
STANDINGS = {"better": "positive", "worse": "negative", "noise": "noise", "unknown": "unknown"}
"""Colour of a badge by what a difference is shown to be."""
WORDS = {"better": "better", "worse": "worse", "noise": "not distinguishable", "unknown": "no verdict"}


def write(out: Path, report: Mapping[str, Any], curves: Curves) -> None:
    """Write the page of a comparison.

    Args:
        out: the file.
        report: as ``atft compare --json`` tells it.
        curves: what the pictures are drawn from.

    Raises:
        UseError: the extra ``report`` is not installed, or the file cannot be written.
    """
    text = filled(TEMPLATE, page(report, curves), out)
    write_text(out, text)


def write_text(out: Path, text: str) -> None:
    """Write a file beside which nothing is left if it fails.

    Raises:
        UseError: there is no such directory, or it cannot be written.
    """
    if not out.parent.is_dir():
        raise UseError(f"--out {out}: {out.parent} is no directory. Mend: make it first, or another --out.")
    write_page(out, text)


def page(report: Mapping[str, Any], curves: Curves) -> dict[str, Any]:
    """What the template is filled with."""
    names = [each["name"] for each in report["configurations"]]
    tests = (
        [compare_tables.differences(report, "comparisons")]
        if any(each["tests"] for each in report["comparisons"])
        else []
    )
    pairs = [compare_tables.differences(report, "pairs")] if report["pairs"] else []
    return {
        "names": names,
        "baseline": report["baseline"],
        "badges": [_badge(each) for each in report["comparisons"]],
        "headline": _unbroken(report["verdict"][0]),
        "sentences": [_unbroken(each) for each in report["verdict"][1:]],
        "results": compare_tables.results(report),
        "settings": compare_tables.settings(report),
        "tests": tests + pairs,
        "phases": compare_tables.phases(report),
        "phase_note": compare_tables.BEST_NOTE,
        "batches_table": compare_tables.batches(report),
        "costs": compare_tables.costs(report),
        "runs": [
            (run["name"], each["name"], run["seed"], run["state"])
            for each in report["configurations"]
            for run in each["runs"]
        ],
        **compare_figures.all_of(curves),
    }


def _badge(comparison: Mapping[str, Any]) -> tuple[str, str]:
    """Colour and words; no colour for what a single training has shown."""
    known, words = comparison["standing"], WORDS[comparison["standing"]]
    test = comparison["tests"].get("sharpe_annual")
    if known in ("better", "worse") and not (test and test["knows_training"]):
        return "noise", f"{comparison['first']}: {words} in one training"
    return STANDINGS[known], f"{comparison['first']}: {words}"


def _unbroken(text: str) -> str:
    """A figure and its error on one line."""
    return text.replace(" ± ", "\u00a0±\u00a0")
