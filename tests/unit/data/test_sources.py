"""Sources: what is refused, what is repaired, what is counted."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atft.data import sources
from atft.data.roles import Roles
from atft.errors import UseError
from tests.unit.data import tables

OWN = Roles(features=("alpha_*",))


@pytest.fixture
def frame():
    plain = tables.bars(gaps=0.0)
    random = np.random.default_rng(5)
    return plain.with_columns(pl.Series("alpha_1", random.normal(size=plain.height).astype(np.float32)))


def spoilt(frame, rows, **values):
    """The table with some rows' values replaced."""
    place = pl.int_range(pl.len()).is_in(rows)
    return frame.with_columns(
        pl.when(place).then(pl.lit(value, frame.schema[name])).otherwise(name).alias(name)
        for name, value in values.items()
    )


def read(frame, tmp_path, roles=OWN, **options):
    return sources.read(tables.written(frame, tmp_path), roles, **options)


def test_a_clean_table_comes_back_as_it_is(frame, tmp_path):
    checked = read(frame, tmp_path)
    assert checked.counts == {}
    assert checked.rows_read == frame.height
    unknown = pl.when(pl.col("industry") != "n/a").then("industry").alias("industry")
    assert_frame_equal(checked.frame, frame.with_columns(unknown))


@pytest.mark.parametrize("kind", ["one csv", "many csv", "many parquet", "timestamps", "numbered codes"])
def test_every_form_of_a_table_gives_the_same_rows(frame, tmp_path, kind):
    frame = frame.with_columns(pl.col("code").str.replace("S", "0"))
    expected = read(frame, tmp_path).frame
    folder = tmp_path / "many"
    folder.mkdir()
    path = folder
    if kind == "one csv":
        path = tables.written(frame, tmp_path, "bars.csv")
    elif kind == "timestamps":
        path = tables.written(frame.with_columns(pl.col("date").cast(pl.Datetime)), folder)
    elif kind == "numbered codes":
        path = tables.written(frame.with_columns(pl.col("code").cast(pl.Int32)), folder)
        expected = expected.with_columns(pl.col("code").str.replace("^0+(.)", "$1"))
        expected = expected.sort("code", "date")
    else:
        for number, part in enumerate(frame.iter_slices(frame.height // 3)):
            tables.written(part, folder, f"{number}.{kind.split()[1]}")
    assert_frame_equal(sources.read(path, OWN).frame, expected)


def test_rows_in_any_order_are_sorted_and_own_features_stay_with_their_rows(frame, tmp_path):
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    checked = read(shuffled, tmp_path)
    assert checked.counts.pop("out of order") > 100
    assert checked.counts == {}
    assert_frame_equal(checked.frame.drop("industry"), frame.drop("industry"))
    with pytest.raises(UseError, match="strict allows nothing"):
        read(shuffled, tmp_path, strict=True)


def test_a_table_sorted_by_date_first_is_in_order(frame, tmp_path):
    assert read(frame.sort("date", "code"), tmp_path).counts == {}


BLEMISHES = [
    ({"close": -1.0}, "close not positive", "dropped"),
    ({"close": 0.0}, "close not positive", "dropped"),
    ({"close": float("inf")}, "close infinite", "dropped"),
    ({"close": float("nan")}, "close missing", "dropped"),
    ({"close": None}, "close missing", "dropped"),
    ({"open": -1.0}, "open not positive", ["open"]),
    ({"high": float("inf")}, "high infinite", ["high"]),
    ({"low": 0.0}, "low not positive", ["low"]),
    ({"high": 1.0, "low": 2.0, "close": 1.5}, "high below low", ["open", "high", "low"]),
    ({"close": 1e5}, "close outside low to high", ["open", "high", "low"]),
    ({"close": 1e-5}, "close outside low to high", ["open", "high", "low"]),
    ({"volume": -5.0}, "volume negative", ["volume"]),
    ({"volume": float("inf")}, "volume infinite", ["volume"]),
    ({"alpha_1": float("-inf")}, "alpha_1 infinite", ["alpha_1"]),
]


@pytest.mark.parametrize(("values", "reason", "effect"), BLEMISHES)
def test_a_blemished_row_is_repaired_or_dropped_and_counted(frame, tmp_path, values, reason, effect):
    bad = spoilt(frame, [100, 200], **values)
    checked = read(bad, tmp_path)
    counts = {name: number for name, number in checked.counts.items() if "kept" not in name}
    assert counts == {reason: 2}
    if effect == "dropped":
        expected = frame.filter(~pl.int_range(pl.len()).is_in([100, 200]))
    else:
        expected = spoilt(bad, [100, 200], **dict.fromkeys(effect))
    assert_frame_equal(checked.frame.drop("industry"), expected.drop("industry"))


@pytest.mark.parametrize(("values", "reason", "effect"), BLEMISHES)
def test_blemishes_are_refused_by_strict_and_above_the_share(frame, tmp_path, values, reason, effect):
    with pytest.raises(UseError, match=f"strict allows nothing.*{reason}: 1"):
        read(spoilt(frame, [100], **values), tmp_path, strict=True)
    many = spoilt(frame, list(range(100, 111)), **values)
    with pytest.raises(UseError, match=rf"11 of 1080 rows are blemished.*{reason}: 11.*above most_bad = 1\.00%"):
        read(many, tmp_path)
    assert read(many, tmp_path, most_bad=0.02).counts[reason] == 11


def test_a_row_with_two_blemishes_counts_once_towards_the_share(frame, tmp_path):
    bad = spoilt(frame, list(range(100, 110)), open=-1.0, volume=-1.0, alpha_1=float("inf"))
    assert read(bad, tmp_path, most_bad=10 / 1080).counts["open not positive"] == 10


def test_missing_prices_and_volumes_are_no_blemish(frame, tmp_path):
    holed = spoilt(frame, list(range(100, 300)), open=None, high=None, low=float("nan"), volume=None)
    checked = read(holed, tmp_path, strict=True)
    assert checked.counts == {}
    assert checked.bars["low"].null_count() == 200


def test_repeated_rows_are_dropped_where_they_are_the_same(frame, tmp_path):
    twice = pl.concat([frame, frame[5:8]])
    checked = read(twice, tmp_path)
    assert checked.counts == {"repeated rows": 3, "out of order": 1}
    assert checked.bars.height == frame.height


@pytest.mark.parametrize("column", ["close", "volume", "industry", "alpha_1"])
def test_repeated_rows_that_differ_are_refused(frame, tmp_path, column):
    other = frame[5:8].with_columns(pl.lit("z").alias(column) if column == "industry" else pl.col(column) * 1.01)
    with pytest.raises(UseError, match=rf"3 rows repeat a \(date, code\).*2020-01-06 for 'S00', in {column}"):
        read(pl.concat([frame, other.cast(dict(frame.schema))]), tmp_path)


def test_big_moves_are_counted_and_kept(frame, tmp_path):
    jump = frame.with_columns(pl.when(pl.col("date") > dt.date(2020, 2, 1)).then(pl.col(c) * 2).otherwise(c).alias(c)
                              for c in ("open", "high", "low", "close"))  # fmt: skip
    checked = read(jump, tmp_path)
    assert checked.counts == {"daily moves above 50% (kept)": 12}


def test_the_first_industry_of_a_stock_is_kept_and_changes_are_counted(frame, tmp_path):
    moved = frame.with_columns(
        pl.when(pl.col("date") > dt.date(2020, 2, 1)).then(pl.lit("z")).otherwise("industry").alias("industry")
    )
    assert read(moved, tmp_path).counts == {
        "stocks whose industry changes (first kept)": 9,
        "stocks whose industry is known only later (left unknown)": 3,
    }


REFUSED = [
    (lambda f: f.drop("close"), r"no column 'close' for role close"),
    (lambda f: f.rename({"volume": "volumes"}), r"no column 'volume'.*Did you mean 'volumes'.*or 'volume: null'"),
    (
        lambda f: f.with_columns(pl.col("close").cast(pl.String)),
        r"column 'close' \(role close\) is String, not a number",
    ),
    (lambda f: f.with_columns(pl.col("alpha_1").cast(pl.String)), r"own feature 'alpha_1' is String"),
    (lambda f: f.with_columns(pl.lit(1.5).alias("date")), r"column 'date' \(role date\) is Float64, not a date"),
    (lambda f: f.with_columns(pl.lit("8/12/2017").alias("date")), r"1080 of 1080 rows do not, the first is 8/12/2017"),
    (
        lambda f: f.with_columns(pl.col("date").cast(pl.Datetime).dt.offset_by("9h")),
        r"intraday rows are not daily bars",
    ),
    (lambda f: f.with_columns(pl.lit(True).alias("code")), r"column 'code' \(role code\) is Boolean"),
    (lambda f: f.head(0), "holds no rows"),
    (lambda f: f.filter(pl.col("code") == "S01"), "1 different code: a cross-section needs at least 2 stocks"),
    (lambda f: f.filter(pl.col("date") == tables.START), "1 different date"),
    (
        lambda f: f.with_columns(pl.lit(3.25, pl.Float32).alias("alpha_1")),
        r"'alpha_1' is 3\.25 in all of its 1080 values",
    ),
    (lambda f: f.with_columns(pl.lit(None, pl.Float32).alias("alpha_1")), "'alpha_1' is empty in all 1080 rows"),
    (lambda f: f.with_columns(pl.lit(None, pl.Float64).alias("open")), r"'open' \(role open\) is empty.*'open: null'"),
    (lambda f: f.with_columns(pl.lit(None, pl.Float64).alias("close")), r"'close' \(role close\) is empty"),
    (lambda f: f.with_columns(pl.lit("n/a").alias("industry")), r"'industry' \(role industry\) is empty"),
    (lambda f: spoilt(f, [3, 4], code=None), "2 of 1080 rows have no code"),
    (lambda f: spoilt(f, [3], date=None), "1 of 1080 rows have no date"),
]


@pytest.mark.parametrize(("change", "told"), REFUSED)
def test_what_cannot_be_relied_on_is_refused_in_one_paragraph(frame, tmp_path, change, told):
    with pytest.raises(UseError, match=told) as refused:
        read(change(frame), tmp_path, most_bad=1.0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_a_truncated_parquet_file_is_refused(frame, tmp_path, keep):
    path = tables.written(frame, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    with pytest.raises(UseError, match="cannot be read"):
        sources.read(path, OWN)


def test_a_parquet_file_with_broken_pages_is_refused(frame, tmp_path):
    path = tables.written(frame, tmp_path)
    broken = bytearray(path.read_bytes())
    broken[4:2000] = bytes(1996)
    path.write_bytes(broken)
    with pytest.raises(UseError, match="cannot be read"):
        sources.read(path, OWN)


def test_a_file_that_is_missing_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(UseError, match="no such file"):
        sources.read(tmp_path / "none.parquet")
    (tmp_path / "notes.txt").write_text("x")
    for path in (tmp_path / "notes.txt", tmp_path):
        with pytest.raises(UseError, match="must be Parquet"):
            sources.read(path)
    (tmp_path / "a.csv").write_text("date\n")
    (tmp_path / "b.parquet").write_text("")
    with pytest.raises(UseError, match="one kind only; found: csv, parquet"):
        sources.read(tmp_path)


def test_files_of_one_directory_must_have_the_same_columns(frame, tmp_path):
    tables.written(frame, tmp_path, "1.parquet")
    tables.written(frame.drop("volume"), tmp_path, "2.parquet")
    with pytest.raises(UseError, match="cannot be read"):
        sources.read(tmp_path, OWN)


def test_a_source_may_have_closes_only(frame, tmp_path):
    only = Roles(open=None, high=None, low=None, volume=None, industry=None)
    checked = read(frame.select("date", "code", "close"), tmp_path, only)
    assert checked.bars.columns == ["date", "code", "close"]
