"""New days to a panel: byte for byte what a new build makes, and nothing where old rows changed."""

import datetime as dt
import os
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import yaml

from atft.data import build as module
from atft.data import sources
from atft.data.build import append, build
from atft.data.panel import Panel, write_panel
from atft.data.roles import OwnLabel, Roles
from atft.data.room import Room, making
from atft.errors import UseError
from tests.unit.data import tables
from tests.unit.data.test_panel import arrays

DAYS = 150
NAMES = ["return_20", "beta_60", "industry_rank_return_5", "macd_histogram_12_26_9", "rank_shift_dollar_volume"]
OWN = Roles(features=("alpha",))


@pytest.fixture(scope="module")
def frame():
    """One stock lists late, on day 37, one leaves on day 100; a third comes on day 140 with a code between others."""
    plain = tables.bars(days=DAYS).filter((pl.col("code") != "S05") | (pl.col("date") >= day(140)))
    alpha = pl.Series("alpha", np.random.default_rng(5).normal(size=plain.height).astype(np.float32))
    return plain.with_columns(alpha)


def day(number):
    return tables.START + dt.timedelta(days=number)


def first_days(frame, number):
    return frame.filter(pl.col("date") < day(number))


def bytes_in(panel):
    return {
        os.path.relpath(os.path.join(at, name), panel): open(os.path.join(at, name), "rb").read()
        for at, _, names in os.walk(panel)
        for name in names
    }


@pytest.fixture(scope="module")
def whole(frame, tmp_path_factory):
    return {method: made(frame, tmp_path_factory.mktemp(method), normalise=method) for method in ("rank", "zscore")}


def made(frame, folder, roles=OWN, computed=NAMES, **options):
    build(tables.written(frame, folder), folder / "panel", roles, computed=computed, **options)
    return folder / "panel"


@pytest.mark.parametrize(
    ("cut", "method"),
    [(50, "rank"), (64, "rank"), (65, "zscore"), (100, "rank"), (128, "rank"), (128, "zscore"), (141, "rank"),
     (149, "rank"), (150, "zscore")],
)  # fmt: skip
def test_an_append_is_a_new_build_to_the_last_byte(frame, whole, tmp_path, cut, method):
    panel = made(first_days(frame, cut), tmp_path, normalise=method)
    append(panel, tables.written(frame, tmp_path))
    assert bytes_in(panel) == bytes_in(whole[method])
    assert sorted(os.listdir(tmp_path)) == ["bars.parquet", "panel"]


def test_many_appends_are_one_build_with_all_features_too(frame, tmp_path):
    (tmp_path / "once").mkdir()
    once = made(frame, tmp_path / "once", computed=True)
    panel = made(first_days(frame, 70), tmp_path, computed=True)
    for cut in (90, 130, 150):
        append(panel, tables.written(first_days(frame, cut), tmp_path))
    assert bytes_in(panel) == bytes_in(once)


def test_whole_old_chunks_are_the_same_files_and_are_not_computed(frame, tmp_path, monkeypatch):
    panel = made(first_days(frame, 130), tmp_path)
    before = [(panel / f"features/0000{number}.arrow").stat() for number in range(3)]
    asked, chunks = [], module.Recipe.chunks
    monkeypatch.setattr(module.Recipe, "chunks", lambda self, wanted: asked.extend(wanted) or chunks(self, wanted))
    append(panel, tables.written(first_days(frame, 135), tmp_path))
    after = [(panel / f"features/0000{number}.arrow").stat() for number in range(3)]
    assert [one.st_ino == other.st_ino for one, other in zip(before, after, strict=True)] == [True, True, False]
    assert asked == [2]


def change(frame, code, number, column, value):
    here = (pl.col("code") == code) & (pl.col("date") == day(number))
    return frame.with_columns(
        pl.when(here).then(pl.lit(value)).otherwise(column).alias(column).cast(frame[column].dtype)
    )


REVISED = {
    "a close": (lambda f: change(f, "S07", 3, "close", 1.0), r"the row of 2020-01-04 for 'S07' was revised"),
    "a high": (lambda f: change(f, "S07", 3, "high", 1e4), r"the row of 2020-01-04 for 'S07' was revised"),
    "an own value": (lambda f: change(f, "S11", 99, "alpha", 0.5), r"the row of 2020-04-09 for 'S11' was revised"),
    "an own value now missing": (
        lambda f: change(f, "S11", 99, "alpha", None),
        r"the row of 2020-04-09 for 'S11' was revised",
    ),
    "a row less": (
        lambda f: f.filter((pl.col("code") != "S03") | (pl.col("date") != day(20))),
        r"the row of 2020-01-21 for 'S03' is gone",
    ),
    "a stock less": (lambda f: f.filter(pl.col("code") != "S02"), r"the row of 2020-01-01 for 'S02' is gone"),
    "a day less": (
        lambda f: f.filter(pl.col("date") != day(30)),
        r"the row of 2020-01-31 for 'S01' is gone since .* \(10 such",
    ),
    "a new stock's old row": (
        lambda f: pl.concat([f, f.filter((pl.col("code") == "S04") & (pl.col("date") == day(98))).with_columns(
            pl.lit("S99").alias("code"))]),
        r"the row of 2020-04-08 for 'S99' was added since",
    ),
    "another industry": (
        lambda f: f.with_columns(
            pl.when(pl.col("code") == "S08").then(pl.lit("z")).otherwise("industry").alias("industry")
        ),
        "the industry of 'S08', .* became 'z'",
    ),
    "the last days less": (lambda f: first_days(f, 90), r"the row of 2020-03-31 for 'S00' is gone"),
}  # fmt: skip


@pytest.mark.parametrize("what", REVISED)
def test_a_revised_past_is_refused_with_the_first_row_named_and_the_panel_stays(frame, tmp_path, what):
    alter, told = REVISED[what]
    panel = made(first_days(frame, 100), tmp_path)
    before = bytes_in(panel)
    with pytest.raises(UseError, match=told) as refused:
        append(panel, tables.written(alter(frame), tmp_path))
    assert "--overwrite" in str(refused.value)
    assert bytes_in(panel) == before
    assert sorted(os.listdir(tmp_path)) == ["bars.parquet", "panel"]


def test_a_flag_that_changed_on_an_old_day_is_a_revision(frame, tmp_path, monkeypatch):
    read, flags = sources.read, {"value": True}

    def flagged(*given, **options):
        checked = read(*given, **options)
        second = pl.int_range(pl.len()) == 1
        flag = pl.when(second).then(flags["value"]).otherwise(True).alias("tradable")
        return replace(checked, bars=checked.bars.with_columns(flag))

    monkeypatch.setattr(sources, "read", flagged)
    panel = made(first_days(frame, 100), tmp_path)
    append(panel, tables.written(frame, tmp_path))
    assert Panel.open(panel).tradable.sum() == Panel.open(panel).present.sum()
    flags["value"] = False
    with pytest.raises(UseError, match="was revised"):
        append(panel, tables.written(frame, tmp_path))


def test_a_source_with_other_features_is_refused(frame, tmp_path):
    panel = made(first_days(frame, 100), tmp_path, roles=Roles(features=("alpha*",)))
    more = frame.with_columns((pl.col("alpha") * 2).alias("alpha_2"))
    with pytest.raises(UseError, match=r"its 7 features are not the 6 of .*: 'alpha_2' is only in the source"):
        append(panel, tables.written(more, tmp_path))


def test_a_panel_made_by_other_code_is_refused(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LIBRARIES", ("numpy",))
    panel = made(first_days(frame, 100), tmp_path)
    monkeypatch.undo()
    with pytest.raises(UseError, match="was built by another version of this program, of polars or of numpy"):
        append(panel, tables.written(frame, tmp_path))


def test_a_panel_of_arrays_and_none_at_all_are_refused(frame, tmp_path):
    write_panel(tmp_path / "panel", **arrays())
    with pytest.raises(UseError, match="was not made by 'atft data build'"):
        append(tmp_path / "panel", tables.written(frame, tmp_path))
    with pytest.raises(UseError, match="no such panel"):
        append(tmp_path / "none", tmp_path / "bars.parquet")


def test_a_kept_chunk_whose_bytes_changed_is_refused(frame, tmp_path):
    panel = made(first_days(frame, 100), tmp_path)
    file = panel / "features/00000.arrow"
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    with pytest.raises(UseError, match=r"the bytes of features/00000\.arrow are not those that were written"):
        append(panel, tables.written(frame, tmp_path))


def test_labels_that_become_known_are_no_revision(frame, tmp_path):
    roles = OWN.model_copy(update={"label": OwnLabel(column="y", horizon=2, execution_lag=1)})
    ahead = (pl.col("close").shift(-3) / pl.col("close").shift(-1) - 1).over("code").alias("y")

    def labelled(days):
        return first_days(frame, days).sort("code", "date").with_columns(ahead)

    (tmp_path / "once").mkdir()
    once = made(labelled(150), tmp_path / "once", roles)
    panel = made(labelled(120), tmp_path, roles)
    append(panel, tables.written(labelled(150), tmp_path))
    assert bytes_in(panel) == bytes_in(once)


def test_what_a_killed_append_linked_is_not_written_into(tmp_path):
    old, room = tmp_path / "old", Room(tmp_path / "panel", tmp_path / "room", lambda stage, part: None)
    (room.panel / "features").mkdir(parents=True)
    old.write_bytes(b"kept")
    os.link(old, room.folder / "part")
    room.resume(None)
    room.write("close.arrow", np.zeros((2, 2)))
    assert old.read_bytes() == b"kept"


def interrupted(path):
    with making(path, False) as room:
        room.resume("mine")
        room.write("features/00000.arrow", np.zeros((2, 2)))
        raise KeyboardInterrupt


def failed_early(path):
    with making(path, False):
        raise UseError("the source cannot be read")


def test_finished_chunks_outlive_a_build_that_fails_before_it_looks_at_them(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "panel")
    with pytest.raises(UseError, match="cannot be read"):
        failed_early(tmp_path / "panel")
    with making(tmp_path / "panel", False) as room:
        room.resume("mine")
        assert set(room.files) == {"features/00000.arrow"}


HOURS = {"timezone": "America/New_York", "open": "09:30", "close": "16:00"}
TOKYO = {"timezone": "Asia/Tokyo", "open": "09:00", "close": "15:00"}


@pytest.fixture(scope="module")
def begun(frame):
    """A second market, of three stocks with codes among the others', begins on day 100."""
    other = tables.bars(stocks=3, days=DAYS, seed=3, gaps=0.0).filter(pl.col("date") >= day(100))
    other = other.with_columns(pl.concat_str("code", pl.lit(".T")).alias("code"), pl.lit(0.5).alias("alpha"))
    other = other.with_columns(pl.col("alpha").cast(pl.Float32), pl.lit("XTKS").alias("market"))
    return pl.concat([frame.with_columns(pl.lit("XNYS").alias("market")), other])


def stated(folder, **changed):
    """A roles file."""
    roles = {"features": ["alpha"], "market": "market", "markets": {"XNYS": HOURS}} | changed
    (folder / "roles.yaml").write_text(yaml.safe_dump(roles))
    return folder / "roles.yaml"


@pytest.mark.parametrize("cut", [64, 70, 100])
def test_roles_may_add_a_market_that_begins_and_the_panel_is_that_of_a_new_build(frame, begun, tmp_path, cut):
    panel = made(first_days(begun, cut), tmp_path, Roles.read(stated(tmp_path)))
    both = stated(tmp_path, markets={"XNYS": HOURS, "XTKS": TOKYO})
    (tmp_path / "once").mkdir()
    once = made(begun, tmp_path / "once", Roles.read(both))
    source = tables.written(begun, tmp_path)
    with pytest.raises(UseError, match="2 markets, and the hours of XTKS are not stated"):
        append(panel, source)
    append(panel, source, roles=both)
    assert bytes_in(panel) == bytes_in(once)
    assert set(Panel.open(panel).manifest.sessions.markets) == {"XNYS", "XTKS"}


def test_a_market_whose_hours_were_never_stated_gets_them_when_another_begins(begun, tmp_path):
    panel = made(first_days(begun, 90), tmp_path, Roles.read(stated(tmp_path, markets={})))
    both = stated(tmp_path, markets={"XTKS": TOKYO, "XNYS": HOURS})
    (tmp_path / "once").mkdir()
    once = made(begun, tmp_path / "once", Roles.read(both))
    append(panel, tables.written(begun, tmp_path), roles=both)
    assert bytes_in(panel) == bytes_in(once)


OTHER_ROLES = {
    "own features": ({"features": ["alph*"]}, r"roles.yaml: features is \('alph\*',\), and \('alpha',\) in"),
    "a column": ({"volume": None}, "volume is None, and 'volume' in"),
    "no market": ({"market": None, "markets": {"XNYS": HOURS}}, "market is None, and 'market' in"),
    "hours": (
        {"markets": {"XNYS": HOURS | {"close": "15:00"}, "XTKS": TOKYO}},
        "markets.XNYS is {.*'close': '15:00:00'.*}, and {.*'close': '16:00:00'.*} in .*Mend: 'markets.XNYS' as it was",
    ),
    "a market less": ({"markets": {"XTKS": TOKYO}}, "markets.XNYS is None, and {"),
}


@pytest.mark.parametrize("what", OTHER_ROLES)
def test_roles_that_differ_otherwise_are_refused_and_the_panel_stays(begun, tmp_path, what):
    changed, told = OTHER_ROLES[what]
    panel = made(first_days(begun, 90), tmp_path, Roles.read(stated(tmp_path)))
    before = bytes_in(panel)
    with pytest.raises(UseError, match=told):
        append(panel, tables.written(begun, tmp_path), roles=stated(tmp_path, **changed))
    assert bytes_in(panel) == before


def test_an_added_market_with_rows_on_old_days_is_a_revision_and_the_mend_names_the_roles(begun, tmp_path):
    old = first_days(begun, 120).filter(pl.col("market") == "XNYS")
    panel = made(old, tmp_path, Roles.read(stated(tmp_path)), normalise="zscore")
    both = stated(tmp_path, markets={"XNYS": HOURS, "XTKS": TOKYO})
    with pytest.raises(UseError, match=r"the row of 2020-04-10 for 'S00\.T' was added") as refused:
        append(panel, tables.written(begun, tmp_path), roles=both)
    command = f"atft data build {tmp_path}/bars.parquet {panel} --overwrite --roles {both} --normalise zscore"
    assert f"Mend: build it again with '{command}'." in str(refused.value)


def test_the_mend_says_where_the_roles_of_the_panel_are_and_repeats_its_options(frame, tmp_path):
    revised = change(frame, "S07", 3, "close", 1.0)
    for roles, computed, told in (
        (OWN, False, "--overwrite --roles ROLES.yaml --own-only', with the roles file of the panel"),
        (Roles(), True, r"--overwrite'\.$"),
    ):
        (tmp_path / str(computed)).mkdir()
        panel = made(first_days(frame, 70), tmp_path / str(computed), roles, computed)
        with pytest.raises(UseError, match=told):
            append(panel, tables.written(revised, tmp_path))


@pytest.mark.parametrize("scale", [3.0, 1 / 7, 0.9873, 1e-3])
def test_factors_that_a_vendor_scales_anew_are_no_revision(frame, tmp_path, scale):
    """A split and some dividends; the factor is 1 at the end, until the next event scales all of a stock's factors."""
    roles = OWN.model_copy(update={"adjustment": "factor"})
    random = np.random.default_rng(7)
    events = {(code, at): random.choice([2.0, 1.5, 3.0, 1 / 0.993, 1.0417])
              for code in frame["code"].unique().sort() for at in random.integers(5, 100, 4).tolist()}  # fmt: skip
    factor = []
    for code, date in frame.select("code", "date").iter_rows():
        later = [ratio for (other, at), ratio in events.items() if other == code and date < day(at)]
        factor.append(1 / np.prod(later))
    quoted = frame.with_columns(pl.Series("factor", factor))
    assert quoted["factor"].n_unique() > 24
    by_code = pl.col("code").str.slice(1).cast(pl.Float64) * 0.01 + 1
    scaled = quoted.with_columns(pl.col("factor") * scale * by_code)
    plain = frame.select(pl.col("close") * quoted["factor"]).to_series()
    assert not plain.equals(scaled.select(pl.col("close") * pl.col("factor")).to_series())
    panel = made(first_days(quoted, 120), tmp_path, roles)
    (tmp_path / "once").mkdir()
    once = made(scaled, tmp_path / "once", roles)
    append(panel, tables.written(scaled, tmp_path))
    assert bytes_in(panel) == bytes_in(once)
    changed = scaled.with_columns(
        pl.when((pl.col("code") == "S07") & (pl.col("date") == day(90))).then(pl.col("factor") * 1.001)
        .otherwise("factor").alias("factor")
    )  # fmt: skip
    with pytest.raises(UseError, match="the row of 2020-03-31 for 'S07' was revised"):
        append(panel, tables.written(changed, tmp_path))


def test_a_listing_that_ends_on_a_new_day_is_no_revision(frame, tmp_path):
    roles = OWN.model_copy(update={"delisted": "gone"})
    ended = pl.when((pl.col("code") == "S07") & (pl.col("date") >= day(120))).then(pl.lit(day(130))).alias("gone")
    listed = frame.with_columns(ended)
    (tmp_path / "once").mkdir()
    once = made(listed, tmp_path / "once", roles)
    panel = made(first_days(listed, 121), tmp_path, roles)
    append(panel, tables.written(listed, tmp_path))
    assert bytes_in(panel) == bytes_in(once)
    opened = Panel.open(panel)
    assert opened.delisted[opened.codes.index("S07")] == np.datetime64(day(130))
    assert np.isnat(opened.delisted).sum() == len(opened.codes) - 1
