"""The numbers under the drawings, against oracles of their own."""

import datetime as dt
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from atft.report import charts, figures
from atft.report.material import Phase, dates, floats


def weekdays(count: int) -> list[dt.date]:
    return [day.date() for day in pd.bdate_range("2017-01-03", periods=count)]


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()).strip() for element in parsed(svg).iter() if element.tag.endswith("text")]


def test_wealth_compounds_and_the_fall_is_from_the_highest_so_far() -> None:
    returns = np.array([-0.1, 0.2, np.nan, -0.5, 0.1])
    total, fall = figures.wealth_and_fall(returns)
    assert total == pytest.approx([0.9, 1.08, 1.08, 0.54, 0.594])
    assert fall == pytest.approx([-0.1, 0.0, 0.0, -0.5, 0.55 - 1])


def test_months_agree_with_pandas() -> None:
    days, values = weekdays(120), np.random.default_rng(0).normal(size=120)
    values[5] = np.nan
    months, means, errors = figures.by_month(days, values)
    groups = pd.Series(values, index=pd.DatetimeIndex(days)).groupby(lambda day: f"{day:%Y-%m}")
    assert months == list(groups.groups)
    np.testing.assert_allclose(means, groups.mean())
    np.testing.assert_allclose(errors, groups.sem())


def test_the_running_mean_agrees_with_a_loop() -> None:
    values = np.random.default_rng(1).normal(size=300)
    expected = [values[max(0, i - 15) : i + 16].mean() for i in range(300)]
    np.testing.assert_allclose(figures.running_mean(values), expected)


@pytest.mark.parametrize(("spread", "low", "high"), [(1.0, 0.93, 0.97), (2.0, 0.62, 0.74)])
def test_the_band_holds_95_percent_of_batches_that_only_sampling_moves(spread: float, low: float, high: float) -> None:
    values = np.random.default_rng(2).normal(0.1, spread * 0.05, 4000)
    phase = Phase("gat", 2e-4, (), (), None, 0.05, np.arange(4000.0), values, None)
    inside = charts.inside_band(phase)
    assert inside is not None
    assert low < inside < high


def test_a_drawing_keeps_text_as_text_and_takes_its_colours_from_the_page() -> None:
    spans = [figures.Span("Baseline", 1, 50), figures.Span("Fine-tuning", 51, 100)]
    values = np.random.default_rng(3).normal(size=100)
    svg = figures.batch_sharpe(np.arange(1.0, 101), values, spans, [0.9, None], figures.WIDE, "strip")
    assert {"Baseline", "Fine-tuning", "Batch Sharpe by step"} <= set(texts(svg))
    assert not re.search(r"#[0-9a-fA-F]{6}|rgb\(|font-family|http", svg)
    assert "var(--chart-model)" in svg
    assert "<style" not in svg


def test_figures_on_an_axis_keep_their_digits() -> None:
    bests = np.zeros(8)
    curves = {name: np.linspace(0.0025, 0.0175, 8) for name in ("validation_sharpe", "validation_ic")}
    svg = figures.validation({**curves, "best": bests}, [figures.Span("Baseline", 1, 8)], figures.HALF, "v")
    ticks = [float(text) for text in texts(svg) if re.fullmatch(r"0\.\d+", text)]
    assert len(ticks) > 4
    assert all(re.search(r"\.\d{3,}$", text) for text in texts(svg) if text.startswith("0."))


def test_the_drawn_line_ends_at_the_compounded_return() -> None:
    returns = np.random.default_rng(4).normal(0.001, 0.01, 60)
    svg = figures.wealth(weekdays(60), {"model": returns}, figures.WIDE, "w")
    description = next(element.text for element in parsed(svg).iter() if element.tag.endswith("desc"))
    assert f"{100 * (np.prod(1 + returns) - 1):.1f} %" in str(description)


def test_nulls_and_text_in_a_series_become_nan_and_bad_dates_give_none() -> None:
    np.testing.assert_array_equal(floats([1, None, "x", True, 2.5]), [1, np.nan, np.nan, np.nan, 2.5])
    assert floats(None).size == 0
    assert dates(["2017-01-03", "tomorrow"]) == []
    assert dates(["2017-01-03T00:00:00"]) == [dt.date(2017, 1, 3)]
