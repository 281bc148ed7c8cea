"""The page of a sweep: a picture with error bars, the reference marked, and no request to anywhere."""

from __future__ import annotations

import re
from typing import Any

import pytest

from atft.report import sweep


def row(value: Any, mean: float | None, point: str | None = None) -> dict[str, Any]:
    return {
        "point": point or f"batch-{value}", "value": value, "seeds": 3, "finished": 3 if mean is not None else 2,
        "states": {"done": 3} if mean is not None else {"done": 2, "stopped": 1}, "metric": "ic", "mean": mean,
        "error": None if mean is None else 0.01, "difference": None, "difference_error": None, "p_value": None,
        "p_value_holm": None, "best_epochs": [4, 6], "phase": "gat", "steps": 1450, "samples": 2969600,
        "seconds": 12.25,
    }  # fmt: skip


ROWS = [row(1024, 0.03), row(2048, -0.04), row(4096, None)]
TOLD = {"title": "Sweep <b>", "description": "d & d", "facts": ["f"], "rows": ROWS, "reference": "batch-1024",
        "verdict": ["Nothing."], "notes": ["n"]}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "log"),
    [([256, 512, 1024, 2048], True), ([1e-4, 2e-4, 3e-4, 4e-4], False), ([1e-5, 1e-4, 1e-3], True), ([1, 2], False),
     ([0, 10, 100], False)],
)  # fmt: skip
def test_the_axis_is_logarithmic_where_values_are_spaced_so(values: list[float], log: bool) -> None:
    assert sweep.evenly_in_logarithm(values) is log


def test_the_picture_shows_points_that_have_a_mean_and_says_them_aloud() -> None:
    svg = sweep.picture(ROWS, "batch-1024", variable="BATCH_SIZE", metric="ic")
    assert svg is not None
    assert "1024: 0.03 ± 0.01; 2048: -0.04 ± 0.01" in svg
    assert "4096" not in svg
    assert "var(--chart-ridge)" in svg  # the reference has a colour of its own
    assert sweep.picture(ROWS[:1], None, variable="x", metric="ic") is None


def test_page_markdown_and_lines_hold_the_same_table() -> None:
    page = sweep.page(TOLD, sweep.picture(ROWS, "batch-1024", variable="BATCH_SIZE", metric="ic"))
    text, lines = sweep.markdown(TOLD), sweep.lines(ROWS, "batch-1024")
    assert "Sweep &lt;b&gt;" in page
    assert not re.search(r"<(script|link|iframe)\b|src=|https?://(?!www\.w3\.org)", page)
    assert "**batch-1024** (reference)" in text
    assert lines[1].startswith("* batch-1024")
    for each in ("+0.0300", "2,969,600", "4..6", "1 stopped"):
        assert each in page.replace("−", "-")
        assert each in text
        assert each in "\n".join(lines)
