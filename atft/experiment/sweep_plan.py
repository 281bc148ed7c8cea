"""The points of a sweep: every value resolved to a whole tier, and every point under every seed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from atft.config import Tier
from atft.errors import UseError
from atft.experiment.sweep import BATCH, EPOCHS, Scalar, Sweep
from atft.experiment.tiers import SHORT_NAMES, Resolved, resolve

THREADS = 1
"""Threads of a trial whose tier does not state them: whatever runs beside it, it rounds alike."""
DIGITS = 4
"""Significant digits of a value that a search suggests: what its name says is what it is."""


@dataclass(frozen=True)
class Point:
    """One value of the variable.

    Attributes:
        value: as the resolved tier has it.
        name: for directories and tables, such as ``learning_rate-0.0001``.
        resolved: the whole tier, under its first seed.
        is_own: it is the tier as it is, but for what all points share.
    """

    value: Scalar
    name: str
    resolved: Resolved
    is_own: bool

    @property
    def tier(self) -> Tier:
        """Its settings."""
        return self.resolved.tier


def run_name(point: str, seed: int) -> str:
    """Directory of the run of a point under a seed, in that of the sweep."""
    return f"point-{point}-s{seed}"


@dataclass(frozen=True)
class Trial:
    """A point under one seed: one run."""

    point: Point
    seed: int
    resolved: Resolved

    @property
    def name(self) -> str:
        """Of its run, in the directory of the sweep."""
        return run_name(self.point.name, self.seed)


@dataclass(frozen=True)
class Plan:
    """A sweep made ready.

    Attributes:
        sweep: the file, with what the command line states in place of it.
        base: the tier with what all points share; what a search resolves its suggestions from.
        points: of a grid, in the order of the file; of a search, the tier as it is.
    """

    sweep: Sweep
    base: Resolved
    points: tuple[Point, ...]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every point under every seed, the seeds of a point together."""
        return tuple(each for point in self.points for each in self.trials_of(point))

    def trials_of(self, point: Point) -> tuple[Trial, ...]:
        """The runs of one point."""
        return tuple(Trial(point, seed, _seeded(point.resolved, seed)) for seed in self.sweep.seeds)

    @property
    def reference(self) -> Point | None:
        """The point that is the tier as it is; the first one where no value is the tier's own; None without points."""
        return next((point for point in self.points if point.is_own), next(iter(self.points), None))

    def suggested(self, value: float) -> Point:
        """The point of a value that a search suggests, rounded to what its name can say.

        Raises:
            UseError: the tier refuses it.
        """
        asked = self.sweep.range
        whole = asked is not None and asked.whole
        return _point(self.sweep, self.base, int(value) if whole else float(f"{value:.{DIGITS}g}"))


def planned(sweep: Sweep, flags: Mapping[str, Any] | None = None, *, search: bool = False) -> Plan:
    """Resolve every point of a sweep.

    Args:
        sweep: what is asked for.
        flags: settings that all points share, by dotted path: they win over those of the file.
        search: plan for a search inside ``sweep.range`` instead of the listed values.

    Raises:
        UseError: before anything is trained, naming every value that is refused.
    """
    shared = {**sweep.settings, **(flags or {})}
    _check_shared(sweep, shared)
    base = _pinned(_told(resolve(sweep.tier, flags=shared), sweep.settings, f"sweep {sweep.name}"))
    if search:
        return _search_plan(sweep, base)
    if not sweep.values:
        raise UseError(f"sweep {sweep.name}: has no values for a grid. Mend: state values, or --search optuna.")
    _check_whole_batches(sweep, base.tier)
    points = _resolved(sweep, base, sweep.values)
    _check_distinct(sweep, points)
    return Plan(sweep, base, tuple(points))


def _search_plan(sweep: Sweep, base: Resolved) -> Plan:
    asked = sweep.range
    if asked is None:
        raise UseError(
            f"sweep {sweep.name}: states no range to search. "
            "Mend: range: {low: …, high: …, log: true, trials: 12} in the sweep file, or --search grid."
        )
    if sweep.path in BATCH:
        raise UseError(
            f"sweep {sweep.name}: batches between the bounds are not whole blocks. Mend: --search grid over `values`."
        )
    _resolved(sweep, base, [int(each) if asked.whole else each for each in (asked.low, asked.high)])
    own = value_of(base.tier, sweep.path)
    inside = isinstance(own, int | float) and asked.low <= own <= asked.high
    return Plan(sweep, base, (_point(sweep, base, own),) if inside else ())


def _resolved(sweep: Sweep, base: Resolved, values: Iterable[Scalar]) -> list[Point]:
    """The points of these values, or every reason that one of them is none."""
    points, problems = [], []
    for value in values:
        try:
            points.append(_point(sweep, base, value))
        except UseError as error:
            problems.append(f"{sweep.variable} = {value}: {_reason(error)}")
    if problems:
        raise UseError(
            f"sweep {sweep.name}: {len(problems)} value(s) are refused, and nothing is trained:\n"
            + "\n".join(f"  {each}" for each in problems)
        )
    return points


def _reason(error: UseError) -> str:
    """What the tier says of a value, without the heading that is the same for all."""
    first, *rest = str(error).splitlines()
    return "; ".join(line.strip() for line in rest) or first


def _point(sweep: Sweep, base: Resolved, value: Scalar) -> Point:
    flags = _flags(sweep, base.tier, value)
    found = resolve(sweep.tier, flags=flags, environ={}, base=base.tier)
    provenance = base.provenance | {path: found.provenance[path] for path in _paths(found, base)}
    resolved = _told(Resolved(found.tier, dict(sorted(provenance.items()))), _paths(found, base), f"sweep {sweep.name}")
    held = value_of(found.tier, sweep.path)
    return Point(held, f"{_short(sweep.path)}-{_slug(held)}", resolved, _trained(found.tier) == _trained(base.tier))


def _flags(sweep: Sweep, base: Tier, value: Scalar) -> dict[str, Any]:
    """What a value sets: itself, and what follows from it."""
    if sweep.path == EPOCHS:
        return _epoch_flags(base, value)
    flags: dict[str, Any] = {sweep.path: value}
    if sweep.hold == "steps" and (samples := _samples(sweep, base, value)):
        flags["epoch_stock_days"] = base.steps_per_epoch * samples
    return flags


def _samples(sweep: Sweep, base: Tier, value: Scalar) -> int | None:
    """Stock-days of the effective batch of a value; None where it is no number, which the tier will say."""
    try:
        number = int(value)
    except ValueError:
        return None
    beside = {"batch.days": base.batch.stocks_per_day, "batch.stocks_per_day": base.batch.days}
    return number * beside.get(sweep.path, 1)


def _epoch_flags(base: Tier, value: Scalar) -> dict[str, Any]:
    own = {name: phase.epochs for name, phase in base.phases_to_run().items()}
    if isinstance(value, bool) or not isinstance(value, int) or value < len(own):
        raise UseError(f"epochs of all phases together: a whole number, at least {len(own)}, one for each phase.")
    parts = scaled_epochs(own, value)
    stopped = {f"phases.{name}.epochs": 0 for name in base.phases if name not in parts}
    return {
        **stopped,
        **{f"phases.{name}.epochs": n for name, n in parts.items()},
        "max_epochs": max(base.max_epochs, value),
    }


def scaled_epochs(own: Mapping[str, int], total: int) -> dict[str, int]:
    """The epochs of each phase when all together are ``total``: in proportion, each at least 1, in whole numbers.

    What rounding down leaves goes to the largest remainders, the earlier phase first.

    Args:
        own: epochs of each phase as they are, all above 0.
        total: at least one for each phase.
    """
    together = sum(own.values())
    exact = {name: total * epochs / together for name, epochs in own.items()}
    parts = {name: max(1, math.floor(share)) for name, share in exact.items()}
    while (left := total - sum(parts.values())) != 0:
        gaps = {name: exact[name] - parts[name] for name in parts if left > 0 or parts[name] > 1}
        chosen = max(gaps, key=lambda name: gaps[name]) if left > 0 else min(gaps, key=lambda name: gaps[name])
        parts[chosen] += 1 if left > 0 else -1
    return parts


def value_of(tier: Tier, path: str) -> Scalar:
    """What a resolved tier has at the path of a variable; several phases that agree count as one value."""
    if path == EPOCHS:
        return sum(phase.epochs for phase in tier.phases_to_run().values())
    if path == "BATCH_SIZE":
        return tier.batch.samples
    found = _leaves(tier.model_dump(mode="json"), path.split("."))
    values = {json.dumps(each) for each in found}
    if len(values) == 1 and isinstance(found[0], bool | int | float | str):
        return found[0]
    return " ".join(map(str, found))


def _leaves(group: Any, path: list[str]) -> list[Any]:
    if not path:
        return [group]
    keys = list(group) if path[0] == "*" else [path[0]]
    return [leaf for key in keys for leaf in _leaves(group.get(key) if isinstance(group, dict) else None, path[1:])]


def _check_shared(sweep: Sweep, shared: Mapping[str, Any]) -> None:
    """What all points share must leave the variable, and what follows from it, to the sweep."""
    same = {"batch.days", "BATCH_SIZE"}
    patterns = [
        sweep.path,
        *(same if sweep.path in same else ()),
        *(("phases.*.epochs",) if sweep.path == EPOCHS else ()),
    ]
    for path in shared:
        long = path if path == "BATCH_SIZE" else SHORT_NAMES.get(path, path)
        if any(_matches(each, long) or _matches(long, each) for each in patterns):
            raise UseError(
                f"{path} = {shared[path]}: is what the sweep {sweep.name} varies. "
                "Mend: leave it out, or another sweep file whose values are what you want."
            )
        if long == "seed":
            raise UseError(f"seed = {shared[path]}: a sweep has several. Mend: --seeds 1,2,3.")


def _matches(pattern: str, path: str) -> bool:
    one, other = pattern.split("."), path.split(".")
    return len(one) == len(other) and all(a in ("*", b) for a, b in zip(one, other))


def _check_whole_batches(sweep: Sweep, base: Tier) -> None:
    """With samples held, every point's batch divides the stock-days of an epoch."""
    if sweep.hold != "samples":
        return
    sizes = [size for value in sweep.values if (size := _samples(sweep, base, value))]
    broken = [size for size in sizes if size > 0 and base.epoch_stock_days % size]
    if not broken:
        return
    unit = reduce(math.lcm, sizes)
    whole = math.ceil(base.epoch_stock_days / unit) * unit
    raise UseError(
        f"sweep {sweep.name}: epoch_stock_days = {base.epoch_stock_days} of tier {base.name} is not a whole number of "
        f"batches of {', '.join(map(str, broken))} stock-days, and with --hold samples all points see as many. "
        f"Mend: settings: {{epoch_stock_days: {whole}}} in the sweep file, or --set epoch_stock_days={whole}: "
        f"the same at all points, {whole / base.epoch_stock_days:.0%} of the tier's."
    )


def _check_distinct(sweep: Sweep, points: list[Point]) -> None:
    """No two values come to the same training, whatever they are called."""
    seen: dict[str, Point] = {}
    names: dict[str, Point] = {}
    for point in points:
        key = _trained(point.tier)
        twin = seen.setdefault(key, point)
        if twin is not point:
            mend = f"variable: {EPOCHS}" if sweep.path == "max_epochs" else "each value once"
            raise UseError(
                f"sweep {sweep.name}: the values {twin.value} and {point.value} of {sweep.variable} train alike. "
                f"Mend: {mend}."
            )
        if names.setdefault(point.name, point) is not point:
            raise UseError(f"sweep {sweep.name}: two points would be called {point.name}. Mend: clearer values.")


def _trained(tier: Tier) -> str:
    """What decides how a tier trains: a cap on epochs only by what it caps."""
    learned = {**tier.learning(), "max_epochs": 0}
    learned["phases"] = {name: phase.model_dump(mode="json") for name, phase in tier.phases_to_run().items()}
    return json.dumps(learned, sort_keys=True)


def _seeded(resolved: Resolved, seed: int) -> Resolved:
    tier = resolved.tier.model_copy(update={"seed": seed})
    return Resolved(tier, resolved.provenance | {"seed": "sweep seeds"})


def _pinned(resolved: Resolved) -> Resolved:
    """With a stated number of threads, so that no number depends on how many trials run beside this one."""
    tier = resolved.tier
    if tier.runtime.threads:
        return resolved
    runtime = tier.runtime.model_copy(update={"threads": THREADS})
    return Resolved(
        tier.model_copy(update={"runtime": runtime}), resolved.provenance | {"runtime.threads": "sweep: one a trial"}
    )


def _told(resolved: Resolved, paths: Iterable[str], source: str) -> Resolved:
    """With ``source`` as the origin of what the sweep sets."""
    wanted = {SHORT_NAMES.get(path, path) for path in paths}
    sources = {
        path: source if any(_matches(each, path) for each in wanted) and "flag" in was else was
        for path, was in resolved.provenance.items()
    }
    return Resolved(resolved.tier, sources)


def _paths(found: Resolved, base: Resolved) -> list[str]:
    """Paths that a point states beside its base."""
    return [path for path, source in found.provenance.items() if source != "config.json"]


def _short(path: str) -> str:
    return "batch" if path == "BATCH_SIZE" else path.rpartition(".")[2]


def _slug(value: Scalar) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", str(value)).replace("+", "").strip("-") or "none"
