"""Commands that keep account of runs: list, show, board, archive, restore, delete, export."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from atft.commands.options import JSON, RUNS, tell

RUN = click.argument("run", type=click.Path(path_type=Path))
STATES = ("planned", "running", "interrupted", "failed", "done", "archived", "deleted")


@click.group()
def runs() -> None:
    """Keep account of runs: which there are, how each came about, and where it went."""


@runs.command("list")
@RUNS
@click.option("--state", type=click.Choice(STATES), help="Those in one state.")
@click.option("--tier", help="Those of one tier.")
@click.option("--sort", default="age", show_default=True,
              help="age, name, state, tier, seed, sharpe, ic, runtime, batch or hidden.")  # fmt: skip
@click.option("--write", is_flag=True, help="Write EXPERIMENTS.md beside the runs, too.")
@JSON
def list_(runs_root: Path, state: str | None, tier: str | None, sort: str, write: bool, as_json: bool) -> None:
    """List the runs: state, settings and figures of each."""
    from atft.launch.runs import list_runs, write_board

    report = list_runs(runs_root, state=state, tier=tier, sort=sort)
    if write:
        report["board"] = write_board(runs_root)
        report["text"] += f"\nboard: {report['board']}"
    tell(as_json, report, report["text"])


@runs.command()
@RUN
@RUNS
@click.option("--tier-file", type=click.Path(path_type=Path), help="Write the run's settings there, as a tier.")
@JSON
def show(run: Path, runs_root: Path, tier_file: Path | None, as_json: bool) -> None:
    """Everything about RUN: the command that makes it again, environment, states, figures, files."""
    from atft.launch.runs import show_run

    report = show_run(run, runs_root, tier_file=tier_file)
    tell(as_json, report, report["text"])


@runs.command()
@RUNS
@JSON
def board(runs_root: Path, as_json: bool) -> None:
    """Write EXPERIMENTS.md, the page of all runs, beside them."""
    from atft.launch.runs import board_report

    report = board_report(runs_root)
    tell(as_json, report, report["text"])


@runs.command()
@RUN
@RUNS
@click.option("--out", type=click.Path(path_type=Path), help="File or URI; RUN.tar.gz here without it.")
@click.option("--remove", is_flag=True, help="Remove the run's files once the archive is verified.")
@JSON
def archive(run: Path, runs_root: Path, out: Path | None, remove: bool, as_json: bool) -> None:
    """Put RUN into one file, and verify it by reading it back."""
    from atft.launch.archives import archive_run

    report = archive_run(run, runs_root, out=out, remove_files=remove)
    tell(as_json, report, report["text"])


@runs.command()
@click.argument("file", type=click.Path(path_type=Path))
@RUNS
@JSON
def restore(file: Path, runs_root: Path, as_json: bool) -> None:
    """Verify the archive FILE and put its run back, whole or not at all."""
    from atft.launch.archives import restore_run

    report = restore_run(file, runs_root)
    tell(as_json, report, report["text"])


@runs.command()
@RUN
@RUNS
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def delete(run: Path, runs_root: Path, yes: bool, as_json: bool) -> None:
    """Delete the files of RUN; what is counted and what is known of it stay."""
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise click.UsageError(f"deleting {run} wants --yes where nobody can be asked.")
        click.confirm(f"Delete the files of {run}? This cannot be undone.", abort=True)
    from atft.launch.runs import delete_run

    report = delete_run(run, runs_root)
    tell(as_json, report, report["text"])


@runs.command()
@RUN
@RUNS
@click.option("--to", "target", type=click.Choice(["mlflow", "tensorboard"]), required=True, help="Whose format.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory; without it MLFLOW_TRACKING_URI, or RUN's own.")
@JSON
def export(run: Path, runs_root: Path, target: str, out: Path | None, as_json: bool) -> None:
    """Copy settings, curves and figures of RUN to MLflow or TensorBoard, by their own libraries."""
    from atft.launch.export import export_run

    report = export_run(run, runs_root, target=target, out=out)
    tell(as_json, report, report["text"])
