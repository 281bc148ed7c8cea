"""Tiers resolve from files, environment and flags, and say where each value came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from atft.config import MODES, Tier
from atft.errors import UseError
from atft.experiment.tiers import Resolved, directory, names, parse_flags, resolve


def tier(name: str, **given: object) -> Resolved:
    return resolve(name, **{"environ": {}} | given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "hidden", "days", "stocks", "mode", "steps"),
    [
        ("tier1", 64, 16, 64, "optimized", 100),
        ("tier2", 256, 4, 64, "safe", 400),
        ("tier2-retry", 256, 32, 64, "optimized", 50),
        ("production", 256, 64, 64, "optimized", 25),
    ],
)
def test_tiers_are_those_of_the_original_experiment(
    name: str, hidden: int, days: int, stocks: int, mode: str, steps: int
) -> None:
    found = tier(name).tier
    assert (found.model.hidden_size, found.batch.days, found.batch.stocks_per_day, found.mode) == (
        hidden,
        days,
        stocks,
        mode,
    )
    assert found.batch.block_days == 4
    assert found.steps_per_epoch == steps
    assert [phase.epochs for phase in found.phases.values()] == [5, 10, 8, 6]
    assert {phase.learning_rate for phase in found.phases.values()} == {2e-4}
    weights = found.objective.weights
    assert (weights.sharpe, weights.rank_ic, weights.cs_ic) == (1, 0, 0)
    assert (found.objective.sharpe_kind, found.precision, found.max_epochs, found.window.days) == (
        "pooled",
        "16-mixed",
        30,
        20,
    )


def test_every_tier_sees_equal_data_in_an_epoch() -> None:
    of_original = [tier(name).tier.epoch_stock_days for name in ("tier1", "tier2", "tier2-retry", "production")]
    assert set(of_original) == {102_400}


@pytest.mark.parametrize("name", names())
def test_a_tier_states_only_what_it_changes(name: str) -> None:
    layer = yaml.safe_load((directory() / f"{name}.yaml").read_text())
    if "extends" not in layer:
        return
    base = resolve(layer.pop("extends"), environ={}).tier.model_dump(mode="json")

    def repeated(own: dict[str, object], other: dict[str, object], path: str = "") -> list[str]:
        found = []
        for key, value in own.items():
            below = other.get(key)
            if isinstance(value, dict) and isinstance(below, dict):
                found += repeated(value, below, f"{path}{key}.")
            elif str(other.get(key)) == str(value):
                found.append(f"{path}{key}")
        return found

    assert repeated(layer, base) == []


@pytest.mark.parametrize("name", names())
def test_a_mode_changes_nothing_that_learning_depends_on(name: str) -> None:
    safe, optimized = (tier(name, flags={"mode": mode}).tier for mode in MODES)
    assert safe.runtime != optimized.runtime
    assert safe.learning() == optimized.learning()
    assert safe.sha256() == optimized.sha256()


@pytest.mark.parametrize("name", names())
def test_a_mode_sets_runtime_and_nothing_else_in_every_fold(name: str) -> None:
    for fold in range(4):
        flags = WALK | {"split.fold": fold}
        safe, optimized = (tier(name, flags=flags | {"mode": mode}).tier.model_dump() for mode in MODES)
        assert {key for key in safe if safe[key] != optimized[key]} == {"mode", "runtime"}


def test_what_a_tier_takes_back_of_its_base_has_no_source_left() -> None:
    found = tier("production")
    assert found.tier.expectation is None
    assert [path for path in found.provenance if path.startswith("expectation")] == ["expectation"]


def test_flags_beat_environment_beats_file_and_each_is_recorded() -> None:
    found = tier("tier1", environ={"HIDDEN_SIZE": "128", "ATFT_SEED": "5"}, flags={"seed": 9})
    assert (found.tier.model.hidden_size, found.tier.seed) == (128, 9)
    assert found.provenance["model.hidden_size"] == "environment HIDDEN_SIZE"
    assert found.provenance["seed"] == "flag --seed"
    assert found.provenance["batch.days"] == "tier1.yaml"
    assert found.provenance["runtime.loader_workers"] == "mode optimized"


def test_an_extending_tier_names_the_file_of_each_value() -> None:
    found = tier("tier2-retry")
    sources = {found.provenance[path] for path in ("batch.days", "model.hidden_size", "seed")}
    assert sources == {"tier2-retry.yaml", "tier2.yaml", "tier1.yaml"}


def test_every_value_has_a_source() -> None:
    found = tier("production")

    def leaves(group: dict[str, object], path: str = "") -> set[str]:
        inner = {key: value for key, value in group.items() if isinstance(value, dict)}
        own = {f"{path}{key}" for key in group if key not in inner}
        return own.union(*(leaves(value, f"{path}{key}.") for key, value in inner.items()))

    assert leaves(found.tier.model_dump()) == set(found.provenance)


def test_batch_size_sets_days_and_refuses_parts_of_blocks() -> None:
    assert tier("tier1", environ={"BATCH_SIZE": "2048"}).tier.batch.days == 32
    assert tier("tier1", flags={"BATCH_SIZE": 512}).tier.batch.days == 8
    with pytest.raises(UseError, match=r"1000 .* = 256 stock-days.* Mend: 1024"):
        tier("tier1", environ={"BATCH_SIZE": "1000"})


@pytest.mark.parametrize(
    ("environ", "flags"),
    [
        ({"BATCH_SIZE": "1024"}, {"batch.stocks_per_day": 32}),
        ({"BATCH_SIZE": "1024", "ATFT_BATCH__STOCKS_PER_DAY": "32"}, {}),
        ({}, {"BATCH_SIZE": 1024, "batch.stocks_per_day": 32}),
    ],
)
def test_batch_size_holds_whatever_else_is_set(environ: dict[str, str], flags: dict[str, object]) -> None:
    assert tier("tier1", environ=environ, flags=flags).tier.batch.samples == 1024


def test_batch_size_beside_days_is_refused() -> None:
    with pytest.raises(UseError, match=r"BATCH_SIZE = 1024 and flag --set batch\.days both"):
        tier("tier1", environ={"BATCH_SIZE": "1024"}, flags={"batch.days": 32})


@pytest.mark.parametrize("flags", [{"mode": [1]}, {"runtime": 5}, {"batch": 3}, {"phases": []}])
def test_a_group_of_the_wrong_type_is_refused_in_words(flags: dict[str, object]) -> None:
    with pytest.raises(UseError, match="is refused"):
        tier("tier1", flags=flags)


def test_a_file_may_extend_the_shipped_tier_of_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "tier1.yaml").write_text("extends: tier1\nseed: 5\n")
    assert tier(str(tmp_path / "tier1.yaml")).tier.seed == 5
    (tmp_path / "bad.yaml").write_text("extends: 5\n")
    with pytest.raises(UseError, match="extends = 5"):
        tier(str(tmp_path / "bad.yaml"))


def test_short_learning_rate_sets_every_phase() -> None:
    assert {p.learning_rate for p in tier("tier1", environ={"LR": "1e-4"}).tier.phases.values()} == {1e-4}


def test_safe_mode_by_the_old_name_is_refused_with_the_mend() -> None:
    with pytest.raises(UseError, match="--set mode=safe"):
        tier("tier1", environ={"FORCE_SINGLE_PROCESS": "1"})


CRITICAL = ["seed", "mode", "label", "split", "batch.days", "model.hidden_size", "objective.weights.sharpe"]
CRITICAL += ["phases.gat.epochs", "phases.gat.learning_rate"]


@pytest.mark.parametrize("path", CRITICAL)
def test_a_critical_value_has_no_default(path: str, tmp_path: Path) -> None:
    values = yaml.safe_load((directory() / "tier1.yaml").read_text())
    group = values
    *parents, last = path.split(".")
    for name in parents:
        group = group[name]
    del group[last]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(UseError, match=rf"{path}: not stated"):
        tier(str(tmp_path / "mine.yaml"))


def test_all_problems_are_told_at_once_with_the_nearest_name() -> None:
    with pytest.raises(UseError) as refused:
        tier("tier1", flags={"batch.dais": 3, "model.hidden_size": "wide", "label.horizon": -1})
    text = str(refused.value)
    assert "3 problem(s)" in text
    assert "batch.dais" in text
    assert "Nearest: days" in text
    assert "model.hidden_size = 'wide' (flag --set model.hidden_size)" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"batch.days": 30}, "days = 32"),
        ({"epoch_stock_days": 1000}, "whole number of effective batches"),
        ({"objective.weights.sharpe": 0}, "nothing would be learned"),
        ({"model.attention_heads": 7}, "not a multiple"),
        ({"window.least_present": 21}, "exceeds window.days"),
        ({"objective.sharpe_kind": "portfolio", "batch.days": 4}, "at least 8 days"),
        ({"split.test.first": "2016-06-01"}, "without overlap"),
        ({"max_epochs": 0}, "greater than 0"),
        ({"model.dropout": float("nan")}, "model.dropout"),
    ],
)
def test_contradictions_are_refused(flags: dict[str, object], said: str) -> None:
    with pytest.raises(UseError, match=said):
        tier("tier1", flags=flags)


def test_an_unknown_tier_lists_those_there_are() -> None:
    with pytest.raises(UseError, match=r"Nearest: tier2-retry.*quickstart"):
        tier("tier2-rety")


def test_an_unknown_variable_with_our_prefix_is_refused() -> None:
    with pytest.raises(UseError, match="ATFT_BATCHES"):
        tier("tier1", environ={"ATFT_BATCHES__DAYS": "3"})


def test_a_cycle_of_tiers_is_refused(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.yaml").write_text(f"extends: {tmp_path}/{other}.yaml\n")
    with pytest.raises(UseError, match="a → b → a"):
        tier(str(tmp_path / "a.yaml"))


def test_max_epochs_cuts_the_last_phases() -> None:
    phases = tier("tier1", flags={"max_epochs": 7}).tier.phases_to_run()
    assert {name: phase.epochs for name, phase in phases.items()} == {"baseline": 5, "adaptive_norm": 2}


def test_flags_need_path_and_value() -> None:
    assert parse_flags(["a.b=[1, 2]", "c=x"]) == {"a.b": [1, 2], "c": "x"}
    with pytest.raises(UseError, match=r"--set batch\.days: not of the form") as refused:
        tier("tier1", flags=parse_flags(["batch.days", "a=[", "seed=two"]), environ={"LRATE": "1", "BATCHSIZE": "7"})
    told = str(refused.value)
    assert "4 problem(s)" in told
    assert all(each in told for each in ("--set a=[", "seed = 'two'", "environment BATCHSIZE", "Nearest: BATCH_SIZE"))


def test_a_resolved_tier_reads_back_from_its_own_dump() -> None:
    found = tier("tier1").tier
    assert Tier.model_validate(found.model_dump(mode="json")) == found


WALK = {
    "split.scheme": "rolling", "split.first": "2013-02-01", "split.last": "2017-11-30", "split.folds": 4,
    "split.train_days": 500, "split.validate_days": 60,
}  # fmt: skip


def test_the_split_of_date_ranges_is_hashed_as_before_there_were_schemes():
    assert set(resolve("tier1", environ={}).tier.learning()["split"]) == {"train", "validate", "test", "embargo_days"}


@pytest.mark.parametrize("order", [1, -1])
def test_a_scheme_over_date_ranges_replaces_what_only_they_have(order):
    flags = dict(list(WALK.items())[::order])
    found = resolve("tier1", flags=flags, environ={})
    assert found.tier.split.scheme == "rolling"
    assert found.tier.split.embargo_days == 0
    kept = {name for name in found.provenance if name.startswith("split.")}
    assert kept == {*WALK, "split.embargo_days"}
    assert found.provenance["split.embargo_days"] == "tier1.yaml"


def test_each_fold_is_another_configuration_and_another_scheme_keeps_what_both_have(tmp_path):
    whole = resolve("tier1", flags=WALK, environ={}).tier
    folds = [resolve("tier1", flags=WALK | {"split.fold": fold}, environ={}) for fold in range(4)]
    assert len({each.tier.sha256() for each in folds} | {whole.sha256()}) == 5
    assert folds[1].provenance["split.fold"] == "flag --fold"
    other = resolve("tier1", flags=WALK | {"split.scheme": "expanding"}, environ={}).tier
    assert other.split.model_dump(exclude={"scheme"}) == whole.split.model_dump(exclude={"scheme"})
    back = tmp_path / "back.yaml"
    (tmp_path / "walk.yaml").write_text(yaml.safe_dump({"extends": "tier1", "split": _short(WALK)}))
    dates = {name: {"first": f"{year}-01-01", "last": f"{year}-12-31"} for name, year in YEARS.items()}
    back.write_text(yaml.safe_dump({"extends": str(tmp_path / "walk.yaml"), "split": dates}))
    assert resolve(str(back), environ={}).tier.split.test.last.year == YEARS["test"]


YEARS = {"train": 2014, "validate": 2015, "test": 2016}


def _short(flags):
    return {name.removeprefix("split."): value for name, value in flags.items()}


def test_environment_and_typing_errors_of_a_scheme_are_told_as_those_of_date_ranges():
    environ = {f"ATFT_SPLIT__{name.upper()}": str(value) for name, value in _short(WALK).items()}
    assert resolve("tier1", environ=environ).tier == resolve("tier1", flags=WALK, environ={}).tier
    with pytest.raises(UseError, match=r"split.validat_days: no such setting .*Nearest: validate_days"):
        resolve("tier1", flags=WALK | {"split.validat_days": 9}, environ={})
    with pytest.raises(UseError, match="split: scheme is none of expanding, rolling, combinatorial"):
        resolve("tier1", flags={"split.scheme": "walking"}, environ={})


def test_a_refusal_names_the_tier_and_no_setting() -> None:
    for flags in ({"batch.dys": 4}, {"batch.days": 3, "seed": -1}):
        with pytest.raises(UseError, match=r"tier tier1 is refused"):
            tier("tier1", flags=flags)
