"""The command that checks a tier before it is run."""

from __future__ import annotations

import sys
from typing import Any

import click

from atft.commands.options import ACCEPT, DATA, JSON, RUNS, flags_of, settings, tell


@click.command()
@click.argument("tier", metavar="TIER")
@click.option(
    "--against", metavar="BASELINE", help="Tier, file or run to compare with; the tier's baseline without it."
)
@DATA
@ACCEPT
@RUNS
@click.option("--workers", default="1", show_default=True, help="Workers that the run is to have.")
@settings()
@JSON
def validate(tier: str, assignments: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Check TIER before it is run: batch, parameters, memory, time, noise, and what differs from its baseline."""
    flags = flags_of(assignments, options)
    from atft.launch.validate import validate as check

    report = check(tier, flags, **options)
    tell(as_json, report, report["text"])
    if not report["passed"]:
        sys.exit(2)
