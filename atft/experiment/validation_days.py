"""The validation days of a trained run, ``validation.json``: what runs are chosen by before any looks at test days."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from atft.data.labels import label_dates
from atft.errors import UseError
from atft.evaluate.metrics import Floats
from atft.observe.events import EventLog
from atft.train.checkpoint import write_text
from atft.train.loop import Trainer
from atft.train.progress import EpochRecord
from atft.train.validation import daily_figures

NAME = "validation.json"

Series = tuple[float | None, ...]


class ValidationDays(BaseModel):
    """What the best weights of a run's last phase do on each validation day, whole cross-section, before cost."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    metric: Literal["sharpe", "ic", "rank_ic", "loss"]
    """What the tier chooses its best epoch by."""
    value: float | None
    """That metric at the best epoch, large is good (minus the loss); a Sharpe ratio is per day."""
    phase: str
    """The last phase, whose best weights these are."""
    best_epoch: int
    """Epoch of that phase."""
    steps: int
    """Optimizer steps of the run."""
    samples: int
    """Stock-days that it trained on, counted from the masks."""
    seconds: float
    """Of training and validation."""
    horizon: int
    """Days that each return spans."""
    dates: tuple[dt.date, ...]
    """Label date of each decision."""
    gross: Series
    ic: Series
    rank_ic: Series

    def series(self) -> Floats | None:
        """``[days]`` what the metric is a statistic of; None for the loss, which is of sampled blocks."""
        if self.metric == "loss":
            return None
        stated = self.gross if self.metric == "sharpe" else getattr(self, self.metric)
        return np.array([np.nan if value is None else value for value in stated], dtype=float)


def keep(trainer: Trainer, folder: Path, events: EventLog) -> None:
    """Write the validation days of a trained run into its directory; called by every worker.

    Raises:
        UseError: the file cannot be written.
    """
    setup, record = trainer.setup, trainer.progress.phases[-1]
    trainer.load_best()
    daily = daily_figures(setup, frozenset(list(trainer.phases.values())[-1].parts))
    if not setup.group.leads:
        return
    panel_days, label = setup.panel.days, setup.tier.label
    ends = panel_days[label_dates(panel_days, label.horizon, label.execution_lag)[setup.periods.validate]]
    assert record.best_epoch is not None
    found = ValidationDays(
        metric=setup.tier.validation_metric, value=_value(record.best_metric), phase=record.name,
        best_epoch=record.best_epoch, steps=trainer.progress.step, samples=trainer.progress.samples,
        seconds=sum(epoch.seconds for phase in trainer.progress.phases for epoch in phase.epochs),
        horizon=label.horizon, dates=tuple(ends.tolist()),
        gross=_plain(daily.gross), ic=_plain(daily.ic), rank_ic=_plain(daily.rank_ic),
    )  # fmt: skip
    text = json.dumps(found.model_dump(mode="json"))
    write_text(folder / NAME, text + "\n")
    events.write("training_finished", metric=found.metric, value=found.value, best_epoch=found.best_epoch)


def read(folder: Path) -> ValidationDays | None:
    """The validation days of the run in ``folder``; None where it is not trained to its end.

    Raises:
        UseError: the file cannot be read.
    """
    try:
        return ValidationDays.model_validate_json((folder / NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        raise UseError(
            f"{folder / NAME}: cannot be read ({next(iter(str(error).splitlines()), '')}). "
            "Mend: remove the file; --resume makes it again from the run's checkpoint."
        ) from None


def metric_of(epoch: EpochRecord, metric: str) -> float:
    """A tier's validation metric at the end of an epoch, as something to be large; minus infinity where undefined."""
    value = -epoch.validation_loss if metric == "loss" else getattr(epoch, f"validation_{metric}")
    return -np.inf if value is None or not np.isfinite(value) else float(value)


def _value(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _plain(values: Floats) -> Series:
    return tuple(float(value) if np.isfinite(value) else None for value in values)
