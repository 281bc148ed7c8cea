"""From a table to a panel: layout, normalisation, choice of features, and nothing of the future."""

import datetime as dt
import os
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from atft.data import chunks, features, normalise, sources
from atft.data.build import build
from atft.data.grid import Grid
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.errors import UseError
from tests.unit.data import tables

NASDAQ = os.environ.get("ATFT_NASDAQ")
NAMES = [feature.name for feature in features.FEATURES]
OWN = Roles(features=("alpha_*",))


@pytest.fixture(scope="module")
def frame():
    plain = tables.bars(days=150)
    random = np.random.default_rng(5)
    alpha = random.normal(size=(plain.height, 2)).astype(np.float32)
    alpha[random.random(alpha.shape) < 0.1] = np.nan
    return plain.with_columns(pl.Series("alpha_b", alpha[:, 0]), pl.Series("alpha_a", alpha[:, 1].round(1)))


def panel(frame, folder, **options):
    folder.mkdir(exist_ok=True)
    build(tables.written(frame, folder), folder / "panel", options.pop("roles", OWN), **options)
    return Panel.open(folder / "panel")


@pytest.fixture(scope="module")
def whole(frame, tmp_path_factory):
    return panel(frame, tmp_path_factory.mktemp("whole"))


def test_the_grid_holds_every_row_on_its_day_and_stock(frame, whole):
    assert [str(day) for day in whole.days] == [str(day) for day in sorted(set(frame["date"]))]
    assert whole.codes == sorted(set(frame["code"]))
    columns, _ = tables.grid(frame)
    np.testing.assert_array_equal(whole.close, columns["close"].T)
    industry = dict(frame.select("code", "industry").iter_rows())
    for code, number in zip(whole.codes, whole.industries, strict=True):
        assert (whole.industry_names[number] if number >= 0 else "n/a") == industry[code]


def test_open_and_volume_lie_beside_the_close(frame, whole, tmp_path):
    columns, _ = tables.grid(frame)
    np.testing.assert_array_equal(whole.open_price, columns["open"].T)
    np.testing.assert_array_equal(whole.volume, columns["volume"].T)
    np.testing.assert_array_equal(whole.tradable, whole.present)
    assert whole.markets == [None] * 12
    bare = panel(frame.drop("open", "volume"), tmp_path, roles=Roles(open=None, volume=None, features=("alpha_*",)))
    assert bare.open_price is None
    assert bare.volume is None


def test_flags_and_markets_of_a_checked_source_are_laid_out_by_day_and_stock(frame, tmp_path):
    checked = sources.read(tables.written(frame, tmp_path), OWN)
    flags = pl.Series("tradable", np.random.default_rng(2).random(frame.height) < 0.7)
    flags[3] = None
    market = pl.when(pl.col("code") < "S06").then(pl.lit("north")).otherwise(pl.lit("south")).alias("market")
    grid = Grid.of(replace(checked, bars=checked.bars.with_columns(flags, market)))
    assert grid.markets == ["north"] * 6 + ["south"] * 6
    expected = np.zeros_like(grid.tradable)
    days = [day.item() for day in grid.days]
    for (date, code), flag in zip(checked.bars.select("date", "code").iter_rows(), flags, strict=True):
        expected[grid.codes.index(code), days.index(date)] = bool(flag)
    np.testing.assert_array_equal(grid.tradable, expected)


def test_features_are_those_of_the_grid_then_own_ones_ranked_over_each_day(frame, whole):
    assert whole.feature_names == [*NAMES, "alpha_b", "alpha_a"]
    columns, industries = tables.grid(frame)
    raw = tables.computed(columns, industries, NAMES)
    for name in ("alpha_b", "alpha_a"):
        as_volume = frame.drop("volume").rename({name: "volume"})
        raw[name] = tables.grid(as_volume)[0]["volume"].T.astype(np.float32)
    found = whole.features(0, len(whole.days))
    for number, name in enumerate(whole.feature_names):
        for day in (70, 100, 149):
            values = np.where(np.isfinite(columns["close"][:, day]), raw[name][day], np.nan)
            there = np.isfinite(values)
            expected = np.full(len(values), np.nan)
            expected[there] = np.sqrt(12) * ((stats.rankdata(values[there]) - 0.5) / there.sum() - 0.5)
            np.testing.assert_allclose(found[day, :, number], expected, rtol=1e-6, err_msg=name)


def test_an_absent_stock_has_no_features(whole):
    found = whole.features(0, len(whole.days))
    assert np.isnan(found[~whole.present]).all()
    assert np.isfinite(found[whole.present]).mean() > 0.5


@pytest.mark.parametrize("method", ["rank", "zscore"])
@pytest.mark.parametrize("how", ["other values", "dropped"])
def test_no_bit_of_the_panel_changes_with_what_happens_later(frame, tmp_path, method, how):
    cut = 110
    last = sorted(set(frame["date"]))[cut]
    later = pl.col("date") > last
    scale = pl.Series(np.random.default_rng(3).uniform(0.1, 10, frame.height))
    if how == "dropped":
        changed = frame.filter(~later)
    else:
        number = [name for name, kind in frame.schema.items() if kind.is_numeric()]
        changed = frame.with_columns(
            pl.when(later).then((pl.col(c) * scale).cast(frame.schema[c])).otherwise(c).alias(c) for c in number
        )
    before, after = (
        panel(each, tmp_path / str(place), normalise=method, most_bad=1.0)
        for place, each in enumerate((frame, changed))
    )
    for first, second in ((before.features(0, cut + 1), after.features(0, cut + 1)), (before.close, after.close)):
        assert first[: cut + 1].tobytes() == second[: cut + 1].tobytes()


@pytest.mark.parametrize("at_once", [1, 2400])
def test_the_panel_does_not_depend_on_how_many_days_are_computed_at_once(frame, whole, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(chunks, "ROWS_AT_ONCE", at_once)
    assert panel(frame, tmp_path).sha256 == whole.sha256


def test_ranks_are_those_of_scipy_with_ties_and_gaps():
    random = np.random.default_rng(0)
    rows = random.integers(-4, 4, (50, 30)).astype(np.float32)
    rows[random.random(rows.shape) < 0.3] = np.nan
    rows[0], rows[1], rows[2] = np.nan, np.nan, 1.0
    rows[1, 3] = 5.0
    rows[3:9, ::2] *= -1  # some zeros are negative, which equal the others
    rows[9] *= np.float32(-np.nan)
    found = normalise.ranks(rows)
    for row, got in zip(rows, found, strict=True):
        there = np.isfinite(row)
        expected = np.full(30, np.nan)
        if there.sum() >= 2:
            expected[there] = np.sqrt(12) * ((stats.rankdata(row[there]) - 0.5) / there.sum() - 0.5)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)
    wide = normalise.ranks(np.arange(1000, dtype=np.float32)[None])
    assert (wide.mean(), wide.std()) == pytest.approx((0, 1), abs=1e-5)


def test_zscores_are_those_of_scipy_cut_at_five():
    random = np.random.default_rng(0)
    rows = random.standard_t(1.5, (20, 100)).astype(np.float32)
    rows[random.random(rows.shape) < 0.3] = np.nan
    rows[0], rows[1] = np.nan, 0.1
    rows[0, 3] = 5.0
    found = normalise.zscores(rows)
    expected = np.clip(stats.zscore(rows[2:].astype(float), axis=1, nan_policy="omit"), -5, 5)
    np.testing.assert_allclose(found[2:], expected, rtol=1e-5, atol=1e-6)
    assert np.nanmax(abs(found)) == 5
    assert np.isnan(found[0]).all()
    assert (found[1] == 0).all()


@pytest.mark.parametrize("method", [normalise.ranks, normalise.zscores])
def test_normalisation_has_the_same_bits_beside_absent_stocks(method):
    rows = np.random.default_rng(0).normal(size=(20, 1001)).astype(np.float32)
    beside = np.insert(rows, [0, 7, 500], np.nan, axis=1)
    found = method(beside)
    assert found[:, np.isfinite(beside[0])].tobytes() == method(rows).tobytes()


def test_the_manifest_says_where_all_came_from(frame, tmp_path):
    bad = frame.with_columns(pl.when(pl.int_range(pl.len()) == 500).then(-1.0).otherwise("close").alias("close"))
    told = []
    found = panel(bad, tmp_path, normalise="zscore", progress=lambda *step: told.append(step)).manifest
    assert (found.rows_read, found.rows_kept) == (frame.height, frame.height - 1)
    assert found.counts == {"close not positive": 1}
    assert (found.normalise, found.source, found.roles) == ("zscore", "bars.parquet", OWN)
    assert (str(found.first_day), found.days, found.stocks) == ("2020-01-01", 150, 12)
    assert found.longest_lookback == 60
    assert [entry.lookback_days for entry in found.features][-2:] == [None, None]
    assert found.features[0].formula == "C / C[-1] − 1"
    assert told[0] == ("read", 0.0)
    assert told[-1] == ("features", 1.0)
    assert [part for stage, part in told if stage == "features"] == sorted({p for s, p in told if s == "features"})


def test_features_that_the_source_cannot_give_are_left_out_and_named(frame, tmp_path):
    roles = Roles(volume=None, industry=None)
    found = panel(frame.drop("volume", "industry"), tmp_path, roles=roles)
    left_out = found.manifest.left_out
    assert left_out["volume_z_20"] == "needs volume"
    assert left_out["industry_rank_volume_ratio_20"] == "needs industry, volume"
    assert found.feature_names == [name for name in NAMES if name not in left_out]
    assert len(found.feature_names) >= 60
    assert found.industry_names == []


@pytest.mark.parametrize(("computed", "names"), [(False, []), (["beta_60", "gap"], ["beta_60", "gap"])])
def test_a_panel_may_take_only_some_computed_features(frame, whole, tmp_path, computed, names):
    found = panel(frame, tmp_path, computed=computed)
    assert found.feature_names == [*names, "alpha_b", "alpha_a"]
    places = [whole.feature_names.index(name) for name in found.feature_names]
    np.testing.assert_array_equal(found.features(0, 150), whole.features(0, 150)[:, :, places])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"computed": ["volatility_21"]}, r"no feature is called 'volatility_21'. Did you mean 'volatility_20'"),
        ({"computed": ["amihud_20"], "roles": Roles(volume=None)}, "'amihud_20' needs volume, which the source"),
        ({"computed": False, "roles": Roles()}, "the panel would hold no features"),
        ({"normalise": "minmax"}, "normalise = 'minmax' is not known. Mend: one of rank, zscore"),
        ({"strict": True}, "strict allows nothing"),
    ],
)
def test_wrong_options_are_refused_and_leave_nothing(frame, tmp_path, options, told):
    bad = frame.with_columns(pl.when(pl.int_range(pl.len()) == 5).then(-1.0).otherwise("close").alias("close"))
    with pytest.raises(UseError, match=told):
        panel(bad, tmp_path, **options)
    assert os.listdir(tmp_path) == ["bars.parquet"]


def test_an_own_feature_with_a_computed_name_is_refused(frame, tmp_path):
    with pytest.raises(UseError, match="own feature 'gap' has the name of a computed one"):
        panel(frame.rename({"alpha_a": "gap"}), tmp_path, roles=Roles(features=("gap",)))


def test_a_panel_that_is_there_is_refused_before_the_source_is_read(tmp_path, frame):
    panel(frame, tmp_path, computed=False)
    with pytest.raises(UseError, match="exists already"):
        build(tmp_path / "no such source.parquet", tmp_path / "panel")
    with pytest.raises(UseError, match="no such file"):
        build(tmp_path / "no such source.parquet", tmp_path / "panel", overwrite=True)
    Panel.open(tmp_path / "panel").verify()


def test_a_build_that_breaks_off_leaves_the_old_panel_and_nothing_else(tmp_path, frame):
    before = panel(frame, tmp_path, computed=False).sha256

    def stop(stage, part):
        if stage == "features":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        panel(frame, tmp_path, overwrite=True, progress=stop)
    assert sorted(os.listdir(tmp_path)) == ["bars.parquet", "panel"]
    assert Panel.open(tmp_path / "panel").sha256 == before


@pytest.mark.slow
@pytest.mark.skipif(not NASDAQ, reason="set ATFT_NASDAQ to the NASDAQ file to run this")
def test_nasdaq_builds_within_a_minute(tmp_path):
    import time

    started = time.monotonic()
    build(NASDAQ, tmp_path / "panel")
    assert time.monotonic() - started <= 60
    found = Panel.open(tmp_path / "panel")
    assert (len(found.days), len(found.codes)) == (1495, 1026)
    assert found.manifest.counts["daily moves above 50% (kept)"] == 23
    late = found.features(100, 1495)
    assert np.isfinite(late[found.present[100:]]).mean() > 0.95


def test_an_industry_that_is_stated_later_is_not_used_earlier(frame, tmp_path):
    moved = frame.with_columns(
        pl.when(pl.col("date") > dt.date(2020, 3, 15)).then(pl.lit("z")).otherwise("industry").alias("industry")
    )
    before, after = panel(frame, tmp_path / "before"), panel(moved, tmp_path / "after")
    assert "z" not in after.industry_names
    assert np.array_equal(before.industries, after.industries)
    assert np.array_equal(before.features(0, len(before.days)), after.features(0, len(after.days)), equal_nan=True)
