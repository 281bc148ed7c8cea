"""The benchmarks run, count what they say they count, and fail where a bound is exceeded."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from atft.experiment.oracle import loss_in_one_piece
from benchmarks import __main__ as command
from benchmarks import exact_step, peers
from benchmarks.common import Bound, Plan, Result, Spent, Timing, interleaved, table
from benchmarks.memory import peak_bytes
from benchmarks.subject import ALL, TINY_SHAPE, Subject

MEGABYTE = 1_000_000


@pytest.mark.parametrize("case", command.CASES)
def test_a_quick_run_yields_finite_rows_and_bounds(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([case, "--quick", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / f"{case}.json").read_text())
    numbers = [each for rows in found["tables"].values() for row in rows for each in row.values()]
    numbers += [bound["measured"] for bound in found["bounds"]]
    assert found["bounds"]
    assert all(found["tables"].values())
    assert all(math.isfinite(each) for each in numbers if not isinstance(each, str))
    assert (tmp_path / f"{case}.md").read_text() == capsys.readouterr().out.removesuffix("\n")


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (1.051, 1)])
def test_a_row_beyond_its_bound_makes_the_exit_code_1(
    factor: float, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def doctored(plan: Plan) -> Result:
        times = {name: timing(1.0) for name in ("plain", "exact, last kept")} | {"exact, all kept": timing(factor)}
        bounds = exact_step.bounds_of("a shape", times, {1: 100, 16: 100})
        return Result(
            "Doctored", "", {"Time": [{"way": "exact", **times["exact, all kept"].row(times["plain"])}]}, bounds
        )

    monkeypatch.setattr(command, "import_module", lambda name: SimpleNamespace(run=doctored))
    assert command.main(["exact-step", "--out", str(tmp_path)]) == code
    assert command.main(["exact-step", "--quick", "--out", str(tmp_path)]) == 0
    assert ("all kept / plain is 1.051" in capsys.readouterr().err) == bool(code)


def test_a_number_that_is_not_finite_is_within_no_bound() -> None:
    bound = Bound("a ratio", math.nan, 1.0)
    assert not bound.holds
    assert not replace(bound, least=True).holds


def test_ways_take_turns_and_none_always_follows_the_same() -> None:
    order: list[str] = []
    interleaved({name: lambda name=name: order.append(name) for name in "abc"}, 3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"


def test_a_table_has_a_line_for_each_row() -> None:
    assert table([{"a": "x", "b": 1234}, {"a": "y", "b": 0.123456}]) == (
        "| a | b |\n| --- | --- |\n| x | 1,234 |\n| y | 0.1235 |"
    )


def test_peak_memory_counts_what_is_given_back_and_nothing_that_stays() -> None:
    kept: list[torch.Tensor] = []

    def work() -> None:
        kept.append(torch.ones(5 * MEGABYTE, dtype=torch.uint8))
        two = torch.ones(2 * MEGABYTE, dtype=torch.uint8)
        three = torch.ones(3 * MEGABYTE, dtype=torch.uint8)
        del two
        four = torch.ones(4 * MEGABYTE, dtype=torch.uint8)
        del three, four

    assert peak_bytes(work) == 7 * MEGABYTE


@pytest.mark.parametrize("way", peers.PEERS)
def test_a_peer_has_the_gradient_of_the_whole_batch(way: str) -> None:
    errors = peers.gradient_errors(TINY_SHAPE, 1)
    assert errors[way] <= 1e-5
    assert errors["averaging"] > 0.05


def test_plain_has_the_gradient_of_the_batch_in_one_piece() -> None:
    tier = TINY_SHAPE.tier()
    subject = Subject.of(tier, TINY_SHAPE.features)
    loss = exact_step.plain(subject)
    found = subject.gradient()
    subject.network.double().zero_grad(set_to_none=True)
    expected = loss_in_one_piece(
        subject.network, subject.batch, ALL, subject.keys, kind="pooled", weights=tier.objective.weights.model_dump(),
        temperature=0.1, cost=0.0, levels=tier.model.quantiles,
    )  # fmt: skip
    torch.autograd.backward(expected)
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert (found - subject.gradient()).norm() <= 1e-5 * found.norm()


def timing(seconds: float) -> Timing:
    return Timing.of([Spent(seconds, seconds)] * 5)
