"""The scores of a run's test decisions, kept beside its result, so that no later statistic looks again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atft.errors import UseError
from atft.train.checkpoint import write_atomically

FILE_NAME = "test_scores.npz"


@dataclass(frozen=True)
class TestScores:
    """Scores of the test period.

    Attributes:
        days: ``[decisions]`` datetime64[D], days of the decisions.
        dates: ``[decisions]`` datetime64[D], days on which their labels end.
        codes: ``[stocks]`` names of the stocks.
        scores: ``[decisions, stocks]`` float64, NaN where not scored.
    """

    __test__ = False  # its name is no test's

    days: npt.NDArray[np.datetime64]
    dates: npt.NDArray[np.datetime64]
    codes: Sequence[str]
    scores: npt.NDArray[np.float64]

    def write(self, run: Path) -> None:
        """Write the scores into the run's directory, all of them or nothing.

        Raises:
            UseError: the place cannot be written.
        """

        def save(file: Path) -> None:
            with file.open("wb") as target:
                np.savez_compressed(
                    target, days=self.days, dates=self.dates, codes=np.array(self.codes, dtype=str), scores=self.scores
                )

        write_atomically(run / FILE_NAME, save)

    @classmethod
    def read(cls, run: Path) -> TestScores:
        """The scores in a run's directory.

        Raises:
            UseError: there are none, or they cannot be read.
        """
        path = run / FILE_NAME
        try:
            with np.load(path, allow_pickle=False) as held:
                return cls(held["days"], held["dates"], held["codes"].tolist(), held["scores"])
        except FileNotFoundError:
            raise UseError(
                f"{path}: the run has no scores of its test period. Mend: name a run that is evaluated; one that was "
                "evaluated before scores were kept has to be trained again."
            ) from None
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UseError(f"{path}: cannot be read: {error}. Mend: train the run again.") from None
