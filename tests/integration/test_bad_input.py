"""What cannot be relied on is refused in one paragraph or repaired and counted; nothing half-made is left."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.integration.command import epochs_of, figures_of, refused, run, steps_of, unchanged
from tests.integration.conftest import Train
from tests.unit.data.tables import bars, written

OWN = "alpha_1"


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """1,080 rows of 12 stocks × 90 days without a blemish, with one own feature."""
    plain = bars(gaps=0.0)
    return plain.with_columns((pl.col("close") * pl.col("volume") % 7).alias(OWN))


def spoilt(table: pl.DataFrame, rows: list[int], **values: object) -> pl.DataFrame:
    """The table with other values in some rows."""
    place = pl.int_range(pl.len()).is_in(rows)
    return table.with_columns(
        pl.when(place).then(pl.lit(value, table.schema[name])).otherwise(name).alias(name)
        for name, value in values.items()
    )


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    path = tmp_path / "roles.yaml"
    path.write_text(f"features: [{OWN}]\n")
    return path


def build(source: Path, roles: Path, *more: object) -> Any:
    return run("data", "build", source, source.parent / "panel", "--roles", roles, *more)


TWICE = "(date, code)"
REFUSED: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], tuple[str, ...]]] = {
    "a missing column": (lambda t: t.drop("close"), ("no column 'close'", "Mend")),
    "a misspelt column": (lambda t: t.rename({"volume": "volumes"}), ("Did you mean 'volumes'?", "volume: null")),
    "a missing own feature": (lambda t: t.drop(OWN), (f"'{OWN}' fits none", "There are")),
    "no rows": (lambda t: t.clear(), ("holds no rows", "Mend")),
    "rows without a date": (lambda t: spoilt(t, [3, 4], date=None), ("2 of 1080 rows have no date",)),
    "rows without a code": (lambda t: spoilt(t, [3], code=None), ("1 of 1080 rows have no code",)),
    "duplicates that differ": (
        lambda t: pl.concat([t, t[5:8].with_columns(pl.col("close") * 1.01)]),
        ("3 rows repeat a (date, code)", "2020-01-06", "'S00'", "in close", "Mend"),
    ),
    "many prices of 0": (
        lambda t: spoilt(t, list(range(50, 100)), close=0.0),
        ("50 of 1080 rows are blemished", "close not positive: 50", "most_bad = 1.00%", "Mend"),
    ),
    "a constant own feature": (
        lambda t: t.with_columns(pl.lit(3.0).alias(OWN)), (f"'{OWN}' is 3 in all of its 1080 values", "Mend"),
    ),
    "an empty column": (lambda t: t.with_columns(pl.lit(None, pl.Float64).alias("open")), ("'open'", "all 1080 rows")),
    "a single stock": (lambda t: t.filter(pl.col("code") == "S01"), ("90 usable rows hold 1 different code",)),
    "a single day": (lambda t: t.filter(pl.col("date") == dt.date(2020, 1, 5)), ("1 different date", "2 days")),
    "text for prices": (lambda t: t.with_columns(pl.lit("x").alias("close")), ("'close'", "String", "not a number")),
    "text for an own feature": (lambda t: t.with_columns(pl.lit("x").alias(OWN)), (OWN, "String", "not a number")),
    "numbers for dates": (lambda t: t.with_columns(pl.lit(1.5).alias("date")), ("'date'", "Float64", "not a date")),
    "dates of another form": (
        lambda t: t.with_columns(pl.col("date").dt.strftime("%d/%m/%Y")), ("ISO dates", "1080 of 1080", "01/01/2020"),
    ),
    "intraday rows": (
        lambda t: t.with_columns(pl.col("date").cast(pl.Datetime) + pl.duration(hours=9)), ("midnight", "1080 of 1080"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_table_that_cannot_be_relied_on_is_refused(
    what: str, table: pl.DataFrame, tmp_path: Path, roles: Path
) -> None:
    spoil, told = REFUSED[what]
    source = written(spoil(table), tmp_path)
    with unchanged(tmp_path):
        refused(build(source, roles), *told, *([] if "fits none" in told[0] else [str(source)]))


REPAIRED: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str, int, int]] = {
    "unsorted rows": (lambda t: pl.concat([t[10:], t[:10]]), "out of order", 1, 0),
    "duplicates": (lambda t: pl.concat([t, t[5:8]]), "repeated rows", 3, 3),
    "negative prices": (lambda t: spoilt(t, [100, 200], close=-1.0), "close not positive", 2, 2),
    "prices of 0": (lambda t: spoilt(t, [100, 200, 300], close=0.0), "close not positive", 3, 3),
    "infinite prices": (lambda t: spoilt(t, [100], close=float("inf")), "close infinite", 1, 1),
    "infinite features": (lambda t: spoilt(t, [100, 101], **{OWN: float("-inf")}), f"{OWN} infinite", 2, 0),
    "high below low": (lambda t: spoilt(t, [100, 200], high=1.0, low=2.0, close=1.5), "high below low", 2, 0),
    "negative volumes": (lambda t: spoilt(t, [100], volume=-5.0), "volume negative", 1, 0),
    "missing closes": (lambda t: spoilt(t, [100, 200], close=None), "close missing", 2, 2),
}


@pytest.mark.parametrize("what", REPAIRED)
def test_blemishes_are_repaired_counted_in_the_manifest_and_printed(
    what: str, table: pl.DataFrame, tmp_path: Path, roles: Path
) -> None:
    spoil, reason, count, dropped = REPAIRED[what]
    source = written(spoil(table), tmp_path)
    done = build(source, roles)
    assert (done.code, done.err) == (0, "")
    told = json.loads((tmp_path / "panel/manifest.json").read_text())
    assert told["counts"][reason] == count
    assert told["rows_read"] - told["rows_kept"] == dropped
    assert f"{count}  {reason}" in done.out
    with unchanged(tmp_path):
        strict = build(source, roles, "--strict", "--overwrite")
        refused(strict, str(source), "strict allows nothing", f"{reason}: {count}", "Mend")


def test_an_unsorted_table_gives_the_panel_of_the_sorted_one(table: pl.DataFrame, tmp_path: Path, roles: Path) -> None:
    made = []
    for name, each in (("a", table), ("b", table.sample(fraction=1, shuffle=True, seed=3))):
        (tmp_path / name).mkdir()
        done = build(written(each, tmp_path / name), roles, "--json")
        made.append(done.json["sha256"])
    assert made[0] == made[1]


def test_a_missing_or_misnamed_source_is_told(table: pl.DataFrame, tmp_path: Path, roles: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no table")
    with unchanged(tmp_path):
        refused(build(tmp_path / "none.parquet", roles), "none.parquet", "no such file", "Mend")
        refused(build(tmp_path / "empty", roles), "empty", "must be Parquet")
        refused(build(tmp_path / "notes.txt", roles), "notes.txt", "must be Parquet")
        refused(
            run("data", "build", tmp_path / "x", tmp_path / "y", "--roles", tmp_path / "no.yaml"), "no.yaml", "Mend"
        )


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.95])
def test_a_truncated_parquet_file_is_told(kept: float, table: pl.DataFrame, tmp_path: Path, roles: Path) -> None:
    source = written(table, tmp_path)
    content = source.read_bytes()
    source.write_bytes(content[: int(kept * len(content))])
    with unchanged(tmp_path):
        refused(build(source, roles), str(source), "cannot be read", "truncated", "Mend")


def test_a_number_that_is_none_in_a_csv_file_is_told(table: pl.DataFrame, tmp_path: Path, roles: Path) -> None:
    source = written(table.with_columns(pl.col("close").cast(pl.String)), tmp_path, "bars.csv")
    source.write_text(source.read_text().replace(str(table["close"][50]), "twelve", 1))
    with unchanged(tmp_path):
        refused(build(source, roles), str(source), "'close'", "String")


@pytest.mark.parametrize("text", ["open: [", "- close", "price: close", "close: open", "close: 5"])
def test_roles_that_are_none_are_told(text: str, table: pl.DataFrame, tmp_path: Path) -> None:
    source, roles = written(table, tmp_path), tmp_path / "roles.yaml"
    roles.write_text(text)
    with unchanged(tmp_path):
        refused(build(source, roles), str(roles))


@contextlib.contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: the system refuses a write, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("room", [100, 3_000, 30_000])
def test_a_panel_that_finds_no_room_leaves_nothing(room: int, table: pl.DataFrame, tmp_path: Path, roles: Path) -> None:
    source = written(table, tmp_path)
    with unchanged(tmp_path):
        with disk_with_room_for(room):
            done = build(source, roles)
        refused(done, str(tmp_path / "panel"), "cannot be written", "Nothing was left behind", "Mend")


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    table: pl.DataFrame, tmp_path: Path, roles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = written(table, tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=2**16)
    monkeypatch.setattr("atft.data.room.shutil.disk_usage", lambda path: usage)
    with unchanged(tmp_path):
        refused(build(source, roles), str(tmp_path / "panel"), "needs 0.5 MiB", "0.1 MiB free", "Mend")


def test_a_full_disk_leaves_the_panel_that_was_there(table: pl.DataFrame, tmp_path: Path, roles: Path) -> None:
    source = written(table, tmp_path)
    assert build(source, roles).code == 0
    with unchanged(tmp_path):
        with disk_with_room_for(30_000):
            done = build(source, roles, "--overwrite")
        refused(done, "cannot be written", "Mend")


@pytest.mark.parametrize("room", [100, 50_000])
def test_a_synthetic_market_that_finds_no_room_leaves_nothing(room: int, tmp_path: Path) -> None:
    with unchanged(tmp_path):
        with disk_with_room_for(room):
            done = run("data", "synth", tmp_path / "m", "--stocks", 30, "--days", 60)
        refused(done, str(tmp_path / "m"), "cannot be written", "Mend")


def test_a_run_that_finds_no_room_to_begin_leaves_nothing(train: Train, tmp_path: Path) -> None:
    with unchanged(tmp_path):
        with disk_with_room_for(1_000):
            done = train(tmp_path, "full")
        refused(done, str(tmp_path / "full/config.json"), "cannot be written", "Mend")


def stops(train: Train, runs: Path, room: int, file: str) -> None:
    """A run with room for so much stops when it writes this file, in one paragraph after its usual lines."""
    with disk_with_room_for(room):
        done = train(runs, "full")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(f"atft: {runs / 'full' / file}: cannot be written")
    assert "Mend" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert not [path for path in runs.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize(("room", "file"), [(18_000, "best-0-baseline.safetensors"), (60_000, "last.pt")])
def test_a_disk_that_is_full_at_the_first_checkpoint_stops_the_run(
    room: int, file: str, train: Train, tmp_path: Path
) -> None:
    stops(train, tmp_path, room, f"checkpoints/{file}")
    refused(train(tmp_path, "full", "--resume"), "no checkpoint", "another name")


def test_a_disk_that_fills_up_stops_a_run_that_goes_on_when_there_is_room(
    train: Train, stopped: Path, whole: Path, tmp_path: Path, no_report: None
) -> None:
    first = (stopped / "checkpoints/last.pt").stat().st_size  # later phases have more parameters
    stops(train, tmp_path, first + 1_000, "checkpoints/last.pt")
    assert len(epochs_of(tmp_path / "full")) > 2
    assert train(tmp_path, "full", "--resume").code == 0
    assert steps_of(tmp_path / "full") == steps_of(whole)
    assert figures_of(tmp_path / "full") == figures_of(whole)


BELOW = ["a file", "/proc"]


@pytest.mark.parametrize("where", BELOW)
def test_a_place_that_cannot_be_written_is_told(
    where: str, train: Train, table: pl.DataFrame, tmp_path: Path, roles: Path
) -> None:
    source = written(table, tmp_path)
    (tmp_path / "file").touch()
    place = tmp_path / "file" if where == "a file" else Path("/proc")
    with unchanged(tmp_path):
        refused(run("data", "build", source, place / "panel", "--roles", roles), str(place / "panel"), "Mend")
        refused(run("data", "synth", place / "m", "--stocks", 30, "--days", 60), str(place / "m"), "Mend")
        refused(train(place, "r"), str(place / "r"), "cannot be made", "Mend")


def test_what_exists_is_not_written_over(table: pl.DataFrame, tmp_path: Path, roles: Path, train: Train) -> None:
    source = written(table, tmp_path)
    for name in ("panel", "run", "market"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("keep")
    with unchanged(tmp_path):
        refused(build(source, roles), str(tmp_path / "panel"), "exists already", "Mend")
        refused(build(source, roles, "--overwrite"), str(tmp_path / "panel"), "not a panel", "Mend")
        refused(run("data", "synth", tmp_path / "market"), str(tmp_path / "market"), "exists already", "Mend")
        refused(train(tmp_path, "run"), str(tmp_path / "run"), "exists already", "Mend")


@pytest.fixture
def damaged(panel: Path, tmp_path: Path) -> Path:
    """A copy of the panel, to be damaged."""
    return Path(shutil.copytree(panel, tmp_path / "data/panel"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "file", "told"),
    [
        (Path.unlink, "manifest.json", "is not a panel"),
        (cut, "manifest.json", "manifest.json cannot be read"),
        (Path.unlink, "features/00003.arrow", "features/00003.arrow is missing"),
        (cut, "features/00003.arrow", "features/00003.arrow has"),
        (cut, "close.arrow", "close.arrow has"),
        (flip, "close.arrow", "the bytes of close.arrow"),
        (flip, "days.arrow", "the bytes of days.arrow"),
    ],
)
def test_a_damaged_panel_is_told(
    damage: Callable[[Path], None], file: str, told: str, damaged: Path, tier_file: Path, tmp_path: Path
) -> None:
    damage(damaged / file)
    with unchanged(tmp_path):
        refused(
            run("train", "--accept=all", tier_file, "--data", damaged, "--runs", tmp_path / "runs"),
            str(damaged),
            told,
            "Mend",
        )
        refused(run("baselines", damaged, "--tier", tier_file), str(damaged), told, "Mend")


SETTINGS: dict[str, tuple[tuple[object, ...], tuple[str, ...]]] = {
    "no such setting": (("--set", "model.hiden_size=8"), ("model.hiden_size", "no such setting", "hidden_size")),
    "no assignment": (("--set", "seed"), ("--set seed", "Mend")),
    "wrong type": (("--set", "seed=one"), ("seed = 'one'", "flag --", "integer")),
    "out of bounds": (("--set", "model.dropout=1.5"), ("model.dropout = 1.5", "less than 1")),
    "broken blocks": (("--set", "batch.days=9"), ("days = 9", "block_days = 2", "mend")),
    "broken batch size": (("--batch-size", 100), ("batch size 100", "Mend: 96")),
    "two at once": (("--set", "seed=one", "--set", "model.dropout=2"), ("2 problem(s)", "seed", "model.dropout")),
    "too few days to draw": (
        ("--set", "batch.days=240", "--set", "epoch_stock_days=3840"),
        ("batch.days = 240", "120 separate runs of 2", "the 212 decision days", "Mend: --set batch.days=212"),
    ),
    "empty period": (
        ("--set", "split.test.first=2030-01-01", "--set", "split.test.last=2030-12-31"),
        ("split.test", "2030-01-01", "420 days from 2015-01-02 to 2016-08-16", "Mend"),
    ),
    "periods that overlap": (("--set", "split.validate.first=2015-10-01"), ("train", "validate", "overlap")),
    "longer window than panel": (
        ("--set", "window.days=500"), ("420 days", "window.days = 500", "Mend"),
    ),
    "no flag": (("--learning-rate", 1), ("--learning-rate", "Mend")),
    "missing value": (("--seed",), ("--seed", "Mend")),
}  # fmt: skip


@pytest.mark.parametrize("what", SETTINGS)
def test_settings_that_cannot_be_are_refused_before_a_run_is_made(what: str, train: Train, tmp_path: Path) -> None:
    given, told = SETTINGS[what]
    with unchanged(tmp_path):
        refused(train(tmp_path, "run", *given), *told)


def test_a_tier_or_panel_that_is_not_there_is_told(tier_file: Path, panel: Path, tmp_path: Path) -> None:
    where = ("--runs", tmp_path)
    with unchanged(tmp_path):
        refused(run("train", "quikstart", "--data", panel, *where), "'quikstart'", "Nearest: quickstart", "tier1")
        refused(run("train", "--accept=all", tmp_path / "no.yaml", "--data", panel, *where), "no.yaml")
        refused(run("train", "--accept=all", tier_file, *where), "--data is missing", "Mend")
        refused(
            run("train", "--accept=all", tier_file, "--data", tmp_path / "none", *where), str(tmp_path / "none"), "Mend"
        )
        refused(run("train", "--accept=all", tier_file, "--data", panel, *where, "--run", "../x"), "'../x'", "letters")
        refused(run("train"), "TIER", "Mend")


def test_a_panel_with_fewer_days_than_the_window_is_told(
    table: pl.DataFrame, tier_file: Path, tmp_path: Path, roles: Path
) -> None:
    short = written(table.filter(pl.col("date") < dt.date(2020, 1, 5)), tmp_path)
    assert build(short, roles).code == 0
    with unchanged(tmp_path):
        where = ("--data", tmp_path / "panel", "--runs", tmp_path / "runs")
        narrow = ("--set", "batch.stocks_per_day=12", "--set", "epoch_stock_days=288")
        refused(run("train", "--accept=all", tier_file, *where, *narrow), "4 days", "window.days = 6", "Mend")
        refused(run("train", "--accept=all", tier_file, *where), "12 stocks", "batch.stocks_per_day = 16", "Mend")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LR", "fast", "environment LR"),
        ("BATCH_SIZE", "7", "environment BATCH_SIZE"),
        ("ATFT_NO_SUCH", "1", "ATFT_NO_SUCH"),
        ("FORCE_SINGLE_PROCESS", "1", "mode=safe"),
    ],
)
def test_a_bad_environment_is_named(
    name: str, value: str, told: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with unchanged(tmp_path):
        refused(train(tmp_path, "run"), told)
