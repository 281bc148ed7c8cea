"""The steps of an epoch with their data, prepared ahead by threads while the model computes."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from atft.blocks import Blocks
from atft.data.gather import Gatherer
from atft.data.reuse import Reused
from atft.data.sampler import Plan

LARGEST_AHEAD = 1 << 30
"""Bytes of gathered data that may be held ahead of the step; what does not fit is gathered when it is asked for."""


class Prepared:
    """One step: its plan and its data, by block.

    Attributes:
        step: the optimizer step.
        plan: days and stocks of the blocks that this process computes.
        wait_seconds: time that the consumer has waited for the data of this step: before it was handed out, and
            since then in :meth:`blocks`.
    """

    def __init__(self, step: int, plan: Plan, whole: Blocks | None, gather: Callable[[Plan, int, int], Blocks]) -> None:
        self.step, self.plan = step, plan
        self.wait_seconds = 0.0
        self._whole, self._gather = whole, gather

    def blocks(self, first: int, last: int) -> Blocks:
        """Blocks ``first`` to ``last - 1`` of the plan.

        Views of the plan's data where that was prepared as a whole, else gathered now; the same numbers either way.
        """
        if self._whole is not None:
            return Blocks(**{name: tensor[first:last] for name, tensor in vars(self._whole).items()})
        began = time.perf_counter()
        gathered = self._gather(self.plan, first, last)
        self.wait_seconds += time.perf_counter() - began
        return gathered


class Loader:
    """Iterates over steps; use it as a context manager, so that its threads end with the loop.

    ::

        with Loader(sampler.plan, gatherer, range(100), days=4, workers=2) as loader:
            for prepared in loader:
                prepared.blocks(0, 2)

    The numbers do not depend on ``workers``. An exception of a worker is raised where its step would have come.

    Attributes:
        workers: threads in use: at most one per available processor; 0 prepares in the caller's thread.
    """

    def __init__(
        self,
        plan: Callable[[int], Plan],
        gatherer: Gatherer,
        steps: Iterable[int],
        *,
        days: int,
        workers: int,
        largest_ahead: int = LARGEST_AHEAD,
    ) -> None:
        """Starts nothing yet: threads start with the first step.

        Args:
            plan: the plan of a step; called from the workers.
            gatherer: makes the tensors; called from the workers.
            steps: optimizer steps, in order; may be endless.
            days: days of each block.
            workers: threads that prepare ahead.
            largest_ahead: bytes of data held ahead. Each step ahead, and the one in use, may take its share; a plan
                whose data is above it is not prepared as a whole: its blocks are gathered when they are asked for.
        """
        self.workers = workers_in_use(workers)
        self._plan, self._gatherer, self._steps = plan, gatherer, iter(steps)
        self._days, self._memory = days, Reused()
        # One step per worker, one that waits for the consumer, and the one that the consumer holds.
        self._ahead = self.workers + 1
        self._share = largest_ahead // (self._ahead + 1)
        self._pool = ThreadPoolExecutor(self.workers, "atft-loader") if self.workers else None
        self._pending: deque[Future[Prepared]] = deque()

    def __iter__(self) -> Iterator[Prepared]:
        return self

    def __next__(self) -> Prepared:
        began = time.perf_counter()
        prepared = self._prepare(next(self._steps)) if self._pool is None else self._take(self._pool)
        prepared.wait_seconds = time.perf_counter() - began
        return prepared

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads, after the steps that they are working on; nothing more can be taken afterwards."""
        self._steps = iter(())
        self._pending.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _take(self, pool: ThreadPoolExecutor) -> Prepared:
        self._submit(pool)
        if not self._pending:
            raise StopIteration
        prepared = self._pending.popleft().result()
        self._submit(pool)
        return prepared

    def _submit(self, pool: ThreadPoolExecutor) -> None:
        while len(self._pending) < self._ahead:
            step = next(self._steps, None)
            if step is None:
                return
            self._pending.append(pool.submit(self._prepare, step))

    def _prepare(self, step: int) -> Prepared:
        plan = self._plan(step)
        blocks, stocks = plan.stocks.shape
        fits = blocks * self._gatherer.block_bytes(self._days, stocks) <= self._share
        return Prepared(step, plan, self._gather(plan, 0, blocks) if fits else None, self._gather)

    def _gather(self, plan: Plan, first: int, last: int) -> Blocks:
        run = slice(first, last)
        return self._gatherer.blocks(
            plan.first_days[run], plan.stocks[run], plan.numbers[run], self._days, self._memory
        )


def workers_in_use(asked: int) -> int:
    """Threads that a loader really takes: at most one per processor."""
    return min(asked, processors())


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
