"""Commands that make panels and tell what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from atft.commands.options import JSON, tell


@click.group()
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
    tell(as_json, report, f"{report['text']}\npanel: {report['panel']}")


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
    tell(as_json, report, report["text"])


@data.command()
@click.argument("place", metavar="SOURCE_OR_PANEL", type=click.Path(path_type=Path))
@click.option("--roles", type=click.Path(path_type=Path), help="YAML that names the columns of a table.")
@click.option("--out", type=click.Path(path_type=Path), help="SVG file for a picture of it.")
@JSON
def describe(place: Path, roles: Path | None, out: Path | None, as_json: bool) -> None:
    """Coverage, gaps, outliers, survivorship signs and doubles of a table or a panel."""
    from atft.launch.describe import describe_data

    report = describe_data(place, roles=roles, out=out)
    tell(as_json, report, report["text"])


@data.command()
@click.argument("panel", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--roles", type=click.Path(path_type=Path),
              help="The panel's roles with more markets, which begin on new days; else those of PANEL.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Refuse a table with any blemish instead of repairing and counting.")
@click.option("--most-bad", type=click.FloatRange(0, 1), default=0.01, show_default=True,
              help="Largest share of rows that may be blemished.")  # fmt: skip
@JSON
def append(panel: Path, source: Path, as_json: bool, **options: Any) -> None:
    """Bring PANEL up to the last day of SOURCE: the table it was built from, with new days at the end."""
    from atft.launch.local import append_panel

    report = append_panel(panel, source, quiet=as_json, **options)
    tell(as_json, report, report["text"])
