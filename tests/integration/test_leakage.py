"""``atft verify leakage``: every planted leak is named, by proof where there is a rebuild; nothing clean is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from atft.config import Tier
from atft.data import gather, labels, splits
from atft.data import graph as graphs
from atft.data.build import build
from atft.data.graph import TrailingGraph
from atft.data.leakage.pipeline import Pipeline
from atft.data.leakage.rebuild import read_source
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.data.sampler import BlockSampler
from atft.data.synth import SynthOptions, make_market
from atft.evaluate.leakage.finding import Finding
from atft.experiment.leak_path import Parts
from atft.experiment.leak_path import findings as path_findings
from atft.experiment.leak_rebuild import of_label
from atft.experiment.leakage import Asked, check, fitted_to
from atft.experiment.tiers import resolve
from atft.storage import Store
from tests import leaky_pipelines
from tests.integration.command import Outcome, refused, run
from tests.s3_server import served

BARS = ("date", "code", "open", "high", "low", "close", "volume", "industry")
HONEST = ("past", "from_high", "growth", "weekly", "surprise", "daily")
COMPUTED = ("return_1", "return_5", "volume_ratio_20")


def bars(seed: int, splits: bool = False, stocks: int = 60, days: int = 300) -> pl.DataFrame:
    """A market that nothing foretells; with ``splits``, prices as they were quoted and the splits beside them."""
    table = make_market(SynthOptions(stocks=stocks, days=days, seed=seed, ic=0)).table.select(BARS).sort("code", "date")
    if not splits:
        return table
    events = np.where(np.random.default_rng(seed).random(table.height) < 1.5 / days, 2.0, 1.0)
    later = pl.col("split").reverse().cum_prod().reverse().over("code") / pl.col("split")
    return table.with_columns(split=pl.Series(events)).with_columns(
        (pl.col(name) * later).alias(name) for name in ("open", "high", "low", "close")
    )


@dataclass(frozen=True)
class Case:
    """A panel that a pipeline made."""

    bars: Path
    table: Path
    panel: Path
    pipeline: str

    def verify(self, *more: object) -> Outcome:
        return run("verify", "leakage", self.panel, *more, "--json")

    def by_pipeline(self) -> Outcome:
        return self.verify("--source", self.bars, "--pipeline", f"tests.leaky_pipelines:{self.pipeline}")


def made(folder: Path, pipeline: str, table: pl.DataFrame) -> Case:
    folder.mkdir()
    case = Case(folder / "bars.parquet", folder / "table.parquet", folder / "panel", pipeline)
    table.write_parquet(case.bars)
    built = getattr(leaky_pipelines, pipeline)(table).drop("r")
    built.write_parquet(case.table)
    own = tuple(name for name in built.columns if name not in BARS)
    build(case.table, case.panel, Roles(features=own), computed=COMPUTED, most_bad=1.0)
    return case


def checked(case: Case, pipeline: bool = True) -> list[Finding]:
    """What is found with one cut, by the pipeline on its bars or on the table that it made."""
    panel = Panel.open(case.panel)
    function = Pipeline.load(f"tests.leaky_pipelines:{case.pipeline}") if pipeline else None
    asked = Asked(panel, fitted_to(resolve("tier1").tier, panel), case.bars if pipeline else case.table, None, function)
    return check(asked, lambda stage, part: None, cuts=(0.6,))


def named(found: list[Finding], proves: str) -> dict[str | None, set[str]]:
    """Offender → checks that name it, of those that prove, or of those that suspect."""
    names: dict[str | None, set[str]] = {}
    for each in found:
        if each.fails and each.proves == proves:
            names.setdefault(each.offender, set()).add(each.check)
    return names


PLANTED = {
    "whole_sample_maximum": ({"leaky"}, {"leaky": {"whole-sample scale", "whole-sample prices"}}),
    "centred_window": ({"leaky"}, {"leaky": {"returns to come", "shifted values"}}),
    "same_day_label": ({"leaky"}, {"leaky": {"returns to come"}}),
    "back_filled": ({"leaky"}, {"leaky": {"back-filled values"}}),
    "gaps_back_filled": ({"leaky"}, {"leaky": {"back-filled values"}}),
    "survivors": ({"universe", "daily"}, {"universe": {"survivorship"}}),
    "scaled_by_stock": ({"leaky"}, {"leaky": {"scaler"}}),
    "scaled_on_test_days": ({"leaky"}, {"leaky": {"scaler"}}),
    "adjusted_from_the_end": ({"adjustment", "leaky"}, {"leaky": {"adjustment"}}),
    "level_of_adjusted": ({"adjustment", "leaky"}, {"leaky": {"whole-sample prices"}}),
    "peers_of_all_time": ({"leaky"}, {}),
    "tomorrows_volume": ({"leaky"}, {"leaky": {"shifted values"}}),
}
"""What is proven by rebuilding and what statistics suspect, of each planted leak."""


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_proven_by_the_pipeline_and_suspected_by_statistics(name: str, tmp_path: Path) -> None:
    stocks = 150 if name == "survivors" else 60
    table = bars(11, splits=name in ("adjusted_from_the_end", "level_of_adjusted"), stocks=stocks)
    found = checked(made(tmp_path / "case", name, table))
    proven, suspected = PLANTED[name]
    assert named(found, "proof").keys() == proven
    assert named(found, "suspicion") == suspected
    assert all(each.mend for each in found if each.fails)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return made(tmp_path_factory.mktemp("honest") / "case", "honest", bars(11))


def test_an_honest_pipeline_is_clean_in_every_way_to_look_at_it(honest: Case) -> None:
    assert named(checked(honest, pipeline=False), "suspicion") == {}
    done = honest.by_pipeline()
    assert done.code == 0, done
    assert done.json["passed"]
    assert done.json["offenders"] == []
    checks = {row["check"]: row for row in done.json["findings"]}
    assert checks["pipeline rebuilt"]["finding"] == "clean"
    assert checks["features rebuilt"]["finding"] == "clean"
    assert f"{len(HONEST)} own features" in checks["whole-sample traces"]["evidence"]


def test_a_panel_alone_says_what_it_cannot_tell(honest: Case) -> None:
    found = {row["check"]: row for row in honest.verify().json["findings"]}
    for name in ("features rebuilt", "whole-sample traces", "graph in the panel"):
        assert found[name]["finding"] == "not checked"
        assert found[name]["evidence"].startswith("not checked, because ")


def test_the_text_tells_check_proof_finding_offender_evidence_and_mend(tmp_path: Path) -> None:
    case = made(tmp_path / "case", "whole_sample_maximum", bars(11))
    done = run("verify", "leakage", case.panel, "--source", case.table)
    assert done.code == 1
    head, body = done.out.split("evidence, and mend\n")
    assert head.splitlines()[-1].split() == ["check", "proves", "finding", "offender"]
    (line,) = [each for each in body.splitlines() if each.startswith("whole-sample scale")]
    assert line.split()[2:5] == ["suspicion", "SUSPECT", "leaky"]
    assert "1 offender in" in done.out
    assert done.err.splitlines()[-1].startswith("atft: leakage of ")
    assert "Mend: " in done.err
    accepted = run("verify", "leakage", case.panel, "--source", case.table, "--accept", "leaky", "--json")
    assert accepted.code == 0
    assert {row["offender"] for row in accepted.json["findings"] if row["accepted"]} == {"leaky"}


def test_pandas_pipelines_are_called_with_pandas(tmp_path: Path) -> None:
    table = bars(11)
    case = Case(tmp_path / "bars.parquet", tmp_path / "table.parquet", tmp_path / "panel", "with_pandas")
    table.write_parquet(case.bars)
    pl.from_pandas(leaky_pipelines.with_pandas(table.to_pandas())).write_parquet(case.table)
    build(case.table, case.panel, Roles(features=("past", "leaky")), computed=COMPUTED)
    assert named(checked(case), "proof").keys() == {"leaky"}


def test_wrong_use_is_refused(honest: Case, tmp_path: Path) -> None:
    pipeline = ("--pipeline", "tests.leaky_pipelines:raises")
    panel = honest.panel
    refused(run("verify", "leakage", panel, *pipeline), "--pipeline needs --source")
    refused(run("verify", "leakage", panel, "--source", honest.bars, *pipeline), "KeyError: 'no such thing'", "Mend:")
    refused(run("verify", "leakage", panel, "--accept", "nobody"), "--accept nobody", "label")
    refused(run("verify", "leakage", tmp_path / "none"), "no such panel")
    bars(12).write_parquet(tmp_path / "other.parquet")
    other = ("--source", tmp_path / "other.parquet", "--pipeline", "tests.leaky_pipelines:honest")
    refused(run("verify", "leakage", panel, *other), "is not what", "was built from")


def test_a_pipeline_that_throws_dice_is_not_checked(tmp_path: Path) -> None:
    done = checked(made(tmp_path / "case", "random", bars(11)))
    # Its table differs from call to call, so that it is the panel's in all that the source is known by: the bars.
    (found,) = [each for each in done if each.check == "pipeline rebuilt"]
    assert found.verdict == "not checked"
    assert "'dice'" in found.evidence


def test_a_panel_of_a_month_is_refused(tmp_path: Path) -> None:
    bars(11, days=30).filter(pl.col("date") < pl.lit("2015-02-10").str.to_date()).write_parquet(tmp_path / "t.parquet")
    build(tmp_path / "t.parquet", tmp_path / "panel", computed=("return_1",))
    refused(run("verify", "leakage", tmp_path / "panel"), "days are fewer than the 30", "Mend:")


@pytest.fixture(scope="module")
def tier(honest: Case) -> Tier:
    return fitted_to(resolve("tier1").tier, Panel.open(honest.panel))


Leaky = Callable[..., Any]


def ahead(panel: Panel, settings: Any, *, days: range) -> TrailingGraph:
    """The graph of the day after."""
    later = replace(panel, close=np.roll(panel.close, -1, axis=0), present=np.roll(panel.present, -1, axis=0))
    return graphs.trailing_graph(later, settings, days=days)


def early_labels(close: Any, horizon: int, lag: int) -> Any:
    """Labels that begin a day before their execution."""
    return np.vstack([np.full(close.shape[1], np.nan), labels.forward_returns(close, horizon, lag)[:-1]])


def kept_to_the_end(present: Any, window: Any) -> Any:
    """Only stocks that are there on the last day can be scored."""
    return gather.scorable_days(present, window) & present[-1]


def without_purge(days: Any, split: Any, label: Any) -> splits.Periods:
    found = splits.decision_days(days, split, label)
    return replace(found, train=np.append(found.train, found.validate[0]))


class LateSampler(BlockSampler):
    """Draws on the day after the block's first."""

    def _stocks(self, day: int, rng: np.random.Generator) -> Any:
        return super()._stocks(min(day + 1, len(self._scorable) - 1), rng)


@pytest.mark.parametrize(
    ("part", "leaky", "offender"),
    [
        ("graph", ahead, "graph"), ("labels", early_labels, "label"), ("scorable", kept_to_the_end, "universe"),
        ("periods", without_purge, "split"), ("sampler", LateSampler, "sampler"),
    ],
)  # fmt: skip
def test_a_part_of_the_data_path_that_leaks_is_proven(
    honest: Case, tier: Tier, part: str, leaky: Leaky, offender: str
) -> None:
    panel = Panel.open(honest.panel)
    shipped = list(path_findings(panel, tier, [100, 180], Parts(), 1))
    assert [each.verdict for each in shipped].count("clean") == 5
    found = list(path_findings(panel, tier, [100, 180], replace(Parts(), **{part: leaky}), 1))
    leaks = [each for each in found if each.fails]
    assert {each.offender for each in leaks} == {offender}
    assert all((each.verdict, each.proves) == ("leak", "proof") for each in leaks)


def test_periods_at_a_later_execution_are_no_leak(honest: Case, tier: Tier) -> None:
    later = tier.model_copy(update={"label": tier.label.model_copy(update={"execution_lag": 1})})
    found = path_findings(Panel.open(honest.panel), later, [100], Parts(), 1)
    assert [each.verdict for each in found if each.check == "periods"] == ["clean"]


def test_a_graph_that_lies_in_the_panel_and_knows_the_future_is_proven(tmp_path: Path) -> None:
    case = made(tmp_path / "case", "honest", bars(11))
    panel, tier = Panel.open(case.panel), resolve("tier1").tier
    tier = fitted_to(tier, panel)
    graphs.trailing_graph(panel, tier.graph)
    assert [each.verdict for each in path_findings(panel, tier, [100], Parts(), 1)].count("clean") == 6
    (folder,) = (case.panel / "graphs").iterdir()
    graphs._write(folder, ahead(panel, tier.graph, days=range(len(panel.days))))
    done = case.verify()
    assert done.code == 1
    assert done.json["offenders"] == ["graph"]


def test_a_planted_signal_is_no_leak_and_loses_its_worth_when_labels_are_shifted(market: Path, panel: Path) -> None:
    done = run("verify", "leakage", panel, "--source", market / "market.parquet", "--json")
    assert done.code == 0, done
    assert json.loads(done.out)["tier"] == "tier1"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_no_honest_market_is_accused(seed: int, tmp_path: Path) -> None:
    found = checked(made(tmp_path / "case", "honest", bars(200 + seed)))
    assert [each for each in found if each.fails] == []


def two_markets(folder: Path, seed: int = 11) -> Path:
    """Bars of two markets with holidays of their own."""
    number = pl.col("date").rank("dense") - 1
    south = pl.col("code") < pl.col("code").sort().get(pl.len() // 2)
    closed = pl.when(south).then(number % 7 == 3).otherwise(number % 11 == 5)
    table = bars(seed).with_columns(pl.when(south).then(pl.lit("south")).otherwise(pl.lit("north")).alias("market"))
    table.filter(~closed).write_parquet(folder / "bars.parquet")
    (folder / "roles.yaml").write_text(
        "features: [past]\nmarket: market\nlabel: {column: y, horizon: 2, execution_lag: 1}\nmarkets:\n"
        '  north: {timezone: America/New_York, close: "16:00"}\n  south: {timezone: Asia/Tokyo, close: "15:00"}\n'
    )
    return folder / "bars.parquet"


def built_of_two(folder: Path, pipeline: str) -> tuple[Path, Path]:
    source = two_markets(folder)
    getattr(leaky_pipelines, pipeline)(pl.read_parquet(source)).write_parquet(folder / "table.parquet")
    build(folder / "table.parquet", folder / "panel", Roles.read(folder / "roles.yaml"), computed=COMPUTED)
    return source, folder / "panel"


def rows(done: Outcome) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in done.json["findings"]:
        found.setdefault(row["check"], []).append(row)
    return found


def test_several_markets_and_their_own_label_are_checked_by_rebuilding(tmp_path: Path) -> None:
    source, panel = built_of_two(tmp_path, "labelled")
    done = run("verify", "leakage", panel, "--source", source, "--pipeline", "tests.leaky_pipelines:labelled", "--json")
    found = rows(done)
    assert done.json["offenders"] == [], done
    (features,) = found["features rebuilt"]
    assert features["finding"] == "clean"
    assert f"{len(COMPUTED)} computed features" in features["evidence"]
    (pipeline,) = found["pipeline rebuilt"]
    assert "and the own label where it had ended, do not change" in pipeline["evidence"]
    (label,) = found["own label"]
    assert label["finding"] == "clean"
    again = rows(run("verify", "leakage", panel, "--source", tmp_path / "table.parquet", "--json"))
    stored, end = again["own label"]
    assert (stored["finding"], end["finding"]) == ("clean", "not checked")
    assert "that a label ends 1 + 2 trading days of its market after its day" in end["evidence"]


def test_a_label_that_ends_later_than_its_roles_say_is_proven(tmp_path: Path) -> None:
    source, panel = built_of_two(tmp_path, "labelled_too_far")
    done = run(
        "verify", "leakage", panel, "--source", source, "--pipeline", "tests.leaky_pipelines:labelled_too_far", "--json"
    )
    assert done.json["offenders"] == ["label"]
    (row,) = [each for each in done.json["findings"] if each["offender"] == "label"]
    assert (row["check"], row["finding"]) == ("pipeline rebuilt", "leak")
    assert "the purge between periods goes by them" in row["mend"]


def test_a_label_of_the_panel_that_is_not_its_sources_is_named(tmp_path: Path) -> None:
    _, place = built_of_two(tmp_path, "labelled")
    panel = Panel.open(place)
    checked_source = read_source(tmp_path / "table.parquet", panel.manifest.roles, panel)
    assert [each.verdict for each in of_label(panel, checked_source, by_pipeline=True)] == ["clean"]
    changed = np.array(panel.label)
    day, stock = np.argwhere(np.isfinite(changed))[1000]
    changed[day, stock] += 1e-9
    (found,) = of_label(replace(panel, label=changed), checked_source, by_pipeline=True)
    assert (found.verdict, found.offender) == ("leak", "label")
    assert f"on {panel.days[day]} for {panel.codes[stock]!r} (1 in all)" in found.evidence


def test_a_source_in_an_object_store_is_the_same_source(tmp_path: Path) -> None:
    source, panel = built_of_two(tmp_path, "labelled")
    (tmp_path / "s3").mkdir()
    with served(tmp_path / "s3"):
        store = Store("s3://bucket/tables")
        store.upload(source, "bars.parquet")
        store.upload(tmp_path / "table.parquet", "table.parquet")
        by_pipeline = run(
            "verify", "leakage", panel, "--source", "s3://bucket/tables/bars.parquet",
            "--pipeline", "tests.leaky_pipelines:labelled", "--json",
        )  # fmt: skip
        told = run("verify", "leakage", panel, "--source", "s3://bucket/tables/table.parquet", "--json")
        refused(run("verify", "leakage", panel, "--source", "s3://bucket/none"), "s3://bucket/none: holds no Parquet")
    assert by_pipeline.code == told.code == 0, (by_pipeline, told)
    assert told.json["source"] == "s3://bucket/tables/table.parquet"
    for done in (by_pipeline, told):
        assert {row["finding"] for row in rows(done)["features rebuilt"]} == {"clean"}
