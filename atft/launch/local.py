"""Everything that the command line does on this machine, each from start to what the user is told."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from atft.config import Tier
from atft.data.build import build
from atft.data.gather import scorable_days
from atft.data.loader import workers_in_use
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.data.splits import decision_days
from atft.data.synth import SynthOptions, make_market, write_market
from atft.errors import UseError
from atft.evaluate import result
from atft.experiment import runs
from atft.experiment.assess import Outcomes, assess, simple_baselines
from atft.experiment.runs import Run
from atft.experiment.tiers import resolve
from atft.launch import texts
from atft.observe.console import Screen, progress, stages
from atft.observe.events import EventLog
from atft.report.html import write_report
from atft.train.loop import Trainer, phases_done
from atft.train.setup import Setup, prepare


def synthesize(out: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write a synthetic market into ``out`` and build its panel in ``out/panel``.

    The panel holds the market's own features only: prices of this market foretell nothing.

    Raises:
        UseError: bad options, or a directory that exists or cannot be written.
    """
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
    manifest = build(
        source, out, Roles.read(roles) if roles else Roles(), normalise=normalise, computed=not own_only,
        strict=strict, most_bad=most_bad, overwrite=overwrite,
    )  # fmt: skip
    panel = Panel.open(out)
    report = {
        "panel": str(out), "days": len(panel.days), "stocks": len(panel.codes), "features": len(panel.feature_names),
        "first_day": str(panel.days[0]), "last_day": str(panel.days[-1]), "counts": manifest.counts,
        "sha256": panel.sha256, "seconds": time.monotonic() - started,
    }  # fmt: skip
    return report | {"text": texts.of_panel(report)}


def run_baselines(tier: Tier, panel_path: Path) -> dict[str, Any]:
    """The baselines that need no model, on the tier's test period."""
    panel = Panel.open(panel_path)
    periods = decision_days(panel.days, tier.split, tier.label)
    scorable = scorable_days(panel.present, tier.window)
    test = Outcomes.of(panel, scorable, tier, periods.test)
    found = simple_baselines(panel, scorable, periods, tier, test)
    plain = {name: each.model_dump(mode="json", exclude={"series"}) for name, each in found.items()}
    return {"panel": str(panel_path), "baselines": plain, "text": texts.of_baselines(found, test.dates)}


def train_run(
    tier: str,
    flags: Mapping[str, Any],
    data: Path | None,
    *,
    runs_root: Path,
    name: str | None,
    resume: bool,
    quiet: bool,
    command: list[str],
) -> dict[str, Any]:
    """Train a tier through all its phases, evaluate it once, and write result and report.

    Raises:
        UseError: before anything is computed: bad settings, panel, run or resume.
        RunError: training had to stop.
    """
    if resume:
        run = _to_resume(tier, flags, data, runs_root, name)
        setup = prepare(run.tier, Panel.open(run.panel), progress=stages(quiet))
    else:
        resolved = resolve(tier, flags=flags)
        if data is None:
            raise UseError(
                "--data is missing: the panel to train on. Mend: `atft data synth DIR`, then --data DIR/panel."
            )
        path = runs.new_path(runs_root, name, resolved.tier)
        setup = prepare(resolved.tier, Panel.open(data), progress=stages(quiet))
        run = runs.create(path, resolved, data, setup.panel.sha256, command)
    with progress(quiet) as screen:
        return _train(run, setup, screen, resume=resume)


def _to_resume(tier: str, flags: Mapping[str, Any], data: Path | None, root: Path, name: str | None) -> Run:
    """The run to go on with: its own settings, but for flags that change nothing that is learned."""
    if name is None:
        raise UseError("--resume needs --run NAME: the run to go on with.")
    run = runs.open_run(runs.run_path(root, name))
    if run.result.exists():
        raise UseError(f"run {run.path}: is finished already. Mend: `atft report {run.path}` shows it.")
    now = resolve(tier, flags=flags, base=run.tier).tier
    if Path(tier).stem != run.tier.name or now.sha256() != run.tier.sha256():
        raise UseError(
            f"run {run.path}: was started as tier {run.tier.name} with other settings than these, and a resumed run "
            "keeps what it learns by. Mend: resume without changed settings, or start a new run."
        )
    if data is not None and data.resolve() != run.panel:
        raise UseError(f"run {run.path}: was started on {run.panel}, not on {data}. Mend: leave --data out.")
    return replace(run, tier=now)


def _train(run: Run, setup: Setup, screen: Screen, *, resume: bool) -> dict[str, Any]:
    started = time.monotonic()
    with EventLog(run.events) as events:
        events.subscribe(screen)
        trainer = Trainer(setup, run.path, events)
        if resume:
            trainer.resume()  # before anything is written: a checkpoint that is refused leaves the run as it is
            started -= trainer.progress.train_seconds
        _announce(events, run, trainer)
        if resume:
            events.write("resumed", step=trainer.progress.step)
        trainer.run()
        return _finish(run, trainer, events, started)


def _announce(events: EventLog, run: Run, trainer: Trainer) -> None:
    tier, setup = trainer.setup.tier, trainer.setup
    batch = tier.batch
    events.write(
        "run_started", run=run.path.name, tier=tier.name, seed=tier.seed, parameters=setup.parameters, world_size=1,
        effective_batch={**batch.model_dump(), "samples": batch.samples}, precision_asked=tier.precision,
        precision=setup.precision.name, device=setup.device.type, threads=setup.threads,
        loader_workers=workers_in_use(tier.runtime.loader_workers), steps_per_epoch=tier.steps_per_epoch,
        total_steps=trainer.total_steps,
        phases=[{"name": name, **phase.model_dump()} for name, phase in trainer.phases.items()],
    )  # fmt: skip
    for text in setup.warnings:
        events.write("warning", text=text)


def _finish(run: Run, trainer: Trainer, events: EventLog, started: float) -> dict[str, Any]:
    events.write("evaluation_started", days=len(trainer.setup.periods.test))
    found = assess(trainer, run.path.name, seconds=time.monotonic() - started)
    result.write(run.result, found)
    events.write("evaluation_finished", sharpe_annual=found.test.sharpe_annual, ic=found.test.ic)
    report = write_report(run.path)
    events.write("run_finished", result=str(run.result), report=str(report), seconds=time.monotonic() - started)
    return _told(run, found, report)


def evaluate_run(path: Path, *, quiet: bool) -> dict[str, Any]:
    """What a run came to; a run that was trained but not evaluated is evaluated now, and only then."""
    run = runs.open_run(path)
    if run.result.exists():
        return _told(run, result.read(run.result), run.path / "report.html")
    done, phases = phases_done(run.path), len(run.tier.phases_to_run())
    if done < phases:
        raise UseError(
            f"run {path}: is not trained to its end (phase {done + 1} of {phases}). "
            f"Mend: atft train {run.tier.name} --runs {path.parent} --run {path.name} --resume."
        )
    setup = prepare(run.tier, Panel.open(run.panel), progress=stages(quiet))
    with EventLog(run.events) as events, progress(quiet) as screen:
        events.subscribe(screen)
        trainer = Trainer(setup, run.path, events)
        trainer.resume()
        return _finish(run, trainer, events, time.monotonic() - trainer.progress.train_seconds)


def report_run(path: Path, out: Path | None) -> Path:
    """Write the HTML report of a run."""
    return write_report(path, out)


def _told(run: Run, found: result.Result, report: Path) -> dict[str, Any]:
    told = {"run": str(run.path), "result": str(run.result), "report": str(report)}
    return told | {"test": found.test.model_dump(mode="json", exclude={"series"}), "text": texts.of_result(found, told)}
