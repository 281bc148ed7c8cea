"""The command that trains one tier with several seeds and makes one model of them."""

from __future__ import annotations

import sys
from typing import Any

import click

from atft.commands.options import ACCEPT, DATA, JSON, RUNS, flags_of, settings, tell


@click.command()
@click.argument("tier", metavar="TIER")
@DATA
@click.option("--seeds", default="5", show_default=True, help="How many, from the tier's own on; or seeds with commas.")
@click.option("--combine", type=click.Choice(["mean-rank", "mean-score"]), default="mean-rank", show_default=True,
              help="What the members' scores become.")  # fmt: skip
@click.option(
    "--at-once", type=click.IntRange(min=1), help="Members that train at the same time; as the machine allows."
)
@click.option("--run", "name", help="Name of the ensemble; tier, seed and time without it.")
@RUNS
@click.option("--again", is_flag=True, help="Go on with the ensemble named by --run: members that are there stay.")
@ACCEPT
@settings("seed", "fold")
@JSON
def ensemble(
    tier: str,
    seeds: str,
    combine: Any,
    at_once: int | None,
    assignments: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Train TIER with several seeds, combine the members' scores, and evaluate them once as one model."""
    from atft.experiment.tiers import resolve
    from atft.launch.ensemble import Wanted, ensemble_run, parse_seeds
    from atft.launch.request import TrainRequest

    flags = flags_of(assignments, options)
    own = resolve(tier, flags=flags).tier.seed
    request = TrainRequest(tier, flags, quiet=as_json, command=["atft", *sys.argv[1:]], **options)
    report = ensemble_run(Wanted(request, parse_seeds(seeds, own), combine, at_once))
    tell(as_json, report, report.pop("text"))
