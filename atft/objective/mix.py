"""The objective: a function of the table of all days' rows of one effective batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from atft.objective.rows import TERMS
from atft.objective.sharpe import sharpe_from_moments

LEAST_DAYS = 8
"""Fewest counted days that a portfolio Sharpe ratio is taken over."""


@dataclass(frozen=True)
class Mix:
    """A weighted mix of statistics of the effective batch.

    Attributes:
        sharpe_kind: ``portfolio``: of the days' returns; ``pooled``: of all stock-days' gains.
        sharpe, rank_ic, cs_ic: weights of what is to be large.
        quantile: weight of the quantile loss, which is to be small.
    """

    sharpe_kind: Literal["pooled", "portfolio"]
    sharpe: float
    rank_ic: float
    cs_ic: float
    quantile: float

    def parts(self, table: Tensor) -> dict[str, Tensor]:
        """Each statistic by itself, unweighted.

        Args:
            table: ``[days, len(TERMS)]`` float64, all rows of the effective batch.

        Returns:
            Scalars ``sharpe`` (per day or per stock-day), ``rank_ic``, ``cs_ic``, ``quantile``.

        Raises:
            ValueError: no day counts, or fewer than ``LEAST_DAYS`` for a portfolio Sharpe ratio.
        """
        column = dict(zip(TERMS, table.unbind(-1)))
        days = column["counted"].sum()
        least = LEAST_DAYS if self.sharpe_kind == "portfolio" and self.sharpe else 1
        if days < least:
            raise ValueError(
                f"only {int(days)} of the effective batch's {table.shape[0]} days have two labelled stocks, "
                f"and a {self.sharpe_kind} Sharpe ratio needs {least}"
            )
        if self.sharpe_kind == "portfolio":
            returns = column["portfolio_return"]
            sharpe = sharpe_from_moments(days, returns.sum(), returns.square().sum())
        else:
            sharpe = sharpe_from_moments(*(column[f"pooled_{name}"].sum() for name in ("count", "sum", "squares")))
        return {
            "sharpe": sharpe,
            "rank_ic": column["rank_ic"].sum() / days,
            "cs_ic": column["ic"].sum() / days,
            "quantile": column["quantile_sum"].sum() / column["quantile_count"].sum().clamp_min(1),
        }

    def loss(self, parts: dict[str, Tensor]) -> Tensor:
        """The scalar to be made small; a part with weight 0 takes no part."""
        terms = [
            weight * parts[name]
            for name, weight in (
                ("sharpe", -self.sharpe),
                ("rank_ic", -self.rank_ic),
                ("cs_ic", -self.cs_ic),
                ("quantile", self.quantile),
            )
            if weight
        ]
        return sum(terms[1:], start=terms[0])
