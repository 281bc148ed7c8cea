"""The command that sweeps one setting of a tier."""

from __future__ import annotations

import sys
from typing import Any

import click

from atft.commands.options import DATA, JSON, RUNS, flags_of, settings, tell


@click.command()
@click.argument("name", metavar="NAME|FILE")
@DATA
@RUNS
@click.option("--run", help="Name of the sweep's directory under --runs; that of the sweep without it.")
@click.option("--resume", is_flag=True, help="Go on with the sweep that is there; failed trials are tried again.")
@click.option("--hold", type=click.Choice(["samples", "steps"]), help="What a batch sweep keeps; it has no default.")
@click.option("--seeds", metavar="N|LIST", help="How many, from 1, or which, with commas; the file's without it.")
@click.option("--trials-at-once", "at_once", type=click.IntRange(min=1), help="As many as there is room without it.")
@click.option("--scheduler", type=click.Choice(["none", "asha"]), default="none", show_default=True,
              help="asha stops trials early.")  # fmt: skip
@click.option("--search", type=click.Choice(["grid", "optuna"]), default="grid", show_default=True,
              help="All values of the file, or suggestions in its range.")  # fmt: skip
@click.option("--address", help="Ray cluster as HOST:PORT, or auto; this machine without it.")
@click.option("--dry-run", is_flag=True, help="Show every point and train none.")
@settings("seed")
@JSON
def sweep(name: str, dry_run: bool, assignments: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Train a tier at several values of one setting, under several seeds, and compare them on the validation period."""
    from atft.launch.sweep import SweepRequest, sweep_run
    from atft.launch.sweep import dry_run as planned

    flags = flags_of(assignments, options)
    wanted = SweepRequest(
        name, flags, command=["atft", *sys.argv[1:]],
        say=(lambda line: None) if as_json else lambda line: click.echo(line, err=True), **options,
    )  # fmt: skip
    report = (planned if dry_run else sweep_run)(wanted)
    tell(as_json, report, report.pop("text"))
    if report.get("failed"):
        sys.exit(1)  # told already, in the table
