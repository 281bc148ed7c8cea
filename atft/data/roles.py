"""Which column of a source plays which role."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from atft.errors import UseError

PRICES = ("open", "high", "low", "close")
BARS = (*PRICES, "volume")
UNKNOWN_INDUSTRIES = ("n/a", "")
"""Names (in lower case) that mean that the industry is unknown; null means the same."""


class Roles(BaseModel):
    """Column names by role. A role that is ``null`` is not in the source; features that need it are left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    date: str = "date"
    """Trading day: a date, a timestamp at midnight, or ISO text."""
    code: str = "code"
    """The stock's name: text or a whole number."""
    open: str | None = "open"
    high: str | None = "high"
    low: str | None = "low"
    close: str = "close"
    """Price at the close, adjusted for splits. The only price that must be there."""
    volume: str | None = "volume"
    """Shares traded on the day."""
    industry: str | None = "industry"
    """Name of the stock's group; null or ``n/a`` is unknown."""
    features: tuple[str, ...] = ()
    """Own feature columns: names or patterns such as ``alpha_*``. Known at the close of their day."""

    @model_validator(mode="after")
    def _each_column_once(self) -> Self:
        columns = list(self.columns().values())
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise ValueError(f"column {twice[0]!r} is given to more than one role")
        return self

    @classmethod
    def read(cls, path: str | Path) -> Roles:
        """Roles from a small YAML file.

        Raises:
            UseError: no such file, not YAML, or not a role.
        """
        try:
            stated = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UseError(
                f"{path}: roles cannot be read: {error}. Mend: a YAML file with lines such as 'close: px'."
            ) from None
        if stated is not None and not isinstance(stated, dict):
            raise UseError(f"{path}: roles are lines 'role: column', got {type(stated).__name__}.")
        try:
            return cls.model_validate(stated or {})
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'roles'}: {e['msg']} (got {e['input']!r})" for e in error.errors()
            )
            raise UseError(f"{path}: {problems}. Roles are {', '.join(cls.model_fields)}.") from None

    def columns(self) -> dict[str, str]:
        """Role → column for every role that the source has, own features aside."""
        stated = {role: getattr(self, role) for role in ("date", "code", *BARS, "industry")}
        return {role: column for role, column in stated.items() if column is not None}

    def own(self, available: Sequence[str]) -> list[str]:
        """Own feature columns among ``available``, in the order of the patterns, then of the source.

        Raises:
            UseError: a name or pattern that fits no column.
        """
        taken, found = set(self.columns().values()), dict[str, None]()
        for pattern in self.features:
            fits = [name for name in available if name not in taken and fnmatch.fnmatchcase(name, pattern)]
            if not fits:
                raise UseError(
                    f"roles.features: {pattern!r} fits none of the source's columns. {nearest(pattern, available)}"
                )
            found.update(dict.fromkeys(fits))
        return list(found)


def nearest(name: str, available: Sequence[str]) -> str:
    """A sentence that names what ``name`` may have meant."""
    close = difflib.get_close_matches(name, list(available), n=1)
    shown = ", ".join(list(available)[:20]) + (", …" if len(available) > 20 else "")
    return (f"Did you mean {close[0]!r}? " if close else "") + f"There are: {shown}."
