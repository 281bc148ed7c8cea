"""Sweeps: one setting of a tier at several values, everything else as it is, under several seeds.

A sweep file names one variable, so that two can never move at once. What a value entails (epochs of every phase, data
of an epoch where steps are held) follows from it by a rule that is stated here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from atft.config import UNLEARNED, Settings, Tier
from atft.errors import UseError
from atft.experiment import named_files
from atft.experiment.tiers import SHORT_NAMES
from atft.experiment.tiers import directory as tiers_directory

Scalar = bool | int | float | str
Hold = Literal["samples", "steps"]
EPOCHS = "epochs"
"""Variable of a sweep over the epochs of all phases together."""
BATCH = ("BATCH_SIZE", "batch.days", "batch.stocks_per_day")
"""Variables that change how many stock-days make an effective batch."""
MEASURED = ("label", "split", "validation_metric")
"""Settings that decide what is measured: points that differ in them cannot be compared."""


class Range(Settings):
    """Where a search may look, in place of a list of values."""

    low: float
    high: float
    log: bool = False
    """Search evenly in the logarithm."""
    trials: Annotated[int, Field(ge=2)]
    """Points that the search may try."""

    @model_validator(mode="after")
    def _span(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} must be below high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low}: a logarithm needs values above 0; mend: log = false")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return float(self.low).is_integer() and float(self.high).is_integer()


class Sweep(Settings):
    """A sweep file."""

    name: str
    """Name of the file."""
    description: str
    tier: str
    """Tier that every point is, but for the variable; a name, or a file beside this one."""
    variable: str
    """Dotted path of one setting, a short name such as ``LR``, or ``epochs``."""
    values: tuple[Scalar, ...] = ()
    range: Range | None = None
    """Where a search that is no grid looks."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    hold: Hold | None = None
    """What a batch sweep keeps: ``samples``, the stock-days seen, or ``steps``, the optimizer steps."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings that all points share and that differ from the tier's own, by dotted path."""
    metric: Literal["validation"]
    """Points are chosen by the tier's validation metric; none looks at the test period."""
    grace_epochs: Annotated[int, Field(gt=0)] | None = None
    """Epochs before ASHA may stop a trial; those of the first phase where not stated."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        problems = [*_of_variable(self.variable), *self._of_values(), *self._of_seeds()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _of_values(self) -> list[str]:
        if not self.values and self.range is None:
            return ["values: none, and nothing would be trained; mend: at least two values of the variable"]
        if len(self.values) == 1:
            return [f"values = {list(self.values)}: one value is no sweep; mend: at least two, or `atft train`"]
        twice = [value for number, value in enumerate(self.values) if value in self.values[:number]]
        return [f"values: {_listed(twice)} stands there twice; mend: each value once"] if twice else []

    def _of_seeds(self) -> list[str]:
        twice = [seed for number, seed in enumerate(self.seeds) if seed in self.seeds[:number]]
        return [f"seeds: {_listed(twice)} stands there twice; mend: each seed once"] if twice else []

    @property
    def path(self) -> str:
        """The variable as a dotted path; ``epochs`` and ``BATCH_SIZE`` stay what they are."""
        return self.variable if self.variable == "BATCH_SIZE" else SHORT_NAMES.get(self.variable, self.variable)

    @property
    def of_batch(self) -> bool:
        """Whether the variable changes the effective batch."""
        return self.path in BATCH


def _of_variable(name: str) -> list[str]:
    path = SHORT_NAMES.get(name, name)
    group = path.partition(".")[0]
    if path == "seed":
        return ["variable = seed: every point has its seeds; mend: `seeds`, and another variable"]
    if group in UNLEARNED:
        return [f"variable = {name}: nothing that is learned depends on it; mend: a setting that learning depends on"]
    if group in MEASURED:
        return [f"variable = {name}: changes what is measured, so that points cannot be compared; mend: one tier each"]
    known = {*Tier.model_fields, EPOCHS}
    if group not in known:
        near = difflib.get_close_matches(name, [*known, *SHORT_NAMES, *SHORT_NAMES.values()], n=1)
        return [f"variable = {name}: no such setting" + (f"; nearest: {near[0]}" if near else "")]
    return []


def directory() -> Path:
    """Where the shipped sweeps lie: beside the tiers."""
    return tiers_directory().with_name("sweeps")


def names() -> list[str]:
    """Names of the shipped sweeps."""
    return sorted(path.stem for path in directory().glob("*.yaml"))


def read(name: str) -> Sweep:
    """The sweep ``name``, a shipped one or a YAML file.

    Raises:
        UseError: no such sweep, or all that is wrong with it.
    """
    path = named_files.path_of(name, directory())
    stated = named_files.read(path, name, kind="sweep", known=names())
    _check_one_variable(path, stated)
    base = path.parent / str(stated.get("tier"))
    beside = {"tier": str(base)} if base.suffix in (".yaml", ".yml") else {}
    return validated({**stated, **beside, "name": path.stem}, path.name)


def _check_one_variable(path: Path, stated: Mapping[str, Any]) -> None:
    """More than one variable, in whichever way somebody would write it."""
    variable, values = stated.get("variable"), stated.get("values")
    several = variable if isinstance(variable, list | dict) else stated.get("variables")
    if several is None and isinstance(values, dict):
        several = values
    if several is None and isinstance(values, list):
        several = next((value for value in values if isinstance(value, dict)), None)
    if several is not None:
        raise UseError(
            f"{path}: more than one variable ({', '.join(map(str, several))}): two that move at once cannot be told "
            "apart. Mend: a sweep file for each, with one `variable` and its list of `values`."
        )


def validated(stated: Mapping[str, Any], source: str) -> Sweep:
    """A sweep from plain data.

    Raises:
        UseError: all that is wrong with it.
    """
    try:
        return Sweep.model_validate(dict(stated))
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise UseError(
            f"sweep {source} is refused, {len(lines)} problem(s):\n" + "\n".join(f"  {line}" for line in lines)
        ) from None


def _explain(problem: Any) -> str:
    path, key = ".".join(map(str, problem["loc"])), str(problem["loc"][-1]) if problem["loc"] else ""
    if problem["type"] == "missing":
        return f"{path}: not stated. Mend: state it in the sweep file."
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, Sweep.model_fields, n=1)
        return f"{path}: a sweep has no such setting." + (f" Nearest: {near[0]}." if near else "")
    value = "" if isinstance(problem["input"], dict | Settings) else f" = {problem['input']!r}"
    return f"{path}{value}: {problem['msg'].removeprefix('Value error, ')}." if path else _plain(problem["msg"])


def _plain(text: str) -> str:
    return text.removeprefix("Value error, ") + "."


def changed(sweep: Sweep, *, seeds: Sequence[int] | None = None, hold: str | None = None) -> Sweep:
    """A sweep with what the command line states in place of what its file says.

    Raises:
        UseError: what is stated does not fit it.
    """
    stated = sweep.model_dump()
    if seeds is not None:
        stated["seeds"] = tuple(seeds)
    if hold is not None:
        stated["hold"] = hold
    found = validated(stated, sweep.name)
    if found.hold and not found.of_batch:
        raise UseError(
            f"sweep {sweep.name}: hold = {found.hold}, and {sweep.variable} changes no batch: samples and steps follow "
            "from the tier. Mend: leave --hold out."
        )
    if found.of_batch and found.hold is None:
        raise UseError(
            f"sweep {sweep.name}: is over the effective batch and does not say what is held: a larger batch in as many "
            "steps sees more stock-days, and with as many stock-days takes fewer steps. "
            "Mend: --hold samples (as many stock-days, fewer steps) or --hold steps (as many steps, more stock-days)."
        )
    return found


def seeds_of(text: str) -> list[int]:
    """``3`` is three seeds, 1 to 3; ``1,5,9`` are these.

    Raises:
        UseError: neither.
    """
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or ("," not in text and numbers[0] < 1):
        raise UseError(
            f"--seeds {text}: neither how many nor which. Mend: --seeds 3 for seeds 1 to 3, or --seeds 1,5,9 for these."
        )
    return numbers if "," in text else list(range(1, numbers[0] + 1))


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, dict.fromkeys(values)))
