"""A panel rebuilt around a day from its own source: as it is, without the future, and with another one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from atft.data import features, sources
from atft.data.files import Source
from atft.data.grid import Grid
from atft.data.leakage.vintage import another_future, until
from atft.data.markets import calendars_of
from atft.data.panel import Panel
from atft.data.roles import BARS, Roles
from atft.errors import UseError

DAYS_BEFORE, DAYS_AFTER = 16, 40
"""Days that are compared at and before the day of the cut, and days of future behind it."""
MOST_OWN = 32
"""Own features that are rebuilt: each is only laid out and normalised."""

Build = Callable[..., Any]


@dataclass(frozen=True)
class Differs:
    """A feature that is not the same in two panels.

    Attributes:
        feature: its name.
        day, code: where it differs first.
        values: how many values differ.
        checked: days compared.
    """

    feature: str
    day: str
    code: str
    values: int
    checked: int


@dataclass(frozen=True)
class Cut:
    """What three rebuilds around one day gave.

    Attributes:
        day: the day of the cut.
        stored: features of which the panel holds something else than the source gives.
        truncated: features that change when the table ends on the day.
        perturbed: features that change when all that follows is another market.
    """

    day: str
    stored: list[Differs]
    truncated: list[Differs]
    perturbed: list[Differs]


def read_source(path: str | Path | Source, roles: Roles, panel: Panel) -> sources.Checked:
    """The source of ``panel``, read as the build reads it.

    Raises:
        UseError: it is not what the panel was built from: other rows, days, stocks or closes.
    """
    checked = sources.read(path, roles, most_bad=1.0)
    stated = panel.manifest
    if stated.rows_read and (checked.rows_read, checked.bars.height) != (stated.rows_read, stated.rows_kept):
        _refuse(
            path,
            panel,
            f"{checked.rows_read:,} rows, {checked.bars.height:,} of them usable, where the panel was "
            f"built from {stated.rows_read:,} and {stated.rows_kept:,}",
        )
    grid = Grid.of(checked)
    if list(grid.codes) != list(panel.codes) or not np.array_equal(grid.days, panel.days):
        _refuse(
            path,
            panel,
            f"{len(grid.days):,} days × {len(grid.codes):,} stocks that are not the panel's "
            f"{len(panel.days):,} × {len(panel.codes):,}",
        )
    close = grid.columns["close"].T
    differ = ~((close == panel.close) | (np.isnan(close) & np.isnan(panel.close)))
    if differ.any():
        day, stock = np.argwhere(differ)[0]
        _refuse(
            path,
            panel,
            f"{int(differ.sum()):,} closes that are not the panel's, the first on {panel.days[day]} "
            f"for {panel.codes[stock]!r}",
        )
    return checked


def _refuse(path: str | Path | Source, panel: Panel, what: str) -> None:
    raise UseError(
        f"--source {path}: is not what {panel.path} was built from: it has {what}. "
        "Mend: the table and the roles that 'atft data build' was given."
    )


def computed_names(panel: Panel) -> list[str]:
    """Features that the program computed from bars; the others are the source's own."""
    return [each.name for each in panel.manifest.features if each.lookback_days is not None]


class Rebuilder:
    """Builds the days around a cut again and compares, bit by bit."""

    def __init__(self, panel: Panel, checked: sources.Checked, builder: Build, seed: int) -> None:
        """Args are the panel, its source, what builds a panel from a table (as :func:`build.build`), and a seed."""
        self._panel, self._builder, self._seed = panel, builder, seed
        own = [name for name in panel.feature_names if name in checked.own_names]
        self._own, self._computed = own[:: max(1, -(-len(own) // MOST_OWN))], computed_names(panel)
        self._checked = checked

    def cut(self, day: int) -> Cut:
        """The panel's own values, and those of a rebuild without the future and with another, on day number ``day``."""
        panel = self._panel
        first, start = self._window(day)
        days, last = np.arange(start, day + 1), panel.days[day].astype(object)
        table = self._table(first, min(len(panel.days), day + 1 + DAYS_AFTER))
        past = until(table, last, Roles())
        own = [name for name in self._own if past[name].drop_nulls().n_unique() > 1]  # a build refuses the others
        names = [*self._computed, *own]
        table, past = (each.drop(set(self._own) - set(own)) for each in (table, past))
        other = another_future(table, last, self._roles(own), self._seed + day)
        plain, truncated, perturbed = (self._values(each, days, own) for each in (table, past, other))
        stored = panel.features(start, day + 1)[..., [panel.feature_names.index(name) for name in names]]
        return Cut(
            day=str(panel.days[day]),
            stored=list(self._differ(stored, plain, days, names)),
            truncated=list(self._differ(plain, truncated, days, names)),
            perturbed=list(self._differ(plain, perturbed, days, names)),
        )

    def _window(self, day: int) -> tuple[int, int]:
        """First day of the table and first day that is compared: all that a feature reaches back to lies between.

        A feature counts its market's own days, so that the market with the most holidays says where the table begins.
        """
        start = max(0, day - DAYS_BEFORE)
        begins = [start]
        for _, own in calendars_of(self._panel.markets, np.asarray(self._panel.present)):
            begins.append(int(own[max(0, int(np.searchsorted(own, start)) - features.HISTORY)]))
        first = min(begins)
        return first, 0 if first == 0 else start

    def _roles(self, own: Sequence[str]) -> Roles:
        lacking = {role: None for role in (*BARS, "industry") if role not in self._checked.bars.columns}
        return Roles(features=tuple(own)).model_copy(update=lacking | self._markets())

    def _markets(self) -> dict[str, Any]:
        """The roles that tell markets apart, with their hours."""
        if "market" not in self._checked.bars.columns:
            return {}
        known = self._checked.sessions.markets if self._checked.sessions else {}
        return {"market": "market", "markets": {name: each.hours for name, each in known.items() if each.hours}}

    def _table(self, first: int, last: int) -> pl.DataFrame:
        bars, panel = self._checked.bars, self._panel
        inside = pl.col("date").is_between(panel.days[first].astype(object), panel.days[last - 1].astype(object))
        kept = bars.select(inside.alias("in")).to_series()
        table = bars.filter(kept)
        if "industry" in table.columns:
            table = table.with_columns(self._industries(table["code"]))
        rows = np.flatnonzero(kept.to_numpy())
        columns = self._checked.own_columns(self._own)
        own = [pl.Series(name, values[rows], nan_to_null=True) for name, values in columns]
        return table.hstack(own)

    def _industries(self, codes: pl.Series) -> pl.Series:
        """Industries as the whole table gives them: the first row of a window need not be a stock's first."""
        panel = self._panel
        named = {c: panel.industry_names[i] if i >= 0 else None for c, i in zip(panel.codes, panel.industries)}
        return pl.Series("industry", [named[code] for code in codes], pl.String)

    def _values(self, table: pl.DataFrame, days: NDArray[np.int64], own: Sequence[str]) -> NDArray[np.float32]:
        """``[days, stocks, names]`` of a panel built from ``table``, laid out as the panel at hand is."""
        with tempfile.TemporaryDirectory(prefix="atft-rebuild-") as folder:
            source = Path(folder) / "table.parquet"
            table.write_parquet(source)
            self._builder(
                source,
                Path(folder) / "panel",
                self._roles(own),
                normalise=self._panel.manifest.normalise,
                computed=self._computed or False,
                most_bad=1.0,
            )
            made = Panel.open(Path(folder) / "panel")
            place = {code: number for number, code in enumerate(self._panel.codes)}
            stocks = [place[code] for code in made.codes]
            order = [made.feature_names.index(name) for name in (*self._computed, *own)]
            values = np.full((len(days), len(self._panel.codes), len(order)), np.nan, np.float32)
            for row, found in enumerate(np.searchsorted(made.days, self._panel.days[days])):
                values[row, stocks] = made.features(int(found), int(found) + 1)[0][:, order]
        return values

    def _differ(
        self, left: NDArray[np.float32], right: NDArray[np.float32], days: NDArray[np.int64], names: Sequence[str]
    ) -> Iterator[Differs]:
        wrong = ~((left == right) | (np.isnan(left) & np.isnan(right)))
        for number in np.flatnonzero(wrong.any(axis=(0, 1))).tolist():
            row, stock = np.argwhere(wrong[..., number])[0]
            yield Differs(
                names[number],
                str(self._panel.days[days[row]]),
                self._panel.codes[stock],
                int(wrong[..., number].sum()),
                len(days),
            )
