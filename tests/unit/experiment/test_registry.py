"""The registry of evaluations: nothing is lost, nothing counts twice, and what is damaged is named."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atft.config import Tier
from atft.errors import UseError
from atft.experiment.registry import Evaluation, Registry, dates_sha256, evaluation_of, recipe_sha256
from atft.experiment.tiers import resolve
from atft.storage import Store

PANEL, OTHER = "a" * 64, "b" * 64
DATES = np.arange("2017-01-02", "2017-03-01", dtype="datetime64[D]")


@pytest.fixture(scope="module")
def tier() -> Tier:
    return resolve("quickstart").tier


def look(tier: Tier, run: str = "first", *, panel: str = PANEL, seed: int | None = None, **more: Any) -> Evaluation:
    told = {"kind": "network", "variant": "score-weighted", "days": 58, "sharpe_daily": 0.1, "ic": 0.02} | more
    of = tier if seed is None else tier.model_copy(update={"seed": seed})
    return evaluation_of(run, of, panel, DATES, **told)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(Store(tmp_path / "_registry"))


def test_an_empty_place_knows_of_no_trial(registry: Registry, tmp_path: Path) -> None:
    found = registry.trials(PANEL, dates_sha256(DATES))
    assert (found.trials, found.looks, found.elsewhere) == ((), 0, 0)
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_is_read_back(registry: Registry, tier: Tier) -> None:
    first, second = look(tier, seed=1), look(tier, "second", seed=2, sharpe_daily=float("nan"), ic=None)
    for each in (first, second):
        registry.record(each)
    found = registry.trials(PANEL, dates_sha256(DATES))
    assert found.trials == (first, second)
    assert (found.search.trials, found.search.sharpes) == (2, [0.1])
    assert first.recipe_sha256 == second.recipe_sha256 == recipe_sha256(tier)
    assert first.config_sha256 != second.config_sha256
    assert {seed: each.run for seed, each in found.over_seeds(first.recipe_sha256).items()} == {1: "first", 2: "second"}


def test_the_same_outcome_is_one_trial_whoever_looks_and_however_often(registry: Registry, tier: Tier) -> None:
    for run in ("first", "first", "again"):
        registry.record(look(tier, run))
    found = registry.trials(PANEL, dates_sha256(DATES))
    assert (len(found.trials), found.looks) == (1, 2)
    assert found.trials[0].run == "first"


@pytest.mark.parametrize(
    "more",
    [{"sharpe_daily": 0.11}, {"ic": 0.03}, {"days": 57}, {"kind": "backtest"}, {"variant": "top-50"}, {"seed": 9}],
)
def test_whatever_differs_in_what_was_looked_at_is_another_trial(
    registry: Registry, tier: Tier, more: dict[str, Any]
) -> None:
    registry.record(look(tier))
    registry.record(look(tier, **more))
    assert len(registry.trials(PANEL, dates_sha256(DATES)).trials) == 2


def test_a_baseline_is_a_yardstick_and_no_trial(registry: Registry, tier: Tier) -> None:
    registry.record(look(tier, kind="baseline", variant="ridge"))
    found = registry.trials(PANEL, dates_sha256(DATES))
    assert (len(found.trials), found.looks) == (0, 0)


def test_panels_and_test_periods_are_counted_apart_and_dates_on_other_panels_told(
    registry: Registry, tier: Tier
) -> None:
    registry.record(look(tier))
    registry.record(look(tier, panel=OTHER))
    registry.record(look(tier, panel=OTHER, sharpe_daily=0.2))
    assert dates_sha256(DATES) != dates_sha256(DATES[:-1])
    here, there = (registry.trials(panel, dates_sha256(DATES)) for panel in (PANEL, OTHER))
    assert (len(here.trials), here.elsewhere) == (1, 2)
    assert (len(there.trials), there.elsewhere) == (2, 1)


@pytest.mark.parametrize(
    ("first", "last", "counted"),
    [
        ("2017-01-03", "2017-06-01", True),
        ("2016-01-01", "2017-01-03", True),
        ("2017-01-20", "2017-02-01", True),
        ("2016-01-01", "2018-01-01", True),
        ("2017-02-28", "2017-03-09", True),
        ("2017-03-01", "2017-06-01", False),
        ("2016-01-01", "2017-01-02", False),
    ],
)
def test_other_test_periods_are_told_where_their_dates_overlap(
    registry: Registry, tier: Tier, first: str, last: str, counted: bool
) -> None:
    registry.record(look(tier))
    dates = np.arange(first, last, dtype="datetime64[D]")
    for kind, ratio in (("network", 0.2), ("backtest", 0.3), ("baseline", 0.4)):
        registry.record(
            evaluation_of("x", tier, PANEL, dates, kind=kind, variant="v", days=9, sharpe_daily=ratio, ic=0)
        )
    found = registry.trials(PANEL, dates_sha256(DATES))
    assert (len(found.trials), found.search.sharpes, found.elsewhere) == (1, [0.1], 2 if counted else 0)
    assert found.search.elsewhere == found.elsewhere
    other = registry.trials(PANEL, dates_sha256(dates))
    assert (len(other.trials), other.elsewhere) == (2, 1 if counted else 0)


def test_overlapping_periods_are_known_of_a_period_that_nobody_looked_at_yet(
    registry: Registry, tier: Tier, tmp_path: Path
) -> None:
    registry.record(look(tier))
    later = dates_sha256(DATES[1:])
    assert registry.trials(PANEL, later, (DATES[1].item(), DATES[-1].item())).elsewhere == 1
    (file,) = tmp_path.rglob("*.json")
    file.write_text("{")
    with pytest.raises(UseError, match="Mend"):
        registry.trials(PANEL, later, (DATES[1].item(), DATES[-1].item()))


def test_the_last_digits_of_another_machine_make_no_other_trial(registry: Registry, tier: Tier) -> None:
    registry.record(look(tier, sharpe_daily=0.1234567891, ic=0.02))
    registry.record(look(tier, "there", sharpe_daily=0.12345678914, ic=0.02 + 1e-13))
    assert len(registry.trials(PANEL, dates_sha256(DATES)).trials) == 1
    registry.record(look(tier, "differs", sharpe_daily=0.1234567, ic=0.02))
    registry.record(look(tier, "differs too", sharpe_daily=0.1234567891, ic=0.0200001))
    found = registry.trials(PANEL, dates_sha256(DATES))
    assert (len(found.trials), found.looks) == (3, 4)
    assert found.trials[0].sharpe_daily == 0.1234567891  # kept as it was


def test_runs_of_folds_are_named_with_the_directory_that_they_lie_in(tmp_path: Path, tier: Tier) -> None:
    root, folds = Registry(Store(tmp_path / "r")), Registry(Store(tmp_path / "r"), "walk")
    assert (root.name_of("s1"), folds.name_of("fold-01")) == ("s1", "walk/fold-01")
    folds.record(look(tier, folds.name_of("fold-01")))
    folds.record(look(tier, "fold-01", sharpe_daily=0.2))  # an entry of before
    assert {each.run for each in root.trials(PANEL, dates_sha256(DATES)).trials} == {"walk/fold-01", "fold-01"}


def test_a_run_that_is_deleted_stays_counted(registry: Registry, tier: Tier, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    registry.record(look(tier))
    shutil.rmtree(tmp_path / "first")
    assert len(registry.trials(PANEL, dates_sha256(DATES)).trials) == 1


def _record_many(place: Path, number: int, start: Any) -> None:
    tier, registry = resolve("quickstart").tier, Registry(Store(place))
    start.wait()
    for each in range(15):
        registry.record(look(tier, f"run{number}", sharpe_daily=each / 100))  # the same outcomes in every process
        registry.record(look(tier, f"run{number}", sharpe_daily=number + each / 100))


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    processes = [context.Process(target=_record_many, args=(tmp_path / "r", number, start)) for number in (1, 2, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    found = Registry(Store(tmp_path / "r")).trials(PANEL, dates_sha256(DATES))
    assert (len(found.trials), found.looks) == (15 + 3 * 15, 3 * 2 * 15)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[:40], "JSON"),
        (lambda text: "", "JSON"),
        (lambda text: text.replace('"days": 58', '"days": -1'), "days"),
        (lambda text: text.replace('"days": 58', '"days": 57'), "holds what belongs into"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "schema_version"),
        (lambda text: json.dumps({"kind": "network"}), "Field required"),
    ],
)
def test_an_entry_that_is_damaged_is_named_and_not_left_out(
    registry: Registry, tier: Tier, tmp_path: Path, damage: Any, told: str
) -> None:
    registry.record(look(tier))
    registry.record(look(tier, sharpe_daily=0.3))
    (file,) = [each for each in tmp_path.rglob("*.json") if '"sharpe_daily": 0.3' in each.read_text()]
    file.write_text(damage(file.read_text()))
    with pytest.raises(UseError) as error:
        registry.trials(PANEL, dates_sha256(DATES))
    assert str(file) in str(error.value)
    assert told in str(error.value)
    assert "Mend" in str(error.value)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, tier: Tier) -> None:
    (tmp_path / "_registry").write_text("a file")
    with pytest.raises(UseError, match="_registry"):
        Registry(Store(tmp_path / "_registry", tries=1)).record(look(tier))


def test_a_variant_without_a_plain_name_is_refused(tier: Tier) -> None:
    with pytest.raises(ValueError, match="variant"):
        look(tier, variant="../ridge\n")


def test_an_ensemble_is_no_seed_of_its_recipe(registry: Registry, tier: Tier) -> None:
    registry.record(look(tier, run="one"))
    registry.record(look(tier, run="both", variant="ensemble of 2 mean-rank", sharpe_daily=0.2))
    known = registry.trials(PANEL, look(tier).test_sha256)
    assert len(known.trials) == 2
    assert [each.run for each in known.over_seeds(look(tier).recipe_sha256).values()] == ["one"]
