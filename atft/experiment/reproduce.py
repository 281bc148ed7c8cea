"""The command that makes a run again, from what its directory says about itself."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from atft.config import Tier
from atft.errors import UseError
from atft.experiment.run_facts import BY_HAND, value_at
from atft.experiment.tiers import names, resolve


@dataclass(frozen=True)
class Reproduction:
    """How a run is made again.

    Attributes:
        command: to be pasted into a shell.
        notes: what else has to be as it was, each a sentence.
    """

    command: str
    notes: tuple[str, ...]


def reproduction(
    config: Mapping[str, Any], *, name: str, root: str, workers: str, code: Mapping[str, Any] | None
) -> Reproduction:
    """The command that makes the run again under another name, and what else has to be as it was.

    Args:
        config: content of the run's ``config.json``.
        name: of the run.
        root: where runs lie.
        workers: as they were asked for.
        code: as :func:`atft.experiment.environment.code` told it; None where it is not known.

    Raises:
        UseError: the settings cannot be read.
    """
    data = f"The data is {config['panel']}, with sha256 {config['panel_sha256']}."
    notes = (data, _code_note(code), "No variable of the environment may set anything: unset ATFT_… and BATCH_SIZE.")
    whole = "The command is that of the whole sweep, which this run is a point of."
    point = name.rpartition("/")[2].startswith("point-")
    if config.get("baseline") or config.get("ensemble") or point:
        return Reproduction(shlex.join(config.get("command") or []), (whole, *notes) if point else notes)
    again = f"{name.replace('/', '-')}-again"
    rest = ["--data", str(config["panel"]), "--seed", str(config["tier"]["seed"])]
    rest += ["--workers", workers] if workers != "1" else []
    rest += [f"--accept={reason}" for reason in (config.get("checks") or {}).get("accepted", ())]
    rest += ["--against", str(config["against"])] if config.get("against") else []
    rest += [f"--stop-on={name}" for name in config.get("stop_on") or ()]
    rest += ["--runs", root, "--run", again]
    asked, flags = _tier_argument(config), _flags(config)
    if asked is not None and _same(asked, flags, config):
        sets = [part for path, value in flags.items() for part in ("--set", f"{path}={_yaml(value)}")]
        return Reproduction(shlex.join(["atft", "train", asked, *rest[:4], *sets, *rest[4:]]), notes)
    file = f"{config['tier']['name']}.yaml"
    make = shlex.join(["atft", "runs", "show", name, "--runs", root, "--tier-file", file])
    note = "The tier's file is no longer what the run was started with: the command writes the run's own settings."
    return Reproduction(f"{make} && {shlex.join(['atft', 'train', f'./{file}', *rest])}", (note, *notes))


def tier_file(config: Mapping[str, Any]) -> str:
    """The settings of a run as a tier file that extends nothing."""
    settings = {name: value for name, value in config["tier"].items() if name != "name" and value is not None}
    head = f"# The settings of a run of tier {config['tier']['name']}, as they were resolved.\n"
    return head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _tier_argument(config: Mapping[str, Any]) -> str | None:
    """What the tier was called on the command line; None where that is not known."""
    asked, name = config.get("tier_file"), config["tier"]["name"]
    if asked:
        return str(asked)
    return name if name in names() else None


def _flags(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted path to value of all that flags and the environment set, but for the seed, which is told anyway."""
    sources = config.get("provenance", {})
    paths = [path for path, source in sources.items() if source.startswith(BY_HAND) and path != "seed"]
    paths.sort(key=lambda path: (path != "split.scheme", path))  # the kind of split before what only it has
    return {path: value_at(config["tier"], path) for path in paths}


def _same(asked: str, flags: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether the command would train by the settings of the run."""
    try:
        now = resolve(asked, flags={**flags, "seed": config["tier"]["seed"]}, environ={}).tier
    except UseError:
        return False
    return now.sha256() == _tier(config).sha256()


def _tier(config: Mapping[str, Any]) -> Tier:
    try:
        return Tier.model_validate(config["tier"])
    except ValueError as error:
        raise UseError(
            f"config.json: tier cannot be read: {str(error).splitlines()[0]}. Mend: an older atft."
        ) from None


def _yaml(value: Any) -> str:
    """A value as ``--set`` reads it back."""
    plain = str(value)
    if isinstance(value, str) and yaml.safe_load(plain) == value:
        return plain
    return json.dumps(value)


def _code_note(code: Mapping[str, Any] | None) -> str:
    if code is None:
        return "The revision of the code was not recorded."
    if not code.get("commit"):
        return f"The code is atft {code['version']}."
    changed = {True: ", with local changes that are not in it", None: ", perhaps with local changes"}
    return f"The code is commit {code['commit']}{changed.get(code.get('dirty'), '')} (atft {code['version']})."
