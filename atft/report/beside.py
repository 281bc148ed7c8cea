"""Runs of baselines that lie beside a run, on the same data, label, window and split: what it is read against."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SAME = ("label", "window", "split")
"""Settings that two runs must share for their test periods to be comparable."""

IN_EVERY_RUN = ("reversal", "equal_weight")
"""Baselines whose figures every result holds already."""


def beside(run_dir: Path, tier: Mapping[str, Any], result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and test figures of the baseline runs in the directory of runs that ``run_dir`` lies in, by name.

    Args:
        run_dir: of the run that is reported.
        tier: its settings.
        result: what it came to.
    """
    data = result.get("data_sha256")
    if not data or not all(name in tier for name in SAME):
        return []
    return [
        (_named(found), found["test"])
        for other, found in _baselines(run_dir)
        if found.get("data_sha256") == data and all(other.get(name) == tier[name] for name in SAME)
    ]


def _baselines(run_dir: Path) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Settings and results, but of what every run computes itself; what is no finished baseline is passed over."""
    for path in sorted(run_dir.resolve().parent.glob("baseline-*")):
        if path == run_dir.resolve():
            continue
        try:
            config, found = (json.loads((path / name).read_bytes()) for name in ("config.json", "result.json"))
            if isinstance(found["test"], Mapping) and found["baseline"]["name"] not in IN_EVERY_RUN:
                yield config["tier"], found
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _named(found: Mapping[str, Any]) -> str:
    """Its name, with the seed where another seed gives other figures."""
    name = str(found["baseline"]["name"])
    if name == "ridge":
        return "ridge, penalty by validation"
    return f"{name}, seed {found.get('seed')}" if name in ("lightgbm", "mlp", "lstm") else name
