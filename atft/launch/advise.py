"""``atft advise``: measures on this machine what a tier's or a run's batch could be, and tells it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from atft.config import Phase, Tier
from atft.errors import UseError
from atft.experiment import advise, advise_branch, advise_measure
from atft.experiment.advise_branch import Rate
from atft.experiment.advise_measure import Tell
from atft.experiment.advise_rules import Rules
from atft.experiment.advise_walk import Walk
from atft.experiment.runs import Run, open_run
from atft.experiment.tiers import resolve
from atft.launch import places
from atft.launch.baselines import seeds_of
from atft.observe import events
from atft.observe.console import stages
from atft.observe.events import Event, EventLog
from atft.storage import is_remote
from atft.train.loop import Trainer
from atft.train.noise_scale import Estimate
from atft.train.setup import Setup, prepare

WIDTH = 118
"""Columns of the text."""
SEEDS = 3
"""Of the branches, where none are named."""


@dataclass(frozen=True)
class Wanted:
    """What is asked.

    Attributes:
        target: name or file of a tier, or a run's directory.
        flags: dotted path to value.
        data: the panel; of a run its own, where none is given.
        steps: of the short training.
        phase: of the tier; its last one where none is named.
        seeds: numbers with commas; the tier's own where not given, with two more for branches.
        candidates: stock-days with commas.
        branch: measure the critical batch too.
        branch_samples: stock-days of each branch.
        branch_rate: how the learning rate follows the batch.
        quiet: say nothing on the way.
    """

    target: str
    flags: Mapping[str, Any]
    data: Path | None
    steps: int = 100
    phase: str | None = None
    seeds: str | None = None
    candidates: str = advise.CANDIDATES
    branch: bool = False
    branch_samples: int | None = None
    branch_rate: Rate = "sqrt"
    quiet: bool = False


@dataclass(frozen=True)
class Measured:
    """A network at the weights that advice is given at.

    Attributes:
        walk: stands there.
        noise: scale of its gradient.
        where: at which weights that is.
        start: what branches begin with.
        phases: noise by phase, of a run.
    """

    walk: Walk
    noise: Estimate
    where: str
    start: str
    phases: Sequence[Event] = ()


def advised(wanted: Wanted) -> dict[str, Any]:
    """How big a batch: figures as plain data, and ``text``.

    Raises:
        UseError: bad settings, panel, phase, candidates or seeds.
        RunError: a gradient is not finite, or memory does not suffice.
    """
    sizes = advise.parse(wanted.candidates)
    tell = stages(wanted.quiet)
    run = _run_of(wanted)
    tier = run.tier if run else resolve(wanted.target, flags=wanted.flags).tier
    seeds = seeds_of(wanted.seeds, tier.seed)
    if wanted.branch:
        seeds = _of_branches(wanted, tier, seeds)
    phase_name, phase = _phase(tier, wanted.phase)
    panel = wanted.data or (run.panel if run else None)
    if panel is None:
        raise UseError(
            "--data is missing: the panel to measure on. Mend: `atft data synth DIR`, then --data DIR/panel."
        )
    setup = prepare(tier, places.open_panel(panel), progress=tell)
    among = advise_measure.candidates(setup, sizes)
    branching = advise_measure.possible(among) if wanted.branch else []
    found = _of_run(run, setup, wanted.phase) if run else _of_tier(setup, phase_name, phase, wanted, seeds, tell)
    return _report(wanted, tier, found, among, branching, seeds, tell)


def _report(
    wanted: Wanted, tier: Tier, found: Measured, among: Sequence[advise.Candidate],
    branching: Sequence[advise.Candidate], seeds: Sequence[int], tell: Tell,
) -> dict[str, Any]:  # fmt: skip
    walk = found.walk
    start = walk.state()
    rules = Rules.of(walk.setup.parameters)
    tell("seconds of a step", 0.0)
    machine = advise_measure.machine(walk)
    walk.back_to(start)
    rows = advise_measure.rows(walk, among, found.noise, machine, rules)
    rungs: list[advise_branch.Rung] = []
    if branching:
        samples = wanted.branch_samples or advise_branch.MULTIPLE * branching[-1].samples
        drawn = [seed + 1_000_003 for seed in seeds]  # other batches than the short training saw
        rungs = advise_branch.judged(advise_branch.branches(walk, branching, drawn, samples, wanted.branch_rate, tell))
    report = {
        "target": wanted.target, "tier": tier.name, "effective_batch": {**tier.batch.model_dump(),
        "samples": tier.batch.samples}, "parameters": rules.parameters, "where": found.where,
        "noise_scale": found.noise.plain(), "phases": list(found.phases),
        "rules": {**asdict(rules), "disagree": rules.disagree}, "machine": asdict(machine),
        "candidates": [each.plain() for each in rows], "branches": [each.plain() for each in rungs],
        "critical_batch": dict(zip(("above", "below"), advise_branch.critical(rungs), strict=True)) if rungs else None,
    }  # fmt: skip
    lines = [
        f"{wanted.target}: batch of {tier.batch.samples:,} stock-days = {tier.batch.days} days × "
        f"{tier.batch.stocks_per_day} stocks, {rules.parameters:,} parameters; on {machine.device}",
        *_by_phase(found.phases), "", *advise.table(rows, tier.batch.samples), _LEGEND, "",
        *_wrapped(advise.conclusions(tier, rows, found.noise, rules, found.where)),
    ]  # fmt: skip
    if rungs:
        lines += ["", *_wrapped(advise_branch.as_text(rungs, len(seeds), wanted.branch_rate, found.start))]
    return report | {"text": "\n".join(lines)}


_LEGEND = (
    "* the tier's own. Sharpe error: deviation that sampling alone gives a batch's Sharpe ratio. data ×, steps ×:\n"
    "over the fewest possible, by the noise scale. step, epoch, run, memory: predicted from two sizes measured here,\n"
    "data gathered within the step. rules: √p, 10√p, the table's least and best batch."
)


def _wrapped(lines: Iterable[str]) -> Iterator[str]:
    """Sentences in lines of a screen; what is shorter, such as a table's rows, stays."""
    for line in lines:
        yield line if len(line) <= WIDTH else textwrap.fill(line, WIDTH, subsequent_indent="  ")


def _run_of(wanted: Wanted) -> Run | None:
    """The run that is meant, if it is one."""
    path = Path(wanted.target)
    if not (is_remote(path) or path.is_dir()):
        return None
    run = open_run(places.place_of(path).path)
    if not wanted.flags:
        return run
    now = resolve(run.tier.name, flags=wanted.flags, base=run.tier).tier
    if now.sha256() != run.tier.sha256():
        raise UseError(
            f"run {path}: its weights belong to its settings, and --set changes what is learned by. Mend: leave it "
            f"out, or `atft advise {run.tier.name} --data {run.panel} --set …`."
        )
    return replace(run, tier=now)


def _of_branches(wanted: Wanted, tier: Tier, seeds: list[int]) -> list[int]:
    if wanted.seeds is None:
        return [tier.seed + number for number in range(SEEDS)]
    if len(seeds) < advise_branch.LEAST_SEEDS:
        raise UseError(f"--seeds {wanted.seeds}: --branch needs at least two, to know noise. Mend: --seeds 1,2,3.")
    return seeds


def _phase(tier: Tier, name: str | None) -> tuple[str, Phase]:
    known = tier.phases_to_run()
    name = name or list(known)[-1]
    if name not in known:
        raise UseError(f"--phase {name}: tier {tier.name} trains no such phase. There are: {', '.join(known)}.")
    return name, known[name]


def _of_tier(setup: Setup, name: str, phase: Phase, wanted: Wanted, seeds: Sequence[int], tell: Tell) -> Measured:
    walk = Walk(setup, phase)
    noise = advise_measure.noise_after(walk, wanted.steps, seeds, tell)
    where = f"after {wanted.steps} steps of phase {name} from initial weights"
    return Measured(walk, noise, where, f"{where}, seed {seeds[0]}, with the optimizer's state")


def _of_run(run: Run, setup: Setup, phase: str | None) -> Measured:
    """The best weights of a run's last phase, and what its events tell of noise."""
    told = events.latest(events.read(run.events), "noise_scale", ("phase",))
    with Trainer(setup, run.path, EventLog(None)) as trainer:
        trainer.resume(restore=False)
        if trainer.best:
            trainer.load_best()
        names = list(trainer.phases)
        reached = names[min(trainer.progress.phase, len(names) - 1)]
    name = phase or reached
    if name not in names:
        raise UseError(f"--phase {name}: run {run.path} has no such phase. There are: {', '.join(names)}.")
    last = next((each for each in told if each["phase"] == name), None)
    where = f"of phase {name}" + (f", up to step {last['step']} of the run" if last else "")
    return Measured(
        Walk(setup, trainer.phases[name]), _noted(last, run, name), where,
        f"the best of {run.path.name}, with a fresh optimizer", told,
    )  # fmt: skip


def _noted(event: Event | None, run: Run, phase: str) -> Estimate:
    if event is None:
        every = run.tier.runtime.noise_scale_steps
        why = f"the run measured nothing in phase {phase} (runtime.noise_scale_steps = {every})"
        return Estimate(
            0, reason=f"{why}; `atft advise {run.tier.name} --data {run.panel}` measures after a short training"
        )
    return Estimate(**{name: event[name] for name in Estimate.__dataclass_fields__})


def _by_phase(found: Sequence[Event]) -> list[str]:
    lines = []
    for each in found:
        if each["noise_scale"] is None:
            least = f", at least {each['at_least']:,.0f}" if each["at_least"] else ""
            text = f"not estimable ({each['reason']}){least}"
        else:
            text = f"{each['noise_scale']:,.0f} stock-days (95 %: {each['low']:,.0f} to {each['high']:,.0f})"
        lines.append(f"  noise scale, {each['phase']}, step {each['step']}, {each['measured']} measured: {text}")
    return lines
