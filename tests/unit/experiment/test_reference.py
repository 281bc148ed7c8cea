"""What training data looked like, and how far later data has moved from it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from atft.data.panel import CHUNK_DAYS, Panel, write_panel
from atft.experiment import reference
from atft.experiment.reference import MOVED, RECENT_DAYS, calendar_difference, drift, reference_of

DAYS, STOCKS = 120, 50


def panel(
    path: Path,
    *,
    seed: int = 0,
    move: float = 0.0,
    missing: float = 0.0,
    days: np.ndarray | None = None,
    scale: float = 0.01,
) -> Panel:
    """Two features; the first moves on the last 20 days, or is missing there."""
    random = np.random.default_rng(seed)
    days = np.busday_offset("2020-01-01", np.arange(DAYS)) if days is None else days
    features = random.normal(size=(len(days), STOCKS, 2)).astype(np.float32)
    features[-RECENT_DAYS:, :, 0] += move
    features[-RECENT_DAYS:, :, 0][random.random((RECENT_DAYS, STOCKS)) < missing] = np.nan
    returns = random.normal(0, scale, (len(days), STOCKS))
    write_panel(
        path, days=days, codes=[f"S{number:02d}" for number in range(STOCKS)], industries=np.zeros(STOCKS, np.int32),
        feature_names=["moving", "still"], close=100 * np.exp(np.cumsum(returns, axis=0)),
        features=(features[first : first + CHUNK_DAYS] for first in range(0, len(days), CHUNK_DAYS)),
    )  # fmt: skip
    return Panel.open(path)


def trained(opened: Panel, last: int = 90) -> reference.Reference:
    return reference_of(opened, np.arange(last), np.ones((len(opened.days), STOCKS), bool))


def now(known: reference.Reference, opened: Panel) -> reference.Drift:
    return drift(known, opened, len(opened.days) - 1, np.ones((len(opened.days), STOCKS), bool))


def test_the_same_distribution_has_hardly_moved(tmp_path: Path) -> None:
    opened = panel(tmp_path / "p")
    found = now(trained(opened), opened)
    assert all((each.stability_index or 0) < 0.05 for each in found.features)
    assert found.moved == []
    assert (found.stocks, found.days) == (STOCKS, RECENT_DAYS)


def test_a_feature_that_has_moved_is_named_first_with_its_index(tmp_path: Path) -> None:
    opened = panel(tmp_path / "p", move=1.5)
    found = now(trained(opened), opened)
    assert [each.name for each in found.features] == ["moving", "still"]
    assert [each.name for each in found.moved] == ["moving"]
    # By its definition, on the same values.
    then = opened.features(0, 90)[np.unique(np.linspace(0, 89, reference.SAMPLED_DAYS).astype(int))][..., 0].ravel()
    recent = opened.features(100, 120)[..., 0].ravel()
    cuts = np.quantile(then.astype(float), np.arange(1, 10) / 10)
    shares = [np.histogram(each, np.concatenate([[-np.inf], cuts, [np.inf]]))[0] / each.size for each in (recent, then)]
    now_, before = (np.maximum(each, reference.FEW) for each in shares)
    assert found.features[0].stability_index == pytest.approx(
        float(((now_ - before) * np.log(now_ / before)).sum()), abs=1e-3
    )


def test_a_feature_that_goes_missing_is_seen(tmp_path: Path) -> None:
    opened = panel(tmp_path / "p", missing=0.5)
    found = now(trained(opened), opened)
    (lost,) = found.moved
    assert (lost.name, lost.missing_then) == ("moving", 0.0)
    assert lost.missing == pytest.approx(0.5, abs=0.05)
    assert (lost.stability_index or 0) < MOVED


def test_a_wilder_market_has_its_place_among_the_training_days(tmp_path: Path) -> None:
    known = trained(panel(tmp_path / "calm"))
    found = now(known, panel(tmp_path / "wild", scale=0.05))
    assert found.dispersion == pytest.approx(0.05, rel=0.1)
    assert found.dispersion_percentile == 100.0


def test_a_feature_without_any_value_has_no_index(tmp_path: Path) -> None:
    opened = panel(tmp_path / "p", missing=1.1)
    found = {each.name: each for each in now(trained(opened), opened).features}
    assert found["moving"].stability_index is None
    assert found["moving"].missing == 1.0


def test_a_reference_is_read_as_it_was_written(tmp_path: Path) -> None:
    known = trained(panel(tmp_path / "p"))
    reference.write(tmp_path, known)
    assert reference.read(tmp_path) == known
    assert reference.read(tmp_path / "p") is None


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (np.busday_offset("2020-01-01", np.arange(DAYS + 9)), None),
        (np.busday_offset("2020-01-01", np.arange(DAYS, DAYS + 50)), None),
        (np.delete(np.busday_offset("2020-01-01", np.arange(DAYS)), 7), "lacks 1 of the days"),
        (np.arange("2020-01-01", "2020-05-01", dtype="datetime64[D]"), "adds 34 of the days"),
    ],
)
def test_a_calendar_goes_on_with_that_of_training_or_tells_how_not(
    tmp_path: Path, days: np.ndarray, told: str | None
) -> None:
    known = trained(panel(tmp_path / "then"))
    found = calendar_difference(known, panel(tmp_path / "now", days=days))
    assert (found is None) if told is None else (found is not None and told in found)


def test_the_first_day_that_differs_is_named(tmp_path: Path) -> None:
    days = np.busday_offset("2020-01-01", np.arange(DAYS))
    known = trained(panel(tmp_path / "then"))
    found = calendar_difference(known, panel(tmp_path / "now", days=np.delete(days, 7)))
    assert found is not None
    assert str(days[7].astype(dt.date)) in found
