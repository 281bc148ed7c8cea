"""What a user asks of a training, as the command line and everything that trains for it pass it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainRequest:
    """A run, or the folds of one, that is to be trained.

    Attributes:
        tier: name or file of the tier.
        flags: dotted path to value.
        data: the panel; that of the run where it is resumed.
        runs_root: where runs lie, a directory or a URI.
        name: of the run; tier, seed and time where there is none.
        resume: go on with the run of that name, which has a checkpoint.
        again: begin the run, go on with it, or tell what it came to: whatever it needs.
        workers: a number or a range.
        address: of a Ray cluster.
        stop_on: early warnings that end the run, as ``--stop-on`` takes them.
        against: run that this one is watched against, a directory or a URI.
        quiet: show no progress.
        accept: reasons of the checklist that are not to refuse it; ``all`` for every one.
        checks: the checklist, where it has been made.
        command: what the user typed.
    """

    tier: str
    flags: Mapping[str, Any]
    data: Path | None
    runs_root: Path
    name: str | None = None
    resume: bool = False
    again: bool = False
    workers: str = "1"
    address: str | None = None
    stop_on: tuple[str, ...] = ()
    against: Path | None = None
    quiet: bool = False
    accept: tuple[str, ...] = ()
    checks: Mapping[str, Any] | None = None
    command: list[str] = field(default_factory=list)
