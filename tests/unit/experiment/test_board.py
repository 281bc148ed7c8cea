"""The board: verdicts on expectations, cells that cannot break the table, and processes that live or do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from atft.experiment.board import page, verdict
from atft.experiment.environment import is_alive, process
from atft.experiment.listing import Listed

EXPECTED = {"metric": "ic", "low": 0.02, "high": 0.06, "target": 0.05, "source": "a plan"}


@pytest.mark.parametrize(
    ("value", "interval", "told"),
    [
        (0.04, [0.03, 0.045], "met; target not reached (0.040)"),
        (0.055, [0.051, 0.059], "met; target reached (0.055)"),
        (0.01, [0.0, 0.015], "missed, below; target not reached (0.010)"),
        (0.09, [0.07, 0.11], "missed, above; target reached (0.090)"),
        (0.04, [0.0, 0.08], "undecidable; target undecidable (0.040)"),
        (0.04, None, "undecidable (0.040, no interval)"),
        (0.0, None, "undecidable (0.000, no interval)"),
        (None, None, None),
    ],
)
def test_an_expectation_is_held_against_the_interval(value: float | None, interval: Any, told: str | None) -> None:
    assert verdict({"expectation": EXPECTED, "ic": value, "ic_ci95": interval}) == told


def test_no_text_of_a_run_can_break_the_table() -> None:
    facts = {"tier": "t", "reason": "a | b\n<script>", "by_hand": {"x": {"value": "|", "source": "flag --set x"}}}
    text = page([Listed("one", "failed", "failed", None, facts, True)], [])
    (row,) = [line for line in text.splitlines() if line.startswith("| one")]
    assert row.replace("\\|", "").count("|") == 11
    assert "<script>" not in text


def test_a_process_is_known_to_live_until_it_ends_and_its_number_alone_proves_nothing() -> None:
    assert is_alive(process()) is True
    assert is_alive(process() | {"started": 1}) is False
    assert is_alive(process() | {"boot": "another"}) is None
    assert is_alive({}) is None
    code = "from atft.experiment.environment import process; import json; print(json.dumps(process())); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ), text=True
    )
    assert other.stdout is not None
    told = json.loads(other.stdout.readline())
    assert told["pid"] == other.pid
    assert is_alive(told) is True
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet taken off the list of processes
    assert is_alive(told) is False
    other.communicate()
    assert is_alive(told) is False
