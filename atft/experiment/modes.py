"""What a mode is, what each sets, and the original's table of which to take when, with what it got wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from atft.config import MODES, Mode


@dataclass(frozen=True)
class Choice:
    """One line of the decision table.

    Attributes:
        scenario: what is to be done.
        mode: which mode.
        batch: what the original's table said of the batch.
        why: its reason.
    """

    scenario: str
    mode: Mode
    batch: str
    why: str


DECISIONS = (
    Choice("debugging", "safe", "256", "stability over speed"),
    Choice("reproducibility", "safe", "same as baseline", "control for variation"),
    Choice("final experiments", "optimized", "2,048–4,096", "performance over safety"),
    Choice("production", "optimized", "4,096", "maximum performance"),
)
"""The original analysis' table, 2025-10-21."""

CAVEATS = (
    "A mode does not set the batch: that column is the original's advice, to be stated in a tier. Its safe mode set "
    "it, to 256, and that was the failure.",
    "safe is one process, deterministic algorithms, no worker processes and no loader threads: `--workers` above 1 is "
    "refused with it.",
    "optimized learns the same: nothing that learning depends on differs between modes, and a test holds that for "
    "every tier. On one device type two workers learn what one learns, up to rounding (docs/guide/exactness.md).",
    "Deterministic means bitwise repeatable on the same machine and versions, not better.",
)


def modes() -> dict[str, Any]:
    """The decision table, what each mode sets, and the caveats; with a text."""
    return {
        "decisions": [asdict(choice) for choice in DECISIONS],
        "modes": {name: dict(values) for name, values in MODES.items()},
        "caveats": list(CAVEATS),
        "text": "\n".join(_lines()),
    }


def _lines() -> Iterator[str]:
    row = "{:18} {:10} {:30} {}".format
    yield row("when", "mode", "batch (a mode does not set it)", "why")
    yield from (row(each.scenario, each.mode, each.batch, each.why) for each in DECISIONS)
    yield ""
    names = list(MODES)
    yield f"{'sets runtime.':28} " + " ".join(f"{name:>10}" for name in names)
    for setting in MODES[names[0]]:
        differs = len({str(MODES[name][setting]) for name in names}) > 1
        values = " ".join(f"{_told(MODES[name][setting]):>10}" for name in names)
        yield f"{setting:28} {values}{'  differs' if differs else ''}"
    yield ""
    yield from (f"- {caveat}" for caveat in CAVEATS)


def _told(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
