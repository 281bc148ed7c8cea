"""Numbers of workers and addresses that make no sense: refused before anything is made."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.integration.command import refused, unchanged
from tests.integration.conftest import Train


@pytest.mark.parametrize(
    ("workers", "told"),
    [("5", "5 workers for an effective batch of 4 blocks"), ("4-1", "upside down"), ("0", "at least 1 worker"),
     ("two", "not a number"), ("1-9", "9 workers")],
)  # fmt: skip
def test_workers_that_make_no_sense_are_refused(workers: str, told: str, train: Train, tmp_path: Path) -> None:
    with unchanged(tmp_path):
        refused(train(tmp_path, "no", "--workers", workers), told, "Mend")


@pytest.mark.parametrize("there", ["127.0.0.1:9", "nowhere.invalid:6379", "6379", "127.0.0.1:99999"])
def test_an_address_that_does_not_answer_is_refused_at_once(there: str, train: Train, tmp_path: Path) -> None:
    began = time.monotonic()
    with unchanged(tmp_path):
        refused(train(tmp_path, "no", "--address", there), there, "Mend")
    assert time.monotonic() - began < 60
