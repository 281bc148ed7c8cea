"""The scores of a finished run are traded by other strategies; what cannot be traded is refused in one paragraph."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from atft.config import Tier
from atft.data.panel import Panel, write_panel
from atft.evaluate import result
from atft.evaluate.portfolio import positions
from atft.experiment.runs import open_run
from atft.experiment.score_table import TEST_SCORES, read_test_scores
from atft.observe import events
from tests.integration.command import refused, run
from tests.unit.evaluate import money


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be written into."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def test_the_result_tells_of_the_strategies_and_the_report_shows_them(whole: Path) -> None:
    told = result.read(whole / "result.json").test
    kept = set(pq.read_table(whole / TEST_SCORES)["date"].to_pylist())
    assert len(kept) == told.days + told.days_left_out
    found = {(each.strategy, each.execution): each for each in told.strategies}
    assert {name for name, _ in found} == {"equal-weight", "score", "quantile 0.1", "top 5"}
    assert found["score", "close"].days == told.days
    page = (whole / "report.html").read_text()
    assert "Other strategies for the same scores" in page
    assert "quantile 0.1" in page


def test_a_table_of_all_strategies_costs_and_prices(copy: Path, tiny: Tier) -> None:
    told = run("backtest", copy, "--json").json
    opened = Panel.open(told["panel"])
    prices = {"close"} if opened.open_price is None else {"close", "open"}
    names = {"equal-weight", "score", "quantile 0.1", "top 5"}
    costs = {tiny.label.cost_bps, 5.0, 10.0, 20.0}
    combinations = {(each["strategy"], each["execution"], each["cost_bps"]) for each in told["backtests"]}
    assert combinations == {(name, at, bps) for name in names for at in prices for bps in costs}
    text = run("backtest", copy).out
    assert all(word in text for word in ("quantile 0.1", "over the market", "at 20 bp", "95 % interval"))


@pytest.mark.parametrize("at", ["close", "open"])
def test_figures_are_those_of_keeping_books_of_shares_and_cash(copy: Path, tiny: Tier, at: str, tmp_path: Path) -> None:
    out, label = tmp_path / "found.json", tiny.label
    flags = ("--strategy", "score", "--execution", at, "--cost-bps", 5, "--delisting-return", -0.5, "--out", out)
    assert run("backtest", copy, *flags).code == 0
    found = json.loads(out.read_text())["backtests"][0]
    opened = Panel.open(open_run(copy).panel)
    assert opened.open_price is not None
    assert opened.volume is not None
    scored = read_test_scores(copy, opened)
    days, targets = scored.days[: found["days"]], positions(scored.scores, np.isfinite(scored.scores))
    books = money.Market.of(opened.close, opened.open_price, opened.volume, opened.tradable)
    expected = money.run(
        books, targets.tolist(), days.tolist(), at=at, lag=label.execution_lag, horizon=label.horizon,
        delisting_return=-0.5, bps=5,
    )  # fmt: skip
    gross, turnover, cost = np.array(expected).T / label.horizon
    for name, series in (("gross", gross), ("turnover", turnover), ("net", gross - cost)):
        np.testing.assert_allclose(found["series"][name], series, rtol=0, atol=1e-10)
    assert found["blocked"] > 0
    assert found["stale"] > 0


def test_every_look_is_written_down(copy: Path) -> None:
    flags = ("--execution", "close", "--neutralise", "industry", "--cost-bps", 1, "--cost-bps", 2, "--lag", 1)
    told = run("backtest", copy, *flags, "--json").json["backtests"]
    look = events.latest(events.read(copy), "test_period_backtested", ("time",))[-1]
    names = [f"{strategy} close lag 1 scores neutral industry" for strategy in ("score", "quantile 0.1", "top 5")]
    assert [trial["variant"] for trial in look["trials"]] == names
    kept = [json.loads(file.read_text()) for file in (copy.parent / "_registry").rglob("*.json")]
    assert {each["variant"] for each in kept if each["kind"] == "backtest"} >= set(names)
    for trial, shown in zip(look["trials"], told[2::2]):
        assert trial["sharpe_daily"] * 252**0.5 == pytest.approx(shown["sharpe_annual"]["estimate"])
        assert trial["ic"] == pytest.approx(shown["ic"]["estimate"])


def test_what_the_evaluation_traded_is_no_further_trial(copy: Path) -> None:
    def kept() -> set[str]:
        return {file.name for file in (copy.parent / "_registry").rglob("*.json")}

    before = kept()
    run("backtest", copy, "--strategy", "score", "--execution", "close", "--json")
    assert kept() == before
    run("backtest", copy, "--strategy", "score", "--execution", "open", "--json")
    assert len(kept()) == len(before) + 1


def test_all_figures_and_daily_returns_go_to_a_file(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    told = run("backtest", copy, "--strategy", "top-k", "--k", 7, "--cost-bps", 3, "--out", out, "--json").json
    written = json.loads(out.read_text())["backtests"]
    assert [each["strategy"] for each in written] == ["top 7"] * len(told["backtests"])
    series = written[0]["series"]
    assert len(series["dates"]) == len(series["net"]) == written[0]["days"]
    assert np.mean(series["net"]) == pytest.approx(written[0]["mean_return_net"])
    assert {part["kind"] for part in written[0]["parts"]} == {"year", "quarter", "half", "volatility", "market"}


def test_one_strategy_is_told_in_detail(copy: Path) -> None:
    done = run("backtest", copy, "--strategy", "score", "--neutralise", "industry", "--borrow-bps", 100)
    assert done.code == 0, done
    for word in (
        "scores neutral to industry",
        "long side",
        "short side",
        "2016 Q2",
        "returns by month",
        "not as planned",
    ):
        assert word in done.out


def test_positions_neutral_to_industry_have_no_exposure_to_any(copy: Path) -> None:
    told = run("backtest", copy, "--neutralise", "industry", "--neutralise-what", "positions", "--json").json
    assert {each["strategy"] for each in told["backtests"]} == {"score", "quantile 0.1"}


def test_an_older_run_without_scores_is_told_how_to_make_them(copy: Path) -> None:
    kept = (copy / TEST_SCORES).read_bytes()
    (copy / TEST_SCORES).unlink()
    mend = f"atft predict {copy} --period test --out {copy / TEST_SCORES}"
    refused(run("backtest", copy), TEST_SCORES, f"Mend: {mend}.")
    assert run(*mend.split()[1:]).code == 0
    assert pq.read_table(copy / TEST_SCORES).equals(pq.read_table(io.BytesIO(kept)))
    assert run("backtest", copy).code == 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--k", 1000), ("k = 1000", "fewer scored stocks", "--k ")),
        (("--quantile", 0.5), ("quantile = 0.5 must be above 0 and below 0.5",)),
        (("--cost-bps", -1), ("cost-bps = -1 must be at least 0",)),
        (("--impact", 1), ("impact = 1", "--capital 1e7")),
        (("--neutralise", "colour"), ("neutralise 'colour'", "industry,size")),
        (("--neutralise-what", "positions"), ("neutral to what?",)),
        (("--strategy", "top-k", "--neutralise", "industry", "--neutralise-what", "positions"), ("long-only",)),
        (("--participation", 0), ("participation = 0 must be above 0",)),
        (("--delisting-return", -2), ("delisting return = -2 must be at least -1",)),
        (("--out", "/nowhere/at/all.json"), ("/nowhere/at/all.json", "--out FILE.json")),
        (("--execution", "noon"), ("close",)),
    ],
)
def test_what_cannot_be_traded_is_refused(copy: Path, flags: tuple[object, ...], told: tuple[str, ...]) -> None:
    refused(run("backtest", copy, *flags), *told)


def test_a_panel_without_opens_volumes_and_industries_is_refused_for_what_needs_them(
    copy: Path, panel: Path, tmp_path: Path
) -> None:
    opened = Panel.open(panel)
    write_panel(
        tmp_path / "bare", days=opened.days, codes=opened.codes, industries=[None] * len(opened.codes),
        feature_names=opened.feature_names, close=opened.close, features=opened.features(0, len(opened.days)),
        manifest_extra={"features": opened.manifest.features, "normalise": opened.manifest.normalise},
    )  # fmt: skip
    bare = ("--data", tmp_path / "bare")
    refused(run("backtest", copy, *bare), "scores of a panel with data of hash", "Mend: that panel")
    table = pq.read_table(copy / TEST_SCORES)
    told = table.schema.metadata | {b"data_sha256": Panel.open(tmp_path / "bare").sha256.encode()}
    pq.write_table(table.replace_schema_metadata(told), copy / TEST_SCORES)
    refused(run("backtest", copy, *bare, "--execution", "open"), "no opening prices", "--execution close")
    refused(run("backtest", copy, *bare, "--neutralise", "size"), "no volumes", "--neutralise industry")
    refused(run("backtest", copy, *bare, "--neutralise", "industry"), "industry of all 60 stocks is unknown")
    refused(run("backtest", copy, *bare, "--impact", 1, "--capital", 1e6), "traded money", "no --impact")
    assert run("backtest", copy, *bare).code == 0


@pytest.mark.parametrize("damage", [b"", b"no parquet at all"])
def test_damaged_scores_are_refused(copy: Path, damage: bytes) -> None:
    (copy / TEST_SCORES).write_bytes(damage)
    refused(run("backtest", copy), TEST_SCORES, "holds no scores", "--overwrite")
