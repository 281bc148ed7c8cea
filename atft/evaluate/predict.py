"""Scores of a trained network on whole cross-sections, without dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from atft.blocks import Blocks, shards
from atft.errors import RunError

STOCK_DAYS_AT_ONCE = 16_384
"""Most stock-days of one forward pass of a prediction."""
MOST_DAYS_AT_ONCE = 16

CrossSection = tuple[Blocks, npt.NDArray[np.int64]]


class Gatherer(Protocol):
    """What predictions read of the panel's gatherer."""

    scorable: npt.NDArray[np.bool_]
    """``[days, stocks]``, True where a stock can be scored."""

    def cross_section(self, first_day: int, days: int) -> CrossSection:
        """One block of all stocks of ``days`` days from ``first_day``, and the numbers ``[stocks]`` of its stocks."""


class Workers(Protocol):
    """What predictions need of the workers that share them."""

    rank: int
    world_size: int

    def gather(self, own: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        """The entries of all workers, ``sizes`` of them each, in the order of their ranks."""


def predict(
    network: nn.Module,
    panel_gatherer: Gatherer,
    decision_days: Sequence[int] | npt.NDArray[np.int64],
    parts: Iterable[str],
    *,
    device: torch.device | str,
    precision_context: Callable[[], AbstractContextManager[object]] | None = None,
    days_at_once: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    group: Workers | None = None,
) -> npt.NDArray[np.float64]:
    """Scores of every decision day on its whole cross-section, in eval mode and without gradient.

    The network is left in the mode that it came in. ``days_at_once`` follows memory: it changes no score. The workers
    of ``group`` each compute some of the runs of days, the same runs for any number of them, so that scores are
    bitwise the same; every worker returns all of them.

    Args:
        network: ``network(blocks, frozenset of parts, None).scores`` is ``[blocks, days, stocks]``.
        panel_gatherer: gives whole cross-sections.
        decision_days: numbers of the days to score, in any order.
        parts: parts of the network that are on.
        device: where to compute.
        precision_context: makes the context of a forward pass, such as autocast; none by default.
        days_at_once: most consecutive days of one forward pass; what ``STOCK_DAYS_AT_ONCE`` allows without it.
        progress: called with days done and days in all (of this worker) after each forward pass.
        group: the workers that share the days, all of which call this; this process alone where not given.

    Returns:
        ``[decision days, stocks]`` float64, in the order of ``decision_days``; NaN where a stock is not scored.

    Raises:
        ValueError: ``days_at_once`` is below 1.
        RunError: the network gives a score that is not finite.
    """
    days = np.asarray(decision_days, dtype=np.int64)
    found, places = np.unique(days, return_inverse=True)
    parts = frozenset(parts)
    longest = _days_at_once(panel_gatherer) if days_at_once is None else days_at_once
    runs = list(consecutive_runs(found, longest))
    sizes = shards(len(runs), group.world_size if group else 1)
    rank = group.rank if group else 0
    own = runs[sum(sizes[:rank]) : sum(sizes[: rank + 1])]
    done, wanted = 0, sum(length for _, length in own)
    scores = np.full((wanted, panel_gatherer.scorable.shape[1]), np.nan)
    with evaluating(network):
        for first, length in own:
            blocks, numbers = panel_gatherer.cross_section(first, length)
            if len(numbers):
                with torch.no_grad(), precision_context() if precision_context else nullcontext():
                    output = network(blocks.to(device), parts, None).scores
                _place(scores[done : done + length], output, blocks.scored, numbers)
            done += length
            if progress:
                progress(done, wanted)
    if group:
        bounds = [sum(sizes[:each]) for each in range(group.world_size + 1)]
        days_of = [sum(length for _, length in runs[low:high]) for low, high in pairwise(bounds)]
        scores = group.gather(torch.from_numpy(scores), days_of).numpy()
    _check_finite(scores, found)
    return scores[places]


def _place(
    target: npt.NDArray[np.float64], output: torch.Tensor, scored: torch.Tensor, numbers: npt.NDArray[np.int64]
) -> None:
    """Write the scores of one block into ``target [days, stocks]``, at the numbers of its stocks.

    A score that is not finite becomes infinite, to be told apart from one that is missing.
    """
    values = output[0].detach().double().cpu().numpy()
    kept = scored[0].cpu().numpy()
    target[:, numbers] = np.where(kept, np.where(np.isfinite(values), values, np.inf), np.nan)


def _check_finite(scores: npt.NDArray[np.float64], days: npt.NDArray[np.int64]) -> None:
    """After the gather, so that all workers find the same."""
    bad = np.isinf(scores)
    if bad.any():
        raise RunError(
            f"prediction: {int(bad.sum())} of {int((~np.isnan(scores)).sum())} scores are not finite, first on day "
            f"number {days[int(np.argmax(bad.any(1)))]}. "
            "The weights or that day's inputs are damaged. Mend: an earlier checkpoint, or precision 32."
        )


def _days_at_once(gatherer: Gatherer) -> int:
    """As many days as fit; days computed together share the features that their windows have in common."""
    return max(1, min(MOST_DAYS_AT_ONCE, STOCK_DAYS_AT_ONCE // max(1, int(gatherer.scorable.shape[1]))))


def consecutive_runs(days: npt.NDArray[np.int64], longest: int) -> Iterator[tuple[int, int]]:
    """``(first day, length)`` of runs of consecutive days that cover rising ``days``, none longer than ``longest``."""
    if longest < 1:
        raise ValueError(f"days_at_once = {longest} must be at least 1")
    for run in np.split(days, np.flatnonzero(np.diff(days) != 1) + 1):
        for start in range(0, len(run), longest):
            piece = run[start : start + longest]
            yield int(piece[0]), len(piece)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in eval mode, every module back in its own mode after."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
