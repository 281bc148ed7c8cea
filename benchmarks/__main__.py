"""Runs benchmarks: ``python -m benchmarks exact-step peers``, or ``all``; exits 1 where a bound is exceeded."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from atft.train.memory import keep_pages
from benchmarks.common import LEAST_ROUNDS, ROOT, Machine, Plan, Result, page, pinned, say, write

CASES = {
    "exact-step": "benchmarks.exact_step",
    "peers": "benchmarks.peers",
    "workers": "benchmarks.workers",
    "checkpoints": "benchmarks.checkpoints",
    "noise-scale": "benchmarks.noise_scale",
    "start": "benchmarks.start",
    "commands": "benchmarks.commands",
    "panel": "benchmarks.panel",
}
"""Module of each case, which has ``run(plan) -> Result``; loaded when it runs, with whatever it needs."""

RESULTS = ROOT / "docs" / "benchmarks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named cases, print and write what they found.

    Args:
        arguments: of the command line; those of this process by default.

    Returns:
        The exit code: 1 where a bound is exceeded and the run was not ``--quick``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    usable = tuple(sorted(os.sched_getaffinity(0)))
    threads = min(options.threads or (1 if options.quick else len(usable)), len(usable))
    plan = Plan(options.quick, 1 if options.quick else max(options.rounds, LEAST_ROUNDS), usable)
    folder = options.out or (None if options.quick else RESULTS)
    failed = False
    keep_pages()  # as a run in mode optimized does, for all ways of a case alike
    for case in list(CASES) if "all" in options.cases else options.cases:
        with pinned(usable[:threads], threads):
            machine = Machine.found(given)
            result: Result = import_module(CASES[case]).run(plan)
        print(page(result, machine), flush=True)
        if folder is not None:
            write(folder, case, result, machine)
        failed |= _tell(case, result, asserted=not plan.quick)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="+", choices=[*CASES, "all"], metavar="CASE", help=", ".join([*CASES, "all"]))
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that it runs: no bound is asserted")
    parser.add_argument("--rounds", type=int, default=7, help=f"interleaved rounds, at least {LEAST_ROUNDS}")
    parser.add_argument("--threads", type=int, help="tensor threads of a process alone; one for each core by default")
    parser.add_argument("--out", type=Path, help=f"where results go: {RESULTS.relative_to(ROOT)}, or nowhere if quick")
    return parser


def _tell(case: str, result: Result, *, asserted: bool) -> bool:
    """Whether a bound that is asserted does not hold; says which."""
    for bound in result.exceeded if asserted else []:
        row = bound.row()
        say(f"{case}: {row['what']} is {bound.measured:.4g}, and the bound is {row['bound']}")
    return asserted and bool(result.exceeded)


if __name__ == "__main__":
    sys.exit(main())
