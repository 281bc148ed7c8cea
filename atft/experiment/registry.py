"""The registry of evaluations: every look at a test period is written down, and stays when the run is deleted.

A directory beside the runs holds one small JSON file for each evaluation. Files are only ever added, each whole and
under a name of its own, so that any number of processes may write at once, on a disk or in an object store.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atft import __version__
from atft.config import Tier
from atft.errors import UseError
from atft.evaluate.result_types import Count, Maybe, Sha256
from atft.evaluate.search import Search

NAME = "_registry"
"""Directory of the registry beside the runs; no run can have this name."""
DIGITS = 16
"""Hexadecimal digits of a hash in the name of a file or directory."""
LONGEST_VARIANT = 80
"""Characters of a variant's name."""
Kind = Literal["network", "baseline", "backtest"]
OWN = "score-weighted"
"""Variant of a single network's own evaluation."""


class Files(Protocol):
    """A directory, here or in an object store, as :class:`atft.storage.Store` is one."""

    uri: str

    def list(self) -> Mapping[str, int]:
        """Files by relative name."""

    def read(self, name: str) -> bytes:
        """All bytes of a file."""

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""

    def upload(self, local: Path, name: str) -> object:
        """Put a file there, whole or not at all."""


class Evaluation(BaseModel):
    """One look at a test period: what was looked at, and what was seen."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    time: dt.datetime
    """When, in UTC."""
    run: str
    """Its directory relative to that of all runs, such as ``walk/fold-01``; entries of before: a bare ``fold-01``."""
    tier: str
    seed: Count
    config_sha256: Sha256
    """Of all settings that learning depends on, the seed among them."""
    recipe_sha256: Sha256
    """Of the same without the seed: what repetitions over seeds share."""
    panel_sha256: Sha256
    test_sha256: Sha256
    """Of the label dates of the test period, see :func:`dates_sha256`."""
    first_date: dt.date
    last_date: dt.date
    kind: Kind
    """A network and a variant of its backtest are trials; a baseline is a yardstick."""
    variant: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._=+-]*$", max_length=LONGEST_VARIANT)]
    """Which one: ``score-weighted`` for a run's own evaluation, ``ridge``, ``top-50 long-only`` …"""
    days: Count
    """Days that count."""
    sharpe_daily: Maybe
    """Per day, before costs."""
    ic: Maybe
    atft_version: str = __version__

    @property
    def identity(self) -> str:
        """Hash of all that tells a new look from the same look again: who looked and when does not."""
        told = self.model_dump(mode="json", exclude={"time", "run", "tier", "atft_version", "schema_version"})
        # The last digits of an outcome depend on the machine: the same look there is no other one.
        told |= {name: told[name] and float(f"{told[name]:.9g}") for name in ("sharpe_daily", "ic")}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @property
    def file(self) -> str:
        """Relative name of its file: by test period, identity and run."""
        run = hashlib.sha256(self.run.encode()).hexdigest()[:8]
        return f"{_folder(self.panel_sha256, self.test_sha256)}/{self.identity[:DIGITS]}-{run}.json"


@dataclass(frozen=True)
class Trials:
    """What is known of one test period.

    Attributes:
        trials: different evaluations of networks and of variants of their backtests, the earliest of each.
        looks: all evaluations of such, those that only repeated another one included.
        elsewhere: different trials on overlapping dates: of other panels, or of other test periods of this one. Dates
            overlap where each period begins before the other ends, gaps inside a period not looked at.
    """

    trials: tuple[Evaluation, ...]
    looks: int
    elsewhere: int

    @property
    def search(self) -> Search:
        """What a Sharpe ratio is deflated by."""
        ratios = [each.sharpe_daily for each in self.trials if each.sharpe_daily is not None]
        return Search(len(self.trials), ratios, self.elsewhere)

    def over_seeds(self, recipe_sha256: str) -> dict[int, Evaluation]:
        """The network's own evaluation of each seed of one recipe; of several for a seed, the latest."""
        own = [
            each
            for each in self.trials
            if (each.kind, each.variant, each.recipe_sha256) == ("network", OWN, recipe_sha256)
        ]
        return {each.seed: each for each in sorted(own, key=lambda each: each.time)}


class Registry:
    """The evaluations of all runs of one place.

    Args:
        files: the directory; made when first written to.
        folder: of the runs that write into it, relative to the directory of all runs; empty for that one itself.
    """

    def __init__(self, files: Files, folder: str = "") -> None:
        self._files = files
        self._folder = folder

    def name_of(self, run: str) -> str:
        """The run ``run`` of this folder, relative to the directory of all runs."""
        return f"{self._folder}/{run}" if self._folder else run

    def record(self, evaluation: Evaluation) -> None:
        """Write an evaluation down; one that is there already, of the same run with the same outcome, stays.

        Raises:
            UseError: it cannot be written.
        """
        if self._files.exists(evaluation.file):
            return
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, "evaluation.json")
            local.write_text(evaluation.model_dump_json(indent=2) + "\n")
            self._files.upload(local, evaluation.file)

    def trials(self, panel_sha256: str, test_sha256: str, span: tuple[dt.date, dt.date] | None = None) -> Trials:
        """All that is written down of a test period.

        Args:
            panel_sha256: hash of the panel's data.
            test_sha256: of its label dates, see :func:`dates_sha256`.
            span: its first and last label date; where not given, what its entries say, and nothing is known of
                overlapping periods before there is one.

        Raises:
            UseError: an entry cannot be read; it is named, since leaving it out would count too few.
        """
        folder, names = _folder(panel_sha256, test_sha256), list(self._files.list())
        here = [self._read(name) for name in names if name.startswith(f"{folder}/")]
        looks = sum(each.kind != "baseline" for each in here)
        if span is None and here:
            span = here[0].first_date, here[0].last_date
        return Trials(_different(here), looks, len(_different(self._overlapping(span, folder, names))))

    def _overlapping(self, span: tuple[dt.date, dt.date] | None, folder: str, names: list[str]) -> list[Evaluation]:
        """The entries of other test periods than that of ``folder`` whose dates overlap with ``span``."""
        if span is None:
            return []
        others: dict[str, list[str]] = {}
        for name in names:
            if not name.startswith(f"{folder}/"):
                others.setdefault(name.split("/")[0], []).append(name)
        found: list[Evaluation] = []
        for own in others.values():
            one = self._read(own[0])  # all entries of a folder share their dates, so that one tells for all
            if one.first_date <= span[1] and span[0] <= one.last_date:
                found += [one, *map(self._read, own[1:])]
        return found

    def _read(self, name: str) -> Evaluation:
        try:
            found = Evaluation.model_validate_json(self._files.read(name))
            reason = "" if found.file == name else f"holds what belongs into {found.file}"
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".lstrip(": ")
        if reason:
            raise UseError(
                f"{self._files.uri}/{name}: no entry of the registry of evaluations that can be read ({reason}). "
                "Mend: put the file back as it was; to remove it would count too few evaluations."
            )
        return found


def _folder(panel_sha256: str, test_sha256: str) -> str:
    return f"{panel_sha256[:DIGITS]}-{test_sha256[:DIGITS]}"


def _different(evaluations: list[Evaluation]) -> tuple[Evaluation, ...]:
    found: dict[str, Evaluation] = {}
    for each in sorted(evaluations, key=lambda each: (each.time, each.run)):
        if each.kind != "baseline":
            found.setdefault(each.identity, each)
    return tuple(found.values())


def dates_sha256(label_dates: npt.NDArray[np.datetime64]) -> str:
    """Hash of a period's label dates, in order, as ISO dates."""
    return hashlib.sha256("\n".join(map(str, label_dates.astype("datetime64[D]"))).encode()).hexdigest()


def recipe_sha256(tier: Tier) -> str:
    """Hash of all settings that learning depends on but the seed."""
    learning: dict[str, Any] = {name: value for name, value in tier.learning().items() if name != "seed"}
    return hashlib.sha256(json.dumps(learning, sort_keys=True).encode()).hexdigest()


def evaluation_of(
    run: str, tier: Tier, panel_sha256: str, label_dates: npt.NDArray[np.datetime64], *, kind: Kind, variant: str,
    days: int, sharpe_daily: float | None, ic: float | None,
) -> Evaluation:  # fmt: skip
    """What is to be written down of a look at the test period of ``tier``.

    Args:
        run: name of the run; for a baseline without one, what computed it.
        tier: whose settings made what was evaluated.
        panel_sha256: hash of the panel's data.
        label_dates: ``[decisions]`` of the test period, days left out included.
        kind, variant: what was evaluated.
        days: days that count.
        sharpe_daily: Sharpe ratio per day, NaN or None where undefined.
        ic: mean information coefficient, NaN or None where undefined.
    """
    first, last = (np.datetime64(day, "D").item() for day in (label_dates[0], label_dates[-1]))
    return Evaluation(
        time=dt.datetime.now(dt.UTC), run=run, tier=tier.name, seed=tier.seed, config_sha256=tier.sha256(),
        recipe_sha256=recipe_sha256(tier), panel_sha256=panel_sha256, test_sha256=dates_sha256(label_dates),
        first_date=first, last_date=last, kind=kind, variant=variant, days=days, sharpe_daily=sharpe_daily, ic=ic,
    )  # fmt: skip
