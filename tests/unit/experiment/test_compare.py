"""Configurations side by side: what is called a difference, what cannot be, and what is refused."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from atft.config import Expectation
from atft.errors import UseError
from atft.evaluate.paired import sharpe_difference
from atft.experiment import compare_words
from atft.experiment.compare import Estimate, against, compared, corrected, pairs
from atft.experiment.compare_each import expectations, judged, own_interval
from atft.experiment.compare_progress import batch_figures, cost_of, expected_range, phase_figures
from atft.experiment.compare_runs import Configuration, Pooled, Ran, Usage, configurations
from atft.experiment.tiers import resolve

from .compared import changed, dates, evaluated, phase

DAYS = 240


def returns(seed: int, mean: float = 0.0005, days: int = DAYS) -> np.ndarray:
    return mean + 0.01 * np.random.default_rng(seed).standard_normal(days)


def several(name: str, seeds: range, mean: float, shift: int = 0, **paths: Any) -> list[Ran]:
    """Seeds of one recipe."""
    return [evaluated(f"{name}{seed}", changed(seed, **paths), returns(100 * shift + seed, mean)) for seed in seeds]


def test_seeds_of_a_recipe_are_one_configuration_in_the_order_of_the_first_run() -> None:
    small, large = several("a", range(1, 4), 0), several("b", range(1, 3), 0, 1, model__hidden_size=128)
    found = configurations([small[2], *large, small[0], small[1]])
    assert [[run.name for run in each.runs] for each in found] == [["a1", "a2", "a3"], ["b1", "b2"]]
    assert [each.name for each in found] == ["tier1 (model.hidden_size 64)", "tier1 (model.hidden_size 128)"]


def test_a_variable_of_all_phases_names_a_configuration_as_one() -> None:
    slow = evaluated("slow", changed(LR=1e-4), returns(2))
    found = configurations([evaluated("a", changed(), returns(1)), slow])
    assert [each.name for each in found] == [f"tier1 (phases.*.learning_rate {rate})" for rate in ("0.0002", "0.0001")]


def test_another_panel_is_another_configuration() -> None:
    one, two = evaluated("a", changed(), returns(1)), evaluated("b", changed(), returns(2), panel="c" * 64)
    assert len(configurations([one, two])) == 2


def test_a_mode_is_a_configuration_only_where_the_seed_is_the_same() -> None:
    quick, safe = evaluated("a", changed(), returns(1)), evaluated("b", changed(mode="safe"), returns(1))
    other = evaluated("c", changed(2, mode="safe"), returns(2))
    assert len(configurations([quick, safe])) == 2
    apart = evaluated("d", changed(3, model__hidden_size=128), returns(3))
    assert [len(each.runs) for each in configurations([quick, other, apart])] == [2, 1]


def test_one_configuration_alone_and_one_training_twice_are_refused() -> None:
    with pytest.raises(UseError, match=r"a1, a2: are seeds of one configuration.*Mend"):
        configurations(several("a", range(1, 3), 0))
    twice = [evaluated(name, changed(), returns(1)) for name in ("x", "y")]
    with pytest.raises(UseError, match=r"x and y: are one configuration under one seed \(1\)"):
        configurations(twice)


def test_one_seed_each_has_the_paired_bootstrap_and_says_that_chance_in_training_is_missing() -> None:
    mine, its = returns(1), 0.6 * returns(1) + 0.4 * returns(2)
    found = compared(*_two([evaluated("a", changed(), mine)], [evaluated("b", changed(batch__days=32), its)]))
    known = sharpe_difference(mine, its)
    test = found.tests["sharpe_annual"]
    assert test.estimate == pytest.approx(known.bootstrap.estimate * math.sqrt(252))
    assert (test.low, test.high) == pytest.approx(
        [each * math.sqrt(252) for each in (known.bootstrap.low, known.bootstrap.high)]
    )
    said = compare_words.verdict(found)
    assert "Chance in training is not in this interval" in said
    assert "not distinguishable" in said
    clear = compared(*_two([evaluated("a", changed(), mine + 0.005)], [evaluated("b", changed(batch__days=32), its)]))
    assert "the trained models differ, this one is better (p < 0.001)" in compare_words.verdict(clear)


def test_with_several_seeds_on_one_side_their_spread_is_in_the_interval_and_it_says_so() -> None:
    its = several("b", range(1, 4), 0.0, 2, batch__days=32)
    found = compared(*_two([evaluated("a", changed(), returns(1))], its))
    test, said = found.tests["sharpe_annual"], compare_words.verdict(found)
    assert test.half_width > 1.96 * test.days_error
    assert "chance in days, and in training of the side that has several seeds" in said
    assert "Chance in training of the other side is not in this interval" in said


def _two(one: list[Ran], two: list[Ran]) -> tuple[Configuration, Configuration]:
    return Configuration("mine", tuple(one)), Configuration("its", tuple(two))


def test_a_clear_difference_over_seeds_is_called_better_and_noise_is_not() -> None:
    base = several("a", range(1, 6), 0.0, 1)
    better = compared(*_two(several("b", range(1, 6), 0.004, 2, batch__days=32), base))
    assert compare_words.verdict(better).startswith("mine against its: better (p < 0.001)")
    same = compared(*_two(several("c", range(1, 6), 0.0, 3, batch__days=32), base))
    assert compare_words.verdict(same).startswith("mine against its: not distinguishable: difference ")
    assert compare_words.verdict(same).endswith("over 5 seeds and 240 days (95 %, chance in days and in training).")
    assert better.tests["sharpe_annual"].paired_seeds


def test_where_seeds_share_their_days_wholly_pairs_have_the_paired_t_test_of_their_ratios() -> None:
    """Each seed earns the same days, moved by its own constant: the ratio's spread over seeds is all there is."""
    shared = returns(9, 0.0)
    shared = (shared - shared.mean()) / shared.std()
    levels = ([0.30, 0.10, 0.22, 0.18], [0.05, 0.11, 0.02, 0.09])
    sides = [
        Configuration(
            name, tuple(evaluated(f"{name}{seed}", changed(seed), level + shared) for seed, level in enumerate(own, 1))
        )
        for name, own in zip("ab", levels)
    ]
    found = compared(sides[0], sides[1]).tests["ic"]
    span = stats.ttest_rel(*(0.1 * np.array(own) for own in levels)).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((span.low, span.high))


def test_seeds_without_a_partner_are_left_out_and_named_where_three_have_one() -> None:
    base = several("a", range(1, 6), 0.0, 1)
    found = compared(*_two(several("b", range(3, 7), 0.0, 2, batch__days=32), base))
    test = found.tests["sharpe_annual"]
    assert (test.seeds, test.paired_seeds) == ((3, 3), True)
    assert found.left_out == ("b6", "a1", "a2")
    few = compared(*_two(several("b", range(4, 8), 0.0, 2, batch__days=32), base)).tests["sharpe_annual"]
    assert (few.seeds, few.paired_seeds) == ((4, 5), False)


def test_one_variable_can_be_causal_and_two_cannot_say_which() -> None:
    one = compared(
        *_two([evaluated("b", changed(batch__days=32), returns(2))], [evaluated("a", changed(), returns(1))])
    )
    assert compare_words.causality(one) == "This comparison can be causal: only batch.days differs."
    both = changed(batch__days=32, model__hidden_size=128)
    two = compared(*_two([evaluated("b", both, returns(2))], [evaluated("a", changed(), returns(1))]))
    assert compare_words.causality(two) == (
        "2 learning variables differ (batch.days, model.hidden_size): this comparison cannot say which of them made a "
        "difference."
    )


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"panel": "c" * 64}, "the panels are others"),
        ({"days": dates(DAYS, dt.date(2017, 2, 1))}, "test days are a's alone"),
        ({"tier": {"label__execution_lag": 1}}, "label.execution_lag is 1 and 0"),
    ],
)
def test_other_panels_days_and_labels_are_refused_unless_common_days_are_asked_for(
    more: dict[str, Any], told: str
) -> None:
    tier = changed(batch__days=32, **more.pop("tier", {}))
    sides = _two([evaluated("b", tier, returns(2), **more)], [evaluated("a", changed(), returns(1))])
    with pytest.raises(UseError, match=told) as refused:
        compared(*sides)
    assert "--common-days" in str(refused.value)
    found = compared(*sides, common_days=True)
    assert any(told in note for note in found.notes)
    expected = len(set(dates(DAYS)) & set(more.get("days", dates(DAYS))))
    assert found.tests["sharpe_annual"].days == expected


def test_another_horizon_and_too_few_common_days_are_refused_in_any_case() -> None:
    base = [evaluated("a", changed(), returns(1))]
    later = evaluated("b", changed(batch__days=32), returns(2), days=dates(DAYS, dt.date(2018, 1, 1)))
    with pytest.raises(UseError, match="days in common, fewer than the 20"):
        compared(*_two([later], base), common_days=True)
    longer = evaluated("b", changed(label__horizon=5), returns(2), horizon=5)
    with pytest.raises(UseError, match="holds each position for 5 days and a for 1"):
        compared(*_two([longer], base), common_days=True)


def test_a_run_without_a_result_is_compared_in_what_there_is_and_named() -> None:
    open_run = Ran("b", changed(batch__days=32), "b" * 64, state="The run has not finished: step 3 of 9.", steps=3)
    found = compared(*_two([open_run], [evaluated("a", changed(), returns(1))]))
    assert found.tests == {}
    assert "cannot be compared" in compare_words.verdict(found)
    assert found.notes == ("mine has no evaluated run, so that no test figures are compared",)


def test_several_comparisons_are_corrected_by_holm() -> None:
    base = Configuration("base", tuple(several("a", range(1, 4), 0.0, 1)))
    others = [
        Configuration(f"o{n}", tuple(several(f"o{n}", range(1, 4), n * 1e-3, 1 + n, model__hidden_size=64 * (n + 1))))
        for n in (1, 2, 3)
    ]
    found = against([base, *others], base, common_days=False)
    raw = [each.tests["sharpe_annual"].p_value for each in found]
    assert [each.tests["sharpe_annual"].p_value_holm for each in found] == pytest.approx(
        multipletests(raw, method="holm")[1]
    )
    assert len(pairs([base, *others], common_days=False)) == 6
    assert "corrected for 3 comparisons" in compare_words.verdict(found[2], 3)


def test_what_is_a_difference_by_itself_only_is_not_called_one() -> None:
    found = compared(*_two(several("b", range(1, 6), 0.0, 2, batch__days=32), several("a", range(1, 6), 0.0, 1)))
    alone = Estimate(1.0, 0.1, 1.9, 0.4, 0.03, DAYS, (5, 5), True, True, "made up", p_value_holm=0.09)
    said = compare_words.verdict(replace(found, tests={"sharpe_annual": alone}), 3)
    assert "not distinguishable (p = 0.030 by itself, p = 0.090, corrected for 3 comparisons)" in said


STATED = Expectation(metric="pooled_sharpe", low=0.82, high=0.85, target=0.849, source="before")


@pytest.mark.parametrize(
    ("low", "high", "range_", "target"),
    [
        (0.70, 0.80, "missed", "missed"),
        (0.80, 0.90, "undecidable", "undecidable"),
        (0.825, 0.848, "within", "missed"),
        (0.849, 0.8499, "within", "met"),
        (0.90, 0.95, "exceeded", "met"),
        (0.849, 0.95, "undecidable", "met"),
    ],
)
def test_an_expectation_is_met_missed_or_undecidable_by_the_interval(
    low: float, high: float, range_: str, target: str
) -> None:
    reached = Estimate((low + high) / 2, low, high, 0.01, 0.0, DAYS, (3, 0), False, True, "made up")
    found = judged(STATED, reached)
    assert (found["range"], found["target_verdict"]) == (range_, target)


def test_an_expectation_without_an_interval_is_undecidable_and_says_so() -> None:
    tier = resolve("tier2-retry").tier
    held = Configuration("tier2-retry", (evaluated("r", tier, returns(1)),))
    (found,) = expectations([held])
    assert (found["range"], found["target_verdict"]) == ("undecidable", "undecidable")
    assert "no interval of pooled_sharpe is known here" in compare_words.expectation(found)
    influence = returns(3) - returns(3).mean()
    known = evaluated("r", tier, returns(1), pooled=Pooled(0.02, dates(DAYS), influence))
    (found,) = expectations([Configuration("tier2-retry", (known,))])
    assert found["target_verdict"] == "missed"
    assert "range missed, target missed; chance in training is not in the interval" in compare_words.expectation(found)


def test_a_configuration_s_own_interval_is_of_its_mean_over_seeds() -> None:
    held = Configuration("a", tuple(several("a", range(1, 5), 0.001)))
    annual, daily = own_interval(held, "sharpe_annual"), own_interval(held, "sharpe_daily")
    assert annual is not None
    assert daily is not None
    ratios = [run.result.test.sharpe_annual for run in held.runs if run.result]
    assert annual.estimate == pytest.approx(np.mean(ratios))
    assert daily.half_width == pytest.approx((annual.half_width or 0) / math.sqrt(252))


def test_the_expected_range_is_that_of_normal_draws_and_grows_with_their_number() -> None:
    drawn = np.random.default_rng(0).standard_normal((20_000, 20))
    assert expected_range(20, 0.06) == pytest.approx(0.06 * np.ptp(drawn, axis=1).mean(), rel=0.01)
    assert expected_range(20, 1) == pytest.approx(3.735, abs=1e-3)  # d2 of the tables of control charts: 3.735
    assert expected_range(200, 1) == pytest.approx(5.49, abs=0.01)
    assert expected_range(1, 1) == 0


def test_batch_figures_hold_the_observed_against_the_expected() -> None:
    values = [0.1, -0.1, 0.3, 0.2]
    found = batch_figures(values, 0.05)
    assert found["range"] == pytest.approx(0.4)
    assert found["ratio"] == pytest.approx(np.std(values, ddof=1) / 0.05)
    assert found["ratio_error"] == pytest.approx(found["ratio"] / math.sqrt(6))
    assert batch_figures(values, None)["ratio"] is None
    assert batch_figures([], 0.05)["std"] is None


def test_a_phase_tells_best_final_and_kept_apart() -> None:
    found = phase_figures(phase("gat", [0.1, 0.5, 0.2], [0.1, 0.2], 0.1, seconds=None))
    assert (found["best_sharpe"], found["best_sharpe_epoch"], found["final_sharpe"], found["kept_sharpe"]) == (
        0.5,
        2,
        0.2,
        0.5,
    )
    assert (found["best_loss"], found["final_loss"], found["epochs"], found["seconds"]) == (-0.5, -0.2, 3, 12.0)


def test_cost_is_workers_times_time_and_money_only_at_a_price() -> None:
    run = evaluated("a", changed(), returns(1), usage=Usage(100.0, 50.0, 7200.0, 2, "cuda", 1))
    assert cost_of(run, None) == {"seconds": 100.0, "worker_hours": 2.0, "stock_days_per_second": 204.8, "money": None}
    assert cost_of(run, 2.5)["money"] == 5.0


def test_a_comparison_that_is_corrected_keeps_what_it_has() -> None:
    assert corrected([]) == []
