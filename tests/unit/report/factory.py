"""A run directory as a finished run leaves it, with made-up but plausible figures."""

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from atft.observe.events import EventLog

PHASES = (
    ("baseline", 5, ["variable_selection", "temporal"]),
    ("adaptive_norm", 10, ["variable_selection", "temporal", "adaptive_norm"]),
    ("gat", 8, ["variable_selection", "temporal", "adaptive_norm", "graph"]),
    ("fine_tuning", 6, ["variable_selection", "temporal", "adaptive_norm", "graph"]),
)
BATCH = {"days": 16, "stocks_per_day": 64, "block_days": 4, "samples": 1024}

DIVERGENCE = (
    "phase gat: since epoch 4 the training loss improves while the validation Sharpe falls (0.121 to 0.104 a day)"
)

TIER: dict[str, Any] = {
    "name": "tier1",
    "description": "The original experiment's first tier: hidden 64, effective batch 1,024.",
    "seed": 7,
    "mode": "optimized",
    "precision": "16-mixed",
    "epoch_stock_days": 25600,
    "max_epochs": 30,
    "batch": {"days": 16, "stocks_per_day": 64, "block_days": 4},
    "window": {"days": 20, "least_present": 15},
    "label": {"horizon": 1, "execution_lag": 0, "cost_bps": 5.0, "quantile_horizons": [1, 5]},
    "split": {
        "train": {"first": "2013-01-02", "last": "2015-12-31"},
        "validate": {"first": "2016-01-04", "last": "2016-12-30"},
        "test": {"first": "2017-01-03", "last": "2017-12-08"},
        "embargo_days": 0,
    },
    "graph": {"neighbours": 10, "lookback_days": 60, "shrinkage": 0.2, "industry_bonus": 0.1},
    "model": {
        "hidden_size": 64,
        "attention_heads": 4,
        "graph_heads": 4,
        "lstm_layers": 1,
        "dropout": 0.1,
        "fan_frequencies": 2,
        "san_slices": 4,
        "quantiles": [0.1, 0.5, 0.9],
    },
    "objective": {
        "sharpe_kind": "pooled",
        "weights": {"sharpe": 1.0, "rank_ic": 0.0, "cs_ic": 0.0, "quantile": 0.0},
        "rank_temperature": 0.1,
        "turnover_cost_bps": 0.0,
    },
    "optimizer": {"weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999, "clip_norm": 1.0},
    "phases": {
        name: {"epochs": epochs, "learning_rate": 2e-4, "schedule": "cosine", "warmup_steps": 10, "parts": parts}
        for name, epochs, parts in PHASES
    },
    "validation_metric": "sharpe",
    "runtime": {
        "loader_workers": 8,
        "deterministic": False,
        "compile": False,
        "micro_batch_blocks": "auto",
        "kept_graphs": "auto",
        "threads": 0,
    },
}


def make_run(directory: Path, *, seed: int = 3, edge: float = 1.0, finished: bool = True) -> Path:
    """Write a run of tier1 into ``directory``.

    Args:
        directory: made if need be.
        seed: of the made-up figures.
        edge: strength of the model; 0 leaves noise.
        finished: whether there is a result.
    """
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    (directory / "config.json").write_text(json.dumps({"tier": TIER, "provenance": provenance()}))
    with EventLog(directory) as log:
        phases = _train(log, random, edge, finished)
    if finished:
        (directory / "result.json").write_text(json.dumps(result(random, edge, phases)))
    return directory


def provenance() -> dict[str, str]:
    """Where each value came from, by dotted name."""
    found = dict.fromkeys(_names(TIER), "tier1.yaml")
    found["batch.days"] = "BATCH_SIZE=1024 in the environment"
    found["objective.weights.sharpe"] = "SHARPE_WEIGHT=1 in the environment"
    found["seed"] = "--set seed=7"
    for name in TIER["runtime"]:
        found[f"runtime.{name}"] = "mode optimized"
    return found


def _names(value: Any, prefix: str = "") -> list[str]:
    if isinstance(value, dict):
        return [name for key, item in value.items() for name in _names(item, f"{prefix}.{key}" if prefix else key)]
    return [prefix]


def _train(log: EventLog, random: np.random.Generator, edge: float, finished: bool) -> list[dict[str, Any]]:
    per_epoch, step, phases = 25, 0, []
    log.write(
        "run_started",
        run="tier1-2026-11-20-0912",
        tier="tier1",
        seed=7,
        parameters=1_613_442,
        world_size=1,
        effective_batch=BATCH,
        precision_asked="16-mixed",
        precision="bf16-mixed",
        device="cpu",
        threads=2,
        loader_workers=2,
        steps_per_epoch=per_epoch,
        phases=[{"name": name, **phase} for name, phase in TIER["phases"].items()],
        total_steps=29 * per_epoch,
    )
    level, total = 0.0, 0
    for index, (name, epochs, parts) in enumerate(PHASES):
        log.write("phase_started", phase=name, index=index, epochs=epochs, learning_rate=2e-4, parts=parts)
        rows = []
        for epoch in range(1, epochs + 1):
            total += 1
            level = edge * 0.16 * (1 - math.exp(-total / 9))
            for _ in range(per_epoch):
                step += 1
                sharpe = level + random.normal(0, 0.045)
                log.write(
                    "step",
                    step=step,
                    phase=name,
                    epoch=epoch,
                    loss=-sharpe,
                    parts={"sharpe": -sharpe},
                    batch_sharpe=sharpe,
                    gradient_norm=abs(random.normal(0.4, 0.1)),
                    learning_rate=2e-4,
                    samples=1024 - int(random.integers(0, 9)),
                    days=16,
                    micro_batches=4,
                    kept_graphs=4,
                    seconds=0.31,
                    data_seconds=0.012,
                )
            overfit = 0.018 * max(0, total - 16) / 13
            row = {
                "epoch": epoch,
                "train_loss": -level + random.normal(0, 0.004),
                "validation_loss": -0.45 * level + overfit + random.normal(0, 0.006),
                "validation_sharpe": 0.9 * level - overfit + random.normal(0, 0.012),
                "validation_ic": 0.14 * level - 0.1 * overfit + random.normal(0, 0.0014),
                "validation_rank_ic": 0.12 * level + random.normal(0, 0.0014),
                "seconds": 8.4 + index,
            }
            rows.append(row)
            log.write("epoch", phase=name, **row, best=False)
            if not finished and total == 17:
                return phases
        best = max(rows, key=lambda row: row["validation_sharpe"])
        phases.append({"name": name, "epochs": rows, "best_epoch": best["epoch"]})
        if name == "gat":
            log.write("divergence", phase=name, epoch=7, since=4, text=DIVERGENCE)
        log.write(
            "phase_finished",
            phase=name,
            best_epoch=best["epoch"],
            best_metric=best["validation_sharpe"],
            expected_batch_sharpe_std=0.044,
            seconds=epochs * 8.4,
        )
    log.write("run_finished", result="result.json", report="report.html", seconds=291.4)
    return phases


def label_dates() -> list[str]:
    """237 weekdays from 2017-01-03."""
    day, days = dt.date(2017, 1, 3), []
    while len(days) < 237:
        if day.weekday() < 5:
            days.append(day.isoformat())
        day += dt.timedelta(days=1)
    return days


def statistics(gross: Any, ic: Any = None, deciles: Any = None) -> dict[str, Any]:
    """The figures of one daily series, by formulas of their own."""
    gross = np.asarray(gross)
    net, year = gross - 0.0003, math.sqrt(252)
    daily, net_daily = (values.mean() / values.std() for values in (gross, net))
    error = math.sqrt((1 + daily**2 / 2) / len(gross))
    ics = [None] * len(gross) if ic is None else list(map(float, ic))
    mean_ic = None if ic is None else float(np.mean(ic))
    icir = None if ic is None else float(np.mean(ic) / np.std(ic))
    ic_error = None if ic is None else float(np.std(ic) / math.sqrt(len(gross)))
    around = [daily - 1.96 * error, daily + 1.96 * error]
    dates = label_dates()
    return {
        "days": len(gross),
        "sharpe_daily": daily,
        "sharpe_annual": daily * year,
        "sharpe_ci95": around,
        "sharpe_annual_ci95": [bound * year for bound in around],
        "sharpe_standard_error": error,
        "sharpe_method": "Lo (2002), mean and variance jointly; Newey–West, 4 lags",
        "sharpe_net": net_daily,
        "sharpe_net_annual": net_daily * year,
        "sharpe_net_ci95": [net_daily - 1.96 * error, net_daily + 1.96 * error],
        "pooled_sharpe": daily / 4,
        "ic": mean_ic,
        "ic_ci95": None if ic is None else [mean_ic - 1.96 * ic_error, mean_ic + 1.96 * ic_error],
        "icir": icir,
        "rank_ic": None if ic is None else 0.9 * mean_ic,
        "rank_ic_ci95": None,
        "rank_icir": None if ic is None else 0.9 * icir,
        "turnover": 0.61,
        "max_drawdown": _drawdown(gross),
        "max_drawdown_net": _drawdown(net),
        "mean_return": float(gross.mean()),
        "mean_return_net": float(net.mean()),
        "decisions": 237 * 1026,
        "days_left_out": 0,
        "days_in_cash": 0,
        "horizon": 1,
        "cost_bps": 5.0,
        "deciles": [None] * 10 if deciles is None else list(map(float, deciles)),
        "decile_days": 0 if deciles is None else 237,
        "ic_by_month": _months(dates, ics),
        "series": {"dates": dates, "gross": gross.tolist(), "net": net.tolist(), "ic": ics},
    }


def _drawdown(returns: Any) -> float:
    wealth = np.cumprod(np.concatenate([[1.0], 1 + returns]))
    return float((1 - wealth / np.maximum.accumulate(wealth)).max())


def _months(dates: list[str], ics: list[Any]) -> list[dict[str, Any]]:
    months = []
    for month in sorted({date[:7] for date in dates}):
        held = [ic for date, ic in zip(dates, ics) if date[:7] == month and ic is not None]
        months.append({"month": month, "days": len(held), "ic": sum(held) / len(held) if held else None})
    return months


def result(random: np.random.Generator, edge: float, phases: list[dict[str, Any]]) -> dict[str, Any]:
    """``result.json`` of a run whose portfolio earns ``edge`` times 4.5 basis points a day."""
    slope = edge * 0.0004 * np.linspace(-1.6, 1.6, 10) + random.normal(0.0002, 0.00016, 10)
    test = statistics(random.normal(0.00045 * edge, 0.0042, 237), random.normal(0.016 * edge, 0.1, 237), slope)
    dates = label_dates()
    shuffled = statistics(random.normal(0, 0.004, 237), random.normal(0, 0.05, 237)) | {
        "sharpe_annual": 0.03,
        "sharpe_annual_ci95": [-1.93, 2.04],
        "ic": 0.0001,
        "series": None,
        "settings": {"repeats": 200, "seed": 7, "share_above_sharpe": 0.025, "share_above_ic": 0.01},
    }
    return {
        "schema_version": 1,
        "run": "tier1-2026-11-20-0912",
        "tier": "tier1",
        "seed": 7,
        "config_sha256": "5f2c" * 16,
        "data_sha256": "a91e" * 16,
        "parameters": 1_613_442,
        "effective_batch": {"days": 16, "stocks_per_day": 64, "samples": 1020.4},
        "world_size": 1,
        "micro_batches": 4,
        "precision": "bf16-mixed",
        "sharpe_kind": "pooled",
        "validation_metric": "sharpe",
        "steps": 725,
        "samples": 739_812,
        "phases": phases,
        "batch_sharpe": {"count": 725, "mean": 0.11, "std": 0.061, "min": -0.06, "max": 0.28, "range": 0.34}
        | {"expected_std": 0.044},
        "divergences": [{"phase": "gat", "first_epoch": 4, "last_epoch": 7, "note": DIVERGENCE}],
        "test": test | {"first_date": dates[0], "last_date": dates[-1], "missing_labels": 12, "sampled_ic": 0.015},
        "baselines": {
            "reversal": statistics(random.normal(0.00022, 0.0047, 237), random.normal(0.0152, 0.1, 237))
            | {"settings": {"lookback": 1}},
            "ridge": statistics(random.normal(0.0003, 0.0044, 237), random.normal(0.0115, 0.1, 237))
            | {"settings": {"penalty": 10.0}},
            "equal_weight": statistics(random.normal(0.0005, 0.0065, 237)) | {"settings": {}},
            "shuffled": shuffled,
        },
        "planted": None,
        "runtime_seconds": 291.4,
    }
