"""A group of workers as plain processes of this machine: for checks and benchmarks, where Ray would be in the way."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from atft.errors import RunError
from atft.train.collectives import WATCH_SECONDS, Group

TCPStore = dist.TCPStore  # type: ignore[attr-defined]  # public, and missing from its module's __all__

GRACE_SECONDS = 20.0
"""How long the other workers may go on after one has failed, to tell what they saw."""

Work = Callable[..., Any]


def run_group(work: Work, workers: int, *arguments: Any, timeout: float = 600.0, threads: int = 1) -> list[Any]:
    """``work(group, *arguments)`` in ``workers`` new processes over gloo, on loopback; one worker needs none.

    Args:
        work: importable by name, as it is sent to processes that are spawned.
        workers: how many.
        arguments: what can be pickled.
        timeout: seconds that a collective may take.
        threads: tensor threads of each worker.

    Returns:
        What each worker returned, by rank.

    Raises:
        RunError: a worker failed or died; tells what each of them said.
    """
    found = watched_group(work, workers, *arguments, timeout=timeout, threads=threads)
    failed = {rank: outcome for rank, outcome in enumerate(found) if isinstance(outcome, Failed)}
    if failed:
        told = "\n".join(f"worker {rank}: {outcome.text}" for rank, outcome in failed.items())
        raise RunError(f"{len(failed)} of {workers} workers failed.\n{told}")
    return found


class Failed:
    """How a worker ended that did not return: what it raised, or the exit code that it died with."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Failed({self.text!r})"


def watched_group(work: Work, workers: int, *arguments: Any, timeout: float = 600.0, threads: int = 1) -> list[Any]:
    """As :func:`run_group`, with a :class:`Failed` in the place of each worker that failed."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    start = (workers, store.port, timeout, threads, results, work, arguments)
    processes = [context.Process(target=_worker, args=(rank, *start), daemon=True) for rank in range(workers)]
    for process in processes:
        process.start()
    found: dict[int, Any] = {}
    deadline = float("inf")
    while len(found) < workers:
        try:
            rank, outcome = results.get(timeout=0.2)
            found[rank] = pickle.loads(outcome)
        except queue.Empty:
            for rank, process in enumerate(processes):
                if process.exitcode not in (None, 0):
                    found.setdefault(rank, Failed(f"died with exit code {process.exitcode}"))
        if any(isinstance(outcome, Failed) for outcome in found.values()):
            deadline = min(deadline, time.monotonic() + timeout + min(2 * timeout, GRACE_SECONDS))
        if time.monotonic() > deadline:
            break
    for rank, process in enumerate(processes):
        process.join(timeout=5 if rank in found else 0)
        if process.is_alive():
            process.kill()
            process.join()
        found.setdefault(rank, Failed("did not end"))
    return [found[rank] for rank in range(workers)]


def _worker(
    rank: int, workers: int, port: int, timeout: float, threads: int, results: Any, work: Work, arguments: Any
) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(threads)
    try:
        group = Group()
        if workers > 1:
            store = TCPStore("127.0.0.1", port, is_master=False)
            dist.init_process_group(
                "gloo", store=store, rank=rank, world_size=workers, timeout=timedelta(seconds=timeout)
            )
            group = Group.joined(local_rank=rank, local_size=workers, watch_seconds=min(WATCH_SECONDS, timeout))
        told = work(group, *arguments)
    except BaseException as error:
        trace = "" if getattr(error, "exit_code", None) else traceback.format_exc(limit=-3)
        told = Failed(f"{type(error).__name__}: {error}\n{trace}".strip())
    results.put((rank, pickle.dumps(told)))  # as bytes: tensors would be sent as memory that this process takes with it
    results.close()
    results.join_thread()
    sys.stdout.flush()
    os._exit(0)  # a process group whose other members are gone would wait for them
