"""What a run's training data looked like: kept beside its weights, so that later data can be held against it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from atft.data.markets import Sessions
from atft.data.panel import Panel
from atft.errors import UseError
from atft.train.checkpoint import write_text

NAME = "reference.json"
SAMPLED_DAYS = 60
"""Training days, evenly spread, whose features are looked at."""
RECENT_DAYS = 20
"""Days up to the scored one that are held against them."""
LEVELS = tuple(np.arange(1, 10) / 10)
"""Of the quantiles between which values are counted."""
MARKET_LEVELS = tuple(np.arange(0, 21) / 20)
SHIFTED, MOVED = 0.1, 0.25
"""Population stability indices from which a shift is called small and large, as in credit scoring (Siddiqi, 2006)."""
FEW = 1e-4
"""Least share of a bin, so that an empty one has a finite logarithm."""


class FeatureReference(BaseModel):
    """One feature over the training days."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    missing: float
    """Share of the stocks with a row that have no value."""
    cuts: tuple[float, ...]
    """Inner deciles, rising, each once."""
    shares: tuple[float, ...]
    """Of the values up to the first cut, between two, and above the last."""


class Reference(BaseModel):
    """The content of ``reference.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    data_sha256: str
    calendar: tuple[str, ...]
    """Days of the panel, as ISO dates."""
    sessions: Sessions | None = None
    """The markets and their hours, where the panel tells."""
    features: tuple[FeatureReference, ...]
    dispersion: tuple[float, ...]
    """Quantiles over the training days of the standard deviation of a day's returns over the stocks."""
    stocks: tuple[float, ...]
    """The same of the number of stocks that can be scored."""


def reference_of(panel: Panel, train: npt.NDArray[np.int64], scorable: npt.NDArray[np.bool_]) -> Reference:
    """What the days ``train`` of a panel look like.

    Args:
        panel: the data.
        train: ``[decisions]`` numbers of the training days, at least two.
        scorable: ``[days, stocks]`` bool.
    """
    sampled = train[np.unique(np.linspace(0, len(train) - 1, SAMPLED_DAYS).astype(np.int64))]
    there = panel.present[sampled]
    values = np.concatenate([panel.features(int(day), int(day) + 1)[0][has] for day, has in zip(sampled, there)])
    return Reference(
        data_sha256=panel.sha256,
        calendar=tuple(map(str, panel.days)),
        sessions=panel.manifest.sessions,
        features=tuple(_feature(name, values[:, place]) for place, name in enumerate(panel.feature_names)),
        dispersion=_quantiles(dispersion(panel, train)),
        stocks=_quantiles(scorable[train].sum(1).astype(np.float64)),
    )


def dispersion(panel: Panel, days: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """``[days]``: standard deviation over the stocks of the return to each day's close; NaN for fewer than two."""
    days = days[days > 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        returns = panel.close[days] / panel.close[days - 1] - 1.0
    known = np.isfinite(returns)
    found = np.full(len(days), np.nan)
    enough = known.sum(1) >= 2
    found[enough] = np.nanstd(np.where(known, returns, np.nan)[enough], axis=1)
    return found


def _feature(name: str, values: npt.NDArray[np.float32]) -> FeatureReference:
    known = values[np.isfinite(values)].astype(np.float64)
    cuts = np.unique(np.quantile(known, LEVELS)) if known.size else np.zeros(0)
    missing = 1.0 - known.size / values.size if values.size else 1.0
    return FeatureReference(name=name, missing=missing, cuts=tuple(cuts), shares=tuple(_shares(known, cuts)))


def _shares(
    values: npt.NDArray[np.float64], cuts: tuple[float, ...] | npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    counts = np.bincount(np.searchsorted(np.asarray(cuts), values, side="left"), minlength=len(cuts) + 1)
    return np.asarray(counts / max(1, values.size))


def _quantiles(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    known = values[np.isfinite(values)]
    return tuple(map(float, np.quantile(known, MARKET_LEVELS))) if known.size else ()


def write(path: Path, reference: Reference) -> None:
    """Write ``reference.json`` into a run's directory, all of it or nothing.

    Raises:
        UseError: it cannot be written.
    """
    text = json.dumps(reference.model_dump(mode="json"), allow_nan=False) + "\n"
    write_text(path / NAME, text)


def read(path: Path) -> Reference | None:
    """The reference of a run; None where it has none, as runs of earlier versions.

    Raises:
        UseError: it cannot be read.
    """
    try:
        return Reference.model_validate_json((path / NAME).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise UseError(f"{path / NAME}: cannot be read: {reason}. Mend: put the file back as it was.") from None


def calendar_difference(reference: Reference, panel: Panel) -> str | None:
    """How a panel's calendar differs from that of training, in words; None where it goes on with it.

    Both have to have the same days where they overlap, and the same markets with the same hours.
    """
    there, here = reference.sessions, panel.manifest.sessions
    if there is not None and there != here:
        return f"its markets and hours are {_sessions(here)}, not {_sessions(there)}"
    known, own = np.array(reference.calendar, dtype="datetime64[D]"), panel.days
    first, last = max(known[0], own[0]), min(known[-1], own[-1])
    if first > last:
        return None
    known, own = known[(known >= first) & (known <= last)], own[(own >= first) & (own <= last)]
    lacking, added = np.setdiff1d(known, own), np.setdiff1d(own, known)
    told = [f"{word} {len(days)} of the days {first} to {last}, the first {days[0]}"
            for word, days in (("lacks", lacking), ("adds", added)) if len(days)]  # fmt: skip
    return f"its calendar {' and '.join(told)}" if told else None


def _sessions(found: Sessions | None) -> str:
    return "not told" if found is None else json.dumps(found.model_dump(mode="json"), sort_keys=True)[:200]


@dataclass(frozen=True)
class FeatureDrift:
    """One feature on recent days against training.

    Attributes:
        name: of the feature.
        stability_index: ``Σ (p − q) ln(p / q)`` over the bins of training's deciles, with p and q the shares now and
            then: the population stability index. 0: the same distribution; None without a value now or then.
        missing, missing_then: shares of stocks with a row that have no value.
    """

    name: str
    stability_index: float | None
    missing: float
    missing_then: float


@dataclass(frozen=True)
class Drift:
    """Recent days of a panel against what was trained on.

    Attributes:
        days: how many days were looked at.
        features: the largest shift first.
        dispersion: mean over the days of the standard deviation of a day's returns over the stocks.
        dispersion_percentile: its place among the training days, 0 to 100.
        stocks: stocks that can be scored on the last day.
        stocks_percentile: its place among the training days.
    """

    days: int
    features: tuple[FeatureDrift, ...]
    dispersion: float | None
    dispersion_percentile: float | None
    stocks: int
    stocks_percentile: float | None

    @property
    def moved(self) -> list[FeatureDrift]:
        """Features whose index is ``MOVED`` or more, or that miss by that much more."""
        return [
            each
            for each in self.features
            if (each.stability_index or 0.0) >= MOVED or each.missing - each.missing_then >= MOVED
        ]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def drift(reference: Reference, panel: Panel, day: int, scorable: npt.NDArray[np.bool_]) -> Drift:
    """The ``RECENT_DAYS`` days that end with ``day``, or as many as there are, against training."""
    days = np.arange(max(0, day + 1 - RECENT_DAYS), day + 1)
    there = panel.present[days]
    values = panel.features(int(days[0]), day + 1)[there]
    found = [_drift(each, values[:, place]) for place, each in enumerate(reference.features)]
    spread = dispersion(panel, days)
    spread_now = float(np.nanmean(spread)) if np.isfinite(spread).any() else None
    stocks = int(scorable[day].sum())
    return Drift(
        days=len(days),
        features=tuple(sorted(found, key=lambda each: -(each.stability_index or 0.0))),
        dispersion=spread_now,
        dispersion_percentile=_percentile(reference.dispersion, spread_now),
        stocks=stocks,
        stocks_percentile=_percentile(reference.stocks, stocks),
    )


def _drift(then: FeatureReference, values: npt.NDArray[np.float32]) -> FeatureDrift:
    known = values[np.isfinite(values)].astype(np.float64)
    missing = 1.0 - known.size / values.size if values.size else 1.0
    index = None
    if known.size and then.missing < 1.0:
        now, before = (np.maximum(each, FEW) for each in (_shares(known, then.cuts), np.array(then.shares)))
        index = float(((now - before) * np.log(now / before)).sum())
    return FeatureDrift(then.name, index, missing, then.missing)


def _percentile(quantiles: tuple[float, ...], value: float | None) -> float | None:
    if value is None or not quantiles:
        return None
    return float(100 * np.interp(value, quantiles, MARKET_LEVELS))
