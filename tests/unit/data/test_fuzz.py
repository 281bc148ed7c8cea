"""Any table either builds, with every row that goes counted, or is refused in one paragraph; no loss is ever NaN."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, Phase, currently_in_test_context, event, find, given, reject, settings
from hypothesis import strategies as st
from polars.testing.parametric import column, dataframes
from pydantic import ValidationError

from atft.config import Graph, Label, Window
from atft.data.build import build
from atft.data.gather import Gatherer
from atft.data.graph import trailing_graph
from atft.data.manifest import Manifest
from atft.data.panel import Panel
from atft.data.repair import DROPS
from atft.data.roles import Roles
from atft.errors import UseError
from atft.model.network import PARTS
from atft.objective.mix import Mix
from atft.objective.rows import RowSettings, day_rows
from tests.unit.data.fuzzed import CHANGES, Draw, Fuzzed, fuzzed_tables, market, roles_of
from tests.unit.model.examples import network

FEW, MANY = 40, 2000
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
SOME = settings(max_examples=FEW, deadline=None, suppress_health_check=CHECKS, derandomize=True, database=None)
LOTS = settings(max_examples=MANY, deadline=None, suppress_health_check=CHECKS, database=None)
FEATURES = ["return_1", "volatility_5"]


def built(source: Path, roles: Roles, folder: Path, rows: int | None) -> Panel | None:
    """The panel, with what has to hold of any; None where the table was refused as it should be."""
    out = folder / "panel"
    lacks = [roles.open, roles.volume]
    try:
        manifest = build(source, out, roles, computed=FEATURES, most_bad=1.0)
    except UseError as error:
        told = str(error)
        assert "\n" not in told.replace(str(folder), ""), told
        assert 20 < len(told) < 1500, told
        assert "Traceback" not in told, told
        assert not out.exists()
        assert {path.name for path in folder.iterdir()} <= {"bars", source.name}
        noted("refused")
        return None
    noted("built")
    check(manifest, rows)
    panel = Panel.open(out)
    panel.verify()
    assert (panel.open_price is None, panel.volume is None) == tuple(name is None for name in lacks)
    features = panel.features(0, len(panel.days))
    assert not np.isinf(features).any()
    assert np.isnan(features[~panel.present]).all()
    assert (panel.close[panel.present] > 0).all()
    with np.errstate(invalid="ignore"):
        moves = panel.close[1:] / panel.close[:-1]
    assert np.isfinite(moves[panel.present[1:] & panel.present[:-1]]).all()
    assert panel.present.sum() == manifest.rows_kept
    assert panel.present.any(axis=0).all()
    assert panel.present.any(axis=1).all()
    assert not (panel.tradable & ~panel.present).any()
    return panel


def noted(what: str) -> None:
    if currently_in_test_context():
        event(what)


def check(manifest: Manifest, rows: int | None) -> None:
    dropped = sum(number for reason, number in manifest.counts.items() if reason in DROPS)
    assert manifest.rows_read == manifest.rows_kept + dropped
    assert rows is None or manifest.rows_read == rows
    assert all(number > 0 for number in manifest.counts.values())


def prepared(table: Fuzzed, folder: Path) -> tuple[Roles, Path]:
    """Its roles and its files; given up where they contradict themselves, or no file can hold it."""
    try:
        return roles_of(table), table.write(folder)
    except (ValidationError, pl.exceptions.PolarsError, OSError, ValueError):
        reject()


def in_a_folder(act: Callable[[Path], Any]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        act(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def builds_or_is_refused(table: Fuzzed) -> None:
    def act(folder: Path) -> None:
        roles, source = prepared(table, folder)
        built(source, roles, folder, table.frame.height)

    in_a_folder(act)


@SOME
@given(fuzzed_tables())
def test_a_table_builds_with_all_that_goes_counted_or_is_refused(table: Fuzzed) -> None:
    builds_or_is_refused(table)


@pytest.mark.parametrize("change", sorted(set(CHANGES), key=lambda change: change.__name__))
@settings(SOME, max_examples=4)
@given(st.data())
def test_each_change_alone_builds_or_is_refused(change: Callable[[Fuzzed, Draw], None], data: st.DataObject) -> None:
    table = market(data.draw(st.integers(0, 5)), 4, 20)
    change(table, data.draw)
    builds_or_is_refused(table)


@pytest.mark.slow
@LOTS
@given(fuzzed_tables(most=8))
def test_many_tables_build_or_are_refused(table: Fuzzed) -> None:
    builds_or_is_refused(table)


NAMES = ("date", "code", "open", "high", "low", "close", "volume", "industry", "alpha")
KINDS: Any = (pl.List, pl.Array, pl.Struct, pl.Object, pl.Unknown)
anything = dataframes(
    [column(name, strategy=None, allow_null=True) for name in NAMES], max_size=8, excluded_dtypes=KINDS
)
likely = dataframes(
    [
        column("date", dtype=pl.Date, strategy=st.dates(dt.date(2020, 1, 1), dt.date(2020, 1, 6))),
        column("code", strategy=st.sampled_from(["a", "b", "c"]), dtype=pl.String),
        *(column(name, dtype=pl.Float64, allow_null=True) for name in NAMES[2:7]),
        column("industry", dtype=pl.Categorical, allow_null=True),
        column("alpha", dtype=pl.Float32, allow_null=True),
    ],
    min_size=2,
    max_size=12,
)


def any_frame(frame: pl.DataFrame) -> None:
    def act(folder: Path) -> None:
        path = folder / "bars.parquet"
        try:
            frame.write_parquet(path)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):  # what Parquet cannot hold
            return
        built(path, Roles(features=("alpha",)), folder, frame.height)

    in_a_folder(act)


@settings(SOME, max_examples=30)
@given(st.one_of(anything, likely))
def test_columns_of_any_type_and_value_build_or_are_refused(frame: pl.DataFrame) -> None:
    any_frame(frame)


@pytest.mark.slow
@LOTS
@given(st.one_of(anything, likely))
def test_many_columns_of_any_type_build_or_are_refused(frame: pl.DataFrame) -> None:
    any_frame(frame)


text = st.text(st.sampled_from(list('datecolsop,;"\n\r\t 0123456789.-eEnaN\ufeff|')), max_size=120)


def any_csv(body: str) -> None:
    def act(folder: Path) -> None:
        path = folder / "bars.csv"
        path.write_text(body, encoding="utf-8", newline="")
        only = {"open": None, "high": None, "low": None, "volume": None, "industry": None}
        built(path, Roles(**only), folder, None)

    in_a_folder(act)


lines = st.lists(
    st.tuples(
        st.sampled_from(["2020-01-01", "2020-01-02", "2020-01-03", "", "x"]),
        st.sampled_from(["a", "b", "", '"']),
        st.sampled_from(["1", "2.5", "", "1e400", "-1", "nan", "inf", "1,5", '"2"']),
    ),
    max_size=8,
)
good_lines = st.lists(
    st.tuples(
        st.sampled_from([f"2020-01-0{day}" for day in range(1, 8)]),
        st.sampled_from(["a", "b", "007", '"c"']),
        st.sampled_from(["1", "2.5", "3e2", "0", "-1", ""]),
    ),
    min_size=2,
    max_size=8,
    unique_by=lambda line: line[:2],
)
headed = st.builds(
    lambda head, rows, mark: head + mark + mark.join(",".join(row) for row in rows),
    st.sampled_from(["date,code,close", "\ufeffdate,code,close", "date,code,close,close", "date, code ,close", ""]),
    st.one_of(good_lines, lines),
    st.sampled_from(["\n", "\r\n"]),
)


@settings(SOME, max_examples=60)
@given(st.one_of(headed, text))
def test_any_csv_builds_or_is_refused(body: str) -> None:
    any_csv(body)


@pytest.mark.slow
@LOTS
@given(st.one_of(headed, text))
def test_many_csvs_build_or_are_refused(body: str) -> None:
    any_csv(body)


WINDOW = Window(days=4, least_present=2)
SETTINGS = RowSettings((0.1, 0.5, 0.9), 1.0, 0.001, True, True)
MIXES = [Mix(kind, 1.0, 0.5, 0.5, 0.5) for kind in ("portfolio", "pooled")]


def losses_are_finite(table: Fuzzed) -> None:
    """From the table through build, gather, network and objective: every term, loss and gradient is a number."""

    def act(folder: Path) -> None:
        roles, source = prepared(table, folder)
        panel = built(source, roles, folder, table.frame.height)
        if panel is None:
            return
        own = None if panel.label is None else True
        label = Label(horizon=1, execution_lag=1, cost_bps=5, quantile_horizons=(1, 3), own=own)
        graph = trailing_graph(panel, Graph(neighbours=2, lookback_days=5, shrinkage=0.3, industry_bonus=0.2))
        gatherer = Gatherer(panel, graph, WINDOW, label)
        if not gatherer.scorable.any():
            return
        blocks, _ = gatherer.cross_section(0, len(panel.days))
        assert torch.isfinite(blocks.returns).all()
        model = network(features=len(panel.feature_names), window=4, horizons=2, dropout=0.0, quantiles=(0.1, 0.5, 0.9))
        made = model(blocks, PARTS, None)
        rows = day_rows(made.scores, made.quantiles, blocks, SETTINGS)
        assert torch.isfinite(rows).all(), rows
        counted = int(rows[:, 0].sum())
        losses = [mix.loss(mix.parts(rows)) for mix in MIXES if counted >= (8 if mix.sharpe_kind == "portfolio" else 1)]
        if losses:
            noted("a loss")
            total = torch.stack(losses).sum()
            assert torch.isfinite(total)
            total.backward()
            assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    in_a_folder(act)


@settings(SOME, max_examples=15)
@given(fuzzed_tables(most=3))
def test_no_table_that_builds_gives_a_loss_that_is_no_number(table: Fuzzed) -> None:
    losses_are_finite(table)


@pytest.mark.parametrize("value", [1e308, 3.4e38, 5e-324])
@pytest.mark.parametrize("name", ["close", "excess"])
def test_no_single_wild_value_gives_a_loss_that_is_no_number(name: str, value: float) -> None:
    table = market(seed=1, stocks=4, days=20)
    table.roles["label"] = {"column": "excess", "horizon": 1, "execution_lag": 1}
    if name == "close":
        del table.roles["label"]
    middle = pl.int_range(pl.len()) == table.frame.height // 2
    table.frame = table.frame.with_columns(pl.when(middle).then(value).otherwise(name).alias(name))
    table.frame = table.frame.with_columns(pl.max_horizontal("high", "close").alias("high"))
    losses_are_finite(table)


@pytest.mark.slow
@settings(LOTS, max_examples=500)
@given(fuzzed_tables(most=5))
def test_no_table_of_many_gives_a_loss_that_is_no_number(table: Fuzzed) -> None:
    losses_are_finite(table)


def test_the_fuzzer_reaches_panels_and_refusals_of_changed_tables() -> None:
    def refuses(table: Fuzzed) -> bool:
        found = []
        with contextlib.suppress(ValidationError):
            roles = roles_of(table)
            in_a_folder(lambda folder: found.append(built(table.write(folder), roles, folder, None) is None))
        return found == [True]

    few = settings(SOME, max_examples=200, phases=[Phase.generate])
    find(fuzzed_tables(), lambda table: len(table.done) > 2 and refuses(table), settings=few)
    find(fuzzed_tables(), lambda table: len(table.done) > 2 and not refuses(table), settings=few)
