"""Points of a sweep: one setting moves, what is held is held, and nothing is trained that a tier refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atft.errors import UseError
from atft.experiment import sweep
from atft.experiment.sweep_plan import Plan, planned, scaled_epochs
from atft.experiment.tiers import resolve

TIER1 = resolve("tier1", environ={}).tier


def plan(name: str, flags: dict[str, Any] | None = None, **changed: Any) -> Plan:
    return planned(sweep.changed(sweep.read(name), **changed), flags)


def made(variable: str, values: list[Any], **stated: Any) -> sweep.Sweep:
    whole = {"name": "made", "description": "", "tier": "tier1", "variable": variable, "values": values, "seeds": [1]}
    return sweep.validated({**whole, "metric": "validation", **stated}, "made")


def differing(one: dict[str, Any], other: dict[str, Any], path: str = "") -> set[str]:
    return {
        name
        for key in one.keys() | other.keys()
        for name in (
            differing(one[key], other[key], f"{path}{key}.")
            if isinstance(one.get(key), dict) and isinstance(other.get(key), dict)
            else {f"{path}{key}"} if one.get(key) != other.get(key) else set()
        )
    }  # fmt: skip


def test_points_differ_from_the_tier_in_the_variable_alone() -> None:
    moved = {
        "middle-trap": {"model.hidden_size"},
        "lr": {f"phases.{phase}.learning_rate" for phase in TIER1.phases},
        "epochs": {f"phases.{phase}.epochs" for phase in TIER1.phases} | {"max_epochs"},
    }
    for name, wanted in moved.items():
        for point in plan(name).points:
            found = differing(TIER1.learning(), point.tier.learning())
            assert found == (set() if point.is_own else wanted), point.name


def test_the_reference_is_the_tier_as_it_is() -> None:
    assert [plan(name).reference.value for name in ("lr", "epochs", "middle-trap")] == [2e-4, 29, 64]
    assert plan("batch", hold="samples").reference.tier.sha256() == TIER1.sha256()
    assert plan("batch-256", hold="steps").reference.value == 2048


@pytest.mark.parametrize("name", ["batch", "batch-256"])
def test_holding_samples_keeps_the_stock_days_and_holding_steps_the_steps(name: str) -> None:
    samples, steps = (plan(name, hold=hold).points for hold in ("samples", "steps"))
    assert len({point.tier.epoch_stock_days for point in samples}) == 1
    assert len({point.tier.steps_per_epoch for point in steps}) == 1
    for point in samples:
        assert point.tier.steps_per_epoch * point.value == point.tier.epoch_stock_days
    for point in steps:
        assert point.tier.epoch_stock_days == point.value * point.tier.steps_per_epoch
    assert [point.value for point in samples] == [point.tier.batch.samples for point in samples]
    reference = {plan(name, hold=hold).reference.tier.sha256() for hold in ("samples", "steps")}
    assert len(reference) == 1


def test_days_hold_as_stock_days_do() -> None:
    by_days = planned(made("batch.days", [16, 32], hold="steps")).points
    by_size = planned(made("BATCH_SIZE", [1024, 2048], hold="steps")).points
    assert [each.tier.sha256() for each in by_days] == [each.tier.sha256() for each in by_size]


def test_samples_that_are_no_whole_batches_are_refused_with_the_stock_days_that_are() -> None:
    with pytest.raises(UseError) as refused:
        planned(made("BATCH_SIZE", [1024, 8192], hold="samples"))
    told = str(refused.value)
    assert "102400" in told
    assert "8192" in told
    assert "epoch_stock_days=106496" in told
    points = planned(made("BATCH_SIZE", [1024, 8192], hold="samples"), {"epoch_stock_days": 106496}).points
    assert {point.tier.epoch_stock_days for point in points} == {106496}


def test_fifty_epochs_are_shared_among_the_phases_as_the_tier_shares_its_own() -> None:
    assert scaled_epochs({"a": 5, "b": 10, "c": 8, "d": 6}, 50) == {"a": 9, "b": 17, "c": 14, "d": 10}
    assert scaled_epochs({"a": 5, "b": 10, "c": 8, "d": 6}, 29) == {"a": 5, "b": 10, "c": 8, "d": 6}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.data())
def test_scaled_epochs_are_whole_add_up_and_are_within_one_of_the_exact_share(
    own: list[int], data: st.DataObject
) -> None:
    total = data.draw(st.integers(len(own), 200))
    found = list(scaled_epochs({str(n): epochs for n, epochs in enumerate(own)}, total).values())
    assert sum(found) == total
    assert min(found) >= 1
    exact = [total * epochs / sum(own) for epochs in own]
    if min(exact) >= 1:
        assert all(abs(one - other) < 1 for one, other in zip(found, exact))


def test_every_value_that_the_tier_refuses_is_named_before_anything_starts() -> None:
    with pytest.raises(UseError) as refused:
        planned(made("model.hidden_size", [64, 66, "wide", 130]))
    told = str(refused.value)
    assert "3 value(s)" in told
    for value in ("= 66:", "= wide:", "= 130:"):
        assert value in told


@pytest.mark.parametrize(
    ("variable", "values", "told"),
    [
        ("phases.*.learning_rate", [1e-4, "1e-4"], "train alike"),
        ("max_epochs", [30, 50], "variable: epochs"),
        ("epochs", [3, 29], "at least 4"),
        ("epochs", [29.5, 29], "whole number"),
    ],
)
def test_values_that_train_alike_or_make_no_tier_are_refused(variable: str, values: list[Any], told: str) -> None:
    with pytest.raises(UseError) as refused:
        planned(made(variable, values))
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("lr", {"LR": 1e-3}),
        ("lr", {"phases.gat.learning_rate": 1e-3}),
        ("batch", {"batch.days": 8}),
        ("epochs", {"phases.gat.epochs": 3}),
        ("lr", {"seed": 3}),
    ],
)
def test_what_the_sweep_varies_cannot_be_set_beside_it(name: str, flags: dict[str, Any]) -> None:
    with pytest.raises(UseError, match="Mend"):
        plan(name, flags, hold="steps" if name == "batch" else None)


def test_every_seed_of_every_point_is_a_run_with_a_name_of_its_own_and_its_source() -> None:
    found = plan("middle-trap", seeds=[4, 2])
    names = [f"point-hidden_size-{size}-s{seed}" for size in (64, 128, 256) for seed in (4, 2)]
    assert [trial.name for trial in found.trials] == names
    assert [trial.resolved.tier.seed for trial in found.trials] == [4, 2] * 3
    last = found.trials[-1].resolved
    assert last.provenance["model.hidden_size"] == "sweep middle-trap"
    assert last.provenance["seed"] == "sweep seeds"
    assert last.provenance["graph.neighbours"] == "tier1.yaml"


def test_threads_are_pinned_unless_the_tier_states_them() -> None:
    assert {trial.resolved.tier.runtime.threads for trial in plan("lr").trials} == {1}
    assert {trial.resolved.tier.runtime.threads for trial in plan("lr", {"runtime.threads": 3}).trials} == {3}


def test_a_search_starts_from_the_tier_and_rounds_what_it_is_told() -> None:
    found = planned(sweep.read("lr"), search=True)
    assert [point.value for point in found.points] == [2e-4]
    point = found.suggested(0.000123456789)
    assert (point.value, point.name) == (0.0001235, "learning_rate-0.0001235")
    with pytest.raises(UseError, match="no range"):
        planned(sweep.read("middle-trap"), search=True)
