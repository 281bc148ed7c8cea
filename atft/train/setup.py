"""From a tier and a panel to everything that training needs, built in one order and from the seed alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from atft import config
from atft.blocks import shards
from atft.config import PARTS, Split, Tier, WalkForward
from atft.data.gather import Gatherer, scorable_days
from atft.data.graph import TrailingGraph, trailing_graph
from atft.data.labels import check_label
from atft.data.loader import processors
from atft.data.panel import Panel
from atft.data.sampler import BlockSampler, sufficient_cells, surely_held
from atft.data.splits import Periods, periods_of
from atft.errors import UseError
from atft.model.architectures import ARCHITECTURES
from atft.model.ranking import RankingNetwork
from atft.objective.mix import LEAST_DAYS, Mix
from atft.objective.rows import RowSettings
from atft.train import precision
from atft.train.collectives import Group
from atft.train.memory import keep_pages
from atft.train.shape import network_shape
from atft.train.step import ExactStep


@dataclass(frozen=True)
class Scoring:
    """What scores a panel under a tier's settings: nothing here asks for a label or a period.

    Attributes:
        tier: the settings.
        panel: the data.
        graph: neighbours of each stock on each day.
        gatherer: gives blocks and whole cross-sections.
        network: the network, with its initial weights.
        precision: the number formats in effect.
        device: where tensors live.
    """

    tier: Tier
    panel: Panel
    graph: TrailingGraph
    gatherer: Gatherer
    network: RankingNetwork
    precision: precision.InEffect
    device: torch.device


@dataclass(frozen=True)
class Setup(Scoring):
    """A tier made ready on a panel: what scores it, and what training needs besides.

    Attributes:
        periods: decision days for training, validation and test.
        sampler: draws the effective batches of training.
        step: the exact step on this network.
        threads: threads of tensor operations.
        group: the workers of the run.
        warnings: what is worth saying before training starts.
    """

    periods: Periods
    sampler: BlockSampler
    step: ExactStep
    threads: int
    group: Group
    warnings: tuple[str, ...]

    @property
    def shards(self) -> list[int]:
        """Blocks of every worker's shard, by rank."""
        return shards(self.tier.batch.blocks, self.group.world_size)

    @property
    def parameters(self) -> int:
        """Parameters of the network with all its parts."""
        return sum(parameter.numel() for parameter in self.network.parameters_of(frozenset(PARTS)))

    def covering_sampler(self, days: np.ndarray) -> BlockSampler:
        """Draws stock samples as in training, in as many blocks as surely fit into the decision days ``days``."""
        batch = self.tier.batch
        blocks = max(1, surely_held(days, batch.block_days))
        covering = batch.model_copy(update={"days": blocks * batch.block_days})
        return BlockSampler(days, self.graph, self.gatherer.scorable, covering, self.tier.seed)

    def training_sampler(self, batch: config.Batch, seed: int) -> BlockSampler:
        """Draws effective batches of another size or seed from the training days.

        Raises:
            UseError: these hold too few separate blocks.
        """
        scorable = self.gatherer.scorable
        return BlockSampler(_decidable(self.periods.train, scorable), self.graph, scorable, batch, seed)

    def phase_parameters(self, parts: frozenset[str]) -> int:
        """Parameters that learn when ``parts`` are on."""
        return sum(parameter.numel() for parameter in self.network.parameters_of(parts))


def prepare(
    tier: Tier,
    panel: Panel,
    *,
    group: Group | None = None,
    device: torch.device | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Setup:
    """Build everything for ``tier`` on ``panel``, alike on every worker of ``group``.

    Args:
        tier: the settings.
        panel: the data.
        group: the workers; this process alone where not given.
        device: where tensors live; a GPU where there is one and none is named.
        progress: told the stage and how much of it is done.

    Raises:
        UseError: the panel is too short or too narrow for the tier, or a period is empty.
    """
    periods = check_panel(tier, panel)
    group = group or Group()
    use_machine(tier.runtime, group.local_size)
    check_workers(tier, group.world_size)
    ready = prepare_scoring(tier, panel, device=device, progress=progress)
    scorable, autocast = ready.gatherer.scorable, ready.precision.autocast
    return Setup(
        **vars(ready),
        periods=periods,
        sampler=BlockSampler(_decidable(periods.train, scorable), ready.graph, scorable, tier.batch, tier.seed),
        step=ExactStep(ready.network, mix(tier.objective), row_settings(tier), autocast, ready.device, group),
        threads=torch.get_num_threads(),
        group=group,
        warnings=_warnings(tier, periods, scorable),
    )


def prepare_scoring(
    tier: Tier,
    panel: Panel,
    *,
    device: torch.device | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Scoring:
    """Build what scores ``panel`` under ``tier``, whichever days the panel holds.

    Args:
        tier: the settings.
        panel: the data.
        device: where tensors live; a GPU where there is one and none is named.
        progress: told the stage and how much of it is done.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    graph = trailing_graph(panel, tier.graph, progress=progress)
    return Scoring(
        tier=tier,
        panel=panel,
        graph=graph,
        gatherer=Gatherer(panel, graph, tier.window, tier.label),
        network=build_network(tier, features=len(panel.feature_names)).to(device),
        precision=precision.in_effect(tier.precision, device),
        device=device,
    )


def check_panel(tier: Tier, panel: Panel) -> Periods:
    """The panel suffices to train the tier, found out without preparing anything; its periods.

    Raises:
        UseError: it is too short or too narrow, its label is another, or a period is empty.
    """
    _check_width(tier, panel)
    check_label(panel, tier.label)
    if len(panel.days) < tier.window.days:
        raise UseError(
            f"{panel.path}: {len(panel.days)} days, fewer than window.days = {tier.window.days} of tier {tier.name}. "
            "Mend: build the panel from a longer table, or --set window.days."
        )
    periods = periods_of(tier, panel)
    check_periods(tier, panel, periods)
    return periods


def _check_width(tier: Tier, panel: Panel) -> None:
    wanted = tier.batch.stocks_per_day
    if len(panel.codes) < wanted:
        raise UseError(
            f"{panel.path}: {len(panel.codes)} stocks, fewer than batch.stocks_per_day = {wanted} of tier {tier.name}: "
            f"its effective batch of {tier.batch.samples} stock-days cannot be filled. Mend: a wider panel, or "
            f"--set batch.stocks_per_day={len(panel.codes)} with the days that keep the batch what it should be."
        )


def check_workers(tier: Tier, workers: int) -> None:
    """Each worker computes at least one block.

    Raises:
        UseError: there are more workers than blocks.
    """
    blocks = tier.batch.blocks
    if workers > blocks:
        raise UseError(
            f"{workers} workers for an effective batch of {blocks} blocks of {tier.batch.block_days} days: a block is "
            f"never split. Mend: at most {blocks} workers, or a smaller batch.block_days (which changes the samples)."
        )


def check_periods(tier: Tier, panel: Panel, periods: Periods) -> None:
    """The days are enough to train and validate on, found out without preparing anything.

    Raises:
        UseError: they are not.
    """
    _check_validation(tier, panel, periods)
    try:
        sufficient_cells(_decidable(periods.train, scorable_days(panel.present, tier.window)), tier.batch)
    except UseError as error:
        raise UseError(f"split.train{_of_fold(tier)}: {error}") from None


def _check_validation(tier: Tier, panel: Panel, periods: Periods) -> None:
    """Before anything is trained: every epoch ends with an objective over sampled blocks of the validation days."""
    block_days = tier.batch.block_days
    least_days = LEAST_DAYS if tier.objective.sharpe_kind == "portfolio" else 1
    blocks = -(-least_days // block_days)
    if surely_held(periods.validate, block_days) < blocks:
        least = (blocks + 1) * block_days
        mends = {Split: "a longer split.validate", WalkForward: "more split.validate_days"}
        raise UseError(
            f"{panel.path}: split.validate{_of_fold(tier)} has {len(periods.validate)} decision days, fewer than "
            f"the {least} that a {tier.objective.sharpe_kind} objective in blocks of {block_days} days needs. "
            f"Mend: {mends.get(type(tier.split), 'fewer split.groups, or a longer span')}."
        )


def _of_fold(tier: Tier) -> str:
    return "" if isinstance(tier.split, Split) else f" of fold {tier.split.fold}"


def _warnings(tier: Tier, periods: Periods, scorable: NDArray[np.bool_]) -> tuple[str, ...]:
    usual = int(np.median(scorable[periods.train].sum(axis=1)))
    if usual >= tier.batch.stocks_per_day:
        return ()
    return (
        f"half of the training days have {usual} stocks or fewer that can be scored, below batch.stocks_per_day = "
        f"{tier.batch.stocks_per_day}: the effective batch holds fewer than {tier.batch.samples} stock-days",
    )


def _decidable(days: NDArray[np.int64], scorable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Days with a cross-section: on the first days of a calendar no stock has the history that its window needs."""
    return np.asarray(days[scorable[days].sum(axis=1) >= 2])


def use_machine(runtime: config.Runtime, local_size: int = 1) -> None:
    """Set this process's threads and determinism, where ``local_size`` workers share the machine."""
    torch.set_num_threads(runtime.threads or max(1, processors() // local_size))
    torch.use_deterministic_algorithms(runtime.deterministic)
    if runtime.keep_pages:
        keep_pages()


def build_network(tier: Tier, *, features: int) -> RankingNetwork:
    """The network of the tier's architecture with initial weights from its seed, whatever was drawn before."""
    with torch.random.fork_rng():
        torch.manual_seed(tier.seed)
        return ARCHITECTURES[tier.model.architecture](network_shape(tier, features))


def mix(objective: config.Objective) -> Mix:
    """The objective as a function of the table of rows."""
    return Mix(objective.sharpe_kind, **objective.weights.model_dump())


def row_settings(tier: Tier) -> RowSettings:
    """What the rows depend on besides scores and labels."""
    return RowSettings(
        quantile_levels=tier.model.quantiles,
        rank_temperature=tier.objective.rank_temperature,
        turnover_cost=tier.objective.turnover_cost_bps / 1e4,
        with_rank_ic=tier.objective.weights.rank_ic > 0,
        with_quantiles=tier.objective.weights.quantile > 0,
    )
