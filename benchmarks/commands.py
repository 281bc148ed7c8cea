"""What the command line takes before it does anything: its help, and the checklist of a tier beyond loading torch."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

from benchmarks.common import ROOT, Bound, Plan, Result, Timing, interleaved

HELP_SECONDS = 0.3
VALIDATE_SECONDS = 2.0

ABOUT = """\
Each line is a process of its own, taken in turns with the others.
`atft validate tier2-retry` is held against a Python that loads torch and nothing else."""

WAYS = {
    "python, nothing": ("-c", "pass"),
    "python, torch": ("-c", "import torch"),
    "atft --help": ("-m", "atft", "--help"),
    "atft validate tier2-retry": ("-m", "atft", "validate", "tier2-retry"),
}


def run(plan: Plan) -> Result:
    """Seconds of each way, and the two bounds."""
    found = interleaved({name: partial(_run, *given) for name, given in WAYS.items()}, plan.rounds)
    beyond = found["atft validate tier2-retry"].minimum - found["python, torch"].minimum
    bounds = [
        Bound("seconds of atft --help", found["atft --help"].minimum, HELP_SECONDS),
        Bound("seconds of atft validate, beyond importing torch", beyond, VALIDATE_SECONDS),
    ]
    return Result(
        "Commands before a run", ABOUT, {"Seconds": [_row(name, each) for name, each in found.items()]}, bounds
    )


def _row(name: str, timing: Timing) -> dict[str, str | int | float]:
    return {"way": name, "min s": timing.minimum, "median s": timing.median, "rounds": len(timing.seconds)}


def _run(*given: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *given], env=environment, stdout=subprocess.DEVNULL, check=True)
