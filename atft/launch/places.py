"""Where runs and panels lie: on this machine, on a volume that machines share, or in an object store."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atft.errors import UseError
from atft.experiment import index
from atft.experiment.index import RunIndex
from atft.experiment.names import check_name, root_and_name, run_path
from atft.launch.kept_entries import KeptEntries
from atft.storage import Mirror, Store, cache_root, fetch_directory, is_remote, local_path
from atft.storage.backend import s3_options

if TYPE_CHECKING:  # loaded where used: `atft runs list` can do without torch and Polars
    from atft.data.files import Source
    from atft.data.panel import Panel
    from atft.experiment.registry import Registry
    from atft.experiment.runs import Run

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
            if not any(self.path.iterdir()):
                self.path.rmdir()  # nothing is there yet, and a new run finds its place free

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
    def root(self) -> Path:
        """Where runs lie, a directory or a URI; runs of one sweep, ensemble or scheme lie one directory lower."""
        return root_and_name(self._place)[0]

    @property
    def name(self) -> str:
        """The run's name relative to :attr:`root`, as ``first`` or ``walk/fold-00``."""
        return root_and_name(self._place)[1]

    @property
    def folder(self) -> str:
        """The directory of runs that belong together which the run lies in, relative to :attr:`root`; or empty."""
        return self.name.rpartition("/")[0]

    @property
    def registry(self) -> Registry:
        """The evaluations of all runs beside this one, written directly and not through the working copy.

        The runs of folds are counted with the runs beside the directory that they lie in.
        """
        return registry_of(self.root, self.folder)

    @property
    def index(self) -> RunIndex:
        """The states of all runs beside this one, written as the registry is."""
        return index_of(self.root)

    @property
    def _place(self) -> Path:
        return Path(os.path.abspath(self.path)) if self.uri is None else Path(self.uri)

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


def registry_of(root: Path, folder: str = "") -> Registry:
    """The registry of evaluations of the runs under ``root``, a directory or a URI, for those in ``folder`` in it.

    Raises:
        UseError: no such kind of storage.
    """
    from atft.experiment import registry

    return registry.Registry(Store(beside(root, registry.NAME), tries=REGISTRY_TRIES), folder)


def index_of(root: Path) -> RunIndex:
    """The index of the runs under ``root``, a directory or a URI.

    Raises:
        UseError: no such kind of storage.
    """
    store = Store(beside(root, index.NAME))
    return RunIndex(KeptEntries(store, _cache("index", root)) if is_remote(root) else store)


def beside(root: Path, name: str) -> str:
    """The file or directory ``name`` among the runs under ``root``, a directory or a URI."""
    return f"{as_uri(root)}/{name}" if is_remote(root) else str(local_path(root) / name)


def run_place(root: Path, name: str) -> Place:
    """The place of the run ``name`` under ``root``, a directory or a URI.

    Raises:
        UseError: a name that no run can have.
    """
    check_name(name)
    root, name = root_and_name(root / name)  # one place, however it is named
    if not is_remote(root):
        return Place(run_path(local_path(root), name))
    uri = f"{as_uri(root)}/{name}"
    return Place(run_path(_cache("runs", root), name), uri)


def _cache(what: str, root: Path) -> Path:
    """Where this machine keeps copies of something under a remote ``root``."""
    return cache_root() / what / hashlib.sha256(as_uri(root).encode()).hexdigest()[:16]


def place_of(run: Path) -> Place:
    """The place of a run that is named by its directory or URI, its working copy up to date.

    Raises:
        UseError: as :func:`run_place` and :meth:`Place.fetch` raise them.
    """
    if not is_remote(run):
        return Place(local_path(run))
    found = run_place(*root_and_name(run))
    found.fetch()
    return found


def open_run(run: Path) -> Run:
    """The run at a directory or URI.

    Raises:
        UseError: no run there, or a description that cannot be read.
    """
    from atft.experiment.runs import open_run

    return open_run(place_of(run).path)


def open_panel(panel: Path) -> Panel:
    """The panel at a directory or URI; of one in an object store, this machine's copy, made when first asked for.

    Raises:
        UseError: no panel there, or the store does not answer.
    """
    from atft.data.panel import Panel

    return Panel.open(
        fetch_directory(as_uri(panel), cache_root() / "panels") if is_remote(panel) else local_path(panel)
    )


def open_source(place: Path) -> Source:
    """The table at a file, directory or URI; one in an object store is read from there, column by column.

    Raises:
        UseError: nothing there, files of two kinds, or the store does not answer.
    """
    from atft.data.files import SUFFIXES, locate, named

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
