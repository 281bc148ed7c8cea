"""The command that says what differs between two recipes."""

from __future__ import annotations

import click

from atft.commands.options import JSON, tell


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@JSON
def diff(first: str, second: str, as_json: bool) -> None:
    """Say what differs between A and B, tiers, files or runs, and whether comparing them can be causal."""
    from atft.launch.diff import diff as compared

    report = compared(first, second)
    tell(as_json, report, report["text"])
