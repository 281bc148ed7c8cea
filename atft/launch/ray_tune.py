"""Trials on a Ray cluster: Ray Tune starts them as there is room, and stops or suggests them where it is asked to."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from atft.errors import AtftError, UseError
from atft.experiment.sweep import Range
from atft.launch.places import Place
from atft.launch.ray_train import cluster as cluster
from atft.launch.ray_train import ray_storage
from atft.launch.sweep_trial import EPOCH, METRIC, carry_out
from atft.train.wishes import Wishes

REDUCTION = 3
"""ASHA keeps one in this many at each rung."""
QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the run's own log has it all
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the command line has its own
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose = 0, the one that prints nothing
}

Heard = Callable[[Mapping[str, Any], str, str | None], None]
"""Told a trial's configuration, its state and its error."""


@dataclass(frozen=True)
class Tuning:
    """How trials are run.

    Attributes:
        told: what each trial is told, pickled.
        place: of the sweep.
        at_once: most trials at the same time; None: as many as there is room for.
        threads: processors of a trial.
        epochs: of the longest trial.
        grace: epochs before a trial may be stopped.
        heard: told of every trial that starts or ends.
        wishes: looked at all the time.
    """

    told: bytes
    place: Place
    at_once: int | None
    threads: int
    epochs: int
    grace: int
    heard: Heard
    wishes: Wishes

    @property
    def resources(self) -> dict[str, float]:
        """Of one trial."""
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return {"CPU": float(self.threads)} | ({"GPU": 1.0} if there.get("GPU", 0) > 0 else {})

    def check_room(self) -> None:
        """One trial fits somewhere.

        Raises:
            UseError: none does; Ray would wait for ever.
        """
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        most = max((node["Resources"].get("CPU", 0) for node in nodes if node["Alive"]), default=0)
        if self.threads > most:
            raise UseError(
                f"runtime.threads = {self.threads}: no machine of the cluster has as many processors (at most "
                f"{most:.0f}). Mend: --set runtime.threads={max(1, int(most))}."
            )


def grid(tuning: Tuning, names: Sequence[str], *, spared: Sequence[str], asha: bool) -> None:
    """Run the trials ``names`` in this order, as there is room.

    Args:
        tuning: how.
        names: of runs.
        spared: those that are never stopped early: what the others are compared with.
        asha: stop the others early where they are among the worse two thirds at a rung.
    """
    scheduler = _Sparing(spared, tuning) if asha else None
    _fit(tuning, {"trial": tune.grid_search(list(names))}, tune.TuneConfig(scheduler=scheduler))


def search(
    tuning: Tuning, asked: Range, *, seed: int, known: Sequence[tuple[float, float]], first: Sequence[float],
    asha: bool,
) -> None:  # fmt: skip
    """Let Optuna suggest values inside a range.

    Args:
        tuning: how.
        asked: the range and the number of trials.
        seed: of the suggestions.
        known: value and metric of points that are finished; they count among the trials.
        first: values to try before any suggestion.
        asha: stop trials early.
    """
    left = asked.trials - len(known)
    if left < 1:
        return
    config = tune.TuneConfig(
        search_alg=_optuna(asked, seed, known, first), num_samples=left,
        scheduler=_Sparing((), tuning) if asha else None,
    )  # fmt: skip
    _fit(tuning, None, config)


def check_search() -> None:
    """What a search needs is installed.

    Raises:
        UseError: it is not.
    """
    if find_spec("optuna") is None:
        raise UseError("--search optuna: Optuna is not installed. Mend: pip install 'atft[optuna]'.")


def _optuna(asked: Range, seed: int, known: Sequence[tuple[float, float]], first: Sequence[float]) -> Searcher:
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = OptunaSearch.convert_search_space({"value": _domain(asked)})
    found = OptunaSearch(
        space, metric=METRIC, mode="max", seed=seed, points_to_evaluate=[{"value": each} for each in first] or None
    )
    for value, metric in known:
        found.add_evaluated_point({"value": value}, metric)
    return found


def _domain(asked: Range) -> Any:
    if asked.whole:
        low, high = int(asked.low), int(asked.high) + 1  # Ray's upper bound is not a value
        return tune.lograndint(low, high) if asked.log else tune.randint(low, high)
    return tune.loguniform(asked.low, asked.high) if asked.log else tune.uniform(asked.low, asked.high)


class _Sparing(ASHAScheduler):
    """ASHA that never stops what the others are compared with."""

    def __init__(self, spared: Sequence[str], tuning: Tuning) -> None:
        super().__init__(
            time_attr=EPOCH, metric=METRIC, mode="max", max_t=max(tuning.epochs, tuning.grace),
            grace_period=tuning.grace, reduction_factor=REDUCTION, stop_last_trials=False,
        )  # fmt: skip
        self._spared = frozenset(spared)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if trial.config.get("trial") in self._spared else decision


class _Ear(tune.Callback):
    """Passes on what happens to trials."""

    def __init__(self, tuning: Tuning) -> None:
        self._heard, self._wishes = tuning.heard, tuning.wishes

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._heard(trial.config, "running", None)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._heard(trial.config, "interrupted" if self._wishes.stop else "ended", None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._heard(trial.config, "failed", _told(trial))


class _Stop(tune.Stopper):
    """Ends all trials when this process is asked to stop."""

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._wishes.stop


def _fit(tuning: Tuning, space: dict[str, Any] | None, config: tune.TuneConfig) -> None:
    told = tuning.told

    def trial(config: dict[str, Any]) -> None:
        carry_out(told, config, tune.report)

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    tuning.check_room()
    config.max_concurrent_trials = tuning.at_once
    config.reuse_actors = False
    notes = ray_storage(tuning.place)
    run_config = tune.RunConfig(
        name=".ray", verbose=0, callbacks=[_Ear(tuning)], stop=_Stop(tuning.wishes),
        failure_config=tune.FailureConfig(max_failures=0), **notes,
    )  # fmt: skip
    try:
        tune.Tuner(
            tune.with_resources(trial, tuning.resources), param_space=space, tune_config=config, run_config=run_config
        ).fit()
    finally:
        if tuning.place.uri is None:
            shutil.rmtree(Path(notes["storage_path"]) / ".ray", ignore_errors=True)  # Ray's notes: nothing reads them


def _told(trial: Any) -> str:
    """What ended a trial: its own error in its own words, or the last line of what Ray knows of its death."""
    pickled, text = trial.pickled_error_file, trial.error_file
    if pickled and Path(pickled).exists():
        error: BaseException = cloudpickle.loads(Path(pickled).read_bytes())
        while isinstance(cause := getattr(error, "cause", None) or error.__cause__, BaseException):
            error = cause
        if str(error):
            told = " ".join(str(error).split())
            return told if isinstance(error, AtftError) else f"{type(error).__name__}: {told}"
    lines = Path(text).read_text().splitlines() if text and Path(text).exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "its process died")
