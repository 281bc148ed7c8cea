"""The computed features against loops of other libraries, and against the future and the far past."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from scipy import stats

from atft.data import features, windows
from tests.unit.data import tables

NAMES = [feature.name for feature in features.FEATURES]
GUIDE = Path(__file__).parents[3] / "docs/guide/features.md"


@pytest.fixture(scope="module")
def market():
    return tables.grid(tables.bars())


@pytest.fixture(scope="module")
def made(market):
    return tables.computed(*market, NAMES)


def returns(columns):
    close = columns["close"]
    found = np.full(close.shape, np.nan)
    found[:, 1:] = close[:, 1:] / close[:, :-1] - 1
    return found


def rolling(function, days, *series):
    """``function`` of each window's days on which all series are there, where two thirds of them are."""
    found = np.full(series[0].shape, np.nan)
    for stock, day in np.ndindex(found.shape):
        rows = np.stack([each[stock, max(0, day - days + 1) : day + 1] for each in series])
        rows = rows[:, np.isfinite(rows).all(axis=0)]
        if rows.shape[1] >= np.ceil(2 * days / 3):
            found[stock, day] = function(*rows)
    return found


def back(x, n):
    return np.concatenate([np.full((len(x), n), np.nan), x[:, : x.shape[1] - n]], axis=1)


def exponential(x, days, span):
    def last(window):
        return window

    found = np.full(x.shape, np.nan)
    for stock, day in np.ndindex(x.shape):
        window = x[stock, max(0, day - days + 1) : day + 1]
        weights = (1 - 2 / (span + 1)) ** np.arange(len(window))[::-1]
        there = np.isfinite(window)
        if there.sum() >= np.ceil(2 * days / 3):
            found[stock, day] = (weights * np.where(there, window, 0)).sum() / weights[there].sum()
    return found


def by_day(function, x):
    return np.stack([function(x[:, day]) for day in range(x.shape[1])], axis=1)


def ranked(values):
    found = np.full(len(values), np.nan)
    there = np.isfinite(values)
    if there.sum() >= 2:
        found[there] = (stats.rankdata(values[there]) - 0.5) / there.sum() - 0.5
    return found


def market_return(r):
    return np.where(
        np.isfinite(r),
        np.nanmean(r[:, 1:], axis=0, keepdims=True).repeat(len(r), 0)[:, [0, *range(r.shape[1] - 1)]],
        np.nan,
    )


def ols(r, m):
    return sm.OLS(r, sm.add_constant(m)).fit()


def inside(industries, function):
    def of_day(values):
        found = np.full(len(values), np.nan)
        for group in set(industries[industries >= 0]):
            members = industries == group
            if np.isfinite(values[members]).sum() >= 2:
                found[members] = function(values[members])
        return found

    return of_day


def oracles(columns, industries):
    o, h, l, c, v = (columns[name] for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
    r, typical, step = returns(columns), (h + l + c) / 3, c - back(c, 1)
    m = market_return(r)
    true_range = np.maximum(h - l, np.maximum(abs(h - back(c, 1)), abs(l - back(c, 1))))
    beta = rolling(lambda y, x: ols(y, x).params[1], 60, r, m)
    macd = (exponential(c, 51, 12) - exponential(c, 51, 26)) / c
    flow = np.sign(typical - back(typical, 1)) * typical * v
    top, bottom = rolling(np.max, 14, h), rolling(np.min, 14, l)
    five = c / back(c, 5) - 1
    yield "return_5", five
    yield "momentum_60_20", back(c, 20) / back(c, 60) - 1
    yield "volatility_20", rolling(np.std, 20, r)
    yield "skew_20", rolling(stats.skew, 20, r)
    yield "kurtosis_60", rolling(stats.kurtosis, 60, r)
    yield "parkinson_20", rolling(lambda a, b: np.sqrt(np.mean(np.log(a / b) ** 2) / (4 * np.log(2))), 20, h, l)
    gk = 0.5 * np.log(h / l) ** 2 - (2 * np.log(2) - 1) * np.log(c / o) ** 2
    yield "garman_klass_20", np.sqrt(rolling(np.mean, 20, gk))
    rs = np.log(h / c) * np.log(h / o) + np.log(l / c) * np.log(l / o)
    yield "rogers_satchell_20", np.sqrt(rolling(np.mean, 20, rs))
    yield "downside_20", rolling(lambda x: np.sqrt(np.mean(np.minimum(x, 0) ** 2)), 20, r)
    yield "atr_14", rolling(np.mean, 14, true_range) / c
    yield "gap", o / back(c, 1) - 1
    yield "volume_z_20", rolling(lambda x: (x[-1] - x.mean()) / x.std(), 20, np.log1p(v))
    yield "amihud_20", np.log1p(1e9 * rolling(np.mean, 20, abs(r) / (c * v)))
    yield "volume_return_correlation_20", rolling(lambda a, b: stats.pearsonr(a, b)[0], 20, r, np.log1p(v))
    yield "rsi_14", rolling(lambda x: 100 * np.maximum(x, 0).sum() / abs(x).sum(), 14, step)
    yield "stochastic_k_14", 100 * (c - bottom) / (top - bottom)
    yield "stochastic_d_14", rolling(np.mean, 3, 100 * (c - bottom) / (top - bottom))
    deviation = rolling(lambda x: np.mean(abs(x - x.mean())), 20, typical)
    yield "cci_20", (typical - rolling(np.mean, 20, typical)) / (0.015 * deviation)
    yield "macd_12_26", macd
    yield "macd_histogram_12_26_9", macd - exponential(macd, 10, 9)
    yield "bollinger_b_20", (c - rolling(np.mean, 20, c)) / (4 * rolling(np.std, 20, c)) + 0.5
    yield "money_flow_14", rolling(lambda x: np.maximum(x, 0).sum() / abs(x).sum(), 14, flow)
    yield "from_high_60", c / rolling(np.max, 60, h) - 1
    yield "average_ratio_30", rolling(np.mean, 30, c) / c - 1
    yield "beta_60", beta
    residual = rolling(lambda y, x: ols(y, x).resid.std(), 60, r, m)
    yield "residual_volatility_60", residual
    summed = rolling(np.sum, 20, r) - beta * rolling(np.sum, 20, m)
    yield "residual_momentum_20", summed / residual
    yield "rank_return_5", by_day(ranked, five)
    yield "rank_mean_20", rolling(np.mean, 20, by_day(ranked, r))
    yield "industry_rank_return_5", by_day(inside(industries, ranked), five)
    yield "industry_relative_return_5", five - by_day(inside(industries, np.nanmean), five)


def test_features_are_those_of_numpy_scipy_and_statsmodels(market, made):
    for name, expected in oracles(*market):
        there = np.isfinite(market[0]["close"]).T
        found = np.where(there, made[name], np.nan)
        expected = np.where(there, expected.T, np.nan)
        assert np.isfinite(expected).sum() > 100, name
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-7, err_msg=name)


def test_aroon_counts_days_since_the_last_extreme(market, made):
    high = market[0]["high"]
    for stock, day in ((3, 60), (4, 71), (5, 89)):
        window = high[stock, day - 25 : day + 1][::-1]
        assert made["aroon_up_25"][day, stock] == pytest.approx(100 * (1 - np.nanargmax(window) / 25))


def test_every_feature_is_there_and_varies(made):
    for name, values in made.items():
        late = values[70:]
        assert np.isfinite(late).mean() > 0.5, name
        assert np.nanstd(late) > 0, name


def test_there_are_at_least_sixty_features_of_different_names_within_the_history():
    assert len(set(NAMES)) == len(NAMES) >= 60
    assert max(feature.lookback_days for feature in features.FEATURES) <= 60 < features.HISTORY


@pytest.mark.parametrize("how", ["other values", "nothing"])
def test_no_bit_of_a_feature_changes_with_what_happens_later(market, made, how):
    columns, industries = market
    for day in (45, 75):
        changed = {name: values.copy() for name, values in columns.items()}
        for number, values in enumerate(changed.values()):
            later = values[:, day + 1 :]
            later *= np.random.default_rng(number).uniform(0.01, 100, later.shape) if how == "other values" else np.nan
        if how == "nothing":
            changed = {name: values[:, : day + 1] for name, values in changed.items()}
        for name, values in tables.computed(changed, industries, NAMES).items():
            assert values[: day + 1].tobytes() == made[name][: day + 1].tobytes(), (name, day)


def test_a_stock_that_lists_later_changes_no_bit(market, made):
    columns, industries = market
    late = {name: np.vstack([values[:3], np.full((1, 90), np.nan), values[3:]]) for name, values in columns.items()}
    for name in late:
        late[name][3, 80:] = columns[name][4, 80:] * 3
    found = tables.computed(late, np.insert(industries, 3, 1).astype(np.int32), NAMES)
    for name, values in found.items():
        assert np.delete(values, 3, axis=1)[:80].tobytes() == made[name][:80].tobytes(), name


def test_lookbacks_are_true_to_the_last_bit_and_no_longer_than_needed(market):
    columns, industries = tables.grid(tables.bars(gaps=0.0, seed=1))
    by_lookback = {}
    for feature in features.FEATURES:
        by_lookback.setdefault(feature.lookback_days, []).append(feature.name)
    for lookback, names in by_lookback.items():
        plain = tables.computed(columns, industries, names)
        older = _scaled(columns, 88 - lookback, 1e6)
        for name, values in tables.computed(older, industries, names).items():
            assert values[89].tobytes() == plain[name][89].tobytes(), f"{name} reaches beyond {lookback} days"
        edges = [tables.computed(_scaled(columns, 89 - lookback, scale), industries, names) for scale in (1e6, 1e-6)]
        for name in names:
            changed = [not np.array_equal(edge[name][89], plain[name][89], equal_nan=True) for edge in edges]
            assert any(changed), f"{name} never uses day {lookback}"


def _scaled(columns, last, scale):
    """The bars up to day ``last`` replaced by wild ones."""
    changed = {name: values.copy() for name, values in columns.items()}
    for number, values in enumerate(changed.values()):
        old = values[:, : last + 1]
        old *= scale * np.random.default_rng(number).uniform(0.1, 1, old.shape)
    return changed


def test_a_window_needs_two_thirds_of_its_days():
    columns, industries = tables.grid(tables.bars(gaps=0.0))
    for missing, expected in ((6, True), (7, False)):
        holed = {name: values.copy() for name, values in columns.items()}
        for values in holed.values():
            values[2, 60 : 60 + missing] = np.nan
        found = tables.computed(holed, industries, ["average_ratio_20"])["average_ratio_20"]
        assert np.isfinite(found[75, 2]) == expected
        assert np.isfinite(found[75, 3])


def test_a_price_that_never_moves_has_no_volatility_and_no_band():
    columns, industries = tables.grid(tables.bars(gaps=0.0))
    for name in ("open", "high", "low", "close"):
        columns[name][2] = 12.3
    found = tables.computed(columns, industries, ["volatility_20", "bollinger_b_20", "rsi_14", "beta_60"])
    assert found["volatility_20"][80, 2] == 0
    assert np.isnan(found["bollinger_b_20"][80, 2])
    assert np.isnan(found["rsi_14"][80, 2])
    assert found["beta_60"][80, 2] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("days", [1, 2, 3, 5, 7, 14, 20, 26, 51, 60])
def test_windows_fold_the_days_that_they_should(days):
    x = np.random.default_rng(0).normal(size=100)
    x[[3, 50, 51]] = np.nan
    frame = pl.DataFrame({"x": pl.Series(x, nan_to_null=True)})
    cases = {"mean": windows.mean, "highest": windows.highest, "lowest": windows.lowest, "deviation": windows.deviation}
    oracle = {"mean": np.mean, "highest": np.max, "lowest": np.min, "deviation": np.std}
    for name, make in cases.items():
        wanted = make(pl.col("x"), days)
        made = frame
        for step, expression in windows.STEPS.items():
            if set(expression.meta.root_names()) <= set(made.columns):
                made = made.with_columns(expression.alias(step))
        found = made.select(wanted.alias("y"))["y"].to_numpy()[64:]
        expected = rolling(oracle[name], days, x[None])[0][64:]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=name)


def test_features_whose_inputs_are_missing_are_named():
    assert features.missing_inputs("volume_z_20", ["close", "open"]) == ["volume"]
    assert features.missing_inputs("industry_rank_volume_ratio_20", ["close"]) == ["industry", "volume"]
    assert features.missing_inputs("beta_60", ["close"]) == []


def test_the_guide_is_what_the_code_says():
    assert GUIDE.read_text(encoding="utf-8") == features.render(), "make it again: python -m atft.data.features"


def test_a_mean_over_stocks_has_the_same_bits_in_any_order_and_beside_absent_stocks():
    random = np.random.default_rng(0)
    values = random.normal(0, 0.02, 4001)
    frames = [
        pl.DataFrame({"x": values}),
        pl.DataFrame({"x": random.permutation(values)}),
        pl.DataFrame({"x": pl.Series(np.insert(values, 7, np.nan), nan_to_null=True)}),
    ]
    found = set()
    for frame in frames:
        made = frame.with_columns(pl.lit(0).alias("day"))
        wanted = windows.mean_over(pl.col("x"), pl.col("day"))
        for step, expression in windows.STEPS.items():
            if set(expression.meta.root_names()) <= set(made.columns):
                made = made.with_columns(expression.alias(step))
        found.add(made.select(wanted.alias("mean"))["mean"][0])
    assert len(found) == 1
    assert found.pop() == pytest.approx(values.mean(), abs=1e-11)
