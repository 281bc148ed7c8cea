"""The book of a sweep, ``sweep.json``: what it is, every run's state, and in the end its table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from atft.errors import UseError
from atft.experiment.sweep_plan import Trial
from atft.experiment.validation_days import ValidationDays
from atft.launch.places import Place, store_of
from atft.train.checkpoint import write_text

VERSION = 1
NAME = "sweep.json"
"""File in the directory of a sweep, whose runs lie in it."""


class Book:
    """What is known of a sweep, kept on file.

    States of a run: ``planned``, ``running``, ``done``, ``stopped`` (early, by a scheduler), ``failed``,
    ``interrupted`` (with the sweep).

    Args:
        place: the sweep's directory.
        told: what the sweep is.
        trials: its runs by name.
    """

    def __init__(
        self, place: Place, told: Mapping[str, Any], trials: Mapping[str, dict[str, Any]] | None = None
    ) -> None:
        self.place, self.told = place, dict(told)
        self._trials: dict[str, dict[str, Any]] = dict(trials or {})
        self._table: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, place: Place) -> Book | None:
        """The book at ``place``; None where there is none.

        Raises:
            UseError: it cannot be read.
        """
        try:
            if place.uri is not None:
                if not store_of(place).exists(NAME):
                    return None
                held = json.loads(store_of(place).read(NAME))
            else:
                held = json.loads((place.path / NAME).read_bytes())
            if held["schema_version"] != VERSION:
                raise UseError(f"{place.path / NAME}: version {held['schema_version']}, this program reads {VERSION}.")
            return cls(place, held["definition"], {each["run"]: each for each in held["trials"]})
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UseError(f"{place.path / NAME}: cannot be read ({error}). Mend: another --run.") from None

    def check_same(self, told: Mapping[str, Any], sha256: Mapping[str, str]) -> None:
        """What is asked for now is what was begun; seeds may have been added.

        Raises:
            UseError: it is not.
        """
        for key, words in (("panel_sha256", "panel"), ("search", "--search"), ("scheduler", "--scheduler")):
            if told[key] != self.told[key]:
                raise UseError(
                    f"sweep {self.place.path}: was begun with another {words} ({self.told[key]}, not {told[key]}). "
                    "Mend: as it was begun, or another --run."
                )
        differing = [
            name
            for name, each in self._trials.items()
            if sha256.get(name, each["config_sha256"]) != each["config_sha256"]
        ]
        gone = [] if told["search"] != "grid" else [name for name in self._trials if name not in sha256]
        if differing or gone or told["base_sha256"] != self.told["base_sha256"]:
            which = ", ".join((differing or gone or ["its tier"])[:3])
            raise UseError(
                f"sweep {self.place.path}: was begun with other settings than these ({which}). "
                "Mend: the settings, values and seeds that it was begun with; seeds may be added; or another --run."
            )
        self.interrupt()
        self.told = {**told, "created": self.told["created"]}

    def interrupt(self) -> None:
        """Nothing is at work any more: what was is interrupted."""
        for each in self._trials.values():
            if each["state"] == "running":
                each["state"] = "interrupted"

    def plan(self, trial: Trial) -> None:
        """Take a run into the book, if it is not there."""
        self._trials.setdefault(trial.name, {
            "run": trial.name, "point": trial.point.name, "value": trial.point.value, "seed": trial.seed,
            "config_sha256": trial.resolved.tier.sha256(), "state": "planned", "error": None, "metric": None,
            "best_epoch": None, "steps": None, "samples": None, "seconds": None,
        })  # fmt: skip

    def note(self, trial: Trial, state: str, error: str | None, found: ValidationDays | None) -> None:
        """A run's new state."""
        self.plan(trial)
        figures = {} if found is None else {
            "metric": found.value, "best_epoch": found.best_epoch, "steps": found.steps, "samples": found.samples,
            "seconds": found.seconds,
        }  # fmt: skip
        self._trials[trial.name] |= {"state": state, "error": error, **figures}

    def state(self, run: str) -> str:
        """State of a run; ``planned`` where it is not in the book."""
        return str(self._trials[run]["state"]) if run in self._trials else "planned"

    def knows(self, run: str) -> bool:
        """Whether a run is in the book."""
        return run in self._trials

    def named(self, state: str) -> list[str]:
        """Runs in a state."""
        return [name for name, each in self._trials.items() if each["state"] == state]

    def values(self) -> list[Any]:
        """Values of all runs in the book, each once."""
        return list(dict.fromkeys(each["value"] for each in self._trials.values()))

    @property
    def trials(self) -> list[dict[str, Any]]:
        """All runs, as plain data."""
        return list(self._trials.values())

    def conclude(self, table: Mapping[str, Any], files: Mapping[str, str]) -> None:
        """Write the table into the book, and the files beside it."""
        self._table = table
        self.write()
        for name, text in files.items():
            self._put(name, text)

    def write(self) -> None:
        """Put the book on file.

        Raises:
            UseError: it cannot be written.
        """
        held = {"schema_version": VERSION, "definition": self.told, "trials": self.trials, "table": self._table}
        self._put(NAME, json.dumps(held, indent=2) + "\n")

    def _put(self, name: str, text: str) -> None:
        target = self.place.path / name
        write_text(target, text)
        if self.place.uri is not None:
            store_of(self.place).upload(target, name)
