"""What each worker of a check does: compute one effective batch in many ways, or train some steps in some runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from atft.config import Tier
from atft.data.loader import Loader
from atft.data.panel import Panel
from atft.errors import RunError, UseError
from atft.experiment.oracle import loss_in_one_piece
from atft.experiment.peak import peak_bytes
from atft.experiment.verify import Course, Dtype, Leg, Measured, Naive, Partition, Run, sampling_deviation
from atft.model.random_keys import RandomKeys
from atft.model.ranking import RankingNetwork
from atft.observe.events import FILE_NAME, EventLog
from atft.train import checkpoint
from atft.train.collectives import Group
from atft.train.loop import Trainer
from atft.train.memory import free_bytes, kept_bytes
from atft.train.partition import Cut
from atft.train.precision import LossScale, in_effect
from atft.train.setup import Setup, build_network, prepare
from atft.train.step import (
    GradientOverflowError,
    NonFiniteError,
    OutOfMemoryError,
    ReplayError,
    Shard,
    gradient_vector,
    is_out_of_memory,
)
from atft.train.wishes import Interrupted, Wishes

T = TypeVar("T")

REPEATS = 3
"""Times that each step is timed; the least counts."""

REFERENCE = "reference.pt"


@dataclass(frozen=True)
class Refused:
    """What a tier, a panel or a machine does not allow, in words; all workers of a group find the same."""

    text: str


def answered(group: Group, work: Callable[..., T], *arguments: Any) -> T | Refused:
    """``work(group, *arguments)``, or what it was refused: wrong use stays wrong use when it is found in a worker."""
    try:
        return work(group, *arguments)
    except UseError as error:
        return Refused(str(error))


@dataclass(frozen=True)
class Job:
    """What the workers of a check are told.

    Attributes:
        tier, panel: whose batches are drawn.
        folder: what they leave for one another and for whoever started them.
        dtype: what steps compute in.
        step: optimizer step whose batch it is, from 0.
    """

    tier: Tier
    panel: Path
    folder: Path
    dtype: Dtype = "float64"
    step: int = 0


@dataclass(frozen=True)
class Once:
    """A loss and its gradient as one computation gave them.

    Attributes:
        loss: to be made small.
        gradient: ``[parameters]`` on the CPU, of all parameters of the phase.
        micro_batches, kept_graphs: what it really was cut into.
    """

    loss: float
    gradient: Tensor
    micro_batches: int = 1
    kept_graphs: int = 1


@dataclass(frozen=True)
class Found:
    """What one worker found.

    Attributes:
        facts: about the batch and how it was computed.
        measured: of each partition, in the order asked.
        plain: autograd through the batch in one piece, in the check's own number format; on a single worker only.
        naive: on a single worker only.
    """

    facts: dict[str, Any]
    measured: list[Measured]
    plain: Measured | None = None
    naive: tuple[Naive, ...] = ()


def measure(group: Group, job: Job, among: Sequence[Partition], naive: Sequence[Sequence[Run]]) -> Found:
    """Compute one effective batch in every partition of ``among``; collective.

    A single worker also computes the reference, which it leaves in ``job.folder`` for larger groups, and what stands
    beside them: the plain step and naive averaging.

    Raises:
        UseError: the tier does not fit the panel, or memory does not hold the batch in one piece.
        RunError: the batch has no loss, or the step stopped, as training would.
    """
    bench, alone = Bench(group, job), group.world_size == 1
    attempts: dict[Partition | None, Callable[[], Once]] = {None: bench.plain} if alone else {}
    attempts |= {each: partial(bench.exact, Cut(each.blocks, each.kept)) for each in among}
    try:
        if alone:
            torch.save(vars(bench.reference()), job.folder / REFERENCE)
        reference = Once(**torch.load(job.folder / REFERENCE, weights_only=True))
        measured = bench.measured(attempts, reference)
    except (NonFiniteError, ReplayError, OutOfMemoryError, ValueError) as error:
        raise RunError(f"the batch of step {job.step}: {error}.") from error
    told = tuple(bench.naive(pieces, reference) for pieces in naive) if alone else ()
    return Found(bench.facts(reference), [measured[each] for each in among], measured.get(None), told)


class Bench:
    """The effective batch of one optimizer step as training draws it, with all parts of the last phase and dropout.

    Args:
        group: the workers.
        job: what they are told.
    """

    def __init__(self, group: Group, job: Job) -> None:
        self._setup = in_dtype(_prepared(group, job), job.dtype)
        tier, shards = self._setup.tier, self._setup.shards
        first = sum(shards[: group.rank])
        last = first + shards[group.rank]
        self._parts = frozenset(list(tier.phases_to_run().values())[-1].parts)
        self._keys = RandomKeys(tier.seed, job.step)
        with Loader(
            lambda step: self._setup.sampler.plan(step, first, last), self._setup.gatherer, [job.step],
            days=tier.batch.block_days, workers=0,
        ) as loader:  # fmt: skip
            self._blocks = next(loader).blocks
        self._setup.network.train()

    def facts(self, reference: Once) -> dict[str, Any]:
        """What the report says about the batch and how it is computed."""
        return {
            "parts": sorted(self._parts), "parameters": len(reference.gradient), "device": self._setup.device.type,
            "number_format": number_format(self._setup), "threads": self._setup.threads,
            "loss": reference.loss, "gradient_norm": float(reference.gradient.norm()),
        }  # fmt: skip

    def exact(self, cut: Cut) -> Once:
        """The exact step; collective."""
        shard = Shard(self._blocks, self._setup.shards)
        found = self._unscaled(
            lambda scale: self._setup.step(shard, self._parts, self._keys, cut=cut, loss_scale=scale)
        )
        return Once(found.loss, self._gradient(self._setup.network), found.micro_batches, found.kept_graphs)

    def plain(self) -> Once:
        """What anyone would write if memory held it: one forward pass, one loss, one backward pass."""
        return Once(self._unscaled(self._plain), self._gradient(self._setup.network))

    def reference(self) -> Once:
        """Loss and gradient of the batch in one piece, in float64.

        Raises:
            UseError: memory does not hold it.
        """
        tier, count = self._setup.tier, self._setup.tier.batch.blocks
        network = self._network64()
        block = self._blocks(0, 1).to(self._setup.device)
        needed = count * kept_bytes(
            lambda: network(block, self._parts, self._keys).scores, network.parameters()
        )  # fmt: skip
        free = free_bytes(self._setup.device)
        if needed > free:
            raise UseError(_no_room(tier, f"about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"))
        try:
            return self._of_oracle(0, count)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise UseError(_no_room(tier, next(iter(str(error).splitlines()), "memory ran out"))) from error
            raise

    def naive(self, pieces: Sequence[Run], reference: Once) -> Naive:
        """What averaging would give, in float64: all of its error is its own, and none is rounding."""
        try:
            found = [self._of_oracle(first, last) for first, last in pieces]
        except ValueError:
            return Naive(len(pieces), None, None)
        loss = sum(each.loss for each in found) / len(pieces)
        gradient = torch.stack([each.gradient for each in found]).mean(0)
        return Naive(len(pieces), *self._distance(Once(loss, gradient), reference))

    def measured(
        self, attempts: dict[Partition | None, Callable[[], Once]], reference: Once
    ) -> dict[Partition | None, Measured]:
        """Each attempt compared, counted, timed in turn with the others, and its memory taken; collective."""
        traffic, found = self._setup.group.traffic, {}
        seconds = dict.fromkeys(attempts, float("inf"))
        for _ in range(REPEATS):
            for name, attempt in attempts.items():
                before, began = replace(traffic), time.perf_counter()
                once = attempt()
                seconds[name] = min(seconds[name], time.perf_counter() - began)
                found[name] = self._seen(once, reference, replace(traffic), before)
        peaks = {name: self._peak(attempt) for name, attempt in attempts.items()}
        return {name: replace(each, seconds=seconds[name], peak_bytes=peaks[name]) for name, each in found.items()}

    def _seen(self, once: Once, reference: Once, after: Any, before: Any) -> Measured:
        loss, gradient = self._distance(once, reference)
        return Measured(
            once.micro_batches, once.kept_graphs, loss, gradient, checkpoint.checksum([once.loss, once.gradient]),
            gathers=after.gathers - before.gathers, reductions=after.reductions - before.reductions,
            sent_bytes=after.gathered_bytes - before.gathered_bytes + after.reduced_bytes - before.reduced_bytes,
            seconds=0.0, peak_bytes=0,
        )  # fmt: skip

    def _peak(self, attempt: Callable[[], Once]) -> int:
        """Peak without the gradient, which is as large whatever the batch is cut into."""
        network = self._setup.network
        network.zero_grad(set_to_none=True)
        peak = peak_bytes(attempt, self._setup.device)
        return peak - sum(p.nbytes for p in network.parameters_of(self._parts))

    def _unscaled(self, attempt: Callable[[float], T]) -> T:
        """``attempt(loss scale)``, at a lower scale after an overflow, as training does it."""
        scale = LossScale.of(self._setup.precision)
        while True:
            try:
                return attempt(scale.value)
            except GradientOverflowError:
                if not (self._setup.precision.scaled and scale.overflow()):
                    raise

    def _plain(self, scale: float) -> float:
        network, step = self._setup.network, self._setup.step
        network.zero_grad(set_to_none=True)
        vector = gradient_vector(network.parameters_of(self._parts))
        rows = step.forward(self._blocks(0, self._setup.tier.batch.blocks), self._parts, self._keys)
        loss = step.mix.loss(step.mix.parts(rows))
        torch.autograd.backward(loss * scale)
        vector.div_(scale)
        if not torch.isfinite(vector).all():
            raise GradientOverflowError("the gradient of the batch in one piece is not finite")
        return float(loss.detach())

    def _of_oracle(self, first: int, last: int) -> Once:
        """Loss and gradient of some blocks by themselves, in float64, by code that the step has no part in."""
        tier, network = self._setup.tier, self._network64()
        loss = loss_in_one_piece(
            network, self._blocks(first, last).to(self._setup.device), self._parts, self._keys,
            kind=tier.objective.sharpe_kind, weights=tier.objective.weights.model_dump(),
            temperature=tier.objective.rank_temperature, cost=tier.objective.turnover_cost_bps / 1e4,
            levels=tier.model.quantiles,
        )  # fmt: skip
        torch.autograd.backward(loss)
        return Once(float(loss.detach()), self._gradient(network))

    def _network64(self) -> RankingNetwork:
        """The network with its initial weights, in float64."""
        setup = self._setup
        network = build_network(setup.tier, features=len(setup.panel.feature_names))
        return network.to(setup.device, torch.float64).train()

    def _gradient(self, network: RankingNetwork) -> Tensor:
        gradients = [parameter.grad for parameter in network.parameters_of(self._parts)]
        return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]).cpu()

    def _distance(self, once: Once, reference: Once) -> tuple[float, float]:
        """Loss difference and gradient error, see :class:`Measured`."""
        scale = max(abs(reference.loss), sampling_deviation(self._setup.tier))
        error = (once.gradient.double() - reference.gradient).norm() / reference.gradient.norm().clamp_min(1e-300)
        return abs(once.loss - reference.loss) / scale, float(error)


def _no_room(tier: Tier, why: str) -> str:
    return (
        f"memory does not hold the effective batch of {tier.batch.days} days × {tier.batch.stocks_per_day} stocks in "
        f"one piece in float64, which every partition is compared with: {why}. Mend: a machine with more memory, or "
        "the same code on a smaller batch (--set batch.days, --set epoch_stock_days)."
    )


def device_of(group: Group) -> torch.device:
    """One of the GPUs where there are any, which workers share where they are more; else the CPU."""
    count = torch.cuda.device_count()
    return torch.device("cuda", group.local_rank % count) if count else torch.device("cpu")


def in_dtype(setup: Setup, dtype: Dtype) -> Setup:
    """``setup`` with a network of its own at its initial weights, computing in ``dtype``."""
    network = build_network(setup.tier, features=len(setup.panel.feature_names))
    network = network.to(setup.device, torch.float64 if dtype == "float64" else torch.float32)
    precision = setup.precision if dtype == "tier" else in_effect("32", setup.device)
    step = replace(setup.step, network=network, autocast=precision.autocast)
    return replace(setup, network=network, step=step, precision=precision)


def number_format(setup: Setup) -> str:
    """What steps compute in: ``float64``, ``float32``, ``bfloat16`` or ``float16``."""
    double = next(setup.network.parameters()).dtype == torch.float64
    return "float64" if double else setup.precision.name


def _prepared(group: Group, job: Job) -> Setup:
    return prepare(job.tier, Panel.open(job.panel), group=group, device=device_of(group))


def only_last_phase(tier: Tier, steps: int) -> Tier:
    """``tier`` with its last phase alone, warmed up as its first one is, since an untrained network meets it.

    Without a warm-up Adam takes rounding for direction, and curves part within a few steps. One epoch of more than
    ``steps`` steps: no validation comes before.
    """
    phases = list(tier.phases_to_run().items())
    name, last = phases[-1]
    warm = max(last.warmup_steps, phases[0][1].warmup_steps)
    return tier.model_copy(
        update={
            "phases": {name: last.model_copy(update={"epochs": 1, "warmup_steps": warm})},
            "epoch_stock_days": (steps + 1) * tier.batch.samples,
            "runtime": tier.runtime.model_copy(update={"checkpoint_steps": steps + 1}),
        }
    )


def train_legs(group: Group, job: Job, legs: Sequence[Leg]) -> list[tuple[str, int]]:
    """Train what is given of some runs, each in its directory in ``job.folder``; collective.

    Returns:
        Of each leg its number format and the checksum of the weights that this worker holds after it.
    """
    prepared = _prepared(group, job)
    found = []
    for leg in legs:
        setup = in_dtype(prepared, leg.course.dtype)
        if leg.course.nudged:
            _nudge(setup.network)
        _train(setup, run_directory(job.folder, leg.course), leg)
        weights = checkpoint.checksum(sorted(setup.network.state_dict().items()))
        found.append((number_format(setup), weights))
    return found


@torch.no_grad()
def _nudge(network: RankingNetwork) -> None:
    """Move every weight up to the next number that there is: by one rounding."""
    for parameter in network.parameters():
        parameter.copy_(torch.nextafter(parameter, torch.full_like(parameter, torch.inf)))


def run_directory(folder: Path, course: Course) -> Path:
    """Where a run's events and checkpoints are."""
    return folder / course.name


def _train(setup: Setup, directory: Path, leg: Leg) -> None:
    if setup.group.leads:
        directory.mkdir(exist_ok=True)

    def wishes() -> Wishes:
        return Wishes(stop=trainer.progress.step + 1 == leg.until)

    with (
        EventLog(directory / FILE_NAME if setup.group.leads else None) as events,
        Trainer(setup, directory, events, wishes=wishes) as trainer,
        contextlib.suppress(Interrupted),
    ):
        if leg.number:
            trainer.resume()
        trainer.run()
