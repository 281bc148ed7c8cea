"""What the environment says about a tier: settings, and variables that look like settings and are none."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from atft.config import Tier
from atft.errors import UseError

PREFIX = "ATFT_"
NOT_SETTINGS = frozenset({"ATFT_NASDAQ", "ATFT_CACHE"})
"""Variables with our prefix that are no settings: where tests find real data, and where copies of remote files lie."""

SHORT_NAMES = {
    "SHARPE_WEIGHT": "objective.weights.sharpe",
    "RANKIC_WEIGHT": "objective.weights.rank_ic",
    "CS_IC_WEIGHT": "objective.weights.cs_ic",
    "HIDDEN_SIZE": "model.hidden_size",
    "BATCH_SIZE": "batch.days",
    "LR": "phases.*.learning_rate",
}
"""Short environment names and what they set; ``BATCH_SIZE`` is divided by ``batch.stocks_per_day``."""

MEANT = {name: name for name in SHORT_NAMES} | {
    "LEARNING_RATE": "LR",
    "MAX_EPOCHS": f"{PREFIX}MAX_EPOCHS",
    "FORCE_SINGLE_PROCESS": f"{PREFIX}MODE=safe",
}
"""Names that a variable may have been meant to have, and what would do it."""

NEAR = 0.9
"""Similarity (:class:`difflib.SequenceMatcher`) from which a name is taken for a misspelt one: one letter left out,
added, exchanged with its neighbour or replaced in a name of ten. The first letter has to be the same: ``PATCH_SIZE``
is a word of its own."""
SHORTEST = 6
"""Names with fewer letters are too like others to be guessed at: ``LRU`` is not ``LR``."""
NEAR_PREFIX = 0.75
"""As :data:`NEAR` of the prefix, before what is exactly a setting's name: ``AFTF_SEED``."""

FORCED = (
    "environment FORCE_SINGLE_PROCESS is not accepted: it once changed the batch behind its users' backs. "
    "Mend: --set mode=safe, which changes how a run uses the machine and nothing that it learns."
)


@dataclass(frozen=True)
class Found:
    """What the environment says.

    Attributes:
        layers: source and settings of each variable that sets something, the short names first.
        problems: what is wrong with others, each with its mend.
    """

    layers: tuple[tuple[str, dict[str, Any]], ...]
    problems: tuple[str, ...]


class _Environment(BaseSettings, Tier):
    """The tier's fields as pydantic-settings reads them from the environment; never instantiated."""

    model_config = SettingsConfigDict(extra="ignore")


def read(environ: Mapping[str, str]) -> Found:
    """Sort the variables of ``environ`` into settings, problems, and what is none of ours."""
    layers = [(f"environment {name}", {name: environ[name]}) for name in sorted(SHORT_NAMES.keys() & environ.keys())]
    problems = [FORCED] if "FORCE_SINGLE_PROCESS" in environ else []
    for variable in sorted(environ):
        if variable.upper().startswith(PREFIX) and variable not in NOT_SETTINGS:
            try:
                layers.append((f"environment {variable}", _nested(variable, environ[variable])))
            except UseError as error:
                problems.append(str(error))
        elif meant := lookalike(variable):
            problems.append(
                f"environment {variable}: no such setting, and it would be passed over. Nearest: {meant}. "
                f"Mend: {meant}, or unset {variable}."
            )
    return Found(tuple(layers), tuple(problems))


def lookalike(variable: str) -> str | None:
    """What a variable that sets nothing seems to have been meant for; None where it is like nothing of ours.

    Compared in capitals, since a variable in small letters is as easily passed over as a misspelt one.
    """
    name = variable.upper()
    if variable in SHORT_NAMES or variable == "FORCE_SINGLE_PROCESS" or variable in NOT_SETTINGS:
        return None
    if name in MEANT:
        return MEANT[name]
    if len(name) >= SHORTEST:
        same = [each for each in MEANT if each[0] == name[0] and len(each) >= SHORTEST]
        if near := difflib.get_close_matches(name, same, n=1, cutoff=NEAR):
            return MEANT[near[0]]
    prefix, _, rest = name.partition("_")
    field = rest.strip("_").partition("__")[0].lower()
    if field in Tier.model_fields and f"{prefix}_" != PREFIX and _like(prefix, PREFIX[:-1]) >= NEAR_PREFIX:
        return f"{PREFIX}{rest.strip('_')}"
    return None


def _like(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _nested(variable: str, value: str) -> dict[str, Any]:
    """What pydantic-settings reads from one variable.

    Raises:
        UseError: a value that cannot be read, or no such group of settings.
    """
    source = EnvSettingsSource(_Environment, env_prefix=PREFIX, env_nested_delimiter="__", case_sensitive=False)
    source.env_vars = {variable.lower(): value}
    try:
        layer = source()
    except Exception as error:
        raise UseError(f"environment {variable} = {value!r} cannot be read: {error}") from None
    if not layer:
        known = [f"{PREFIX}{field.upper()}" for field in Tier.model_fields]
        near = difflib.get_close_matches(variable.upper().partition("__")[0], known, n=1)
        hint = f" Nearest: {near[0]}." if near else ""
        raise UseError(
            f"environment {variable}: no such setting.{hint} Mend: unset it, or use one of {', '.join(known)}."
        )
    return layer


def variables(provenance: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variable and path of every value that came from the environment."""
    for path, source in provenance.items():
        if source.startswith("environment "):
            yield source.removeprefix("environment "), path
