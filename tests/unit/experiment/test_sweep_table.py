"""The table of a sweep against scipy, closed forms and many simulated sweeps."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from scipy import stats

from atft.evaluate.metrics import Floats, mean_interval, sharpe, sharpe_interval
from atft.evaluate.paired import mean_difference, sharpe_difference
from atft.experiment import sweep_table
from atft.experiment.sweep_table import Member, estimate, of_difference, of_point
from atft.experiment.validation_days import ValidationDays

DAYS = 120


def run(series: Floats | None, metric: str = "ic", value: float | None = None) -> ValidationDays:
    daily = np.zeros(DAYS) if series is None else series
    found = value if value is not None else float(sharpe(daily) if metric == "sharpe" else daily.mean())
    dates = tuple(dt.date(2016, 1, 1) + dt.timedelta(days=n) for n in range(len(daily)))
    return ValidationDays(
        metric=metric, value=found, phase="fine_tuning", best_epoch=1, steps=10, samples=100, seconds=1.0, horizon=1,
        dates=dates, gross=tuple(daily), ic=tuple(daily), rank_ic=tuple(daily),
    )  # fmt: skip


def member(name: str, runs: dict[int, ValidationDays], states: dict[int, str] | None = None) -> Member:
    return Member(name, name, runs, states or dict.fromkeys(runs, "done"))


def test_without_days_the_difference_is_scipys_paired_t_test_over_seeds() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(0.3, 1, 6), draw.normal(0, 1, 6)
    one, other = ({n: run(None, "loss", v) for n, v in enumerate(values)} for values in (ours, theirs))
    found, wanted = of_difference(one, other), stats.ttest_rel(ours, theirs)
    assert found.value == pytest.approx((ours - theirs).mean())
    assert found.value / found.error == pytest.approx(wanted.statistic)
    assert found.p_value == pytest.approx(wanted.pvalue)
    assert of_point(one).error == pytest.approx(stats.sem(ours))


def test_of_one_seed_the_error_is_that_of_its_days() -> None:
    draw = np.random.default_rng(1)
    x, y = draw.normal(0.05, 1, DAYS), draw.normal(0, 1, DAYS)
    assert of_point({1: run(x)}).error == pytest.approx(mean_interval(x).standard_error)
    assert of_point({1: run(x, "sharpe")}).error == pytest.approx(sharpe_interval(x).standard_error)
    assert of_difference({1: run(x)}, {1: run(y)}).error == pytest.approx(mean_difference(x, y).hac.standard_error)
    found = of_difference({1: run(x, "sharpe")}, {1: run(y, "sharpe")})
    assert found.error == pytest.approx(sharpe_difference(x, y).hac.standard_error)


def test_the_error_holds_what_the_days_share_and_what_seeds_differ_by() -> None:
    """Simulated: the mean of estimated variances is the variance of the estimates."""
    draw, seeds = np.random.default_rng(2), 4
    values, errors = [], []
    for _ in range(1500):
        shared, models = draw.normal(0, 0.6, DAYS), draw.normal(0, 0.1, (seeds, 1))
        series = shared + models + draw.normal(0, 0.8, (seeds, DAYS))
        found = estimate(series.mean(axis=1), series - series.mean(axis=1, keepdims=True), 1)
        values.append(found.value)
        errors.append(found.error)
    assert np.mean(np.square(errors)) == pytest.approx(np.var(values), rel=0.12)


def test_equal_points_are_seldom_distinguished() -> None:
    draw, false = np.random.default_rng(3), 0
    for _ in range(150):
        shared = draw.normal(0, 1, DAYS)
        points = [
            member(f"p{n}", {s: run(shared + draw.normal(0, 0.5) * 0.2 + draw.normal(0, 1, DAYS)) for s in (1, 2, 3)})
            for n in range(4)
        ]
        rows = sweep_table.table(points, "p0")["rows"]
        false += any((row["p_value_holm"] or 1) <= 0.05 for row in rows)
    assert false <= 150 * 0.12  # 5 % and four standard deviations


def test_a_real_difference_is_found_and_noise_is_called_noise() -> None:
    draw = np.random.default_rng(4)
    shared = draw.normal(0, 0.05, DAYS)

    def point(name: str, level: float) -> Member:
        return member(name, {s: run(shared + level + draw.normal(0, 0.02, DAYS)) for s in (1, 2, 3)})

    found = sweep_table.table([point("own", 0.02), point("same", 0.02), point("better", 0.05)], "own")
    rows = {row["point"]: row for row in found["rows"]}
    assert rows["better"]["p_value_holm"] < 0.01
    assert rows["own"]["difference"] is None
    assert any("better is better than own" in sentence for sentence in found["verdict"])
    assert found["deflation"]["best"] == "better"
    assert found["deflation"]["probability"] > 0.95
    noise = sweep_table.table([point("own", 0.02), point("same", 0.02), point("other", 0.02)], "own")
    assert "No value is distinguishable from the reference own" in noise["verdict"][0]
    assert noise["deflation"]["probability"] < 0.95


def test_p_values_are_corrected_for_the_points_that_are_compared() -> None:
    draw = np.random.default_rng(5)
    points = [member(f"p{n}", {s: run(draw.normal(0.1 * n, 1, DAYS)) for s in (1, 2)}) for n in range(4)]
    rows = sweep_table.table(points, "p0")["rows"][1:]
    raw = sorted(row["p_value"] for row in rows)
    assert min(row["p_value_holm"] for row in rows) == pytest.approx(min(1.0, 3 * raw[0]))


def test_what_was_stopped_early_has_no_mean_and_a_failed_seed_leaves_the_pairs_that_are_left() -> None:
    draw = np.random.default_rng(6)
    series = {name: {s: run(draw.normal(0, 1, DAYS)) for s in (1, 2)} for name in ("own", "cut", "lame")}
    points = [
        member("own", series["own"]),
        member("cut", {1: series["cut"][1]}, {1: "done", 2: "stopped"}),
        member("lame", {2: series["lame"][2]}, {1: "failed", 2: "done"}),
        member("none", {}, {1: "failed", 2: "failed"}),
    ]
    found = sweep_table.table(points, "own")
    rows = {row["point"]: row for row in found["rows"]}
    assert rows["cut"]["mean"] is None
    assert rows["cut"]["difference"] is None
    wanted = of_difference({2: series["lame"][2]}, {2: series["own"][2]})
    assert rows["lame"]["difference"] == wanted.value
    assert rows["none"]["states"] == {"failed": 2}
    said = " ".join(found["verdict"])
    assert "Stopped early and not compared: cut" in said
    assert "3 trial(s) failed" in said
    assert "One seed at some points" in said


def test_without_the_reference_nothing_is_compared() -> None:
    found = sweep_table.table([member("own", {}, {1: "failed"}), member("other", {1: run(np.ones(DAYS))})], "own")
    assert found["reference"] is None
    assert "nothing is compared" in found["verdict"][0]
    assert found["deflation"] is None
