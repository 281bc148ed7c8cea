"""The settings of a tier: one set of frozen models, where every value states where it came from.

Nothing that learning depends on has a default here: a tier file states it, or the tier is refused.
Only :class:`Runtime` has defaults, and they come from ``mode``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from atft.schemes import AnySplit
from atft.schemes import Combinatorial as Combinatorial
from atft.schemes import Scheme as Scheme
from atft.schemes import Span as Span
from atft.schemes import Split as Split
from atft.schemes import WalkForward as WalkForward
from atft.schemes import is_fold as is_fold
from atft.settings import NotNegative, Positive, PositiveFloat
from atft.settings import Settings as Settings

Part = Literal["variable_selection", "temporal", "adaptive_norm", "graph"]
PARTS: tuple[Part, ...] = ("variable_selection", "temporal", "adaptive_norm", "graph")
Mode = Literal["safe", "optimized"]
Architecture = Literal["atft", "mlp", "lstm"]
Precision = Literal["32", "bf16-mixed", "16-mixed"]


class Batch(Settings):
    """The effective batch: ``days × stocks_per_day`` stock-days make one loss and one optimizer step."""

    days: Positive
    """Days in an effective batch; a whole number of blocks."""
    stocks_per_day: Positive
    """Stocks sampled for each block."""
    block_days: Positive
    """Consecutive days of a block, drawn together with one stock sample."""

    @property
    def samples(self) -> int:
        """Stock-days in an effective batch."""
        return self.days * self.stocks_per_day

    @property
    def blocks(self) -> int:
        """Blocks in an effective batch."""
        return self.days // self.block_days

    @model_validator(mode="after")
    def _whole_blocks(self) -> Self:
        if self.days % self.block_days:
            raise ValueError(
                f"days = {self.days} is not a whole number of blocks of block_days = {self.block_days}; "
                f"mend: days = {max(1, round(self.days / self.block_days)) * self.block_days}"
            )
        if self.stocks_per_day < 2:
            raise ValueError(f"stocks_per_day = {self.stocks_per_day}: a cross-section needs at least 2 stocks")
        return self


class Window(Settings):
    """What the network sees of one stock on one day."""

    days: Positive
    """Length of the window that ends at the decision day, in trading days."""
    least_present: Positive
    """Days of the window on which a stock must have a row to be scored."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.least_present > self.days:
            raise ValueError(f"least_present = {self.least_present} exceeds window.days = {self.days}")
        return self


class Label(Settings):
    """The return that a decision at day ``t`` earns: from ``t + execution_lag`` for ``horizon`` days."""

    horizon: Positive
    """Trading days that a position is held."""
    execution_lag: Annotated[int, Field(ge=0)]
    """Trading days between the decision (a close) and the execution (a close); 0 trades at the close that decides."""
    cost_bps: NotNegative
    """Cost of trading one unit of the portfolio's gross value, one way, in basis points."""
    quantile_horizons: tuple[Positive, ...]
    """Horizons of the quantile heads, in trading days; their returns are always computed from closes."""
    own: bool | None = None
    """Whether the return is the panel's own label (True) or computed from closes (False). A panel with an own label is
    refused until this is stated; horizon and lag must be those that its roles state."""

    @property
    def longest(self) -> int:
        """Days that the longest label reaches beyond its decision."""
        return self.execution_lag + max(self.horizon, *self.quantile_horizons, 0)


class Graph(Settings):
    """Neighbours of each stock on each day, from the full cross-section."""

    neighbours: Positive
    """Nearest neighbours kept for each stock (k)."""
    lookback_days: Annotated[int, Field(ge=5)]
    """Trailing daily returns that the correlation is taken over."""
    shrinkage: Annotated[float, Field(ge=0, le=1)]
    """Weight of the constant-correlation target: 0 keeps the sample correlation, 1 replaces it."""
    industry_bonus: NotNegative
    """Added to the correlation of two stocks of one known industry when neighbours are ranked."""


class Model(Settings):
    """The network's shape."""

    architecture: Architecture
    """What is between features and heads: ``atft``, or a plain ``mlp`` or ``lstm`` to compare with."""
    hidden_size: Positive
    attention_heads: Positive
    graph_heads: Positive
    lstm_layers: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    fan_frequencies: Positive
    """Dominant frequencies that frequency-adaptive normalisation removes from a window."""
    san_slices: Positive
    """Slices that slice-adaptive normalisation cuts a window into; together they cover all its days."""
    quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    """Levels of the quantile heads, rising."""

    @model_validator(mode="after")
    def _heads(self) -> Self:
        for name in ("attention_heads", "graph_heads") if self.architecture == "atft" else ():
            if self.hidden_size % getattr(self, name):
                raise ValueError(
                    f"hidden_size = {self.hidden_size} is not a multiple of {name} = {getattr(self, name)}"
                )
        if list(self.quantiles) != sorted(set(self.quantiles)) or not self.quantiles:
            raise ValueError(f"quantiles = {self.quantiles} must rise strictly and not be empty")
        return self


class Weights(Settings):
    """What the objective is made of: the loss is minus the weighted sum (plus, for the quantile loss)."""

    sharpe: NotNegative
    rank_ic: NotNegative
    cs_ic: NotNegative
    quantile: NotNegative

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not any(self.__dict__.values()):
            raise ValueError("all loss weights are 0: nothing would be learned; mend: weights.sharpe = 1")
        return self


class Objective(Settings):
    """The statistic of the effective batch that is trained on."""

    sharpe_kind: Literal["pooled", "portfolio"]
    weights: Weights
    rank_temperature: PositiveFloat
    """Softness of the ranks in the rank IC, in standard deviations of a cross-section's scores."""
    turnover_cost_bps: NotNegative
    """Cost in basis points per unit of turnover inside a block, taken off the portfolio returns of the loss."""


class Optimizer(Settings):
    """AdamW, the same in all phases but for the learning rate."""

    weight_decay: NotNegative
    beta1: Annotated[float, Field(ge=0, lt=1)]
    beta2: Annotated[float, Field(ge=0, lt=1)]
    clip_norm: PositiveFloat
    """Gradients are scaled down to this norm where they exceed it."""


class Phase(Settings):
    """A stage of training with its own epochs, learning rate and enabled parts."""

    epochs: Annotated[int, Field(ge=0)]
    learning_rate: PositiveFloat
    """Peak learning rate of the phase."""
    schedule: Literal["constant", "cosine"]
    """How the rate goes over the phase's steps; cosine falls to 5 % of the peak."""
    warmup_steps: Annotated[int, Field(ge=0)]
    """Steps over which the rate rises to its peak."""
    parts: tuple[Part, ...]
    """Parts of the network that are on; what is off costs nothing."""


class Runtime(Settings):
    """How a run uses its machine. Nothing here may change what is learned; defaults come from the mode."""

    loader_workers: Annotated[int, Field(ge=0)]
    """Threads that prepare batches ahead; used up to the number of processors. 0: none."""
    deterministic: bool
    """Use deterministic algorithms where the device has several."""
    micro_batch_blocks: Positive | Literal["auto"]
    """Blocks in one forward pass; auto takes the most that fit."""
    kept_graphs: Positive | Literal["auto"]
    """Micro-batches whose graphs are kept for the backward pass; the others are run again."""
    threads: Annotated[int, Field(ge=0)]
    """Threads of one process for tensor operations; 0: the machine's processors shared among its workers."""
    keep_pages: bool
    """Keep memory that a step has freed for the next one, on a CPU: quicker, and the process stays large."""
    checkpoint_steps: Positive
    """Optimizer steps between two checkpoints, beside those at the end of each epoch and phase."""
    resize_seconds: PositiveFloat
    """How often an elastic run looks whether it can have more workers."""
    retries: Annotated[int, Field(ge=-1)]
    """How often workers that died are started again; -1: always. A run goes on from its last checkpoint."""
    collective_timeout_seconds: PositiveFloat
    """How long a worker waits for the others before the run stops and says which one did not come."""
    noise_scale_steps: Annotated[int, Field(ge=0)] = 200
    """Optimizer steps between two measurements of the gradient noise scale; 0: never. One costs about a step."""


MODES: dict[Mode, dict[str, Any]] = {
    "safe": {
        "loader_workers": 0,
        "deterministic": True,
        "micro_batch_blocks": "auto",
        "kept_graphs": "auto",
        "threads": 0,
        "keep_pages": False,
        "checkpoint_steps": 100,
        "resize_seconds": 60.0,
        "retries": 10,
        "collective_timeout_seconds": 600.0,
        "noise_scale_steps": 200,
    },
    "optimized": {
        "loader_workers": 8,
        "deterministic": False,
        "micro_batch_blocks": "auto",
        "kept_graphs": "auto",
        "threads": 0,
        "keep_pages": True,
        "checkpoint_steps": 100,
        "resize_seconds": 60.0,
        "retries": 10,
        "collective_timeout_seconds": 600.0,
        "noise_scale_steps": 200,
    },
}
"""What each mode sets: runtime only, so that no mode can change what is learned."""


class Expectation(Settings):
    """What was expected of a tier before it was run, so that its outcome can be held against it."""

    metric: Literal["pooled_sharpe", "sharpe_daily", "sharpe_annual", "sharpe_net", "ic", "rank_ic"]
    """Figure of the test period, as ``result.json`` names it."""
    low: float
    high: float
    """Range that was expected."""
    target: float | None = None
    """What was to be reached; None: nothing but the range was said."""
    source: str
    """Who expected it, where and when."""

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low = {self.low} exceeds high = {self.high}")
        return self


UNLEARNED = frozenset({"name", "description", "mode", "runtime", "features", "baseline", "differs", "expectation"})
"""Settings of a tier that nothing that is learned depends on."""


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every setting in plain data."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


class Tier(Settings):
    """A complete experiment definition."""

    name: str
    description: str
    seed: Annotated[int, Field(ge=0)]
    """Seed of everything random: weights, batches, stock samples, dropout."""
    mode: Mode
    precision: Precision
    """16-mixed is float16 with a loss scale on a GPU and bfloat16 on a CPU."""
    epoch_stock_days: Positive
    """Stock-days in an epoch, the same in all tiers that are compared."""
    max_epochs: Positive
    """Cap on the epochs of all phases together."""
    batch: Batch
    window: Window
    label: Label
    split: AnySplit
    graph: Graph
    model: Model
    objective: Objective
    optimizer: Optimizer
    phases: Annotated[dict[str, Phase], Field(min_length=1)]
    """Stages by name, trained in this order."""
    validation_metric: Literal["sharpe", "ic", "rank_ic", "loss"]
    """What the best epoch of a phase is chosen by, on the validation period."""
    runtime: Runtime
    features: Positive | None = None
    """Features that the tier is meant for: parameters are counted by them where there is no panel."""
    baseline: str | None = None
    """Tier that this one is compared with, one variable at a time."""
    differs: tuple[str, ...] | None = None
    """Variables that are meant to differ from the baseline at once, as ``atft diff`` names them. Two or more that are
    not stated here are refused; stated, they are a warning: no comparison can then say which of them did it."""
    expectation: Expectation | None = None
    """What was expected of it beforehand."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        if self.epoch_stock_days % self.batch.samples:
            whole = max(1, round(self.epoch_stock_days / self.batch.samples)) * self.batch.samples
            yield (
                f"epoch_stock_days = {self.epoch_stock_days} is not a whole number of effective batches "
                f"of {self.batch.samples} stock-days; mend: epoch_stock_days = {whole}"
            )
        if self.objective.sharpe_kind == "portfolio" and self.objective.weights.sharpe and self.batch.days < 8:
            yield f"batch.days = {self.batch.days}: a portfolio Sharpe ratio needs at least 8 days"
        if self.objective.sharpe_kind == "pooled" and self.objective.turnover_cost_bps:
            yield "objective.turnover_cost_bps: only a portfolio pays for its turnover; sharpe_kind is pooled"
        if self.objective.weights.quantile and not self.label.quantile_horizons:
            yield "objective.weights.quantile: there is no label.quantile_horizons to learn"
        if self.model.san_slices > self.window.days:
            yield f"model.san_slices = {self.model.san_slices} exceeds window.days = {self.window.days}"
        if self.model.fan_frequencies > self.window.days // 2:
            yield f"model.fan_frequencies = {self.model.fan_frequencies} exceeds half of {self.window.days} window.days"
        if self.model.architecture != "atft":
            for name, phase in self.phases.items():
                if phase.parts:
                    yield (
                        f"phases.{name}.parts = {list(phase.parts)}: only model.architecture = atft has parts; "
                        f"mend: --set phases.{name}.parts=[] for an {self.model.architecture}"
                    )
        if not any(phase.epochs for phase in self.phases.values()):
            yield "phases: no phase has an epoch"

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return self.epoch_stock_days // self.batch.samples

    def phases_to_run(self) -> dict[str, Phase]:
        """The phases with ``max_epochs`` applied (last phases are cut first), without those left empty."""
        left, kept = self.max_epochs, {}
        for name, phase in self.phases.items():
            epochs = min(phase.epochs, left)
            left -= epochs
            if epochs:
                kept[name] = phase.model_copy(update={"epochs": epochs})
        return kept

    def learning(self) -> dict[str, Any]:
        """All values that learning depends on, as plain data."""
        return self.model_dump(mode="json", exclude=set(UNLEARNED))

    def sha256(self) -> str:
        """Hash of all values that learning depends on."""
        return hashlib.sha256(json.dumps(self.learning(), sort_keys=True).encode()).hexdigest()
