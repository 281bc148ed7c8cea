"""Runs of baselines that lie beside a run, on the same data, label, window and split: what it is read against."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atft.config import is_fold

SAME = ("label", "window", "split")
"""Settings that two runs must share for their test periods to be comparable."""


def baseline_runs(run: Path, tier: Mapping[str, Any], data_sha256: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Directory and result of each finished baseline run that ``run`` can be read against, by name.

    Args:
        run: directory of the run, in the directory of runs that is looked through; for the run of a fold the directory
            that its folds lie in is looked through too, and only baselines of the same fold share its split.
        tier: its settings, as plain data.
        data_sha256: hash of its panel's data.

    Yields:
        Results as plain data, ``baseline.name`` and ``test`` among them. A directory that is no finished baseline run,
        or not of the same panel, label, window and split, is passed over.
    """
    if not all(name in tier for name in SAME):
        return
    own = run.resolve()
    places = [own.parent, own.parent.parent] if is_fold(own.name) else [own.parent]
    for path in sorted((path for place in places for path in place.glob("baseline-*")), key=lambda path: path.name):
        if path == own:
            continue
        try:
            config, found = (json.loads((path / name).read_bytes()) for name in ("config.json", "result.json"))
            same = found["data_sha256"] == data_sha256 and all(config["tier"].get(name) == tier[name] for name in SAME)
            if same and isinstance(found["test"], Mapping) and isinstance(found["baseline"]["name"], str):
                yield path, found
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
