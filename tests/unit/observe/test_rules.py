"""Early warnings: each is raised by the run it is about, and by no healthy one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atft.errors import UseError
from atft.observe import events
from atft.observe.events import Event, EventLog
from atft.observe.rules import (
    BEHIND_EPOCHS,
    FLAT_STEPS,
    LEAST_NOISE_STEPS,
    NAMES,
    NOISE_RATIO,
    Curve,
    expected_range,
    rules,
    successive_deviation,
)
from atft.observe.watch import Watch, Watched, curve_of, parse_stop_on

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guide" / "warnings.md"


def step(number: int, **fields: Any) -> Event:
    usual = {"phase": "gat", "epoch": 1, "batch_sharpe": 0.0, "samples": 1024, "days": 16, "flat_days": 0,
             "seconds": 1.0, "data_seconds": 0.0}  # fmt: skip
    return {"kind": "step", "step": number, **usual, **fields}


def epoch(number: int, **fields: Any) -> Event:
    usual = {"phase": "gat", "expected_batch_sharpe_std": 0.25, "validation_days": 100, "validation_flat_days": 0,
             "samples": 1000, "validation_sharpe": 0.1}  # fmt: skip
    return {"kind": "epoch", "epoch": number, **usual, **fields}


def raised(*told: Event, curve: Curve | None = None) -> dict[str, Any]:
    watch = Watch(Watched(curve=curve))
    for event in told:
        watch(event)
    return watch.standing


def noisy(deviation: float, count: int, seed: int = 0, drift: float = 0.0) -> Iterator[Event]:
    values = np.random.default_rng(seed).normal(0.0, deviation, count) + drift * np.arange(count)
    yield epoch(1)
    for number, value in enumerate(values, start=1):
        yield step(number, batch_sharpe=float(value))


def test_a_healthy_run_raises_nothing() -> None:
    for seed in range(40):
        assert raised(*noisy(0.25, 200, seed), epoch(2), *noisy(0.25, 50, seed)) == {}


def test_a_batch_sharpe_that_scatters_beyond_its_sampling_noise_is_seen_with_its_ranges() -> None:
    found = raised(*noisy(0.6, 100))["batch-sharpe-noise"]
    assert found.value == pytest.approx(0.6 / 0.25, rel=0.25)
    assert "100 batches" in found.text
    assert "a deviation of 0.250" in found.text


def test_a_high_ratio_may_scatter_more() -> None:
    high = [{**event, "batch_sharpe": event["batch_sharpe"] + 2.0} if event["kind"] == "step" else event
            for event in noisy(0.42, 200)]  # fmt: skip
    assert raised(*high) == {}  # √(1 + 2²/2) · .25 = .43
    assert "batch-sharpe-noise" in raised(*noisy(0.42, 200))


def test_a_warning_does_not_flicker_at_its_bound() -> None:
    watch, states = Watch(), []
    for event in noisy(0.25 * NOISE_RATIO, 2000, seed=3):
        watch(event)
        states.append("batch-sharpe-noise" in watch.standing)
    assert sum(now != before for before, now in pairwise(states)) <= 6


def test_learning_is_no_noise() -> None:
    drifting = list(noisy(0.25, 200, drift=0.02))
    values = [event["batch_sharpe"] for event in drifting if event["kind"] == "step"]
    assert np.std(values) / 0.25 > 2 * NOISE_RATIO
    assert raised(*drifting) == {}


def test_noise_is_not_judged_before_there_are_enough_batches_or_anything_to_expect() -> None:
    assert raised(*noisy(9.0, LEAST_NOISE_STEPS - 1)) == {}
    assert raised(*(event for event in noisy(9.0, 100) if event["kind"] == "step")) == {}


def test_a_new_phase_is_judged_by_its_own_batches() -> None:
    began = {"kind": "phase_started", "phase": "fine_tuning"}
    assert raised(*noisy(0.6, 100), began) == {}


def test_the_deviation_of_neighbours_is_that_of_independent_values() -> None:
    values = np.random.default_rng(1).normal(0.0, 2.0, 50_000)
    assert successive_deviation(list(values)) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("count", [10, 50, 200])
def test_the_expected_range_is_that_of_normal_values(count: int) -> None:
    drawn = np.random.default_rng(2).normal(0.0, 3.0, (20_000, count))
    assert expected_range(3.0, count) == pytest.approx(np.ptp(drawn, axis=1).mean(), rel=0.02)


CURVE = Curve("tier1", "validation_sharpe", ((1000, 0.1), (2000, 0.3), (3000, 0.2), (4000, 0.4)))


def test_a_run_is_behind_where_the_best_of_its_baseline_was_better_at_as_many_stock_days() -> None:
    slow = [each for number in range(1, 5) for each in (step(number), epoch(number, validation_sharpe=0.05 * number))]
    found = raised(*slow, curve=CURVE)["behind-baseline"]
    assert (found.since, found.value, found.bound) == (1, pytest.approx(0.2), 0.4)
    assert raised(*slow) == {}
    assert raised(*slow[: 2 * BEHIND_EPOCHS - 2], curve=CURVE) == {}


def test_a_run_that_was_once_better_is_not_behind() -> None:
    fine = [epoch(number, validation_sharpe=[0.5, 0.1, 0.1, 0.1][number - 1]) for number in range(1, 5)]
    assert raised(*fine, curve=CURVE) == {}


def test_a_loss_is_compared_with_its_sign(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        for number, loss in enumerate((0.5, 0.3, 0.4), start=1):
            log.write(**epoch(number, validation_loss=loss))
    curve = curve_of(tmp_path, "base", "validation_loss")
    assert curve.points == ((1000, -0.5), (2000, -0.3), (3000, -0.4))
    assert curve.best_until(2999) == -0.3
    assert curve.best_until(999) is None


def test_a_log_without_epochs_is_no_baseline(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        log.write(**step(1))
    with pytest.raises(UseError, match="no epoch"):
        curve_of(tmp_path, "base", "validation_ic")


def test_a_divergence_stands_until_an_epoch_passes_without_it() -> None:
    told = [step(3), epoch(1), step(6), epoch(2),
            {"kind": "divergence", "phase": "gat", "epoch": 2, "since": 1, "text": "loss and metric part"}]  # fmt: skip
    found = raised(*told, step(7))["loss-metric-divergence"]
    assert (found.since, found.text) == (3, "loss and metric part")
    assert raised(*told, step(7), epoch(3), step(8)) == {}


def test_waiting_for_data_is_seen_when_it_takes_a_share_and_some_seconds() -> None:
    assert "data-wait" in raised(*(step(number, data_seconds=0.4) for number in range(1, 31)))
    assert raised(*(step(number, data_seconds=0.1) for number in range(1, 101))) == {}
    assert raised(*(step(number, seconds=0.01, data_seconds=0.009) for number in range(1, 101))) == {}


def test_a_constant_output_is_seen_in_training_and_in_evaluation() -> None:
    flat = [step(number, flat_days=16) for number in range(1, FLAT_STEPS + 1)]
    assert raised(*flat)["constant-output"].since == 1
    assert raised(*flat[:-1], step(FLAT_STEPS, flat_days=15)) == {}
    assert raised(step(9), epoch(1, validation_flat_days=51))["constant-output"].since == 9
    assert raised(step(9), epoch(1, validation_flat_days=50)) == {}
    assert raised(step(9), epoch(1, validation_flat_days=51), epoch(2)) == {}


def test_steps_that_a_resume_repeats_count_once() -> None:
    flat = [step(number, flat_days=16) for number in range(1, FLAT_STEPS)]
    assert raised(*flat, *flat) == {}
    assert raised(*flat, {"kind": "resumed", "step": 2}, *flat[2:]) == {}


def test_warnings_go_into_the_log_once_and_are_taken_back(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        log.subscribe(Watch(events=log))
        for number in range(1, FLAT_STEPS + 3):
            log.write(**step(number, flat_days=16))
        log.write(**step(FLAT_STEPS + 3))
    kinds = [event for event in events.read(tmp_path) if event["kind"] != "step"]
    assert [event["kind"] for event in kinds] == ["early_warning", "early_warning_over"]
    assert kinds[0]["rule"] == "constant-output"
    assert kinds[0].keys() >= {"since", "value", "bound", "text", "mend"}


def test_what_was_raised_before_a_resume_is_not_raised_again(tmp_path: Path) -> None:
    flat = [step(number, flat_days=16) for number in range(1, FLAT_STEPS + 1)]
    with EventLog(tmp_path / "events.jsonl") as log:
        watch = Watch(Watched(frozenset({"constant-output"})), log)
        watch.learn(flat)
        log.subscribe(watch)
        log.write(**step(FLAT_STEPS + 1, flat_days=16))
    assert [event["kind"] for event in events.read(tmp_path)] == ["step"]
    assert watch.stopping is not None


def test_only_the_rules_that_were_named_stop_a_run() -> None:
    flat = [step(number, flat_days=16) for number in range(1, FLAT_STEPS + 1)]
    for stop_on, stops in (("constant-output", True), ("data-wait", False), ("all", True)):
        watch = Watch(Watched(parse_stop_on([stop_on])))
        for event in flat:
            watch(event)
        assert (watch.stopping is not None) == stops


def test_names_of_no_rule_are_refused() -> None:
    assert parse_stop_on(["data-wait, constant-output"]) == {"data-wait", "constant-output"}
    with pytest.raises(UseError, match=r"all-days.*There are: .*batch-sharpe-noise"):
        parse_stop_on(["all-days"])


def test_every_rule_is_in_the_guide() -> None:
    text = GUIDE.read_text()
    for rule in rules():
        assert f"`{rule.name}`" in text
    assert len(set(NAMES)) == len(rules())


def test_the_rules_of_a_run_of_any_length_hold_little() -> None:
    watch = Watch()
    for event in noisy(0.25, 5000):
        watch(event)
    held = max(len(rule._steps._held) for rule in watch._rules if hasattr(rule, "_steps"))
    assert held <= 200
