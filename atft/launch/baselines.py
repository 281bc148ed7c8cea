"""``atft baselines``: every baseline as a run of its own, on one panel and split, and one table of all."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from atft import __version__
from atft.config import Architecture
from atft.data.gather import scorable_days
from atft.data.panel import Panel
from atft.data.splits import periods_of
from atft.errors import UseError
from atft.evaluate import result
from atft.experiment import rivals, runs, score_table
from atft.experiment.assess import Ground, evaluated, simple_baselines
from atft.experiment.matched import Matched, changed, matched
from atft.experiment.runs import Run
from atft.experiment.tiers import Resolved
from atft.launch import places, texts
from atft.launch.local import fit_here
from atft.launch.places import Place
from atft.launch.tracked import Following, tracked
from atft.observe.console import progress, stages
from atft.observe.events import EventLog
from atft.report.html import write_report
from atft.train.checkpoint import write_text
from atft.train.keeper import has_checkpoint
from atft.train.setup import prepare

Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Job:
    """What all baselines of one call share.

    Attributes:
        resolved: the tier that is to be read against them, and where its values came from.
        ground: panel, masks and periods.
        panel: the panel as a run's description names it.
        root: where runs lie.
        command: what the user typed.
        quiet: show no progress.
        tell: told the stage and how much of it is done.
    """

    resolved: Resolved
    ground: Ground
    panel: Path
    root: Path
    command: list[str]
    quiet: bool
    tell: Tell

    @cached_property
    def simple(self) -> dict[str, result.Baseline]:
        """The quick baselines that every result holds, the same in all of these runs."""
        return simple_baselines(self.ground, self.ground.outcomes(self.ground.periods.test))


def run_baselines(
    resolved: Resolved,
    panel: Path,
    *,
    only: str | None,
    seeds: str | None,
    runs_root: Path,
    quiet: bool,
    command: list[str],
) -> dict[str, Any]:
    """Make a run of each baseline, or read it where it is there, and put their figures into one table.

    A run is named by baseline, tier, seed and a hash of the settings and the data: what was evaluated once is read
    and not evaluated again, and a training that was stopped goes on.

    Args:
        resolved: the tier whose label, split, batches and phases are used.
        panel: directory or URI.
        only: names with commas; all baselines where not given.
        seeds: numbers with commas; the tier's own where not given.
        runs_root: where runs lie.
        quiet: show no progress.
        command: what the user typed.

    Raises:
        UseError: an unknown name, a bad seed, or a panel that the tier or a baseline cannot use.
        RunError: a training had to stop.
    """
    names, numbers = chosen(only), seeds_of(seeds, resolved.tier.seed)
    opened = places.open_panel(panel)
    job = Job(resolved, ground_of(resolved, opened), places.absolute(panel), runs_root, command, quiet, stages(quiet))
    rows: dict[str, list[tuple[Run, result.Result]]] = {}
    for name in names:
        used = numbers if name in rivals.SEEDED else [resolved.tier.seed]
        rows[name] = [made(job, name, seed) for seed in used]
    table = {name: texts.baseline_row(name, found) for name, found in rows.items()}
    test = rows[names[0]][0][1].test
    text = texts.of_baselines(table, test)
    return {"panel": str(panel), "tier": resolved.tier.name, "baselines": table, "text": text}


def chosen(only: str | None) -> list[str]:
    """The baselines that are asked for, in the order of all.

    Raises:
        UseError: a name that is none.
    """
    asked = [each.strip() for each in only.split(",")] if only is not None else list(rivals.NAMES)
    for each in asked:
        if each not in rivals.NAMES:
            raise UseError(f"--only {only}: {each!r} is no baseline. Mend: one or more of {','.join(rivals.NAMES)}.")
    return [name for name in rivals.NAMES if name in asked]


def seeds_of(text: str | None, own: int) -> list[int]:
    """``1,2,3`` as numbers, each once.

    Raises:
        UseError: something else.
    """
    if text is None:
        return [own]
    words = [each.strip() for each in text.split(",")]
    if not all(each.isascii() and each.isdigit() for each in words):
        raise UseError(f"--seeds {text}: not whole numbers from 0 with commas. Mend: --seeds 1,2,3.")
    return list(dict.fromkeys(map(int, words)))


def ground_of(resolved: Resolved, panel: Panel) -> Ground:
    """What evaluations under a tier stand on.

    Raises:
        UseError: a period that holds no decision day, or a test period of which no stock can be scored.
    """
    tier = resolved.tier
    periods = periods_of(tier, panel)
    scorable = scorable_days(panel.present, tier.window)
    if not scorable[periods.test].any():
        raise UseError(
            f"{panel.path}: no stock can be scored on any test day: none has window.least_present = "
            f"{tier.window.least_present} rows in {tier.window.days} days. Mend: a longer panel, or a shorter window."
        )
    return Ground(panel, scorable, periods, tier)


def made(job: Job, name: str, seed: int) -> tuple[Run, result.Result]:
    """The run of one baseline and one seed, as it is there or made now."""
    tier = changed(job.resolved.tier, {"seed": seed})
    resolved = Resolved(tier, job.resolved.provenance | {"seed": f"atft baselines --seeds {seed}"})
    place = places.run_place(job.root, run_name(name, resolved, job.ground.panel))
    place.fetch()
    run_result = place.path / "result.json"
    if not run_result.exists():
        job.tell(f"{name}, seed {seed}" if name in rivals.SEEDED else name, 0.0)
        if name in rivals.TRAINED:
            _train(job, name, resolved, place)  # type: ignore[arg-type]
        else:
            _fit(job, name, resolved, place)
    return runs.open_run(place.path), result.read(run_result)


def run_name(name: str, resolved: Resolved, panel: Panel) -> str:
    """Such as ``baseline-mlp-tier1-s1-0f3a9c21``: the same for the same baseline, settings, data and version."""
    told = json.dumps([name, resolved.tier.sha256(), panel.sha256, __version__])
    mark = hashlib.sha256(told.encode()).hexdigest()[:8]
    seed = f"-s{resolved.tier.seed}" if name in rivals.SEEDED else ""
    return f"baseline-{name.replace('_', '-')}-{resolved.tier.name}{seed}-{mark}"


def _fit(job: Job, name: str, resolved: Resolved, place: Place) -> None:
    """A baseline that is no network: fit it, evaluate it once, write result and report."""
    started = time.monotonic()
    ground = replace(job.ground, tier=resolved.tier)
    rival = rivals.FITTED[name](ground)
    seconds = time.monotonic() - started
    found = evaluated(
        rival.scores, ground, place.registry, run=place.path.name, summary=rival.summary, simple=job.simple,
        runtime_seconds=seconds,
        **rivals.result_fields(rival),
    )  # fmt: skip
    run = _opened(job, name, resolved, place)
    with _followed(job, place, run), place.kept(), EventLog(run.events) as events:
        for file, text in rival.files.items():
            write_text(run.path / file, text)
        score_table.write(found.scores, run.path / score_table.TEST_SCORES)
        result.write(run.result, found.result)
        events.write("run_finished", result=str(run.result), seconds=found.result.runtime_seconds)
        write_report(run.path)


def _train(job: Job, name: Architecture, resolved: Resolved, place: Place) -> None:
    """A network of another architecture, by the tier's own steps, batches, objective, epochs and choice of epoch."""
    rival = matched(resolved.tier, name, len(job.ground.panel.feature_names))
    tier = replace(resolved, tier=rival.tier, provenance=_provenance(resolved, rival))
    run = _opened(job, name, tier, place)
    setup = prepare(rival.tier, job.ground.panel, progress=job.tell)
    if not rival.is_close:
        setup = replace(setup, warnings=(*setup.warnings, _apart(name, rival)))
    with _followed(job, place, run) as state, progress(job.quiet) as screen:
        fit_here(
            run, place, setup, state.showing(screen), resume=has_checkpoint(run.path), baseline=_described(name, rival)
        )


def _followed(job: Job, place: Place, run: Run) -> AbstractContextManager[Following]:
    """The index of runs is told what becomes of the run."""
    return tracked(place, run, command=job.command, workers="1", resumed=has_checkpoint(run.path))


def _opened(job: Job, name: str, resolved: Resolved, place: Place) -> Run:
    """The run's directory: made now, or that of a training which was stopped."""
    if (place.path / "config.json").exists():
        return runs.open_run(place.path)
    return runs.create(
        place.path, resolved, job.panel, job.ground.panel.manifest, job.command, baseline=name
    )  # fmt: skip


def _provenance(resolved: Resolved, rival: Matched) -> dict[str, str]:
    solved = f"solved for {rival.wanted:,} parameters, comes to {rival.parameters:,}"
    phases = {f"phases.{phase}.parts": "atft baselines" for phase in rival.tier.phases}
    return resolved.provenance | {
        "model.architecture": "atft baselines", "model.hidden_size": solved, "description": "atft baselines", **phases
    }  # fmt: skip


def _described(name: str, rival: Matched) -> result.BaselineRun:
    settings: dict[str, str | int | float] = {
        "hidden_size": rival.tier.model.hidden_size,
        "parameters_of_tier": rival.wanted,
        "parameter_difference": rival.difference,
    }
    return result.BaselineRun(name=name, rule=f"{name} trained as the tier is", settings=settings)


def _apart(name: str, rival: Matched) -> str:
    return (
        f"the {name} nearest to the tier's {rival.wanted:,} parameters has {rival.parameters:,}, "
        f"{100 * rival.difference:+.0f} %: a hidden size is a whole number, and the tier is very small"
    )
