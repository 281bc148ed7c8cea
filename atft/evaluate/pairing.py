"""Two results side by side: whether they can be compared, and their series on the days that both have."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence

import numpy as np

from atft.errors import UseError
from atft.evaluate.metrics import Floats
from atft.evaluate.paired import Paired, mean_difference, sharpe_difference
from atft.evaluate.result import Result, Series
from atft.evaluate.summary import TRADING_DAYS

LEAST_COMMON_DAYS = 20
"""Common days below which two runs are not compared."""
NAMED = 3
"""Most dates that an error names."""


def common_rows(first: Sequence[dt.date], second: Sequence[dt.date]) -> tuple[list[int], list[int]]:
    """Rows of the dates that both have, in order: of ``first``, and of ``second``."""
    place = {date: row for row, date in enumerate(second)}
    rows = [row for row, date in enumerate(first) if date in place]
    return rows, [place[first[row]] for row in rows]


def paired(first: Series, second: Series, horizon: int) -> Paired:
    """The difference of two annual Sharpe ratios before costs, on the days that both have.

    Args:
        first, second: daily series of returns over ``horizon`` days, as a result has them.
        horizon: days that a label spans.
    """
    mine, its = common_rows(first.dates, second.dates)
    found = sharpe_difference(_floats(first.gross)[mine], _floats(second.gross)[its], horizon=horizon)
    return found.scaled(math.sqrt(TRADING_DAYS / horizon))


def paired_ic(first: Series, second: Series, horizon: int) -> Paired:
    """The difference of two mean information coefficients, on the days that both have; see :func:`paired`."""
    mine, its = common_rows(first.dates, second.dates)
    return mean_difference(_floats(first.ic)[mine], _floats(second.ic)[its], horizon=horizon)


def check_comparable(first: Result, second: Result, *, common_days: bool = False) -> tuple[Series, Series]:
    """The daily series of two runs that earned the same thing on the same days.

    Args:
        first, second: the runs' results.
        common_days: compare on the days that both have, also where panels or days differ.

    Returns:
        Both series, whole.

    Raises:
        UseError: other horizons, panels or days, told which; or too few common days.
    """
    one, two = first.test.series, second.test.series
    if one is None or two is None:
        raise UseError(f"{first.run if one is None else second.run}: its result holds no daily series. "
                       "Mend: a run of `atft train`.")  # fmt: skip
    if first.test.horizon != second.test.horizon:
        raise UseError(
            f"{first.run} holds each position for {first.test.horizon} days and {second.run} for "
            f"{second.test.horizon}: a day of the one is no day of the other. Mend: runs of one label.horizon."
        )
    common = len(common_rows(one.dates, two.dates)[0])
    if common < LEAST_COMMON_DAYS:
        raise UseError(
            f"{first.run} ({one.dates[0]}..{one.dates[-1]}) and {second.run} ({two.dates[0]}..{two.dates[-1]}) have "
            f"{common} test days in common, fewer than the {LEAST_COMMON_DAYS} that a comparison needs. "
            "Mend: runs of one test period."
        )
    differs = _panels(first, second) + _days(first.run, second.run, one.dates, two.dates)
    if differs and not common_days:
        raise UseError(
            f"{first.run} and {second.run} differ in more than the model: {'; '.join(differs)}. "
            f"Mend: runs of one panel and split, or --common-days to compare on the {common} days that both have."
        )
    return one, two


def _panels(first: Result, second: Result) -> list[str]:
    if first.data_sha256 == second.data_sha256:
        return []
    return [f"the panels are others (data {first.data_sha256[:12]} and {second.data_sha256[:12]})"]


def _days(first: str, second: str, one: Sequence[dt.date], two: Sequence[dt.date]) -> list[str]:
    told = []
    for name, own, other in ((first, one, two), (second, two, one)):
        alone = sorted(set(own) - set(other))
        if alone:
            more = f" and {len(alone) - NAMED} more" if len(alone) > NAMED else ""
            told.append(f"{len(alone)} test days are {name}'s alone ({', '.join(map(str, alone[:NAMED]))}{more})")
    return told


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
