"""The checklist of a tier before it is run: each row a value, the rule that it is held against, and its source.

What is in the rows is found in :mod:`atft.experiment.checks`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from atft.config import Tier
from atft.data.manifest import Manifest
from atft.experiment.estimates import Earlier

Status = Literal["pass", "warn", "fail", "accepted"]

WIDTHS = (9, 16, 44, 38, 26)
"""Of the columns of the table, in letters."""


@dataclass(frozen=True)
class Row:
    """One line of the checklist.

    Attributes:
        check: what is looked at.
        status: ``fail`` refuses the tier, ``accepted`` did so until its reason was accepted.
        value: what was found.
        rule: what it is held against.
        source: where the value came from.
        reason: name of the reason, of a row that refuses or did.
        text: what is wrong and the mend, of a row that does not pass.
    """

    check: str
    status: Status
    value: str
    rule: str
    source: str
    reason: str = ""
    text: str = ""


@dataclass(frozen=True)
class Baseline:
    """What a tier is compared with.

    Attributes:
        name: of the tier, file or run.
        tier: its settings.
        stated: whether anyone said so; else it is the tier itself as its file states it.
        typed: whether its name is what ``atft train`` takes.
        data: hash of the panel of a run.
    """

    name: str
    tier: Tier
    stated: bool = True
    typed: bool = True
    data: str | None = None


@dataclass(frozen=True)
class Material:
    """What a checklist is made from besides the tier.

    Attributes:
        baseline: what it is compared with.
        others: tiers that there are, by name, to find one that only one variable differs from.
        panel: what the panel says about itself; None where there is none yet.
        available: bytes free on the device.
        gpu: whether it has a GPU.
        processors: of this machine.
        workers: that the run is to have, at most.
        earlier: finished runs on this machine, the newest first.
    """

    baseline: Baseline
    others: Mapping[str, Tier]
    panel: Manifest | None
    available: float
    gpu: bool
    processors: int
    workers: int = 1
    earlier: Sequence[Earlier] = ()


@dataclass(frozen=True)
class Checklist:
    """All rows for one tier.

    Attributes:
        tier: its name.
        baseline: name of what it is compared with.
        rows: in the order in which they are shown.
        figures: the numbers behind the rows.
    """

    tier: str
    baseline: str
    rows: tuple[Row, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def refused(self) -> tuple[Row, ...]:
        """Rows that refuse the tier."""
        return tuple(row for row in self.rows if row.status == "fail")

    @property
    def accepted(self) -> tuple[str, ...]:
        """Reasons that would have refused it."""
        return tuple(row.reason for row in self.rows if row.status == "accepted")

    def accepting(self, reasons: Sequence[str]) -> Checklist:
        """The same with these reasons accepted; ``all`` stands for every one."""
        return replace(self, rows=tuple(
            replace(row, status="accepted") if row.status == "fail" and {row.reason, "all"} & set(reasons) else row
            for row in self.rows
        ))  # fmt: skip

    def plain(self) -> dict[str, Any]:
        """As JSON and ``config.json`` have it."""
        return {
            "tier": self.tier, "against": self.baseline, "passed": not self.refused, "accepted": list(self.accepted),
            "refused": [row.reason for row in self.refused], "rows": [asdict(row) for row in self.rows],
            "figures": dict(self.figures),
        }  # fmt: skip

    def text(self) -> str:
        """The table, and under it what does not pass, in words."""
        lines = list(_table([("", "check", "value", "rule", "source"), *map(_cells, self.rows)]))
        told = list(self.short())
        return "\n".join([f"{self.tier}, compared with {self.baseline}", *lines, *(["", *told] if told else [])])

    def short(self) -> Iterator[str]:
        """What does not pass, a line each."""
        for row in self.rows:
            if row.status != "pass":
                yield f"check: {row.status} {row.reason or row.check}: {row.text}"

    def refusal(self) -> str:
        """All reasons against it at once, and what accepts them."""
        reasons = "\n".join(f"  {row.reason}: {row.text}" for row in self.refused)
        return (
            f"{self.tier} is refused, {len(self.refused)} reason(s):\n{reasons}\n"
            f"  To run it as it is: --accept, or --accept {self.refused[0].reason} for that reason alone."
        )


def _cells(row: Row) -> tuple[str, ...]:
    status = row.status.upper() if row.status == "fail" else row.status
    return (status, row.check, row.value, row.rule, row.source)


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows in columns of fixed width, long cells on several lines."""
    for row in rows:
        cells = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, WIDTHS, strict=True)]
        for number in range(max(map(len, cells))):
            line = [lines[number] if number < len(lines) else "" for lines in cells]
            yield "  ".join(f"{text:{width}}" for text, width in zip(line, WIDTHS, strict=True)).rstrip()
