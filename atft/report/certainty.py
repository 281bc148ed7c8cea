"""The report's tables on how far its figures can be trusted, as text ready to be set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atft.report.tables import DASH, percent, show
from atft.report.verdict import BASELINE_NAMES, interval_of, number_of

Row = dict[str, Any]


def intervals(test: Mapping[str, Any]) -> list[Row]:
    """Statistics with their 95 % intervals and how these were found, a row each; none without an inference."""
    sure = _mapping(test.get("inference"))
    if not sure:
        return []
    low, high = interval_of(test) or (None, None)
    lo = {"estimate": test.get("sharpe_annual"), "low": low, "high": high, "method": test.get("sharpe_method")}
    named = (
        ("Sharpe, a year, by Lo", lo, 2),
        ("Sharpe, a year, by block bootstrap", _mapping(sure.get("sharpe_annual_bootstrap")), 2),
        ("ICIR", _mapping(sure.get("icir")), 3),
        ("rank ICIR", _mapping(sure.get("rank_icir")), 3),
    )
    return [
        {
            "name": name,
            "cells": [show(number_of(each, "estimate"), digits), _span(each, digits)],
            "text": str(each.get("method") or DASH),
        }
        for name, each, digits in named
    ]


def probabilities(test: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What is likely, each with its value and what it means; none without an inference."""
    sure = _mapping(test.get("inference"))
    if not sure:
        return []
    found = _mapping(sure.get("deflated"))
    days, needed = number_of(test, "days"), number_of(sure, "minimum_track_record_days")
    trials, best = number_of(found, "trials"), number_of(found, "benchmark_annual")
    return [
        (
            "True Sharpe above 0",
            percent(number_of(sure, "probabilistic_sharpe")),
            f"net of cost {percent(number_of(sure, 'probabilistic_sharpe_net'))}",
        ),
        (
            "More than the luck of the search",
            percent(number_of(found, "probability")) if best else DASH,
            f"trials on this test period: {show(trials, 0)}"
            + (f"; the best of as many by chance {show(best)}" if best else ", nothing to take off"),
        ),
        ("Days needed", show(needed, 0), f"for 95 % probability of a true Sharpe above 0; there are {show(days, 0)}"),
        (
            "Least Sharpe that shows",
            show(number_of(sure, "detectable_sharpe_annual")),
            "a year, with a power of 80 % on so many days",
        ),
        (
            "Skewness, kurtosis",
            f"{show(number_of(sure, 'skewness'))}, {show(number_of(sure, 'kurtosis'))}",
            "of the daily returns; normal ones have 0 and 3",
        ),
    ]


def differences(test: Mapping[str, Any]) -> list[Row]:
    """The model less each baseline, a row each."""
    against = _mapping(_mapping(test.get("inference")).get("against"))
    rows = []
    for name, each in against.items():
        held, found = _mapping(each), _mapping(_mapping(each).get("sharpe_annual"))
        cells = [show(number_of(found, "estimate")), _span(found, 2), show(number_of(held, "correlation"))]
        cells += [show(number_of(held, p), 4) for p in ("p_value_hac", "p_value", "p_value_holm")]
        rows.append({"name": BASELINE_NAMES.get(name, str(name).replace("_", " ")), "cells": cells})
    return rows


def _span(found: Mapping[str, Any], digits: int) -> str:
    low, high = number_of(found, "low"), number_of(found, "high")
    return DASH if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
