"""``atft data append --roles``: a market that begins, and what else may not change."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import yaml

from tests.integration.command import refused, run
from tests.unit.data import tables

NEW_YORK = {"timezone": "America/New_York", "close": "16:00"}
TOKYO = {"timezone": "Asia/Tokyo", "close": "15:00"}


def stated(folder: Path, name: str, **markets: dict[str, str]) -> Path:
    (folder / name).write_text(
        yaml.safe_dump({"features": ["volume"], "volume": None, "market": "market", "markets": markets})
    )
    return folder / name


def test_a_market_that_begins_is_appended_and_every_refusal_says_what_to_do(tmp_path: Path) -> None:
    there = tables.bars(stocks=6, days=70, gaps=0.0).with_columns(market=pl.lit("XNYS"))
    begins = tables.bars(stocks=3, days=80, seed=2, gaps=0.0).filter(pl.col("date") > there["date"].max())
    begins = begins.with_columns(pl.concat_str("code", pl.lit(".T")).alias("code"), market=pl.lit("XTKS"))
    old = tables.written(there, tmp_path, "old.parquet")
    new = tables.written(pl.concat([there, begins]), tmp_path, "new.parquet")
    one = stated(tmp_path, "one.yaml", XNYS=NEW_YORK)
    both = stated(tmp_path, "both.yaml", XNYS=NEW_YORK, XTKS=TOKYO)
    moved = stated(tmp_path, "moved.yaml", XNYS=NEW_YORK | {"close": "15:00"}, XTKS=TOKYO)
    panel = tmp_path / "panel"
    assert run("data", "build", old, panel, "--roles", one, "--own-only").code == 0
    refused(run("data", "append", panel, new), "the hours of XTKS are not stated", "Mend: in the roles, markets")
    refused(
        run("data", "append", panel, new, "--roles", moved),
        "moved.yaml: markets.XNYS is {'timezone': 'America/New_York', 'close': '15:00:00'}, and {",
        "only markets that begin on new days can be added",
    )
    revised = tables.written(there.with_columns(pl.col("close") * 1.0001), tmp_path, "revised.parquet")
    refused(
        run("data", "append", panel, revised),
        f"'atft data build {revised} {panel} --overwrite --roles ROLES.yaml --own-only', with the roles file",
    )
    done = run("data", "append", panel, new, "--roles", both, "--json")
    assert (done.json["new_days"], done.json["stocks"]) == (10, 9)
    whole = run("data", "build", new, tmp_path / "whole", "--roles", both, "--own-only", "--json")
    assert whole.json["sha256"] == done.json["sha256"]
