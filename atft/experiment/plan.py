"""What a test can show: days and seeds that a stated difference takes, from what finished runs have seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from atft.errors import UseError
from atft.evaluate import metrics, power
from atft.evaluate.paired import Paired
from atft.evaluate.pairing import common_rows, paired, paired_ic
from atft.evaluate.power import Noise
from atft.evaluate.result import Result, Series
from atft.evaluate.summary import TRADING_DAYS

SUCH_CORRELATIONS = (0.0, 0.5, 0.9)
"""Correlations with another run of the same noise, where none is named."""
SOME_SEEDS = 5
"""Seeds of each configuration that a plan is also made for."""


@dataclass(frozen=True)
class Seeds:
    """What chance in training does to a run: its figures over the seeds of one recipe, on the same test days.

    Attributes:
        sharpes: annual Sharpe ratios, one a seed.
        ics: mean information coefficients, one a seed.
        series: daily series of those seeds whose runs are still there.
    """

    sharpes: Sequence[float]
    ics: Sequence[float]
    series: Sequence[Series] = ()

    @property
    def known(self) -> bool:
        """Whether there is a spread over seeds."""
        return len(self.sharpes) >= 2 and len(self.ics) >= 2

    def variance(self, unit: str) -> float:
        """Over seeds; 0 where not known."""
        return float(np.var(self.sharpes if unit == "sharpe" else self.ics, ddof=1)) if self.known else 0.0

    def correlation(self, unit: str) -> float:
        """Mean correlation of two seeds' daily series; NaN for fewer than two, or on too few common days."""
        found = [_correlation(unit, one, two) for one, two in combinations(self.series, 2)]
        return float(np.mean(found)) if found else math.nan


def _correlation(unit: str, one: Series, two: Series) -> float:
    rows = common_rows(one.dates, two.dates)
    x, y = (_values(unit, each)[own] for each, own in zip((one, two), rows, strict=True))
    both = np.isfinite(x) & np.isfinite(y)
    varies = both.sum() >= metrics.LEAST_OBSERVATIONS and min(x[both].std(), y[both].std()) > metrics.SMALLEST_STD
    return float(np.corrcoef(x[both], y[both])[0, 1]) if varies else math.nan


def _values(unit: str, series: Series) -> metrics.Floats:
    held = series.gross if unit == "sharpe" else series.ic
    return np.array([math.nan if value is None else value for value in held], dtype=np.float64)


@dataclass(frozen=True)
class Row:
    """One comparison, and what it takes to see the difference; infinite where no number suffices.

    Attributes:
        name: what is compared.
        unit: ``sharpe`` (a year) or ``ic``.
        difference: that is to be seen.
        correlation: of the two series; None where there is only one.
        days: test days that there are.
        error: standard error of the difference on these days, of one seed each, chance in training left out.
        training: standard deviation that chance in training adds to a difference of one seed each, whatever the days;
            None where not known.
        least: the least difference that these days and one seed show.
        power: chance that these days and one seed show the difference.
        days_needed: with one seed each.
        days_needed_some_seeds: with ``SOME_SEEDS`` each; None where nothing is known of seeds.
        seeds_needed: on these days; None where nothing is known of seeds.
    """

    name: str
    unit: str
    difference: float
    correlation: float | None
    days: int
    error: float
    training: float | None
    least: float
    power: float
    days_needed: float
    days_needed_some_seeds: float | None
    seeds_needed: float | None

    def plain(self) -> dict[str, Any]:
        """As JSON has it: null for what is infinite."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Level:
    """Of the tests that are planned.

    Attributes:
        level: two-sided.
        power: chance to see what is there.
    """

    level: float = power.LEVEL
    power: float = power.POWER


def planned(found: Result, seeds: Seeds, unit: str, difference: float, level: Level) -> list[Row]:
    """A run against nothing, against each of its baselines, and against another such run.

    Args:
        found: its result.
        seeds: its figures over seeds.
        unit: ``sharpe`` (a year) or ``ic``.
        difference: that is to be seen, in that unit.
        level: of the tests.

    Raises:
        UseError: the result has no daily series, or an error that cannot be given.
    """
    own, days = series_of(found), found.test.days
    noise, told = own_noise(found, unit, seeds), (unit, difference, seeds.known, level)
    rows = [_row(f"{found.run} against 0", None, days, noise, *told)]
    for name, each in found.baselines:
        if each is not None and each.series is not None and not (unit == "ic" and each.ic is None):
            pair = _pair(unit, own, each.series, found.test.horizon)
            if math.isfinite(pair.per_day):
                less = Noise.of_difference(pair.per_day, noise)
                rows.append(
                    _row(f"{found.run} less {name}".replace("_", " "), pair.correlation, pair.days, less, *told)
                )
    for correlation in SUCH_CORRELATIONS:
        such = Noise.of_difference(power.correlated(noise.per_day, noise.per_day, correlation), noise, noise)
        rows.append(_row(f"{found.run} less another such run", correlation, days, such, *told))
    return rows


def planned_against(
    first: Result, second: Result, seeds: tuple[Seeds, Seeds], unit: str, difference: float, level: Level
) -> tuple[Row, Paired]:
    """One run against another: what it takes, and the paired test of what was seen.

    Arguments and errors as for :func:`planned`; of ``first`` less ``second``, on the days that both have.
    """
    pair = _pair(unit, series_of(first), series_of(second), first.test.horizon)
    if not math.isfinite(pair.per_day):
        raise UseError(
            f"{first.run} less {second.run}: {pair.bootstrap.method}. Mend: runs that differ, on more common days."
        )
    sides = [own_noise(each, unit, its) for each, its in zip((first, second), seeds, strict=True)]
    noise, known = Noise.of_difference(pair.per_day, *sides), seeds[0].known and seeds[1].known
    name = f"{first.run} less {second.run}"
    return _row(name, pair.correlation, pair.days, noise, unit, difference, known, level), pair


def own_noise(found: Result, unit: str, seeds: Seeds) -> Noise:
    """Of a run's annual Sharpe ratio or mean IC, with what is known of chance in training.

    Raises:
        UseError: it has no error, for want of days or of variation.
    """
    horizon, days, values = found.test.horizon, found.test.days, _values(unit, series_of(found))
    if unit == "sharpe":
        interval = metrics.sharpe_interval(values, horizon=horizon).scaled(math.sqrt(TRADING_DAYS / horizon))
    else:
        interval = metrics.mean_interval(values, horizon=horizon)
    if not interval.standard_error > 0:
        raise UseError(
            f"{found.run}: its {'Sharpe ratio' if unit == 'sharpe' else 'mean IC'} over {days} test days has no error "
            f"({interval.method}). Mend: a run with at least {metrics.LEAST_OBSERVATIONS} test days that vary."
        )
    per_day = Noise.of(interval.standard_error, days).per_day
    return Noise.over_seeds(per_day, days, seeds.variance(unit), seeds.correlation(unit))


def series_of(found: Result) -> Series:
    """The daily series of a run.

    Raises:
        UseError: there is none.
    """
    if found.test.series is None:
        raise UseError(f"{found.run}: its result holds no daily series. Mend: a run of `atft train`.")
    return found.test.series


def _pair(unit: str, first: Series, second: Series, horizon: int) -> Paired:
    return paired(first, second, horizon) if unit == "sharpe" else paired_ic(first, second, horizon)


def _row(
    name: str, correlation: float | None, days: int, noise: Noise, unit: str, difference: float, known: bool,
    level: Level,
) -> Row:  # fmt: skip
    at = {"level": level.level, "power": level.power}
    return Row(
        name=name,
        unit=unit,
        difference=difference,
        correlation=correlation,
        days=days,
        error=Noise(noise.per_day).error(days),
        training=math.sqrt(noise.training) if known else None,
        least=power.least_difference(noise, days, **at),
        power=power.power_of(difference, noise, days, level=level.level),
        days_needed=power.days_needed(difference, noise, **at),
        days_needed_some_seeds=power.days_needed(difference, noise, SOME_SEEDS, **at) if known else None,
        seeds_needed=power.seeds_needed(difference, noise, days, **at) if known else None,
    )


def as_text(rows: Sequence[Row], level: Level) -> Iterator[str]:
    """The rows in columns, under what they are about."""
    unit = {"sharpe": "the annual Sharpe ratio", "ic": "the mean IC"}[rows[0].unit]
    yield (
        f"what it takes to see a difference of {rows[0].difference:g} in {unit} "
        f"(two-sided at {100 * level.level:g} %, power {100 * level.power:g} %)"
    )
    some = f"days, {SOME_SEEDS} seeds"
    yield (
        f"{'':36} {'corr.':>6} {'days':>6} {'error':>7} {'shows':>7} {'power':>7} {'days needed':>12} "
        f"{some:>13} {'seeds needed':>13}"
    )
    digits = 2 if rows[0].unit == "sharpe" else 4
    for row in rows:
        correlation = "–" if row.correlation is None else f"{row.correlation:.2f}"
        yield (
            f"{row.name:36} {correlation:>6} {row.days:>6} {row.error:>7.{digits}f} {row.least:>7.{digits}f} "
            f"{100 * row.power:>5.0f} % {_whole(row.days_needed):>12} {_whole(row.days_needed_some_seeds):>13} "
            f"{_whole(row.seeds_needed):>13}"
        )


def legend(rows: Sequence[Row]) -> list[str]:
    """What the columns of :func:`as_text` mean, those that are filled."""
    lines = [
        "error: standard error on these days. shows: the least true difference seen with that power, one seed each.",
        "power: chance to see the stated one. days needed: test days in all that it takes, one seed each "
        f"({TRADING_DAYS} a year).",
    ]
    if any(row.seeds_needed is not None for row in rows):
        lines += [
            f"days, {SOME_SEEDS} seeds: the same with {SOME_SEEDS} seeds each. seeds needed: of each, on these days.",
            "never: no number suffices, since the other side alone hides the difference.",
        ]
    if any(row.name.endswith("another such run") for row in rows):
        lines.append("another such run: one of the same noise, whose daily figures correlate with these as stated.")
    return lines


def _whole(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{math.ceil(value):,}" if math.isfinite(value) else "never"
