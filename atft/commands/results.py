"""Commands for what a run came to."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from atft.commands.options import DATA, JSON, tell


@click.command()
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
    tell(as_json, report, report.pop("text"))


@click.command()
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
    tell(as_json, report, report.pop("text"))


@click.command()
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
    tell(as_json, report, report.pop("text"))


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@JSON
def trials(run: Path, as_json: bool) -> None:
    """Every evaluation of the test period of RUN, by any run, and what remains of each after the search among them."""
    from atft.launch.inference import trials_run

    report = trials_run(run)
    tell(as_json, report, report.pop("text"))


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="HTML file to write; report.html in the run without it.")
@JSON
def report(run: Path, out: Path | None, as_json: bool) -> None:
    """Write the HTML report of RUN."""
    from atft.launch.local import report_run

    path = report_run(run, out)
    tell(as_json, {"report": str(path)}, f"report: {path}")


@click.command()
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
    tell(as_json, report, report.pop("text"))
