"""Advice on the batch: rules, rows, words and the judgement of branches, from figures that are given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from atft.config import Tier
from atft.errors import UseError
from atft.experiment.advise import Candidate, Machine, composed, conclusions, parse, row, table
from atft.experiment.advise_branch import Branch, critical, judged, scaled
from atft.experiment.advise_rules import Rules
from atft.experiment.tiers import resolve
from atft.train.noise_scale import Estimate

MACHINE = Machine(0.1, 0.5, 1e6, 1e9, 1000, "cpu, 1 thread")
FOUND = Estimate(20, 8.0, 1.0, 2000.0, 1500.0, 3000.0)


@pytest.fixture(scope="module")
def tier1() -> Tier:
    return resolve("tier1", environ={}).tier


def test_rules_are_those_of_the_original_for_its_own_figures() -> None:
    """ORIGINAL.md: √ of 5.6M is 2,366 and of 20M 4,472, which it printed as ten times the root."""
    small, large, huge = (Rules.of(count) for count in (5_600_000, 20_000_000, 50_000_000))
    assert (round(small.root), round(small.ten_roots)) == (2366, 23664)
    assert (round(large.root), large.least, large.best) == (4472, 2048, (2048, 4096))
    assert (small.least, small.best) == (1024, (1024, 2048))
    assert (huge.least, huge.best) == (4096, (4096, 8192))
    assert small.met(1024) == ["table", "best"]
    assert large.met(8192) == ["√p", "table"]
    assert small.disagree
    assert not Rules.of(10_000).disagree


def test_a_batch_is_made_of_whole_blocks_that_the_training_days_hold(tier1: Tier) -> None:
    whole = composed(2048, tier1, most_blocks=100)
    assert whole.batch is not None
    assert (whole.batch.days, whole.batch.stocks_per_day, whole.batch.blocks) == (32, 64, 8)
    assert "whole blocks of 256" in str(composed(1000, tier1, most_blocks=100).why_not)
    assert "hold 7 separate blocks" in str(composed(2048, tier1, most_blocks=7).why_not)


def test_a_row_counts_data_steps_time_and_memory(tier1: Tier) -> None:
    candidate = composed(4096, tier1, most_blocks=100)
    found = row(candidate, tier1, FOUND, 0.05, MACHINE, (2, 4), Rules.of(1_000_000))
    assert found.data_factor == pytest.approx(1 + 4096 / 2000)
    assert found.steps_factor == pytest.approx(1 + 2000 / 4096)
    assert found.steps_per_epoch == 25
    assert found.step_seconds == pytest.approx(0.1 + 16 * 0.5 + 8 * 0.35 * 0.5)  # 8 of 16 blocks are computed twice
    assert found.run_seconds == pytest.approx(29 * 25 * (found.step_seconds or 0))
    assert found.peak_bytes == 8 * 1e6 + 16 * 1000
    assert found.micro_batches == 8


def test_what_cannot_be_told_has_no_factor_and_no_follow_up(tier1: Tier) -> None:
    unknown = Estimate(20, 8.0, 0.0, at_least=5000.0, reason="no signal")
    found = row(composed(1024, tier1, 100), tier1, unknown, None, MACHINE, (4, 1), Rules.of(1_000_000))
    assert found.data_factor is None
    assert found.steps_factor is None
    text = " ".join(conclusions(tier1, [found], unknown, Rules.of(1_000_000), "here"))
    assert "not estimable, no signal" in text
    assert "at least 5,000 stock-days" in text
    assert "1,024 stock-days is below it" in text
    nothing = " ".join(conclusions(tier1, [found], Estimate(0, reason="no step was measured"), Rules.of(1), "here"))
    assert "Follows: nothing" in nothing


@pytest.mark.parametrize(
    ("low", "high", "words"), [(1500, 3000, "below"), (500, 1100, "within"), (900, 3000, "within"), (100, 900, "above")]
)
def test_what_follows_depends_on_the_interval_and_not_on_the_estimate(
    tier1: Tier, low: float, high: float, words: str
) -> None:
    noise = Estimate(20, 8.0, 1.0, (low + high) / 2, low, high)
    text = " ".join(conclusions(tier1, [], noise, Rules.of(1_000_000), "here"))
    assert f"1,024 stock-days is {words}" in text
    assert "Does not follow" in text


def test_the_table_marks_the_tiers_own_batch_and_tells_what_is_not_possible(tier1: Tier) -> None:
    from atft.experiment.advise import Row

    own = row(composed(1024, tier1, 100), tier1, FOUND, 0.05, MACHINE, (4, 1), Rules.of(1_000_000))
    lines = list(table([own, Row(1000, 0, 0, "no whole blocks")], 1024))
    assert lines[2].startswith("  1,024*")
    assert "not possible: no whole blocks" in lines[3]


def test_a_step_is_a_part_that_stays_and_a_part_for_each_block() -> None:
    known = {"block_bytes": 1.0, "free_bytes": 1.0, "parameters": 1, "device": ""}
    found = Machine.of_times({2: 1.2, 8: 4.2}, **known)
    assert (found.first_seconds, found.block_seconds) == (pytest.approx(0.2), pytest.approx(0.5))
    alone = Machine.of_times({4: 2.0}, **known)
    assert (alone.first_seconds, alone.block_seconds) == (0.0, 0.5)


@pytest.mark.parametrize("text", ["", "a", "256,,512", "-1", "0"])
def test_candidates_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(UseError, match="--candidates"):
        parse(text)


def test_candidates_rise_and_come_once() -> None:
    assert parse("1024, 256,1024") == [256, 1024]


def test_a_learning_rate_follows_the_batch_by_the_rule_that_is_stated() -> None:
    assert [scaled(1e-3, 4.0, rule) for rule in ("sqrt", "linear", "held")] == pytest.approx([2e-3, 4e-3, 1e-3])


def branches(means: dict[int, float], noise: float, seeds: int, seed: int = 0) -> list[Branch]:
    rng = np.random.default_rng(seed)
    return [
        Branch(size, number, 4096 // size, 1e-3, mean + noise * rng.standard_normal(), 0.0)
        for size, mean in means.items()
        for number in range(seeds)
    ]


def test_the_first_batch_that_is_worse_beyond_noise_is_named() -> None:
    found = judged(branches({256: -1.0, 512: -1.0, 1024: -0.5, 2048: 0.0}, 0.02, 3))
    assert [each.verdict for each in found] == ["smallest", "not distinguishable", "worse", "worse"]
    assert critical(found) == (512, 1024)


def test_noise_alone_names_no_batch_more_often_than_its_level() -> None:
    equal, false = dict.fromkeys((1, 2, 4, 8), 0.0), 0
    for seed in range(400):
        found = judged(branches(equal, 1.0, 3, seed))
        false += any(each.verdict != "not distinguishable" for each in found[1:])
    assert false / 400 <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5
    assert critical(judged(branches({1: 0.0, 2: 0.0}, 1.0, 4))) == (None, None)


def test_the_interval_of_two_batches_is_that_of_a_paired_t_test() -> None:
    found = branches({1: 0.0, 2: 0.3}, 1.0, 6)
    losses = np.array([each.loss for each in found]).reshape(2, 6)
    told = judged(found)[1]
    expected = stats.ttest_rel(losses[1], losses[0]).confidence_interval(0.95)
    assert (told.low, told.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_a_candidate_that_cannot_be_composed_is_no_branch(tier1: Tier) -> None:
    from atft.experiment.advise_measure import possible

    with pytest.raises(UseError, match="two batches"):
        possible([composed(1024, tier1, 100), Candidate(100, None, "no whole blocks")])
