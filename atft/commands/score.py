"""The command for daily use: one day's scores, and whether the day is like those that were trained on."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from atft.commands.options import JSON, tell


@click.command()
@click.argument("run", metavar="RUN_OR_ENSEMBLE", type=click.Path(path_type=Path))
@click.option("--data", "--data-path", "data", type=click.Path(path_type=Path), required=True, help="Panel directory.")
@click.option("--date", type=click.DateTime(["%Y-%m-%d"]), help="Decision day; the panel's last without it.")
@click.option("--out", type=click.Path(path_type=Path), help="Parquet file; scores-DATE.parquet in RUN without it.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there, once the new one is complete.")
@JSON
def score(run: Path, date: datetime | None, as_json: bool, **options: Any) -> None:
    """Score every stock of one day with RUN_OR_ENSEMBLE, and hold the panel's recent days against training."""
    from atft.launch.score import score_day

    report = score_day(run, date=date.date() if date else None, quiet=as_json, **options)
    tell(as_json, report, report.pop("text"))
