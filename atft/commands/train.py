"""The command that trains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from atft.commands.options import ACCEPT, DATA, JSON, RUNS, flags_of, settings, tell


@click.command()
@click.argument("tier", metavar="TIER")
@DATA
@click.option("--run", "name", help="Name of the run; tier, seed and time without it.")
@RUNS
@click.option("--resume", is_flag=True, help="Go on with the run named by --run from its last checkpoint.")
@click.option("--again", is_flag=True, help="Begin the run named by --run, or go on with it if it is there.")
@click.option("--workers", default="1", show_default=True, help="Workers, or a range as 1-4 for an elastic run.")
@click.option("--address", help="Ray cluster as HOST:PORT, or auto; this machine without it.")
@ACCEPT
@click.option("--stop-on", multiple=True, metavar="NAMES", help="Early warnings that end the run: names, or all.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run that it is compared with: settings before, curve while it trains.",
)
@settings()
@click.option("--folds", type=click.Choice(["all"]), help="Train every fold of the tier's scheme, one after another.")
@JSON
def train(
    tier: str, workers: str, address: str | None, folds: str | None, assignments: tuple[str, ...], as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Train TIER through all its phases, evaluate it on the test period once, and write a report."""
    from atft.launch.own_ray import early

    flags = flags_of(assignments, options)
    with early(workers, address):
        from atft.experiment.runs import check_free_name
        from atft.launch.folds import train_folds
        from atft.launch.local import train_run
        from atft.launch.request import TrainRequest

        check_free_name(options["name"])
        wanted = TrainRequest(
            tier, flags, workers=workers, address=address, quiet=as_json, command=["atft", *sys.argv[1:]], **options
        )
        report = (train_folds if folds else train_run)(wanted)
    tell(as_json, report, report.pop("text"))
