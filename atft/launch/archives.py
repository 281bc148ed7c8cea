"""``atft runs archive|restore``: a run, or a directory of several, as one verified file, and back."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atft.errors import UseError
from atft.experiment import archive, unarchive
from atft.experiment.archive_format import Manifest, damaged
from atft.experiment.index import Entry, RunStatus, entry_of
from atft.experiment.listing import Listed
from atft.launch import places
from atft.launch.places import Place
from atft.launch.run_files import RunFiles
from atft.launch.runs import GONE, Found, by_files, find, remove, write_board
from atft.storage import Mirror, Store, is_remote, local_path


def archive_run(run: Path, root: Path, *, out: Path | None, remove_files: bool) -> dict[str, Any]:
    """Write a run into one file and read it back; only then remove the run's own files, where that is asked for.

    Args:
        run: directory, URI or name; of several runs in one directory, that.
        root: where runs of a bare name lie.
        out: file or URI; named after the run and here where None.
        remove_files: whether the run's own files go.

    Raises:
        UseError: no such run, one that is running or not there, or a file that exists or cannot be written.
    """
    found = find(run, root)
    found.check_still("archived")
    here = [each for each in found.runs if each.present]
    if not here:
        raise UseError(f"run {found.name}: its files are not there. Mend: `atft runs show {run}` says where they went.")
    out = out or Path(f"{found.name.replace('/', '-')}.tar.gz")
    with _written(out) as file:
        manifest = archive.write(file, *_files_of(found), found.name, _history(here))
        sha256, size = _hash_of(file), file.stat().st_size
    kept = {"archive": str(places.absolute(out)), "archive_sha256": sha256, "removed": remove_files}
    if remove_files:
        remove(found)
    for each in here:
        known = {} if each.history else dict(each.facts)
        found.index.record(each.name, "archived", **known, **kept)
    write_board(found.root)
    text = (
        f"archived: {found.name}, {len(manifest.files)} files, {size:,} bytes in {out}, read back and verified\n"
        f"  sha256 {sha256}\n  {'the files of the run are removed' if remove_files else 'the run itself stays'}; "
        f"atft runs restore {out} --runs {found.files.uri}"
    )
    return {"run": found.name, "files": len(manifest.files), "bytes": size, **kept, "text": text}


def restore_run(file: Path, root: Path) -> dict[str, Any]:
    """Put an archived run back under ``root``, whole or not at all, with what the index knew of it.

    Raises:
        UseError: a damaged archive, a run of that name that is there, or a place that cannot be written.
    """
    with _read(file) as local:
        manifest = unarchive.manifest_of(local)
        history = _entries(manifest, local)
        place = places.run_place(root, manifest.run)
        place.check_new()
        if place.uri is not None:
            if Store(place.uri).list():
                raise UseError(f"{place.uri}: exists already. Mend: another --runs, or delete what is there first.")
            shutil.rmtree(place.path, ignore_errors=True)  # a copy of what the store no longer has
        manifest = unarchive.restore(local, place.path)
    _store(place, manifest)
    _remember(place, history, file)
    write_board(place.root)
    where = place.uri or str(place.path)
    text = f"restored: {manifest.run}, {len(manifest.files)} files, every one verified, in {where}"
    return {"run": manifest.run, "files": len(manifest.files), "directory": where, "text": text}


def _files_of(found: Found) -> tuple[Path, list[str]]:
    """The directory of a run on this machine, and its files."""
    place = places.run_place(found.root, found.name)
    place.fetch()
    if place.uri is None:
        return place.path, archive.files_of(place.path)
    return place.path, sorted(Store(place.uri).list())


def _history(runs: list[Listed]) -> list[dict[str, Any]]:
    """What the index knows of the runs, but for where they were put: the same for the same runs."""
    entries = [entry for run in runs if run.history for entry in RunStatus(run.name, run.history).life]
    return [{"file": each.file, "facts": dict(each.facts)} for each in entries if each.state not in GONE]


def _entries(manifest: Manifest, file: Path) -> dict[str, list[Entry]]:
    """The history in a manifest, by run.

    Raises:
        UseError: an entry that is none, or of a run that the archive does not hold.
    """
    found: dict[str, list[Entry]] = {}
    for told in manifest.history:
        entry = entry_of(str(told.get("file")), told.get("facts"))
        if entry is None:
            raise damaged(file, f"its history holds {told.get('file')!r}, which is no entry of the index of runs")
        if entry.run != manifest.run and not entry.run.startswith(f"{manifest.run}/"):
            raise damaged(file, f"its history tells of {entry.run}, which it does not hold")
        found.setdefault(entry.run, []).append(entry)
    return found


def _store(place: Place, manifest: Manifest) -> None:
    """Put a restored run into its object store, its description last: until then there is no run."""
    if place.uri is not None:
        names = sorted(manifest.files, key=lambda name: (name.endswith("config.json"), name))
        Mirror(place.path, Store(place.uri)).push(*names)


def _remember(place: Place, history: dict[str, list[Entry]], file: Path) -> None:
    """The index knows again what it knew of the runs, or what their files tell, and that they were restored."""
    index, told = place.index, str(places.absolute(file))
    known = {entry.file for entry in index.entries()}
    for entry in (entry for entries in history.values() for entry in entries):
        if entry.file not in known:
            index.add(entry)
    files = RunFiles(place.root)
    for name in files.present(history):
        if name != place.name and not name.startswith(f"{place.name}/"):
            continue
        if name in history:
            known_then = RunStatus(name, tuple(history[name]))
            state, facts = known_then.state, known_then.facts
        else:
            run = by_files(files, name, time.time())
            state, facts = run.state, dict(run.facts)
        index.record(name, "interrupted" if state == "running" else state, **facts, restored=told)


def _hash_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _written(out: Path) -> Iterator[Path]:
    """A file here to write to; where ``out`` is a URI it is stored there afterwards, and read back.

    Raises:
        UseError: there is something already, or the store does not hold what it was given.
    """
    if not is_remote(out):
        path = local_path(out)
        if not path.parent.is_dir():
            raise UseError(f"archive {out}: there is no directory {path.parent}. Mend: make it, or another --out.")
        yield path
        return
    store = Store(places.as_uri(out.parent))
    if store.exists(out.name):
        raise UseError(f"archive {places.as_uri(out)}: exists already. Mend: another name.")
    with tempfile.TemporaryDirectory() as folder:
        local, back = Path(folder, out.name), Path(folder, "back")
        yield local
        store.upload(local, out.name)
        store.download(out.name, back)
        if _hash_of(back) != _hash_of(local):
            store.delete(out.name)
            raise UseError(
                f"archive {places.as_uri(out)}: the store gave back other bytes, and it is not kept. "
                "Mend: a name that does not end in .gz, which some servers compress once more; or another --out."
            )


@contextmanager
def _read(file: Path) -> Iterator[Path]:
    """An archive as a file here."""
    if not is_remote(file):
        yield local_path(file)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, file.name)
        Store(places.as_uri(file.parent)).download(file.name, local)
        yield local
