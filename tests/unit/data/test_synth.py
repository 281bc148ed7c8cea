"""The synthetic market against figures that are measured from its rows alone."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import stats
from sklearn.linear_model import Ridge

from atft.data.roles import Roles
from atft.data.synth import PARTS, Market, SynthOptions, feature_names, make_market, write_market
from atft.errors import UseError

Array = NDArray[np.float64]
SMALL = {"stocks": 40, "days": 60, "industries": 3}


@lru_cache(maxsize=6)
def market(**changes: object) -> Market:
    return make_market(SynthOptions.model_validate(changes))


def square(rows: pl.DataFrame, column: str) -> Array:
    """``[days, stocks]`` of a column of long rows, NaN where there is no row."""
    wide = rows.pivot(on="code", index="date", values=column, sort_columns=True).sort("date")
    return wide.drop("date").cast(pl.Float64).to_numpy().copy()


def next_returns(made: Market, lag: int) -> Array:
    """Simple returns from close t + lag to close t + lag + 1, by decision day t, from the written closes."""
    close = square(made.table, "close")
    returns = np.full_like(close, np.nan)
    returns[: len(close) - lag - 1] = close[lag + 1 :] / close[lag:-1] - 1
    return returns


def pearson(left: Array, right: Array) -> tuple[float]:
    return (np.corrcoef(left, right)[0, 1],)


def daily(scores: Array, returns: Array, statistic=pearson) -> Array:
    """Each day's correlation by numpy or scipy, over the stocks that have both; days of constant scores left out."""
    values = []
    for one_day, earned in zip(scores, returns):
        both = ~np.isnan(one_day) & ~np.isnan(earned)
        if both.sum() >= 3 and np.ptp(one_day[both]):
            values.append(statistic(one_day[both], earned[both])[0])
    return np.array(values)


def error_of(values: Array) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


@pytest.mark.parametrize(("lag", "ic"), [(0, 0.15), (2, 0.15), (0, 0.04)])
def test_the_signal_has_the_planted_ic_on_the_written_closes(lag, ic):
    made = market(execution_lag=lag, ic=ic)
    values = daily(square(made.truth, "signal"), next_returns(made, lag))
    assert abs(values.mean() - ic) < 3 * error_of(values)
    assert error_of(values) < 0.004
    assert made.reachable.ic == ic
    assert made.reachable.ic_realised == pytest.approx(values.mean(), abs=1e-9)
    assert made.reachable.ic_error == pytest.approx(error_of(values), rel=1e-6)
    assert made.reachable.days == len(values)


def test_the_mean_over_many_seeds_is_the_planted_ic():
    realised = np.array([market(seed=seed, days=120, stocks=100).reachable.ic_realised for seed in range(40)])
    assert abs(realised.mean() - 0.15) < 3 * error_of(realised)
    assert error_of(realised) < 0.003


def test_each_part_has_the_ic_of_its_share():
    made = market()
    for part in PARTS:
        values = daily(square(made.truth, part), next_returns(made, 0))
        planted = 0.15 * math.sqrt(getattr(made.options.shares, part))
        assert abs(values.mean() - planted) < 3 * error_of(values), part


def test_the_parts_sum_to_the_signal():
    truth = market().truth
    assert np.allclose(truth.select(PARTS).sum_horizontal(), truth["signal"], rtol=0, atol=1e-15)


def test_a_share_of_nothing_leaves_its_part_out():
    shares = {"linear": 0.5, "lagged": 0.5, "interaction": 0, "spillover": 0}
    truth = make_market(SynthOptions.model_validate({**SMALL, "shares": shares})).truth
    assert truth["interaction"].abs().max() == 0 == truth["spillover"].abs().max()
    assert truth["linear"].abs().max() > 0


def test_the_signal_is_a_function_of_the_features_in_the_table():
    """Formulas written again, as loops over stocks and days, with missing values as zero."""
    made = market(**SMALL, missing_share=0.05, missing_feature_share=0.05)
    table, cluster = made.table, dict(made.clusters.iter_rows())
    rows = {(row["date"], row["code"]): row for row in table.iter_rows(named=True)}
    calendar = sorted({day for day, _ in rows})
    expected: dict[str, list[float]] = {part: [] for part in PARTS}
    for day, code in rows:
        row = rows[day, code]
        weighted = zip((0.6, -0.5, 0.45, -0.45), (row[f"linear_{k}"] for k in range(1, 5)))
        expected["linear"].append(sum(weight * (value or 0) for weight, value in weighted))
        position = calendar.index(day)
        before = rows.get((calendar[position - 1], code)) if position else None
        expected["lagged"].append((before["lagged_1"] or 0) if before else 0)
        choice, first, second = row["choice"], row["value_1"], row["value_2"]
        if None in (choice, first, second):
            expected["interaction"].append(0)
        else:
            a, b = abs(first) - math.sqrt(2 / math.pi), abs(second) - math.sqrt(2 / math.pi)
            expected["interaction"].append(a + 0.4 * b if choice > 0 else 0.4 * a + b)
        mates = [other for other in cluster if cluster[other] == cluster[code] and other != code]
        news = [rows[day, mate]["news"] for mate in mates if (day, mate) in rows]
        known = [value for value in news if value is not None]
        expected["spillover"].append(sum(known) / len(known) if known else 0)
    for part in PARTS:
        planted, again = made.truth[part].to_numpy(), np.array(expected[part])
        scale = (planted @ again) / (again @ again)
        assert scale > 0
        assert np.allclose(planted, scale * again, rtol=0, atol=1e-12 * np.abs(planted).max() + 1e-15), part


def ridge_ic(made: Market) -> Array:
    """Daily IC in the second half of a ridge on today's own features, fitted in the first half."""
    features = np.stack([square(made.table, name) for name in feature_names(made.options)], -1)
    returns = next_returns(made, 0)
    labels = returns - np.nanmean(returns, axis=1, where=~np.isnan(returns).all(1)[:, None], keepdims=True)
    known = ~np.isnan(labels)
    half = len(labels) // 2
    fit = known[:half]
    model = Ridge(10).fit(np.nan_to_num(features[:half][fit]), labels[:half][fit])
    scores = model.predict(np.nan_to_num(features).reshape(-1, features.shape[-1])).reshape(known.shape)
    return daily(scores[half:], returns[half:])


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_a_ridge_on_todays_features_reaches_the_linear_part_and_at_most_half():
    made = market()
    values = ridge_ic(made)
    assert values.mean() <= 0.15 / 2
    assert values.mean() == pytest.approx(made.reachable.ridge_ic, abs=3 * error_of(values) + 0.004)
    assert made.reachable.ridge_ic == pytest.approx(0.15 * math.sqrt(0.19))


def test_no_feature_correlates_with_a_part_that_is_not_linear():
    made = market()
    for part in PARTS[1:]:
        for name in feature_names(made.options):
            values = made.table[name].to_numpy()
            known = ~np.isnan(values)
            correlation = np.corrcoef(values[known], made.truth[part].to_numpy()[known])[0, 1]
            assert abs(correlation) < 5 / math.sqrt(made.table.height / 6), (part, name)


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_labels_shifted_by_days_destroy_the_signal(shift):
    made = market()
    signal, returns = square(made.truth, "signal"), next_returns(made, 0)
    shifted = np.roll(returns, shift, axis=0)[2:-2]
    values = daily(signal[2:-2], shifted)
    assert abs(values.mean()) < 3.5 * error_of(values)


def test_a_signal_with_a_lag_says_nothing_about_the_return_before():
    made = market(execution_lag=2)
    values = daily(square(made.truth, "signal"), next_returns(made, 0))
    assert abs(values.mean()) < 3.5 * error_of(values)


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_without_a_signal_there_is_nothing_to_reach_and_nothing_to_learn():
    made = market(ic=0)
    assert made.truth.select("signal", *PARTS).to_numpy().any().item() is False
    reached = made.reachable
    assert (reached.ic_realised, reached.rank_ic, reached.sharpe_daily, reached.ridge_ic_realised) == (0, 0, 0, 0)
    values = daily(square(market().truth, "signal"), next_returns(made, 0))
    assert abs(values.mean()) < 3 * error_of(values)
    learned = ridge_ic(made)
    assert abs(learned.mean()) < 3 * error_of(learned)


def test_the_sharpe_ratio_and_rank_ic_are_those_of_an_independent_computation():
    made = market()
    rows = made.truth.select("date", "code", "signal").with_columns(made.table["close"])
    days = rows["date"].unique().sort().to_list()
    following = dict(pairwise(days))
    ahead = rows.select(date="date", code="code", later="close")
    rows = rows.with_columns(after=pl.col("date").replace_strict(following, default=None))
    rows = rows.join(ahead, left_on=["after", "code"], right_on=["date", "code"])
    rows = rows.with_columns(
        earned=pl.col("later") / pl.col("close") - 1, tilt=(pl.col("signal") - pl.col("signal").mean()).over("date")
    )
    profits = (
        rows.group_by("date", maintain_order=True)
        .agg(profit=(pl.col("tilt") * pl.col("earned")).sum() / pl.col("tilt").abs().sum())["profit"]
        .to_numpy()
    )
    sharpe = profits.mean() / profits.std()
    assert made.reachable.sharpe_daily == pytest.approx(sharpe, rel=1e-9)
    assert made.reachable.sharpe_annual == pytest.approx(sharpe * math.sqrt(252), rel=1e-9)
    ranks = daily(square(made.truth, "signal"), next_returns(made, 0), stats.spearmanr)
    assert made.reachable.rank_ic == pytest.approx(ranks.mean(), abs=1e-9)


@pytest.mark.parametrize("last", [100, 400, 749])
def test_mates_are_the_nearest_neighbours_by_sixty_days_of_returns(last):
    made = market()
    close = square(made.table, "close")[last - 60 : last + 1]
    cluster = made.clusters["cluster"].to_numpy()
    full = ~np.isnan(close).any(0)
    returns, cluster = np.diff(np.log(close[:, full]), axis=0), cluster[full]
    correlation = np.corrcoef(returns.T)
    np.fill_diagonal(correlation, -np.inf)
    ranks = (-correlation).argsort(1).argsort(1) + 1
    mates = (cluster[:, None] == cluster) & ~np.eye(len(cluster), dtype=bool)
    assert np.median(ranks[mates]) <= 5
    assert np.mean(ranks[mates] <= 8) >= 0.85


def test_clusters_lie_within_industries_and_have_about_the_size_asked_for():
    made = market(unknown_industry_share=0)
    named = made.table.group_by("code").agg(pl.col("industry").first()).join(made.clusters, on="code")
    assert named.group_by("cluster").agg(pl.col("industry").n_unique())["industry"].max() == 1
    sizes = named["cluster"].value_counts()["count"]
    assert set(sizes) <= {6, 7}
    assert named["industry"].n_unique() == 12


def test_bars_are_consistent_and_of_real_size():
    table = market().table
    low, high = table["low"], table["high"]
    for name in ("open", "close"):
        assert (low <= table[name]).all()
        assert (table[name] <= high).all()
    assert low.min() > 0
    assert table["volume"].dtype == pl.Int64
    assert table["volume"].min() >= 1
    first = table.filter(pl.col("date") == table["date"].min())["close"]
    assert first.min() >= 20
    assert first.max() <= 200
    assert 0.017 < np.nanstd(next_returns(market(), 0)) < 0.024


def test_volume_rises_with_the_size_of_the_move():
    table = market().table.with_columns(move=pl.col("close").pct_change().abs().over("code")).drop_nulls("move")
    within = table.select((pl.col(name).log() - pl.col(name).log().mean()).over("code") for name in ("volume", "move"))
    finite = within.filter(pl.all_horizontal(pl.all().is_finite()))
    assert 0.2 < stats.spearmanr(finite["volume"], finite["move"]).statistic < 0.8


def test_delisted_stocks_stay_gone_and_late_ones_come_late():
    options = {"missing_share": 0, "suspended_share": 0, "delisted_share": 0.1, "listed_late_share": 0.2}
    close = square(market(**options).table, "close")
    present = ~np.isnan(close)
    gone, late = ~present[-1], ~present[0]
    assert gone.sum() == 30
    assert late.sum() == 60
    assert not (gone & late).any()
    changes = np.abs(np.diff(present.astype(int), axis=0)).sum(0)
    assert np.array_equal(changes, (gone | late).astype(int))


def test_gaps_suspensions_and_missing_features_have_the_shares_asked_for():
    calm = {"delisted_share": 0, "listed_late_share": 0, "unknown_industry_share": 0}
    gaps = market(**calm, missing_share=0.02, suspended_share=0)
    assert 1 - gaps.table.height / (300 * 750) == pytest.approx(0.02, abs=0.002)
    halted = ~np.isnan(square(market(**calm, missing_share=0, suspended_share=0.2).table, "close"))
    missing = (~halted).sum(0)
    assert 55 <= (missing > 0).sum() <= 60
    assert missing.max() <= 20
    shares = gaps.table.select(pl.col(feature_names(gaps.options)).is_null().mean()).row(0)
    assert np.allclose(shares, 0.005, atol=0.001)
    assert not gaps.table.select(pl.col(pl.Float32).is_nan().any()).to_numpy().any()


def test_the_table_has_one_row_per_stock_day_in_order_and_the_columns_promised():
    made = market()
    assert made.table.columns == [*BARS, *feature_names(made.options)]
    assert made.table.select("date", "code").equals(made.table.select("date", "code").unique().sort("date", "code"))
    assert made.truth.columns == ["date", "code", "signal", *PARTS]
    assert made.truth.select("date", "code").equals(made.table.select("date", "code"))
    assert set(made.table.select(feature_names(made.options)).dtypes) == {pl.Float32}
    unknown = made.table.filter(pl.col("industry") == "n/a")["code"].n_unique()
    assert unknown == 6


BARS = ["date", "code", "open", "high", "low", "close", "volume", "industry"]


def test_the_calendar_is_weekdays_without_holidays_and_covers_three_years():
    days = market().table["date"].unique().sort().to_list()
    assert len(days) == 750
    assert days[0] == dt.date(2015, 1, 2)
    assert days[-1] > dt.date(2017, 11, 1)
    assert all(day.weekday() < 5 and (day.month, day.day) not in {(1, 1), (7, 4), (12, 25)} for day in days)
    every = {days[0] + dt.timedelta(n) for n in range((days[-1] - days[0]).days)}
    left_out = {day for day in every - set(days) if day.weekday() < 5}
    assert left_out == {dt.date(2015, 12, 25), dt.date(2016, 1, 1), dt.date(2016, 7, 4), dt.date(2017, 7, 4)}


def test_the_same_options_give_the_same_market_bit_by_bit(tmp_path):
    made = [make_market(SynthOptions.model_validate(SMALL)) for _ in range(2)]
    directories = [write_market(one, tmp_path / str(number)) for number, one in enumerate(made)]
    for name in ("market.parquet", "truth.parquet", "clusters.parquet", "roles.yaml", "truth.json"):
        assert (directories[0] / name).read_bytes() == (directories[1] / name).read_bytes(), name
    other = market(**SMALL, seed=8)
    assert not other.table["close"].equals(made[0].table["close"])


def test_the_strength_changes_neither_features_nor_noise():
    weak, strong = market(**SMALL, ic=0.05), market(**SMALL, ic=0.3)
    names = feature_names(weak.options)
    assert weak.table.select("date", "code", *names).equals(strong.table.select("date", "code", *names))
    noise = []
    for made in (weak, strong):
        noise.append(next_returns(made, 0) - square(made.truth, "signal"))
    assert np.nanmax(np.abs(noise[0] - noise[1])) < 1e-12


def test_one_ingredient_does_not_change_another():
    plain, noisy = market(**SMALL), market(**SMALL, noise_features=9, unknown_industry_share=0.5)
    shared = ["date", "code", "close", "volume", *feature_names(plain.options)]
    assert plain.table.select(shared).equals(noisy.table.select(shared))


def test_what_is_written_reads_back_and_has_the_roles_of_a_source(tmp_path):
    made = market(**SMALL)
    directory = write_market(made, tmp_path / "new" / "market")
    assert sorted(os.listdir(directory)) == [
        "clusters.parquet",
        "market.parquet",
        "roles.yaml",
        "truth.json",
        "truth.parquet",
    ]
    assert os.listdir(tmp_path / "new") == ["market"]
    assert pl.read_parquet(directory / "market.parquet").equals(made.table)
    assert pl.read_parquet(directory / "truth.parquet").equals(made.truth)
    roles = Roles.read(directory / "roles.yaml")
    assert roles.own(made.table.columns) == feature_names(made.options)
    assert list(yaml.safe_load((directory / "roles.yaml").read_text())) == [*BARS, "features"]
    truth = json.loads((directory / "truth.json").read_text())
    assert truth["reachable"]["sharpe_annual"] == made.reachable.sharpe_annual
    assert SynthOptions.model_validate(truth["options"]) == made.options


def test_an_existing_directory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.txt").write_text("x")
    with pytest.raises(UseError, match=r"mine: exists already.*Mend"):
        write_market(market(**SMALL), tmp_path / "mine")
    assert os.listdir(tmp_path) == ["mine"]
    assert os.listdir(tmp_path / "mine") == ["kept.txt"]


def test_a_failing_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UseError, match=r"cannot be written.*No space left on device.*Mend"):
        write_market(market(**SMALL), tmp_path / "full")
    assert os.listdir(tmp_path) == []


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UseError, match=r"cannot be written there: Not a directory"):
        write_market(market(**SMALL), tmp_path / "file" / "market")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ic": -0.1}, "greater than or equal to 0"),
        ({"ic": 1.0}, "less than or equal to 0.8"),
        ({"ic": float("nan")}, "finite"),
        ({"stocks": 1}, "greater than or equal to 10"),
        ({"days": 5}, "greater than or equal to 30"),
        ({"execution_lag": -1}, "greater than or equal to 0"),
        ({"shares": {"linear": 0.5}}, r"= 1\.31, must be 1; mend"),
        ({"stocks": 20}, r"industries = 12 leaves fewer than 2 of 20 stocks.*industries ≤ 10"),
        ({"delisted_share": 0.6, "listed_late_share": 0.6}, "= 1.2 exceeds 1"),
        ({"missing_share": 0.9}, "missing_share = 0.9 exceeds 0.5"),
        ({"strength": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_option_is_named_with_its_bound(wrong, said):
    with pytest.raises(ValidationError, match=said):
        SynthOptions.model_validate(wrong)


def test_a_market_without_labels_is_refused():
    options = SynthOptions(stocks=10, days=30, industries=2, execution_lag=20, listed_late_share=1, delisted_share=0)
    with pytest.raises(UseError, match=r"0 days on which.*Mend"):
        make_market(options.model_copy(update={"missing_share": 0.999}))
