"""Commands for before a run: the tiers that there are, their folds, their baselines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from atft.commands.options import DATA, JSON, RUNS, SET, tell


@click.command()
@JSON
def tiers(as_json: bool) -> None:
    """List the tiers that there are."""
    from atft.experiment.tiers import names, resolve

    found = {name: resolve(name).tier for name in names()}
    lines = [
        f"{name:12} hidden {tier.model.hidden_size:4}  batch {tier.batch.samples:5,} = {tier.batch.days} days × "
        f"{tier.batch.stocks_per_day} stocks  {tier.objective.sharpe_kind:9}  {tier.mode:9}  {tier.description}"
        for name, tier in found.items()
    ]
    tell(as_json, {name: tier.model_dump(mode="json") for name, tier in found.items()}, "\n".join(lines))


@click.command()
@click.argument("tier_name", metavar="TIER")
@DATA
@SET
@JSON
def folds(tier_name: str, data: Path | None, assignments: tuple[str, ...], as_json: bool) -> None:
    """List the folds of TIER: dates, days, what purge and embargo leave out, and a timeline."""
    from atft.experiment.tiers import parse_flags
    from atft.launch.folds import list_folds

    report = list_folds(tier_name, parse_flags(assignments), data)
    tell(as_json, report, report["text"])


@click.command()
@click.argument("panel", type=click.Path(path_type=Path))
@click.option("--tier", "tier_name", default="tier1", show_default=True, help="Tier that is read against them.")
@click.option("--only", help="Some of reversal,momentum,equal_weight,ridge,lightgbm,mlp,lstm; all without it.")
@click.option("--seeds", help="Seeds of those that draw something, with commas; the tier's own without it.")
@RUNS
@SET
@JSON
def baselines(panel: Path, tier_name: str, assignments: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Make a run of each baseline on PANEL, under the label, split and training of a tier, and compare them."""
    from atft.experiment.tiers import parse_flags, resolve
    from atft.launch.baselines import run_baselines

    resolved = resolve(tier_name, flags=parse_flags(assignments))
    report = run_baselines(resolved, panel, quiet=as_json, command=["atft", *sys.argv[1:]], **options)
    tell(as_json, report, report.pop("text"))
