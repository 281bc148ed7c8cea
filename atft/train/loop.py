"""Training: phases of epochs of exact steps, with checkpoints from which a run goes on as if it had not stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from atft.config import Phase
from atft.data.loader import Loader, Prepared
from atft.errors import RunError, UseError
from atft.model.random_keys import RandomKeys
from atft.observe.events import EventLog
from atft.train import checkpoint, noise_scale, optimizer
from atft.train.collectives import CollectiveError, Note
from atft.train.cutting import decided_cut
from atft.train.keeper import Keeper
from atft.train.partition import Cut
from atft.train.phases import divergence, learning_rate
from atft.train.precision import LossScale
from atft.train.progress import DivergenceRecord, EpochRecord, PhaseRecord, Progress
from atft.train.setup import Setup
from atft.train.step import (
    GradientOverflowError,
    NonFiniteError,
    OutOfMemoryError,
    ReplayError,
    Shard,
    StepOutcome,
)
from atft.train.validation import Validation, expected_std, flat_days, validate
from atft.train.wishes import Interrupted, Leaving, Wishes

SAVE_SECONDS = 60.0
"""A checkpoint is written within an epoch when this many seconds have passed, however few steps that were."""


class Trainer:
    """Trains one tier on one panel, as one of the workers of ``setup.group``; use it as a context manager.

    Args:
        setup: the tier made ready.
        run_dir: where checkpoints go.
        events: receives what happens.
        published: called with the names of files, relative to ``run_dir``, that are complete.
        wishes: looked at before each step.
    """

    def __init__(
        self,
        setup: Setup,
        run_dir: Path,
        events: EventLog,
        *,
        published: Callable[[str], object] = lambda name: None,
        wishes: Callable[[], Wishes] = Wishes,
    ) -> None:
        self.setup = setup
        self.events = events
        self.keeper = Keeper(run_dir / "checkpoints", setup.group, events, published)
        self.phases = setup.tier.phases_to_run()
        self.progress = Progress()
        self.scale = LossScale.of(setup.precision)
        self.best: dict[str, torch.Tensor] = {}
        self.fallback: str | None = None
        self._wishes = wishes
        self._optimizer: torch.optim.Optimizer | None = None
        self._saved_step = 0
        self._reason: str | None = None

    def __enter__(self) -> Trainer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.keeper.close()
        except UseError as unwritten:
            if error is None:
                raise
            error.add_note(str(unwritten))  # what went wrong first is what is told

    @property
    def total_steps(self) -> int:
        """Optimizer steps of all phases."""
        return sum(phase.epochs for phase in self.phases.values()) * self.setup.tier.steps_per_epoch

    @property
    def cut(self) -> Cut:
        """How this worker cuts its shard."""
        return Cut(self.progress.micro_batch_blocks, self.progress.kept_graphs)

    def load_best(self) -> None:
        """Put the best weights so far, of the phase that ended last, into the network."""
        self.setup.network.load_state_dict(self.best)

    @property
    def best_file(self) -> Path:
        """File of the best weights of the last phase, inside the run's directory; of use once that phase has ended."""
        return self.keeper.folder / self._best_name(len(self.phases) - 1)

    def _best_name(self, phase: int) -> str:
        return f"best-{phase}-{list(self.phases)[phase]}.safetensors"

    def run(self) -> Progress:
        """Train all phases that are left.

        Raises:
            Interrupted: it was asked to stop.
            RunError: a loss or gradient is not finite, memory does not suffice, or another worker did not come.
            UseError: a checkpoint cannot be written.
        """
        group = self.setup.group
        if self.progress.step == 0:
            self.setup.network.load_state_dict(group.shared(self.setup.network.state_dict()))
        if self.progress.world_size != group.world_size:
            # Once for the whole run, so that a resumed one rounds like an unbroken one.
            cut = decided_cut(self.setup, frozenset(part for phase in self.phases.values() for part in phase.parts))
            self.progress.world_size = group.world_size
            self.progress.micro_batch_blocks, self.progress.kept_graphs = cut.blocks, cut.kept
        for number, (name, phase) in enumerate(self.phases.items()):
            if number >= self.progress.phase:
                self._run_phase(number, name, phase)
        return self.progress

    def _run_phase(self, number: int, name: str, phase: Phase) -> None:
        started, parts = time.monotonic(), frozenset(phase.parts)
        if len(self.progress.phases) <= number:
            self.progress.phases.append(PhaseRecord(name=name))
            self.progress.noise.clear()  # another phase has other parameters
            if number:
                self.load_best()
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
        self.keeper.wait()
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
        rank, shards = self.setup.group.rank, self.setup.shards
        first = sum(shards[:rank])
        last = first + shards[rank]
        with Loader(
            lambda step: self.setup.sampler.plan(step, first, last), self.setup.gatherer, steps,
            days=tier.batch.block_days, workers=tier.runtime.loader_workers,
        ) as loader:  # fmt: skip
            for prepared in loader:
                self._step(prepared, name, phase, parts)
                if progress.step_in_epoch == per_epoch:
                    self._end_epoch(name, parts)
                self._heed(tier.runtime.checkpoint_steps)
                self.keeper.check()

    def _step(self, prepared: Prepared, name: str, phase: Phase, parts: frozenset[str]) -> None:
        # What is waited for before the step is not in its time; what is gathered on demand within it is.
        started = time.perf_counter() - prepared.wait_seconds
        progress, per_epoch = self.progress, self.setup.tier.steps_per_epoch
        rate = learning_rate(phase, progress.epoch * per_epoch + progress.step_in_epoch, phase.epochs * per_epoch)
        wishes, cut = self._wishes(), self.cut
        self._reason = wishes.reason
        self.setup.group.note = Note(wishes.stop, wishes.leave, cut.blocks, cut.kept)
        outcome = self._gradient(prepared, name, parts)
        self._measure_noise(prepared, name, parts, outcome)
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
            days=outcome.table.shape[0], flat_days=flat_days(outcome.table), world_size=self.setup.group.world_size,
            micro_batches=outcome.micro_batches, kept_graphs=outcome.kept_graphs,
            seconds=seconds, data_seconds=prepared.wait_seconds, overflows=self.scale.overflows,
            **{f"{part}_seconds": value for part, value in outcome.seconds.items()},
        )  # fmt: skip
        self._adopt(outcome)

    def _adopt(self, outcome: StepOutcome) -> None:
        """Cut the next steps as finely as the worker with the least memory has to."""
        heard = self.setup.group.heard
        blocks = min([outcome.cut.blocks, *(note.blocks for note in heard)])
        kept = min([outcome.cut.kept, *(note.kept for note in heard)])
        if Cut(blocks, kept) == self.cut:
            return
        was, self.progress.micro_batch_blocks, self.progress.kept_graphs = self.cut, blocks, kept
        text = (
            f"out of memory at step {self.progress.step}: micro-batches of {was.blocks} blocks, {was.kept} graphs "
            f"kept, become {blocks} and {kept}. No number changes."
        )
        self.events.write("out_of_memory", step=self.progress.step, blocks=blocks, kept_graphs=kept, text=text)

    def _heed(self, checkpoint_steps: int) -> None:
        """Save where it is time; save and end where any worker was asked to."""
        group, progress = self.setup.group, self.progress
        stop, leave = any(note.stop for note in group.heard), any(note.leave for note in group.heard)
        late = time.monotonic() - self.keeper.saved_at > SAVE_SECONDS
        due = stop or leave or late or progress.step % checkpoint_steps == 0
        if due and self._saved_step != progress.step:
            self.save()
        if stop or leave:
            self.keeper.wait()
            group.meet()
        if stop:
            self.events.write("stopped", step=progress.step, reason=self._reason)
            why = f"stopped by an early warning ({self._reason})" if self._reason else "stopped as asked"
            without = " without that --stop-on" if self._reason else ""
            raise Interrupted(
                f"{why} after step {progress.step}; its checkpoint is written. "
                f"Mend: --run {self.keeper.folder.parent.name} --resume{without} goes on from there."
            )
        if group.note.leave:
            raise Leaving(f"worker {group.rank} was taken away after step {progress.step}; its checkpoint is written.")

    def _computed(self, parts: dict[str, float]) -> dict[str, float | None]:
        """The parts of the objective, null where the rows do not hold what they are made of."""
        rows = self.setup.step.rows
        absent = {"rank_ic": not rows.with_rank_ic, "quantile": not rows.with_quantiles}
        return {name: None if absent.get(name) else value for name, value in parts.items()}

    def _gradient(self, prepared: Prepared, name: str, parts: frozenset[str]) -> StepOutcome:
        """The exact gradient; a float16 overflow takes the same batch again at a lower scale."""
        keys = RandomKeys(self.setup.tier.seed, prepared.step)
        shard = Shard(prepared.blocks, self.setup.shards)
        self.setup.network.train()
        while True:
            try:
                outcome = self.setup.step(shard, parts, keys, cut=self.cut, loss_scale=self.scale.value)
            except NonFiniteError as error:
                overflow = self.setup.precision.scaled and isinstance(error, GradientOverflowError)
                if overflow and self.scale.overflow():
                    continue
                raise RunError(
                    f"step {prepared.step + 1}, phase {name}: {error}. The run stops; nothing is skipped."
                ) from error
            except CollectiveError as error:
                raise CollectiveError(f"step {prepared.step + 1}, phase {name}: {error}") from error
            except (ReplayError, OutOfMemoryError, ValueError) as error:
                raise RunError(f"step {prepared.step + 1}, phase {name}: {error}.") from error
            self.scale.success()
            return outcome

    def _measure_noise(self, prepared: Prepared, name: str, parts: frozenset[str], outcome: StepOutcome) -> None:
        """Where it is time, tell the gradient noise scale; the gradient stays as it is."""
        setup, number = self.setup, self.progress.step + 1
        every = setup.tier.runtime.noise_scale_steps
        if not every or number % every:
            return
        found = noise_scale.taken(
            setup.step, self.progress.noise, Shard(prepared.blocks, setup.shards), parts,
            RandomKeys(setup.tier.seed, prepared.step), outcome, number=number, samples=setup.tier.batch.samples,
            loss_scale=self.scale.value,
        )  # fmt: skip
        self.events.write("noise_scale", phase=name, **found)

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
        self._check_alike()
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
        if best:
            record.expected_batch_sharpe_std = expected_std(
                found.table, self.setup.step.mix, tier.batch.days, tier.seed
            )
        progress.step_in_epoch, progress.loss_sum, progress.epoch_seconds = 0, 0.0, 0.0
        progress.epoch_samples, progress.epoch_data_seconds = 0, 0.0
        self.events.write(
            "epoch", phase=name, best=best, expected_batch_sharpe_std=record.expected_batch_sharpe_std,
            validation_days=found.days, validation_flat_days=found.flat_days, **epoch.model_dump(),
        )  # fmt: skip
        self._warn_of_divergence(record)
        self.save()

    def _check_alike(self) -> None:
        """All workers hold the same weights to the last bit, or the run stops: they would train different networks."""
        own = checkpoint.checksum(list(self.setup.network.state_dict().items()))
        world_size = self.setup.group.world_size
        all_sums = self.setup.group.gather(torch.tensor([own], dtype=torch.int64), [1] * world_size).tolist()
        differing = [rank for rank, found in enumerate(all_sums) if found != all_sums[0]]
        if differing:
            raise RunError(
                f"step {self.progress.step}: the weights of workers {differing} differ from those of worker 0. "
                "Mend: machines of one kind, with the same versions of torch."
            )

    def _keep_if_best(self, record: PhaseRecord, found: Validation) -> bool:
        metric = found.metric(self.setup.tier.validation_metric)
        if record.best_epoch is not None and record.best_metric is not None and metric <= record.best_metric:
            return False
        record.best_epoch, record.best_metric = self.progress.epoch, metric
        self.best = checkpoint.copied(self.setup.network.state_dict())
        self.keeper.save_weights(self._best_name(self.progress.phase), self.best)
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
        """Write the state that :meth:`resume` goes on from, in the background."""
        state: dict[str, Any] = {
            "config": self.setup.tier.sha256(),
            "data": self.setup.panel.sha256,
            "progress": self.progress.as_state(),
            "network": self.setup.network.state_dict(),
            "best": self.best,
            "optimizer": self._optimizer.state_dict() if self._optimizer else None,
            "scale": vars(self.scale),
        }
        self.keeper.save(state, self.progress.step)
        self._saved_step = self.progress.step

    def resume(self, *, restore: bool = True) -> None:
        """Go on from the last checkpoint of the run.

        Args:
            restore: put the file of the best weights back as the checkpoint knows it; not while another process may
                be training the run.

        Raises:
            UseError: there is none, it is damaged, or it is of another configuration or other data.
        """
        state, self.fallback = self.keeper.load()
        for name, now in (("config", self.setup.tier.sha256()), ("data", self.setup.panel.sha256)):
            if state[name] != now:
                raise UseError(
                    f"{self.keeper.folder.parent}: cannot go on, its {name} differs from this one "
                    f"({state[name][:12]} there, {now[:12]} here). "
                    "Mend: resume with the same tier and panel, or start a new run."
                )
        self.progress = Progress.model_validate(state["progress"])
        self.setup.network.load_state_dict(state["network"])
        self.scale = LossScale(**state["scale"])
        self.best = state["best"]
        with_best = [number for number, record in enumerate(self.progress.phases) if record.best_epoch is not None]
        if with_best and restore:
            self.keeper.restore_weights(self._best_name(with_best[-1]), self.best)
        if state["optimizer"] is not None:
            phase = list(self.phases.values())[self.progress.phase]
            self._optimizer = self._new_optimizer(frozenset(phase.parts))
            self._optimizer.load_state_dict(state["optimizer"])
