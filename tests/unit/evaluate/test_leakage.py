"""What betrays knowledge of the future in plain arrays, and what must not be taken for it."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.preprocessing import StandardScaler

from atft.evaluate.leakage import foresight, hindsight, series, staleness, universe

DAYS, STOCKS = 300, 40


@pytest.fixture(scope="module")
def close() -> np.ndarray:
    """Random walks with a late listing, a delisting and gaps."""
    random = np.random.default_rng(0)
    walks = 40 * np.exp(np.cumsum(random.normal(0, 0.02, (DAYS, STOCKS)), axis=0))
    walks[:90, 0] = walks[200:, 1] = np.nan
    walks[random.random(walks.shape) < 0.01] = np.nan
    walks[0, 1:] = 40.0
    return walks


@pytest.fixture(scope="module")
def returns(close: np.ndarray) -> np.ndarray:
    return np.vstack([np.full(STOCKS, np.nan), close[1:] / close[:-1] - 1])


def frame(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values)


def test_correlations_are_those_of_scipy_where_values_are_missing():
    random = np.random.default_rng(1)
    features, wanted = random.normal(size=(50, 4)), random.normal(size=(50, 3))
    features[random.random(features.shape) < 0.2] = np.nan
    wanted[random.random(wanted.shape) < 0.2] = np.nan
    features[:45, 3] = np.nan
    found = foresight.rank_correlations(features, wanted)
    assert np.isnan(found[3]).all(), "fewer stocks than LEAST_STOCKS"
    for place in range(3):
        for target in range(3):
            both = np.isfinite(features[:, place]) & np.isfinite(wanted[:, target])
            known = np.isfinite(wanted[:, target])
            order = np.full(50, np.nan)
            order[known] = stats.rankdata(wanted[known, target])
            expected = stats.pearsonr(features[both, place], order[both]).statistic
            assert found[place, target] == pytest.approx(expected, abs=1e-12)


def test_what_a_correlation_surely_exceeds_is_the_end_of_students_interval():
    blocks = np.random.default_rng(2).normal(0.3, 0.05, (20, 1, 1))
    mean, low = foresight.lower_bounds(blocks, tests=50)
    interval = stats.t.interval(1 - 0.01 / 50, 19, loc=blocks.mean(), scale=stats.sem(blocks[:, 0, 0]))
    assert (mean[0, 0], low[0, 0]) == pytest.approx((blocks.mean(), interval[0]))


def profile_of(values: np.ndarray, close: np.ndarray) -> list:
    days = range(0, DAYS - 1, 2)
    daily = [(day, foresight.rank_correlations(values[day], foresight.targets(close, day))) for day in days]
    names = [f"f{number}" for number in range(values.shape[2])]
    return list(foresight.findings(foresight.profile(names, daily, DAYS)))


def test_a_label_a_centred_window_and_nothing_else_are_named_for_what_they_know(close, returns):
    label = np.vstack([returns[1:], np.full(STOCKS, np.nan)])
    centred = frame(returns).rolling(7, center=True, min_periods=4).mean().to_numpy()
    trailing = frame(returns).rolling(7, min_periods=4).mean().to_numpy()
    noise = np.random.default_rng(3).normal(size=close.shape)
    found = profile_of(np.stack([label, centred, trailing, noise, returns], axis=2), close)
    assert {each.offender: each.evidence.split(":")[0] for each in found} == {
        "f0": "the label's own day, of which the day before knows nothing",
        "f1": "a window around its day, t-3 to t+3",
    }
    assert all(each.verdict == "suspect" and each.proves == "suspicion" for each in found)


def test_a_calendar_too_short_is_not_passed(close):
    few = [(day, foresight.rank_correlations(close[day][:, None], foresight.targets(close, day))) for day in range(3)]
    (found,) = foresight.findings(foresight.profile(["f"], few, 4))
    assert found.verdict == "not checked"


@pytest.mark.parametrize("kind", hindsight.KINDS)
def test_a_price_over_what_only_the_end_tells_is_named_and_its_running_twin_is_not(close, kind):
    table = frame(close)
    whole = {"maximum": table.max(), "minimum": table.min(), "mean": table.mean(), "last close": table.ffill().iloc[-1],
             "level": 1.0}  # fmt: skip
    twin = {"maximum": table.cummax(), "minimum": table.cummin(), "mean": table.expanding().mean(),
            "last close": table.bfill().iloc[0], "level": table.bfill().iloc[0]}  # fmt: skip
    values = np.stack([(table / whole[kind]).to_numpy(), (table / twin[kind]).to_numpy()], axis=2)
    known = hindsight.Hindsight.of(close)
    early = [foresight.rank_correlations(np.apply_along_axis(stats.rankdata, 0, values[day], nan_policy="omit"),
                                         known.targets(day)) for day in range(30, 180, 6)]  # fmt: skip
    (found,) = hindsight.findings(["leaky", "honest"], np.nanmean(early, axis=0), STOCKS)
    assert found.offender == "leaky"
    assert ("level" if kind == "level" else f"whole-sample {kind}") in found.evidence


def test_a_shared_maximum_reached_once_is_a_whole_samples_and_a_running_one_is_not(close):
    table = frame(close)
    found = series.extremes((table / table.max()).to_numpy())
    assert found is not None
    assert "maximum of 40 of 40 stocks is 1" in found.evidence
    rounded = (table / table.max()).to_numpy(np.float32).copy()
    rounded[(rounded == 1) & (np.arange(STOCKS) % 3 == 0)] -= np.float32(2**-24)
    assert series.extremes(rounded.astype(float)) is not None, "off by one rounding in some stocks"
    assert series.extremes(((table - table.min()) / (table.max() - table.min())).to_numpy()) is not None
    for honest in (table / table.cummax(), table / table.rolling(20).max(), table / table.bfill().iloc[0], table):
        assert series.extremes(honest.to_numpy()) is None


def test_a_factor_counted_back_from_the_end_is_named_and_one_counted_forward_is_not():
    splits = np.where(np.random.default_rng(4).random((DAYS, STOCKS)) < 0.01, 2.0, 1.0)
    forward = np.cumprod(splits, axis=0)
    assert series.anchored_at_the_end(forward / forward[-1]) is not None
    assert series.anchored_at_the_end(forward / forward[0]) is None
    assert series.anchored_at_the_end(splits) is None, "events that happen to be 1 on the last day, as on the first"


@pytest.mark.parametrize("ddof", [0, 1])
def test_a_scaler_fitted_on_test_days_is_named_and_one_fitted_on_training_days_is_not(close, ddof):
    values = np.log(close)
    train, test = np.arange(DAYS) < 180, np.arange(DAYS) >= 240
    spans = {"all days": np.ones(DAYS, bool), "train only": train, "the test days": test}

    def scaled(days: np.ndarray, by_stock: bool) -> np.ndarray:
        inside = frame(values[days]) if by_stock else frame(values[days]).stack()
        wide = (frame(values) - inside.mean()) / inside.std(ddof=ddof)
        return wide.to_numpy(np.float32).astype(float)

    for days, told in ((spans["all days"], "over all days"), (test, "over the test days")):
        for by_stock, whose in ((False, "all stocks together"), (True, "each stock by itself")):
            found = series.fitted_span(scaled(days, by_stock), spans)
            assert found is not None
            assert found.check == "scaler"
            assert told in found.evidence
            assert whose in found.evidence
    assert series.fitted_span(scaled(train, False), spans) is None
    across = stats.zscore(values, axis=1, nan_policy="omit")
    assert series.fitted_span(across, spans) is None, "scaled over each day"
    assert series.fitted_span(np.random.default_rng(5).normal(size=values.shape), spans) is None


def test_scikit_learns_scaler_is_recognised(close):
    filled = np.nan_to_num(close, nan=30.0)
    values = StandardScaler().fit_transform(filled)
    found = series.fitted_span(values, {"all days": np.ones(DAYS, bool)})
    assert found is not None
    assert "each stock by itself" in found.evidence


def test_a_backward_fill_is_named_at_the_beginning_and_in_gaps_and_a_forward_fill_is_not(close, returns):
    mean = frame(returns).rolling(20).mean()
    first = series.leading_fill(mean.bfill().to_numpy())
    assert first is not None
    assert "carried back" in first.evidence
    assert series.leading_fill(mean.to_numpy()) is None
    assert series.leading_fill(mean.ffill().to_numpy()) is None
    monthly = mean.copy()
    monthly[np.arange(DAYS) % 20 != 0] = np.nan
    assert series.leading_fill(monthly.ffill().to_numpy()) is None, "a feature that moves seldom"
    sparse = frame(np.where(np.random.default_rng(6).random(returns.shape) < 0.1, np.nan, returns))
    assert series.interior_fill(sparse.bfill(limit=1).to_numpy(), returns, 10) is not None
    assert series.interior_fill(sparse.ffill(limit=1).to_numpy(), returns, 10) is None


def test_a_bound_that_is_met_on_days_in_a_row_is_no_fill():
    for seed in range(4):
        close = walks(seed) * np.exp(0.001 * np.arange(500))[:, None]
        moves = np.vstack([np.full(close.shape[1], np.nan), close[1:] / close[:-1] - 1])
        high = (frame(close) / frame(close).cummax()).to_numpy()
        assert series.interior_fill(high, moves, 1) is None, seed


def walks(seed: int, stocks: int = 150, days: int = 500) -> np.ndarray:
    random = np.random.default_rng(seed)
    first = np.exp(random.uniform(np.log(10), np.log(200), stocks))
    spread = random.uniform(0.01, 0.03, stocks)
    return first * np.exp(np.cumsum(random.normal(0, spread, (days, stocks)), axis=0))


def test_a_universe_chosen_by_its_end_is_named():
    for seed in range(3):
        close = walks(seed, stocks=300)
        for end in (close[-1], close.min(0), close[-1] / close[0]):
            (found,) = universe.findings(close[:, end > np.quantile(end, 0.3)])
            assert (found.verdict, found.offender) == ("suspect", "universe"), seed
            assert "floor" in found.evidence


def test_a_universe_chosen_by_its_beginning_is_not_named():
    for seed in range(20):
        close = walks(seed)
        (found,) = universe.findings(close[:, close[0] > 20])
        assert found.verdict == "clean", (seed, found.evidence)


def test_the_chance_of_passing_a_price_is_that_of_simulated_walks():
    random = np.random.default_rng(9)
    days, spread, drift, gap = 400, 0.02, 0.0005, -0.4
    steps = random.normal(drift, spread, (4000, days)).cumsum(1)
    passed = universe._passing(np.array([gap]), np.array([drift * days]), np.array([spread * days**0.5]))[0]
    # Walks in steps of a day pass a little less often than Brownian motion; see Broadie, Glasserman and Kou (1997).
    later = universe._passing(
        np.array([gap - 0.5826 * spread]), np.array([drift * days]), np.array([spread * days**0.5])
    )
    share = (steps.min(1) < gap).mean()
    assert share == pytest.approx(later[0], abs=4 * (share * (1 - share) / 4000) ** 0.5)
    assert later[0] < passed


def test_many_stock_years_without_a_delisting_are_survivors():
    close = walks(1, stocks=300, days=800)
    (found,) = universe.findings(close)
    assert found.verdict == "suspect"
    assert "only survivors" in found.evidence
    close[700:, 3] = np.nan
    (found,) = universe.findings(close)
    assert found.verdict == "clean"


def test_a_universe_of_a_few_days_is_not_checked():
    (found,) = universe.findings(walks(1, days=50))
    assert found.verdict == "not checked"


def test_a_feed_that_stops_is_named_and_a_feature_that_moves_seldom_is_not():
    random = np.random.default_rng(7)
    moving, seldom = random.normal(size=(200, 30)), np.repeat(random.normal(size=(10, 30)), 20, axis=0)
    stopped = random.normal(size=(200, 30))
    stopped[150:165] = stopped[150]
    values = np.stack([moving, seldom, stopped], axis=2)
    still = np.array([staleness.standing(today, before) for before, today in itertools.pairwise(values)])
    days = [f"day {number}" for number in range(1, 200)]
    (found,) = staleness.stale_findings(["moving", "seldom", "stopped"], still, days)
    assert found.offender == "stopped"
    assert "for 15 days from day 150 to day 164" in found.evidence


def test_a_later_days_value_is_named_and_todays_and_yesterdays_are_not():
    random = np.random.default_rng(8)
    known = random.normal(size=(60, 50, 1))
    own = np.concatenate([np.roll(known, -2, axis=0), known, np.roll(known, 2, axis=0)], axis=2)
    tables = {
        shift: np.mean([staleness.cross_correlations(own[d], known[d + shift]) for d in range(50)], axis=0)
        for shift in (0, *staleness.SHIFTS)
    }
    (found,) = staleness.shift_findings(["ahead", "same", "behind"], ["known"], tables.pop(0), tables)
    assert found.offender == "ahead"
    assert "'known' of 2 days later" in found.evidence
