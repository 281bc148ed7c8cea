"""The screen of a run: bars on a terminal, one line an epoch elsewhere, and a summary row for each phase."""

from __future__ import annotations

import math
import os
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from atft.observe.events import Event

RECENT_STEPS = 64
"""Steps that the batch Sharpe on the screen is averaged over."""

HEADING = ("phase", "epochs", "best", "train loss", "val. Sharpe", "val. IC", "batch Sharpe", "time")
WIDTHS = (6, 4, 10, 11, 7, 15, 7)


class Screen:
    """A subscriber of :class:`~atft.observe.events.EventLog` that shows how a run goes.

    On a terminal: one bar per phase, a bar with the time left of the whole run, the batch Sharpe as mean ± spread
    of the last 64 batches, the validation Sharpe. Elsewhere: one line an epoch without control characters. In both: a
    row for each phase when it ends, warnings and divergences as they come.

    Args:
        quiet: show nothing, as ``--json`` asks.
        file: where to write; standard error where not given, so that standard output stays for results.
    """

    def __init__(self, quiet: bool = False, file: IO[str] | None = None) -> None:
        self._quiet = quiet
        self._file = file if file is not None else sys.stderr
        # A log file stays free of control characters whatever FORCE_COLOR and its like ask of rich.
        self._terminal = self._file.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        self._console = Console(
            file=self._file, force_terminal=self._terminal, highlight=False, markup=False, emoji=False
        )
        self._bars = _Bars(self._console) if self._terminal and not quiet else None
        self._run = _Run()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self._run.take(event)
        if self._quiet:
            return
        if self._bars:
            self._bars.take(event, self._run)
        if event["kind"] == "run_finished":
            self.close()
        for line, style in _lines(event, self._run, self._terminal):
            self._print(line, style)

    def close(self) -> None:
        """Put the terminal back in order; a second call does nothing."""
        if self._bars:
            self._bars.stop()
            self._bars = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is not None and not self._quiet and self._run.phase:
            self._print(f"stopped in phase {self._run.phase}, epoch {self._run.epoch}, step {self._run.step}", "yellow")

    def _print(self, line: str, style: str = "") -> None:
        line = _printable(line, self._file)
        if self._terminal:
            self._console.print(Text(line, style), soft_wrap=True)
        else:
            print(line, file=self._file, flush=True)


def progress(quiet: bool = False, file: IO[str] | None = None) -> Screen:
    """A :class:`Screen` for ``with progress() as screen: log.subscribe(screen)``; ends cleanly after an exception."""
    return Screen(quiet, file)


def stages(quiet: bool = False, file: IO[str] | None = None) -> Callable[[str, float], None]:
    """Says on standard error what is being prepared, once for each stage that is not over at once."""
    target = file if file is not None else sys.stderr
    told: set[str] = set()

    def tell(stage: str, fraction: float) -> None:
        if not quiet and fraction < 1 and stage not in told:
            told.add(stage)
            print(f"{stage} …", file=target, flush=True)

    return tell


def warn(text: str, file: IO[str] | None = None) -> None:
    """One line on standard error about what went wrong beside the run and does not stop it."""
    target = file if file is not None else sys.stderr
    print(_printable(f"warning: {text}", target), file=target, flush=True)


def patience(quiet: bool = False, file: IO[str] | None = None) -> Callable[[str, float], None]:
    """As :func:`stages` for work that may take seconds or minutes: how far it is, every twenty seconds.

    A stage that is named by one word says nothing before; a note (several words) is told at once, as it is.
    """
    target, said = file if file is not None else sys.stderr, time.monotonic()

    def tell(stage: str, fraction: float) -> None:
        nonlocal said
        note, now = " " in stage, time.monotonic()
        if not quiet and (note or now - said >= PATIENCE):
            said = said if note else now
            print(stage if note else f"{stage}: {fraction:.0%}", file=target, flush=True)

    return tell


PATIENCE = 20.0
"""Seconds from one line about long work to the next."""


class _Run:
    """What the screen knows of a run."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.planned: dict[str, int] = {}
        self.totals: dict[str, int] = {}
        self.total = 0
        self.phase = ""
        self.epoch: Any = 0
        self.step = 0
        self.finished = 0
        self.epochs: dict[str, dict[Any, Event]] = {}
        self.batch_sharpe: dict[str, dict[int, float]] = {}
        self.times: deque[tuple[float, int]] = deque(maxlen=RECENT_STEPS)

    def take(self, event: Event) -> None:
        """Learn from one event."""
        kind = event["kind"]
        if kind == "run_started":
            self._start(event)
        elif kind == "phase_started":
            self.phase = event["phase"]
        elif kind == "resumed":
            self.step = event["step"]
        elif kind == "step":
            self._step(event)
        elif kind == "epoch":
            self.epochs.setdefault(event["phase"], {})[event["epoch"]] = event
        elif kind == "phase_finished":
            self.finished += 1

    def _start(self, event: Event) -> None:
        per_epoch = event["steps_per_epoch"]
        self.names = [phase["name"] for phase in event["phases"]]
        self.planned = {phase["name"]: phase["epochs"] for phase in event["phases"]}
        self.totals = {name: epochs * per_epoch for name, epochs in self.planned.items()}
        self.total = event.get("total_steps") or sum(self.totals.values())
        # A window of at least one epoch has its share of validation in it.
        self.times = deque([(event["time"], 0)], maxlen=max(RECENT_STEPS, per_epoch + 1))

    def _step(self, event: Event) -> None:
        self.phase, self.epoch, self.step = event["phase"], event["epoch"], event["step"]
        if len(self.times) == 1 and self.times[0][1] < self.step - 1:  # the first step after a resume
            self.times[0] = (self.times[0][0], self.step - 1)
        self.times.append((event["time"], self.step))
        value = event.get("batch_sharpe")
        if value is not None:
            self.batch_sharpe.setdefault(self.phase, {})[self.step] = value

    def seconds_left(self) -> float | None:
        """Seconds to the end of training at the recent pace; None before there is one."""
        if len(self.times) < 2:
            return None
        (began, first), (now, last) = self.times[0], self.times[-1]
        return (now - began) / max(last - first, 1) * max(self.total - last, 0)

    def recent(self, phase: str, count: int | None = None) -> str:
        """Mean ± standard deviation of the batch Sharpe over the last ``count`` steps of a phase, as text."""
        values = list(self.batch_sharpe.get(phase, {}).values())[-count if count else 0 :]
        if not values:
            return "-"
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
        return f"{mean:+.3f} ± {spread:.3f}"

    def done(self, phase: str) -> int:
        """Steps of a phase that are done."""
        before = sum(self.totals[name] for name in self.names[: self.names.index(phase)])
        return min(max(self.step - before, 0), self.totals[phase])

    @property
    def width(self) -> int:
        """Width of the column of phase names."""
        return max([5, *map(len, self.names)])


class _Bars:
    """The live part of a terminal: a bar per phase and one for the run."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8, max_width=40)),
            _Plain(table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            refresh_per_second=2,  # drawing costs milliseconds of a processor that trains
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._whole: TaskID | None = None

    def take(self, event: Event, run: _Run) -> None:
        kind = event["kind"]
        if kind == "run_started":
            self._start(run)
        elif kind in ("step", "epoch", "phase_started", "resumed") and self._whole is not None:
            self._update(run)
        elif kind == "phase_finished" and event["phase"] in self._tasks:
            self._progress.update(self._tasks.pop(event["phase"]), visible=False)
        elif kind == "evaluation_started" and self._whole is not None:
            self._progress.update(self._whole, completed=run.total, note="evaluating")

    def stop(self) -> None:
        self._progress.stop()

    def _start(self, run: _Run) -> None:
        for name in run.names:
            self._tasks[name] = self._progress.add_task(name, total=run.totals[name] or 1, note="")
        self._whole = self._progress.add_task("whole run", total=run.total or 1, note="")
        self._progress.start()

    def _update(self, run: _Run) -> None:
        assert self._whole is not None
        left = run.seconds_left()
        note = f"step {run.step}/{run.total}" + (f" · {duration(left)} left" if left is not None else "")
        self._progress.update(self._whole, completed=run.step, note=note)
        if run.phase in self._tasks:
            self._progress.update(self._tasks[run.phase], completed=run.done(run.phase), note=self._note(run))

    def _note(self, run: _Run) -> str:
        epochs = list(run.epochs.get(run.phase, {}).values())
        validation = f" · val. {number(epochs[-1].get('validation_sharpe'))}" if epochs else ""
        return f"epoch {run.epoch}/{run.planned[run.phase]} · Sharpe {run.recent(run.phase, RECENT_STEPS)}{validation}"


class _Plain(ProgressColumn):
    """A task's note, without markup."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("note", ""), no_wrap=True, overflow="ellipsis")


def duration(seconds: float | None) -> str:
    """Seconds as ``42 s``, ``3:07`` or ``1:02:05``."""
    if seconds is None:
        return "-"
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def number(value: float | None, digits: int = 3, sign: str = "+") -> str:
    """A figure with its sign, or a dash where there is none."""
    return "-" if value is None else f"{value:{sign}.{digits}f}"


def _lines(event: Event, run: _Run, terminal: bool) -> list[tuple[str, str]]:
    """What an event prints, as lines with their style."""
    kind = event["kind"]
    if kind == "run_started":
        return [(line, "") for line in _started(event)]
    if kind == "epoch" and not terminal:
        return [(_epoch(event, run), "")]
    if kind == "phase_finished":
        heading = [(_row(HEADING, run.width), "bold")] if run.finished == 1 else []
        return [*heading, (_row(_summary(event, run), run.width), "")]
    if kind == "warning":
        return [(f"warning: {event['text']}", "yellow")]
    if kind == "out_of_memory":
        return [(event["text"], "yellow")]
    if kind == "early_warning":
        return [(f"early warning ({event['rule']}, since step {event['since']}): {event['text']}", "yellow"),
                (f"  what to do: {event['mend']}", "")]  # fmt: skip
    if kind == "early_warning_over":
        return [(event["text"], "")]
    if kind == "stopped" and event.get("reason"):
        return [(f"stopped after step {event['step']} by an early warning", "bold")]
    if kind == "resumed":
        return [(f"resumed after step {event['step']}", "")]
    if kind == "run_finished":
        return [(f"finished in {duration(event.get('seconds'))}: {event.get('report') or event.get('result')}", "bold")]
    return []


def _started(event: Event) -> list[str]:
    batch = event.get("effective_batch") or {}
    precision, asked = event.get("precision"), event.get("precision_asked")
    of = event.get("fold")
    return [
        *([f"fold {of['fold']} of 0 to {of['folds'] - 1}, {of['scheme']}"] if of else []),
        f"{event.get('tier')}: {event.get('parameters') or 0:,} parameters, effective batch {batch.get('days')} days × "
        f"{batch.get('stocks_per_day')} stocks = {batch.get('samples')} stock-days, {event.get('total_steps')} steps",
        f"on {event.get('device')}, precision {precision}"
        + (f" (asked: {asked})" if asked != precision else "")
        + f", {event.get('threads')} threads, {event.get('loader_workers')} loader workers, seed {event.get('seed')}",
    ]


def _epoch(event: Event, run: _Run) -> str:
    left = run.seconds_left()
    return (
        f"{event['phase']:<{run.width}}  epoch {event['epoch']}  step {run.step}/{run.total}  "
        f"loss {number(event.get('train_loss'), 4)}  validation loss {number(event.get('validation_loss'), 4)}  "
        f"Sharpe {number(event.get('validation_sharpe'))}  IC {number(event.get('validation_ic'))}  "
        f"batch Sharpe {run.recent(event['phase'], RECENT_STEPS)}  {duration(event.get('seconds'))}"
        + (f"  {duration(left)} left" if left else "")
        + ("  best" if event.get("best") else "")
    )


def _summary(event: Event, run: _Run) -> tuple[str, ...]:
    """The row of a finished phase: the figures of its best epoch."""
    phase = event["phase"]
    epochs = run.epochs.get(phase, {})
    best = epochs.get(event.get("best_epoch"), {})
    return (
        phase,
        str(len(epochs)),
        "-" if event.get("best_epoch") is None else str(event["best_epoch"]),
        number(best.get("train_loss"), 4),
        number(best.get("validation_sharpe")),
        number(best.get("validation_ic")),
        run.recent(phase),
        duration(event.get("seconds")),
    )


def _row(cells: tuple[str, ...], width: int) -> str:
    """Cells of a row under :data:`HEADING`; the first as wide as the longest name of a phase."""
    first, *rest = cells
    return "  ".join([f"{first:<{width}}", *(f"{cell:>{space}}" for cell, space in zip(rest, WIDTHS))])


def _printable(line: str, file: IO[str]) -> str:
    """The line without control characters, in what the stream's encoding can hold."""
    line = "".join(" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in line)
    encoding = getattr(file, "encoding", None) or "utf-8"
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        line = line.replace("±", "+/-").replace("×", "x").replace("·", "-").encode(encoding, "replace").decode(encoding)
    return line
