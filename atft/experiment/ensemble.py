"""An ensemble on disk: one directory that holds its members' runs, and ``ensemble.json`` that says how they combine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atft.data.manifest import sha256_of
from atft.errors import UseError
from atft.evaluate.ensemble import Combine
from atft.train.checkpoint import write_text

NAME = "ensemble.json"


class Member(BaseModel):
    """One trained run of the ensemble."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    """Its directory in that of the ensemble."""
    seed: int
    weights: str
    """File of its weights, relative to its own directory."""
    weights_sha256: str


class Ensemble(BaseModel):
    """The content of ``ensemble.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    combine: Combine
    members: tuple[Member, ...] = Field(min_length=2)
    gains: dict[str, list[dict[str, Any]]] = {}
    """By period, what each number of members comes to, see :class:`atft.evaluate.ensemble.Gain`."""


def is_ensemble(path: Path) -> bool:
    """Whether an ensemble lies at ``path``."""
    return (path / NAME).exists()


def member_name(seed: int) -> str:
    """Directory of the member of this seed."""
    return f"member-s{seed}"


def write(path: Path, ensemble: Ensemble) -> None:
    """Write ``ensemble.json`` into the directory ``path``, all of it or nothing.

    Raises:
        UseError: it cannot be written.
    """
    text = json.dumps(ensemble.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
    write_text(path / NAME, text)


def read(path: Path) -> Ensemble:
    """The ensemble in the directory ``path``, its members' weights as they were when it was made.

    Raises:
        UseError: it cannot be read, or a member is missing or has other weights.
    """
    try:
        found = Ensemble.model_validate_json((path / NAME).read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise UseError(f"{path / NAME}: no ensemble can be read: {reason}. Mend: `atft ensemble` again.") from None
    for member in found.members:
        file = path / member.run / member.weights
        if not file.is_file():
            raise UseError(f"{file}: weights of a member of {path} are missing. Mend: put the member's run back.")
        if sha256_of(file) != member.weights_sha256:
            raise UseError(
                f"{file}: are not the weights that {path} was made of. Mend: put the member's run back, or make the "
                "ensemble again under another name."
            )
    return found
