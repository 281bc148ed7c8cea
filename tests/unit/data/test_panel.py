"""The panel on disk: what goes in comes out, whole or not at all."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from atft.data import room
from atft.data.panel import CHUNK_DAYS, Panel, write_panel
from atft.errors import UseError

DAYS, STOCKS, FEATURES = 2 * CHUNK_DAYS + 22, 5, 3


def arrays(seed=0, days=DAYS):
    random = np.random.default_rng(seed)
    close = random.uniform(1, 2, (days, STOCKS))
    close[random.random(close.shape) < 0.1] = np.nan
    return {
        "days": np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-01-01") + days),
        "codes": [f"S{n}" for n in range(STOCKS)],
        "industries": ["steel", None, "banks", "steel", None],
        "feature_names": ["x", "y", "z"],
        "close": close,
        "features": random.normal(size=(days, STOCKS, FEATURES)).astype(np.float32),
    }


@pytest.fixture
def given():
    return arrays()


@pytest.fixture
def path(tmp_path, given):
    write_panel(tmp_path / "panel", **given)
    return tmp_path / "panel"


def left(folder):
    return sorted(name for name in os.listdir(folder))


def test_what_goes_in_comes_out(path, given):
    panel = Panel.open(path)
    assert panel.path == path
    assert panel.codes == given["codes"]
    assert panel.feature_names == given["feature_names"]
    assert [None if n < 0 else panel.industry_names[n] for n in panel.industries] == given["industries"]
    assert panel.industries.dtype == np.int32
    np.testing.assert_array_equal(panel.days, given["days"])
    np.testing.assert_array_equal(panel.close, given["close"])
    np.testing.assert_array_equal(panel.present, np.isfinite(given["close"]))
    np.testing.assert_array_equal(panel.features(0, DAYS), given["features"])
    panel.verify()


def test_open_volume_tradable_and_markets_come_out_as_they_went_in(tmp_path, given):
    opened = given["close"] * 1.01
    volume = np.where(np.arange(DAYS)[:, None] % 9, given["close"] * 1e4, np.inf)
    flags = np.random.default_rng(1).random(opened.shape) < 0.8
    markets = ["north", None, "south", "north", "south"]
    write_panel(tmp_path / "panel", **given, open=opened, volume=volume, tradable=flags, markets=markets)
    panel = Panel.open(tmp_path / "panel")
    np.testing.assert_array_equal(panel.open_price, opened)
    np.testing.assert_array_equal(panel.volume, np.where(np.isfinite(volume), volume, np.nan))
    np.testing.assert_array_equal(panel.tradable, flags & panel.present)
    assert panel.markets == markets
    panel.verify()


def test_what_a_source_does_not_tell_is_none_and_what_is_there_can_be_traded(path):
    panel = Panel.open(path)
    assert panel.open_price is None
    assert panel.volume is None
    assert panel.markets == [None] * STOCKS
    np.testing.assert_array_equal(panel.tradable, panel.present)


@pytest.mark.parametrize("name", ["open", "volume", "tradable"])
def test_changed_bytes_of_a_small_table_are_found_when_the_panel_is_opened(tmp_path, given, name):
    write_panel(tmp_path / "panel", **given, **{name: np.ones((DAYS, STOCKS), bool if name == "tradable" else float)})
    file = tmp_path / "panel" / f"{name}.arrow"
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    with pytest.raises(UseError, match=f"the bytes of {name}.arrow are not those that were written"):
        Panel.open(tmp_path / "panel")


@pytest.mark.parametrize(
    "span", [(0, 1), (0, 64), (3, 30), (60, 70), (63, 65), (64, 128), (10, 150), (149, 150), (5, 5)]
)
def test_features_of_any_span_and_stocks_are_those_written(path, given, span):
    panel = Panel.open(path)
    first, last = span
    np.testing.assert_array_equal(panel.features(first, last), given["features"][first:last])
    stocks = np.array([4, 0, 2, 2])
    np.testing.assert_array_equal(panel.features(first, last, stocks), given["features"][first:last, stocks])


def test_a_span_in_one_chunk_is_a_view_of_the_map_and_cannot_be_written(path):
    panel = Panel.open(path)
    found = panel.features(3, 30)
    assert np.shares_memory(found, panel.chunks[0])
    assert not found.flags.writeable
    assert not found.flags.owndata


@pytest.mark.parametrize("span", [(-1, 3), (5, 4), (0, DAYS + 1)])
def test_days_outside_the_calendar_are_refused(path, span):
    with pytest.raises(ValueError, match="are not in the panel's 0 to 149"):
        Panel.open(path).features(*span)


@pytest.mark.parametrize("days", [1, CHUNK_DAYS - 1, CHUNK_DAYS, CHUNK_DAYS + 1])
def test_any_number_of_days_can_be_kept(tmp_path, days):
    given = arrays(days=days)
    write_panel(tmp_path / "panel", **given)
    np.testing.assert_array_equal(Panel.open(tmp_path / "panel").features(0, days), given["features"])


def test_industries_may_be_numbers_and_features_may_come_in_chunks(tmp_path, given):
    given["industries"] = np.array([1, -1, 0, 1, -1])
    whole = given["features"]
    given["features"] = (whole[first : first + CHUNK_DAYS] for first in range(0, DAYS, CHUNK_DAYS))
    write_panel(tmp_path / "panel", **given)
    panel = Panel.open(tmp_path / "panel")
    assert panel.industries.tolist() == [1, -1, 0, 1, -1]
    np.testing.assert_array_equal(panel.features(0, DAYS), whole)


def test_a_panel_is_sent_to_another_process_by_its_path(path):
    sent = pickle.dumps(Panel.open(path))
    assert len(sent) < 500
    assert pickle.loads(sent).sha256 == Panel.open(path).sha256


def test_the_hash_is_that_of_the_data_wherever_it_lies(path, tmp_path, given):
    write_panel(tmp_path / "again", **given)
    first = Panel.open(path).sha256
    assert Panel.open(tmp_path / "again").sha256 == first
    for name in ("features", "close"):
        other = {**given, name: given[name] * np.float32(1.5)}
        write_panel(tmp_path / name, **other)
        assert Panel.open(tmp_path / name).sha256 != first
    write_panel(tmp_path / "names", **{**given, "feature_names": ["x", "y", "w"]})
    assert Panel.open(tmp_path / "names").sha256 != first


@pytest.mark.parametrize("name", ["days.arrow", "stocks.arrow", "close.arrow", "features/00001.arrow"])
@pytest.mark.parametrize("harm", ["missing", "truncated", "longer"])
def test_a_file_that_is_missing_or_cut_is_refused(path, name, harm):
    file = path / name
    whole = file.read_bytes()
    file.unlink()
    if harm != "missing":
        file.write_bytes(whole[:-1] if harm == "truncated" else whole + b"x")
    with pytest.raises(UseError, match=f"the panel is corrupt: {name} (is missing|has)"):
        Panel.open(path)


@pytest.mark.parametrize("name", ["days.arrow", "stocks.arrow", "close.arrow", "features/00001.arrow"])
def test_changed_bytes_are_found(path, name):
    file = path / name
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    with pytest.raises(UseError, match=f"the bytes of {name} are not those that were written"):
        Panel.open(path).verify()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 2}', "\xff"])
def test_a_manifest_that_is_not_one_is_refused(path, text):
    (path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(UseError, match=r"the panel is corrupt: manifest\.json cannot be read"):
        Panel.open(path)


@pytest.mark.parametrize("version", [0, 7])
def test_a_panel_of_another_version_is_refused(path, version):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "schema_version": version, "new": 1}))
    with pytest.raises(UseError, match=f"has schema version {version}, this program reads 1 and 2"):
        Panel.open(path)


@pytest.mark.parametrize("field", ["days", "stocks", "features"])
def test_a_manifest_of_other_shapes_is_refused(path, field):
    manifest = json.loads((path / "manifest.json").read_text())
    value = manifest["features"][:2] if field == "features" else manifest[field] - 1
    (path / "manifest.json").write_text(json.dumps({**manifest, field: value}))
    with pytest.raises(UseError, match="the panel is corrupt"):
        Panel.open(path)


def test_what_is_no_panel_is_refused(tmp_path):
    with pytest.raises(UseError, match="no such panel"):
        Panel.open(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    for other in (tmp_path, tmp_path / "file"):
        with pytest.raises(UseError, match=r"is not a panel: it holds no manifest\.json"):
            Panel.open(other)


def test_a_panel_that_is_there_stays_unless_it_may_be_replaced(path, tmp_path):
    before = Panel.open(path).sha256
    with pytest.raises(UseError, match="exists already"):
        write_panel(path, **arrays(1))
    assert Panel.open(path).sha256 == before
    write_panel(path, **arrays(1), overwrite=True)
    assert Panel.open(path).sha256 != before
    assert left(tmp_path) == ["panel"]


def test_an_open_panel_can_be_read_on_after_it_was_replaced(path, given):
    panel = Panel.open(path)
    write_panel(path, **arrays(1), overwrite=True)
    np.testing.assert_array_equal(panel.features(0, DAYS), given["features"])


def test_a_directory_that_is_no_panel_is_never_replaced(tmp_path, given):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    (tmp_path / "file").write_text("x")
    for name in ("home", "file"):
        with pytest.raises(UseError, match="is not a panel"):
            write_panel(tmp_path / name, **given, overwrite=True)
    assert (tmp_path / "home" / "letter").read_text() == "dear"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(28, "No space left on device")])
def test_a_write_that_breaks_off_leaves_the_old_panel_and_nothing_else(path, tmp_path, given, error):
    before = Panel.open(path).sha256

    def chunks():
        yield given["features"][:CHUNK_DAYS]
        raise error

    with pytest.raises(UseError if isinstance(error, OSError) else error):
        write_panel(path, **{**given, "features": chunks()}, overwrite=True)
    assert Panel.open(path).sha256 == before
    assert left(tmp_path) == ["panel"]


def test_the_old_panel_comes_back_where_the_new_one_cannot_take_its_place(path, tmp_path, monkeypatch):
    before, rename = Panel.open(path).sha256, os.rename

    def refuse(source, target):
        if source.name == "panel" and target == path and source.parent != path.parent:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(room, "exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(UseError, match="Input/output error"):
        write_panel(path, **arrays(1), overwrite=True)
    assert Panel.open(path).sha256 == before
    assert left(tmp_path) == ["panel"]


FULL = """
import resource, sys
sys.path.insert(0, {root!r})
from atft.errors import UseError
from tests.unit.data.test_panel import arrays
from atft.data.panel import write_panel
given = arrays()
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    write_panel({path!r}, **given)
except UseError as error:
    print(error)
"""


def test_a_write_that_the_system_refuses_is_told_and_cleaned_up(tmp_path):
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
    code = FULL.format(root=root, path=str(tmp_path / "panel"))
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "cannot be written" in told
    assert left(tmp_path) == []


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path, given, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(UseError, match=r"the disk has 0\.0 MiB free"):
        write_panel(tmp_path / "panel", **given)
    assert left(tmp_path) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path, given):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UseError, match="cannot be written"):
        write_panel(tmp_path / "file" / "panel", **given)


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.zeros((DAYS, STOCKS, 2), np.float32)},
        {"features": np.zeros((DAYS, STOCKS, FEATURES))},
        {"features": np.zeros((DAYS - 1, STOCKS, FEATURES), np.float32)},
        {"close": np.ones((DAYS, 4))},
        {"codes": ["a"]},
        {"industries": [None]},
        {"markets": ["a"]},
        {"open": np.ones((DAYS - 1, STOCKS))},
        {"tradable": np.ones((STOCKS, DAYS), bool)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, given, change):
    with pytest.raises(ValueError):
        write_panel(tmp_path / "panel", **{**given, **change})
    assert left(tmp_path) == []
