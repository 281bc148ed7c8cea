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
@click.argument("place", metavar="SOURCE_OR_PANEL", type=click.Path(path_type=Path))
@click.option("--roles", type=click.Path(path_type=Path), help="YAML that names the columns of a table.")
@click.option("--out", type=click.Path(path_type=Path), help="SVG file for a picture of it.")
@JSON
def describe(place: Path, roles: Path | None, out: Path | None, as_json: bool) -> None:
    """Coverage, gaps, outliers, survivorship signs and doubles of a table or a panel."""
    from atft.launch.describe import describe_data

    report = describe_data(place, roles=roles, out=out)
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
@click.option("--tier", "tier_name", default="tier1", show_default=True, help="Tier that is read against them.")
@click.option("--only", help="Some of reversal,momentum,equal_weight,ridge,lightgbm,mlp,lstm; all without it.")
@click.option("--seeds", help="Seeds of those that draw something, with commas; the tier's own without it.")
@click.option(
    "--runs",
    "runs_root",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where runs lie.",
)
@SET
@JSON
def baselines(panel: Path, tier_name: str, assignments: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Make a run of each baseline on PANEL, under the label, split and training of a tier, and compare them."""
    from atft.experiment.tiers import parse_flags, resolve
    from atft.launch.baselines import run_baselines

    resolved = resolve(tier_name, flags=parse_flags(assignments))
    report = run_baselines(resolved, panel, quiet=as_json, command=["atft", *sys.argv[1:]], **options)
    _tell(as_json, report, report.pop("text"))


@cli.command()
@click.argument("tier_name", metavar="TIER")
@DATA
@SET
@JSON
def folds(tier_name: str, data: Path | None, assignments: tuple[str, ...], as_json: bool) -> None:
    """List the folds of TIER: dates, days, what purge and embargo leave out, and a timeline."""
    from atft.experiment.tiers import parse_flags
    from atft.launch.folds import list_folds

    report = list_folds(tier_name, parse_flags(assignments), data)
    _tell(as_json, report, report["text"])


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
@click.option("--fold", type=click.IntRange(min=0), help="Which fold of the tier's scheme to train; from 0.")
@click.option("--folds", type=click.Choice(["all"]), help="Train every fold of the tier's scheme, one after another.")
@SET
@JSON
def train(
    tier_name: str, data: Path | None, run_name: str | None, runs: Path, resume: bool, again: bool, workers: str,
    address: str | None, folds: str | None, assignments: tuple[str, ...], as_json: bool, **short: Any,
) -> None:  # fmt: skip
    """Train TIER through all its phases, evaluate it on the test period once, and write a report."""
    from atft.experiment.tiers import parse_flags
    from atft.launch.own_ray import early

    flags = parse_flags(assignments)
    names = {"batch_size": "BATCH_SIZE", "lr": "LR", "max_epochs": "max_epochs", "seed": "seed", "fold": "split.fold"}
    flags |= {names[name]: value for name, value in short.items() if value is not None}
    with early(workers, address):
        from atft.experiment.runs import check_free_name
        from atft.launch.folds import train_folds
        from atft.launch.local import train_run

        check_free_name(run_name)
        report = (train_folds if folds else train_run)(
            tier_name, flags, data, runs_root=runs, name=run_name, resume=resume, again=again, quiet=as_json,
            command=["atft", *sys.argv[1:]], workers=workers, address=address,
        )  # fmt: skip
    _tell(as_json, report, report.pop("text"))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--protocol", type=click.Choice(["rsr"]), help="Show its figures under a published protocol instead.")
@JSON
def evaluate(run: Path, protocol: str | None, as_json: bool) -> None:
    """Evaluate a trained RUN on its test period, if that has not been done; show what came out."""
    from atft.launch.local import evaluate_run
    from atft.launch.protocol import protocol_run

    report = evaluate_run(run, quiet=as_json)
    if protocol:
        report = protocol_run(run)
    _tell(as_json, report, report.pop("text"))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@DATA
@click.option("--strategy", type=click.Choice(["score", "quantile", "top-k", "equal-weight"]),
              help="One strategy in detail; a table of all without it.")  # fmt: skip
@click.option("--quantile", type=float, help="Share of the stocks on each side of quantile; 0.1 without it.")
@click.option("--k", type=int, help="Stocks of top-k; 50, or a tenth of the stocks where they are few.")
@click.option("--cost-bps", type=float, multiple=True, help="Cost of a unit traded, in basis points; may be repeated.")
@click.option("--impact", type=float, default=0.0, help="Coefficient of the square-root law of impact, near 1.")
@click.option("--capital", type=float, help="Money under management, in the unit of prices; needed by --impact.")
@click.option("--borrow-bps", type=float, default=0.0, help="A year on the value sold short, in basis points.")
@click.option("--neutralise", metavar="NAMES", default="", help="industry, size or features, with commas.")
@click.option("--neutralise-what", type=click.Choice(["scores", "positions"]), default="scores", show_default=True)
@click.option("--execution", type=click.Choice(["close", "open"]), help="Prices to trade at; both without it.")
@click.option("--lag", type=click.IntRange(min=0), help="Days to a close in place of the tier's execution_lag.")
@click.option("--drift/--no-drift", default=True, show_default=True, help="Weights move with prices between decisions.")
@click.option("--participation", type=float, default=0.05, show_default=True,
              help="Share of a stock's traded money that capacity is stated for.")  # fmt: skip
@click.option("--delisting-return", type=float, default=0.0, help="Of a stock that leaves, after its last price.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file for all figures and the daily returns.")
@JSON
def backtest(
    run: Path, data: Path | None, out: Path | None, neutralise: str, neutralise_what: str, as_json: bool, **options: Any
) -> None:
    """Trade the scores of RUN's test period by other strategies, at other costs and prices."""
    from atft.launch.backtest import Asked, backtest_run

    names = tuple(dict.fromkeys(name.strip() for name in neutralise.split(",") if name.strip()))
    asked = Asked(**options, neutralise=names, neutral_positions=neutralise_what == "positions")
    report = backtest_run(run, asked, data=data, out=out)
    _tell(as_json, report, report.pop("text"))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--difference", type=float, default=0.5, show_default=True, help="Of annual Sharpe ratios, to be seen.")
@click.option("--ic-difference", type=float, help="Of mean information coefficients, to be seen.")
@click.option("--against", type=click.Path(path_type=Path), metavar="RUN2", help="Compare with this run, day by day.")
@click.option("--common-days", is_flag=True, help="With --against: on the days that both runs have.")
@click.option("--level", type=float, default=0.05, show_default=True, help="Of the tests, two-sided.")
@click.option("--power", type=float, default=0.8, show_default=True, help="Chance to see what is there.")
@JSON
def power(run: Path, as_json: bool, **options: Any) -> None:
    """Days and seeds that it takes to see a difference, from what RUN has seen; --against tests two runs."""
    from atft.launch.inference import power_run

    report = power_run(run, **options)
    _tell(as_json, report, report.pop("text"))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@JSON
def trials(run: Path, as_json: bool) -> None:
    """Every evaluation of the test period of RUN, by any run, and what remains of each after the search among them."""
    from atft.launch.inference import trials_run

    report = trials_run(run)
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

    _judge(as_json, check(panel, quiet=as_json, **options))


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
