"""A run as TensorBoard reads it, written by TensorBoard's own library."""

from __future__ import annotations

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from atft.errors import UseError
from atft.experiment.export import Exported


def write(run: Exported, out: Path) -> str:
    """Write a run's curves, figures and settings into ``out/RUN``; returns that directory.

    Raises:
        UseError: it exists already, since the same curves would be drawn twice, or it cannot be written.
    """
    folder = out / run.name
    if folder.exists():
        raise UseError(f"{folder}: exists already, and its curves would be drawn twice. Mend: another --out.")
    began = run.points[0].time if run.points else 0.0
    last = max((point.step for point in run.points), default=0)
    ended = run.points[-1].time if run.points else 0.0
    try:
        writer = EventFileWriter(str(folder))
        for name, step, time, value in run.points:
            writer.add_event(_scalar(name, step, time, value))
        for name, value in run.figures.items():
            writer.add_event(_scalar(name, last, ended, value))
        for title, told in (("settings", run.settings), ("origin", run.tags)):
            rows = "\n".join(f"| {name} | {value.replace('|', '/')} |" for name, value in told.items())
            summary = text_pb(title, f"| name | value |\n| --- | --- |\n{rows}")
            writer.add_event(Event(wall_time=began, step=0, summary=summary))
        writer.close()
    except OSError as error:
        raise UseError(f"{folder}: cannot be written: {error.strerror or error}. Mend: another --out.") from None
    return str(folder)


def _scalar(name: str, step: int, time: float, value: float) -> Event:
    return Event(wall_time=time, step=step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)]))
