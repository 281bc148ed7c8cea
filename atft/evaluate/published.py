"""Figures that papers report for the 237 test days of the NASDAQ data, each with the table it stands in."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DATE, LAST_DATE = "2017-01-03", "2017-12-08"
"""Label dates of the test period, ends included."""
DAYS, STOCKS = 237, 1026

STOCKMIXER = "Fan and Shen (2024), StockMixer, AAAI-24, table 2"
STHAN_SR = "Sawhney et al. (2021), STHAN-SR, AAAI-21"
RSR = "Feng et al. (2019), RSR, ACM TOIS 37(2)"


@dataclass(frozen=True)
class Published:
    """One row of a paper; None where it reports no such figure.

    Attributes:
        model: as the paper calls it.
        source: paper and table.
        ic: mean daily correlation.
        icir: what table 2 of StockMixer calls RIC: its code computes mean over deviation of the daily correlations.
        precision: precision@10.
        sharpe: top-5 Sharpe ratio.
        irr: sum of the daily returns of the stock ranked first.
    """

    model: str
    source: str
    ic: float | None = None
    icir: float | None = None
    precision: float | None = None
    sharpe: float | None = None
    irr: float | None = None


PUBLISHED = (
    Published("Linear", STOCKMIXER, 0.019, 0.188, 0.505, 0.517),
    Published("LSTM", STOCKMIXER, 0.032, 0.354, 0.514, 0.892),
    Published("ALSTM", STOCKMIXER, 0.035, 0.371, 0.522, 0.941),
    Published("RGCN", STOCKMIXER, 0.034, 0.382, 0.516, 1.054),
    Published("GAT", STOCKMIXER, 0.035, 0.377, 0.530, 1.233),
    Published("RSR-I", STOCKMIXER, 0.038, 0.398, 0.531, 1.238),
    Published("ESTIMATE", STOCKMIXER, 0.037, 0.444, 0.539, 1.307),
    Published("STHAN-SR", STOCKMIXER, 0.039, 0.451, 0.543, 1.416),
    Published("StockMixer", STOCKMIXER, 0.043, 0.501, 0.545, 1.465),
    Published("RSR-I", STHAN_SR, sharpe=1.34),
    Published("STHAN-SR", STHAN_SR, sharpe=1.42),
    Published("Rank_LSTM", RSR, irr=0.68),
    Published("GCN, industry", RSR, irr=0.24),
    Published("RSR_E, industry", RSR, irr=0.20),
    Published("RSR_I, industry", RSR, irr=0.23),
    Published("RSR_I, Wiki", RSR, irr=1.19),
)
"""As read in transcriptions of the papers; table 2 of StockMixer in full for NASDAQ."""
