"""Runs that are compared: what is known of each, and which are seeds of one configuration."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from atft.config import Tier
from atft.errors import UseError
from atft.evaluate.metrics import Floats
from atft.evaluate.result import Result
from atft.experiment.diff import differences
from atft.experiment.registry import recipe_sha256


@dataclass(frozen=True)
class PhaseOf:
    """A phase as it went.

    Attributes:
        name: of the phase.
        epochs: one row per epoch, in order, as events and results have it.
        best_epoch: the one whose weights were kept; None before there is one.
        expected_std: expected sampling deviation of its batch Sharpe; None where not known.
        batch_sharpe: ``[steps]``, finite.
        seconds: how long it took; None while it runs.
    """

    name: str
    epochs: tuple[Mapping[str, Any], ...]
    best_epoch: int | None
    expected_std: float | None
    batch_sharpe: Floats
    seconds: float | None


@dataclass(frozen=True)
class Usage:
    """What a run took of its machine; None where not recorded.

    Attributes:
        seconds: from its start to its result, without interruptions.
        step_seconds: of its optimizer steps.
        worker_seconds: the workers of each step times its time, and the rest of ``seconds`` times the last workers.
        workers: processes at its end.
        device: such as ``cuda``.
        threads: of one worker.
    """

    seconds: float | None = None
    step_seconds: float | None = None
    worker_seconds: float | None = None
    workers: int | None = None
    device: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Pooled:
    """The pooled Sharpe ratio of a test period, and ``[days]`` what each label date adds to its error."""

    value: float
    dates: tuple[dt.date, ...]
    influence: Floats


@dataclass(frozen=True)
class Ran:
    """One run, finished or not.

    Attributes:
        name: what it is called here; unique among those that are compared.
        tier: its settings.
        panel: hash of its panel's data.
        result: what it came to; None where it is not evaluated.
        state: ``evaluated``, or how far it has come, in words.
        baseline: which baseline it is a run of, or what ensemble it is, where it is one.
        phases: in order.
        parameters, steps, samples: counted; None where not recorded.
        precision: in effect.
        usage: of its machine.
        pooled: of its test period, where it was asked for and could be computed.
    """

    name: str
    tier: Tier
    panel: str
    result: Result | None = None
    state: str = "evaluated"
    baseline: str | None = None
    phases: tuple[PhaseOf, ...] = ()
    parameters: int | None = None
    steps: int | None = None
    samples: int | None = None
    precision: str | None = None
    usage: Usage = field(default_factory=Usage)
    pooled: Pooled | None = None

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.tier.seed


@dataclass(frozen=True)
class Configuration:
    """Runs of one recipe on one panel, that differ in their seed.

    Attributes:
        name: the tier's, or more where several configurations share it.
        runs: by seed.
    """

    name: str
    runs: tuple[Ran, ...]

    @property
    def tier(self) -> Tier:
        """Settings, with the seed of the first."""
        return self.runs[0].tier

    @property
    def evaluated(self) -> tuple[Ran, ...]:
        """The runs that have a result with daily series."""
        return tuple(run for run in self.runs if run.result is not None and run.result.test.series is not None)

    def of_seeds(self, seeds: Sequence[int]) -> Configuration:
        """The runs of these seeds only."""
        return replace(self, runs=tuple(run for run in self.runs if run.seed in seeds))


def configurations(runs: Sequence[Ran]) -> list[Configuration]:
    """Runs grouped by what they learn by, in the order of their first run.

    Runs that share recipe and seed are two configurations where mode or runtime differs: they show what that costs.

    Raises:
        UseError: two runs are one recipe, seed and runtime; or all are seeds of one configuration.
    """
    groups = _grouped(runs, _recipe)
    if any(len({run.seed for run in group}) < len(group) for group in groups):
        groups = _grouped(runs, lambda run: (*_recipe(run), run.tier.mode, run.tier.runtime.model_dump_json()))
    for group in groups:
        _check_seeds(group)
    if len(groups) < 2:
        told = ", ".join(run.name for run in runs)
        raise UseError(
            f"{told}: are seeds of one configuration, and nothing is there to compare it with. Mend: name runs of "
            "another configuration too; `atft power RUN --against RUN2` tests two seeds against one another."
        )
    names = _names(groups)
    return [Configuration(name, tuple(sorted(group, key=lambda run: run.seed))) for name, group in zip(names, groups)]


def _recipe(run: Ran) -> tuple[str, ...]:
    return (recipe_sha256(run.tier), run.panel, run.baseline or "")


def _grouped(runs: Sequence[Ran], key: Any) -> list[list[Ran]]:
    groups: dict[tuple[str, ...], list[Ran]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def _check_seeds(group: Sequence[Ran]) -> None:
    known: dict[int, str] = {}
    for run in group:
        if run.seed in known:
            raise UseError(
                f"{known[run.seed]} and {run.name}: are one configuration under one seed ({run.seed}): the same "
                "training twice, which tells nothing of chance. Mend: name one of them, or train another seed (--seed)."
            )
        known[run.seed] = run.name


def _names(groups: Sequence[Sequence[Ran]]) -> list[str]:
    """The tier's or baseline's name; where several share one, what differs is added, or the first run's name."""
    plain = [group[0].baseline or group[0].tier.name for group in groups]
    found = []
    for name, group in zip(plain, groups):
        if plain.count(name) == 1:
            found.append(name)
            continue
        rest = [other[0].tier for own, other in zip(plain, groups) if own == name and other is not group]
        found.append(f"{name} ({_apart(group[0].tier, rest) or group[0].name})")
    return [name if found.count(name) == 1 else f"{name} ({group[0].name})" for name, group in zip(found, groups)]


def _apart(tier: Tier, others: Sequence[Tier]) -> str:
    """The one variable that sets a tier apart from all others of its name; empty where it is not one."""
    found = [differences(tier, other) for other in others]
    variables = {name for each in found for name in each.named}
    if len(variables) != 1:
        return ""
    variable = variables.pop()
    own = next(each.a for told in found for each in told.learning if each.variable == variable)
    return f"{variable} {own if isinstance(own, str) else json.dumps(own)}"
