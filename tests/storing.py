"""Files and remote directories for tests of storage, and processes that copy one: light, for each loads this anew."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atft.storage import Store, fetch_directory


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under ``folder``."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def stored(uri: str) -> dict[str, bytes]:
    remote = Store(uri)
    return {name: remote.read(name) for name in remote.list()}


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def panel(uri: str, tmp_path: Path, version: str, files: int = 20) -> dict[str, bytes]:
    """Store a directory with a manifest."""
    content = {f"features/{number}": f"{version} {number}".encode() * 50 for number in range(files)}
    content |= {"manifest.json": version.encode()}
    for name, each in content.items():
        Store(uri).upload(write(tmp_path / "source" / name, each), name)
    return content


def copy_with_others(uri: str, cache: Path, start: Any, told: Any) -> None:
    """Copy once all processes are ready, and tell whether anything came and what is there then."""
    chunks: list[str] = []
    start.wait()
    folder = fetch_directory(uri, cache, lambda name, *_: chunks.append(name))
    told.put((bool(chunks), tree(folder)))


def die_while_copying(uri: str, cache: Path) -> None:
    """Be killed at the first chunk."""
    fetch_directory(uri, cache, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
