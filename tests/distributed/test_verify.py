"""``atft verify``: what it compares, what it tells, and that what is broken fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from atft.config import Tier
from atft.errors import RunError, UseError
from atft.experiment import verify_work
from atft.experiment.oracle import loss_in_one_piece
from atft.experiment.peak import peak_bytes
from atft.experiment.verify import Measured, Partition, courses, limits, naive_pieces, partitions, rounds, row_of
from atft.experiment.verify_work import Found, Job, measure
from atft.launch import verify
from atft.model.network import Output
from atft.objective.mix import Mix
from atft.objective.rows import RowSettings, day_rows
from atft.train.collectives import Group
from atft.train.step import ExactStep
from tests.market import random_blocks

SOUND = Measured(2, 1, 1e-16, 1e-15, 7, 1, 1, 100, 0.5, 1 << 20)
PLAIN = Measured(1, 1, 1e-17, 1e-16, 7, 0, 0, 0, 0.25, 2 << 20)


def exactness(tier: Path, panel: Path, **given: Any) -> dict[str, Any]:
    asked = {"workers": "1,2", "micro_batches": "1,2,all", "dtype": "float64", "step": 0, "quiet": True} | given
    return verify.exactness(str(tier), {}, panel, **asked)


@pytest.fixture(scope="module")
def report(tier_file: Path, panel: Path) -> dict[str, Any]:
    return exactness(tier_file, panel)


def test_every_partition_passes_and_is_shown(report: dict[str, Any]) -> None:
    verify.judge(report)
    assert report["passed"]
    shown = [(row["workers"], row["micro_batches"], row["kept_graphs"]) for row in report["partitions"]]
    assert shown == [(1, 1, 1), (1, 2, 1), (1, 2, 2), (1, 4, 1), (1, 4, 4), (2, 1, 1), (2, 2, 1), (2, 2, 2)]
    assert all(0 <= row["gradient_error"] <= 1e-12 for row in report["partitions"])
    assert all(0 <= row["loss_difference"] <= 1e-12 for row in report["partitions"])
    assert max(row["gradient_error"] for row in report["partitions"]) > 0
    lines = report["text"].splitlines()
    assert len([line for line in lines if line.startswith("exact ") and line.endswith("  pass")]) == 8
    assert lines[-1] == "all 8 partitions pass"


def test_one_gather_of_rows_and_one_sum_of_gradients(report: dict[str, Any]) -> None:
    for row in report["partitions"]:
        crowd = row["workers"] > 1
        assert (row["gathers"], row["reductions"]) == (int(crowd), int(crowd))
        sent = 8 * report["parameters"] + 8 * 9 * (4 + 1)  # a gradient; 9 terms of 4 days and of one note
        assert row["bytes_per_worker"] == (sent if crowd else 0)


def test_memory_follows_the_micro_batch(report: dict[str, Any]) -> None:
    peak = {
        (row["workers"], row["micro_batches"], row["kept_graphs"]): row["peak_bytes"] for row in report["partitions"]
    }
    assert peak[1, 1, 1] == pytest.approx(report["plain"]["peak_bytes"], rel=0.1)
    assert peak[1, 4, 1] < 0.4 * peak[1, 1, 1]
    assert peak[1, 4, 4] == pytest.approx(peak[1, 1, 1], rel=0.25)
    assert peak[2, 1, 1] == pytest.approx(peak[1, 2, 1], rel=0.25)


def test_naive_averaging_stands_below_as_what_is_not_done(report: dict[str, Any]) -> None:
    assert [each["pieces"] for each in report["naive"]] == [2, 4]
    assert all(each["gradient_error"] > 0.05 for each in report["naive"])
    lines = [line for line in report["text"].splitlines() if line.startswith("naive ")]
    assert len(lines) == 2
    assert all(line.endswith("NOT done") for line in lines)


def test_the_report_is_plain_data(report: dict[str, Any]) -> None:
    told = json.loads(json.dumps(report))
    assert told["number_format"] == "float64"
    assert told["bound"] == {"gradient": 1e-12, "loss": 1e-12}
    assert told["parts"] == ["adaptive_norm", "graph", "temporal", "variable_selection"]
    assert told["dropout"] == 0.2


def measure_averaging(group: Group, job: Job, *more: Any) -> Found:
    """As ``measure``, with a step that takes the mean of its micro-batches' gradients instead of their sum."""
    real = ExactStep.__call__

    def averaging(self: ExactStep, *arguments: Any, **named: Any) -> Any:
        outcome = real(self, *arguments, **named)
        for parameter in self.network.parameters():
            if parameter.grad is not None:
                parameter.grad /= outcome.micro_batches
        return outcome

    ExactStep.__call__ = averaging  # type: ignore[method-assign]
    return measure(group, job, *more)


def test_a_step_that_averages_fails_where_there_is_something_to_average(tier_file: Path, panel: Path) -> None:
    report = exactness(tier_file, panel, workers="1", micro_batches="1,2", work=measure_averaging)
    assert [bool(row["problems"]) for row in report["partitions"]] == [False, True, True]
    assert [row["gradient_error"] for row in report["partitions"][1:]] == pytest.approx([0.5, 0.5])
    failed = [line for line in report["text"].splitlines() if "FAIL: gradient error 5.0e-01, bound 1.0e-12" in line]
    assert len(failed) >= 2
    with pytest.raises(RunError, match="2 of 3 partitions are beyond the bound") as raised:
        verify.judge(report)
    assert raised.value.exit_code == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"gradient_error": 2e-12}, "gradient error 2.0e-12, bound 1.0e-12"),
        ({"gradient_error": float("nan")}, "gradient error nan"),
        ({"loss_difference": 1e-3}, "loss difference 1.0e-03, bound 1.0e-12"),
        ({"checksum": 8}, "do not hold the same loss and gradient"),
        ({"gathers": 2}, "2 gathers and 1 all-reduces in a step, not 1 of each"),
        ({"reductions": 4}, "1 gathers and 4 all-reduces"),
    ],
)
def test_one_worker_beyond_a_bound_is_enough(change: dict[str, Any], told: str) -> None:
    row = row_of([SOUND, replace(SOUND, **change)], PLAIN, limits("float64", PLAIN))
    assert len(row.problems) == 1
    assert told in row.problems[0]
    assert row_of([SOUND, SOUND], PLAIN, limits("float64", PLAIN)).problems == []


def test_bounds_are_those_of_the_number_format() -> None:
    rough = replace(PLAIN, gradient_error=3e-6)
    assert limits("float64", rough).gradient == 1e-12
    assert limits("float32", PLAIN).gradient == 1e-6
    assert limits("float32", rough).gradient == 6e-6
    assert limits("bfloat16", rough).gradient == 1e-2


def test_partitions_are_capped_at_the_blocks_of_the_largest_shard_and_each_is_done_once() -> None:
    found = partitions(24, [1, 3, 5], [1, 5, None])
    assert found[:5] == [
        Partition(1, 24, 1),
        Partition(1, 5, 1),
        Partition(1, 5, 5),
        Partition(1, 1, 1),
        Partition(1, 1, 24),
    ]
    assert partitions(4, [4], [1, 2, None]) == [Partition(4, 1, 1)]
    for each in found:
        covered = [block for first, last in each.pieces(24) for block in range(first, last)]
        assert covered == list(range(24))
    assert [len(pieces) for pieces in naive_pieces(24, found)] == [3, 5, 12, 24]


def test_each_group_of_processes_trains_all_that_is_ready() -> None:
    found = rounds(courses([1, 2, 4], 50, "float64"))
    assert [workers for workers, _ in found] == [1, 2, 4, 2]
    assert sum(len(legs) for _, legs in found) == 9
    at = {}
    for turn, (workers, legs) in enumerate(found):
        for leg in legs:
            assert leg.course.legs[leg.number][0] == workers
            assert at.get(leg.course, (-1, -1)) < (turn, leg.number)
            at[leg.course] = turn, leg.number


def test_number_formats_are_held_to_their_own_bounds_on_one_worker(tiny: Tier, panel: Path, tmp_path: Path) -> None:
    cases = {"float32": tiny, "tier": tiny.model_copy(update={"precision": "bf16-mixed"})}
    for dtype, tier in cases.items():
        job = Job(tier, panel, tmp_path, dtype, step=3)  # type: ignore[arg-type]
        found = measure(Group(), job, [Partition(1, 2, 1)], [])
        assert found.plain is not None
        assert found.facts["number_format"] == {"float32": "float32", "tier": "bfloat16"}[dtype]
        assert found.measured[0].gradient_error <= max(1e-6, 2 * found.plain.gradient_error)
        assert 1e-9 < found.measured[0].gradient_error < 0.1


def test_memory_that_does_not_hold_the_batch_in_one_piece_is_told(
    tiny: Tier, panel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_work, "free_bytes", lambda device: 1e6)
    with pytest.raises(UseError, match=r"one piece in float64.*0\.0 GiB are free.*Mend: a machine with more memory"):
        measure(Group(), Job(tiny, panel, tmp_path), [], [])


def test_what_a_worker_is_refused_is_wrong_use_here_too(
    tier_file: Path, panel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "run_group", lambda work, workers, *more, timeout: [work(Group(), *more)] * workers)
    with pytest.raises(UseError, match=r"fewer than batch\.stocks_per_day"):
        verify.exactness(
            str(tier_file), {"batch.stocks_per_day": 96, "epoch_stock_days": 768}, panel, workers="1",
            micro_batches="1", dtype="float64", step=0, quiet=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"workers": "1,8"}, r"8 workers for an effective batch of 4 blocks of 2 days.*Mend: at most 4 workers"),
        ({"workers": "0,2"}, r"--workers 0,2: '0' is no whole number from 1\. Mend: --workers 1,2,4"),
        ({"workers": "two"}, r"--workers two: 'two' is no whole number"),
        ({"workers": "1,all"}, r"--workers 1,all: 'all' is no whole number"),
        ({"micro_batches": "1,,2"}, r"1,,2: '' is no whole number from 1\. Mend: --micro-batches 1,2,all"),
    ],
)  # fmt: skip
def test_wrong_use_is_refused_before_a_process_starts(
    given: dict[str, Any], told: str, tier_file: Path, panel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "run_group", pytest.fail)
    with pytest.raises(UseError, match=told):
        exactness(tier_file, panel, **given)


def test_a_panel_is_needed(tier_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UseError, match="--data is missing"):
        verify.determinism(str(tier_file), {}, None, workers="1", steps=4, dtype="float64", quiet=True)
    with pytest.raises(UseError, match="Mend: "):
        verify.determinism(str(tier_file), {}, tmp_path, workers="1", steps=4, dtype="float64", quiet=True)


def test_peak_is_the_most_that_is_alive_at_once() -> None:
    before = torch.zeros(1 << 20, dtype=torch.uint8)

    def work() -> None:
        held = [torch.zeros(1 << 20, dtype=torch.uint8) for _ in range(3)]
        del held
        other = torch.zeros(5 << 19, dtype=torch.uint8)
        del other

    assert peak_bytes(work, torch.device("cpu")) == pytest.approx(3 << 20, rel=0.01)
    assert len(before) == 1 << 20


class Stated:
    """In the place of a network: scores and quantiles as stated."""

    def __init__(self, scores: torch.Tensor, quantiles: torch.Tensor) -> None:
        self.output = Output(scores, quantiles)

    def __call__(self, *ignored: object) -> Output:
        return self.output


@pytest.mark.parametrize("kind", ["portfolio", "pooled"])
def test_the_oracle_means_what_the_objective_means(kind: str) -> None:
    """Also on days whose scores or returns are all the same, and with horizons that are partly unknown."""
    blocks = random_blocks(5, blocks=8)
    torch.manual_seed(1)
    scores = torch.randn(blocks.valid.shape, dtype=torch.float64)
    quantiles = torch.randn(*blocks.valid.shape, 2, 3, dtype=torch.float64)
    scores[3, 0], blocks.returns[4, 1] = 0.25, 0.0
    unknown = torch.rand(*blocks.valid.shape, 2) < 0.3
    blocks = replace(
        blocks, quantile_returns=torch.where(unknown, torch.nan, blocks.returns[..., None].expand(-1, -1, -1, 2))
    )
    scores, quantiles = scores.requires_grad_(), quantiles.requires_grad_()
    weights, levels = {"sharpe": 0.5, "rank_ic": 0.3, "cs_ic": 0.2, "quantile": 2.0}, (0.1, 0.5, 0.9)
    cost = 0.002 if kind == "portfolio" else 0.0
    mix = Mix(kind, **weights)  # type: ignore[arg-type]
    expected = mix.loss(mix.parts(day_rows(scores, quantiles, blocks, RowSettings(levels, 0.2, cost, True, True))))
    found = loss_in_one_piece(
        Stated(scores, quantiles), blocks, frozenset(), None, kind=kind, weights=weights, temperature=0.2, cost=cost,  # type: ignore[arg-type]
        levels=levels,
    )  # fmt: skip
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    for own, other in zip(*(torch.autograd.grad(loss, (scores, quantiles)) for loss in (found, expected)), strict=True):
        assert torch.allclose(own, other, rtol=1e-9, atol=1e-13)
