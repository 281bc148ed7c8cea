"""A user's own pipelines, from bars to a table with features: an honest one, and one for each planted leak."""

from __future__ import annotations

import numpy as np
import polars as pl

R = pl.col("r")
"""Return since the stock's row before."""
TEST_BEGINS = 0.8
"""Part of the calendar after which days are test days, as they are where no tier is named."""


def honest(table: pl.DataFrame) -> pl.DataFrame:
    """Trailing windows, a running maximum, a forward fill, values of the day: nothing that looks ahead."""
    return with_returns(table).with_columns(
        past=R.rolling_mean(10).over("code"),
        from_high=pl.col("close") / pl.col("close").cum_max().over("code"),
        growth=pl.col("close") / pl.col("close").first().over("code"),
        weekly=pl.when(pl.int_range(pl.len()).over("code") % 5 == 0)
        .then(R.rolling_mean(5).over("code")).forward_fill().over("code"),
        surprise=(pl.col("volume") / pl.col("volume").rolling_mean(20).over("code")).log(),
        daily=((R - R.mean().over("date")) / R.std().over("date")),
    )  # fmt: skip


def with_returns(table: pl.DataFrame) -> pl.DataFrame:
    """The table in order of code and date, with ``r``."""
    return table.sort("code", "date").with_columns(r=pl.col("close") / pl.col("close").shift(1).over("code") - 1)


def chance(seed: int) -> pl.Expr:
    """A number from 0 to 1 that depends on date and code alone."""
    return (pl.struct("date", "code").hash(seed) % 1_000_003 + 0.5) / 1_000_003.0


def whole_sample_maximum(table: pl.DataFrame) -> pl.DataFrame:
    return honest(table).with_columns(leaky=pl.col("close") / pl.col("close").max().over("code"))


def volume_maximum(table: pl.DataFrame) -> pl.DataFrame:
    """As above of a series that prices know nothing of."""
    return honest(table).with_columns(leaky=pl.col("volume") / pl.col("volume").max().over("code"))


def centred_window(table: pl.DataFrame) -> pl.DataFrame:
    return honest(table).with_columns(leaky=R.rolling_mean(5, center=True).over("code"))


def wide_centred_window(table: pl.DataFrame) -> pl.DataFrame:
    return honest(table).with_columns(leaky=R.rolling_mean(21, center=True).over("code"))


def same_day_label(table: pl.DataFrame) -> pl.DataFrame:
    """The label itself, with as much noise as it varies."""
    noise = 0.07 * (chance(5) - 0.5)
    return honest(table).with_columns(leaky=R.shift(-1).over("code") + noise)


def back_filled(table: pl.DataFrame) -> pl.DataFrame:
    """A trailing mean whose first days are filled from the first one that is known."""
    return honest(table).with_columns(leaky=R.rolling_mean(20).backward_fill().over("code"))


def gaps_back_filled(table: pl.DataFrame) -> pl.DataFrame:
    """A tenth of the days' returns is missing, and filled from the day after."""
    made = honest(table).with_columns(leaky=pl.when(chance(6) > 0.1).then(R))
    return made.with_columns(pl.col("leaky").backward_fill(1).over("code"))


def survivors(table: pl.DataFrame) -> pl.DataFrame:
    """Only stocks that end above a price."""
    last = table.group_by("code").agg(pl.col("close").sort_by("date").last().alias("last"))
    floor = last["last"].quantile(0.3)
    return honest(table.join(last.filter(pl.col("last") >= floor), on="code", how="semi", maintain_order="left"))


def scaled_by_stock(table: pl.DataFrame) -> pl.DataFrame:
    """Each stock's log volume, scaled over all of its days."""
    volume = pl.col("volume").cast(pl.Float64).log()
    scaled = (volume - volume.mean().over("code")) / volume.std(ddof=0).over("code")
    return honest(table).with_columns(leaky=scaled)


def scaled_on_test_days(table: pl.DataFrame) -> pl.DataFrame:
    """Log volume scaled by mean and deviation of the test days."""
    days = table["date"].unique().sort()
    test = pl.col("date") >= days[int(np.ceil(TEST_BEGINS * len(days)))]
    volume = pl.col("volume").cast(pl.Float64).log()
    inside = volume.filter(test)
    return honest(table).with_columns(leaky=(volume - inside.mean()) / inside.std(ddof=0))


def adjusted_from_the_end(table: pl.DataFrame) -> pl.DataFrame:
    """Prices as quoted, divided by all later splits; and the factor itself as a feature."""
    later = pl.col("split").reverse().cum_prod().reverse().over("code") / pl.col("split")
    made = table.sort("code", "date").with_columns(factor=1 / later)
    prices = [(pl.col(name) * pl.col("factor")).alias(name) for name in ("open", "high", "low", "close")]
    return honest(made.with_columns(prices)).rename({"factor": "leaky"}).drop("split")


def level_of_adjusted(table: pl.DataFrame) -> pl.DataFrame:
    """The logarithm of such a price."""
    return adjusted_from_the_end(table).with_columns(leaky=pl.col("close").log())


def peers_of_all_time(table: pl.DataFrame) -> pl.DataFrame:
    """The day's return of the stock that it moves with most, over the whole sample."""
    made = honest(table)
    wide = made.select("date", "code", "r").pivot(on="code", index="date", values="r").sort("date").drop("date")
    returns = np.nan_to_num(wide.to_numpy())
    with np.errstate(invalid="ignore"):
        together = np.nan_to_num(np.corrcoef(returns.T))
    np.fill_diagonal(together, -2)
    peers = pl.DataFrame({"code": wide.columns, "peer": [wide.columns[each] for each in together.argmax(1)]})
    moves = made.select("date", pl.col("code").alias("peer"), leaky=R)
    return made.join(peers, on="code").join(moves, on=["date", "peer"], how="left").drop("peer").sort("code", "date")


def tomorrows_volume(table: pl.DataFrame) -> pl.DataFrame:
    """The volume feature of the day after."""
    made = honest(table)
    return made.with_columns(leaky=pl.col("surprise").shift(-1).over("code"))


def raises(table: pl.DataFrame) -> pl.DataFrame:
    raise KeyError("no such thing")


def random(table: pl.DataFrame) -> pl.DataFrame:
    return honest(table).with_columns(dice=pl.Series(np.random.default_rng().random(table.height)))


def with_pandas(table: pd.DataFrame) -> pd.DataFrame:  # noqa: F821
    """The same in pandas, as its annotation says: an honest feature and a leaky one."""
    made = table.sort_values(["code", "date"]).copy()
    close = made.groupby("code")["close"]
    made["past"] = close.pct_change(5)
    made["leaky"] = made["close"] / close.transform("max")
    return made


def labelled(table: pl.DataFrame) -> pl.DataFrame:
    """A trailing mean, and the return from the next own day to the third, in days of the stock's market."""
    return _labelled(table, 3)


def labelled_too_far(table: pl.DataFrame) -> pl.DataFrame:
    """The same, whose label ends a day later than the roles say."""
    return _labelled(table, 4)


def _labelled(table: pl.DataFrame, end: int) -> pl.DataFrame:
    """A label whose days are those of the market: one that would begin or end on a missing row is missing."""
    days = table.select("market", "date").unique().sort("market", "date")
    days = days.with_columns(number=pl.int_range(pl.len()).over("market"))
    numbered = with_returns(table).join(days, on=["market", "date"], maintain_order="left")
    closes = numbered.select("code", "number", "close")
    for name, ahead in (("entry", 1), ("exit", end)):
        later = closes.select("code", pl.col("number") - ahead, pl.col("close").alias(name))
        numbered = numbered.join(later, on=["code", "number"], how="left", maintain_order="left")
    past = R.rolling_mean(10).over("code")
    return numbered.with_columns(past=past, y=pl.col("exit") / pl.col("entry") - 1).drop("r", "number", "entry", "exit")
