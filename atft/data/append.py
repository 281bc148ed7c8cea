"""New days to a panel: what of the old one holds, and what of the source was revised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from atft.data import features
from atft.data.files import Source
from atft.data.manifest import FeatureEntry, Manifest, corrupt, sha256_of
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.data.room import Room
from atft.data.tensors import CHUNK_DAYS, ROWS, chunk_name
from atft.data.writing import Content, write_chunk
from atft.errors import UseError


def check_panel(old: Panel, made_by: str) -> None:
    """Refuse a panel that a new build would not agree with.

    Raises:
        UseError: it was not built from a table, or by other code.
    """
    if ROWS not in old.manifest.files or old.manifest.roles is None:
        raise UseError(f"{old.path}: was not made by 'atft data build', so nothing can be appended. Mend: build it.")
    if old.manifest.made_by != made_by:
        raise UseError(
            f"{old.path}: was built by another version of this program, of polars or of numpy: its old days may differ "
            "from what this one computes. Mend: build it again with --overwrite, once."
        )


def computed_in(told: Manifest) -> bool | list[str]:
    """What was to be computed for a panel: all that there is, none, or some by name."""
    names = [feature.name for feature in told.features if feature.lookback_days is not None]
    return True if {*names, *told.left_out} == features.BY_NAME.keys() else names


def extended(old: Panel, roles: Roles, path: str | Path) -> Roles:
    """``roles``, where they are those of the panel with markets added.

    Args:
        old: the panel.
        roles: as now stated.
        path: of the file that states them.

    Raises:
        UseError: another difference, which old days may depend on; the first is named.
    """
    before = old.manifest.roles
    assert before is not None
    stated, known = ({name: getattr(each, name) for name in Roles.model_fields} for each in (roles, before))
    now, was = stated.pop("markets"), known.pop("markets")
    compared = {name: (stated[name], known[name]) for name in stated}
    compared |= {f"markets.{name}": (now.get(name), was[name]) for name in was}
    for name, (one, other) in compared.items():
        if one != other:
            raise UseError(
                f"{path}: {name} is {_told(one)}, and {_told(other)} in {old.path}: only markets that begin on new "
                f"days can be added to the roles of a panel. Mend: '{name}' as it was (the panel's "
                "manifest.json has its roles), or a new build."
            )
    return roles


def _told(value: object) -> str:
    return repr(value.model_dump(mode="json", exclude_defaults=True)) if isinstance(value, BaseModel) else repr(value)


@dataclass(frozen=True)
class Appending:
    """A panel that new days come to.

    Attributes:
        old: the panel.
        source: the table, old days and new.
        roles: file with the panel's roles and more markets; None where they are the panel's.
    """

    old: Panel
    source: Source
    roles: str | Path | None = None

    def check_features(self, entries: Sequence[FeatureEntry]) -> None:
        """Refuse a source that gives other features.

        Raises:
            UseError: as said.
        """
        old = self.old
        before, now = ({entry.name for entry in each} for each in (old.manifest.features, entries))
        if tuple(entries) != old.manifest.features:
            odd = sorted(before ^ now)
            what = (
                f"{odd[0]!r} is only in {'the panel' if odd[0] in before else 'the source'}" if odd else "their order"
            )
            raise UseError(
                f"{self.source}: its {len(now)} features are not the {len(before)} of {old.path}: {what}. "
                f"{self._again()}"
            )

    def check_unrevised(self, new: Content) -> None:
        """Refuse a source whose rows of the panel's days are not those that the panel was built from.

        Raises:
            UseError: names the first such row by date and code.
        """
        old, rows = self.old, self.old.rows()
        assert rows is not None
        codes = sorted({*old.codes, *new.codes})
        until = int(np.searchsorted(new.days, old.days[-1], side="right"))
        days = np.union1d(old.days, new.days[:until])
        before = _aligned(rows, old.days, old.codes, days, codes)
        now = _aligned(new.tables[ROWS][:until], new.days[:until], new.codes, days, codes)
        differ = before != now
        if differ.any():
            day, stock = np.argwhere(differ)[0]
            how = "was added" if not before[day, stock] else "is gone" if not now[day, stock] else "was revised"
            self._refuse(f"the row of {days[day]} for {codes[stock]!r} {how}", int(differ.sum()))
        self._check_stocks(new)

    def _check_stocks(self, new: Content) -> None:
        """The industry or the market of an old stock, which hold for all of its days."""
        old = self.old
        industries = [old.industry_names[number] if number >= 0 else None for number in old.industries]
        for what, before, now in (("industry", industries, new.industries), ("market", old.markets, new.markets)):
            for code, was, place in zip(old.codes, before, _places(old.codes, new.codes), strict=True):
                if now[place] != was:
                    self._refuse(f"the {what} of {code!r}, {was!r} on its first day, became {now[place]!r}", 1)

    def _refuse(self, what: str, number: int) -> NoReturn:
        raise UseError(
            f"{self.source}: {what} since {self.old.path} was built ({number} such; the panel ends on "
            f"{self.old.days[-1]}). New days can be appended, old ones not changed (prices that are adjusted anew "
            f"change all of them). {self._again()}"
        )

    def _again(self) -> str:
        """The command that builds the panel anew, with the roles and options that it was built with."""
        told, options = self.old.manifest, ["--overwrite"]
        if self.roles is not None or told.roles != Roles():
            options.append(f"--roles {self.roles or 'ROLES.yaml'}")
        if told.normalise != "rank":
            options.append(f"--normalise {told.normalise}")
        if not any(feature.lookback_days is not None for feature in told.features):
            options.append("--own-only")
        command = f"atft data build {self.source} {self.old.path} {' '.join(options)}"
        lost = (
            ""
            if self.roles or told.roles == Roles()
            else ", with the roles file of the panel (its manifest.json has the roles)"
        )
        return f"Mend: build it again with '{command}'{lost}."


def _aligned(
    rows: NDArray[np.uint64],
    days: NDArray[np.datetime64],
    codes: Sequence[str],
    all_days: NDArray[np.datetime64],
    all_codes: list[str],
) -> NDArray[np.uint64]:
    """The table on another calendar and other stocks that hold its own; 0 where it has nothing."""
    table = np.zeros((len(all_days), len(all_codes)), np.uint64)
    table[np.ix_(np.searchsorted(all_days, days), _places(codes, all_codes))] = rows
    return table


def _places(codes: Sequence[str], among: Sequence[str]) -> NDArray[np.int64]:
    place = {code: number for number, code in enumerate(among)}
    return np.array([place[code] for code in codes])


def whole_days(old: Panel) -> int:
    """Days whose chunks are full, so that new days leave them as they are."""
    return len(old.days) // CHUNK_DAYS * CHUNK_DAYS


def keep_chunks(room: Room, old: Panel, new: Content) -> None:
    """Take over the chunks of whole days: as they are, or with room for new stocks, which are missing there.

    Raises:
        UseError: a chunk that is not the one that was written.
    """
    places = None if list(new.codes) == old.codes else _places(old.codes, new.codes)
    for number in range(whole_days(old) // CHUNK_DAYS):
        name = chunk_name(number)
        if name in room.files:
            continue
        if sha256_of(old.path / name) != old.manifest.files[name].sha256:
            corrupt(old.path, f"the bytes of {name} are not those that were written")
        if places is None:
            room.link(name, old.path / name, old.manifest.files[name])
        else:
            chunk = np.full((CHUNK_DAYS, *new.shape[1:]), np.nan, np.float32)
            chunk[:, places] = old.chunks[number]
            write_chunk(room, new, number, chunk)
