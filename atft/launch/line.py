"""The line between whoever launches a run and its workers: events one way, wishes and failures the other."""

from __future__ import annotations

from collections import deque

from atft.observe.events import Event

LONGEST = 100_000
"""Events that wait for the launcher at most; the run's own log keeps all of them."""


class Line:
    """An actor beside the launcher. Workers that are started again find what was said before."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=LONGEST)
        self._stop = False
        self._failure: tuple[str, str] | None = None

    def tell(self, event: Event) -> None:
        """Take an event from the leading worker."""
        self._events.append(event)

    def take(self) -> list[Event]:
        """What was told since the last time."""
        taken, self._events = list(self._events), deque(maxlen=LONGEST)
        return taken

    def stop(self) -> None:
        """Ask for the end of the run, with a checkpoint."""
        self._stop = True

    def stop_asked(self) -> bool:
        """Whether the launcher asked for it."""
        return self._stop

    def fail(self, kind: str, text: str) -> None:
        """Tell an error that no other try will mend; the first one counts."""
        self._failure = self._failure or (kind, text)

    def failure(self) -> tuple[str, str] | None:
        """Kind and text of the error that was told, if any."""
        return self._failure
