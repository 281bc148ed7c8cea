"""The command line: one command for each thing a user does; heavy modules load when a command runs."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from atft import __version__
from atft.errors import AtftError

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
SET = click.option("--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Set one value of the tier.")
DATA = click.option("--data", "--data-path", "data", type=click.Path(path_type=Path), help="Panel directory.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="atft")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Train models that rank stocks on a Sharpe ratio, exactly, and report what they are worth."""


@cli.group()
def data() -> None:
    """Make panels: from a table of prices, or a synthetic market with a planted signal."""


@data.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--stocks", type=int, help="Stocks ever listed.")
@click.option("--days", type=int, help="Trading days.")
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), help="First day.")
@click.option("--seed", type=int, help="Seed of the whole market.")
@click.option("--ic", type=float, help="Best reachable daily information coefficient; 0 plants nothing.")
@click.option("--execution-lag", type=int, help="Days between the signal and the return that it moves.")
@JSON
def synth(out: Path, as_json: bool, **options: Any) -> None:
    """Write a synthetic market into OUT and build its panel at OUT/panel."""
    from atft.launch.local import synthesize

    given = {name: value for name, value in options.items() if value is not None}
    if "start" in given:
        given["start"] = given["start"].date()
    report = synthesize(out, given)
    _tell(as_json, report, f"{report['text']}\npanel: {report['panel']}")


@data.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--roles", type=click.Path(path_type=Path), help="YAML that names the columns; the usual names without it."
)
@click.option("--normalise", type=click.Choice(["rank", "zscore"]), default="rank", show_default=True,
              help="How each feature is scaled over a day's cross-section.")  # fmt: skip
@click.option("--own-only", is_flag=True, help="Take the table's own features and compute none from prices.")
@click.option("--strict", is_flag=True, help="Refuse a table with any blemish instead of repairing and counting.")
@click.option("--most-bad", type=click.FloatRange(0, 1), default=0.01, show_default=True,
              help="Largest share of rows that may be blemished.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a panel that is there, once the new one is complete.")
@JSON
def build(source: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Turn SOURCE (Parquet or CSV, a file or a directory) into the panel OUT."""
    from atft.launch.local import build_panel

    report = build_panel(source, out, quiet=as_json, **options)
    _tell(as_json, report, report["text"])


@data.command()
@click.argument("panel", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Refuse a table with any blemish instead of repairing and counting.")
@click.option("--most-bad", type=click.FloatRange(0, 1), default=0.01, show_default=True,
              help="Largest share of rows that may be blemished.")  # fmt: skip
@JSON
def append(panel: Path, source: Path, as_json: bool, **options: Any) -> None:
    """Bring PANEL up to the last day of SOURCE: the table it was built from, with new days at the end."""
    from atft.launch.local import append_panel

    report = append_panel(panel, source, quiet=as_json, **options)
    _tell(as_json, report, report["text"])


@cli.command()
@click.argument("panel", type=click.Path(path_type=Path))
@click.option("--tier", "tier_name", default="tier1", show_default=True, help="Tier whose label and split are used.")
@SET
@JSON
def baselines(panel: Path, tier_name: str, assignments: tuple[str, ...], as_json: bool) -> None:
    """What simple strategies reach on the test period of PANEL: reversal, ridge, equal weight."""
    from atft.experiment.tiers import parse_flags, resolve
    from atft.launch.local import run_baselines

    report = run_baselines(resolve(tier_name, flags=parse_flags(assignments)).tier, panel)
    _tell(as_json, report, report.pop("text"))


@cli.command()
@click.argument("tier_name", metavar="TIER")
@DATA
@click.option("--run", "run_name", help="Name of the run; tier, seed and time without it.")
@click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where runs lie."
)
@click.option("--resume", is_flag=True, help="Go on with the run named by --run from its last checkpoint.")
@click.option("--again", is_flag=True, help="Begin the run named by --run, or go on with it if it is there.")
@click.option("--workers", default="1", show_default=True, help="Workers, or a range as 1-4 for an elastic run.")
@click.option("--address", help="Ray cluster as HOST:PORT, or auto; this machine without it.")
@click.option("--batch-size", type=int, help="Stock-days of the effective batch: sets batch.days.")
@click.option("--lr", type=float, help="Learning rate of every phase.")
@click.option("--max-epochs", type=int, help="Cap on the epochs of all phases together.")
@click.option("--seed", type=int, help="Seed of everything random.")
@SET
@JSON
def train(
    tier_name: str, data: Path | None, run_name: str | None, runs: Path, resume: bool, again: bool, workers: str,
    address: str | None, assignments: tuple[str, ...], as_json: bool, **short: Any,
) -> None:  # fmt: skip
    """Train TIER through all its phases, evaluate it on the test period once, and write a report."""
    from atft.experiment.tiers import parse_flags
    from atft.launch.local import train_run

    flags = parse_flags(assignments)
    names = {"batch_size": "BATCH_SIZE", "lr": "LR", "max_epochs": "max_epochs", "seed": "seed"}
    flags |= {names[name]: value for name, value in short.items() if value is not None}
    report = train_run(
        tier_name, flags, data, runs_root=runs, name=run_name, resume=resume, again=again, quiet=as_json,
        command=["atft", *sys.argv[1:]], workers=workers, address=address,
    )  # fmt: skip
    _tell(as_json, report, report.pop("text"))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@JSON
def evaluate(run: Path, as_json: bool) -> None:
    """Evaluate a trained RUN on its test period, if that has not been done; show what came out."""
    from atft.launch.local import evaluate_run

    report = evaluate_run(run, quiet=as_json)
    _tell(as_json, report, report.pop("text"))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="HTML file to write; report.html in the run without it.")
@JSON
def report(run: Path, out: Path | None, as_json: bool) -> None:
    """Write the HTML report of RUN."""
    from atft.launch.local import report_run

    path = report_run(run, out)
    _tell(as_json, {"report": str(path)}, f"report: {path}")


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@DATA
@click.option("--period", type=click.Choice(["all", "train", "validate", "test"]), default="all", show_default=True,
              help="Decision days of one period of the run's tier.")  # fmt: skip
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="First decision day.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="Last decision day.")
@click.option("--out", type=click.Path(path_type=Path), help="Parquet file; predictions.parquet in RUN without it.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there, once the new one is complete.")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes that share the days.")
@JSON
def predict(
    run: Path, data: Path | None, period: str, first: datetime | None, last: datetime | None, out: Path | None,
    overwrite: bool, workers: int, as_json: bool,
) -> None:  # fmt: skip
    """Write the scores of RUN for every stock and day that can be scored, of its own panel or another."""
    from atft.launch.prediction import Wanted, predict_run

    wanted = Wanted(period, first.date() if first else None, last.date() if last else None)
    report = predict_run(
        run, data=data, wanted=wanted, out=out, overwrite=overwrite, workers=workers, quiet=as_json
    )  # fmt: skip
    _tell(as_json, report, report.pop("text"))


WORKERS = click.option("--workers", default="1,2,4", show_default=True, help="Numbers of workers, with commas.")
DTYPE = click.option("--dtype", type=click.Choice(["float64", "float32", "tier"]), default="float64", show_default=True,
                     help="What steps compute in; tier: the tier's precision.")  # fmt: skip


@cli.group()
def verify() -> None:
    """Check on this machine that workers, micro-batches and restarts change no number."""


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

    _judge(as_json, checks.exactness(tier_name, parse_flags(assignments), quiet=as_json, **options))


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

    _judge(as_json, checks.determinism(tier_name, parse_flags(assignments), quiet=as_json, **options))


@cli.command()
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
    _tell(as_json, {name: tier.model_dump(mode="json") for name, tier in found.items()}, "\n".join(lines))


def _judge(as_json: bool, report: dict[str, Any]) -> None:
    """Show the report of a check, and fail where it does; in JSON the report itself is the only object."""
    from atft.launch.verify import judge

    _tell(as_json, report, report["text"])
    if as_json and not report["passed"]:
        sys.exit(1)
    judge(report)


def _tell(as_json: bool, report: dict[str, Any], text: str) -> None:
    click.echo(
        json.dumps({key: value for key, value in report.items() if key != "text"}, default=str) if as_json else text
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit codes: 0 done, 1 the run failed, 2 wrong use or configuration."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(_guarded(lambda: cli.main(given, prog_name="atft", standalone_mode=False), given))


def _guarded(command: Callable[[], Any], given: list[str]) -> int:
    debug = "--debug" in given
    try:
        command()
        return 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as asked:
        asked.show()
        return 2
    except click.ClickException as error:
        _complain(_misuse(error), given)
        return 2
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted; a training run goes on from its last checkpoint with --run NAME --resume.", given)
        return 1
    except AtftError as error:
        if debug:
            traceback.print_exc()
        _complain(str(error), given)
        return error.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        _complain(f"unexpected {type(error).__name__}: {error} (atft --debug … shows where).", given)
        return 1


def _misuse(error: click.ClickException) -> str:
    """A wrong command line in the words of all other errors."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "atft"
    return f"{error.format_message()} Mend: `{command} --help` shows what it takes."


def _complain(message: str, given: list[str]) -> None:
    if "--json" in given:
        click.echo(json.dumps({"error": message}))
    click.echo(f"atft: {message}", err=True)


if __name__ == "__main__":
    main()
