"""What differs between two tiers is found, grouped into variables and the same from both sides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.config import Tier
from atft.experiment.diff import differences
from atft.experiment.tiers import resolve

NAMES = ("tier1", "tier2", "tier2-retry", "production", "quickstart")
TIERS = {name: resolve(name, environ={}).tier for name in NAMES}


def changed(flags: dict[str, Any], name: str = "tier1") -> Tier:
    return resolve(name, flags=flags, environ={}).tier


CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "precision": st.sampled_from(["32", "bf16-mixed"]),
    "epoch_stock_days": st.sampled_from([1, 2, 10, 20, 25]).map(lambda n: n * 20_480),
    "batch.days": st.sampled_from([8, 32, 40, 64, 80]),
    "window.least_present": st.integers(1, 9),
    "label.execution_lag": st.integers(1, 3),
    "graph.neighbours": st.integers(11, 40),
    "model.hidden_size": st.sampled_from([16, 32, 128, 256]),
    "model.dropout": st.floats(0.11, 0.9),
    "objective.sharpe_kind": st.just("portfolio"),
    "objective.weights.quantile": st.floats(0.1, 2),
    "optimizer.weight_decay": st.floats(0.02, 1),
    "validation_metric": st.sampled_from(["ic", "rank_ic", "loss"]),
    "phases.gat.learning_rate": st.floats(1e-6, 1e-4),
    "phases.baseline.epochs": st.integers(6, 20),
    "phases.fine_tuning.parts": st.just(["temporal"]),
}
"""Settings that learning depends on, with values that tier1 does not have; each alone is a valid tier."""


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(sorted(CHANGES)), unique=True, max_size=4), st.data())
def test_every_change_is_found_counted_and_the_same_from_both_sides(paths: list[str], data: st.DataObject) -> None:
    flags = {path: data.draw(CHANGES[path]) for path in paths}
    a, b = TIERS["tier1"], changed(flags)
    there, back = differences(a, b), differences(b, a)
    assert {each.path: (each.a, each.b) for each in there.learning} == {
        path: (_value(a, path), value) for path, value in flags.items()
    }
    assert [(each.path, each.b, each.a, each.variable) for each in back.learning] == [
        (each.path, each.a, each.b, each.variable) for each in there.learning
    ]
    counted = set(paths)
    if {"batch.days", "epoch_stock_days"} <= counted and flags["epoch_stock_days"] == 100 * 64 * flags["batch.days"]:
        counted.remove("epoch_stock_days")  # the same 100 steps an epoch: it follows from the batch
    assert there.variables == back.variables == len(counted)
    assert there.causal == back.causal == (len(counted) == 1 and counted != {"label.execution_lag"})
    assert differences(b, b).learning == ()


def _value(tier: Tier, path: str) -> Any:
    value: Any = tier.model_dump(mode="json")
    for part in path.split("."):
        value = value[part]
    return value


def test_the_failed_tier_differs_in_two_variables_and_the_mode_is_none() -> None:
    found = differences(TIERS["tier1"], TIERS["tier2"])
    assert found.named == ("batch.days", "model.hidden_size")
    assert {each.path for each in found.other} >= {"mode", "runtime.loader_workers", "runtime.deterministic"}
    assert found.held == "samples"
    assert not found.causal
    assert "2 variables differ at once (batch.days, model.hidden_size)" in found.text()


@pytest.mark.parametrize(
    ("name", "flags", "named"),
    [
        ("tier1", {"LR": 1e-4}, ("phases.*.learning_rate",)),
        ("quickstart", {"LR": 1e-4}, ("phases.*.learning_rate",)),
        ("tier1", {"phases.gat.learning_rate": 1e-4}, ("phases.gat.learning_rate",)),
        ("tier1", {"phases.gat.learning_rate": 1e-4, "phases.baseline.learning_rate": 3e-4},
         ("phases.baseline.learning_rate", "phases.gat.learning_rate")),
        ("quickstart", {f"phases.{p}.learning_rate": v for p, v in
                        {"baseline": 6e-3, "adaptive_norm": 4e-3, "gat": 8e-3, "fine_tuning": 4e-3}.items()},
         ("phases.*.learning_rate",)),
        ("quickstart", {f"phases.{p}.learning_rate": v for p, v in
                        {"baseline": 6e-3, "adaptive_norm": 4e-3, "gat": 1e-3, "fine_tuning": 5e-3}.items()},
         ("phases.adaptive_norm.learning_rate", "phases.baseline.learning_rate", "phases.fine_tuning.learning_rate",
          "phases.gat.learning_rate")),
        ("tier1", {"max_epochs": 50, "phases.baseline.epochs": 9, "phases.adaptive_norm.epochs": 17,
                   "phases.gat.epochs": 14, "phases.fine_tuning.epochs": 10}, ("phases.*.epochs",)),
        ("tier1", {"max_epochs": 3}, ("max_epochs",)),
        ("tier1", {"max_epochs": 40}, ()),
        ("tier1", {"batch.days": 48, "epoch_stock_days": 101_376}, ("batch.days",)),
        ("tier1", {"batch.days": 48, "epoch_stock_days": 307_200}, ("batch.days",)),
        ("tier1", {"batch.days": 32, "epoch_stock_days": 51_200}, ("batch.days", "epoch_stock_days")),
        ("tier1", {"epoch_stock_days": 51_200}, ("epoch_stock_days",)),
        ("tier1", {"objective.weights.sharpe": 0, "objective.weights.rank_ic": 1}, ("objective.weights",)),
        ("tier1", {"objective.weights.rank_ic": 1}, ("objective.weights.rank_ic",)),
        ("tier1", {"model.architecture": "mlp", **{f"phases.{p}.parts": [] for p in
                   ("baseline", "adaptive_norm", "gat", "fine_tuning")}}, ("model.architecture",)),
        ("tier1", {"split.test.first": "2017-02-01", "split.validate.last": "2016-11-30"}, ("split",)),
        ("tier1", {"seed": 7}, ()),
        ("tier1", {"mode": "safe"}, ()),
    ],
)  # fmt: skip
def test_settings_that_move_together_are_one_variable(name: str, flags: dict[str, Any], named: tuple[str, ...]) -> None:
    assert sorted(differences(TIERS[name], changed(flags, name)).named) == sorted(named)
    assert sorted(differences(changed(flags, name), TIERS[name]).named) == sorted(named)


def test_what_is_measured_on_other_days_or_data_cannot_be_compared() -> None:
    other = changed({"model.dropout": 0.2})
    assert differences(TIERS["tier1"], other, data=("x", "x")).causal
    assert not differences(TIERS["tier1"], other, data=("x", "y")).causal
    assert "the panel's data" in differences(TIERS["tier1"], other, data=("x", "y")).verdict
    later = differences(TIERS["tier1"], changed({"label.execution_lag": 1}))
    assert (later.variables, later.causal) == (1, False)


def test_another_seed_is_named_and_is_no_variable() -> None:
    found = differences(TIERS["tier1"], changed({"seed": 2}))
    assert (found.variables, found.seeds) == (0, (1, 2))
    assert "seed: 1 → 2" in found.text()
    assert "chance" in found.verdict


def test_a_phase_less_and_another_order_are_each_one_difference() -> None:
    one = TIERS["tier1"]
    phases = one.phases
    less = one.model_copy(update={"phases": {name: phases[name] for name in phases if name != "gat"}})
    assert differences(one, less).named == ("phases.gat",)
    turned = one.model_copy(update={"phases": dict(reversed(phases.items()))})
    assert differences(one, turned).named == ("phases",)
