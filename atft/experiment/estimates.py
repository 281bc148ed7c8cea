"""What a run will take, before anything of it is computed: parameters counted, memory, time and noise estimated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atft.config import PARTS, Tier
from atft.data.manifest import Manifest
from atft.data.resident import MOST_RESIDENT
from atft.model.sized import sized
from atft.train.shape import network_shape

PROGRAM_BYTES = 0.6e9
"""Resident size of a process with the program loaded (0.5 GB), and what evaluation and the allocator add."""
STATE_BYTES = 16
"""For each parameter: itself, its gradient and the two moments of Adam, in float32."""
ROW_FLOATS = 29
"""For each feature of each embedded stock-day: what variable selection keeps for the backward pass."""
STEP_FLOATS = {"atft": 26, "lstm": 12, "mlp": 0}
"""For each channel of each day of each window: what a body keeps for the backward pass."""
STATE_FLOATS = {"atft": 0, "lstm": 0, "mlp": 24}
"""For each channel of each decision: likewise."""
EDGE_FLOATS = 3
"""For each channel of each edge: what the graph attention keeps."""
BACKWARD = 2.0
"""Peak of a backward pass over what the forward pass has kept, for its own temporaries."""

PROCESSOR_RATE = 15e9
GPU_RATE = 2e12
"""Floating-point operations a second that are assumed of a processor core and of a GPU where no earlier run tells."""
ASSUMED_RANGE = 5.0
"""The assumed rate may be wrong by this factor either way."""
KNOWN_RANGE = 1.5
"""So may a rate taken from an earlier run on the same machine, for another network or with another load beside it."""
BACKWARD_WORK = 3.0
"""Forward and backward pass over the forward pass alone."""


def parameters(tier: Tier, features: int) -> int:
    """Parameters of the tier's network with all its parts; counted on the network itself, built without memory."""
    network = sized(tier.model.architecture, network_shape(tier, features))
    return sum(parameter.numel() for parameter in network.parameters_of(frozenset(PARTS)))


@dataclass(frozen=True)
class Memory:
    """Bytes that a run takes at least, with one block in a micro-batch.

    Attributes:
        program: of the process by itself, 0 on a GPU.
        state: parameters, gradients and moments.
        activations: of one block, forward and backward.
        tables: of the panel, 0 where it is not known or the device is not where they lie.
    """

    program: float
    state: float
    activations: float
    tables: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.program + self.state + self.activations + self.tables

    def __str__(self) -> str:
        named = ((self.program, "program"), (self.state, "parameters, gradients, moments"),
                 (self.activations, "one block"), (self.tables, "panel"))  # fmt: skip
        return " + ".join(f"{size(value)} {name}" for value, name in named if value)


def memory(tier: Tier, features: int, count: int, panel: Manifest | None, *, gpu: bool) -> Memory:
    """What one worker takes at least on its device.

    Args:
        tier: the settings.
        features: of the panel.
        count: parameters.
        panel: what the panel says about itself.
        gpu: whether the network is on a GPU, which holds neither the program nor the panel.
    """
    on_host = not gpu
    return Memory(
        program=PROGRAM_BYTES if on_host else 0.0,
        state=float(STATE_BYTES * count),
        activations=BACKWARD * block_bytes(tier, features),
        tables=_tables(tier, panel) if panel and on_host else 0.0,
    )


def block_bytes(tier: Tier, features: int) -> float:
    """Bytes that the graph of one block keeps, in float32, all parts on."""
    batch, model, window = tier.batch, tier.model, tier.window.days
    decisions = batch.block_days * batch.stocks_per_day
    rows = (window - 1 + batch.block_days) * batch.stocks_per_day
    parted = model.architecture == "atft"
    floats = (ROW_FLOATS if parted else 4) * rows * features
    floats += STEP_FLOATS[model.architecture] * decisions * window * model.hidden_size
    floats += STATE_FLOATS[model.architecture] * decisions * model.hidden_size
    floats += EDGE_FLOATS * decisions * tier.graph.neighbours * model.hidden_size if parted else 0
    return 4.0 * floats


def _tables(tier: Tier, panel: Manifest) -> float:
    """Tables ``[days, stocks]`` that are held, and what is resident of the mapped features and graph."""
    cells = panel.days * panel.stocks
    returns = 8 * (1 + len(tier.label.quantile_horizons))
    features = sum(file.bytes for name, file in panel.files.items() if name.startswith("features/"))
    return float(cells * (returns + 16 + 4 + 8 * tier.graph.neighbours) + min(features, MOST_RESIDENT))


def work(tier: Tier, features: int) -> float:
    """Floating-point operations of one stock-day of training, forward and backward, by its matrix products alone."""
    hidden, window = tier.model.hidden_size, tier.window.days
    rows = (window - 1 + tier.batch.block_days) / tier.batch.block_days
    embedding, recurrent, dense = 11 * features * hidden, 8 * hidden**2 * tier.model.lstm_layers, 10 * hidden**2
    products = {
        "atft": rows * embedding + window * recurrent + dense,
        "lstm": window * (recurrent + 2 * features * hidden) + dense,
        "mlp": 2 * features * hidden + dense,
    }[tier.model.architecture]
    return BACKWARD_WORK * 2 * products


def samples(tier: Tier) -> int:
    """Stock-days that all phases train on."""
    return tier.epoch_stock_days * sum(phase.epochs for phase in tier.phases_to_run().values())


@dataclass(frozen=True)
class Earlier:
    """A finished run on this machine.

    Attributes:
        name: of the run.
        rate: floating-point operations of :func:`work` a second and worker, validation included.
        device: that it trained on.
    """

    name: str
    rate: float
    device: str


@dataclass(frozen=True)
class Time:
    """Seconds that a run may take, and where that is known from."""

    low: float
    middle: float
    high: float
    source: str

    def __str__(self) -> str:
        return f"{span(self.middle)} ({span(self.low)} to {span(self.high)})"


def run_time(
    tier: Tier, features: int, earlier: Sequence[Earlier], *, gpu: bool, workers: int, processors: int
) -> Time:
    """Seconds for all phases: by the last earlier run on this machine where there is one, else by an assumed rate.

    Args:
        tier: the settings.
        features: of the panel.
        earlier: finished runs, the newest first.
        gpu: whether it trains on a GPU.
        workers: that share the work.
        processors: of this machine, which the workers share.
    """
    total = work(tier, features) * samples(tier)
    device = "cuda" if gpu else "cpu"
    known = next((each for each in earlier if each.device == device), None)
    if known:
        middle = total / known.rate / workers
        return Time(middle / KNOWN_RANGE, middle, middle * KNOWN_RANGE, f"the rate of run {known.name}")
    middle = total / (GPU_RATE * workers if gpu else PROCESSOR_RATE * processors)
    assumed = f"{(GPU_RATE if gpu else PROCESSOR_RATE) / 1e9:,.0f} GFLOP/s of a {'GPU' if gpu else 'processor'}"
    return Time(middle / ASSUMED_RANGE, middle, middle * ASSUMED_RANGE, f"assumed: {assumed}, no run to go by")


def noise(tier: Tier) -> tuple[float | None, str]:
    """Sampling deviation of the batch Sharpe ratio, and what it is (docs/guide/tiers.md); None where it has none."""
    if not tier.objective.weights.sharpe:
        return None, "the objective has no Sharpe ratio"
    if tier.objective.sharpe_kind == "portfolio":
        return 1 / math.sqrt(tier.batch.days - 3), "1/√(days − 3) of a portfolio's daily returns"
    return 1 / math.sqrt(tier.batch.samples), "at least 1/√samples: stock-days of a day are not independent"


def size(bytes_: float) -> str:
    """Bytes as ``1.2 GB`` or ``340 MB``."""
    return f"{bytes_ / 1e9:.1f} GB" if bytes_ >= 1e9 else f"{bytes_ / 1e6:,.0f} MB"


def span(seconds: float) -> str:
    """Seconds with as many digits as an estimate has."""
    for unit, length in _units():
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}" if seconds < 10 * length else f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"


def _units() -> Iterator[tuple[str, float]]:
    yield from (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0))
