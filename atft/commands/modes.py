"""The command that says which mode to take."""

from __future__ import annotations

import click

from atft.commands.options import JSON, tell


@click.command()
@JSON
def modes(as_json: bool) -> None:
    """Say which mode to take when, what each sets, and what none of them touches."""
    from atft.experiment.modes import modes as table

    report = table()
    tell(as_json, report, report["text"])
