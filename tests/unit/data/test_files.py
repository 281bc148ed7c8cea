"""Where a source lies: hive directories, object stores; every layout gives the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from atft.data import sources
from atft.data.roles import Roles
from atft.errors import UseError
from atft.launch.places import open_source
from atft.storage import Store
from tests.s3_server import S3Server, served
from tests.unit.data import tables

ROLES = Roles(market="market", markets={
    "1": {"timezone": "America/New_York", "close": "16:00"}, "02": {"timezone": "Asia/Tokyo", "close": "15:00"},
})  # fmt: skip
NAMES = {"a": "1", "b": "02", "c": "02", "n/a": "1"}


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    plain = tables.bars(stocks=6, days=40)
    codes = pl.col("code").str.replace("S0", "00")
    return plain.with_columns(codes, pl.col("industry").replace_strict(NAMES).alias("market"))


def hive(frame: pl.DataFrame, folder: Path, kind: str, *, keep: bool = False) -> Path:
    """The table in ``market=…/code=…`` directories."""
    for (market, code), part in frame.partition_by("market", "code", as_dict=True).items():
        place = folder / f"market={market}" / f"code={code}"
        place.mkdir(parents=True)
        part = part if keep else part.drop("market", "code")
        (part.write_csv if kind == "csv" else part.write_parquet)(place / f"part.{kind}")
    return folder


@pytest.mark.parametrize(("kind", "keep"), [("parquet", False), ("parquet", True), ("csv", False)])
def test_hive_directories_give_the_rows_of_one_file(frame: pl.DataFrame, tmp_path: Path, kind: str, keep: bool) -> None:
    expected = sources.read(tables.written(frame, tmp_path), ROLES)
    assert set(expected.bars["code"]) == {f"00{n}" for n in range(6)}
    found = sources.read(hive(frame, tmp_path / "hive", kind, keep=keep), ROLES)
    assert found.counts == {}
    assert_frame_equal(found.bars, expected.bars)


def test_a_file_in_the_wrong_directory_is_refused(frame: pl.DataFrame, tmp_path: Path) -> None:
    folder = hive(frame, tmp_path / "hive", "parquet", keep=True)
    (folder / "market=1/code=000").rename(folder / "market=1/code=999")
    rows = frame.filter(pl.col("code") == "000").height
    with pytest.raises(UseError, match=rf"'code' \(role code\) differs in {rows} rows from the directory code="):
        sources.read(folder, ROLES)


def test_directories_with_other_keys_are_refused(frame: pl.DataFrame, tmp_path: Path) -> None:
    folder = hive(frame, tmp_path / "hive", "parquet")
    tables.written(frame, folder)
    with pytest.raises(UseError, match="do not name the same keys once each: none; market/code"):
        sources.read(folder, ROLES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with served(tmp_path_factory.mktemp("s3")) as running:
        yield running


def stored(folder: Path, uri: str) -> Path:
    store = Store(uri)
    for file in folder.rglob("*.*"):
        store.upload(file, file.relative_to(folder).as_posix())
    return Path(uri)


def test_a_table_in_an_object_store_is_read_from_there(frame: pl.DataFrame, tmp_path: Path, server: S3Server) -> None:
    own = frame.with_columns((pl.col("close") * pl.col("volume") % 7).alias("alpha 1"))
    roles = ROLES.model_copy(update={"features": ("alpha*",)})
    (tmp_path / "one").mkdir()
    expected = sources.read(tables.written(own, tmp_path / "one"), roles).frame
    uri = f"s3://bucket/{tmp_path.name}"
    one = stored(tmp_path / "one", f"{uri}/one") / "bars.parquet"
    many = stored(hive(own, tmp_path / "hive", "parquet"), f"{uri}/a b")
    text = stored(hive(own, tmp_path / "csv", "csv"), f"{uri}/csv")
    for place in (one, many, text):
        source = open_source(place)
        assert (source.name, source.storage is not None) == (place.name, True)
        assert "key" not in repr(source)
        assert_frame_equal(sources.read(source, roles).frame, expected, rel_tol=1e-12)


def test_an_object_store_that_lacks_the_table_or_goes_away_is_told(
    frame: pl.DataFrame, tmp_path: Path, server: S3Server
) -> None:
    with pytest.raises(UseError, match="holds no Parquet"):
        open_source(Path(f"s3://bucket/{tmp_path.name}/none"))
    with pytest.raises(UseError, match=r"no bucket 'other'.*Mend"):
        open_source(Path("s3://other/none"))
    tables.written(frame, tmp_path)
    source = open_source(stored(tmp_path, f"s3://bucket/{tmp_path.name}/gone") / "bars.parquet")
    Store(f"s3://bucket/{tmp_path.name}/gone").delete("bars.parquet")
    with pytest.raises(UseError, match="cannot be read"):
        sources.read(source, ROLES)
