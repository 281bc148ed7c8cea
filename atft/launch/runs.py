"""``atft runs list|show|board|delete``: what runs there are, all about one, and the page of all of them."""

from __future__ import annotations

import difflib
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atft.errors import UseError
from atft.experiment import board, listing
from atft.experiment.index import READERS, RunIndex, State
from atft.experiment.listing import Listed
from atft.experiment.names import root_and_name
from atft.launch import places, texts_runs
from atft.launch.run_files import RunFiles
from atft.storage import Store, is_remote, local_path

BOARD_TRIES = 3
GONE: tuple[State, ...] = ("archived", "deleted")


@dataclass(frozen=True)
class All:
    """All runs of one place.

    Attributes:
        root: where they lie.
        runs: each as it is now, by name.
        unreadable: files of the index that are no entries, and files of runs that cannot be read, in words.
        entries: names of the entries that this was made from.
    """

    root: Path
    runs: Mapping[str, Listed]
    unreadable: tuple[str, ...]
    entries: frozenset[str]


def all_runs(root: Path) -> All:
    """All runs under ``root``, a directory or a URI: those of the index, and those that only their files tell of.

    Raises:
        UseError: the place does not answer.
    """
    files, now = RunFiles(root), time.time()
    read = places.index_of(root).read()
    known = read.runs()
    sure = [name for name, each in known.items() if not set(GONE) & {entry.state for entry in each.history}]
    present = files.present(known, sure)
    found = {name: listing.of_index(each, name in present, files.last_sign, now) for name, each in known.items()}
    problems = list(read.unreadable)
    untold = sorted(present - known.keys())
    with ThreadPoolExecutor(READERS) as pool:
        for name, each in zip(untold, pool.map(lambda name: _by_files(files, name, now), untold)):
            if isinstance(each, Listed):
                found[name] = each
            else:
                problems.append(each)
    return All(root, found, tuple(problems), frozenset(each.file for each in read.entries))


def by_files(files: RunFiles, name: str, now: float) -> Listed:
    """A run as its files tell of it.

    Raises:
        UseError: a file that is no JSON or none of a run, or a place that does not answer.
    """
    config = files.read(name, "config.json") or {}
    try:
        return listing.of_files(name, config, files.read(name, "result.json"), files.last_sign(name), now)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UseError(
            f"{files.uri}/{name}: its config.json or result.json is none of a run. Mend: move it elsewhere."
        ) from None


def _by_files(files: RunFiles, name: str, now: float) -> Listed | str:
    try:
        return by_files(files, name, now)
    except UseError as error:
        return str(error)


def list_runs(root: Path, *, state: str | None, tier: str | None, sort: str) -> dict[str, Any]:
    """The runs under ``root``, one row for each.

    Raises:
        UseError: nothing that runs can be sorted by, or the place does not answer.
    """
    if not is_remote(root) and not local_path(root).is_dir():
        raise UseError(f"--runs {root}: there is no such directory. Mend: the directory that runs were made in.")
    everything, now = all_runs(root), time.time()
    kept = listing.chosen(everything.runs.values(), state=state, tier=tier, sort=sort)
    hidden = sum(each.state == "deleted" for each in everything.runs.values()) if state is None else 0
    rows = [texts_runs.row(each, now) for each in kept]
    report = {"runs_root": str(root), "runs": rows, "deleted": hidden, "unreadable": list(everything.unreadable)}
    return report | {"text": texts_runs.of_list(report)}


@dataclass(frozen=True)
class Found:
    """A run that was asked for by name, directory or URI.

    Attributes:
        root: where it lies.
        name: relative to that.
        all: all runs of that place.
    """

    root: Path
    name: str
    all: All

    @property
    def runs(self) -> list[Listed]:
        """The run itself and all runs in its directory: folds, points, or the members of an ensemble."""
        known = self.all.runs.items()
        return [each for name, each in known if name == self.name or name.startswith(f"{self.name}/")]

    @property
    def files(self) -> RunFiles:
        """The directories of that place."""
        return RunFiles(self.root)

    @property
    def index(self) -> RunIndex:
        """The index of that place."""
        return places.index_of(self.root)

    def check_still(self, doing: str) -> None:
        """Nothing of it is running.

        Raises:
            UseError: a run is, or may be.
        """
        now = time.time()
        for each in self.runs:
            if each.is_running(now):
                raise UseError(
                    f"run {each.name}: is {each.label}, and what is being written cannot be {doing}. "
                    "Mend: stop it first (Ctrl-C, or SIGTERM to its process); one that another machine trained counts "
                    "as stopped when it has given no sign for an hour."
                )


def find(run: Path, root: Path) -> Found:
    """The run that was asked for: a directory or a URI, or a name under ``root``.

    Raises:
        UseError: there is none, and the nearest name is told.
    """
    own_root, own_name = root_and_name(run)
    by_path = is_remote(run) or (local_path(run).is_dir() and run.name not in ("", "."))
    if by_path:
        found = Found(own_root, own_name, all_runs(own_root))
        if found.runs:
            return found
    if not is_remote(run):
        found = Found(root, str(run).rstrip("/"), all_runs(root))
        if found.runs:
            return found
        if not by_path and len(run.parts) > 1 and local_path(own_root).is_dir():
            found = Found(own_root, own_name, all_runs(own_root))
            if found.runs:
                return found
    near = difflib.get_close_matches(found.name, list(found.all.runs), n=1)
    hint = f" Nearest: {near[0]}." if near else ""
    raise UseError(f"{run}: no such run.{hint} Mend: `atft runs list --runs {found.root}` shows which there are.")


def show_run(run: Path, root: Path, *, tier_file: Path | None) -> dict[str, Any]:
    """Everything about one run: how to make it again, what it was made with, its states, figures and files.

    Args:
        run: directory, URI or name.
        root: where runs of a bare name lie.
        tier_file: where to write its settings as a tier; nothing is written where None.

    Raises:
        UseError: no such run, a group of several, or a tier file that is there already.
    """
    from atft.experiment import reproduce, run_facts

    found = find(run, root)
    if found.name not in found.all.runs:
        told = ", ".join(each.name for each in found.runs)
        raise UseError(f"{run}: is a directory of {len(found.runs)} runs. Mend: one of {told}.")
    listed = found.all.runs[found.name]
    config = found.files.read(found.name, "config.json") if listed.present else None
    facts = listed.facts
    report: dict[str, Any] = {
        "run": listed.name,
        "directory": f"{found.files.uri}/{listed.name}",
        "present": listed.present,
        "label": listed.label,
        **texts_runs.row(listed, time.time()),
        "facts": dict(facts),
        "environment": facts.get("environment"),
        "history": [_plain_entry(each) for each in listed.history],
        "reproduce": None,
        "data": None,
        "settings_by_hand": facts.get("by_hand"),
        "files": found.files.of(listed.name).list() if listed.present else {},
    }
    if config is not None:
        again = reproduce.reproduction(
            config, name=listed.name, root=str(places.absolute(found.root)), workers=str(facts.get("workers") or "1"),
            code=(facts.get("environment") or {}).get("code"),
        )  # fmt: skip
        report["reproduce"] = {"command": again.command, "notes": again.notes}
        report["data"] = _data(config)
        report |= run_facts.differences(config)
        if tier_file is not None:
            _write_new(tier_file, reproduce.tier_file(config))
            report["tier_file"] = str(tier_file)
    elif tier_file is not None:
        raise UseError(f"run {listed.name}: its files are not there. Mend: `atft runs restore` its archive first.")
    return report | {"text": texts_runs.of_run(report)}


def _plain_entry(entry: Any) -> dict[str, Any]:
    return {"time": entry.time.isoformat(), "state": entry.state, "facts": dict(entry.facts)}


def _data(config: Mapping[str, Any]) -> dict[str, Any]:
    """The panel of a run, and whether it is still what it was."""
    from atft.data.manifest import NAME, Manifest

    told = {"panel": config.get("panel"), "sha256": config.get("panel_sha256")}
    try:
        store = Store(places.as_uri(Path(str(config.get("panel")))), tries=2)
        now = Manifest.model_validate_json(store.read(NAME)).sha256
    except (UseError, ValueError):
        return told | {"now": "not there, or no panel that can be read"}
    return told | {"now": "as it was" if now == told["sha256"] else f"another: sha256 {now}"}


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise UseError(f"--tier-file {path}: exists already. Mend: another name.") from None
    except OSError as error:
        raise UseError(f"--tier-file {path}: cannot be written: {error.strerror}. Mend: another place.") from None


def delete_run(run: Path, root: Path) -> dict[str, Any]:
    """Remove a run's files, or those of all runs in its directory; the index and the registry keep what they know.

    Raises:
        UseError: no such run, one that is running, or files that cannot be removed.
    """
    found = find(run, root)
    found.check_still("deleted")
    gone = [each for each in found.runs if each.state != "deleted"]
    if not gone:
        raise UseError(f"run {found.name}: is deleted already.")
    removed = remove(found)
    for each in gone:
        found.index.record(each.name, "deleted", **({} if each.history else dict(each.facts)))
    write_board(found.root)
    text = (
        f"deleted: {', '.join(each.name for each in gone)} ({removed} files). What the test period was looked at for "
        "stays counted: evaluations in _registry are not deleted, nor is the history in _runs."
    )
    return {"deleted": [each.name for each in gone], "files": removed, "text": text}


def remove(found: Found) -> int:
    """Remove the directory of a run, or of several that share one; returns how many files there were.

    Raises:
        UseError: files cannot be removed.
    """
    count = len(found.files.of(found.name).list())
    if count and (is_remote(found.root) or local_path(found.root / found.name).is_dir()):
        found.files.remove(found.name)
    return count


def write_board(root: Path) -> str:
    """Write ``EXPERIMENTS.md`` beside the runs, from what the index holds when it is written.

    Raises:
        UseError: the place does not answer or cannot be written.
    """
    store = RunFiles(root).store
    for _ in range(BOARD_TRIES):
        everything = all_runs(root)
        runs = [_with_differences(RunFiles(root), each) for each in everything.runs.values()]
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, board.NAME)
            local.write_text(board.page(runs, everything.unreadable))
            store.upload(local, board.NAME)
        if {each.file for each in places.index_of(root).read().entries} == everything.entries:
            break  # whoever wrote meanwhile would else be missing, where both wrote the page at once
    return f"{store.uri}/{board.NAME}"


def _with_differences(files: RunFiles, run: Listed) -> Listed:
    """A run from before there was an index is told what differs from its baseline now."""
    if "differs" in run.facts or not run.present or not run.facts.get("baseline"):
        return run
    from dataclasses import replace

    from atft.experiment.run_facts import differences

    config = files.read(run.name, "config.json") or {}
    return replace(run, facts={**run.facts, **differences(config)})


def board_report(root: Path) -> dict[str, Any]:
    """Write the board and say where."""
    path = write_board(root)
    return {"board": path, "text": f"board: {path}"}
