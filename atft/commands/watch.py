"""The command that looks over a run's shoulder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from atft.commands.options import JSON, tell


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), metavar="RUN2", help="Run whose curve it is held against.")
@click.option("--once", is_flag=True, help="Tell how it stands and leave; else follow it to its end.")
@JSON
def watch(run: Path, as_json: bool, **options: Any) -> None:
    """Show RUN as it trains, here or elsewhere, and every early warning; exit code 1 where one stands."""
    from atft.launch.watch import judge, watch_run

    report = watch_run(run, quiet=as_json, **options)
    tell(as_json, report, report["text"])
    judge(report, as_json)
