import datetime as dt
import json
import math

import numpy as np
import pytest

from atft.errors import UseError
from atft.evaluate import deflation, metrics, pairing, result_parts, summary
from atft.evaluate.inference import YEAR, deflated, inference
from atft.evaluate.paired import sharpe_difference
from atft.evaluate.result import Series
from atft.evaluate.search import Search
from tests.unit.evaluate.test_result import whole

__all__ = ["whole"]

DATES = np.arange("2017-01-03", "2017-06-02", dtype="datetime64[D]")
HASH = "c" * 64


def made(seed, horizon=1, edge=0.1):
    random = np.random.default_rng(seed)
    scores = random.standard_normal((150, 30))
    returns = 0.02 * (edge * scores + random.standard_normal((150, 30)))
    valid = random.random((150, 30)) < 0.9
    valid[seed] = False
    one = summary.summarise(scores, returns, valid, cost_bps=5, horizon=horizon)
    return one, result_parts.statistics(one, DATES)["series"]


@pytest.mark.parametrize("horizon", [1, 5])
def test_the_part_of_the_result_agrees_with_each_statistic_taken_on_its_own(horizon):
    (one, own), (_, other) = made(1, horizon), made(2, horizon, edge=0.0)
    found = inference(one, own, {"ridge": other}, Search(3, [0.1, 0.2, -0.1]), HASH)
    ratio, error = one.sharpe.estimate, one.sharpe.standard_error
    assert found.probabilistic_sharpe == deflation.probabilistic_sharpe(ratio, error)
    assert found.minimum_track_record_days == deflation.minimum_track_record(ratio, error, 149)
    assert found.detectable_sharpe_annual == pytest.approx((1.959964 + 0.841621) * error * YEAR, rel=1e-6)
    assert found.icir.estimate == one.icir
    assert found.icir.standard_error == metrics.sharpe_interval(one.ics, horizon=horizon).standard_error
    assert found.rank_icir.estimate == one.rank_icir
    bootstrap = found.sharpe_annual_bootstrap
    assert bootstrap.estimate == pytest.approx(one.sharpe_annual.estimate)
    assert bootstrap.standard_error == pytest.approx(one.sharpe_annual.standard_error, rel=0.35)
    deflation_of = deflation.deflated_sharpe(ratio, error, 3, [0.1, 0.2, -0.1])
    assert found.deflated.probability == deflation_of.probability
    assert found.deflated.benchmark_annual == pytest.approx(deflation_of.benchmark * YEAR)
    if horizon == 1:
        assert found.probabilistic_sharpe_published == pytest.approx(found.probabilistic_sharpe, abs=0.05)
    assert json.loads(json.dumps(found.model_dump(mode="json"), allow_nan=False))["test_sha256"] == HASH


def test_the_model_is_tested_against_each_baseline_on_the_days_that_both_have():
    (one, own), (two, other) = made(1), made(2, edge=0.0)
    found = inference(one, own, {"ridge": other, "itself": own}, Search(1, [0.1]), HASH).against
    both = sorted(set(one.rows) & set(two.rows))
    x, y = (each.gross[np.isin(each.rows, both)] for each in (one, two))
    expected = sharpe_difference(x, y)
    assert found["ridge"].days == len(both) == 148
    assert found["ridge"].p_value == found["ridge"].p_value_holm == expected.p_value  # the other is no test
    assert found["ridge"].sharpe_annual.estimate == pytest.approx(expected.bootstrap.estimate * YEAR)
    assert found["itself"].p_value is None
    assert found["itself"].sharpe_annual.estimate == 0


@pytest.mark.parametrize(
    ("search", "told"),
    [(Search(0, []), "no registry"), (Search(1, [0.1]), "a single trial"), (Search(4, [0.0, 0.1, 0.2]), "4 trials")],
)
def test_the_note_says_what_was_deflated_by(search, told):
    found = deflated(0.1, 0.05, search)
    assert told in found.note
    assert (found.probability == deflation.probabilistic_sharpe(0.1, 0.05)) == (search.trials < 2)
    assert (found.variance_annual is None) == (search.trials < 2)


def test_what_is_undefined_is_null_and_nothing_fails():
    random = np.random.default_rng(3)
    returns, valid = 0.02 * random.standard_normal((150, 30)), np.ones((150, 30), dtype=bool)
    constant = summary.summarise(np.ones((150, 30)), returns, valid, cost_bps=5)
    short = summary.summarise(random.standard_normal((5, 30)), returns[:5], valid[:5], cost_bps=5)
    equal = summary.summarise_equal_weight(returns, valid, cost_bps=5)
    for one, nothing in ((constant, "icir"), (short, "icir"), (equal, "icir")):
        series = result_parts.statistics(one, DATES)["series"]
        found = inference(one, series, {"other": series}, Search(1, []), HASH).model_dump(mode="json")
        assert found[nothing]["low"] is None
        json.dumps(found, allow_nan=False)


def shifted(whole, days=0, *, panel="b" * 64, horizon=1, run="r2"):
    series = whole.test.series
    dates = tuple(date + dt.timedelta(days=days) for date in series.dates)
    moved = Series(dates=dates, gross=series.gross, net=series.net, ic=series.ic)
    test = whole.test.model_copy(update={"series": moved, "horizon": horizon})
    return whole.model_copy(update={"run": run, "data_sha256": panel, "test": test})


def test_runs_of_one_panel_and_split_are_compared(whole):
    one, two = pairing.check_comparable(whole, shifted(whole))
    assert one.dates == two.dates


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"panel": "d" * 64}, ["the panels are others (data bbbbbbbbbbbb and dddddddddddd)", "the 59 days"]),
        (
            {"days": 2},
            ["3 test days are r1's alone (2017-01-03, 2017-01-04, 2017-01-12)", "r2's alone", "--common-days"],
        ),
        ({"days": 10}, ["10 test days are r1's alone", "and 7 more"]),
    ],
)
def test_other_panels_or_days_are_refused_with_what_differs_and_common_days_offered(whole, other, told):
    second = shifted(whole, **other)
    with pytest.raises(UseError) as error:
        pairing.check_comparable(whole, second)
    for each in told:
        assert each in str(error.value)
    pairing.check_comparable(whole, second, common_days=True)


@pytest.mark.parametrize(
    ("other", "told"),
    [({"horizon": 5}, "label.horizon"), ({"days": 45}, "14 test days in common"), ({"days": 900}, "0 test days")],
)
def test_what_no_common_days_mend_is_refused(whole, other, told):
    with pytest.raises(UseError, match=told):
        pairing.check_comparable(whole, shifted(whole, **other), common_days=True)


def test_a_result_without_series_is_refused(whole):
    bare = whole.model_copy(update={"test": whole.test.model_copy(update={"series": None}), "run": "bare"})
    for first, second in ((bare, whole), (whole, bare)):
        with pytest.raises(UseError, match="bare: its result holds no daily series"):
            pairing.check_comparable(first, second)


def test_common_rows_keep_the_order_of_the_first():
    days = [dt.date(2017, 1, day) for day in range(1, 8)]
    assert pairing.common_rows(days[:5], [days[4], days[2], days[6]]) == ([2, 4], [1, 0])


def test_paired_figures_are_a_years():
    (_, own), (_, other) = made(1, horizon=5), made(2, horizon=5, edge=0.0)
    rows = pairing.common_rows(own.dates, other.dates)
    x, y = (np.array(series.gross)[kept] for series, kept in zip((own, other), rows))
    expected = (metrics.sharpe(x) - metrics.sharpe(y)) * math.sqrt(252 / 5)
    assert pairing.paired(own, other, 5).bootstrap.estimate == pytest.approx(expected)
    ics = pairing.paired_ic(own, other, 5)
    assert ics.bootstrap.estimate == pytest.approx(
        np.mean(np.array(own.ic)[rows[0]]) - np.mean(np.array(other.ic)[rows[1]])
    )
