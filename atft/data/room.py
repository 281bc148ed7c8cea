"""Where a panel is made: a directory beside it, held by one process, whose finished files outlive a killed one."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from atft.data.manifest import NAME, File, sha256_of
from atft.data.tensors import write_tensor
from atft.errors import UseError

Tell = Callable[[str, float], None]
_SUFFIX = ".build"
_AT_WORKING_DIRECTORY, _EXCHANGE = -100, 2


@dataclass
class Room:
    """The directory ``.NAME.build`` beside the panel ``NAME``.

    Attributes:
        path: of the panel that is made.
        folder: of the room.
        panel: of the panel while it is made.
        tell: is told what is found here.
        files: what is finished in it, by name.
        resumable: whether another process could go on from them.
        entered: whether what was left here has been taken over or removed.
    """

    path: Path
    folder: Path
    tell: Tell
    files: dict[str, File] = field(default_factory=dict)
    resumable: bool = False
    entered: bool = False

    @property
    def panel(self) -> Path:
        """The panel while it is made."""
        return self.folder / "panel"

    def resume(self, fingerprint: str | None) -> None:
        """Take over what a build of the same ``fingerprint`` has finished here; remove what any other has left.

        What is taken over is read again and compared with its hash, since a machine may have died with the build.
        Without a fingerprint nothing is taken over, and nothing is left to others.
        """
        self.resumable, self.entered = fingerprint is not None, True
        held = _text(self.folder / "fingerprint")
        listed = [json.loads(line) for line in _text(self.folder / "finished").splitlines() if line.endswith("}")]
        if held == fingerprint:
            self.files = {each["name"]: File(bytes=each["bytes"], sha256=each["sha256"]) for each in listed}
            self.files = {name: file for name, file in self.files.items() if _is(self.panel / name, file)}
        if listed:
            going_on = f"going on from {len(self.files)} finished files of a build that was cut off"
            other = f"removing {len(listed)} files of another build (source, options or program) that was cut off"
            self.tell(going_on if held == fingerprint else other, 0.0)
        for found in [each for each in self.panel.rglob("*") if each.is_file()]:
            if found.relative_to(self.panel).as_posix() not in self.files:
                found.unlink()
        (self.panel / "features").mkdir(parents=True, exist_ok=True)
        (self.folder / "finished").write_text("".join(_line(name, file) for name, file in self.files.items()))
        (self.folder / "fingerprint").write_text(fingerprint or "")

    def write(self, name: str, array: NDArray[Any]) -> None:
        """A tensor as file ``name`` of the panel."""
        with self.placing(name) as part:
            write_tensor(part, array)

    @contextlib.contextmanager
    def placing(self, name: str) -> Iterator[Path]:
        """A path to write to, which then becomes file ``name`` of the panel, finished."""
        part = self._part()
        yield part
        self._finish(name, part, File(bytes=part.stat().st_size, sha256=sha256_of(part)))

    def link(self, name: str, old: Path, file: File) -> None:
        """The file ``old`` as file ``name`` of the panel: the same one where the disk can, else a copy."""
        part = self._part()
        try:
            os.link(old, part)
        except OSError:
            shutil.copyfile(old, part)
        self._finish(name, part, file)

    def _part(self) -> Path:
        """Where the next file is made; what a killed build left there may be a file of the old panel too."""
        part = self.folder / "part"
        part.unlink(missing_ok=True)
        return part

    def _finish(self, name: str, part: Path, file: File) -> None:
        os.rename(part, self.panel / name)
        self.files[name] = file
        with (self.folder / "finished").open("a") as log:
            log.write(_line(name, file))

    def check_space(self, needed: int) -> None:
        """Refuse to begin what the disk has no room for; what is in the room already counts as free.

        Raises:
            UseError: as said.
        """
        held = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        free = shutil.disk_usage(self.folder).free + held
        if free < needed:
            raise UseError(
                f"{self.path}: the panel needs {needed / 2**20:,.1f} MiB and the disk has {free / 2**20:,.1f} MiB "
                "free. Mend: make room, or another disk."
            )


def check_free(path: Path, overwrite: bool) -> None:
    """Refuse a path that something is at already, but for a panel where ``overwrite`` is set.

    Raises:
        UseError: as said.
    """
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise UseError(f"{path}: exists already. Mend: another name, or overwrite it (--overwrite).")
    if path.is_symlink() or not (path / NAME).is_file():
        raise UseError(f"{path}: is not a panel (no {NAME} in it), so it is not overwritten. Mend: another name.")


@contextlib.contextmanager
def making(path: Path, overwrite: bool, tell: Tell | None = None) -> Iterator[Room]:
    """A room whose panel takes the name ``path`` when the body is done, in one step where the system can.

    The room vanishes with the body, also where that fails. It stays where it is killed, and where it is interrupted
    with files finished: the next one for the same ``path`` finds it.

    Raises:
        UseError: ``path`` is taken, another process is making it, or the disk is full or not writable.
    """
    tell = tell or (lambda stage, part: None)
    folder = path.with_name(f".{path.name}{_SUFFIX}")
    with _told(path):
        check_free(path, overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, folder):
            room, keep = Room(path, folder, tell), False
            held = bool(_text(folder / "finished"))
            _put_back(path, folder / "old")
            _name_others(folder, tell)
            try:
                yield room
                check_free(path, overwrite)  # it may have been taken since
                _take_place(room.panel, path, folder / "old")
            except KeyboardInterrupt:
                keep = room.resumable and bool(room.files)
                if keep:
                    tell(f"interrupted: {len(room.files)} finished files stay in {folder} for the same command", 0.0)
                raise
            finally:
                keep = keep or (held and not room.entered and folder.exists())  # failed before it was looked at
                if not keep:
                    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UseError(
            f"{path}: cannot be written: {error.strerror or error}. Nothing was left behind. "
            "Mend: a directory that is writable and has room."
        ) from None


@contextlib.contextmanager
def _alone(path: Path, folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made where it is missing; the system lets go of it with the process."""
    while True:
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("a+") as file:
            if not _locked(file):
                raise UseError(f"{path}: is being made by another process ({folder} is held). Mend: wait for it.")
            if _same(file, folder / "lock"):  # else the one who held it has removed the folder meanwhile
                yield
                return


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(file: IO[str], path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _name_others(folder: Path, tell: Tell) -> None:
    """Say which other rooms in the same directory belong to no living process."""
    for other in sorted(folder.parent.glob(f".*{_SUFFIX}")):
        if other != folder and (other / "lock").is_file():
            with (other / "lock").open() as file:
                if _locked(file):
                    tell(f"{other} was left by a build that was cut off: give its command again, or delete it", 0.0)


def _put_back(path: Path, aside: Path) -> None:
    """The old panel, where a process was killed while it had moved it aside; what else is there is no longer wanted."""
    if (aside / NAME).is_file() and not path.exists():
        os.rename(aside, path)
    shutil.rmtree(aside, ignore_errors=True)


def _take_place(folder: Path, path: Path, aside: Path) -> None:
    """Give ``folder`` the name ``path``; an old panel there goes ``aside``, at once or else step by step."""
    if not path.exists():
        os.rename(folder, path)
    elif not exchange(folder, path):
        os.rename(path, aside)
        try:
            os.rename(folder, path)
        except OSError:
            os.rename(aside, path)
            raise


def exchange(one: Path, other: Path) -> bool:
    """Swap the names of two directories in one step; False where this system or disk cannot (Linux, renameat2)."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    at = _AT_WORKING_DIRECTORY
    return bool(rename(at, os.fsencode(one), at, os.fsencode(other), _EXCHANGE) == 0)


def _line(name: str, file: File) -> str:
    return json.dumps({"name": name, "bytes": file.bytes, "sha256": file.sha256}) + "\n"


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _is(path: Path, file: File) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes and sha256_of(path) == file.sha256
