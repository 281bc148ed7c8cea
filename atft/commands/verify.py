"""Commands that check what a run relies on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from atft.commands.options import DATA, JSON, SET, tell

WORKERS = click.option("--workers", default="1,2,4", show_default=True, help="Numbers of workers, with commas.")
DTYPE = click.option("--dtype", type=click.Choice(["float64", "float32", "tier"]), default="float64", show_default=True,
                     help="What steps compute in; tier: the tier's precision.")  # fmt: skip


@click.group()
def verify() -> None:
    """Check that workers, micro-batches and restarts change no number, and that no number knows the future."""


@verify.command()
@click.argument("tier_name", metavar="TIER")
@DATA
@WORKERS
@click.option("--micro-batches", default="1,2,all", show_default=True, help="Of each worker; all: one for each block.")
@DTYPE
@click.option(
    "--step", type=click.IntRange(min=0), default=0, show_default=True, help="Whose effective batch is taken."
)
@SET
@JSON
def exactness(tier_name: str, assignments: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Compare the gradient of every partition of one effective batch with that of the batch in one piece."""
    from atft.experiment.tiers import parse_flags
    from atft.launch import verify as checks

    _judged(as_json, checks.exactness(tier_name, parse_flags(assignments), quiet=as_json, **options))


@verify.command()
@click.argument("tier_name", metavar="TIER")
@DATA
@WORKERS
@click.option("--steps", type=click.IntRange(min=3), default=50, show_default=True, help="Optimizer steps of each run.")
@DTYPE
@SET
@JSON
def determinism(tier_name: str, assignments: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Train some steps on each number of workers, resized and resumed, and compare the losses step by step."""
    from atft.experiment.tiers import parse_flags
    from atft.launch import verify as checks

    _judged(as_json, checks.determinism(tier_name, parse_flags(assignments), quiet=as_json, **options))


@verify.command()
@click.argument("panel", type=click.Path(path_type=Path))
@click.option(
    "--source", type=click.Path(path_type=Path), help="Table that PANEL was built from, or that --pipeline takes."
)
@click.option("--roles", type=click.Path(path_type=Path), help="YAML that names the columns; PANEL's own without it.")
@click.option("--pipeline", metavar="MODULE:FUNCTION", help="Function that makes the table of PANEL of the source.")
@click.option(
    "--tier", metavar="TIER", help="Tier whose label, graph and split are used; tier1 fitted to the calendar."
)
@click.option(
    "--accept", multiple=True, metavar="OFFENDER", help="A feature or part that is known to leak; may repeat."
)
@JSON
def leakage(panel: Path, as_json: bool, **options: Any) -> None:
    """Look for knowledge of the future in PANEL: rebuild it with other futures, and suspect what knows too much."""
    from atft.launch.leakage import leakage as check

    _judged(as_json, check(panel, quiet=as_json, **options))


def _judged(as_json: bool, report: dict[str, Any]) -> None:
    """Show the report of a check, and fail where it does; in JSON the report itself is the only object."""
    from atft.launch.verify import judge

    tell(as_json, report, report["text"])
    if as_json and not report["passed"]:
        sys.exit(1)
    judge(report)
