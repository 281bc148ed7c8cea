"""Checkpoints are whole or absent, and damage is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from atft.errors import UseError
from atft.train.checkpoint import load_state, load_weights, save_state, save_weights, write_atomically


def test_state_reads_back_as_written(tmp_path: Path) -> None:
    state = {"network": {"w": torch.randn(3)}, "progress": {"step": 4, "phases": [{"name": "a"}]}, "none": None}
    save_state(tmp_path / "a" / "last.pt", state)
    found = load_state(tmp_path / "a" / "last.pt")
    assert torch.equal(found["network"]["w"], state["network"]["w"])  # type: ignore[index]
    assert found["progress"] == state["progress"]


def test_weights_read_back_bitwise(tmp_path: Path) -> None:
    weights = {"a": torch.randn(4, 3).t(), "b": torch.randn(2, dtype=torch.float64)}
    save_weights(tmp_path / "w.safetensors", weights)
    assert all(torch.equal(weights[name], value) for name, value in load_weights(tmp_path / "w.safetensors").items())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"step": 1})

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UseError, match="No space left on device"):
        write_atomically(path, fail)
    assert load_state(path)["step"] == 1
    assert os.listdir(tmp_path) == ["last.pt"]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    with pytest.raises(UseError, match="cannot be written"):
        write_atomically(tmp_path / "x", lambda _: Path("/dev/full").write_bytes(b"0" * 100_000))


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"w": torch.randn(1000)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UseError, match="damaged"):
        load_state(path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.system, ("touch " + str(tmp_path / "ran"),))

    torch.save({"version": 1, "x": Evil()}, tmp_path / "last.pt")
    with pytest.raises(UseError, match="damaged"):
        load_state(tmp_path / "last.pt")
    assert not (tmp_path / "ran").exists()


def test_missing_and_foreign_versions_are_told(tmp_path: Path) -> None:
    with pytest.raises(UseError, match="no checkpoint"):
        load_state(tmp_path / "last.pt")
    torch.save({"version": 99}, tmp_path / "last.pt")
    with pytest.raises(UseError, match="version 99"):
        load_state(tmp_path / "last.pt")
    with pytest.raises(UseError, match="no such weights"):
        load_weights(tmp_path / "w.safetensors")
