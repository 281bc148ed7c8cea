"""The checklist of a tier on this machine: by itself, and before every training."""

from __future__ import annotations

import difflib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from atft.config import Tier
from atft.data.manifest import NAME, Manifest
from atft.errors import UseError
from atft.experiment import estimates
from atft.experiment.checklist import Baseline, Checklist, Material
from atft.experiment.checks import checklist
from atft.experiment.estimates import Earlier
from atft.experiment.rules import REASONS
from atft.experiment.tiers import Resolved, names, resolve
from atft.launch.request import TrainRequest
from atft.launch.subjects import subject
from atft.launch.workers import Workers
from atft.storage import Store, is_remote, local_path
from atft.train.memory import free_bytes

LOOKED_AT = 20
"""Newest runs beside a new one that are looked at for how fast this machine is."""
LEAST_SECONDS = 60.0
"""Runs that trained for less say more of a start than of a rate."""
FIRST_EVENTS = 65_536
"""Bytes of a run's events that its start is looked for in."""


def validate(
    tier_name: str, flags: Mapping[str, Any], *, against: str | None, data: Path | None, runs_root: Path,
    workers: str, accept: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """The whole checklist of a tier.

    Args:
        tier_name: name or file of the tier.
        flags: dotted path to value.
        against: tier, file or run to compare with; the tier's own baseline without it.
        data: the panel that it is meant for, of which the manifest alone is read.
        runs_root: where earlier runs lie.
        workers: that the run is to have.
        accept: reasons that are not to refuse it.

    Raises:
        UseError: settings, names or a panel that cannot be read.
    """
    accepted = checked_reasons(accept)
    resolved = resolve(tier_name, flags=flags)
    wanted = TrainRequest(tier_name, flags, data, runs_root, workers=workers)
    found = _checklist(resolved, wanted, against, data).accepting(accepted)
    text = found.text() + (f"\n\n{found.refusal()}" if found.refused else "")
    return found.plain() | {"text": text}


def before_training(wanted: TrainRequest, resolved: Resolved, panel: Path, *, resumed: bool = False) -> dict[str, Any]:
    """The checklist before a run: says what does not pass, and gives what the run records.

    A run that is resumed keeps what it learns by, and what was accepted when it was begun stays so. Folds that are
    trained one after another are checked once.

    Raises:
        UseError: what refuses the tier, all reasons at once.
    """
    if wanted.checks is not None:
        return dict(wanted.checks)
    accepted = checked_reasons(wanted.accept)
    against = str(wanted.against) if wanted.against is not None else None
    found = _checklist(resolved, wanted, against, panel).accepting(["all"] if resumed else accepted)
    if found.refused:
        raise UseError(found.refusal())
    for line in found.short() if not wanted.quiet else ():
        print(line, file=sys.stderr, flush=True)
    return found.plain()


def checked_reasons(accept: Sequence[str]) -> tuple[str, ...]:
    """The names of reasons that are accepted.

    Raises:
        UseError: no such reason.
    """
    known = (*REASONS, "all")
    for name in accept:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Nearest: {near[0]}." if near else ""
            raise UseError(
                f"--accept {name}: no such reason.{hint} Mend: --accept by itself, last or before another option, for "
                f"all of them, or one of {', '.join(REASONS)}."
            )
    return tuple(accept)


def _checklist(resolved: Resolved, wanted: TrainRequest, against: str | None, panel: Path | None) -> Checklist:
    gpu = torch.cuda.is_available()
    return checklist(resolved, Material(
        baseline=_baseline(resolved.tier, wanted.tier, against),
        others=_shipped(),
        panel=_manifest(panel) if panel else None,
        available=free_bytes(torch.device("cuda" if gpu else "cpu")),
        gpu=gpu,
        processors=os.cpu_count() or 1,
        workers=Workers.parse(wanted.workers).most,
        earlier=tuple(earlier_runs(wanted.runs_root)),
    ))  # fmt: skip


def _baseline(tier: Tier, name: str, against: str | None) -> Baseline:
    """What a tier is compared with: what the user says, what the tier says, or itself without flags and environment."""
    if stated := against or tier.baseline:
        found = subject(stated)
        return Baseline(found.name, found.tier, typed=not found.is_run, data=found.data)
    try:
        return Baseline(name, resolve(name, environ={}).tier, stated=False)
    except UseError:
        return Baseline(tier.name, tier, stated=False, typed=False)  # flags state what its file leaves out


def _shipped() -> dict[str, Tier]:
    return {name: resolve(name, environ={}).tier for name in names()}


def _manifest(panel: Path) -> Manifest:
    """What a panel says about itself, without opening its tensors."""
    if not is_remote(panel):
        return Manifest.read(local_path(panel))
    from atft.launch.places import as_uri

    uri = as_uri(panel)
    return Manifest.parsed(Store(uri).read(NAME), uri)


def earlier_runs(root: Path) -> Iterator[Earlier]:
    """How fast this machine was in the newest finished runs under ``root``; none where that is an object store."""
    if is_remote(root) or not local_path(root).is_dir():
        return
    results = [(path.stat().st_mtime, path) for path in local_path(root).glob("*/result.json")]
    for _, path in sorted(results, reverse=True)[:LOOKED_AT]:
        found = _rate(path)
        if found is not None:
            yield found


def _rate(result: Path) -> Earlier | None:
    """Of one run; None where it was made on another machine or what it recorded does not say."""
    run = result.parent
    try:
        told, config = json.loads(result.read_text()), json.loads((run / "config.json").read_text())
        tier, features = Tier.model_validate(config["tier"]), len(config["inputs"]["features"])
        if config["machine"] != {"system": platform.platform(), "processor": platform.machine()}:
            return None
        seconds = sum(epoch["seconds"] for phase in told["phases"] for epoch in phase["epochs"])
        if seconds < LEAST_SECONDS:
            return None
        rate = estimates.work(tier, features) * told["samples"] / (seconds * told["world_size"])
        return Earlier(run.name, rate, _device(run))
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None  # one run less to go by; what is wrong with it is no matter of this one


def _device(run: Path) -> str:
    with (run / "events.jsonl").open(encoding="utf-8") as file:
        for line in file.read(FIRST_EVENTS).splitlines():
            event = json.loads(line)
            if event["kind"] == "run_started":
                return str(event["device"])
    raise ValueError(f"{run}: no start in its events")


def checked_folds(wanted: TrainRequest, resolved: Resolved, panel: Path, *, begun: bool) -> TrainRequest:
    """The request with the checklist of all folds, so that none is checked by itself."""
    return replace(wanted, checks=before_training(wanted, resolved, panel, resumed=begun))
