"""The verdict: nothing is claimed that the interval does not carry."""

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.report.html import STANDINGS, badges
from atft.report.verdict import standing, standing_net, verdict


def figures(sharpe: float | None, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    bounds = None if low is None else [low, high]
    return {"days": 237, "sharpe_annual": sharpe, "sharpe_annual_ci95": bounds, **more}


def against(model: tuple[float, float, float], ridge: tuple[float, float, float]) -> str:
    said = verdict({"test": figures(*model), "baselines": {"ridge": figures(*ridge)}})
    return next(sentence for sentence in said if "ridge" in sentence)


def test_an_interval_above_zero_is_distinguishable_from_zero() -> None:
    said = verdict({"test": figures(1.9, 0.3, 3.5)})
    assert said[0] == "Test Sharpe 1.90 a year, 95 % interval 0.30 to 3.50 over 237 days: distinguishable from 0."


DAY = 252**-0.5
NET = {
    "positive": {"sharpe_net_annual": 1.5, "sharpe_net_ci95": [0.2 * DAY, 2.8 * DAY]},
    "noise": {"sharpe_net_annual": 0.4, "sharpe_net_ci95": [-1.2 * DAY, 2.0 * DAY]},
    "negative": {"sharpe_net_annual": -3.0, "sharpe_net_ci95": [-4.6 * DAY, -1.4 * DAY]},
    "unknown": {"sharpe_net_annual": 1.5, "sharpe_net_ci95": None},
}


@pytest.mark.parametrize(
    ("net", "told"),
    [
        ("positive", "distinguishable from 0 before costs, and after them (1.50, 0.20 to 2.80)."),
        ("noise", "distinguishable from 0 before costs, but not after them (0.40, -1.20 to 2.00)."),
        ("negative", "distinguishable from 0 before costs, but below 0 after them (-3.00, -4.60 to -1.40)."),
        ("unknown", "distinguishable from 0."),
    ],
)
def test_a_ratio_above_zero_before_costs_is_judged_after_them_in_the_same_breath(net: str, told: str) -> None:
    test = figures(1.9, 0.3, 3.5, **NET[net])
    assert standing_net(test) == net
    assert verdict({"test": test})[0].endswith(f"237 days: {told}")


@pytest.mark.parametrize(
    ("gross", "net", "colours"),
    [
        ("positive", "positive", ["positive", "positive"]),
        ("positive", "noise", ["noise", "noise"]),
        ("positive", "negative", ["noise", "negative"]),
        ("positive", "unknown", ["noise", "unknown"]),
        ("noise", "noise", ["noise", "noise"]),
        ("negative", "negative", ["negative", "negative"]),
    ],
)
def test_the_page_is_green_only_where_costs_leave_something(gross: str, net: str, colours: list[str]) -> None:
    interval = {"positive": (1.9, 0.3, 3.5), "noise": (1.9, -0.3, 4.1), "negative": (-2.0, -3.0, -1.0)}[gross]
    found = badges(figures(*interval, **NET[net]))
    assert [colour for colour, _ in found] == colours
    assert found[0][1].startswith("Before costs: ")
    assert found[1][1] == f"After costs: {STANDINGS[net]}"


def test_no_figure_at_all_is_one_badge() -> None:
    assert badges({}) == [("unknown", "No verdict")]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"valued_at_last_price": 20, "not_bought": 7},
         "27 of 1,027 scored stock-days have no label: in the portfolio 20 are valued at the last known price, "
         "7 had no price to be bought at and stay in cash; the IC leaves them out."),
        ({"valued_at_last_price": 27, "not_bought": 0},
         "27 of 1,027 scored stock-days have no label: in the portfolio 27 are valued at the last known price; "
         "the IC leaves them out."),
        ({"valued_at_last_price": 0, "not_bought": 0},
         "27 of 1,027 scored stock-days have no label; a label of the table's own has no price to value them at, so "
         "that they are left out."),
        ({}, "27 of 1,027 scored stock-days have no label and are left out."),
        ({"strategies": [{"strategy": "score", "execution": "close", "sharpe_annual": 1.25}]},
         "27 of 1,027 scored stock-days have no label and are left out; traded before anyone knew which, the scores "
         "reach a Sharpe ratio of 1.25 a year."),
    ],
)  # fmt: skip
def test_what_becomes_of_decisions_without_a_label_is_told(more: dict[str, Any], told: str) -> None:
    said = verdict({"test": figures(1.9, 0.3, 3.5, missing_labels=27, decisions=1000, **more)})
    assert told in said
    none = verdict({"test": figures(1.9, 0.3, 3.5, missing_labels=0, decisions=1000, **more)})
    assert not any("no label" in line for line in none)


def test_an_interval_that_covers_zero_is_called_noise_however_large_the_ratio() -> None:
    said = verdict({"test": figures(2.4, -0.01, 4.81)})
    assert said[0] == "Test Sharpe 2.40 a year, 95 % interval -0.01 to 4.81 over 237 days: not distinguishable from 0."
    assert standing(figures(2.4, -0.01, 4.81)) == "noise"
    assert standing(figures(2.4, 0.0, 4.8)) == "noise"


def test_an_interval_below_zero_is_called_a_loss() -> None:
    assert verdict({"test": figures(-2.0, -3.0, -1.0)})[0].endswith("and negative: the portfolio lost.")


def test_beating_a_baseline_with_overlapping_intervals_is_not_shown_to_be_better() -> None:
    assert against((1.9, 0.3, 3.5), (1.0, -0.6, 2.6)) == (
        "Beats the ridge by 0.90 a year (1.90 against 1.00); the intervals overlap: not shown to be better."
    )
    assert against((1.0, -0.6, 2.6), (1.9, 0.3, 3.5)) == (
        "Falls short of the ridge by 0.90 a year (1.00 against 1.90); the intervals overlap: not shown to be worse."
    )


def test_intervals_that_keep_apart_show_better_or_worse() -> None:
    assert against((4.0, 3.0, 5.0), (1.0, 0.0, 2.0)).endswith("keep apart: better.")
    assert against((1.0, 0.0, 2.0), (4.0, 3.0, 5.0)).endswith("keep apart: worse.")


def test_costs_that_take_all_of_it_are_said_to() -> None:
    test = figures(1.0, 0.2, 1.8, sharpe_net_annual=-0.4, turnover=1.2, cost_bps=5.0)
    assert any("5 basis points" in line and line.endswith("costs take all of it.") for line in verdict({"test": test}))


def test_shuffled_scores_that_leave_out_zero_condemn_the_evaluation() -> None:
    shuffled = figures(1.5, 0.5, 2.5, settings={"repeats": 200, "share_above_sharpe": 0.4})
    said = verdict({"test": figures(1.9, 0.3, 3.5), "baselines": {"shuffled": shuffled}})
    assert any("evaluation itself is wrong" in line for line in said)
    fine = verdict({"test": figures(1.9, 0.3, 3.5), "baselines": {"shuffled": figures(0.0, -2.0, 2.0)}})
    assert not any("leaks" in line for line in fine)


def test_a_planted_truth_tells_the_share_that_was_reached() -> None:
    said = verdict({"test": figures(1.9, 0.3, 3.5, ic=0.1065), "planted": {"ic": 0.15}})
    assert any("0.106 is 71 % of the best reachable, 0.150" in line for line in said)
    nothing = verdict({"test": figures(0.1, -2.0, 2.2, ic=0.004), "planted": {"ic": 0.0}})
    assert any("no planted signal" in line for line in nothing)


def test_a_spread_that_sampling_explains_is_called_the_samples() -> None:
    noise = np.random.default_rng(0).normal(0.1, 0.05, 4000)
    batch = {"count": 4000, "mean": noise.mean(), "std": noise.std(), "expected_std": 0.05}
    assert verdict({"batch_sharpe": batch})[-1].endswith("most of its ups and downs are the sample's, not learning's.")
    trend = verdict({"batch_sharpe": batch | {"std": 0.08}})[-1]
    assert "39 % of that variance: the rest is learning" in trend


def test_each_divergence_is_reported_once() -> None:
    result = {"test": figures(1.9, 0.3, 3.5), "divergences": [{"phase": "gat", "note": "phase gat: since epoch 4"}]}
    said = verdict(result, ["phase gat: since epoch 4", "phase baseline: since epoch 2"])
    assert [line for line in said if line.startswith("Loss and metric")] == [
        "Loss and metric part ways, phase gat: since epoch 4.",
        "Loss and metric part ways, phase baseline: since epoch 2.",
    ]


FULL = {
    "test": figures(
        1.9,
        0.3,
        3.5,
        ic=0.05,
        sharpe_net_annual=1.0,
        sharpe_net_ci95=[-0.1, 0.2],
        turnover=0.4,
        cost_bps=5.0,
        missing_labels=3,
        decisions=100,
        valued_at_last_price=2,
        not_bought=1,
    ),
    "baselines": {name: figures(1.0, 0.1, 1.9) for name in ("ridge", "reversal", "equal_weight", "shuffled")},
    "planted": {"ic": 0.15},
    "batch_sharpe": {"count": 10, "mean": 0.1, "std": 0.1, "expected_std": 0.1},
    "divergences": [],
}


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_is_missing_there_is_a_verdict_and_no_claim_without_an_interval(data: st.DataObject) -> None:
    result: dict[str, Any] = copy.deepcopy(FULL)
    for place in (result, result["test"], *result["baselines"].values(), result["batch_sharpe"]):
        for name in list(place):
            place[name] = data.draw(st.sampled_from([place[name], place[name], None, float("nan"), "text"]))
    said = verdict(result)
    assert said
    assert all("nan" not in line and "None" not in line for line in said)
    test = result["test"]
    known = isinstance(test, dict) and isinstance(test["sharpe_annual"], float) and test["sharpe_annual"] == 1.9
    if not known or not isinstance(test["sharpe_annual_ci95"], list):
        assert not any("distinguishable" in line for line in said)


@pytest.mark.parametrize("result", [{}, {"test": None}, {"baselines": {"ridge": None}}])
def test_no_test_is_no_verdict(result: dict[str, Any]) -> None:
    assert verdict(result) == ["No test Sharpe ratio: nothing can be said about this run."]
