"""Two tiers, files or runs, and what differs between them."""

from __future__ import annotations

from typing import Any

from atft.experiment.diff import differences
from atft.launch.subjects import subject


def diff(first: str, second: str) -> dict[str, Any]:
    """What differs between two tiers, files or runs, and whether a comparison of the two could be causal.

    Raises:
        UseError: one of them cannot be read.
    """
    a, b = subject(first), subject(second)
    data = (a.data, b.data) if a.data and b.data else None
    found = differences(a.tier, b.tier, names=(a.name, b.name), data=data)
    return found.plain() | {"text": found.text()}
