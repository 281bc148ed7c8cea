"""Tables, Markdown and page of a comparison: complete, readable, self-contained, honest about what is missing."""

from __future__ import annotations

import copy
import datetime as dt
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atft.errors import UseError
from atft.experiment.tiers import resolve
from atft.report import compare_figures, compare_html, compare_tables
from atft.report.compare_curves import Curves, Line


def spread(mean: float, deviation: float | None = 0.1) -> dict[str, Any]:
    return {"mean": mean, "deviation": deviation, "seeds": 1 if deviation is None else 3}


def estimate(value: float, half: float) -> dict[str, Any]:
    return {
        "estimate": value, "low": value - half, "high": value + half, "error": half / 2, "p_value": 0.4,
        "p_value_holm": 0.8, "days": 250, "seeds": [3, 3], "paired_seeds": True, "knows_training": True,
        "method": "made up", "days_error": 0.04, "seeds_error": 0.03, "standing": "noise",
    }  # fmt: skip


def configuration(name: str, level: float) -> dict[str, Any]:
    batch = {"count": spread(20), "mean": spread(0.01), "std": spread(0.08), "min": spread(-0.2), "max": spread(0.178),
             "range": spread(0.378), "expected_std": spread(0.062), "ratio": spread(1.29), "ratio_error": spread(0.2),
             "expected_range": spread(0.23)}  # fmt: skip
    figures = {key: spread(level) for key, _, _ in compare_tables.PHASE_ROWS} | {"epochs": spread(5)}
    return {
        "name": name, "tier": name, "runs": [{"name": f"{name}-s1", "seed": 1, "state": "evaluated"}],
        "seeds": [1, 2, 3],
        "parameters": 1000 if name == "tier1" else 4000, "precision": ["bfloat16"], "mode": "safe", "batch": {},
        "steps": spread(72, 0), "samples": spread(73728, 0), "epochs": spread(9, 0), "devices": ["cpu"], "workers": [1],
        "threads": [2], "test": {key: spread(level) for key, _, _ in compare_tables.TEST_ROWS}, "test_days": 250,
        "sharpe_annual_interval": estimate(level, 0.5),
        "cost": {"seconds": spread(90), "worker_hours": spread(0.025), "stock_days_per_second": spread(812),
                 "money": None},
        "phases": {"baseline": {**figures, "seconds": spread(30), "batch_sharpe": batch}, "gat": dict(figures)},
    }  # fmt: skip


@pytest.fixture
def report() -> dict[str, Any]:
    tiers = [resolve(name).tier for name in ("tier1", "tier2")]
    held = {"first": "tier2", "second": "tier1", "standing": "noise", "causality": "2 learning variables differ.",
            "tests": {"sharpe_annual": estimate(0.03, 0.11), "ic": estimate(0.001, 0.002)}}  # fmt: skip
    return {
        "baseline": "tier1",
        "verdict": ["tier2 against tier1: not distinguishable: difference +0.03 ± 0.11", "Two <b>."],
        "configurations": [configuration("tier1", 0.779), configuration("tier2", 0.095)], "comparisons": [held],
        "pairs": [], "expectations": [], "settings": compare_tables.setting_rows(tiers),
    }  # fmt: skip


@pytest.fixture
def curves() -> Curves:
    random = np.random.default_rng(1)
    days = [dt.date(2017, 1, 2) + dt.timedelta(days=day) for day in range(60)]
    epochs = [{"epoch": n, "validation_sharpe": 0.1 * n} for n in (1, 2)]
    names = ["tier1", "tier2"]
    return Curves(
        names=names,
        epochs={"tier1": [[("baseline", epochs), ("gat", epochs)]], "tier2": [[("baseline", epochs[:1])]] * 2},
        batches={
            name: {"baseline": [(random.normal(0, 0.05, 30), 0.05)], "gat": [(np.array([]), None)]} for name in names
        },
        days=days,
        daily={name: Line(random.normal(0, 0.01, (count, 60))) for name, count in zip(names, (1, 2))},
    )


def cells(markdown: str, row: str) -> list[str]:
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_markdown_has_the_tables_of_the_original_analysis(report: dict[str, Any]) -> None:
    text = compare_tables.markdown(report)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert heads == [
        "tier2 against tier1", "Final results", "Configuration differences", "Differences, paired by day",
        "Training, phase by phase", "Phase 0: Baseline", "Phase 1: GAT", "Batch Sharpe", "Time and cost",
    ]  # fmt: skip
    assert cells(text, "Test Sharpe, a year") == ["0.78 ± 0.10", "0.10 ± 0.10", "+0.03 ± 0.11"]
    assert cells(text, "Parameters, counted") == ["1,000", "4,000", "× 4.00"]
    assert cells(text, "hidden size") == ["64", "256", "differs, learning"]
    assert cells(text, "weight of Sharpe") == ["1.0", "1.0", "same"]
    assert cells(text, "mode") == ["optimized", "safe", "differs, runtime only"]
    assert cells(text, "Baseline, tier2")[-4:] == ["0.378", "0.062", "1.29 ± 0.20", "0.230"]
    assert "The range grows with the number of batches" in text


def test_every_table_has_as_many_cells_in_each_row_as_in_its_head(report: dict[str, Any]) -> None:
    more = copy.deepcopy(report)
    more["configurations"].append(configuration("tier3", 0.2))
    more["pairs"] = report["comparisons"] * 3
    more["settings"] = compare_tables.setting_rows([resolve(n).tier for n in ("tier1", "tier2", "tier2-retry")])
    for told in (report, more):
        for table in [*compare_tables.all_of(told), compare_tables.progression(told)]:
            assert {len(row) for row in table.rows} == {len(table.head)}, table.title


def test_settings_that_differ_and_are_in_no_fixed_row_are_added() -> None:
    one, two = (
        resolve("tier1").tier,
        resolve("tier1", flags={"model.dropout": 0.3, "phases.gat.learning_rate": 1e-3}).tier,
    )
    rows = {row["name"]: row for row in compare_tables.setting_rows([one, two])}
    assert rows["model.dropout"] == {
        "name": "model.dropout",
        "values": ["0.1", "0.3"],
        "learned": True,
        "differs": True,
    }
    assert rows["learning rate"]["differs"]
    assert "seed" not in rows


def test_the_screen_shows_the_verdict_first_and_every_table(report: dict[str, Any]) -> None:
    lines = compare_tables.text(report).splitlines()
    assert lines[0] == "tier2 against tier1: not distinguishable: difference +0.03 ± 0.11"
    for title in ("Final results", "Configuration differences", "Differences, paired by day", "Batch Sharpe"):
        assert title in lines


def test_money_is_told_only_at_a_price(report: dict[str, Any]) -> None:
    assert "money" not in compare_tables.costs(report).head
    report["configurations"][0]["cost"]["money"] = spread(1.25)
    table = compare_tables.costs(report)
    assert table.head[-1] == "money"
    assert [row[-1] for row in table.rows] == ["1.25 ± 0.10", "–"]


def test_the_page_is_one_file_that_loads_nothing_and_escapes_what_it_is_told(
    report: dict[str, Any], curves: Curves, tmp_path: Path
) -> None:
    compare_html.write(tmp_path / "c.html", report, curves)
    text = (tmp_path / "c.html").read_text()
    assert not re.findall(r"<script|<link|<img|src=|@import|url\(http|href=\"http", text)
    assert "Two &lt;b&gt;." in text
    assert "difference +0.03\u00a0±\u00a00.11" in text
    for name in ("validation", "batches", "wealth", "differences"):
        assert f'id="figure-{name}"' in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert "#0102" not in text  # every stand-in colour has become one of the page's
    assert [path.name for path in tmp_path.iterdir()] == ["c.html"]


def test_a_picture_that_nothing_is_known_for_is_left_out(report: dict[str, Any], tmp_path: Path) -> None:
    assert set(compare_figures.all_of(Curves(["tier1", "tier2"])).values()) == {None}
    compare_html.write(tmp_path / "c.html", report, Curves(["tier1", "tier2"]))
    assert "figure-" not in (tmp_path / "c.html").read_text().split("</style>")[1]


def test_phases_are_as_long_on_the_axis_as_their_longest_run(curves: Curves) -> None:
    spans = compare_figures.spans(curves)
    assert [(span.name, span.first, span.last) for span in spans] == [("baseline", 1, 2), ("gat", 3, 4)]


def test_each_configuration_looks_its_own_way() -> None:
    looks = [compare_figures.look(place) for place in range(10)]
    assert len(set(looks)) == 10


def test_a_file_that_cannot_be_written_is_an_error_of_use(
    report: dict[str, Any], curves: Curves, tmp_path: Path
) -> None:
    with pytest.raises(UseError, match=r"nowhere is no directory.*Mend"):
        compare_html.write(tmp_path / "nowhere" / "c.html", report, curves)


def test_what_a_single_training_has_shown_is_not_painted_as_good_or_bad(report: dict[str, Any]) -> None:
    held = report["comparisons"][0]
    held["standing"] = "worse"
    assert compare_html.page(report, Curves([]))["badges"] == [("negative", "tier2: worse")]
    held["tests"]["sharpe_annual"]["knows_training"] = False
    assert compare_html.page(report, Curves([]))["badges"] == [("noise", "tier2: worse in one training")]
