"""The command line: its root, its exit codes, and the words for everything that goes wrong."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from atft import __version__
from atft.commands import (
    advise,
    before,
    compare,
    data,
    diff,
    ensemble,
    modes,
    results,
    runs,
    score,
    sweep,
    train,
    validate,
    verify,
    watch,
)  # fmt: skip
from atft.errors import AtftError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="atft")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Train models that rank stocks on a Sharpe ratio, exactly, and report what they are worth."""


for _command in (
    data.data, before.tiers, modes.modes, validate.validate, diff.diff, before.folds, before.baselines, verify.verify,
    advise.advise, train.train, sweep.sweep, ensemble.ensemble, watch.watch,
    results.evaluate, compare.compare, results.backtest, results.power, results.trials, results.report,
    results.predict, score.score, runs.runs,
):  # fmt: skip
    cli.add_command(_command)


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
