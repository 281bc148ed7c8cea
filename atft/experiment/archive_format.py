"""Archives of runs: one file with a manifest of hashes, the same bytes for the same run, and read back in full.

A gzip-compressed tar: first ``MANIFEST.json``, then the files in the order of their names, without owners and times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atft import __version__
from atft.errors import UseError
from atft.experiment.names import PLAIN

MANIFEST = "MANIFEST.json"
SCHEMA_VERSION = 1
HEADER = bytes.fromhex("1f8b080000000000")
"""How every archive begins: gzip, deflated, without a name or a time; two bytes about the writer follow."""
WRITER = bytes.fromhex("00ff")
"""No claim about speed, no system."""


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    Attributes:
        run: name of the run, or of the directory of several, relative to where runs lie.
        files: SHA-256 and bytes of every file, by name relative to the run's directory.
        history: entries of the index about the runs in it, as plain data.
        atft_version: that wrote it.
    """

    run: str
    files: Mapping[str, tuple[str, int]]
    history: Sequence[Mapping[str, Any]] = ()
    atft_version: str = __version__

    def dump(self) -> bytes:
        """As it stands in the archive."""
        files = {name: {"sha256": sha256, "bytes": size} for name, (sha256, size) in sorted(self.files.items())}
        told = {"schema_version": SCHEMA_VERSION, "run": self.run, "atft_version": self.atft_version, "files": files,
                "history": list(self.history)}  # fmt: skip
        return (json.dumps(told, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def load(cls, content: bytes, archive: Path) -> Manifest:
        """The manifest in an archive.

        Raises:
            UseError: it is none that this atft reads, or names files that could lead elsewhere.
        """
        try:
            told = json.loads(content)
            if told["schema_version"] != SCHEMA_VERSION:
                raise damaged(archive, f"schema_version = {told['schema_version']!r}, this atft reads {SCHEMA_VERSION}")
            files = {name: (str(each["sha256"]), int(each["bytes"])) for name, each in told["files"].items()}
            found = cls(str(told["run"]), files, tuple(told["history"]), str(told["atft_version"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(archive, f"its manifest cannot be read ({type(error).__name__}: {error})") from None
        if not all(map(PLAIN.fullmatch, found.run.split("/"))):
            raise damaged(archive, f"its manifest is of a run {found.run!r}, and no run has such a name")
        for name in files:
            if not is_inside(name):
                raise damaged(archive, f"its manifest names {name!r}, which leads out of the run's directory")
        return found


def is_inside(name: str) -> bool:
    """Whether ``name`` is a plain relative name that cannot lead out of the directory it is relative to."""
    return not ({"", ".", ".."} & set(name.split("/")) or "\\" in name or "\0" in name)


def damaged(archive: Path, reason: str) -> UseError:
    """The error about an archive that cannot be relied on."""
    return UseError(
        f"{archive}: is damaged, or no archive of a run: {reason}. Nothing was restored. "
        "Mend: another copy of the archive."
    )
