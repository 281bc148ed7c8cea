"""What the index knows of a run: facts from its settings when it begins, and from its result when it is done.

Made of the plain content of ``config.json`` and ``result.json``, so that a list of runs loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atft.errors import UseError

FIGURES = ("sharpe_daily", "sharpe_annual", "sharpe_net", "sharpe_net_annual", "pooled_sharpe", "ic", "rank_ic",
           "turnover", "max_drawdown")  # fmt: skip
"""Figures of the test period that the index keeps, as ``result.json`` names them."""
BY_HAND = ("flag ", "environment ")
"""Sources of settings that are no file."""


def of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Facts from a run's ``config.json``: what tells it from other runs."""
    tier = config.get("tier", {})
    batch, provenance = tier.get("batch", {}), config.get("provenance", {})
    return {
        "tier": tier.get("name"),
        "seed": tier.get("seed"),
        "mode": tier.get("mode"),
        "batch": batch["days"] * batch["stocks_per_day"] if {"days", "stocks_per_day"} <= batch.keys() else None,
        "batch_days": batch.get("days"),
        "stocks_per_day": batch.get("stocks_per_day"),
        "hidden": tier.get("model", {}).get("hidden_size"),
        "fold": tier.get("split", {}).get("fold"),
        "rival": config.get("baseline") or _ensemble(config),
        "baseline": tier.get("baseline"),
        "expectation": tier.get("expectation"),
        "by_hand": {
            path: {"value": value_at(tier, path), "source": source}
            for path, source in sorted(provenance.items())
            if source.startswith(BY_HAND)
        },
        "panel": config.get("panel"),
        "panel_sha256": config.get("panel_sha256"),
        "created": config.get("created"),
        "command": config.get("command"),
    }


def of_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """Facts from a run's ``result.json``: its main figures, each with its 95 % interval where there is one."""
    test = result.get("test", {})
    found = {name: test.get(name) for name in FIGURES}
    found |= {f"{name}_ci95": test[f"{name}_ci95"] for name in FIGURES if test.get(f"{name}_ci95") is not None}
    return found | {
        "test_days": test.get("days"),
        "parameters": result.get("parameters"),
        "steps": result.get("steps"),
        "samples": result.get("samples"),
        "world_size": result.get("world_size"),
        "config_sha256": result.get("config_sha256"),
        "runtime_seconds": result.get("runtime_seconds"),
    }


def by_hand_in_words(facts: Mapping[str, Any]) -> list[str]:
    """The settings that flags and the environment made, one phrase each; what all phases share is told once."""
    together: dict[tuple[str, str], list[str]] = {}
    for path, each in (facts.get("by_hand") or {}).items():
        together.setdefault((str(each["value"]), each["source"]), []).append(path)
    told = []
    for (value, source), paths in together.items():
        ends = {path.split(".", 2)[2] for path in paths if path.startswith("phases.") and path.count(".") > 1}
        same = len(paths) > 1 and len(ends) == 1 and all(path.startswith("phases.") for path in paths)
        names = [f"phases.*.{ends.pop()}"] if same else paths
        told += [f"{name} = {value} ({source})" for name in names]
    return told


def value_at(settings: Mapping[str, Any], path: str) -> Any:
    """The setting at a dotted path; None where there is none."""
    value: Any = settings
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def differences(config: Mapping[str, Any]) -> dict[str, Any]:
    """What learning depends on in a run and is otherwise in the baseline that its tier names, but for the seed.

    Returns:
        ``differs``: dotted path to the values of baseline and run; None where the tier names no baseline, or
        ``baseline_problem`` says why it cannot be read. ``variables``: those that differ, as `atft diff` counts them.
    """
    from atft.config import Tier
    from atft.experiment.diff import differences as compared
    from atft.experiment.tiers import resolve

    tier = config.get("tier", {})
    if not tier.get("baseline"):
        return {"differs": None}
    try:
        reference = resolve(tier["baseline"], environ={}).tier
        found = compared(reference, Tier.model_validate(tier))
    except (UseError, ValueError) as error:
        return {"differs": None, "baseline_problem": str(error).splitlines()[0]}
    differs = {each.path: [each.a, each.b] for each in found.learning}
    return {"differs": differs, "variables": list(found.named)}


def _ensemble(config: Mapping[str, Any]) -> str | None:
    members = (config.get("ensemble") or {}).get("seeds")
    return f"ensemble of {len(members)}" if members else None
