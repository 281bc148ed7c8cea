"""The command that says how big a batch."""

from __future__ import annotations

from typing import Any

import click

from atft.commands.options import DATA, JSON, SET, tell


@click.command()
@click.argument("target", metavar="TIER_OR_RUN")
@DATA
@click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True,
              help="Of the short training; the last 20 are measured.")  # fmt: skip
@click.option("--phase", help="Phase of the tier; its last one without it.")
@click.option("--seeds", help="With commas; the tier's own without it, and two more for branches.")
@click.option("--candidates", default="256,512,1024,2048,4096,8192", show_default=True, help="Batches, in stock-days.")
@click.option("--branch", is_flag=True, help="Measure the critical batch: short runs from the same weights.")
@click.option(
    "--branch-samples", type=click.IntRange(min=1), help="Stock-days of each; 8 of the largest batch without."
)
@click.option("--branch-rate", type=click.Choice(["sqrt", "linear", "held"]), default="sqrt", show_default=True,
              help="How the learning rate follows the batch.")  # fmt: skip
@SET
@JSON
def advise(target: str, assignments: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Say how big a batch: noise of the gradient and of the Sharpe ratio, time and memory, beside rules of thumb.

    Of a tier, measured after a short training; of a run, from its events and at its weights.
    """
    from atft.experiment.tiers import parse_flags
    from atft.launch.advise import Wanted, advised

    report = advised(Wanted(target, parse_flags(assignments), quiet=as_json, **options))
    tell(as_json, report, report["text"])
