"""What a run was made with, told without touching the checkout that it runs from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from atft.experiment.environment import code


def git(folder: Path, *command: str) -> None:
    given = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *command]
    subprocess.run(given, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "atft").mkdir()
    (tmp_path / "atft/one.py").write_text("one = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_checkout_is_told_by_its_commit_and_whether_files_differ(checkout: Path) -> None:
    told = code(checkout / "atft")
    assert len(told["commit"]) == 40
    assert told["dirty"] is False
    (checkout / "atft/one.py").write_text("one = 2\n")
    assert code(checkout / "atft")["dirty"] is True


def test_asking_takes_no_lock_and_leaves_the_index_as_it_is(checkout: Path) -> None:
    index = checkout / ".git/index"
    before = index.read_bytes()
    os.utime(checkout / "atft/one.py", (1, 1))  # what a plain `git status` would write into the index
    assert code(checkout / "atft")["dirty"] is False
    assert index.read_bytes() == before


def test_where_there_is_no_checkout_the_version_is_told(tmp_path: Path) -> None:
    told = code(tmp_path / "atft")
    assert (told["commit"], told["dirty"]) == (None, None)
    assert told["version"]
