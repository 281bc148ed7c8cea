"""How sure a result is, in the verdict and in the report's tables."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.report import certainty, material
from atft.report.material import Material
from atft.report.verdict import verdict

DEFLATED = {"probability": 0.62, "benchmark_annual": 1.24, "trials": 7, "elsewhere": 0, "note": "…"}
INFERENCE: dict[str, Any] = {
    "sharpe_annual_bootstrap": {"estimate": 1.9, "low": 0.2, "high": 3.6, "method": "bootstrap"},
    "icir": {"estimate": 0.21, "low": 0.08, "high": 0.34, "method": "Lo"},
    "rank_icir": {"estimate": 0.2, "low": 0.07, "high": 0.33, "method": "Lo"},
    "skewness": -0.31,
    "kurtosis": 4.2,
    "probabilistic_sharpe": 0.981,
    "probabilistic_sharpe_net": 0.6,
    "minimum_track_record_days": 171.0,
    "detectable_sharpe_annual": 2.9,
    "deflated": DEFLATED,
    "against": {
        "ridge": {
            "days": 237,
            "correlation": 0.4,
            "sharpe_annual": {"estimate": 0.9, "low": -0.4, "high": 2.2, "method": "Ledoit and Wolf"},
            "p_value": 0.11,
            "p_value_hac": 0.1,
            "p_value_holm": 0.33,
        }
    },
}
TEST: dict[str, Any] = {
    "days": 237,
    "sharpe_annual": 1.9,
    "sharpe_annual_ci95": [0.3, 3.5],
    "sharpe_method": "Lo (2002)",
    "inference": INFERENCE,
}


def said(**changes: Any) -> list[str]:
    test = {**TEST, "inference": {**INFERENCE, **changes.pop("inference", {})}, **changes}
    return verdict({"test": test, "baselines": {"ridge": {"sharpe_annual": 1.0, "sharpe_annual_ci95": [-0.6, 2.6]}}})


def deflated(**changes: Any) -> str:
    found = said(inference={"deflated": {**DEFLATED, **changes}})
    return next(line for line in found if "true" in line and "test period" in line)


def test_the_search_takes_its_share() -> None:
    assert deflated() == (
        "This is one of 7 different evaluations of this test period: the best of as many models of no worth would "
        "reach 1.24 a year. The probability that this one's true ratio is above that is 62.0 % (deflated Sharpe "
        "ratio), so the search alone may explain it."
    )
    assert deflated(probability=0.951).endswith("so the search alone does not explain it.")
    assert "(3 more on overlapping dates, of other panels or test periods)" in deflated(elsewhere=3)


def test_a_first_look_takes_nothing_off_and_says_so() -> None:
    first = deflated(trials=1, benchmark_annual=0.0, probability=0.981)
    assert "above 0 is 98.1 %; one trial on this test period is registered, so that nothing is taken off" in first
    assert "no trial on this test period is registered" in deflated(trials=0, benchmark_annual=0.0)


def test_two_intervals_that_part_are_too_close_to_call() -> None:
    assert not any("bootstrap's interval" in line for line in said())
    parted = {"sharpe_annual_bootstrap": {"low": -0.1, "high": 3.9}}
    assert any("-0.10 to 3.90, covers 0" in line and "too close to call" in line for line in said(inference=parted))


def test_noise_is_told_how_long_it_would_take() -> None:
    noise = said(sharpe_annual=0.9, sharpe_annual_ci95=[-1.1, 2.9], inference={"minimum_track_record_days": 841.2})
    assert any("237 days show a true Sharpe ratio of 2.90 a year or more four times in five" in line for line in noise)
    assert any("would need 841 days" in line for line in noise)
    assert not any("four times in five" in line for line in said())


def test_a_baseline_is_beaten_by_the_paired_test_and_not_by_intervals() -> None:
    assert any(line.endswith("corrected for the three, gives p = 0.330: not shown to be better.") for line in said())
    better = copy.deepcopy(INFERENCE["against"])
    better["ridge"]["p_value_holm"] = 0.021
    assert any(line.endswith("p = 0.021: better.") for line in said(inference={"against": better}))
    better["ridge"]["sharpe_annual"]["estimate"] = -0.9
    assert any(line.endswith("p = 0.021: worse.") for line in said(inference={"against": better}))


def test_the_tables_hold_every_figure() -> None:
    rows = {row["name"]: row["cells"] for row in certainty.intervals(TEST)}
    assert rows["Sharpe, a year, by Lo"] == ["1.90", "0.30 to 3.50"]
    assert rows["Sharpe, a year, by block bootstrap"] == ["1.90", "0.20 to 3.60"]
    assert rows["ICIR"] == ["0.210", "0.080 to 0.340"]
    told = {name: (value, note) for name, value, note in certainty.probabilities(TEST)}
    assert told["True Sharpe above 0"][0] == "98.1 %"
    assert told["More than the luck of the search"] == (
        "62.0 %",
        "trials on this test period: 7; the best of as many by chance 1.24",
    )
    assert told["Days needed"][0] == "171"
    (ridge,) = certainty.differences(TEST)
    assert ridge == {"name": "ridge", "cells": ["0.90", "-0.40 to 2.20", "0.40", "0.1000", "0.1100", "0.3300"]}


def test_a_result_of_before_has_no_tables() -> None:
    old = {name: value for name, value in TEST.items() if name != "inference"}
    assert certainty.intervals(old) == certainty.probabilities(old) == certainty.differences(old) == []


def test_later_trials_take_the_place_of_those_at_the_evaluation(tmp_path: Any) -> None:
    run = material.with_deflated(Material(tmp_path, result={"test": TEST}), {**DEFLATED, "trials": 9})
    assert run.result["test"]["inference"]["deflated"]["trials"] == 9
    assert TEST["inference"]["deflated"]["trials"] == 7
    old = Material(tmp_path, result={"test": {"days": 3}})
    assert material.with_deflated(old, DEFLATED) is old


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_whatever_is_missing_there_are_tables_and_a_verdict(data: st.DataObject) -> None:
    test = copy.deepcopy(TEST)
    ridge = test["inference"]["against"]["ridge"]
    deflation = test["inference"]["deflated"]
    for place in (test["inference"], deflation, ridge, ridge["sharpe_annual"], test["inference"]["icir"]):
        for name in list(place):
            place[name] = data.draw(st.sampled_from([place[name], place[name], None, float("nan"), "text"]))
    lines = verdict({"test": test, "baselines": {"ridge": {"sharpe_annual": 1.0}}})
    for row in certainty.intervals(test) + certainty.differences(test):
        lines += row["cells"]
    lines += [text for each in certainty.probabilities(test) for text in each]
    assert all("nan" not in line and "None" not in line for line in lines)


@pytest.mark.parametrize("value", [None, "text", 3, []])
def test_an_inference_of_another_shape_is_none(value: Any) -> None:
    assert certainty.intervals({"inference": value}) == []
