"""Early warnings: rules that read a run's events as they come, and say what is wrong, since when, and what to do."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any

from atft.observe.events import Event

NOISE_STEPS, LEAST_NOISE_STEPS = 200, 30
"""Batches of a phase that the noise rule looks back at, and the fewest that it speaks about: with 30 of them the
estimate of a deviation is off by about .16 of it (one standard error), so that ``NOISE_RATIO`` is three of those."""
NOISE_RATIO = 1.5
"""Observed over expected deviation of the batch Sharpe ratio that is more than noise."""
BACK = 0.85
"""Share of a bound that a figure has to fall below for its warning to be over: at the bound itself it would flicker."""
BEHIND_EPOCHS = 3
"""Epochs in a row that a run is behind its baseline before that is said."""
WAIT_STEPS, WAIT_SHARE, WAIT_SECONDS = 50, 0.2, 5.0
"""Steps that the wait for data is taken over, the share of their time that is too much, and the least such wait."""
FLAT_STEPS = 5
"""Steps in a row whose batches have only days of equal scores before the output counts as collapsed."""


@dataclass(frozen=True)
class Finding:
    """What a rule sees now.

    Attributes:
        since: optimizer step from which on it was so.
        value: what was measured, in the rule's own unit.
        bound: that it goes beyond.
        text: what was seen, as a sentence without its full stop.
        mend: what to do.
    """

    since: int
    value: float
    bound: float
    text: str
    mend: str


@dataclass(frozen=True)
class Curve:
    """How a baseline's run learned.

    Attributes:
        run: its name.
        metric: field of its ``epoch`` events, to be large.
        points: stock-days seen and the metric, at the end of each epoch of all phases, in order.
    """

    run: str
    metric: str
    points: tuple[tuple[int, float], ...]

    def best_until(self, samples: int) -> float | None:
        """The best value over the epochs that had seen at most ``samples`` stock-days; None before the first."""
        return max((value for seen, value in self.points if seen <= samples), default=None)


class Rule(ABC):
    """One early warning: takes every event of a run in order, steps that a resume repeats included."""

    name: str
    """How it is called in events and by ``--stop-on``."""
    meaning: str
    """What it looks for, in a few words."""

    @abstractmethod
    def take(self, event: Event) -> None:
        """Learn from one event."""

    @abstractmethod
    def finding(self) -> Finding | None:
        """What is wrong now; None where nothing is."""


class _Steps:
    """The last values of a field of the steps, each step once: a step that is repeated replaces itself and the rest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: list[tuple[int, Any]] = []

    def add(self, step: int, value: Any) -> None:
        while self._held and self._held[-1][0] >= step:
            self._held.pop()
        self._held.append((step, value))
        del self._held[: -self._most]

    def clear(self) -> None:
        self._held.clear()

    @property
    def first(self) -> int:
        return self._held[0][0]

    @property
    def values(self) -> list[Any]:
        return [value for _, value in self._held]


def successive_deviation(values: Sequence[float]) -> float:
    """Standard deviation from the differences of neighbours, ``√(Σ(xₜ₊₁ − xₜ)² / 2(n − 1))``: a slow drift of the mean,
    such as learning, does not add to it.

    Source: von Neumann, Kent, Bellinson and Hart (1941), "The mean square successive difference".
    """
    squares = [(after - before) ** 2 for before, after in pairwise(values)]
    return math.sqrt(sum(squares) / (2 * len(squares)))


def expected_range(deviation: float, count: int) -> float:
    """Range that ``count`` independent normal values of this deviation have on average, by Blom's (1958) scores."""
    return 2 * deviation * NormalDist().inv_cdf((count - 0.375) / (count + 0.25))


class BatchSharpeNoise(Rule):
    """The batch Sharpe ratio scatters by more than the sampling of its stock-days explains."""

    name = "batch-sharpe-noise"
    meaning = "the batch Sharpe ratio ranges beyond what sampling explains"

    def __init__(self) -> None:
        self._steps, self._phase = _Steps(NOISE_STEPS), ""
        self._expected: float | None = None
        self._samples = 0
        self._since: int | None = None

    def take(self, event: Event) -> None:
        """See :meth:`Rule.take`."""
        if event["kind"] in ("phase_started", "step", "epoch") and event["phase"] != self._phase:
            self._begin(event["phase"])
        if event["kind"] == "epoch" and event.get("expected_batch_sharpe_std"):
            self._expected = event["expected_batch_sharpe_std"]
        elif event["kind"] == "step" and event.get("batch_sharpe") is not None:
            self._samples = event.get("samples") or 0
            self._steps.add(event["step"], event["batch_sharpe"])
            beyond = self._ratio() > NOISE_RATIO * (BACK if self._since else 1.0)
            self._since = (self._since or event["step"]) if beyond else None

    def _begin(self, phase: str) -> None:
        self._phase, self._expected, self._since = phase, None, None
        self._steps.clear()

    def _ratio(self) -> float:
        values = self._steps.values
        if self._expected is None or len(values) < LEAST_NOISE_STEPS:
            return 0.0
        return successive_deviation(values) / self._explained()

    def _explained(self) -> float:
        """Deviation by sampling at the level that the ratio has: ``√(1 + S²/2)`` times that at 0 (Lo, 2002)."""
        values = self._steps.values
        return (self._expected or 0.0) * math.sqrt(1 + (sum(values) / len(values)) ** 2 / 2)

    def finding(self) -> Finding | None:
        """See :meth:`Rule.finding`."""
        if self._since is None or self._expected is None:
            return None
        values, ratio, explained = self._steps.values, self._ratio(), self._explained()
        return Finding(
            self._since, ratio, NOISE_RATIO,
            f"the batch Sharpe ratio of the last {len(values)} batches ranges over {max(values) - min(values):.3f} and "
            f"deviates by {ratio * explained:.3f}; sampling {self._samples:,} stock-days explains a range of "
            "about "
            f"{expected_range(explained, len(values)):.3f} and a deviation of {explained:.3f}",
            "a larger batch will not settle it: look for outliers among the returns, a learning rate that is too high "
            "(`atft sweep lr`), or days that differ in kind",
        )  # fmt: skip


class BehindBaseline(Rule):
    """The best validation figure so far stays below the baseline's at as many stock-days seen."""

    name = "behind-baseline"
    meaning = "no improvement over the baseline's curve at as many stock-days seen"

    def __init__(self, curve: Curve | None) -> None:
        self._curve = curve
        self._samples, self._best = 0, -math.inf
        self._behind: list[int] = []
        self._step = 0
        self._seen: dict[tuple[str, int], tuple[int, float, int]] = {}
        self._theirs = 0.0

    def take(self, event: Event) -> None:
        """See :meth:`Rule.take`."""
        if self._curve is None:
            return
        if event["kind"] == "step":
            self._step = event["step"]
        if event["kind"] != "epoch":
            return
        value = as_large(event, self._curve.metric)
        key = (event["phase"], event["epoch"])
        if key in self._seen:  # repeated after a resume, from here on
            later = list(self._seen)[list(self._seen).index(key) :]
            for each in later:
                del self._seen[each]
        self._seen[key] = (event["samples"], -math.inf if value is None else value, self._step)
        self._judge()

    def _judge(self) -> None:
        assert self._curve is not None
        samples, best, self._behind = 0, -math.inf, []
        for seen, value, step in self._seen.values():
            samples, best = samples + seen, max(best, value)
            theirs = self._curve.best_until(samples)
            if theirs is None or best >= theirs:
                self._behind = []
            else:
                self._behind.append(step)
                self._theirs = theirs
        self._samples, self._best = samples, best

    def finding(self) -> Finding | None:
        """See :meth:`Rule.finding`."""
        if self._curve is None or len(self._behind) < BEHIND_EPOCHS:
            return None
        return Finding(
            self._behind[0], self._best, self._theirs,
            f"over the last {len(self._behind)} epochs the best {self._curve.metric.replace('_', ' ')} so far is below "
            f"that of {self._curve.run}: {self._best:.4f} and {self._theirs:.4f} after {self._samples:,} stock-days; "
            "noise of the validation days is in both",
            f"compare the settings (`atft diff`): what differs from {self._curve.run} has not paid yet",
        )  # fmt: skip


def as_large(epoch: Event, metric: str) -> float | None:
    """A field of an ``epoch`` event as something to be large; None where it is undefined."""
    value = epoch.get(metric)
    if value is None:
        return None
    return -float(value) if metric == "validation_loss" else float(value)


class LossMetricDivergence(Rule):
    """The training loss improves while the validation Sharpe ratio worsens, as the run's ``divergence`` events say."""

    name = "loss-metric-divergence"
    meaning = "the training loss improves while the validation Sharpe ratio falls"

    def __init__(self) -> None:
        self._epochs: dict[tuple[str, int], int] = {}
        self._step = 0
        self._told: tuple[tuple[str, int], Event] | None = None
        self._last: tuple[str, int] = ("", 0)

    def take(self, event: Event) -> None:
        """See :meth:`Rule.take`."""
        if event["kind"] == "step":
            self._step = event["step"]
            if self._told is not None and self._told[0] != self._last:
                self._told = None  # an epoch has passed without saying so again
        elif event["kind"] == "epoch":
            self._last = (event["phase"], event["epoch"])
            self._epochs[self._last] = self._step
        elif event["kind"] == "divergence":
            self._told = ((event["phase"], event["epoch"]), event)

    def finding(self) -> Finding | None:
        """See :meth:`Rule.finding`."""
        if self._told is None:
            return None
        event = self._told[1]
        epochs = event["epoch"] - event["since"]
        return Finding(
            self._epochs.get((event["phase"], event["since"]), self._step), float(epochs), 2.0, str(event["text"]),
            "the weights of the best validation epoch are kept whatever happens now; fewer epochs, a lower learning "
            "rate or more dropout would be a tier of its own",
        )  # fmt: skip


class DataWait(Rule):
    """Steps wait for their data."""

    name = "data-wait"
    meaning = "steps wait for data"

    def __init__(self) -> None:
        self._steps = _Steps(WAIT_STEPS)
        self._since: int | None = None

    def take(self, event: Event) -> None:
        """See :meth:`Rule.take`."""
        if event["kind"] != "step" or event.get("seconds") is None:
            return
        self._steps.add(event["step"], (event.get("data_seconds") or 0.0, event["seconds"]))
        wait, share = self._wait()
        beyond = wait >= WAIT_SECONDS and share > WAIT_SHARE * (BACK if self._since else 1.0)
        self._since = (self._since or event["step"]) if beyond else None

    def _wait(self) -> tuple[float, float]:
        waits, seconds = (sum(each) for each in zip(*self._steps.values, strict=True))
        return waits, waits / seconds if seconds else 0.0

    def finding(self) -> Finding | None:
        """See :meth:`Rule.finding`."""
        if self._since is None:
            return None
        wait, share = self._wait()
        return Finding(
            self._since, share, WAIT_SHARE,
            f"{100 * share:.0f} % of the time of the last {len(self._steps.values)} steps ({wait:.0f} s) is waiting "
            "for data",
            "a panel on a local disk, free memory for its pages, or more runtime.loader_workers; no number changes",
        )  # fmt: skip


class ConstantOutput(Rule):
    """All stocks of a day get one score: nothing is ranked and nothing can be learned."""

    name = "constant-output"
    meaning = "the output does not vary over the stocks of a day"

    def __init__(self) -> None:
        self._steps, self._step = _Steps(FLAT_STEPS), 0
        self._epoch: tuple[int, int, int] | None = None

    def take(self, event: Event) -> None:
        """See :meth:`Rule.take`."""
        if event["kind"] == "step" and event.get("flat_days") is not None:
            self._step = event["step"]
            self._steps.add(self._step, event["days"] > 0 and event["flat_days"] >= event["days"])
        elif event["kind"] == "epoch" and event.get("validation_days"):
            flat, days = event["validation_flat_days"], event["validation_days"]
            # Half of them: on such days the model says nothing, whatever the other half's figures are.
            self._epoch = (self._step, flat, days) if flat * 2 > days else None

    def finding(self) -> Finding | None:
        """See :meth:`Rule.finding`."""
        mend = (
            "a smaller learning rate or weight decay, and a look at the gradient norm (`atft report`) before that step"
        )
        if self._epoch is not None:
            step, flat, days = self._epoch
            return Finding(
                step, flat / days, 0.5, f"in evaluation every stock gets one score on {flat} of {days} validation days",
                mend,
            )  # fmt: skip
        steps = self._steps.values
        if len(steps) == FLAT_STEPS and all(steps):
            return Finding(
                self._steps.first, 1.0, 0.0, f"every stock got one score on all days of the last {FLAT_STEPS} batches",
                mend,
            )  # fmt: skip
        return None


def rules(curve: Curve | None = None) -> tuple[Rule, ...]:
    """Every rule, new; the one about a baseline speaks only where there is a ``curve``."""
    return BatchSharpeNoise(), BehindBaseline(curve), LossMetricDivergence(), DataWait(), ConstantOutput()


NAMES = tuple(rule.name for rule in rules())
"""What ``--stop-on`` accepts, beside ``all``."""
