"""Tiers: named experiment definitions, resolved from flags, environment and files, with the source of every value."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from atft.config import MODES, UNLEARNED, Tier
from atft.errors import UseError
from atft.experiment import named_files, variables
from atft.experiment.variables import NOT_SETTINGS as NOT_SETTINGS
from atft.experiment.variables import PREFIX
from atft.experiment.variables import SHORT_NAMES as SHORT_NAMES
from atft.schemes import SPLITS

NOT_STATED = "not stated"
"""Source of what a tier may leave out and did."""

FLAGS = {
    "BATCH_SIZE": "flag --batch-size",
    "LR": "flag --lr",
    "max_epochs": "flag --max-epochs",
    "seed": "flag --seed",
    "split.fold": "flag --fold",
}
"""How the settings with a flag of their own are called where they are told."""


@dataclass(frozen=True)
class Resolved:
    """A tier with the source of each of its values.

    Attributes:
        tier: the validated settings.
        provenance: dotted path of each value to where it came from, such as ``tier2.yaml`` or ``environment LR``.
    """

    tier: Tier
    provenance: dict[str, str]


def directory() -> Path:
    """Where the shipped tiers lie: beside the chart in a checkout, inside the package when installed."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "helm" / "atft" / "tiers"
    return checkout if checkout.is_dir() else package / "tiers"


def names() -> list[str]:
    """Names of the shipped tiers."""
    return sorted(path.stem for path in directory().glob("*.yaml"))


def resolve(
    name: str,
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    base: Tier | None = None,
) -> Resolved:
    """The tier ``name``, a shipped one or a YAML file, with flags and environment applied.

    Args:
        name: name of a shipped tier or path of a tier file.
        flags: dotted path to value, as given by ``--set``; the short names ``BATCH_SIZE`` and ``LR`` work too.
        environ: environment variables; the process's own by default.
        base: settings to start from in place of the tier's files: those of a run that is resumed.

    Raises:
        UseError: all problems at once, each with field, value, source and mend.
    """
    environ = os.environ if environ is None else environ
    flags = flags or {}
    found = variables.read(environ)
    problems = [*found.problems, *(value.told for value in flags.values() if isinstance(value, Unreadable))]
    flags = {path: value for path, value in flags.items() if not isinstance(value, Unreadable)}
    values: dict[str, Any] = {}
    provenance: dict[str, str] = {}
    try:
        lowest = _files(name) if base is None else _base(base, flags, environ)
    except UseError as error:
        raise UseError(told_together(name, [str(error), *problems], 0)) from None
    for source, layer in lowest:
        _lay(values, provenance, layer, source)
    layers = [*found.layers, *((FLAGS.get(path, f"flag --set {path}"), {path: value}) for path, value in flags.items())]
    for source, layer in layers:
        _lay(values, provenance, _expand(values, layer), source)
    try:
        _lay_batch_size(values, provenance, layers)
    except UseError as error:
        problems.append(str(error))
    _lay_mode(values, provenance)
    for absent in UNLEARNED - values.keys():
        provenance[absent] = NOT_STATED
    return Resolved(_validated(name, values, provenance, problems), dict(sorted(provenance.items())))


def told_together(name: str, problems: Sequence[str], invalid: int) -> str:
    """All problems as one paragraph; one alone that is not of the settings' values stands for itself."""
    if len(problems) == 1 and not invalid:
        return problems[0]
    return f"tier {name} is refused, {len(problems)} problem(s):\n" + "\n".join(f"  {line}" for line in problems)


def _base(base: Tier, flags: Mapping[str, Any], environ: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """A run's own settings; what its mode set is dropped where another mode is asked for."""
    again = "mode" in flags or f"{PREFIX}MODE" in environ
    return [("config.json", base.model_dump(mode="json", exclude={"runtime"} if again else None))]


def _files(name: str) -> list[tuple[str, dict[str, Any]]]:
    """The file of the tier and those that it extends, the outermost base first."""
    layers: list[tuple[str, dict[str, Any]]] = []
    seen: list[Path] = []
    wanted: str | None = name
    while wanted is not None:
        path = named_files.path_of(wanted, directory())
        if path.resolve() in seen:
            chain = " → ".join(each.stem for each in [*seen, path])
            raise UseError(f"tier {name}: extends itself ({chain}). Mend: remove one `extends`.")
        seen.append(path.resolve())
        layer = named_files.read(path, wanted, kind="tier", known=names())
        wanted = layer.pop("extends", None)
        if not (wanted is None or isinstance(wanted, str)):
            raise UseError(f"{path}: extends = {wanted!r} is no name of a tier. There are: {', '.join(names())}.")
        layers.append((path.name, layer))
    layers[0][1]["name"] = seen[0].stem
    return layers[::-1]


def _lay_mode(values: dict[str, Any], provenance: dict[str, str]) -> None:
    """What the mode sets, below everything that is stated."""
    mode, runtime = values.get("mode"), values.setdefault("runtime", {})
    if isinstance(runtime, dict) and isinstance(mode, str):
        for key, value in MODES.get(mode, {}).items():  # type: ignore[call-overload]
            if key not in runtime:
                _lay(values, provenance, {"runtime": {key: value}}, f"mode {mode}")


def _lay_batch_size(values: dict[str, Any], provenance: dict[str, str], layers: Sequence[tuple[str, Any]]) -> None:
    """Turn the last ``BATCH_SIZE`` into days, when the stocks per day that it is divided by are settled."""
    stated = [(source, layer["BATCH_SIZE"]) for source, layer in layers if "BATCH_SIZE" in layer]
    if not stated:
        return
    source, size = stated[-1]
    other = provenance.get("batch.days", "")
    if not other.endswith((".yaml", ".yml", ".json")):
        raise UseError(f"{source} = {size} and {other} both set the days of the effective batch. Mend: leave one out.")
    _lay(values, provenance, {"batch": {"days": _days_of_batch(values, size, source)}}, source)


def _expand(values: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted paths and short names as nested settings; ``BATCH_SIZE`` is laid last."""
    nested: dict[str, Any] = {}
    for key, value in layer.items():
        if key == "BATCH_SIZE":
            continue
        path = SHORT_NAMES.get(key, key).split(".")
        targets = [path]
        if "*" in path:
            at = path.index("*")
            group = values.get(path[0], {})
            targets = [[*path[:at], name, *path[at + 1 :]] for name in group]
        for target in targets:
            group = nested
            for part in target[:-1]:
                group = group.setdefault(part, {})
            group[target[-1]] = value
    return nested


def _days_of_batch(values: Mapping[str, Any], size: Any, source: str) -> int:
    batch = values.get("batch", {})
    stocks, block = batch.get("stocks_per_day"), batch.get("block_days")
    try:
        days, rest = divmod(int(size), int(stocks))
        whole = rest == 0 and days > 0 and days % int(block) == 0
    except (TypeError, ValueError):
        raise UseError(f"{source}: batch size {size!r} is not a whole number of stock-days.") from None
    if not whole:
        unit = int(stocks) * int(block)
        nearest = max(1, round(int(size) / unit)) * unit
        raise UseError(
            f"{source}: batch size {size} is not a whole number of blocks of {block} days × {stocks} stocks = {unit} "
            f"stock-days. Mend: {nearest}, or change batch.stocks_per_day or batch.block_days."
        )
    return days


def _lay(
    values: dict[str, Any], provenance: dict[str, str], layer: Mapping[str, Any], source: str, path: str = ""
) -> None:
    """Lay ``layer`` over ``values`` and record where each value came from."""
    if not path:
        _drop_other_split(values, provenance, layer.get("split"))
    for key, value in layer.items():
        here = f"{path}{key}"
        if isinstance(value, Mapping):
            if not isinstance(values.get(key), dict):
                values[key] = {}
            _lay(values[key], provenance, value, source, f"{here}.")
        else:
            if isinstance(values.get(key), dict):
                _forget(provenance, here)
            values[key] = value
            provenance[here] = source


def _drop_other_split(values: dict[str, Any], provenance: dict[str, str], layer: Any) -> None:
    """Where ``layer`` states another kind of split than ``values``, what only theirs has goes."""
    below = values.get("split")
    if not isinstance(layer, Mapping) or not isinstance(below, dict):
        return
    dates = "scheme" not in layer and not layer.keys().isdisjoint({"train", "validate", "test"})
    kind = "dates" if dates else str(layer.get("scheme"))
    if kind not in SPLITS or kind == below.get("scheme", "dates"):
        return
    for key in below.keys() - _names(SPLITS[kind]):
        del below[key]
        _forget(provenance, f"split.{key}")


def _forget(provenance: dict[str, str], group: str) -> None:
    """Drop the sources of ``group`` and of all in it."""
    for path in [each for each in provenance if f"{each}.".startswith(f"{group}.")]:
        del provenance[path]


def _validated(name: str, values: dict[str, Any], provenance: Mapping[str, str], problems: Sequence[str] = ()) -> Tier:
    """The tier, where its values are valid and there were no other problems; all of both together otherwise."""
    invalid: list[str] = []
    try:
        tier = Tier.model_validate(values)
        if not problems:
            return tier
    except ValidationError as error:
        invalid = [_explain(problem, provenance) for problem in error.errors()]
    raise UseError(told_together(name, [*problems, *invalid], len(invalid))) from None


def _explain(problem: Any, provenance: Mapping[str, str]) -> str:
    loc = problem["loc"]
    if loc[:1] == ("split",) and len(loc) > 1:
        loc = ("split", *loc[2:])  # without the kind of split, which pydantic puts there
    path = ".".join(str(part) for part in loc)
    source = provenance.get(path, "")
    if path == "split.fold" and problem["type"] == "extra_forbidden":
        return (
            f"{path} = {problem['input']!r} ({source}): the tier's split is date ranges, which have no folds. "
            "Mend: leave the fold out, or state a split.scheme (docs/guide/splits.md)."
        )
    if problem["type"] == "missing":
        return f"{path}: not stated, and it has no default. Mend: --set {path}=…, or state it in the tier."
    if problem["type"] == "extra_forbidden":
        group = _group(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), group, n=1)
        hint = f" Nearest: {near[0]}." if near else ""
        return f"{path}: no such setting ({source or 'unknown source'}).{hint}"
    text = problem["msg"].removeprefix("Value error, ")
    value = "" if isinstance(problem["input"], dict | BaseModel) else f" = {problem['input']!r}"
    where = f" ({source})" if source else ""
    return f"{path or 'tier'}{value}{where}: {text}."


def _group(path: Sequence[Any]) -> list[str]:
    """Names of the settings at ``path``."""
    model: Any = Tier
    if tuple(path[:1]) == ("split",) and len(path) > 1:
        model, path = SPLITS[path[1]], path[2:]
    for part in path:
        fields = {info.alias or name: info for name, info in model.model_fields.items()}
        if part not in fields:
            return []
        model = fields[part].annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return _names(model)


def _names(model: type[BaseModel]) -> list[str]:
    """Names of a group's settings, as a tier states them."""
    return [info.alias or name for name, info in model.model_fields.items()]


@dataclass(frozen=True)
class Unreadable:
    """A flag without a value that can be read: :func:`resolve` tells it with all other problems."""

    told: str


def parse_flags(assignments: Sequence[str]) -> dict[str, Any]:
    """``["a.b=c", …]`` as dotted path to value, read as YAML; :class:`Unreadable` where that cannot be."""
    flags: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = Unreadable(f"--set {assignment}: the value is not readable as YAML. Mend: quote it.")
        if not equals or not path:
            value = Unreadable(f"--set {assignment}: not of the form path=value. Mend: --set batch.days=32.")
        flags[path.strip()] = value
    return flags
