"""Which column of a source plays which role."""

from __future__ import annotations

import datetime as dt
import difflib
import fnmatch
import zoneinfo
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from atft.errors import UseError

PRICES = ("open", "high", "low", "close")
BARS = (*PRICES, "volume")
MORE = ("tradable", "adjustment", "listed", "delisted", "market")
UNKNOWN_INDUSTRIES = ("n/a", "")
"""Names (in lower case) that mean that the industry is unknown; null means the same."""


def _clock(stated: object) -> object:
    """YAML reads an unquoted 16:00 as the number 960 (minutes to base 60)."""
    if isinstance(stated, int) and not isinstance(stated, bool) and 0 <= stated < 24 * 60:
        return dt.time(*divmod(stated, 60))
    return stated


Clock = Annotated[dt.time, BeforeValidator(_clock)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Hours(_Part):
    """When a market trades, by its own clock; daylight saving is that of its time zone."""

    timezone: str
    """IANA name, such as ``America/New_York``."""
    close: Clock
    """Time of the close on a usual day."""
    open: Clock | None = None
    """Time of the open; needed only to judge execution at the next open."""
    early_closes: dict[dt.date, Clock] = {}
    """Days on which the market closed earlier, and when."""
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] | None = None
    """Of its prices, such as USD; needed where the traded money of several markets is set side by side."""

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("not a time zone; such as America/New_York or Asia/Tokyo") from None
        return name

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.open is not None and any(close <= self.open for close in (self.close, *self.early_closes.values())):
            raise ValueError(f"open = {self.open} is not before every close")
        return self


class OwnLabel(_Part):
    """A column with the return that a decision at the close of the row's day earns, in place of the computed one."""

    column: str
    horizon: Annotated[int, Field(ge=1)]
    """Trading days that the return covers; a tier that uses the label must state the same."""
    execution_lag: Annotated[int, Field(ge=0)]
    """Trading days between decision and execution; a tier that uses the label must state the same."""


class Roles(_Part):
    """Column names by role. A role that is ``null`` is not in the source; features that need it are left out."""

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
    label: OwnLabel | None = None
    """Own label: its column, horizon and execution lag."""
    tradable: str | None = None
    """Whether the stock could be traded on the day: true or false, 1 or 0."""
    zero_volume_is_suspended: bool = False
    """Whether a day without volume counts as one on which the stock could not be traded."""
    adjustment: str | None = None
    """Factor for splits: adjusted price = price × factor, adjusted volume = volume / factor."""
    listed: str | None = None
    """First day of the stock's listing; rows before it are dropped. Null: not known to begin."""
    delisted: str | None = None
    """Last day of the stock's listing; rows after it are dropped. Null: not known to end."""
    market: str | None = None
    """Name of the market that the stock trades on."""
    markets: dict[str, Hours] = {}
    """Hours of each market, by the names in the column ``market``; needed where there are several."""

    @model_validator(mode="after")
    def _each_column_once(self) -> Self:
        columns = list(self.columns().values())
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise ValueError(f"column {twice[0]!r} is given to more than one role")
        if self.zero_volume_is_suspended and self.volume is None:
            raise ValueError("zero_volume_is_suspended needs a volume, and volume is null")
        if len(self.markets) > 1 and self.market is None:
            raise ValueError("markets states several, and no role 'market' says which one a stock trades on")
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
                f"{'.'.join(map(str, e['loc'])) or 'roles'}: {e['msg']} (got {_short(e['input'])})"
                for e in error.errors()
            )
            raise UseError(f"{path}: {problems}. Roles are {', '.join(cls.model_fields)}.") from None

    def columns(self) -> dict[str, str]:
        """Role → column for every role that the source has, own features aside."""
        stated = {role: getattr(self, role) for role in ("date", "code", *BARS, "industry", *MORE)}
        stated |= {"label": self.label.column} if self.label else {}
        return {role: column for role, column in stated.items() if column is not None}

    def text(self) -> list[str]:
        """Columns that hold text or dates, whatever a CSV's values look like."""
        roles = ("date", "code", "industry", "listed", "delisted", "market")
        return [column for role, column in self.columns().items() if role in roles]

    def own(self, available: Sequence[str]) -> list[str]:
        """Own feature columns among ``available``, in the order of the patterns, then of the source.

        Raises:
            UseError: a name or pattern that fits no column.
        """
        taken, found = set(self.columns().values()), dict[str, None]()
        for pattern in self.features:
            free = (name for name in available if name not in taken)
            fits = [name for name in free if name == pattern or fnmatch.fnmatchcase(name, pattern)]
            if not fits:
                raise UseError(
                    f"roles.features: {pattern!r} fits none of the source's columns. {nearest(pattern, available)}"
                )
            found.update(dict.fromkeys(fits))
        return list(found)


def _short(value: object) -> str:
    shown = repr(dict(value)) if isinstance(value, Mapping) else repr(value)
    return shown if len(shown) <= 100 else f"{shown[:100]}…"


def nearest(name: str, available: Sequence[str]) -> str:
    """A sentence that names what ``name`` may have meant."""
    close = difflib.get_close_matches(name, list(available), n=1)
    shown = [each if each.isprintable() else repr(each) for each in list(available)[:20]]
    shown = [each if len(each) <= 60 else f"{each[:60]}…" for each in shown] + ["…"] * (len(available) > 20)
    return (f"Did you mean {close[0]!r}? " if close else "") + f"There are: {', '.join(shown)}."
