"""What a panel says about itself."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from atft.data.markets import Sessions
from atft.data.roles import Roles
from atft.errors import UseError

SCHEMA_VERSION = 2
READS = (1, SCHEMA_VERSION)
"""Versions that can be read: panels of version 1 have no open prices, volumes, markets or suspensions."""
NAME = "manifest.json"
Normalise = Literal["rank", "zscore", "none"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FeatureEntry(_Part):
    """One feature of the panel."""

    name: str
    formula: str
    """In the notation of the features guide; for an own feature, the column of the source."""
    lookback_days: int | None
    """Market days before its day that a value depends on; null where the panel cannot know (own features)."""


class File(_Part):
    """One file of the panel."""

    bytes: int
    sha256: str


class Inputs(_Part):
    """What a network knows of a panel: what stands at each place of its features, and how it is scaled."""

    features: tuple[FeatureEntry, ...]
    normalise: Normalise


class Manifest(_Part):
    """``manifest.json``: where a panel's data came from, and what was done to it."""

    schema_version: int = SCHEMA_VERSION
    source: str = ""
    """Name of the file or directory that the panel was made from."""
    roles: Roles | None = None
    normalise: Normalise = "none"
    """How each day's cross-section was normalised."""
    first_day: dt.date
    last_day: dt.date
    days: int
    stocks: int
    features: tuple[FeatureEntry, ...]
    left_out: dict[str, str] = {}
    """Computed features that the source cannot give, and the inputs it lacks."""
    rows_read: int = 0
    rows_kept: int = 0
    counts: dict[str, int] = {}
    """Rows (values, for own features) repaired, dropped or worth a look, by reason."""
    sessions: Sessions | None = None
    """The markets, their hours and what these allow; null where the source and its roles name none."""
    made_by: str = ""
    """Hash of the code and the library versions that features depend on; empty where no code made them."""
    longest_span: int = 0
    """Days of the calendar that the longest lookback spans where markets close on different days; 0: one calendar."""
    chunk_days: int
    """Days in each file of ``features/`` but the last."""
    files: dict[str, File]

    @property
    def sha256(self) -> str:
        """Hash of all data of the panel, calendar and names included; the same wherever the panel lies."""
        names = "\n".join(feature.name for feature in self.features)
        told = "\n".join(f"{name} {self.files[name].sha256}" for name in sorted(self.files))
        return hashlib.sha256(f"{names}\n{told}".encode()).hexdigest()

    @property
    def inputs(self) -> Inputs:
        """What a network learns from, the same on every panel that it can be used on."""
        return Inputs(features=self.features, normalise=self.normalise)

    @property
    def longest_lookback(self) -> int:
        """Days of the calendar that any computed feature reaches back."""
        return max(self.longest_span, max((feature.lookback_days or 0 for feature in self.features), default=0))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The manifest of the panel at ``path``.

        Raises:
            UseError: no panel there, an unreadable manifest, or one of another version.
        """
        if not path.exists():
            raise UseError(f"{path}: no such panel. Mend: make it with 'atft data build SOURCE {path}'.")
        try:
            content = (path / NAME).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise UseError(
                f"{path}: is not a panel: it holds no {NAME}. Mend: name a directory made by 'atft data build'."
            ) from None
        except OSError as error:
            corrupt(path, f"{NAME} cannot be read ({error})")
        return cls.parsed(content, path)

    @classmethod
    def parsed(cls, content: bytes, place: str | Path) -> Manifest:
        """The manifest whose file has this content.

        Raises:
            UseError: it is unreadable, or one of another version.
        """
        try:
            version = from_json(content).get("schema_version")
            if version in READS:
                return cls.model_validate_json(content)
        except (ValueError, AttributeError) as error:
            reason = f"{error.error_count()} fields do not fit" if isinstance(error, ValidationError) else str(error)
            corrupt(place, f"{NAME} cannot be read ({reason})")
        raise UseError(
            f"{place}: the panel has schema version {version}, this program reads {' and '.join(map(str, READS))}. "
            "Mend: build it again from its source."
        )


def corrupt(path: str | Path, what: str) -> NoReturn:
    """Refuse the panel at ``path``."""
    raise UseError(f"{path}: the panel is corrupt: {what}. Mend: build it again from its source.") from None


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> Mapping[str, File]:
    """Every file under ``folder``, by relative name, with its size and hash."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): File(bytes=file.stat().st_size, sha256=sha256_of(file)) for file in found
    }
