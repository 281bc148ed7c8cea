"""What the workers of a run tell one another: rows of days, gradients, scores, states, and short notes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from atft.errors import RunError

WATCH_SECONDS = 10.0


class CollectiveError(RunError):
    """A worker did not come to a collective in time, or is gone; the message names it where that can be told."""


@dataclass(frozen=True)
class Note:
    """What a worker says beside its rows, so that all of them act alike after the same step.

    Attributes:
        stop: it was asked to end the run after this step.
        leave: it was told that it will be taken away, and asks for a checkpoint before.
        blocks, kept: how it cuts its shard, after what memory allowed.
    """

    stop: bool = False
    leave: bool = False
    blocks: int = 0
    kept: int = 0

    def as_row(self, columns: int) -> Tensor:
        """``[1, columns]`` float64."""
        values = [float(value) for value in (self.stop, self.leave, self.blocks, self.kept)]
        return torch.tensor([values + [0.0] * (columns - len(values))], dtype=torch.float64)

    @classmethod
    def of_row(cls, row: Tensor) -> Note:
        """What :meth:`as_row` wrote."""
        stop, leave, blocks, kept = row[:4].tolist()
        return cls(bool(stop), bool(leave), int(blocks), int(kept))


@dataclass
class Traffic:
    """What went over the network.

    Attributes:
        gathers, gathered_bytes: all-gathers, and bytes that this worker sent into them.
        reductions, reduced_bytes: all-reduces of gradients, and bytes that this worker sent into them.
    """

    gathers: int = 0
    gathered_bytes: int = 0
    reductions: int = 0
    reduced_bytes: int = 0


@dataclass
class Group:
    """The workers of a run, as one of them sees them; by default a run of one process, where nothing is sent.

    Tables of rows and scores travel and stay on the CPU (gloo), where a missing worker is noticed; gradients travel on
    their own device.

    Attributes:
        rank: number of this worker.
        world_size: how many there are.
        local_rank, local_size: number among those that share this worker's machine, and how many these are.
        traffic: what this worker sent so far.
        note: what this worker says with its next rows.
        heard: what each worker said with its last ones.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_size: int = 1
    traffic: Traffic = field(default_factory=Traffic)
    note: Note = field(default_factory=Note)
    heard: tuple[Note, ...] = (Note(),)
    _watch: dist.ProcessGroup | None = None
    _watch_seconds: float = WATCH_SECONDS

    @classmethod
    def joined(cls, *, local_rank: int = 0, local_size: int = 1, watch_seconds: float = WATCH_SECONDS) -> Group:
        """The default process group of ``torch.distributed``, which must be initialised; collective.

        Args:
            local_rank, local_size: as the attributes.
            watch_seconds: how long a worker whose collective failed waits to learn which other one did not come.
        """
        watch = None
        if dist.get_world_size() > 1:
            watch = dist.new_group(backend="gloo", timeout=timedelta(seconds=watch_seconds))
        return cls(
            dist.get_rank(), dist.get_world_size(), local_rank, local_size, _watch=watch, _watch_seconds=watch_seconds
        )

    @property
    def leads(self) -> bool:
        """Whether this worker writes the run's files."""
        return self.rank == 0

    def gather_rows(self, own: Tensor, sizes: Sequence[int]) -> Tensor:
        """The rows of all workers in the order of their ranks, and their notes in ``heard``; one all-gather.

        Args:
            own: ``[sizes[rank], columns]`` float64, this worker's rows, without gradient.
            sizes: rows of each worker.

        Returns:
            ``[sum(sizes), columns]`` float64 on the CPU, bitwise equal on all workers.

        Raises:
            CollectiveError: a worker did not come.
        """
        own = own.cpu()
        if self.world_size == 1:
            self.heard = (self.note,)
            return own
        parts = self._gather_padded(torch.cat([self.note.as_row(own.shape[1]), own]), 1 + max(sizes), "gather of rows")
        self.heard = tuple(Note.of_row(part[0]) for part in parts)
        return torch.cat([part[1 : 1 + size] for part, size in zip(parts, sizes)])

    def gather(self, own: Tensor, sizes: Sequence[int]) -> Tensor:
        """The entries of all workers in the order of their ranks: ``[sum(sizes), …]`` on the CPU.

        Args:
            own: ``[sizes[rank], …]``, the same trailing shape and type on every worker.
            sizes: entries of each worker; may differ, may be 0.
        """
        own = own.cpu()
        if self.world_size == 1:
            return own
        parts = self._gather_padded(own, max(sizes), "gather of results")
        return torch.cat([part[:size] for part, size in zip(parts, sizes)])

    def add(self, vector: Tensor) -> None:
        """Replace ``vector`` by its sum over all workers, bitwise equal on all of them; one all-reduce."""
        if self.world_size == 1:
            return
        self.traffic.reductions += 1
        self.traffic.reduced_bytes += vector.nbytes
        self._guarded("sum of gradients", lambda: dist.all_reduce(vector))

    def shared(self, value: Any) -> Any:
        """Rank 0's ``value`` on every worker: tensors, numbers, strings, lists and dicts of them."""
        if self.world_size == 1:
            return value
        buffer = io.BytesIO()
        if self.leads:
            torch.save(value, buffer)
        size = torch.tensor([buffer.getbuffer().nbytes])
        self._guarded("broadcast", lambda: dist.broadcast(size, 0))
        content = torch.empty(int(size), dtype=torch.uint8)
        if self.leads:
            content = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
        self._guarded("broadcast", lambda: dist.broadcast(content, 0))
        return value if self.leads else torch.load(io.BytesIO(content.numpy().tobytes()), weights_only=True)

    def everyone(self, text: str) -> list[str]:
        """What each worker says, by rank, up to 200 bytes of it."""
        own = torch.zeros(1, 200, dtype=torch.uint8)
        content = text.encode()[:200]
        own[0, : len(content)] = torch.tensor(list(content), dtype=torch.uint8)
        rows = self.gather(own, [1] * self.world_size)
        return [bytes(row.tolist()).rstrip(b"\0").decode(errors="replace") for row in rows]

    def machines(self) -> int:
        """How many machines the workers are on."""
        firsts = self.gather(torch.tensor([int(self.local_rank == 0)]), [1] * self.world_size)
        return int(firsts.sum())

    def meet(self) -> None:
        """Wait until all workers are here."""
        self.least(0.0)

    def least(self, value: float) -> float:
        """The smallest ``value`` of all workers."""
        return float(self.gather(torch.tensor([value], dtype=torch.float64), [1] * self.world_size).min())

    def _gather_padded(self, own: Tensor, rows: int, name: str) -> list[Tensor]:
        padded = torch.zeros(rows, *own.shape[1:], dtype=own.dtype)
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        self.traffic.gathers += 1
        self.traffic.gathered_bytes += padded.nbytes
        self._guarded(name, lambda: dist.all_gather(parts, padded))
        return parts

    def _guarded(self, name: str, collective: Callable[[], object]) -> None:
        try:
            collective()
        except (RuntimeError, ValueError) as error:  # a ValueError where the process group was taken down meanwhile
            raise CollectiveError(
                f"worker {self.rank} of {self.world_size}: {name} failed. {self._missing(error)}"
            ) from None

    def _missing(self, error: Exception) -> str:
        """Which worker did not come: those that were let down meet here, and the one that hangs does not."""
        try:
            dist.monitored_barrier(self._watch, timeout=timedelta(seconds=self._watch_seconds), wait_all_ranks=True)
        except (RuntimeError, ValueError) as told:
            return _first_line(told)
        return f"All workers are there again: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
