"""The page: complete, self-contained, readable, and honest about what is missing."""

import html as escaping
import json
import re
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from atft.errors import UseError
from atft.observe.events import EventLog
from atft.report import html, tables

from .factory import TIER, make_run

PIECES = ("config.json", "events.jsonl", "result.json")


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.in_cell:
            self.rows[-1][-1] += data

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(name))]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "tier1")


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return html.write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def held(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    return content


def test_the_made_up_result_follows_the_schema_of_result_json(run: Path) -> None:
    from atft.evaluate.result import Result

    Result.model_validate(held(run))


def test_the_page_needs_nothing_from_elsewhere_and_no_scripts(text: str, page: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert all(value.startswith("#") for name in ("href", "xlink:href", "src", "srcset") for value in page.values(name))
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", text))
    assert "@import" not in text
    assert "://" not in re.sub(r"<svg[^>]*>", "", text)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_ids_are_unique_and_every_reference_finds_its_own(text: str, page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for value in page.values("href")} | set(re.findall(r"url\(#([^)]*)\)", text))
    wanted |= {name for value in page.values("aria-labelledby") for name in value.split()}
    assert wanted <= set(ids)


def test_every_drawing_has_a_title_and_a_description(page: Page) -> None:
    drawings = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("aria-hidden") != "true"]
    assert len(drawings) >= 10
    assert all(attributes.get("role") == "img" and attributes.get("aria-labelledby") for attributes in drawings)


def test_the_verdict_comes_before_everything_else(run: Path, page: Page) -> None:
    sharpe = held(run)["test"]["sharpe_annual"]
    assert page.text.index(f"Test Sharpe {sharpe:.2f} a year") < page.text.index("Test period")


def test_the_table_holds_the_figures_of_the_result_beside_the_baselines(run: Path, page: Page) -> None:
    result = held(run)
    rows = {row[0].strip(): row[1:] for row in page.rows if row}
    for name, figures in (("model", result["test"]), ("ridge", result["baselines"]["ridge"])):
        cells = [cell.replace("−", "-") for cell in rows[name]]
        assert cells[0] == f"{figures['sharpe_annual']:.2f}"
        assert cells[1] == "{:.2f} to {:.2f}".format(*figures["sharpe_annual_ci95"])
        assert cells[3] == f"{figures['ic']:.4f}"
        assert cells[-1] == f"{-100 * figures['max_drawdown']:.1f} %"
    assert rows["equal weight"][3] == "–"
    assert rows["shuffled labels"][2] == "–"  # one shuffle's figure stands for nothing


def test_every_setting_is_listed_with_the_place_it_came_from(run: Path, page: Page) -> None:
    provenance = json.loads((run / "config.json").read_text())["provenance"]
    rows = {row[0]: row[1:] for row in page.rows if len(row) == 3}
    assert {name: row[1] for name, row in rows.items()} == provenance
    assert rows["batch.days"][0] == "16"
    assert rows["phases.gat.parts"][0] == "variable_selection, temporal, adaptive_norm, graph"


def test_a_group_that_was_set_as_a_whole_tells_where_its_values_came_from() -> None:
    rows = dict(tables.settings({"phases": {"gat": {"epochs": 8}}, "seed": 1}, {"phases.gat": "tier1.yaml"}))
    assert rows["phases"] == [("phases.gat.epochs", "8", "tier1.yaml")]
    assert rows["tier"] == [("seed", "1", "–")]


def test_steps_samples_parameters_waiting_and_hashes_are_shown(run: Path, page: Page) -> None:
    for wanted in ("1,613,442", "725", "739,812 stock-days", "bf16-mixed (asked: 16-mixed)", "5f2c" * 16, "a91e" * 16):
        assert wanted in page.text
    assert "3.9 %" in page.text  # 0.012 of 0.31 seconds


def variables(text: str, theme: str) -> dict[str, str]:
    pattern = {"light": r":root \{(.*?)\n\}", "dark": r':root\[data-theme="dark"\] \{(.*?)\n? \}'}[theme]
    block = re.search(pattern, text, re.DOTALL)
    assert block
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block[1]))


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_lines_stand_out_in_both_themes(text: str, theme: str) -> None:
    held = variables(text, theme)
    for name in ("ink", "soft", "chart-ink", "chart-muted"):
        assert contrast(held[name], held["card"]) >= 4.5, name
        assert contrast(held[name], held["page"]) >= 4.5, name
    for name in ("good", "bad", "plain"):
        assert contrast(held[name], held[f"{name}-back"]) >= 4.5, name
    for name in ("model", "ridge", "reversal", "equal", "second", "gain", "loss"):
        assert contrast(held[f"chart-{name}"], held["card"]) >= 3, name


def test_both_themes_give_every_colour_that_is_used(text: str) -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", text))
    assert used <= set(variables(text, "light"))
    assert used <= set(variables(text, "dark"))


def test_markup_in_a_runs_texts_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    run = make_run(tmp_path / "run", finished=False)
    (run / "config.json").write_text(json.dumps({"tier": {**TIER, "description": evil}, "provenance": {}}))
    with EventLog(run) as log:
        log.write("warning", text=evil)
        log.write("early_warning", rule="data-wait", since=7, text=evil)
    text = html.write_report(run).read_text()
    assert "<script" not in text
    assert text.count(escaping.escape(evil)) == 4  # over the run, among the settings, as a warning and an early one
    assert "Early warning at step 7: " in text


def test_an_unfinished_run_says_how_far_it_came(tmp_path: Path) -> None:
    page = Page(html.write_report(make_run(tmp_path / "run", finished=False)).read_text())
    assert "The run has not finished: step 425 of 725" in page.text
    assert "Training loss by epoch" in page.text
    assert "Test period" not in page.text


def test_a_step_repeated_after_a_resume_counts_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False)
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    samples = sum(step["samples"] for step in steps)
    with EventLog(run) as log:
        log.write("resumed", step=400)
        for step in steps[400:]:
            log.write("step", **{name: value for name, value in step.items() if name not in ("time", "kind")})
    page = Page(html.write_report(run).read_text())
    assert f"{samples:,} stock-days" in page.text
    assert "Resumed1 ×" in page.text.replace(" Resumed ", "Resumed")


@pytest.mark.parametrize(
    ("name", "left"), [("config.json", 100), ("events.jsonl", None), ("result.json", 1000), ("result.json", None)]
)
def test_any_missing_or_damaged_piece_gives_a_report_that_says_so(
    tmp_path: Path, run: Path, name: str, left: int | None
) -> None:
    for piece in PIECES:
        (tmp_path / piece).write_bytes((run / piece).read_bytes())
    if left is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes((run / name).read_bytes()[:left])
    assert f"{name} is {'damaged' if left else 'not there'}" in Page(html.write_report(tmp_path).read_text()).text


@pytest.mark.parametrize("held", ["[]", "{}", '{"test": 3, "phases": 4, "baselines": [], "tier": "x", "planted": 1}'])
def test_pieces_of_another_shape_give_a_report_all_the_same(tmp_path: Path, held: str) -> None:
    for piece in PIECES:
        (tmp_path / piece).write_text(held + "\n")
    assert "tier" in Page(html.write_report(tmp_path).read_text()).text


def test_figures_that_are_null_are_dashes(tmp_path: Path, run: Path) -> None:
    for piece in PIECES:
        (tmp_path / piece).write_bytes((run / piece).read_bytes())
    result = held(run)
    for place in (result["test"], result["batch_sharpe"], *result["baselines"].values()):
        place.update(dict.fromkeys(place))
    for phase in result["phases"]:
        for epoch in phase["epochs"]:
            epoch.update(dict.fromkeys(set(epoch) - {"epoch"}))
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "events.jsonl").unlink()
    text = Page(html.write_report(tmp_path).read_text()).text
    assert "None" not in text
    assert "nan" not in text.split("Settings")[0].replace("finance", "")


def test_a_directory_that_is_no_run_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UseError, match=r"not a run.*Mend"):
        html.write_report(tmp_path)
    with pytest.raises(UseError, match=r"no such run directory.*Mend"):
        html.write_report(tmp_path / "nowhere")


def test_a_place_that_cannot_be_written_is_a_users_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(UseError, match=r"cannot be written.*Mend"):
        html.write_report(tmp_path / "run", tmp_path / "nowhere" / "report.html")
    with pytest.raises(UseError, match=r"cannot be written.*Mend"):
        html.write_report(tmp_path / "run", tmp_path / "run")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["config.json", "run"]


def test_the_report_goes_where_it_is_asked_to(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert html.write_report(tmp_path, tmp_path / "a.html") == tmp_path / "a.html"
    assert (tmp_path / "a.html").stat().st_mode & 0o044


def test_heavy_libraries_load_only_when_a_report_is_made() -> None:
    code = (
        "import sys, atft.report.html, atft.report.verdict; "
        "sys.exit(str({'matplotlib', 'jinja2', 'torch', 'polars', 'scipy'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(
    ("given", "shown"), [("-0.5 to -.3", "−0.5 to −.3"), ("2017-01-03", "2017-01-03"), ("tier-2 a-1", "tier-2 a-1")]
)
def test_only_the_hyphen_of_a_negative_figure_becomes_a_minus_sign(given: str, shown: str) -> None:
    assert html.minus(given) == shown
