from typing import Any

import pytest

from atft.report import tables

ONE = {
    "strategy": "top 50", "execution": "open", "sharpe_annual": 1.25, "sharpe_annual_ci95": [-0.5, 3.0],
    "sharpe_net_annual": 0.75, "long_return": 0.0011, "short_return": None, "turnover": 1.5, "max_drawdown": 0.125,
    "excess_sharpe_annual": -1.5,
}  # fmt: skip


def test_a_strategy_is_a_row_with_its_figures_in_the_units_of_the_heading() -> None:
    row = tables.strategies({"strategies": [ONE]})[0]
    assert (row["name"], row["execution"]) == ("top 50", "open")
    assert row["cells"] == ["1.25", "-0.50 to 3.00", "0.75", "11.0", tables.DASH, "1.50", "-12.5 %", "-1.50"]


@pytest.mark.parametrize("held", [None, [], "all", 3, [None, 3], {"a": 1}])
def test_a_result_that_tells_of_no_strategy_has_no_row(held: Any) -> None:
    assert tables.strategies({"strategies": held}) == []
    assert tables.strategies({}) == []


def test_figures_that_are_missing_are_dashes() -> None:
    assert set(tables.strategies({"strategies": [dict.fromkeys(ONE)]})[0]["cells"]) == {tables.DASH}
