"""What differs between two tiers: settings that learning depends on, counted as variables, and the rest.

A comparison can say what caused a difference only where one variable differs. One variable is one setting, but for
settings that can only move together (:func:`differences` says which).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from atft.config import Tier

ABSENT = None
"""Value of a setting that one of the two does not have."""
MEASURED = ("split", "label")
"""Groups that say what a result is measured on: where these differ, two results are not of the same thing."""
TITLES = frozenset({"name", "description"})
"""What a tier is called, which is no setting."""
PHASE_COUNTS = ("epochs", "warmup_steps")
"""Whole numbers of a phase: changed by one factor up to rounding."""


@dataclass(frozen=True)
class Difference:
    """One setting that differs.

    Attributes:
        path: dotted, as ``--set`` takes it.
        a: value of the first; None where it has no such setting.
        b: value of the second.
        variable: the variable that it is a part of; empty where it counts for none.
        note: why it counts for none.
    """

    path: str
    a: Any
    b: Any
    variable: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {_told(self.a)} → {_told(self.b)}"


@dataclass(frozen=True)
class Differences:
    """What differs between two tiers, and on what they were run.

    Attributes:
        names: of the two.
        learning: settings that learning depends on, without the seed.
        other: settings that it does not depend on.
        seeds: of the two.
        held: what is the same in an epoch where the effective batch differs: ``samples``, ``steps`` or neither.
        data: hashes of the two panels, where both are known.
    """

    names: tuple[str, str]
    learning: tuple[Difference, ...]
    other: tuple[Difference, ...]
    seeds: tuple[int, int]
    held: str | None = None
    data: tuple[str, str] | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """The variables that differ, such as ``batch.days`` or ``phases.*.learning_rate``."""
        return tuple(dict.fromkeys(each.variable for each in self.learning if each.variable))

    @property
    def variables(self) -> int:
        """How many variables differ."""
        return len(self.named)

    @property
    def comparable(self) -> bool:
        """Whether both are measured alike: same label, same split, and as far as is known the same data."""
        measured = any(each.path.split(".")[0] in MEASURED for each in self.learning)
        return not measured and (self.data is None or self.data[0] == self.data[1])

    @property
    def causal(self) -> bool:
        """Whether a difference in results could be put down to one variable."""
        return self.variables == 1 and self.comparable

    @property
    def verdict(self) -> str:
        """One sentence about what a comparison can say."""
        if not self.comparable:
            groups = {each.path.split(".")[0] for each in self.learning} & set(MEASURED)
            told = [*sorted(groups), *(["the panel's data"] if self.data and self.data[0] != self.data[1] else [])]
            return f"cannot be causal: {' and '.join(told)} differ, so that results are not of the same thing"
        if self.variables > 1:
            return f"cannot be causal: {self.variables} variables differ at once ({', '.join(self.named)})"
        if self.variables == 1:
            chance = "seeds differ too, whose chance it has to exceed" if self._seeds_differ else "over several seeds"
            return f"can be causal: {self.named[0]} alone differs ({chance})"
        if self._seeds_differ:
            return "the same recipe under two seeds: what differs is chance"
        return "nothing that learning depends on differs"

    @property
    def _seeds_differ(self) -> bool:
        return self.seeds[0] != self.seeds[1]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        found = asdict(self)
        return found | {
            "variables": self.variables,
            "named": list(self.named),
            "comparable": self.comparable,
            "causal": self.causal,
            "verdict": self.verdict,
        }

    def text(self) -> str:
        """For people: what learning depends on, what it does not, and the verdict."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.names[0]} → {self.names[1]}"
        yield f"learning depends on ({self.variables} variable{'' if self.variables == 1 else 's'}):"
        yield from _rows(self.learning) if self.learning else ["  no difference"]
        if self.held:
            yield f"  an epoch has equal {self.held} in both"
        if self._seeds_differ:
            yield f"  seed: {self.seeds[0]} → {self.seeds[1]}, which is no variable of the recipe"
        if self.data:
            yield f"  panel data: {'the same' if self.data[0] == self.data[1] else 'another'}"
        yield "learning does not depend on:"
        yield from _rows(self.other) if self.other else ["  no difference"]
        yield f"a comparison {self.verdict}." if "causal" in self.verdict else f"{self.verdict}."


def differences(
    a: Tier, b: Tier, *, names: tuple[str, str] | None = None, data: tuple[str, str] | None = None
) -> Differences:
    """What differs from ``a`` to ``b``; the other way round it finds the same variables.

    One setting is one variable, but for these:

    - The same setting of all phases, changed to one value, from one value or by one factor, is one (``--lr``); the
      epochs of all phases and ``max_epochs`` together likewise.
    - ``objective.weights`` is one where each side has a single weight: another objective.
    - ``split`` is one, however many of its dates move.
    - ``epoch_stock_days`` is none where the effective batch differs and either the steps of an epoch are equal or it
      was rounded to whole batches: equal steps or equal data follow from the batch.
    - ``max_epochs`` is none where it cuts nothing in either.
    - ``phases.*.parts`` is none where another architecture has none.

    Args:
        a: one tier.
        b: the other.
        names: of the two; the tiers' own where not given.
        data: hashes of the panels that they were run on.
    """
    below = (a.learning(), b.learning())
    found = [each for each in _compared(*below) if each.path != "seed"]
    order = [[name for name in each.phases if name in other.phases] for each, other in ((a, b), (b, a))]
    if order[0] != order[1]:
        found.append(Difference("phases", order[0], order[1]))
    other = _compared(_unlearned(a), _unlearned(b))
    return Differences(
        names=names or (a.name, b.name),
        learning=tuple(_grouped(found, a, b)),
        other=tuple(other),
        seeds=(a.seed, b.seed),
        held=_held(a, b),
        data=data,
    )


def _unlearned(tier: Tier) -> dict[str, Any]:
    dumped = tier.model_dump(mode="json")
    return {name: dumped[name] for name in dumped.keys() - tier.learning().keys() - TITLES}


def _compared(a: Mapping[str, Any], b: Mapping[str, Any], path: str = "") -> list[Difference]:
    """The leaves that differ, in the order of their names in ``a``; a group that one side lacks is one leaf."""
    found = []
    for name in sorted(a.keys() | b.keys()) if not path else [*a, *(b.keys() - a.keys())]:
        one, two, here = a.get(name, ABSENT), b.get(name, ABSENT), f"{path}{name}"
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            found += _compared(one, two, f"{here}.")
        elif one != two:
            found.append(Difference(here, one, two))
    return found


def _grouped(found: Sequence[Difference], a: Tier, b: Tier) -> Iterator[Difference]:
    """Each difference with the variable that it is a part of, or the reason why it is none."""
    together = _of_phases(found, a, b)
    single = all(sum(weight > 0 for weight in t.objective.weights.model_dump().values()) == 1 for t in (a, b))
    for each in found:
        note = _no_variable(each.path, a, b)
        variable = together.get(each.path, each.path)
        if each.path.startswith("split"):
            variable = "split"
        if each.path.startswith("objective.weights.") and single:
            variable = "objective.weights"
        yield Difference(each.path, each.a, each.b, "" if note else variable, note)


def _of_phases(found: Sequence[Difference], a: Tier, b: Tier) -> dict[str, str]:
    """Path to variable, of settings that all phases changed alike."""
    together: dict[str, str] = {}
    changed = {each.path: (each.a, each.b) for each in found}
    for setting in {path.split(".")[2] for path in changed if path.startswith("phases.") and path.count(".") == 2}:
        own = {
            path: pair
            for path, pair in changed.items()
            if path.startswith("phases.") and path.split(".")[-1] == setting
        }
        everywhere = list(a.phases) == list(b.phases) and len(own) == len(a.phases)
        if everywhere and _alike(list(own.values()), whole=setting in PHASE_COUNTS):
            together |= dict.fromkeys(own, f"phases.*.{setting}")
            if setting == "epochs":
                together["max_epochs"] = "phases.*.epochs"
    return together


def _alike(pairs: Sequence[tuple[Any, Any]], *, whole: bool) -> bool:
    """Whether all values became one, came from one, or changed by one factor (up to rounding of whole numbers)."""
    if any(len({json.dumps(pair[side]) for pair in pairs}) == 1 for side in (0, 1)):
        return True
    if not all(isinstance(value, int | float) for pair in pairs for value in pair):
        return False
    less, more = sorted(zip(*pairs, strict=True), key=sum)
    factor = sum(more) / sum(less) if sum(less) else math.inf
    if not math.isfinite(factor):
        return False
    slack = 1.0 if whole else 0.0
    return all(math.isclose(factor * x, y, rel_tol=1e-9, abs_tol=slack) for x, y in zip(less, more, strict=True))


def _no_variable(path: str, a: Tier, b: Tier) -> str:
    """Why a setting that differs is no variable of its own; empty where it is one."""
    if path == "epoch_stock_days" and a.batch.samples != b.batch.samples:
        if a.steps_per_epoch == b.steps_per_epoch:
            return "follows from the batch: equal steps"
        if _rounded(a, b):
            return "follows from the batch: equal data, in whole batches"
    if path == "max_epochs" and all(sum(p.epochs for p in t.phases.values()) <= t.max_epochs for t in (a, b)):
        return "cuts no epoch in either"
    if path.endswith(".parts") and a.model.architecture != b.model.architecture:
        return "follows from the architecture"
    return ""


def _rounded(a: Tier, b: Tier) -> bool:
    """Whether the one epoch is the other's, to the nearest whole number of its own batches."""

    def fits(one: Tier, other: Tier) -> bool:
        return one.epoch_stock_days % other.batch.samples != 0 and _nearest(one, other) == other.epoch_stock_days

    return fits(a, b) or fits(b, a)


def _nearest(one: Tier, other: Tier) -> int:
    return max(1, round(one.epoch_stock_days / other.batch.samples)) * other.batch.samples


def _held(a: Tier, b: Tier) -> str | None:
    if a.batch.samples == b.batch.samples:
        return None
    if a.epoch_stock_days == b.epoch_stock_days or _rounded(a, b):
        return "samples"
    return "steps" if a.steps_per_epoch == b.steps_per_epoch else None


def _rows(found: Sequence[Difference]) -> Iterator[str]:
    width = max(len(each.path) for each in found)
    for each in found:
        note = (
            f"  ({each.note})" if each.note else f"  [{each.variable}]" if each.variable not in ("", each.path) else ""
        )
        yield f"  {each.path:{width}}  {_told(each.a)} → {_told(each.b)}{note}"


def _told(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value)
