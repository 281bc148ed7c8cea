"""Run directories: made once, described by ``config.json``, and read back."""

from __future__ import annotations

import datetime as dt
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from atft import __version__
from atft.config import Tier
from atft.data.manifest import Inputs, Manifest
from atft.errors import UseError
from atft.experiment.names import check_part, is_member
from atft.experiment.tiers import Resolved
from atft.schemes import fold_name, fold_told
from atft.train.checkpoint import write_text

PACKAGES = ("torch", "torch-geometric", "polars", "numpy", "scipy")


@dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
        path: the directory.
        tier: its resolved settings.
        provenance: where each value came from.
        panel: the panel that it was started on: a directory, or a URI.
        panel_sha256: hash of that panel's data.
        inputs: its features; None where the run does not tell.
        baseline: which one it is a run of, where it is one.
    """

    path: Path
    tier: Tier
    provenance: dict[str, str]
    panel: Path
    panel_sha256: str
    inputs: Inputs | None = None
    baseline: str | None = None

    @property
    def events(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def result(self) -> Path:
        """The result, once the run is evaluated."""
        return self.path / "result.json"


def new_name(tier: Tier) -> str:
    """Name of a run that was given none: tier, seed, fold and time."""
    told = fold_told(tier.split)
    fold = "" if told is None or told["fold"] is None else f"-{fold_name(told['fold'])}"
    return f"{tier.name}-s{tier.seed}{fold}-{dt.datetime.now():%Y%m%d-%H%M%S}"


def check_free_name(name: str | None) -> None:
    """Refuse a name that folds, points of a sweep or members have: their looks are counted one directory higher.

    Raises:
        UseError: as said.
    """
    if name is None:
        return
    check_part(name)
    if is_member(name):
        raise UseError(
            f"--run {name}: is what folds, points of a sweep or members of an ensemble are called. "
            f"Mend: --run mine-{name}."
        )


def check_new(path: Path) -> None:
    """Nothing stands where a run is to be made.

    Raises:
        UseError: something does.
    """
    if path.exists():
        raise UseError(
            f"run {path}: exists already, and a run is never written over. "
            f"Mend: another --run, or --run {path.name} --resume to go on with it."
        )


def check_trained(run: Run, path: Path, done: int) -> None:
    """A run is trained to its end.

    Args:
        run: the run.
        path: as it was named.
        done: phases that its last checkpoint has behind it.

    Raises:
        UseError: it is not; says what goes on with it.
    """
    phases = len(run.tier.phases_to_run())
    if done >= phases:
        return
    mend = f"atft train {run.tier.name} --runs {path.parent} --run {path.name} --resume"
    if is_member(path.name):
        group = path.parent.name
        mend = f"the command that began {group}, with --run {group} and --resume (for an ensemble --again)"
    raise UseError(f"run {path}: is not trained to its end (phase {done + 1} of {phases}). Mend: {mend}.")


def create(
    path: Path,
    resolved: Resolved,
    panel: Path,
    manifest: Manifest,
    command: list[str],
    *,
    baseline: str | None = None,
    beside_members: bool = False,
    checks: Mapping[str, Any] | None = None,
    tier_file: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> Run:
    """Make the directory of a new run.

    Args:
        path: the directory, which :func:`check_new` found free.
        resolved: the tier and where its values came from.
        panel: the panel's absolute directory, or its URI.
        manifest: what it says about itself.
        command: what the user typed.
        baseline: which one it is a run of, where it is one.
        beside_members: the directory is there already, with the runs of an ensemble's members.
        checks: its checklist, with what was accepted.
        tier_file: name of the shipped tier, or path of its file, where it is known.
        more: what else the description says, such as ``against``, ``stop_on`` or ``ensemble``.

    Raises:
        UseError: the directory cannot be made or written; nothing is left behind.
    """
    tier = resolved.tier
    try:
        path.mkdir(parents=True, exist_ok=beside_members)
    except OSError as error:
        raise UseError(f"run {path}: the directory cannot be made: {error.strerror}. Mend: another --runs.") from None
    described = {
        "tier": tier.model_dump(mode="json"),
        "provenance": resolved.provenance,
        "panel": str(panel),
        "panel_sha256": manifest.sha256,
        "inputs": manifest.inputs.model_dump(mode="json"),
        "command": command,
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "versions": {"atft": __version__, "python": sys.version.split()[0]}
        | {each: version(each) for each in PACKAGES},
        "machine": {"system": platform.platform(), "processor": platform.machine()},
    }
    described |= {"baseline": baseline} if baseline else {}
    described |= {"checks": dict(checks)} if checks else {}
    described |= {"tier_file": tier_file} if tier_file else {}
    described |= dict(more or {})
    try:
        write_text(path / "config.json", json.dumps(described, indent=2) + "\n")
    except UseError:
        if not beside_members:
            path.rmdir()
        raise
    return Run(path, tier, resolved.provenance, panel, manifest.sha256, manifest.inputs, baseline)


def open_run(path: Path) -> Run:
    """Read a run's description.

    Raises:
        UseError: no run there, or a description that cannot be read.
    """
    try:
        described: dict[str, Any] = json.loads((path / "config.json").read_text())
        tier = Tier.model_validate(described["tier"])
        inputs = Inputs.model_validate(described["inputs"]) if "inputs" in described else None
        return Run(
            path, tier, described["provenance"], Path(described["panel"]), described["panel_sha256"], inputs,
            described.get("baseline"),
        )  # fmt: skip
    except (FileNotFoundError, NotADirectoryError):
        raise UseError(
            f"{path}: no run there (it has no config.json). Mend: name a directory that `atft train` made."
        ) from None
    except (OSError, KeyError, ValueError, ValidationError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UseError(f"{path}/config.json: cannot be read: {reason}. Mend: start a new run.") from None
