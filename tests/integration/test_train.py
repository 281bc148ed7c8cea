"""A whole run: what it leaves, what it says, and that nothing about the machine changes what it learns."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from atft.config import MODES, Tier
from atft.data.gather import Gatherer
from atft.data.panel import Panel
from atft.evaluate import result
from atft.observe import events
from atft.train import setup as setups
from atft.train.setup import Setup, prepare
from tests.integration.command import (
    Outcome,
    Stopped,
    at_step,
    epochs_of,
    figures_of,
    refused,
    run,
    run_apart,
    steps_of,
    stop_at,
    tree,
    unchanged,
    weights_of,
)
from tests.integration.conftest import Train

PHASES = ("baseline", "adaptive_norm", "gat", "fine_tuning")
STEPS, PER_EPOCH = 18, 3


@pytest.fixture(scope="module")
def ready(tiny: Tier, panel: Path) -> Setup:
    return prepare(tiny, Panel.open(panel))


def test_a_run_leaves_its_settings_events_weights_result_and_report(whole: Path) -> None:
    assert set(tree(whole)) == {
        "checkpoints", "checkpoints/last.pt", "checkpoints/previous.pt", "config.json", "events.jsonl",
        "report.html", "result.json", "test-scores.parquet",
        *(f"checkpoints/best-{number}-{name}.safetensors" for number, name in enumerate(PHASES)),
    }  # fmt: skip


def test_the_result_holds_every_field_of_the_contract(whole: Path, tiny: Tier, panel: Path) -> None:
    found = result.read(whole / "result.json")
    assert (found.run, found.tier, found.seed) == ("whole", "tiny", 1)
    assert found.config_sha256 == tiny.sha256()
    assert found.data_sha256 == Panel.open(panel).sha256
    assert (found.effective_batch.days, found.effective_batch.stocks_per_day) == (8, 16)
    assert (found.world_size, found.steps) == (1, STEPS)
    assert [phase.name for phase in found.phases] == list(PHASES)
    assert [len(phase.epochs) for phase in found.phases] == [2, 1, 2, 1]
    told = json.loads((whole / "result.json").read_text())
    for phase in told["phases"]:
        for epoch in phase["epochs"]:
            wanted = ("train_loss", "validation_loss", "validation_sharpe", "validation_ic", "seconds")
            assert all(isinstance(epoch[name], float) for name in wanted)
    assert all(isinstance(told["batch_sharpe"][name], float | int) for name in
               ("count", "mean", "std", "min", "max", "range"))  # fmt: skip
    assert all(told["test"][name] is not None for name in (
        "days", "sharpe_daily", "sharpe_annual", "sharpe_ci95", "sharpe_net", "pooled_sharpe", "ic", "icir", "rank_ic",
        "rank_icir", "turnover", "max_drawdown"))  # fmt: skip
    assert set(told["baselines"]) == {"reversal", "ridge", "equal_weight", "shuffled"}
    low, high = found.baselines.shuffled.sharpe_ci95 or (1.0, 1.0)
    assert low < 0 < high
    assert found.planted is not None
    log = events.read(whole)
    trained = sum(event["seconds"] for event in log if event["kind"] == "step")
    assert trained < told["runtime_seconds"] <= log[-1]["time"] - log[0]["time"] + 0.5


def test_the_batch_sharpe_of_the_result_is_that_of_the_steps(whole: Path) -> None:
    values = [event["batch_sharpe"] for event in steps_of(whole)]
    told = result.read(whole / "result.json").batch_sharpe
    assert told.count == len(values) == STEPS
    expected = np.mean(values), np.std(values), min(values), max(values), np.ptp(values)
    assert (told.mean, told.std, told.min, told.max, told.range) == pytest.approx(expected, rel=1e-9)


def valid_by_hand(panel: Panel, tier: Tier, day: int, stock: int) -> bool:
    """Whether a stock-day counts, by looking at its closes one by one."""
    there = [bool(np.isfinite(panel.close[each, stock])) for each in range(max(0, day - tier.window.days + 1), day + 1)]
    return there[-1] and sum(there) >= tier.window.least_present and bool(np.isfinite(panel.close[day + 1, stock]))


def test_samples_are_counted_from_the_masks_of_the_drawn_days_and_stocks(whole: Path, ready: Setup) -> None:
    counted = []
    for step in range(STEPS):
        plan = ready.sampler.plan(step)
        drawn = [(int(first) + day, int(stock)) for first, stocks in zip(plan.first_days, plan.stocks, strict=True)
                 for day in range(2) for stock in stocks if stock >= 0]  # fmt: skip
        counted.append(sum(valid_by_hand(ready.panel, ready.tier, day, stock) for day, stock in drawn))
    assert [event["samples"] for event in steps_of(whole)] == counted
    assert min(counted) < 128, "the market has no gap in any batch: nothing is tested"
    told = result.read(whole / "result.json")
    assert told.samples == sum(counted)
    assert told.effective_batch.samples == pytest.approx(np.mean(counted))


def test_phases_differ_in_rate_and_parts_as_the_tier_states(whole: Path, tiny: Tier) -> None:
    log = events.read(whole)
    started = {event["phase"]: event for event in log if event["kind"] == "phase_started"}
    assert {name: started[name]["parts"] for name in PHASES} == {n: list(p.parts) for n, p in tiny.phases.items()}
    sizes = [started[name]["parameters"] for name in PHASES]
    assert sizes[0] < sizes[1] < sizes[2] == sizes[3] == result.read(whole / "result.json").parameters
    rates = {name: [e["learning_rate"] for e in steps_of(whole) if e["phase"] == name] for name in PHASES}
    assert rates["baseline"] == [3e-3 / 2, *[3e-3] * 5]
    assert rates["adaptive_norm"] == [2e-3] * 3
    assert rates["gat"] == [4e-3] * 6
    half_way = 2e-3 * (0.05 + 0.95 / 2)
    assert rates["fine_tuning"] == pytest.approx([2e-3, half_way, 2e-3 * 0.05])


def test_a_phase_moves_the_weights_of_its_own_parts_only(whole: Path) -> None:
    best = [load_file(path) for path in sorted((whole / "checkpoints").glob("best-*.safetensors"))]
    moved = [{n for n in after if not torch.equal(before[n], after[n])} for before, after in itertools.pairwise(best)]
    graph = {name for name in best[0] if name.startswith("graph.")}
    assert graph
    assert not moved[0] & graph
    assert moved[1] & graph
    assert all(any(name.startswith("temporal.") for name in each) for each in moved)


def test_the_best_epoch_of_a_phase_is_that_of_the_best_stated_metric(whole: Path) -> None:
    found = result.read(whole / "result.json")
    assert found.validation_metric == "ic"
    for phase in found.phases:
        ics = [epoch.validation_ic for epoch in phase.epochs]
        assert phase.best_epoch == int(np.argmax(ics)) + 1


def test_settings_are_written_down_with_where_each_came_from(whole: Path, tiny: Tier) -> None:
    told = json.loads((whole / "config.json").read_text())
    assert Tier.model_validate(told["tier"]).sha256() == tiny.sha256()
    origin = told["provenance"]
    assert origin["model.hidden_size"] == "tiny.yaml"
    assert origin["validation_metric"] == "quickstart.yaml"
    assert origin["optimizer.clip_norm"] == "tier1.yaml"
    assert origin["runtime.deterministic"] == "mode optimized"

    def leaves(group: dict[str, Any], path: str = "") -> set[str]:
        return {
            name for key, value in group.items()
            for name in (leaves(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}"})
        }  # fmt: skip

    assert leaves(told["tier"]) - origin.keys() == set()
    assert {"torch", "python", "atft"} <= told["versions"].keys()


def test_the_report_asks_nothing_of_the_network(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    named = {match for match in re.findall(r"https?://[^\s\"'<>)]+", page)}
    assert all("xmlns" in before for before in re.findall(r"(.{12})https?://", page.replace("\n", " "))), named
    references = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", page)
    assert [each for each in references if not each.startswith(("#", "data:"))] == []
    assert not re.search(r"<(script|link|iframe)\b", page)


def test_json_is_one_object_on_standard_output_and_nothing_else(whole: Path, train: Train, tmp_path: Path) -> None:
    shown = run("evaluate", whole, "--json")
    assert (shown.code, shown.err) == (0, "")
    told = shown.json
    assert told["result"] == str(whole / "result.json")
    assert told["test"]["ic"] == result.read(whole / "result.json").test.ic
    bad = train(tmp_path, "x", "--json", "--set", "model.hidden_size=0")
    assert bad.code == 2
    assert "model.hidden_size" in bad.json["error"]


def test_a_process_without_a_terminal_writes_plain_lines_and_no_warning(
    tier_file: Path, panel: Path, tmp_path: Path
) -> None:
    where = ("--data", panel, "--runs", tmp_path, "--run", "plain")
    done = run_apart("train", "--accept=all", tier_file, *where, "--max-epochs", 3)
    assert done.code == 0, done
    for text in (done.out, done.err):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
        assert "warning" not in text.lower()
    assert [line.split()[0] for line in done.err.splitlines() if "epoch " in line] == ["baseline"] * 2 + [
        "adaptive_norm"
    ]
    assert "on cpu, precision float32" in done.err
    assert f"result: {tmp_path / 'plain' / 'result.json'}" in done.out
    assert "ridge" in done.out
    assert json.loads((tmp_path / "plain/config.json").read_text())["command"][:2] == ["atft", "train"]


def test_running_twice_gives_the_same_bits(whole: Path, train: Train, tmp_path: Path, no_report: None) -> None:
    assert train(tmp_path, "again").code == 0
    again = tmp_path / "again"
    assert steps_of(again) == steps_of(whole)
    assert epochs_of(again) == epochs_of(whole)
    assert figures_of(again) == figures_of(whole)
    assert weights_of(again) == weights_of(whole)


def first_steps(train: Train, monkeypatch: pytest.MonkeyPatch, runs: Path, *given: str) -> list[events.Event]:
    stop_at(monkeypatch, at_step(10))
    with pytest.raises(Stopped):
        train(runs, "cut", *(part for each in given for part in ("--set", each)))
    return steps_of(runs / "cut")


@pytest.mark.parametrize(
    "runtime",
    [
        ("runtime.micro_batch_blocks=1", "runtime.kept_graphs=1"),
        ("runtime.micro_batch_blocks=1", "runtime.kept_graphs=2"),
        ("runtime.micro_batch_blocks=3",),
        ("runtime.loader_workers=2",),
        ("mode=safe",),
    ],
    ids=", ".join,
)
def test_no_way_of_using_the_machine_changes_the_curve(
    whole: Path, train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime: tuple[str, ...]
) -> None:
    found = first_steps(train, monkeypatch, tmp_path, *runtime)
    expected = steps_of(whole)[:10]
    if "micro_batch" in runtime[0]:
        assert found[0]["micro_batches"] > expected[0]["micro_batches"]
        assert found[0]["kept_graphs"] == {"1": 1, "2": 2, "3": 2}[runtime[-1][-1]]
    expected_deviation = (8 - 3) ** -0.5
    for one, other in zip(found, expected, strict=True):
        assert one["samples"] == other["samples"]
        assert abs(one["loss"] - other["loss"]) <= 1e-5 * max(abs(other["loss"]), expected_deviation)


def test_another_seed_and_no_dropout_do_change_the_curve(
    whole: Path, train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number, given in enumerate(("seed=2", "model.dropout=0.0")):
        found = first_steps(train, monkeypatch, tmp_path / str(number), given)
        assert all(one["loss"] != other["loss"] for one, other in zip(found, steps_of(whole)))


def test_modes_differ_in_nothing_that_is_learned(whole: Path, tier_file: Path) -> None:
    from atft.experiment.tiers import resolve

    both = {mode: resolve(str(tier_file), flags={"mode": mode}).tier for mode in MODES}
    assert both["safe"].learning() == both["optimized"].learning()
    assert both["safe"].sha256() == json.loads((whole / "result.json").read_text())["config_sha256"]


def test_no_day_of_the_test_period_is_looked_at_before_the_one_evaluation(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: Setup, no_report: None
) -> None:
    looked, evaluations = [], []
    blocks = Gatherer.blocks

    def spy(self: Gatherer, first_days: Any, stocks: Any, numbers: Any, days: int) -> Any:
        looked.append(int(np.max(first_days)) + days - 1)
        return blocks(self, first_days, stocks, numbers, days)

    def note(event: events.Event) -> bool:
        if event["kind"] == "evaluation_started":
            evaluations.append(len(looked))
        return False

    monkeypatch.setattr(Gatherer, "blocks", spy)
    stop_at(monkeypatch, note)
    assert train(tmp_path, "watched").code == 0
    (before,) = evaluations
    assert before > STEPS
    # A label of one day from the last validated decision ends before the first tested decision's label begins.
    assert max(looked[:before]) <= ready.periods.validate[-1] < ready.periods.test[0]
    assert max(looked[before:]) == ready.periods.test[-1]


def test_the_test_period_is_evaluated_once(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atft.experiment.assess.assess", None)
    with unchanged(whole):
        shown = run("evaluate", whole)
    assert shown.code == 0
    assert f"{result.read(whole / 'result.json').test.ic:.4f}" in shown.out


@pytest.mark.parametrize("command", ["evaluate", "train --resume"])
def test_a_run_that_was_trained_but_not_evaluated_is_evaluated_now(
    command: str, whole: Path, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command != "evaluate":
        monkeypatch.setattr("atft.launch.local.write_report", Path.touch)
    stop_at(monkeypatch, lambda event: event["kind"] == "evaluation_started")
    with pytest.raises(Stopped):
        train(tmp_path, "late")
    assert not (tmp_path / "late/result.json").exists()
    done = run("evaluate", tmp_path / "late") if command == "evaluate" else train(tmp_path, "late", "--resume")
    assert done.code == 0, done
    assert figures_of(tmp_path / "late") == figures_of(whole)
    assert command != "evaluate" or (tmp_path / "late/report.html").exists()


def test_a_run_that_is_not_trained_to_its_end_is_not_evaluated(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, at_step(5))
    with pytest.raises(Stopped):
        train(tmp_path, "part")
    with unchanged(tmp_path):
        refused(run("evaluate", tmp_path / "part"), "not trained to its end", "phase 1 of 4", "--resume")


def test_a_learning_rate_that_explodes_stops_the_run_and_names_where(train: Train, tmp_path: Path) -> None:
    done = train(tmp_path, "wild", "--lr", "1e30")
    assert done.code == 1
    message = next(line for line in done.err.splitlines() if line.startswith("atft: "))
    assert re.match(r"atft: step [23], phase baseline: .*values are not finite", message)
    assert not (tmp_path / "wild/result.json").exists()


def test_a_gradient_that_is_not_finite_stops_the_run_and_names_the_tensor(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, chosen = setups.build_network, "score_head.score.weight"

    def spoilt(*given: Any, **more: Any) -> Any:
        network = build(*given, **more)
        passes = itertools.count(1)  # one backward pass a step: everything is one micro-batch
        network.get_parameter(chosen).register_hook(lambda g: g * torch.nan if next(passes) == 8 else g)
        return network

    monkeypatch.setattr(setups, "build_network", spoilt)
    done = train(tmp_path, "spoilt")
    assert done.code == 1, done
    assert f"step 8, phase adaptive_norm: the gradient of {chosen}: " in done.err
    assert "Traceback" not in done.err
    assert [event["step"] for event in steps_of(tmp_path / "spoilt")] == list(range(1, 8))


def test_outcome_of_a_run_is_told_in_words_and_figures(whole: Path) -> None:
    shown: Outcome = run("evaluate", whole)
    assert shown.err == ""
    for each in ("model (tiny)", "ridge", "reversal", "equal weight", "shuffled", "report: "):
        assert each in shown.out
