"""Options that several commands take, and how each tells what it found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
SET = click.option("--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Set one value of the tier.")
DATA = click.option("--data", "--data-path", "data", type=click.Path(path_type=Path), help="Panel directory.")
RUNS = click.option(
    "--runs", "runs_root", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
    help="Where runs lie.",
)  # fmt: skip

ACCEPT = click.option(
    "--accept", multiple=True, is_flag=False, flag_value="all", metavar="[REASON]",
    help="Run a tier that a check refuses: for this reason, which may repeat, or for any without a name.",
)  # fmt: skip

_SHORT = {
    "batch_size": ("BATCH_SIZE", int, "Stock-days of the effective batch: sets batch.days."),
    "lr": ("LR", float, "Learning rate of every phase."),
    "max_epochs": ("max_epochs", int, "Cap on the epochs of all phases together."),
    "seed": ("seed", int, "Seed of everything random."),
    "fold": ("split.fold", click.IntRange(min=0), "Which fold of the tier's scheme to train; from 0."),
}
"""Settings of a tier that have a flag of their own: its name, what it sets, its type and its help."""


def settings(*without: str) -> Callable[[F], F]:
    """``--set`` and the flags that set one value of a tier, all but ``without``; see :func:`flags_of`."""

    def decorate(command: F) -> F:
        command = SET(command)
        for name, (_, kind, told) in reversed(_SHORT.items()):
            if name not in without:
                command = click.option(f"--{name.replace('_', '-')}", type=kind, help=told)(command)
        return command

    return decorate


def flags_of(assignments: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Dotted path to value of what was set; takes the flags of :func:`settings` out of ``options``.

    Raises:
        UseError: an assignment that is not of the form ``path=value``.
    """
    from atft.experiment.tiers import parse_flags

    short = {_SHORT[name][0]: options.pop(name) for name in _SHORT if name in options}
    return parse_flags(assignments) | {path: value for path, value in short.items() if value is not None}


def tell(as_json: bool, report: dict[str, Any], text: str) -> None:
    """Print a report as one JSON object, without its text, or its text alone."""
    click.echo(
        json.dumps({key: value for key, value in report.items() if key != "text"}, default=str) if as_json else text
    )
