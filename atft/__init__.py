"""atft: a distributed trainer for models that rank stocks, trained on a Sharpe ratio."""

__version__ = "0.1.0"
