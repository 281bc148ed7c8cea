"""What a synthetic market is made from."""

from __future__ import annotations

import datetime as dt
import zlib
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from atft.config import Settings

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Shares(Settings):
    """Shares of the signal's variance by part; they sum to 1. A part's own IC is ``ic · √share``."""

    linear: Share = 0.19
    """Weighted sum of today's own features. Below a quarter, so that a ridge, which reaches ``ic · √share``, stays
    below half of the planted IC with room for its sampling error."""
    lagged: Share = 0.27
    """Own feature of the day before today."""
    interaction: Share = 0.27
    """Sizes of two own features, weighted by the sign of a third."""
    spillover: Share = 0.27
    """Own feature of the stock's cluster mates."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.linear + self.lagged + self.interaction + self.spillover
        if abs(total - 1) > 1e-9:
            raise ValueError(
                f"shares linear + lagged + interaction + spillover = {total:g}, must be 1; "
                "mend: lower or raise one of them by the difference"
            )
        return self


class SynthOptions(Settings):
    """A synthetic market. The same options give the same market, bit by bit."""

    stocks: Annotated[int, Field(ge=10, le=20_000)] = 300
    """Stocks that are listed at any time."""
    days: Annotated[int, Field(ge=30, le=10_000)] = 750
    """Trading days: weekdays without New Year's Day, 4 July and Christmas Day."""
    start: dt.date = dt.date(2015, 1, 2)
    """First day; the next trading day where it is none."""
    seed: Annotated[int, Field(ge=0)] = 7
    """Seed of everything random. Each ingredient has its own stream."""
    ic: Annotated[float, Field(ge=0, le=0.8, allow_inf_nan=False)] = 0.15
    """Expected daily cross-sectional Pearson correlation of the true signal with the return it foretells; 0: no
    signal at all. 0.03 to 0.05 is realistic."""
    execution_lag: Annotated[int, Field(ge=0, le=20)] = 0
    """Trading days from the signal's day to the close from which its return is earned, for one day."""
    shares: Shares = Shares()
    industries: Annotated[int, Field(ge=1)] = 12
    """Industries, of nearly equal size."""
    cluster_size: Annotated[int, Field(ge=2)] = 6
    """Stocks of a cluster within an industry, about."""
    noise_features: Annotated[int, Field(ge=0, le=1000)] = 4
    """Own features that mean nothing."""
    missing_share: Share = 0.005
    """Share of stock-days without a row, at random."""
    missing_feature_share: Share = 0.005
    """Share of values of each own feature that are missing, at random."""
    suspended_share: Share = 0.1
    """Share of stocks that are suspended once, for 5 to 20 days."""
    delisted_share: Share = 0.08
    """Share of stocks that leave before the last day and never return."""
    listed_late_share: Share = 0.08
    """Share of stocks that are listed after the first day."""
    unknown_industry_share: Share = 0.02
    """Share of stocks whose industry is given as n/a."""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        problems = []
        if self.industries * 2 > self.stocks:
            problems.append(
                f"industries = {self.industries} leaves fewer than 2 of {self.stocks} stocks in each; "
                f"mend: industries ≤ {self.stocks // 2}"
            )
        if self.delisted_share + self.listed_late_share > 1:
            problems.append(
                f"delisted_share + listed_late_share = {self.delisted_share + self.listed_late_share:g} exceeds 1: "
                "no stock is both"
            )
        for name in ("missing_share", "missing_feature_share"):
            if getattr(self, name) > 0.5:
                problems.append(f"{name} = {getattr(self, name):g} exceeds 0.5: most of the market would be missing")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def stream(self, ingredient: str) -> np.random.Generator:
        """The random stream of one ingredient, independent of all others."""
        return np.random.default_rng([self.seed, zlib.crc32(ingredient.encode())])
