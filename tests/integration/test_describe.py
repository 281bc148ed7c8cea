"""``atft data describe`` as a user meets it."""

from __future__ import annotations

from pathlib import Path
from xml.dom import minidom

import pytest

from tests.integration.command import refused, run, unchanged
from tests.unit.data.tables import bars, written


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return written(bars(days=90), tmp_path)


def test_a_table_is_described_in_words_in_json_and_in_a_picture(source: Path, tmp_path: Path) -> None:
    picture = tmp_path / "preview.svg"
    said = run("data", "describe", source, "--out", picture)
    assert (said.code, said.err) == (0, "")
    for part in (
        "12 stocks on 90 days",
        "year  stocks",
        "gaps:",
        "survivorship:",
        "doubles: none",
        f"preview: {picture}",
    ):
        assert part in said.out
    drawing = minidom.parse(str(picture))
    assert drawing.documentElement.getAttribute("xmlns") == "http://www.w3.org/2000/svg"
    assert "--chart-model: #" in picture.read_text()
    told = run("data", "describe", source, "--json").json
    assert (told["kind"], told["stocks"], told["preview"]) == ("source", 12, None)


def test_a_panel_is_described(source: Path, panel: Path) -> None:
    said = run("data", "describe", panel)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"panel {panel}: ")
    assert "420 days" in said.out


def test_what_cannot_be_described_is_refused(source: Path, panel: Path, tmp_path: Path) -> None:
    with unchanged(tmp_path):
        refused(run("data", "describe", tmp_path / "none.parquet"), "no such file", "Mend")
        refused(run("data", "describe", source, "--out", tmp_path / "p.png"), "is an SVG", "Mend")
        refused(run("data", "describe", source, "--out", tmp_path / "no/p.svg"), "cannot be written", "Mend")
        refused(run("data", "describe", panel, "--roles", source), "is a panel", "Mend")
