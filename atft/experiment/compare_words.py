"""What a comparison says, in plain words: a difference is called one only where its interval carries it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from atft.experiment.compare import LEVEL, UNITS, Comparison, Estimate

MAIN = "sharpe_annual"
"""The statistic that the verdict is about."""


def verdict(comparison: Comparison, comparisons: int = 1) -> str:
    """Whether one configuration is better than another, in one sentence.

    Args:
        comparison: with p-values corrected where there are several.
        comparisons: how many were made together.
    """
    first, second, found = comparison.first, comparison.second, comparison.tests.get(MAIN)
    if found is None:
        return f"{first} against {second}: the test period cannot be compared, see below."
    if found.estimate is None:
        return f"{first} against {second}: no difference can be told ({found.method})."
    if found.half_width is None or found.p_value is None:
        return f"{first} against {second}: difference {signed(found.estimate)}, without an interval ({found.method})."
    width = f"difference {signed(found.estimate)} ± {found.half_width:.2f}"
    told = f"{width} in the {UNITS[MAIN].words} over {_seeds(found)} and {found.days} days"
    return f"{first} against {second}: {_called(found, comparisons)}: {told}{_chance(found)}."


def standing(found: Estimate | None) -> str:
    """``better``, ``worse``, ``noise``, or ``unknown``: what a difference from the baseline is shown to be."""
    if found is None or found.estimate is None or found.p_value is None:
        return "unknown"
    p = found.p_value if found.p_value_holm is None else found.p_value_holm
    if p > LEVEL:
        return "noise"
    return "better" if found.estimate > 0 else "worse"


def _called(found: Estimate, comparisons: int) -> str:
    p = found.p_value if found.p_value_holm is None else found.p_value_holm
    many = f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    known = standing(found)
    if known != "noise":
        which = "" if found.knows_training else "the trained models differ, this one is "
        return f"{which}{known} ({_probability(p)}{many})"
    if found.p_value is not None and found.p_value <= LEVEL:
        return f"not distinguishable ({_probability(found.p_value)} by itself, {_probability(p)}{many})"
    return "not distinguishable"


def _probability(p: float | None) -> str:
    return "p unknown" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _seeds(found: Estimate) -> str:
    one, two = found.seeds
    if one == two == 1:
        return "one seed each"
    return f"{one} seeds" if one == two else f"{one} and {two} seeds"


def _chance(found: Estimate) -> str:
    if found.knows_training:
        return " (95 %, chance in days and in training)"
    if found.seeds == (1, 1):
        return (
            " (95 %, chance in days). Chance in training is not in this interval, with one seed of each: another seed "
            "can differ by more, and no cause is shown before several do not"
        )
    return (
        " (95 %, chance in days, and in training of the side that has several seeds). Chance in training of the other "
        "side is not in this interval, with one seed on it: no cause is shown before several seeds of both"
    )


def causality(comparison: Comparison) -> str:
    """Whether a difference could be put down to one variable."""
    told = comparison.differences
    if told.causal:
        return f"This comparison can be causal: only {told.named[0]} differs."
    if not told.comparable or told.variables < 2:
        return f"This comparison {told.verdict}." if "causal" in told.verdict else f"{_capital(told.verdict)}."
    return (
        f"{told.variables} learning variables differ ({', '.join(told.named)}): this comparison cannot say which of "
        "them made a difference."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def expectation(found: Mapping[str, Any]) -> str:
    """What was expected of a configuration, and whether it was met."""
    reached, metric = found["reached"], found["metric"]
    stated = f"{found['configuration']}: {metric} was expected to be {found['low']:g} to {found['high']:g}"
    if found["target"] is not None:
        stated += f", target {found['target']:g}"
    stated += f" ({found['source']})"
    if reached is None or reached["low"] is None:
        return f"{stated}: undecidable, no interval of {metric} is known here."
    span = f"reached {reached['estimate']:.3f}, 95 % interval {reached['low']:.3f} to {reached['high']:.3f}"
    answer = {"within": "as expected", "exceeded": "exceeded", "missed": "missed", "undecidable": "undecidable"}
    told = f"{stated}: {span}: range {answer[found['range']]}"
    if found["target_verdict"] is not None:
        told += f", target {found['target_verdict']}"
    one = "" if reached["knows_training"] else "; chance in training is not in the interval"
    return f"{told}{one}."


def sentences(
    comparisons: Sequence[Comparison], expected: Sequence[Mapping[str, Any]], told: Sequence[Mapping[str, Any]]
) -> list[str]:
    """All that is said, the most important first.

    Args:
        comparisons: against the baseline.
        expected: of :func:`~atft.experiment.compare_each.expectations`.
        told: of :func:`~atft.experiment.compare_each.figures_of`, for each configuration.
    """
    found = []
    for each in comparisons:
        found += [verdict(each, len(comparisons)), causality(each)]
    found += [expectation(each) for each in expected]
    return found + list(notes(comparisons, told))


def notes(comparisons: Sequence[Comparison], told: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is missing, and what must be known to read the figures."""
    for each in told:
        for run in each["runs"]:
            if run["state"] != "evaluated":
                yield f"{run['name']} ({each['name']}) is not evaluated: {run['state']} What is there is compared."
    for note in dict.fromkeys(note for each in comparisons for note in each.notes):
        yield f"{_capital(note)}."
    for name in dict.fromkeys(name for each in comparisons for name in each.left_out):
        yield f"{name} is in no pair: its seed is not on both sides."
    steps = {each["name"]: each["steps"]["mean"] for each in told if each["steps"]}
    samples = {each["name"]: each["samples"]["mean"] for each in told if each["samples"]}
    if steps and max(steps.values()) > 1.1 * min(steps.values()):
        counts = ", ".join(f"{name} {count:,.0f}" for name, count in steps.items())
        alike = "equal" if max(samples.values()) <= 1.1 * min(samples.values()) else "unequal"
        yield f"Optimizer steps differ ({counts}) at {alike} stock-days: this is part of what a batch size is."


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign."""
    return f"{value:+.{digits}f}"
