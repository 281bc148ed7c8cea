"""The command that compares runs."""

from __future__ import annotations

from pathlib import Path

import click

from atft.commands.options import JSON, tell


@click.command()
@click.argument("named", metavar="RUN RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--baseline", type=click.Path(path_type=Path), metavar="RUN",
              help="What the others are held against, with its other seeds; the first RUN without it.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it as FILE.html or FILE.md.")
@click.option("--common-days", is_flag=True, help="Pair the days that both have, where panels, days or labels differ.")
@click.option("--all-pairs", is_flag=True, help="Also every two configurations, corrected for their number.")
@click.option("--price-per-hour", type=float, help="Of one worker, in any currency; without it no money is told.")
@JSON
def compare(
    named: tuple[Path, ...], baseline: Path | None, out: Path | None, common_days: bool, all_pairs: bool,
    price_per_hour: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Hold runs against one another: paired by day, seeds of one recipe as one configuration, with intervals."""
    from atft.launch.compare import compare_runs

    report = compare_runs(
        named, baseline=baseline, out=out, common_days=common_days, all_pairs=all_pairs, price_per_hour=price_per_hour
    )
    tell(as_json, report, report["text"])
