"""Where a run stands: what a checkpoint remembers beside the tensors, and what the result tells of the phases."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from atft.train.noise_scale import Measurement


class EpochRecord(BaseModel):
    """One epoch of a phase. Sharpe ratios are per day, of the whole cross-section, before cost."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_sharpe: float | None
    validation_ic: float | None
    validation_rank_ic: float | None
    seconds: float
    samples: int
    data_wait_seconds: float


class PhaseRecord(BaseModel):
    """A phase as it went so far."""

    name: str
    epochs: list[EpochRecord] = []
    best_epoch: int | None = None
    best_metric: float | None = None
    expected_batch_sharpe_std: float | None = None


class DivergenceRecord(BaseModel):
    """Epochs of a phase over which the loss improved while the metric worsened."""

    phase: str
    first_epoch: int
    last_epoch: int
    note: str


class BatchSharpes(BaseModel):
    """Moments of the batch Sharpe ratios of all steps so far."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    least: float | None = None
    most: float | None = None

    def add(self, value: float) -> None:
        """Count one more batch."""
        self.count += 1
        self.total += value
        self.squares += value * value
        self.least = value if self.least is None else min(self.least, value)
        self.most = value if self.most is None else max(self.most, value)


class Progress(BaseModel):
    """Where a run stands after ``step`` optimizer steps."""

    step: int = 0
    phase: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    loss_sum: float = 0.0
    epoch_seconds: float = 0.0
    epoch_samples: int = 0
    epoch_data_seconds: float = 0.0
    samples: int = 0
    train_seconds: float = 0.0
    data_seconds: float = 0.0
    world_size: int = 0
    micro_batch_blocks: int = 0
    kept_graphs: int = 0
    phases: list[PhaseRecord] = []
    divergences: list[DivergenceRecord] = []
    batch_sharpes: BatchSharpes = BatchSharpes()
    noise: list[Measurement] = []
    """Steps of this phase whose gradient noise was measured, the last ones."""

    def as_state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return self.model_dump()
