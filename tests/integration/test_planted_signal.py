"""Is a planted signal found, by the part of the network that should, and nothing where nothing was planted?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.planted import market, trained

pytestmark = pytest.mark.slow

ALL = ["variable_selection", "temporal", "adaptive_norm", "graph"]
SHORT = {f"phases.{phase}.epochs": 0 for phase in ("baseline", "adaptive_norm", "fine_tuning")}
SHORT |= {"phases.gat.epochs": 8, "phases.gat.learning_rate": 3e-3}
SHORT |= {"objective.weights.sharpe": 0.0, "objective.weights.cs_ic": 1.0}
"""One phase; trained on the IC, since a Sharpe ratio prefers the parts that a cluster's stocks do not share."""


@pytest.fixture(scope="module")
def default_market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return market(tmp_path_factory.mktemp("planted") / "market")


def test_quickstart_reaches_most_of_the_planted_ic(default_market: Path, tmp_path: Path) -> None:
    summary, _ = trained(default_market, tmp_path / "run")
    assert summary.ic.estimate >= 0.6 * 0.15
    assert summary.sharpe.low > 0
    assert summary.ic.low > 0


def test_each_part_of_the_network_finds_the_part_of_the_signal_that_was_planted_for_it(
    default_market: Path, tmp_path: Path
) -> None:
    def with_parts(*parts: str) -> dict[str, float]:
        return trained(default_market, tmp_path / "-".join(parts), **SHORT | {"phases.gat.parts": list(parts)})[1]

    whole = with_parts(*ALL)
    without_graph = with_parts("variable_selection", "temporal", "adaptive_norm")
    without_time = with_parts("variable_selection", "graph")
    without_selection = with_parts("temporal", "adaptive_norm", "graph")
    print({"whole": whole, "graph": without_graph, "temporal": without_time, "selection": without_selection})
    assert min(whole.values()) > 0.1
    assert abs(without_graph["spillover"]) < 0.03
    assert abs(without_time["lagged"]) < 0.03
    assert without_selection["interaction"] < 0.5 * whole["interaction"]


def test_nothing_is_found_where_nothing_was_planted(tmp_path: Path) -> None:
    covered = []
    for seed in range(20):
        folder = market(tmp_path / f"market{seed}", seed=seed, ic=0.0)
        summary, _ = trained(folder, tmp_path / f"run{seed}", seed=seed, epoch_stock_days=16384)
        covered.append(summary.sharpe.low <= 0 <= summary.sharpe.high)
        print(seed, summary.sharpe)
    assert sum(covered) >= 17
