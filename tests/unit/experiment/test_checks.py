"""The checklist refuses what failed once, for the reasons why, and says what would be causal."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from atft.config import Tier
from atft.experiment import estimates, rules
from atft.experiment.checklist import Baseline, Checklist, Material, Row
from atft.experiment.checks import checklist
from atft.experiment.estimates import Earlier
from atft.experiment.tiers import names, resolve
from atft.train.setup import build_network

SHIPPED = {name: resolve(name, environ={}).tier for name in names()}


def material(tier: Tier, **known: Any) -> Material:
    baseline = (
        Baseline(tier.baseline, SHIPPED[tier.baseline])
        if tier.baseline
        else Baseline(tier.name, SHIPPED[tier.name], stated=False)
    )
    usual: dict[str, Any] = {
        "baseline": baseline,
        "others": SHIPPED,
        "panel": None,
        "available": 8e9,
        "gpu": False,
        "processors": 2,
    }
    return Material(**usual | known)


def checked(
    name: str, flags: dict[str, Any] | None = None, environ: dict[str, str] | None = None, **known: Any
) -> Checklist:
    resolved = resolve(name, flags=flags, environ=environ or {})
    return checklist(resolved, material(resolved.tier, **known))


def row(found: Checklist, check: str) -> Row:
    return next(row for row in found.rows if row.check == check)


def test_the_tier_that_failed_is_refused_for_exactly_its_three_reasons() -> None:
    found = checked("tier2")
    assert [each.reason for each in found.refused] == [rules.BELOW_MINIMUM, rules.UNDECLARED, rules.SHRINKS]
    told = found.refusal()
    assert "3 reason(s)" in told
    for each in ("256 stock-days", "below 1,024", "tier2.yaml", "batch.days: 16 → 4, model.hidden_size: 64 → 256",
                 "falls from 1,024 to 256", "Mend: --set batch.days=16", "--accept"):  # fmt: skip
        assert each in told
    assert not found.accepting(["all"]).refused
    assert found.accepting(["all"]).accepted == (rules.BELOW_MINIMUM, rules.UNDECLARED, rules.SHRINKS)
    part = found.accepting([rules.UNDECLARED])
    assert [each.reason for each in part.refused] == [rules.BELOW_MINIMUM, rules.SHRINKS]
    assert "accepted" in part.text()


def test_the_tier_as_it_was_meant_passes_with_a_warning_that_says_what_would_be_causal() -> None:
    found = checked("tier2-retry")
    assert not found.refused
    text = row(found, "differs from it").text
    assert "2 variables differ from tier1 at once" in text
    assert "tier1, then tier1 --set batch.days=32, then tier2-retry" in text
    assert "batch.days alone against production" in text


def test_a_tier_is_refused_where_a_third_variable_joins_those_that_it_declares() -> None:
    assert [each.reason for each in checked("tier2-retry", {"model.dropout": 0.3}).refused] == [rules.UNDECLARED]
    declared = {"model.dropout": 0.3, "differs": ["batch.days", "model.hidden_size", "model.dropout"]}
    assert not checked("tier2-retry", declared).refused


def test_flags_that_move_two_variables_without_a_stated_baseline_are_a_warning() -> None:
    found = checked("tier1", {"model.dropout": 0.3, "batch.days": 32})
    assert not found.refused
    assert row(found, "differs from it").status == "warn"


def test_the_environment_that_once_cut_the_batch_is_refused_without_any_baseline() -> None:
    found = checked("tier1", environ={"BATCH_SIZE": "256", "HIDDEN_SIZE": "256"})
    assert [each.reason for each in found.refused] == [rules.BELOW_MINIMUM, rules.SHRINKS]
    assert row(found, "environment").status == "warn"
    assert "BATCH_SIZE sets batch.days = 4" in row(found, "environment").value
    assert row(found, "effective batch").source.startswith("environment BATCH_SIZE")


@pytest.mark.parametrize("name", ["tier1", "quickstart", "production"])
def test_the_other_tiers_pass(name: str) -> None:
    assert not checked(name).refused


@pytest.mark.parametrize(
    ("parameters", "least", "best"),
    [(1, 1024, (1024, 2048)), (9_999_999, 1024, (1024, 2048)), (10_000_000, 2048, (2048, 4096)),
     (49_999_999, 2048, (2048, 4096)), (50_000_000, 4096, (4096, 8192)), (10**9, 4096, (4096, 8192))],
)  # fmt: skip
def test_the_table_is_that_of_the_original_analysis(parameters: int, least: int, best: tuple[int, int]) -> None:
    rule = rules.batch_rule(parameters)
    assert (rule.least, rule.best) == (least, best)


def test_the_rule_of_thumb_is_as_the_original_used_and_as_it_wrote_it() -> None:
    assert [math.floor(value) for value in rules.thumb(5_600_000)] == [2366, 23664]
    assert round(rules.thumb(20_000_000)[0]) == 4472
    assert (
        "the rules disagree: 1,024 satisfies √parameters and the table, not 10·√parameters"
        in row(checked("tier1"), "rule of thumb").value
    )


@pytest.mark.parametrize("name", names())
def test_parameters_are_those_of_the_network_that_is_trained(name: str) -> None:
    tier = SHIPPED[name]
    assert tier.features
    real = build_network(tier, features=tier.features)
    count = sum(
        each.numel()
        for each in real.parameters_of(frozenset({"variable_selection", "temporal", "adaptive_norm", "graph"}))
    )
    assert estimates.parameters(tier, tier.features) == count
    assert f"{count:,} with {tier.features} features" in row(checked(name), "parameters").value


def test_without_features_nothing_is_guessed() -> None:
    found = checked("tier1", {"features": None})
    for check in ("parameters", "batch for its size", "rule of thumb", "memory", "run time"):
        assert row(found, check).status == "warn", check
    assert row(found, "parameters").value == "not counted"
    assert not found.refused


def test_the_checklist_has_a_row_for_everything_that_is_asked() -> None:
    found = checked("tier1", {"max_epochs": 7})
    assert [each.check for each in found.rows] == [
        "effective batch", "parameters", "batch for its size", "rule of thumb", "learning rate", "hidden size",
        "loss weights", "epochs by phase", "precision", "mode", "memory", "run time", "sampling noise", "environment",
        "differs from it", "batch and model",
    ]  # fmt: skip
    assert "leaves 7 of 29 epochs" in row(found, "epochs by phase").text
    for each in found.rows:
        assert each.value
        assert (each.status == "pass") == (not each.text), each


def test_safe_mode_that_is_contradicted_is_a_warning() -> None:
    contradicted = row(checked("tier1", {"mode": "safe", "runtime.deterministic": False}), "mode")
    assert contradicted.status == "warn"
    assert "runtime.deterministic = False (flag --set runtime.deterministic)" in contradicted.text
    assert row(checked("tier1", {"mode": "safe"}), "mode").status == "pass"


def test_too_little_memory_is_a_warning_and_workers_share_it() -> None:
    assert row(checked("tier1"), "memory").status == "pass"
    assert row(checked("tier1", available=0.5e9), "memory").status == "warn"
    assert row(checked("tier1", available=2e9, workers=4), "memory").status == "warn"


def test_an_earlier_run_on_the_same_device_says_how_long_it_takes() -> None:
    tier = SHIPPED["tier1"]
    rate = estimates.work(tier, 306) * estimates.samples(tier) / 3600
    earlier = (Earlier("gpu", 1e15, "cuda"), Earlier("mine", rate, "cpu"))
    found = row(checked("tier1", earlier=earlier), "run time")
    assert found.value.startswith("1.0 h (40 min to 1.5 h)")
    assert found.source == "the rate of run mine"
    assert "assumed" in row(checked("tier1"), "run time").source


@pytest.mark.parametrize(
    ("flags", "deviation", "told"),
    [({}, 1 / 32, "at least 1/√samples"), ({"objective.sharpe_kind": "portfolio"}, 1 / math.sqrt(13), "days − 3"),
     ({"objective.weights.sharpe": 0, "objective.weights.cs_ic": 1}, None, "no Sharpe ratio")],
)  # fmt: skip
def test_the_noise_is_that_of_the_objective(flags: dict[str, Any], deviation: float | None, told: str) -> None:
    found = checked("tier1", flags)
    assert found.figures["batch_sharpe_std"] == (pytest.approx(deviation) if deviation else None)
    assert told in row(found, "sampling noise").rule


def test_a_run_on_other_data_is_no_causal_baseline() -> None:
    baseline = Baseline("old", other_days(), typed=False)
    found = checked("tier1", baseline=baseline)
    assert row(found, "differs from it").status == "warn"
    assert "split differ" in row(found, "differs from it").text


def other_days() -> Tier:
    return resolve("tier1", flags={"split.test.first": "2017-02-01"}, environ={}).tier


def test_rows_are_accepted_by_name_only() -> None:
    rows = (Row("x", "fail", "v", "r", "s", "some-reason", "t"), Row("y", "warn", "v", "r", "s", text="t"))
    found = Checklist("a", "b", rows)
    assert found.accepting(["other"]).refused == rows[:1]
    assert found.accepting(["some-reason"]).rows == (replace(rows[0], status="accepted"), rows[1])
