"""Metrics with error bars, baselines, backtest, predictions and the schema of ``result.json``."""
