"""Scores by date and code, as one Parquet file: what a prediction writes and a backtest reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from atft import __version__
from atft.config import Tier
from atft.data.manifest import sha256_of
from atft.data.panel import Panel
from atft.errors import UseError
from atft.train.checkpoint import write_atomically

TEST_SCORES = "test-scores.parquet"
"""In a run's directory: the scores that its one evaluation of the test period came from."""
COLUMNS = {"date": pa.date32(), "code": pa.string(), "score": pa.float64()}


@dataclass(frozen=True)
class Scored:
    """Scores on a panel.

    Attributes:
        days: ``[decisions]`` numbers of the decision days, rising.
        scores: ``[decisions, stocks]``, NaN where a stock is not scored.
    """

    days: NDArray[np.int64]
    scores: NDArray[np.float64]


def as_table(panel: Panel, days: NDArray[np.int64], scores: NDArray[np.float64], told: dict[str, str]) -> pa.Table:
    """The scores that there are, by (date, code).

    Args:
        panel: the data.
        days: ``[days]`` rising day numbers.
        scores: ``[days, stocks]``, NaN where there is none.
        told: key-value metadata of the file.

    Returns:
        Columns ``date`` (date32), ``code`` (string), ``score`` (float64).
    """
    order = np.argsort(np.array(panel.codes), kind="stable")
    day, place = np.nonzero(~np.isnan(scores[:, order]))
    stock = order[place]
    columns = {
        "date": pa.array(panel.days[days[day]].astype("datetime64[D]"), pa.date32()),
        "code": pa.array(panel.codes, pa.string()).take(pa.array(stock)),
        "score": pa.array(scores[day, stock], pa.float64()),
    }
    return pa.table(columns).replace_schema_metadata(told)


def origin(run: str, tier: Tier, panel: Panel, weights: Path | None) -> dict[str, str]:
    """Where scores came from, as metadata of their file.

    Args:
        run: name of the run.
        tier: its settings.
        panel: that was scored.
        weights: file of the weights in the run's directory of checkpoints; None where no network made the scores.
    """
    told = {
        "run": run,
        "tier": tier.name,
        "config_sha256": tier.sha256(),
        "data_sha256": panel.sha256,
        "atft_version": __version__,
    }
    if weights is not None:
        told |= {"weights": f"{weights.parent.name}/{weights.name}", "weights_sha256": sha256_of(weights)}
    return told


def write(table: Any, target: Path) -> None:
    """Write a table of scores, all of it or nothing.

    Raises:
        UseError: it cannot be written; nothing is left behind.
    """
    try:
        write_atomically(target, lambda temporary: pa.parquet.write_table(table, temporary))
    except UseError as error:
        raise UseError(
            f"{target}: {table.num_rows:,} scores cannot be written: {error.__cause__}. Nothing was left behind. "
            "Mend: free space there, or another --out."
        ) from error


def read_test_scores(run: Path, panel: Panel) -> Scored:
    """The scores of a run's test period, as it was evaluated.

    Raises:
        UseError: the run has no such file, it is no table of scores, or it is of another panel.
    """
    path = run / TEST_SCORES
    if not path.exists():
        raise UseError(
            f"run {run}: has no {TEST_SCORES}; it is not evaluated yet, or was by an atft that kept no scores. "
            f"Mend: atft predict {run} --period test --out {path}."
        )
    try:
        table = pa.parquet.read_table(path, columns=list(COLUMNS))
        told = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
        if any(table.schema.field(name).type != kind for name, kind in COLUMNS.items()):
            raise pa.ArrowInvalid(f"columns are {dict(zip(table.schema.names, table.schema.types))}")
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UseError(
            f"{path}: holds no scores: {reason}. Mend: atft predict {run} --period test --out {path} --overwrite."
        ) from None
    if told.get("data_sha256") != panel.sha256:
        raise UseError(
            f"{path}: scores of a panel with data of hash {told.get('data_sha256', 'unknown')[:12]}, while "
            f"{panel.path} has {panel.sha256[:12]}. Mend: that panel, or atft predict {run} --period test "
            f"--out {path} --overwrite to score this one."
        )
    return _placed(table, panel, path)


def _placed(table: Any, panel: Panel, path: Path) -> Scored:
    """A table of scores on the days and stocks of its panel."""
    dates, codes = table["date"].to_numpy().astype("datetime64[D]"), np.array(table["code"].to_pylist(), dtype=str)
    values, names = table["score"].to_numpy(), np.array(panel.codes, dtype=str)
    order = np.argsort(names, kind="stable")
    day = np.searchsorted(panel.days, dates).clip(0, len(panel.days) - 1)
    stock = order[np.searchsorted(names, codes, sorter=order).clip(0, len(names) - 1)]
    known = (panel.days[day] == dates) & (names[stock] == codes) & np.isfinite(values)
    if not len(known) or not known.all():
        raise UseError(
            f"{path}: {int((~known).sum())} of {len(known)} rows are no score of a day and stock of {panel.path}. "
            f"Mend: atft predict {path.parent} --period test --out {path} --overwrite."
        )
    days, row = np.unique(day, return_inverse=True)
    scores = np.full((len(days), len(names)), np.nan)
    scores[row, stock] = values
    return Scored(days.astype(np.int64), scores)
