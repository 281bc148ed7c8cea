"""Small tables of daily bars, made from a seed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl

from atft.data import features

START = dt.date(2020, 1, 1)


def bars(stocks: int = 12, days: int = 90, seed: int = 0, gaps: float = 0.03) -> pl.DataFrame:
    """A market of ``stocks`` × ``days`` with gaps, a late listing, a delisting, three industries and an unknown one."""
    random = np.random.default_rng(seed)
    shape = (stocks, days)
    close = 50 * np.exp(np.cumsum(random.normal(0, 0.02, shape), axis=1))
    opened = close * np.exp(random.normal(0, 0.01, shape))
    table = {
        "date": np.tile(np.arange(np.datetime64(START), np.datetime64(START) + days), stocks),
        "code": np.repeat([f"S{number:02d}" for number in range(stocks)], days),
        "open": opened.ravel(),
        "high": (np.maximum(opened, close) * np.exp(abs(random.normal(0, 0.01, shape)))).ravel(),
        "low": (np.minimum(opened, close) * np.exp(-abs(random.normal(0, 0.01, shape)))).ravel(),
        "close": close.ravel(),
        "volume": random.integers(1_000, 100_000, shape).astype(float).ravel(),
        "industry": np.repeat(["n/a", *"abc"] * (stocks // 4 + 1), 1)[np.repeat(np.arange(stocks), days)],
    }
    there = random.random(shape) >= gaps
    if gaps:
        there[0, : days // 4] = False
        there[1, days * 2 // 3 :] = False
    return pl.DataFrame(table).filter(pl.Series(there.ravel()))


def written(frame: pl.DataFrame, folder: Path, name: str = "bars.parquet") -> Path:
    """The table as a file."""
    path = folder / name
    (frame.write_csv if path.suffix == ".csv" else frame.write_parquet)(path)
    return path


def grid(frame: pl.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """``[stocks, days]`` per bar column and industries, by plain loops (an oracle for the build's own layout)."""
    days, codes = sorted(set(frame["date"])), sorted(set(frame["code"]))
    columns = {name: np.full((len(codes), len(days)), np.nan) for name in ("open", "high", "low", "close", "volume")}
    industries = np.full(len(codes), -1, np.int32)
    for row in frame.iter_rows(named=True):
        place = codes.index(row["code"]), days.index(row["date"])
        industries[place[0]] = "abc".find(row["industry"])
        for name in columns:
            columns[name][place] = np.nan if row[name] is None else row[name]
    return columns, industries


def computed(columns: dict[str, np.ndarray], industries: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """``[days, stocks]`` per feature, on all days of a grid."""
    padded = {k: np.pad(v, ((0, 0), (features.HISTORY, 0)), constant_values=np.nan) for k, v in columns.items()}
    return dict(features.compute(padded, industries, names))
