"""The figures of the baseline runs that lie beside a run, as its report shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atft.evaluate.siblings import baseline_runs

IN_EVERY_RUN = ("reversal", "equal_weight")
"""Baselines whose figures every result holds already."""


def beside(run_dir: Path, tier: Mapping[str, Any], result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and test figures of the baseline runs in the directory of runs that ``run_dir`` lies in, by name.

    Args:
        run_dir: of the run that is reported.
        tier: its settings.
        result: what it came to.
    """
    runs = baseline_runs(run_dir, tier, str(result.get("data_sha256")))
    return [(_named(found), found["test"]) for _, found in runs if found["baseline"]["name"] not in IN_EVERY_RUN]


def _named(found: Mapping[str, Any]) -> str:
    """Its name, with the seed where another seed gives other figures."""
    name = str(found["baseline"]["name"])
    if name == "ridge":
        return "ridge, penalty by validation"
    return f"{name}, seed {found.get('seed')}" if name in ("lightgbm", "mlp", "lstm") else name
