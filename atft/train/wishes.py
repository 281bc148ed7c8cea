"""What a run is asked from outside while it trains, and how it ends when it is."""

from __future__ import annotations

from dataclasses import dataclass

from atft.errors import RunError


class Interrupted(RunError):
    """The run was asked to stop; its checkpoint is written."""


class Leaving(RunError):
    """This worker is taken away, and the run's checkpoint is written: the others go on without it."""


@dataclass
class Wishes:
    """What a signal, or whoever launched the run, asks for.

    Attributes:
        stop: end after the step that is running, with a checkpoint.
        leave: this worker will be taken away; write a checkpoint after the step that is running, and let it go.
        reason: why it is to end, where that is not the user's wish.
    """

    stop: bool = False
    leave: bool = False
    reason: str | None = None
