"""Roles beyond bars: listing spans, adjustment factors, suspended days, own labels."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atft.config import Label
from atft.data import sources
from atft.data.build import build
from atft.data.labels import check_label, decided_returns, known_returns
from atft.data.panel import Panel
from atft.data.roles import OwnLabel, Roles
from atft.errors import UseError
from tests.unit.data import tables

BARS = ("open", "high", "low", "close", "volume")
LABEL = Label(horizon=2, execution_lag=1, cost_bps=0, quantile_horizons=())


@pytest.fixture(scope="module")
def frame():
    return tables.bars(days=130)


def read(frame, tmp_path, roles, name="bars.parquet", **options):
    return sources.read(tables.written(frame, tmp_path, name), roles, **options)


def panel(frame, folder, roles, **options):
    folder.mkdir(exist_ok=True)
    build(tables.written(frame, folder), folder / "panel", roles, **options)
    return Panel.open(folder / "panel")


def of(code, value, other=None):
    return pl.when(pl.col("code") == code).then(pl.lit(value)).otherwise(pl.lit(other))


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_rows_outside_a_listing_are_dropped_and_counted_and_are_no_blemish(frame, tmp_path, kind):
    first, last = dt.date(2020, 2, 10), dt.date(2020, 3, 20)
    spans = frame.with_columns(of("S03", first).alias("ipo"), of("S04", last).alias("gone"))
    garbage = (pl.col("code") == "S03") & (pl.col("date") < first)
    spans = spans.with_columns(pl.when(garbage).then(-1.0).otherwise("close").alias("close"))
    roles = Roles(listed="ipo", delisted="gone")
    checked = read(spans, tmp_path, roles, f"bars.{kind}", strict=True, most_bad=0.0)
    early, late = garbage, (pl.col("code") == "S04") & (pl.col("date") > last)
    expected = {"before listing": frame.filter(early).height, "after delisting": frame.filter(late).height}
    assert checked.counts == expected
    assert checked.dropped == expected
    kept = frame.filter(~early & ~late)
    assert_frame_equal(checked.bars.drop("industry"), kept.drop("industry"))
    assert checked.rows_read == checked.bars.height + sum(checked.dropped.values())


def test_both_ends_of_a_listing_belong_to_it_and_a_code_may_be_listed_twice(frame, tmp_path):
    day = pl.col("date")
    back = day >= dt.date(2020, 4, 1)
    spans = frame.with_columns(
        pl.when(back).then(dt.date(2020, 4, 15)).otherwise(dt.date(2020, 1, 5)).alias("ipo"),
        pl.when(back).then(dt.date(9999, 12, 31)).otherwise(dt.date(2020, 2, 20)).alias("gone"),
    )
    kept = read(spans, tmp_path, Roles(listed="ipo", delisted="gone")).bars["date"].unique().sort()
    assert (kept[0], kept[-1]) == (dt.date(2020, 1, 5), frame["date"].max())
    between = kept.filter((kept > dt.date(2020, 2, 15)) & (kept < dt.date(2020, 4, 20)))
    assert between.to_list() == [
        *(dt.date(2020, 2, 16) + dt.timedelta(n) for n in range(5)),
        *(dt.date(2020, 4, 15) + dt.timedelta(n) for n in range(5)),
    ]


def split(frame, day, ratio):
    """The table as it was quoted: a split of ``ratio`` for one on ``day``; and the factor that undoes it."""
    before = pl.col("date") < day
    factor = pl.when(before).then(1 / ratio).otherwise(1.0)
    raw = [(pl.col(name) / factor).alias(name) for name in BARS[:4]]
    return frame.with_columns(factor.alias("factor"), *raw, (pl.col("volume") * factor).alias("volume"))


def test_an_adjustment_undoes_a_split_up_to_a_level_and_keeps_the_traded_money(frame, tmp_path):
    quoted = split(frame, dt.date(2020, 3, 1), 4.0)
    got = read(quoted, tmp_path, Roles(adjustment="factor")).bars
    own = pl.col("close").first().over("code")
    for name in BARS[:4]:
        expected = frame.select(pl.col(name) / own).to_series()
        np.testing.assert_allclose(got.select(pl.col(name) / own).to_series(), expected, rtol=1e-12)
    np.testing.assert_allclose(got["close"] * got["volume"], quoted["close"] * quoted["volume"], rtol=1e-12)
    assert "adjustment" not in got.columns


def test_nothing_of_the_panel_depends_on_the_level_that_a_factor_is_scaled_to(frame, tmp_path):
    quoted = split(frame, dt.date(2020, 3, 1), 4.0)
    scale = 2.0 ** (pl.col("code").str.slice(1).cast(pl.Float64) - 6)
    roles = Roles(adjustment="factor")
    one = panel(quoted, tmp_path / "one", roles)
    other = panel(quoted.with_columns(pl.col("factor") * scale), tmp_path / "other", roles)
    assert one.sha256 == other.sha256


def test_no_day_depends_on_a_split_that_comes_after_it(frame, tmp_path):
    """A vendor's factor is 1 at the end, so a split to come is in every earlier factor."""
    roles, cut = Roles(adjustment="factor"), 80
    day = sorted(set(frame["date"]))[cut + 10]
    plain = panel(frame.with_columns(pl.lit(1.0).alias("factor")), tmp_path / "plain", roles)
    later = panel(split(frame, day, 8.0), tmp_path / "later", roles)
    # The quoted prices before the split are 8 times those of the plain table, as though traded at another level.
    raw = split(frame, day, 8.0).with_columns(pl.lit(1.0).alias("factor"))
    alone = panel(raw.filter(pl.col("date") < day), tmp_path / "alone", roles)
    end = len(alone.days)
    assert later.close[:end].tobytes() == alone.close.tobytes()
    assert later.features(0, cut).tobytes() == alone.features(0, cut).tobytes()
    assert not np.array_equal(later.close, plain.close, equal_nan=True)


@pytest.mark.parametrize("bad", [0.0, -1.0, None, float("inf"), float("nan")])
def test_a_row_without_a_factor_is_dropped_and_counted(frame, tmp_path, bad):
    spoilt = frame.with_columns(
        pl.when(pl.int_range(pl.len()).is_in([40, 41])).then(pl.lit(bad, pl.Float64)).otherwise(2.0).alias("factor")
    )
    checked = read(spoilt, tmp_path, Roles(adjustment="factor"))
    assert checked.counts == {"adjustment not positive": 2}
    assert checked.bars.height == frame.height - 2
    with pytest.raises(UseError, match="strict allows nothing"):
        read(spoilt, tmp_path, Roles(adjustment="factor"), strict=True)


FLAGS = [
    pl.Series([True, False, True]),
    pl.Series([1, 0, 1]),
    pl.Series([1.0, 0.0, 1.0]),
    pl.Series(["Yes", "no", "y"]),
    pl.Series(["TRUE", "False", " t "]),
]


@pytest.mark.parametrize("flags", FLAGS)
def test_suspended_days_stay_in_as_present_but_not_tradable(frame, tmp_path, flags):
    on = flags.gather([n % 3 for n in range(frame.height)]).alias("ok")
    made = panel(frame.with_columns(on), tmp_path / "p", Roles(tradable="ok"), computed=["return_1"])
    expected = np.zeros(made.present.shape, bool)
    for number, row in enumerate(frame.iter_rows(named=True)):
        place = (row["date"] - tables.START).days, made.codes.index(row["code"])
        expected[place] = number % 3 != 1
    assert made.present.sum() == frame.height
    np.testing.assert_array_equal(made.tradable, expected)
    told = made.manifest.counts["days on which a stock was not tradable (kept)"]
    assert told == (~expected & made.present).sum()


def test_a_day_without_volume_is_suspended_only_where_the_roles_say_so(frame, tmp_path):
    dry = frame.with_columns(pl.when(pl.int_range(pl.len()) == 50).then(0.0).otherwise("volume").alias("volume"))
    assert "tradable" not in read(dry, tmp_path, Roles()).bars.columns
    told = read(dry, tmp_path, Roles(zero_volume_is_suspended=True)).bars
    assert np.flatnonzero(~told["tradable"].to_numpy()).tolist() == [50]
    with pytest.raises(ValueError, match="zero_volume_is_suspended needs a volume"):
        Roles(zero_volume_is_suspended=True, volume=None)


def test_an_unknown_flag_counts_as_not_tradable_and_another_value_is_refused(frame, tmp_path):
    place = pl.int_range(pl.len())
    unknown = frame.with_columns(pl.when(place != 7).then(place != 9).alias("ok"))
    checked = read(unknown, tmp_path, Roles(tradable="ok"))
    assert checked.counts["tradable missing (taken as not)"] == 1
    assert np.flatnonzero(~checked.bars["tradable"].to_numpy()).tolist() == [7, 9]
    with pytest.raises(UseError, match=r"role tradable\) must say true or false.*1 of .* the first is 2"):
        read(frame.with_columns(pl.when(place == 7).then(2).otherwise(1).alias("ok")), tmp_path, Roles(tradable="ok"))


@pytest.fixture(scope="module")
def labelled(frame, tmp_path_factory):
    """A panel with an own label, and the label as it was given, ``[days, stocks]``."""
    values = np.random.default_rng(0).normal(0, 0.03, frame.height)
    values[[5, 6]] = np.inf, np.nan
    roles = Roles(label=OwnLabel(column="excess", horizon=2, execution_lag=1))
    made = panel(frame.with_columns(pl.Series("excess", values)), tmp_path_factory.mktemp("own") / "p", roles)
    given = np.full(made.close.shape, np.nan)
    for value, row in zip(values, frame.iter_rows(named=True)):
        given[(row["date"] - tables.START).days, made.codes.index(row["code"])] = value
    given[~np.isfinite(given)] = np.nan
    return made, given


def test_an_own_label_is_the_return_of_a_decision_where_the_tier_says_so(labelled):
    made, given = labelled
    assert made.manifest.counts["label infinite"] == 1
    np.testing.assert_array_equal(made.label, given)
    own = decided_returns(made, LABEL.model_copy(update={"own": True}))
    np.testing.assert_array_equal(own[:-3], given[:-3])
    assert np.isnan(own[-3:]).all()
    computed = decided_returns(made, LABEL.model_copy(update={"own": False}))
    close = np.asarray(made.close)
    np.testing.assert_array_equal(computed[:-3], close[3:] / close[1:-2] - 1)


def test_a_label_is_never_guessed(labelled, frame, tmp_path):
    made, _ = labelled
    with pytest.raises(UseError, match=r"has an own label, and the tier does not say.*--set label.own=true"):
        check_label(made, LABEL)
    with pytest.raises(UseError, match=r"label.horizon = 5.*has horizon 2 and execution lag 1.*--set label.horizon=2"):
        check_label(made, LABEL.model_copy(update={"own": True, "horizon": 5}))
    plain = panel(frame, tmp_path / "plain", Roles(), computed=["return_1"])
    check_label(plain, LABEL)
    own = LABEL.model_copy(update={"own": True})
    with pytest.raises(UseError, match="has no own label"):
        check_label(plain, own)
    assert np.isnan(known_returns(plain, own)).all()


def test_an_own_label_is_no_feature(frame, tmp_path):
    values = pl.Series("next", np.random.default_rng(0).normal(size=frame.height))
    roles = Roles(label=OwnLabel(column="next", horizon=1, execution_lag=0), features=("n*",))
    with pytest.raises(UseError, match=r"'n\*' fits none of the source's columns"):
        read(frame.with_columns(values), tmp_path, roles)
