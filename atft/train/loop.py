"""Training: phases of epochs of exact steps, with checkpoints from which a run goes on as if it had not stopped."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from atft.config import Phase
from atft.data.loader import Loader, Prepared
from atft.errors import RunError, UseError
from atft.model.random_keys import RandomKeys
from atft.observe.events import EventLog
from atft.train import checkpoint, optimizer, partition
from atft.train.memory import free_bytes
from atft.train.phases import divergence, learning_rate
from atft.train.precision import LossScale
from atft.train.progress import DivergenceRecord, EpochRecord, PhaseRecord, Progress
from atft.train.setup import Setup
from atft.train.step import GradientOverflowError, NonFiniteError, ReplayError, StepOutcome
from atft.train.validation import Validation, expected_std, validate

SAVE_SECONDS = 60.0
"""A checkpoint is written at the end of each epoch, and within one when this many seconds have passed."""


def phases_done(run_dir: Path) -> int:
    """How many phases a run's last checkpoint has behind it.

    Raises:
        UseError: there is no checkpoint, or it is damaged.
    """
    return int(checkpoint.load_state(run_dir / "checkpoints" / "last.pt")["progress"]["phase"])


class Trainer:
    """Trains one tier on one panel in one process.

    Args:
        setup: the tier made ready.
        run_dir: where checkpoints go.
        events: receives what happens.
    """

    def __init__(self, setup: Setup, run_dir: Path, events: EventLog) -> None:
        self.setup = setup
        self.events = events
        self.folder = run_dir / "checkpoints"
        self.phases = setup.tier.phases_to_run()
        self.progress = Progress()
        self.scale = LossScale.of(setup.precision)
        self.best: dict[str, torch.Tensor] = {}
        self._optimizer: torch.optim.Optimizer | None = None
        self._saved = time.monotonic()

    @property
    def total_steps(self) -> int:
        """Optimizer steps of all phases."""
        return sum(phase.epochs for phase in self.phases.values()) * self.setup.tier.steps_per_epoch

    def best_weights_path(self, phase: int) -> Path:
        """Where the best weights of the phase of this number lie."""
        return self.folder / f"best-{phase}-{list(self.phases)[phase]}.safetensors"

    def load_best(self) -> None:
        """Put the best weights of the last phase into the network."""
        self.setup.network.load_state_dict(checkpoint.load_weights(self.best_weights_path(len(self.phases) - 1)))

    def run(self) -> Progress:
        """Train all phases that are left.

        Raises:
            RunError: a loss or gradient is not finite.
            UseError: a checkpoint cannot be written.
        """
        if not self.progress.micro_batch_blocks:
            self._decide_partition()
        for number, (name, phase) in enumerate(self.phases.items()):
            if number >= self.progress.phase:
                self._run_phase(number, name, phase)
        return self.progress

    def _run_phase(self, number: int, name: str, phase: Phase) -> None:
        started, parts = time.monotonic(), frozenset(phase.parts)
        if len(self.progress.phases) <= number:
            self.progress.phases.append(PhaseRecord(name=name))
            if number:
                self.setup.network.load_state_dict(checkpoint.load_weights(self.best_weights_path(number - 1)))
        if self._optimizer is None:
            self._optimizer = self._new_optimizer(parts)
        self.events.write(
            "phase_started", phase=name, index=number, epochs=phase.epochs, learning_rate=phase.learning_rate,
            parts=list(phase.parts), parameters=self.setup.phase_parameters(parts),
        )  # fmt: skip
        self._run_steps(name, phase, parts)
        record = self.progress.phases[number]
        self.progress.phase, self.progress.epoch = number + 1, 0
        self._optimizer = None
        self.save()
        self.events.write(
            "phase_finished", phase=name, best_epoch=record.best_epoch, best_metric=record.best_metric,
            expected_batch_sharpe_std=record.expected_batch_sharpe_std, seconds=time.monotonic() - started,
        )  # fmt: skip

    def _new_optimizer(self, parts: frozenset[str]) -> torch.optim.Optimizer:
        return optimizer.build(self.setup.network.parameters_of(parts), self.setup.tier.optimizer)

    def _run_steps(self, name: str, phase: Phase, parts: frozenset[str]) -> None:
        progress, per_epoch = self.progress, self.setup.tier.steps_per_epoch
        left = (phase.epochs - progress.epoch) * per_epoch - progress.step_in_epoch
        steps = range(progress.step, progress.step + left)
        tier = self.setup.tier
        with Loader(
            self.setup.sampler.plan, self.setup.gatherer, steps, days=tier.batch.block_days,
            workers=tier.runtime.loader_workers,
        ) as loader:  # fmt: skip
            for prepared in loader:
                self._step(prepared, name, phase, parts)
                if progress.step_in_epoch == per_epoch:
                    self._end_epoch(name, parts)
                elif time.monotonic() - self._saved > SAVE_SECONDS:
                    self.save()

    def _step(self, prepared: Prepared, name: str, phase: Phase, parts: frozenset[str]) -> None:
        # What is waited for before the step is not in its time; what is gathered on demand within it is.
        started = time.perf_counter() - prepared.wait_seconds
        progress, per_epoch = self.progress, self.setup.tier.steps_per_epoch
        rate = learning_rate(phase, progress.epoch * per_epoch + progress.step_in_epoch, phase.epochs * per_epoch)
        outcome = self._gradient(prepared, name, parts)
        norm = self._update(rate, parts)
        seconds = time.perf_counter() - started
        progress.step += 1
        progress.step_in_epoch += 1
        progress.loss_sum += outcome.loss
        progress.epoch_seconds += seconds
        progress.train_seconds += seconds
        progress.data_seconds += prepared.wait_seconds
        progress.samples += outcome.samples
        progress.epoch_samples += outcome.samples
        progress.epoch_data_seconds += prepared.wait_seconds
        progress.batch_sharpes.add(outcome.parts["sharpe"])
        self.events.write(
            "step", step=progress.step, phase=name, epoch=progress.epoch + 1, loss=outcome.loss,
            parts=self._computed(outcome.parts),
            batch_sharpe=outcome.parts["sharpe"], gradient_norm=norm, learning_rate=rate, samples=outcome.samples,
            days=outcome.table.shape[0], micro_batches=outcome.micro_batches, kept_graphs=outcome.kept_graphs,
            seconds=seconds, data_seconds=prepared.wait_seconds, overflows=self.scale.overflows,
            **{f"{part}_seconds": value for part, value in outcome.seconds.items()},
        )  # fmt: skip

    def _computed(self, parts: dict[str, float]) -> dict[str, float | None]:
        """The parts of the objective, null where the rows do not hold what they are made of."""
        rows = self.setup.step.rows
        absent = {"rank_ic": not rows.with_rank_ic, "quantile": not rows.with_quantiles}
        return {name: None if absent.get(name) else value for name, value in parts.items()}

    def _gradient(self, prepared: Prepared, name: str, parts: frozenset[str]) -> StepOutcome:
        """The exact gradient; a float16 overflow takes the same batch again at a lower scale."""
        keys = RandomKeys(self.setup.tier.seed, prepared.step)
        cuts = partition.cuts(len(prepared.plan.first_days), self.progress.micro_batch_blocks)
        micro_batches = [partial(prepared.blocks, first, last) for first, last in cuts]
        self.setup.network.train()
        while True:
            try:
                outcome = self.setup.step(
                    micro_batches, parts, keys, kept_graphs=self.progress.kept_graphs, loss_scale=self.scale.value
                )
            except NonFiniteError as error:
                overflow = self.setup.precision.scaled and isinstance(error, GradientOverflowError)
                if overflow and self.scale.overflow():
                    continue
                raise RunError(
                    f"step {prepared.step + 1}, phase {name}: {error}. The run stops; nothing is skipped."
                ) from error
            except (ReplayError, ValueError) as error:
                raise RunError(f"step {prepared.step + 1}, phase {name}: {error}.") from error
            self.scale.success()
            return outcome

    def _decide_partition(self) -> None:
        """Cut effective batches once for the whole run, so that a resumed run rounds like an unbroken one."""
        tier, blocks = self.setup.tier, self.setup.tier.batch.blocks
        block_bytes = partition.activation_bytes(
            block_days=tier.batch.block_days, window=tier.window.days, stocks=tier.batch.stocks_per_day,
            features=len(self.setup.panel.feature_names), hidden_size=tier.model.hidden_size,
        )  # fmt: skip
        free = free_bytes(self.setup.device)
        per = partition.micro_batch_blocks(
            tier.runtime.micro_batch_blocks, blocks=blocks, block_bytes=block_bytes, free_bytes=free
        )
        self.progress.micro_batch_blocks = per
        self.progress.kept_graphs = partition.kept_graphs(
            tier.runtime.kept_graphs,
            micro_batches=-(-blocks // per),
            micro_batch_bytes=per * block_bytes,
            free_bytes=free,
        )

    def _update(self, rate: float, parts: frozenset[str]) -> float:
        """One optimizer step; returns the gradient's norm before clipping."""
        assert self._optimizer is not None
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        parameters = self.setup.network.parameters_of(parts)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.setup.tier.optimizer.clip_norm)
        self._optimizer.step()
        return float(norm)

    def _end_epoch(self, name: str, parts: frozenset[str]) -> None:
        started = time.perf_counter()
        progress, tier = self.progress, self.setup.tier
        found = validate(self.setup, parts)
        record = progress.phases[progress.phase]
        progress.epoch += 1
        epoch = EpochRecord(
            epoch=progress.epoch, train_loss=progress.loss_sum / progress.step_in_epoch,
            validation_loss=found.loss, validation_sharpe=found.sharpe, validation_ic=found.ic,
            validation_rank_ic=found.rank_ic, seconds=progress.epoch_seconds + time.perf_counter() - started,
            samples=progress.epoch_samples, data_wait_seconds=progress.epoch_data_seconds,
        )  # fmt: skip
        record.epochs.append(epoch)
        best = self._keep_if_best(record, found)
        progress.step_in_epoch, progress.loss_sum, progress.epoch_seconds = 0, 0.0, 0.0
        progress.epoch_samples, progress.epoch_data_seconds = 0, 0.0
        self.events.write("epoch", phase=name, best=best, **epoch.model_dump())
        self._warn_of_divergence(record)
        if best:
            record.expected_batch_sharpe_std = expected_std(
                found.table, self.setup.step.mix, tier.batch.days, tier.seed
            )
        self.save()

    def _keep_if_best(self, record: PhaseRecord, found: Validation) -> bool:
        metric = found.metric(self.setup.tier.validation_metric)
        if record.best_epoch is not None and record.best_metric is not None and metric <= record.best_metric:
            return False
        record.best_epoch, record.best_metric = self.progress.epoch, metric
        checkpoint.save_weights(self.best_weights_path(self.progress.phase), self.setup.network.state_dict())
        return True

    def _warn_of_divergence(self, record: PhaseRecord) -> None:
        known = [(e.epoch, e.train_loss, e.validation_sharpe) for e in record.epochs if e.validation_sharpe is not None]
        epochs, losses, metrics = ([each[part] for each in known] for part in range(3))
        since = divergence(losses, metrics)
        if since is None:
            return
        text = (
            f"phase {record.name}: since epoch {epochs[since]:.0f} the training loss improves while the "
            f"validation Sharpe falls ({metrics[since]:.3f} to {metrics[-1]:.3f} a day)"
        )
        found = DivergenceRecord(
            phase=record.name, first_epoch=int(epochs[since]), last_epoch=int(epochs[-1]), note=text
        )
        seen = self.progress.divergences
        if seen and (seen[-1].phase, seen[-1].first_epoch) == (found.phase, found.first_epoch):
            seen[-1] = found  # the same one, an epoch longer
            return
        seen.append(found)
        self.events.write("divergence", phase=record.name, epoch=found.last_epoch, since=found.first_epoch, text=text)

    def save(self) -> None:
        """Write the state that :meth:`resume` goes on from."""
        state: dict[str, Any] = {
            "config": self.setup.tier.sha256(),
            "data": self.setup.panel.sha256,
            "progress": self.progress.as_state(),
            "network": self.setup.network.state_dict(),
            "optimizer": self._optimizer.state_dict() if self._optimizer else None,
            "scale": vars(self.scale),
        }
        checkpoint.save_state(self.folder / "last.pt", state)
        self._saved = time.monotonic()
        self.events.write("checkpoint", path="checkpoints/last.pt", step=self.progress.step)

    def resume(self) -> None:
        """Go on from the last checkpoint of the run.

        Raises:
            UseError: there is none, it is damaged, or it is of another configuration or other data.
        """
        state = checkpoint.load_state(self.folder / "last.pt")
        for name, now in (("config", self.setup.tier.sha256()), ("data", self.setup.panel.sha256)):
            if state[name] != now:
                raise UseError(
                    f"{self.folder.parent}: cannot go on, its {name} differs from this one "
                    f"({state[name][:12]} there, {now[:12]} here). "
                    "Mend: resume with the same tier and panel, or start a new run."
                )
        self.progress = Progress.model_validate(state["progress"])
        self.setup.network.load_state_dict(state["network"])
        self.scale = LossScale(**state["scale"])
        if state["optimizer"] is not None:
            phase = list(self.phases.values())[self.progress.phase]
            self._optimizer = self._new_optimizer(frozenset(phase.parts))
            self._optimizer.load_state_dict(state["optimizer"])
