"""A report shows the runs of baselines that lie beside the run, where they stand on the same ground."""

import json
from pathlib import Path
from typing import Any

import pytest

from atft.report import html, material, tables

from .factory import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, three baselines on the same ground, and four that are none of its rivals."""
    runs = tmp_path_factory.mktemp("runs")
    make_run(runs / "tier1")
    for name in ("ridge", "lightgbm", "reversal"):
        make_baseline(runs, name)
    make_baseline(runs, "mlp", result={"data_sha256": "0" * 64})
    make_baseline(runs, "lstm", tier={"window": {"days": 10, "least_present": 5}})
    (runs / "baseline-empty").mkdir()
    (make_baseline(runs, "momentum") / "result.json").write_text("{")
    return runs


def make_baseline(runs: Path, name: str, *, result: dict[str, Any] | None = None, tier: Any = None) -> Path:
    path = make_run(runs / f"baseline-{name}-tier1-ab12", seed=len(name))
    for file, key, changes in (("result.json", None, {"baseline": {"name": name}} | (result or {})),
                               ("config.json", "tier", tier or {})):  # fmt: skip
        held = json.loads((path / file).read_text())
        (held if key is None else held[key]).update(changes)
        (path / file).write_text(json.dumps(held))
    return path


def test_rivals_on_the_same_ground_are_rows_of_the_comparison(runs: Path) -> None:
    run = material.load(runs / "tier1")
    assert [name for name, _ in run.beside] == ["lightgbm, seed 7", "ridge, penalty by validation"]
    rows = {row["name"]: row["cells"] for row in tables.comparison(run.result, run.beside)}
    held = json.loads((runs / "baseline-lightgbm-tier1-ab12" / "result.json").read_text())["test"]
    assert rows["lightgbm, seed 7"][0] == f"{held['sharpe_annual']:.2f}"
    assert rows["lightgbm, seed 7"][3] == f"{held['ic']:.4f}"
    assert len(rows) == 7


def test_a_baseline_does_not_stand_beside_itself(runs: Path) -> None:
    run = material.load(runs / "baseline-ridge-tier1-ab12")
    assert [name for name, _ in run.beside] == ["lightgbm, seed 7"]


def test_the_page_is_filled_with_the_rows(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html.charts, "all_of", lambda run: {})  # drawing takes seconds
    filled = html._page(material.load(runs / "tier1"))
    assert "ridge, penalty by validation" in [row["name"] for row in filled["comparison"]]
