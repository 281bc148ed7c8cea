"""What earlier versions wrote is still read: one of each is kept."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from atft.data.manifest import READS, SCHEMA_VERSION
from atft.data.panel import Panel
from atft.errors import UseError
from atft.evaluate import result
from atft.experiment import runs
from atft.train import checkpoint

KEPT = Path(__file__).resolve().parents[1] / "kept"


def unpacked(name: str, folder: Path) -> Path:
    for file, text in json.loads((KEPT / name).read_text()).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(base64.b64decode(text))
    return folder


@pytest.mark.parametrize("version", READS)
def test_a_panel_of_each_version_reads_to_the_same_data(version: int, tmp_path: Path) -> None:
    panel = Panel.open(unpacked(f"panel-{version}.json", tmp_path))
    panel.verify()
    assert panel.manifest.schema_version == version
    assert panel.codes == ["A", "B", "C"]
    assert panel.feature_names == ["own_x"]
    expected = 10.0 + np.arange(8)[:, None] + np.arange(3)
    assert np.array_equal(panel.close[:3], expected[:3])
    assert np.array_equal(panel.present, [[True, day != 3, True] for day in range(8)])
    assert np.array_equal(np.isfinite(panel.features(0, 8)[..., 0]), panel.present)
    assert panel.markets == [None] * 3
    assert panel.label is None


def test_the_version_that_is_written_is_kept() -> None:
    assert READS[-1] == SCHEMA_VERSION
    assert (KEPT / f"panel-{SCHEMA_VERSION}.json").exists()
    assert (KEPT / f"checkpoint-{checkpoint.VERSION}.json").exists()
    assert (KEPT / f"result-{result.SCHEMA_VERSION}.json").exists()


def test_a_checkpoint_and_its_weights_read(tmp_path: Path) -> None:
    unpacked("checkpoint-4.json", tmp_path)
    state = checkpoint.load_state(tmp_path / "last.pt")
    weights = checkpoint.load_weights(tmp_path / "best.safetensors")
    assert state["progress"] == {"step": 7, "phases": [{"name": "gat"}]}
    assert torch.equal(state["network"]["w"], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(weights["w"], state["network"]["w"])


def test_a_result_reads(tmp_path: Path) -> None:
    found = result.read(KEPT / "result-1.json")
    assert found.schema_version == 1
    assert [phase.name for phase in found.phases] == ["baseline", "adaptive_norm", "gat", "fine_tuning"]
    assert found.test.series is not None
    assert found.ensemble is None


def test_a_description_reads(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((KEPT / "config.json").read_bytes())
    assert runs.open_run(tmp_path).tier.model.hidden_size == 8


def test_a_version_of_the_future_is_refused_by_its_number(tmp_path: Path) -> None:
    unpacked("panel-2.json", tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 3}))
    with pytest.raises(UseError, match="schema version 3, this program reads 1 and 2"):
        Panel.open(tmp_path)
