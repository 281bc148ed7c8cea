"""A synthetic market on disk, as a user's own data would be."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import polars as pl
import yaml

from atft.data.synth.features import feature_names
from atft.data.synth.market import Market
from atft.errors import UseError

BAR_ROLES = ("date", "code", "open", "high", "low", "close", "volume", "industry")


def write_market(market: Market, out_dir: Path | str) -> Path:
    """Write the market into the new directory ``out_dir``; all of it or nothing.

    ``market.parquet`` (the rows), ``roles.yaml`` (what each column is), ``truth.parquet`` (the planted signal by row),
    ``clusters.parquet`` (who is whose mate) and ``truth.json`` (best reachable figures and options).

    Returns:
        The directory.

    Raises:
        UseError: the directory exists already, or cannot be written.
    """
    target = Path(out_dir)
    if os.path.lexists(target):
        raise UseError(
            f"{target}: exists already, and a synthetic market is not written over it. Mend: another directory."
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        _fill(market, partial)
        os.replace(partial, target)
    except (OSError, pl.exceptions.PolarsError) as error:  # Polars wraps what the system says of a full disk
        reason = getattr(error, "strerror", None) or str(error)
        raise UseError(
            f"{target}: the synthetic market ({market.table.height:,} rows) cannot be written there: {reason}. "
            "Nothing was left behind. Mend: a directory that you may write to, on a disk with room."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _fill(market: Market, directory: Path) -> None:
    market.table.write_parquet(directory / "market.parquet")
    market.truth.write_parquet(directory / "truth.parquet")
    market.clusters.write_parquet(directory / "clusters.parquet")
    roles = {**{name: name for name in BAR_ROLES}, "features": feature_names(market.options)}
    (directory / "roles.yaml").write_text(yaml.safe_dump(roles, sort_keys=False))
    truth = {"reachable": dataclasses.asdict(market.reachable), "options": market.options.model_dump(mode="json")}
    (directory / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")
