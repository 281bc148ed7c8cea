"""``result.json``: what a run came to, with a versioned schema. What is undefined is null, never 0 and never NaN."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from atft.errors import UseError
from atft.evaluate.result_inference import Inference
from atft.evaluate.result_types import Bounds, Count, Maybe, Model, Number, Sha256

SCHEMA_VERSION = 1
"""Rises when a field changes its meaning or goes; a new optional field does not raise it."""


class EffectiveBatch(Model):
    """What made one loss and one optimizer step."""

    days: Count
    """Days of an effective batch."""
    stocks_per_day: Count
    """Stocks sampled for each block."""
    samples: Number
    """Valid stock-days of an effective batch, counted from the masks: mean over the steps."""


class Epoch(Model):
    """One epoch of a phase."""

    epoch: Count
    """Number of the epoch in its phase, from 1."""
    train_loss: Number
    """Mean loss of the epoch's steps."""
    validation_loss: Maybe
    validation_sharpe: Maybe
    """Sharpe ratio per day of the validation period, before costs."""
    validation_ic: Maybe
    """Mean information coefficient of the validation period, whole cross-sections."""
    seconds: Number
    """Wall time, validation included."""
    validation_rank_ic: Maybe = None
    steps: Count | None = None
    """Optimizer steps of the epoch."""
    samples: Count | None = None
    """Valid stock-days of the epoch, counted from the masks."""
    data_wait_seconds: Maybe = None
    """Time that training waited for data."""


class PhaseResult(Model):
    """One phase of training."""

    name: str
    epochs: tuple[Epoch, ...]
    best_epoch: Count | None
    """Number of the epoch whose weights the next phase, or the test, took; null for a phase without epochs."""
    parts: tuple[str, ...] = ()
    """Parts of the network that were on."""

    @model_validator(mode="after")
    def _best_is_one_of_them(self) -> Self:
        numbers = [epoch.epoch for epoch in self.epochs]
        if self.best_epoch is not None and self.best_epoch not in numbers:
            raise ValueError(f"best_epoch = {self.best_epoch} is none of the epochs {numbers}")
        return self


class BatchSharpe(Model):
    """Sharpe ratios of the effective batches of training, in the unit of the objective's kind."""

    count: Count
    mean: Maybe
    std: Maybe
    min: Maybe
    max: Maybe
    range: Maybe
    expected_std: Maybe = None
    """Sampling deviation that batches of this size have to show."""


class Divergence(Model):
    """Epochs over which the loss improved and the validation metric worsened."""

    phase: str
    first_epoch: Count
    last_epoch: Count
    note: str
    """The same in words, with both values."""


class Month(Model):
    """Mean information coefficient of a calendar month of label dates."""

    month: Annotated[str, Field(pattern=r"^\d{4}-\d{2}$")]
    days: Count
    ic: Maybe


class Series(Model):
    """Daily series over the days that count, one value per label date."""

    dates: tuple[dt.date, ...]
    """Label dates: the day on which the return has been earned."""
    gross: tuple[Number, ...]
    """Returns before costs, as fractions; of a longer holding period, its return over the horizon."""
    net: tuple[Number, ...]
    ic: tuple[Maybe, ...]

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        lengths = {name: len(getattr(self, name)) for name in ("dates", "gross", "net", "ic")}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"series differ in length: {lengths}")
        return self


class Statistics(Model):
    """Statistics of one set of scores over the test period, see :class:`atft.evaluate.summary.TestSummary`."""

    days: Count
    sharpe_daily: Maybe
    sharpe_annual: Maybe
    """``sharpe_daily · √252``."""
    sharpe_ci95: Bounds
    """Of ``sharpe_daily``."""
    sharpe_annual_ci95: Bounds
    """Of ``sharpe_annual``."""
    sharpe_standard_error: Maybe
    """Of ``sharpe_daily``."""
    sharpe_method: str
    """How the interval was found."""
    sharpe_net: Maybe
    """Per day, after costs."""
    sharpe_net_annual: Maybe
    sharpe_net_ci95: Bounds
    """Of ``sharpe_net``."""
    pooled_sharpe: Maybe
    """Per stock-day, the original experiment's form."""
    ic: Maybe
    ic_ci95: Bounds
    icir: Maybe
    rank_ic: Maybe
    rank_ic_ci95: Bounds
    rank_icir: Maybe
    turnover: Maybe
    """Mean of ``Σ|Δw|`` per day."""
    max_drawdown: Maybe
    """Of compounded wealth before costs, as a fraction."""
    max_drawdown_net: Maybe
    mean_return: Maybe
    """Per day, before costs, as a fraction."""
    mean_return_net: Maybe
    decisions: Count
    """Stock-days that are scored and labelled, on the days that count."""
    days_left_out: Count
    """Days of fewer than two scored stocks."""
    days_in_cash: Count
    """Days that count but hold nothing: all scores were equal, or nothing could be bought."""
    horizon: Count
    """Trading days that a label spans."""
    cost_bps: Number
    deciles: tuple[Maybe, ...]
    """Mean return of each tenth of the scores, lowest first."""
    decile_days: Count
    ic_by_month: tuple[Month, ...]
    series: Series | None
    """Null for shuffled scores, which stand for many series."""
    valued_at_last_price: Count | None = None
    """Scored stock-days without a price at their exit, which the portfolio values at the last known one; null in
    results of before, whose portfolio left them out."""
    not_bought: Count | None = None
    """Scored stock-days without a price at their execution: not filled, in cash; null likewise."""


class Baseline(Statistics):
    """Statistics of a baseline, and what it was made from."""

    settings: dict[str, str | int | Number]
    """Its own settings and counts, such as the ridge's penalty or the shuffles' seed."""


class Baselines(Model):
    """The baselines on the same days; each counts its own decisions."""

    reversal: Baseline
    ridge: Baseline
    equal_weight: Baseline
    shuffled: Baseline
    """Means over the shuffles with the range of 95 % of them: what luck gives."""


class Strategy(Model):
    """The scores of the test period as a strategy trades them, see :class:`atft.evaluate.backtest.Backtest`."""

    strategy: str
    """Name with its own setting, such as ``quantile 0.1``."""
    execution: Literal["close", "open"]
    """At the close ``execution_lag`` days after the decision, or at the next open."""
    days: Count
    sharpe_annual: Maybe
    sharpe_annual_ci95: Bounds
    sharpe_net_annual: Maybe
    """After the tier's ``cost_bps``, on a turnover that includes the drift of weights."""
    sharpe_net_annual_ci95: Bounds
    turnover: Maybe
    """Mean of ``Σ|Δw|`` per day."""
    mean_return: Maybe
    """Per day, before costs, as a fraction."""
    mean_return_net: Maybe
    long_return: Maybe
    """Mean per day of the long positions alone, on the whole capital; null without any."""
    short_return: Maybe
    max_drawdown: Maybe
    max_drawdown_net: Maybe
    excess_sharpe_annual: Maybe
    """Of the net return in excess of the equal-weight market's; null but for ``top``."""
    excess_sharpe_annual_ci95: Bounds
    half_capacity: Maybe
    """Capital at which impact by the square-root law takes half of the net return; null where there is none to take."""
    blocked: Count
    """Stock-days that could not be traded and kept their old position."""
    stale: Count
    """Exits at a price of an earlier day."""
    delisted: Count
    """Positions whose stock left for good, at its last known price."""


class Test(Statistics):
    """The model on the test period, evaluated once, on whole cross-sections."""

    __test__ = False  # its name is no test's

    first_date: dt.date
    """First label date."""
    last_date: dt.date
    missing_labels: Count
    """Stock-days that were scored but have no label: left out of coefficients and deciles, and of the portfolio only
    where the label is the table's own, which has no price."""
    sampled_ic: Maybe
    """Mean information coefficient on stock samples as in training, beside ``ic`` on whole cross-sections."""
    strategies: tuple[Strategy, ...] = ()
    """The same scores by other strategies and at other prices."""
    inference: Inference | None = None
    """How far the figures can be trusted; null in results of before there was such a part."""


class FoldOf(Model):
    """Which fold of which scheme a run is of."""

    scheme: str
    fold: Count
    """From 0."""
    folds: Annotated[int, Field(ge=1)]


class BaselineRun(Model):
    """What a run of a baseline is, where the run is none of a tier's own network."""

    name: str
    """Such as ``ridge`` or ``lstm``."""
    rule: str
    """How scores come about, in words or as a formula."""
    settings: dict[str, str | int | Number] = Field(default_factory=dict)
    """Its own settings and counts."""
    choices: tuple[dict[str, str | Maybe], ...] = ()
    """What was tried on the validation period, each with its figure there; the best was taken."""


class EnsembleOf(Model):
    """What an ensemble's scores are made of."""

    combine: Literal["mean-rank", "mean-score"]
    seeds: tuple[Count, ...]
    """Of its members; parameters, steps and samples of the result are sums over them."""


class Result(Model):
    """The content of ``result.json``."""

    schema_version: Literal[1] = 1
    run: str
    tier: str
    seed: Count
    config_sha256: Sha256
    data_sha256: Sha256
    parameters: Count
    """Trainable parameters, counted."""
    effective_batch: EffectiveBatch
    world_size: Annotated[int, Field(ge=1)]
    micro_batches: Annotated[int, Field(ge=1)]
    """Micro-batches of the last step on one worker."""
    precision: str
    """Precision in effect, such as ``bfloat16`` where a tier asks for 16-mixed on a CPU."""
    sharpe_kind: Literal["pooled", "portfolio"]
    validation_metric: str
    steps: Count
    """Optimizer steps of all phases."""
    samples: Count
    """Valid stock-days of all steps, counted from the masks."""
    phases: tuple[PhaseResult, ...]
    batch_sharpe: BatchSharpe
    divergences: tuple[Divergence, ...] = ()
    test: Test
    baselines: Baselines
    baseline: BaselineRun | None = None
    """What the run is where it is a baseline's; null for a tier's own network."""
    ensemble: EnsembleOf | None = None
    """Null for a single model."""
    planted: dict[str, Number] | None = None
    """Truth of a synthetic market, such as its best reachable IC; null for real data."""
    fold: FoldOf | None = None
    """Null where the tier's split is date ranges."""
    runtime_seconds: Number


class SchemaError(UseError):
    """A file that is no result of the schema that this atft reads."""


def write(path: str | os.PathLike[str], result: Result) -> None:
    """Write ``result`` to ``path``, all of it or nothing.

    Raises:
        UseError: the place cannot be written, or the disk is full; nothing is left behind.
    """
    path = Path(path)
    text = json.dumps(result.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
    temporary = None
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # a temporary file is private, a result is for all who may read the run
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise UseError(
            f"{path}: the result ({len(text):,} bytes) cannot be written: {error.strerror or error}. "
            "Mend: free space, or a run directory that you may write."
        ) from error


def read(path: str | os.PathLike[str]) -> Result:
    """The result at ``path``.

    Raises:
        UseError: the file is missing.
        SchemaError: it is no JSON, of another schema version, or breaks the schema (the first offending field is
            named).
    """
    path = Path(path)
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UseError(
            f"{path}: no result can be read here: {error.strerror or error}. Mend: name a finished run."
        ) from error
    except ValueError as error:
        raise SchemaError(f"{path}: not a JSON file ({error}). Mend: evaluate the run again.") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise SchemaError(
            f"{path}: schema_version = {version!r}, this atft reads {SCHEMA_VERSION}. Mend: evaluate the run again."
        )
    try:
        return Result.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SchemaError(
            f"{path}: {error.error_count()} fields break the schema of result.json, the first is {field} = "
            f"{str(first['input'])[:80]}: {first['msg']}. Mend: evaluate the run again."
        ) from error
