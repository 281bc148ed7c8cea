"""A trained run scores any panel of its features: every stock and day that can be scored, and nothing that cannot."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

import atft
from atft.config import Tier
from atft.data.build import build
from atft.data.manifest import sha256_of
from atft.data.panel import Panel, write_panel
from atft.data.roles import Roles
from atft.data.splits import decision_days
from atft.errors import UseError
from atft.evaluate import result
from atft.launch.local import SYNTHETIC_FEATURES
from atft.launch.prediction import NAME, Wanted, predict_run
from tests.integration.command import refused, run, unchanged
from tests.integration.test_bad_input import disk_with_room_for

Slice = Callable[..., Path]


def scores_in(path: Path) -> dict[tuple[dt.date, str], float]:
    """The rows of a file by (date, code)."""
    columns = pq.read_table(path).to_pydict()
    keys = list(zip(columns["date"], columns["code"]))
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, columns["score"]))


@pytest.fixture(scope="module")
def everything(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scores of all days of the run's own panel."""
    out = tmp_path_factory.mktemp("predictions") / "all.parquet"
    with unchanged(whole):
        predict_run(whole, out=out, quiet=True)
    return out


@pytest.fixture
def sliced(panel: Path, tmp_path: Path) -> Slice:
    """``sliced(first, last, features=…, …)``: a panel of some days of the market and some of its features."""

    def write(first: int = 0, last: int = 420, *, features: list[int] | None = None, backwards: bool = False,
              **manifest: Any) -> Path:  # fmt: skip
        opened, order = Panel.open(panel), slice(None, None, -1 if backwards else 1)
        kept = list(range(len(opened.feature_names))) if features is None else features
        entries = opened.manifest.features
        write_panel(
            tmp_path / "slice",
            days=opened.days[first:last],
            codes=opened.codes[order],
            industries=opened.industries[order],
            feature_names=[opened.feature_names[place] for place in kept],
            close=opened.close[first:last, order],
            features=np.ascontiguousarray(opened.features(first, last)[:, order][..., kept]),
            manifest_extra={
                "features": tuple(entries[place] for place in kept), "normalise": opened.manifest.normalise, **manifest
            },
        )  # fmt: skip
        return tmp_path / "slice"

    return write


def can_be_scored(panel: Panel, tier: Tier) -> set[tuple[dt.date, str]]:
    """Day and stock by day and stock, from the closes."""
    found = set()
    for day, stock in np.argwhere(np.isfinite(panel.close)):
        window = panel.close[max(0, day - tier.window.days + 1) : day + 1, stock]
        if np.isfinite(window).sum() >= tier.window.least_present:
            found.add((panel.days[day].item(), panel.codes[stock]))
    return found


def test_there_is_a_row_for_all_that_can_be_scored_and_for_nothing_else(
    everything: Path, panel: Path, tiny: Tier
) -> None:
    opened, found = Panel.open(panel), scores_in(everything)
    wanted = can_be_scored(opened, tiny)
    assert 0.5 * opened.close.size < len(wanted) < opened.close.size
    assert found.keys() == wanted
    assert np.isfinite(list(found.values())).all()
    newest = opened.days[-1].item()
    labelled = opened.days[decision_days(opened.days, tiny.split, tiny.label).test[-1]].item()
    assert newest > labelled
    assert max(found)[0] == newest, "the newest day has no label and needs none"


def test_the_file_is_typed_sorted_and_says_where_it_came_from(everything: Path, whole: Path, panel: Path) -> None:
    table = pq.read_table(everything)
    assert table.schema.names == ["date", "code", "score"]
    assert table.schema.types == [pa.date32(), pa.string(), pa.float64()]
    keys = list(zip(table["date"].to_pylist(), table["code"].to_pylist()))
    assert keys == sorted(keys)
    told = {name.decode(): value.decode() for name, value in pq.read_metadata(everything).metadata.items()}
    weights = "checkpoints/best-3-fine_tuning.safetensors"
    assert told.pop("ARROW:schema")
    assert told == {
        "run": "whole",
        "tier": "tiny",
        "config_sha256": result.read(whole / "result.json").config_sha256,
        "data_sha256": Panel.open(panel).sha256,
        "weights": weights,
        "weights_sha256": sha256_of(whole / weights),
        "atft_version": atft.__version__,
    }
    assert pl.read_parquet(everything).schema == {"date": pl.Date, "code": pl.String, "score": pl.Float64}


def mean_ic(scores: dict[tuple[dt.date, str], float], panel: Panel, days: np.ndarray) -> float:
    """Mean daily correlation with the next day's return, by scipy."""
    found = []
    for day in days:
        rows = [(scores.get((panel.days[day].item(), code)), panel.close[day + 1, stock] / panel.close[day, stock] - 1)
                for stock, code in enumerate(panel.codes)]  # fmt: skip
        one, other = zip(*((score, earned) for score, earned in rows if score is not None and np.isfinite(earned)))
        found.append(stats.pearsonr(one, other).statistic)
    return float(np.mean(found))


def test_scores_are_those_of_the_evaluation(everything: Path, whole: Path, panel: Path, tiny: Tier) -> None:
    assert (tiny.label.horizon, tiny.label.execution_lag) == (1, 0)
    opened = Panel.open(panel)
    found = mean_ic(scores_in(everything), opened, decision_days(opened.days, tiny.split, tiny.label).test)
    assert found == pytest.approx(result.read(whole / "result.json").test.ic, abs=1e-12)


def test_no_score_knows_the_future(everything: Path, whole: Path, market: Path, panel: Path, tmp_path: Path) -> None:
    """Later rows are taken out of the table, and whole stocks with them: not a bit changes before."""
    last = Panel.open(panel).days[100].item()
    pl.read_parquet(market / "market.parquet").filter(pl.col("date") <= last).write_parquet(tmp_path / "past.parquet")
    roles = Roles.read(market / "roles.yaml")
    build(tmp_path / "past.parquet", tmp_path / "past", roles, computed=SYNTHETIC_FEATURES)
    assert len(Panel.open(tmp_path / "past").codes) < len(Panel.open(panel).codes)
    predict_run(whole, data=tmp_path / "past", out=tmp_path / "past-scores.parquet", quiet=True)
    before = {key: score for key, score in scores_in(everything).items() if key[0] <= last}
    assert max(before)[0] == last
    assert scores_in(tmp_path / "past-scores.parquet") == before


def test_a_panel_of_recent_days_is_scored_without_the_periods_of_training(
    everything: Path, whole: Path, tiny: Tier, sliced: Slice, tmp_path: Path
) -> None:
    recent, out = sliced(first=340), tmp_path / "recent.parquet"
    days = Panel.open(recent).days
    assert days[0] > np.datetime64(tiny.split.train.last)
    predict_run(whole, data=recent, out=out, quiet=True)
    settled = days[tiny.graph.lookback_days].item()
    assert tiny.window.days < tiny.graph.lookback_days
    expected = {key: score for key, score in scores_in(everything).items() if key[0] >= settled}
    assert {key: score for key, score in scores_in(out).items() if key[0] >= settled} == expected
    with pytest.raises(UseError, match=r"--period test: the panel does not hold .* split\.train.* Mend: --period all"):
        predict_run(whole, data=recent, wanted=Wanted("test"), out=tmp_path / "no.parquet", quiet=True)


def test_rows_are_sorted_and_named_whatever_the_order_of_the_stocks_in_the_panel(
    everything: Path, whole: Path, sliced: Slice, tmp_path: Path
) -> None:
    predict_run(whole, data=sliced(last=60, backwards=True), out=tmp_path / "scores.parquet", quiet=True)
    found, known = scores_in(tmp_path / "scores.parquet"), scores_in(everything)
    assert list(found) == sorted(found) == list(known)[: len(found)]
    assert list(found.values()) == pytest.approx([known[key] for key in found], abs=1e-5)


@pytest.mark.parametrize("period", ["train", "validate", "test"])
def test_some_days_have_the_scores_that_they_have_among_all(
    period: str, everything: Path, whole: Path, panel: Path, tiny: Tier, tmp_path: Path
) -> None:
    opened = Panel.open(panel)
    numbers = getattr(decision_days(opened.days, tiny.split, tiny.label), period)
    first, last = (opened.days[numbers[place]].item() for place in (3, -4))
    wanted = Wanted(period, first, last + dt.timedelta(days=1 if last.weekday() == 4 else 0))  # Saturday is no day
    report = predict_run(whole, wanted=wanted, out=tmp_path / "some.parquet", quiet=True)
    expected = {key: score for key, score in scores_in(everything).items() if first <= key[0] <= last}
    assert scores_in(tmp_path / "some.parquet") == expected
    assert (report["first_day"], report["last_day"]) == (str(first), str(last))
    assert report["rows"] == len(expected)


def test_a_file_lies_in_the_run_and_is_replaced_when_asked(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path / "whole")
    day = Wanted(first=dt.date(2016, 8, 16))
    report = predict_run(tmp_path / "whole", wanted=day)
    assert report["predictions"] == str(tmp_path / "whole" / NAME)
    assert capsys.readouterr().err == "scores of 1 days …\n"
    (content,) = {(tmp_path / "whole" / NAME).read_bytes()}
    with unchanged(tmp_path):
        denied("exists already", "--overwrite", run=tmp_path / "whole", wanted=day)
        with disk_with_room_for(1_000):
            denied("cannot be written", "Nothing was left", run=tmp_path / "whole", wanted=day, overwrite=True)
    (tmp_path / "whole" / NAME).write_text("another")
    predict_run(tmp_path / "whole", wanted=day, overwrite=True, quiet=True)
    assert (tmp_path / "whole" / NAME).read_bytes() == content
    assert f"{report['rows']} scores of {report['stocks']} stocks on 1 days 2016-08-16..2016-08-16" in report["text"]


def denied(*told: str, run: Path, **given: Any) -> None:
    """Refused in one paragraph that holds all of ``told``."""
    with pytest.raises(UseError) as error:
        predict_run(run, quiet=True, **given)
    for each in (*told, "Mend"):
        assert each in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


DENIED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "bounds in the wrong order": (
        {"wanted": Wanted(first=dt.date(2016, 3, 1), last=dt.date(2016, 2, 1))},
        ("--from 2016-03-01 is after --to 2016-02-01",),
    ),
    "a start after the calendar": (
        {"wanted": Wanted(first=dt.date(2016, 8, 17))}, ("--from 2016-08-17", "420 days from 2015-01-02 to 2016-08-16"),
    ),
    "an end before the calendar": (
        {"wanted": Wanted(last=dt.date(2015, 1, 1))}, ("--to 2015-01-01", "420 days from 2015-01-02 to 2016-08-16"),
    ),
    "no day of the period": (
        {"wanted": Wanted("test", last=dt.date(2015, 12, 1))},
        ("--period test --to 2015-12-01 holds no day", "2015-01-07 to 2016-08-16"),
    ),
    "no day with enough history": (
        {"wanted": Wanted(last=dt.date(2015, 1, 6))}, ("--to 2015-01-06 holds no day", "least_present = 4"),
    ),
    "no worker": ({"workers": 0}, ("--workers 0", "from 1 to 417")),
    "more workers than days": (
        {"workers": 4, "wanted": Wanted(first=dt.date(2016, 8, 12))}, ("--workers 4 for 3 days", "from 1 to 3"),
    ),
    "no such panel": ({"data": Path("none")}, ("none: no such panel",)),
}  # fmt: skip


@pytest.mark.parametrize("what", DENIED)
def test_what_cannot_be_scored_is_refused_before_anything_is_written(what: str, whole: Path, tmp_path: Path) -> None:
    given, told = DENIED[what]
    with unchanged(tmp_path), unchanged(whole):
        denied(*told, run=whole, out=tmp_path / "scores.parquet", **given)


def test_a_place_for_the_file_that_cannot_be_is_refused(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with unchanged(tmp_path):
        denied(str(tmp_path), "is no file", run=whole, out=tmp_path)
        denied("is no file", run=whole, out=Path("/dev/null"), overwrite=True)
        for place in (tmp_path / "none", tmp_path / "file", Path("/proc")):
            denied(f"{place / 'x.parquet'}: cannot be written", "--out", run=whole, out=place / "x.parquet")


def test_a_run_that_is_not_there_or_not_trained_to_its_end_is_refused(
    stopped: Path, whole: Path, tmp_path: Path
) -> None:
    with unchanged(stopped.parent):
        denied("no run there", run=tmp_path / "none")
        denied("phase 1 of 4", "Mend: atft train tiny --runs", "--run part --resume", run=stopped)
    shutil.copytree(whole, tmp_path / "whole")
    weights = tmp_path / "whole/checkpoints/best-3-fine_tuning.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with unchanged(tmp_path):
        denied(str(weights), "the weights are damaged", run=tmp_path / "whole")


@pytest.mark.parametrize(
    ("features", "manifest", "told"),
    [
        ([0, 1, 2, *range(4, 17)], {}, "it lacks 'volatility_20'. Mend"),
        ([1, 0, *range(2, 17)], {}, "'return_1' is at place 2, not 1; 'return_5' is at place 1, not 2"),
        (None, {"normalise": "zscore"}, "normalised by zscore, not rank"),
    ],
)
def test_a_panel_of_other_features_is_refused(
    features: list[int] | None, manifest: dict[str, Any], told: str, sliced: Slice, whole: Path, tmp_path: Path
) -> None:
    other = sliced(last=60, features=features, **manifest)
    with unchanged(tmp_path):
        denied(str(other), told, run=whole, data=other, out=tmp_path / "scores.parquet")


@pytest.fixture
def moved(whole: Path, panel: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the run that was started on a panel of its own, and that panel."""
    shutil.copytree(whole, tmp_path / "run")
    config = tmp_path / "run/config.json"
    config.write_text(config.read_text().replace(str(panel.resolve()), str(tmp_path / "own")))
    return tmp_path / "run", Path(shutil.copytree(panel, tmp_path / "own"))


def test_of_a_panel_that_is_gone_the_manifest_is_enough(
    moved: tuple[Path, Path], panel: Path, sliced: Slice, tmp_path: Path
) -> None:
    run, own = moved
    config = run / "config.json"
    told = json.loads(config.read_text())
    assert told.pop("inputs")["normalise"] == "rank"
    config.write_text(json.dumps(told))  # as of a run that does not tell
    other, day, out = sliced(last=60), Wanted(last=dt.date(2015, 1, 7)), tmp_path / "scores.parquet"
    shutil.rmtree(own / "features")
    predict_run(run, data=other, wanted=day, out=out, quiet=True)
    shutil.rmtree(own)
    predict_run(run, data=panel, wanted=day, out=out, overwrite=True, quiet=True)
    with unchanged(tmp_path):
        denied(f"its panel {own} cannot be read", "no such panel", "manifest.json", run=run, data=other, overwrite=True)
        denied(str(own), "no such panel", run=run)
    shutil.copytree(other, own)
    with unchanged(tmp_path):
        denied(f"its panel {own} was replaced by other data", run=run)


def test_a_panel_that_was_built_again_under_its_name_is_scored(
    moved: tuple[Path, Path], everything: Path, sliced: Slice, tmp_path: Path
) -> None:
    run, own = moved
    shutil.rmtree(own)
    shutil.copytree(sliced(last=60), own)
    predict_run(run, out=tmp_path / "scores.parquet", quiet=True)
    assert scores_in(tmp_path / "scores.parquet").items() <= scores_in(everything).items()


def test_the_command_line_scores_a_run(whole: Path, everything: Path, panel: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    given = ("--data", panel, "--period", "test", "--from", "2016-08-15", "--to", "2016-08-16", "--workers", 1)
    done = run("predict", whole, *given, "--out", out, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["days"] == 1, "the label of the last day is not known"
    assert scores_in(out).items() <= scores_in(everything).items()
    with unchanged(tmp_path):
        refused(run("predict", whole, "--out", out), str(out), "--overwrite", "Mend")
        refused(run("predict", tmp_path / "none"), "no run there", "Mend")
        refused(run("predict", whole, "--period", "future"), "'future'", "--help")
        refused(run("predict", whole, "--from", "soon"), "'soon'", "--help")
    told = run("predict", whole, "--from", "2016-08-16", "--out", out, "--overwrite")
    assert (told.code, told.err) == (0, "scores of 1 days …\n")
    assert told.out.startswith(f"{out}: ")
