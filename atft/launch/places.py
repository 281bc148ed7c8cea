"""Where runs and panels lie: on this machine, on a volume that machines share, or in an object store."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atft.data.files import SUFFIXES, Source, locate, named
from atft.data.panel import Panel
from atft.errors import UseError
from atft.experiment import registry, runs
from atft.experiment.registry import Registry
from atft.experiment.runs import Run
from atft.storage import Mirror, Store, cache_root, fetch_directory, is_remote, local_path
from atft.storage.backend import s3_options

SWEEP = "sweep.json"
"""File in the directory of a sweep, whose runs lie in it."""
STORE_SECONDS = 5.0
"""How often what a run has written is copied to its object store."""
REGISTRY_TRIES = 9
"""Attempts at an entry of the registry: over two minutes, since a look that is not written down is not taken."""
PATIENCE_SECONDS = 300.0
"""How long an object store may be away before a run stops; until then the copies wait."""


@dataclass(frozen=True)
class Place:
    """A run's directory.

    Attributes:
        path: on this machine; of a run in an object store, this machine's working copy.
        uri: of the run in its object store, None where it lies here.
    """

    path: Path
    uri: str | None = None

    def fetch(self) -> None:
        """Bring the working copy up to date.

        Raises:
            UseError: the store does not answer.
        """
        if self.uri is not None:
            self.path.mkdir(parents=True, exist_ok=True)
            Mirror(self.path, Store(self.uri)).pull()

    def store(self) -> None:
        """Copy what is here to the run's store, now.

        Raises:
            UseError: the store does not answer.
        """
        if self.uri is not None:
            Mirror(self.path, Store(self.uri)).push_changed()

    def check_new(self) -> None:
        """Nothing lies there yet, and something can be written.

        Raises:
            UseError: there is a run of that name, or the store cannot be written.
        """
        if self.uri is None:
            return
        store = Store(self.uri)
        if store.exists("config.json"):
            raise UseError(
                f"run {self.uri}: exists already, and a run is never written over. "
                "Mend: another --run, or --resume to go on with it."
            )
        store.check_writable()

    @property
    def registry(self) -> Registry:
        """The evaluations of all runs beside this one, written directly and not through the working copy.

        The runs of folds, and those of a sweep, lie in a directory of their own and are counted with the runs beside
        that.
        """
        place = self.path if self.uri is None else Path(self.uri)
        return registry_of(place.parent.parent if runs.is_fold(place.name) or self._of_sweep else place.parent)

    @property
    def _of_sweep(self) -> bool:
        """Whether this run lies in the directory of a sweep."""
        if self.uri is None:
            return (self.path.parent / SWEEP).exists()
        return Store(self.uri.rpartition("/")[0]).exists(SWEEP)

    @contextmanager
    def kept(self) -> Iterator[Callable[[str], object]]:
        """Copies what is written here to the run's store while the context lasts, and the rest at its end.

        Yields:
            Called with the name of a complete file; raises UseError where the store has been away for too long.
        """
        if self.uri is None:
            yield lambda name: None
            return
        mirror = Mirror(self.path, Store(self.uri), PATIENCE_SECONDS)
        mirror.start(STORE_SECONDS)
        try:
            yield lambda name: mirror.check()
        finally:
            mirror.close()


def store_of(place: Place) -> Store:
    """The object store of a run that lies in one."""
    assert place.uri is not None
    return Store(place.uri)


def registry_of(root: Path) -> Registry:
    """The registry of evaluations of the runs under ``root``, a directory or a URI.

    Raises:
        UseError: no such kind of storage.
    """
    place = f"{as_uri(root)}/{registry.NAME}" if is_remote(root) else local_path(root) / registry.NAME
    return Registry(Store(place, tries=REGISTRY_TRIES))


def run_place(root: Path, name: str) -> Place:
    """The place of the run ``name`` under ``root``, a directory or a URI.

    Raises:
        UseError: a name that is no plain directory name.
    """
    if not is_remote(root):
        return Place(runs.run_path(local_path(root), name))
    uri = f"{as_uri(root)}/{name}"
    working = cache_root() / "runs" / hashlib.sha256(as_uri(root).encode()).hexdigest()[:16]
    return Place(runs.run_path(working, name), uri)


def place_of(run: Path) -> Place:
    """The place of a run that is named by its directory or URI, its working copy up to date.

    Raises:
        UseError: as :func:`run_place` and :meth:`Place.fetch` raise them.
    """
    if not is_remote(run):
        return Place(local_path(run))
    found = run_place(run.parent, run.name)
    found.fetch()
    return found


def open_run(run: Path) -> Run:
    """The run at a directory or URI.

    Raises:
        UseError: no run there, or a description that cannot be read.
    """
    return runs.open_run(place_of(run).path)


def open_panel(panel: Path) -> Panel:
    """The panel at a directory or URI; of one in an object store, this machine's copy, made when first asked for.

    Raises:
        UseError: no panel there, or the store does not answer.
    """
    return Panel.open(
        fetch_directory(as_uri(panel), cache_root() / "panels") if is_remote(panel) else local_path(panel)
    )


def open_source(place: Path) -> Source:
    """The table at a file, directory or URI; one in an object store is read from there, column by column.

    Raises:
        UseError: nothing there, files of two kinds, or the store does not answer.
    """
    if not is_remote(place):
        return locate(local_path(place))
    uri, mark, options = as_uri(place).partition("?")
    folder, _, name = uri.rpartition("/")
    if Path(name).suffix.lower() in SUFFIXES and Store(folder + mark + options).exists(name):
        return named(uri, {name: uri}, _options_for_polars(uri + mark + options))
    tables = [each for each in Store(uri + mark + options).list() if Path(each).suffix.lower() in SUFFIXES]
    if not tables:
        raise UseError(
            f"{uri}: holds no Parquet (.parquet, .pq) or CSV (.csv) file. Mend: name a file or a directory that does."
        )
    return named(uri, {each: f"{uri}/{each}" for each in tables}, _options_for_polars(uri + mark + options))


def _options_for_polars(uri: str) -> dict[str, str]:
    """What Polars has to be told to reach a store as :class:`Store` does; keys stay in the environment."""
    if not uri.startswith("s3://"):
        return {}
    known = s3_options(uri, os.environ)
    options = {"aws_region": known["region"]} if "region" in known else {}
    if endpoint := known.get("endpoint_override"):
        url = endpoint if "://" in endpoint else f"{known.get('scheme', 'https')}://{endpoint}"
        options |= {"aws_endpoint_url": url, "aws_allow_http": str(url.startswith("http://")).lower()}
    return options


def absolute(place: Path) -> Path:
    """``place`` as other processes and machines have to be told it."""
    return place if is_remote(place) else local_path(place).resolve()


def as_uri(place: Path) -> str:
    """A URI that a :class:`Path` has taken one of its two slashes from, whole again and without one at its end."""
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]+):/{1,2}", r"\1://", str(place)).rstrip("/")
