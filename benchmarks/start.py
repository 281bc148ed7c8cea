"""From the command to the first optimizer step: in one process, and with two workers under a Ray of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from atft.errors import RunError
from atft.launch.local import synthesize
from atft.observe import events
from benchmarks.common import ROOT, Bound, Plan, Result, Row

MOST_SECONDS = 20.0
"""Bound of the design: seconds to the first step with Ray, on a machine of two cores."""
PATIENCE = 300.0

ABOUT = """\
`atft train quickstart` as a user types it, on the synthetic market of 300 stocks × 750 days, in a process of its own
that is stopped after its first step. The clock runs from the command to the time in the first step's event: loading of
modules, checks, the graph (read, since an earlier command left it beside the panel), with Ray also its start and that
of its workers."""


def run(plan: Plan) -> Result:
    """Seconds to the first step; ``quick`` starts no Ray."""
    rounds = 1 if plan.quick else 3
    with tempfile.TemporaryDirectory() as folder:
        synthesize(Path(folder) / "market", {})
        panel = Path(folder) / "market/panel"
        _seconds(plan, panel, Path(folder), "warm", 1)
        alone = [_seconds(plan, panel, Path(folder), f"alone{each}", 1) for each in range(rounds)]
        ray = [] if plan.quick else [_seconds(plan, panel, Path(folder), f"ray{each}", 2) for each in range(rounds)]
    rows: list[Row] = [_row("one process", alone)]
    bounds = [Bound("seconds to the first step, one process", min(alone), MOST_SECONDS)]
    if ray:
        rows.append(_row("two workers under Ray", ray))
        bounds.append(Bound("seconds to the first step, two workers under Ray", min(ray), MOST_SECONDS))
    return Result("Start to first step", ABOUT, {"Seconds": rows}, bounds)


def _row(way: str, seconds: list[float]) -> Row:
    return {"way": way, "least s": min(seconds), "median s": median(seconds), "most s": max(seconds)}


def _seconds(plan: Plan, panel: Path, runs: Path, name: str, workers: int) -> float:
    command = [sys.executable, "-m", "atft", "train", "quickstart", "--data", str(panel), "--runs", str(runs), "--run",
               name, "--workers", str(workers)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.time()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, plan.cores),  # all of them, as a user has
    )  # fmt: skip
    try:
        while time.time() - began < PATIENCE and process.poll() is None:
            time.sleep(0.05)
            log = runs / name / "events.jsonl"
            steps = events.steps(log) if log.exists() else []
            if steps:
                return float(steps[0]["time"]) - began
        raise RunError(f"no first step within {PATIENCE:g} s: exit code {process.poll()}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
