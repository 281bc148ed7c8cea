"""Folds put together: which day comes from which fold, and what the whole series comes to."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import numpy as np
import pytest

from atft.config import Combinatorial, WalkForward
from atft.evaluate.folds import gathered
from atft.evaluate.metrics import sharpe_interval
from atft.evaluate.result import FoldOf, Series

FIRST = dt.date(2016, 1, 1)


def dates_of(days):
    return [FIRST + dt.timedelta(days=int(day)) for day in days]


def a_result(fold, days, gross, horizon=1):
    series = Series(
        dates=dates_of(days), gross=tuple(gross), net=tuple(np.asarray(gross) - 0.001), ic=(0.1,) * len(days)
    )
    return SimpleNamespace(
        run=f"fold-{fold:02}", tier="t", config_sha256=str(fold), data_sha256="d",
        fold=FoldOf(scheme="s", fold=fold, folds=9), test=SimpleNamespace(horizon=horizon, series=series),
    )  # fmt: skip


def a_walk(folds):
    return WalkForward(
        scheme="rolling", first=FIRST, last=FIRST, embargo_days=0, folds=folds, train_days=9, validate_days=9
    )


@pytest.mark.parametrize("horizon", [1, 4])
def test_the_joined_series_of_a_walk_is_that_of_its_folds_one_after_another(horizon):
    random = np.random.default_rng(3)
    parts = [random.normal(0.001, 0.01, size) for size in (31, 30, 30)]
    starts = np.cumsum([0, 31, 30])
    results = [
        a_result(fold, start + np.arange(len(part)), part, horizon)
        for fold, (start, part) in enumerate(zip(starts, parts, strict=True))
    ]
    found = gathered(a_walk(3), results)
    whole = np.concatenate(parts)
    assert found.joined is not None
    assert (found.joined.days, found.joined.first_date, found.joined.last_date) == (91, FIRST, dates_of([90])[0])
    assert found.joined.sharpe_annual == pytest.approx(whole.mean() / whole.std() * np.sqrt(252 / horizon), rel=1e-12)
    interval = sharpe_interval(whole, horizon=horizon).scaled(np.sqrt(252 / horizon))
    assert found.joined.sharpe_annual_ci95 == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert found.joined.sharpe_net_annual < found.joined.sharpe_annual
    assert found.joined.ic == pytest.approx(0.1)
    assert [each.run for each in found.folds] == ["fold-00", "fold-01", "fold-02"]
    assert [each.days for each in found.folds] == [31, 30, 30]
    assert not found.paths
    assert found.path_sharpe_annual is None


def test_series_that_share_a_day_are_not_joined():
    results = [a_result(0, range(10), np.ones(10)), a_result(1, range(9, 19), np.ones(10))]
    with pytest.raises(ValueError, match="do not follow one another"):
        gathered(a_walk(2), results)


def test_each_path_takes_each_group_from_its_own_fold_and_their_sharpe_ratios_are_described():
    split = Combinatorial(
        scheme="combinatorial", first=FIRST, last=FIRST, embargo_days=0, groups=4, test_groups=2, own_lookback_days=0
    )
    random = np.random.default_rng(4)
    returns = random.normal(0.001, 0.01, (6, 40))  # of each fold on every day
    tested = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    results = []
    for fold, (one, other) in enumerate(tested):
        days = np.r_[10 * one : 10 * one + 10, 10 * other : 10 * other + 10]
        results.append(a_result(fold, days, returns[fold, days]))
    spans = [tuple(dates_of([10 * group, 10 * group + 9])) for group in range(4)]
    found = gathered(split, results, spans)
    assert found.joined is None
    assert [path.folds for path in found.paths] == [(0, 0, 1, 2), (1, 3, 3, 4), (2, 4, 5, 5)]
    ratios = []
    for path in found.paths:
        whole = np.concatenate([returns[fold, 10 * group : 10 * group + 10] for group, fold in enumerate(path.folds)])
        ratios.append(whole.mean() / whole.std() * np.sqrt(252))
        assert path.days == 40
        assert path.sharpe_annual == pytest.approx(ratios[-1], rel=1e-12)
    spread = found.path_sharpe_annual
    assert spread is not None
    assert (spread.count, spread.min, spread.max) == (3, pytest.approx(min(ratios)), pytest.approx(max(ratios)))
    assert spread.mean == pytest.approx(np.mean(ratios))
    assert spread.median == pytest.approx(np.median(ratios))
    assert spread.std == pytest.approx(np.std(ratios))
    assert spread.share_below_zero == np.mean(np.array(ratios) < 0)


def test_a_path_without_a_sharpe_ratio_leaves_the_distribution_out():
    split = Combinatorial(
        scheme="combinatorial", first=FIRST, last=FIRST, embargo_days=0, groups=3, test_groups=1, own_lookback_days=0
    )
    results = [a_result(group, range(3 * group, 3 * group + 3), np.zeros(3)) for group in range(3)]
    found = gathered(split, results, [tuple(dates_of([3 * group, 3 * group + 2])) for group in range(3)])
    assert [path.sharpe_annual for path in found.paths] == [None]
    assert found.path_sharpe_annual is None
