"""Everything that the command line does on this machine, each from start to what the user is told."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from atft.config import Tier
from atft.data.build import append, build
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.errors import UseError
from atft.evaluate import result
from atft.evaluate.result import BaselineRun, SchemaError
from atft.experiment import runs
from atft.experiment.runs import Run
from atft.experiment.tiers import Resolved, resolve
from atft.launch import places, texts
from atft.launch.places import Place
from atft.launch.request import TrainRequest
from atft.launch.tracked import tracked
from atft.launch.training import asked_to_stop, carried_out, check_registry, deflated_now, finish, told
from atft.launch.validate import before_training
from atft.launch.workers import Workers
from atft.observe.console import patience, progress, stages
from atft.observe.events import EventLog, Subscriber
from atft.observe.rules import Curve
from atft.observe.watch import UNWATCHED, Watched, curve_of, parse_stop_on
from atft.report.html import write_report
from atft.schemes import fold_told
from atft.train.keeper import LAST, has_checkpoint, phases_done
from atft.train.loop import Trainer
from atft.train.setup import Setup, prepare


def synthesize(out: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write a synthetic market into ``out`` and build its panel in ``out/panel``.

    The panel holds the market's own features only: prices of this market foretell nothing.

    Raises:
        UseError: bad options, or a directory that exists or cannot be written.
    """
    from atft.data.synth import SynthOptions, make_market, write_market  # loads scipy, which a start can do without

    market = make_market(texts.validated(SynthOptions, options))
    write_market(market, out)
    panel = out / "panel"
    try:
        build(out / "market.parquet", panel, Roles.read(out / "roles.yaml"), computed=SYNTHETIC_FEATURES)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    truth = json.loads((out / "truth.json").read_text())
    return {"market": str(out), "panel": str(panel), **truth, "text": texts.of_market(truth)}


SYNTHETIC_FEATURES = ("return_1", "return_5", "return_20", "volatility_20")
"""Price features in the panel of a synthetic market: a few, to be told apart from the planted ones."""


def build_panel(
    source: Path, out: Path, *, roles: Path | None, normalise: str, own_only: bool, strict: bool, most_bad: float,
    overwrite: bool, quiet: bool,
) -> dict[str, Any]:  # fmt: skip
    """Build a panel from a table and say what was repaired and dropped."""
    started = time.monotonic()
    given = Roles.read(roles) if roles else Roles()
    build(
        places.open_source(source), out, given, normalise=normalise, computed=not own_only,
        strict=strict, most_bad=most_bad, overwrite=overwrite, progress=patience(quiet),
    )  # fmt: skip
    return _of_panel(out, started)


def append_panel(
    panel: Path, source: Path, *, roles: Path | None, strict: bool, most_bad: float, quiet: bool
) -> dict[str, Any]:
    """Bring a panel up to the last day of a table and say what was repaired and dropped."""
    started = time.monotonic()
    days = len(Panel.open(panel).days)
    append(panel, places.open_source(source), roles=roles, strict=strict, most_bad=most_bad, progress=patience(quiet))
    report = _of_panel(panel, started)
    return report | {"new_days": report["days"] - days}


def _of_panel(path: Path, started: float) -> dict[str, Any]:
    panel = Panel.open(path)
    report = {
        "panel": str(path), "days": len(panel.days), "stocks": len(panel.codes), "features": len(panel.feature_names),
        "first_day": str(panel.days[0]), "last_day": str(panel.days[-1]), "counts": panel.manifest.counts,
        "sha256": panel.sha256, "seconds": time.monotonic() - started,
    }  # fmt: skip
    return report | {"text": texts.of_panel(report)}


def train_run(wanted: TrainRequest) -> dict[str, Any]:
    """Train a tier through all its phases, evaluate it once, and write result and report.

    One worker without an address is this process; all else is trained by Ray Train, and comes to the same.

    Raises:
        UseError: before anything is computed: bad settings, panel, run or resume.
        RunError: training had to stop.
    """
    workers, resume = Workers.parse(wanted.workers), wanted.resume
    stop_on = parse_stop_on(wanted.stop_on)
    named = wanted.name or resume or wanted.again
    place = places.run_place(wanted.runs_root, _named(wanted.name)) if named else None
    if wanted.again and place:
        place.fetch()
        if (place.path / "result.json").exists():
            finished = runs.open_run(place.path)
            _check_settings(finished, wanted)
            return told(finished, place.registry)
        resume = (place.path / "config.json").exists()
    run = _to_resume(wanted, place) if resume and place else None
    resolved = Resolved(run.tier, run.provenance) if run else resolve(wanted.tier, flags=wanted.flags)
    workers.check(resolved.tier)
    panel = run.panel if run else wanted.data
    if panel is None:
        raise UseError("--data is missing: the panel to train on. Mend: `atft data synth DIR`, then --data DIR/panel.")
    place = place or places.run_place(wanted.runs_root, runs.new_name(resolved.tier))
    if run is None:
        runs.check_new(place.path)
        place.check_new()
    checks = before_training(wanted, resolved, panel, resumed=run is not None)
    ray_train = None if workers.alone and wanted.address is None else _ray_train()
    with ray_train.cluster(wanted.address, workers) if ray_train else nullcontext():
        setup = prepare(resolved.tier, places.open_panel(panel), progress=stages(wanted.quiet))
        check_registry(place.registry, setup)
        watched = Watched(stop_on, _curve(wanted.against, resolved.tier))
        resumed = run is not None
        run = run or runs.create(
            place.path, resolved, places.absolute(panel), setup.panel.manifest, wanted.command,
            checks=checks, tier_file=tier_file(wanted.tier), more=_asked(wanted),
        )  # fmt: skip
        following = tracked(place, run, command=wanted.command, workers=wanted.workers, resumed=resumed)
        with following as state, progress(wanted.quiet) as screen:
            if ray_train:
                ray_train.fit(run, place, workers, state.showing(screen), watched)
            else:
                shown = state.showing(screen)
                fit_here(run, place, setup, shown, resume=has_checkpoint(run.path), watched=watched)
    return told(run, place.registry)


def _asked(wanted: TrainRequest) -> dict[str, Any]:
    """What the run's description keeps of how it is watched."""
    against = {"against": str(places.absolute(wanted.against))} if wanted.against is not None else {}
    return against | ({"stop_on": list(wanted.stop_on)} if wanted.stop_on else {})


def tier_file(tier: str) -> str:
    """What names the tier from everywhere: a shipped one's name, or the file's whole path."""
    return str(Path(tier).resolve()) if tier.endswith((".yaml", ".yml")) else tier


def fit_here(
    run: Run, place: Place, setup: Setup, screen: Subscriber, *, resume: bool, baseline: BaselineRun | None = None,
    watched: Watched = UNWATCHED,
) -> None:  # fmt: skip
    """Train a run in this process, evaluate it, write result and report.

    Args:
        run: the run.
        place: where it lies.
        setup: its tier made ready.
        screen: shows what happens.
        resume: go on from its last checkpoint.
        baseline: which baseline it is a run of, where it is one.
        watched: what may end it early.
    """
    with place.kept() as published, EventLog(run.events) as events, asked_to_stop() as wishes:
        events.subscribe(screen)
        carried_out(
            run, setup, events, registry=place.registry, resume=resume, wishes=lambda: wishes, published=published,
            baseline=baseline, watched=watched,
        )  # fmt: skip


def _curve(against: Path | None, tier: Tier) -> Curve | None:
    """How the run that another is watched against learned, by that other's validation metric."""
    if against is None:
        return None
    place = places.place_of(against)
    runs.open_run(place.path)
    return curve_of(place.path, against.name, f"validation_{tier.validation_metric}")


def _ray_train() -> ModuleType:
    try:
        return import_module("atft.launch.ray_train")
    except ModuleNotFoundError as error:
        raise UseError(f"training on several workers needs Ray ({error}). Mend: pip install 'atft[ray]'.") from None


def _named(name: str | None) -> str:
    if name is None:
        raise UseError("--resume and --again need --run NAME: the run to go on with.")
    return name


def _to_resume(wanted: TrainRequest, place: Place) -> Run:
    """The run to go on with: its own settings, but for flags that change nothing that is learned."""
    place.fetch()
    run = runs.open_run(place.path)
    if run.result.exists():
        raise UseError(f"run {run.path}: is finished already. Mend: `atft report {run.path}` shows it.")
    now = _check_settings(run, wanted)
    if wanted.data is not None and places.absolute(wanted.data) != run.panel:
        raise UseError(f"run {run.path}: was started on {run.panel}, not on {wanted.data}. Mend: leave --data out.")
    if not wanted.again and not has_checkpoint(run.path):
        raise UseError(
            f"{run.path}/checkpoints/{LAST}: there is no checkpoint to go on from. "
            "Mend: start a new run under another name."
        )
    return replace(run, tier=now)


def _check_settings(run: Run, wanted: TrainRequest) -> Tier:
    """The run's settings with what the request's flags change about its use of the machine."""
    now = resolve(wanted.tier, flags=wanted.flags, base=run.tier).tier
    if Path(wanted.tier).stem != run.tier.name or now.sha256() != run.tier.sha256():
        was, asked = fold_told(run.tier.split), fold_told(now.split)
        fold = f", fold {was['fold']} and not {asked['fold']}" if was and asked and was != asked else ""
        raise UseError(
            f"run {run.path}: was started as tier {run.tier.name} with other settings than these{fold}, and a resumed "
            "run keeps what it learns by. Mend: resume without changed settings, or start a new run."
        )
    return now


def evaluate_run(path: Path, *, quiet: bool) -> dict[str, Any]:
    """What a run came to; a run that was trained but not evaluated is evaluated now, and only then."""
    place = places.place_of(path)
    run = runs.open_run(place.path)
    if run.result.exists():
        return told(run, place.registry)
    if run.baseline:
        raise UseError(
            f"run {path}: is one of the baseline {run.baseline} that was not finished. "
            f"Mend: the `atft baselines` that began it goes on with it: --only {run.baseline} --runs {path.parent}."
        )
    runs.check_trained(run, path, phases_done(run.path))
    setup = prepare(run.tier, places.open_panel(run.panel), progress=stages(quiet))
    check_registry(place.registry, setup)
    following = tracked(place, run, command=["atft", "evaluate", str(path)], workers="1", resumed=True)
    with following as state, place.kept(), EventLog(run.events) as events, progress(quiet) as screen:
        events.subscribe(state.showing(screen))
        with Trainer(setup, run.path, events) as trainer:
            trainer.resume()
            finish(run, trainer, events, time.monotonic() - trainer.progress.train_seconds, place.registry)
    return told(run, place.registry)


def report_run(path: Path, out: Path | None) -> Path:
    """Write the HTML report of a run, its Sharpe ratio deflated by all trials until now."""
    place = places.place_of(path)
    held = place.path / "result.json"
    try:
        now = deflated_now(result.read(held), place.registry).test.inference if held.exists() else None
    except SchemaError:
        now = None  # a result of which something is missing: the report says what
    with place.kept():
        return write_report(place.path, out, deflated=now.deflated.model_dump(mode="json") if now else None)
