"""``atft ensemble``: one tier trained with several seeds, its members combined, evaluated once as one model."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from atft.data.loader import processors
from atft.data.manifest import sha256_of
from atft.data.panel import Panel
from atft.errors import AtftError, RunError, UseError
from atft.evaluate import result
from atft.evaluate.ensemble import Combine, combined, gains
from atft.evaluate.metrics import Floats
from atft.evaluate.summary import TRADING_DAYS
from atft.experiment import ensemble, runs, score_table
from atft.experiment.assess import Ground, evaluated
from atft.experiment.ensemble import Ensemble, Member, member_name
from atft.experiment.matched import changed
from atft.experiment.tiers import Resolved, resolve
from atft.launch import places, texts
from atft.launch.baselines import ground_of, seeds_of
from atft.launch.local import tier_file, train_run
from atft.launch.places import Place
from atft.launch.prediction import Model, Trained
from atft.launch.request import TrainRequest
from atft.launch.tracked import planned, tracked
from atft.launch.training import asked_to_stop
from atft.launch.validate import before_training
from atft.observe.console import stages
from atft.observe.events import EventLog
from atft.report.html import write_report
from atft.train.wishes import Interrupted

POLL_SECONDS = 0.1
CORES_OF_A_MEMBER = 4
"""Processors for each member that trains at the same time, where their number is not stated."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        request: the training of a member, but for seed and name; its name is that of the ensemble.
        seeds: of the members.
        combine: how their scores become one.
        at_once: members that train at the same time; as many as the machine allows where None.
    """

    request: TrainRequest
    seeds: tuple[int, ...]
    combine: Combine
    at_once: int | None


def ensemble_run(wanted: Wanted) -> dict[str, Any]:
    """Train the members that are not there yet, combine them, evaluate the ensemble once, write result and report.

    Raises:
        UseError: before anything is computed: settings, panel or seeds that cannot be, or another ensemble of the name.
        RunError: a member's training had to stop; the other members stay, and the same command goes on.
    """
    request = wanted.request
    runs.check_free_name(request.name)
    resolved = resolve(request.tier, flags=request.flags)
    tier = resolved.tier
    if request.data is None:
        raise UseError("--data is missing: the panel to train on. Mend: `atft data synth DIR`, then --data DIR/panel.")
    if tier.seed not in wanted.seeds:  # what the ensemble's own description says is one of its members
        resolved = Resolved(changed(tier, {"seed": wanted.seeds[0]}), resolved.provenance | {"seed": "--seeds"})
    panel = places.open_panel(request.data)
    ground = ground_of(resolved, panel)
    place = places.run_place(request.runs_root, request.name or f"ensemble-{runs.new_name(tier)}")
    place.fetch()
    _check_place(place, resolved, wanted)
    checks = before_training(request, resolved, request.data, resumed=place.path.exists())
    wanted = replace(wanted, request=replace(request, checks=checks))
    tell = stages(request.quiet)
    root = request.runs_root / place.path.name
    for seed in wanted.seeds:
        member = places.run_place(root, member_name(seed))
        if not member.path.exists():
            planned(member, changed(resolved.tier, {"seed": seed}), command=request.command)
    try:
        _train(wanted, root, tell)
    except Interrupted as stopped:
        told = str(stopped).partition(" Mend:")[0]
        raise Interrupted(f"{told} Mend: the same command with --run {place.path.name} --again goes on.") from None
    started = time.monotonic()
    own = [places.place_of(root / member_name(seed)) for seed in wanted.seeds]
    members = [Trained.open(each.path) for each in own]
    for each in members:
        _check_member(each, resolved, panel)
    tell("scores of the members", 0.0)
    periods = {"validation": ground.periods.validate, "test": ground.periods.test}
    scores = {name: [Model.of(each).scores(panel, days) for each in members] for name, days in periods.items()}
    found = Ensemble(
        combine=wanted.combine,
        members=tuple(_member(each) for each in members),
        gains={name: _gains(ground, days, scores[name], wanted.combine) for name, days in periods.items()},
    )
    run = _created(place, resolved, panel, wanted, checks)
    ensemble.write(run.path, found)
    seconds = sum(result.read(each.run.result).runtime_seconds for each in members) + time.monotonic() - started
    assessed = evaluated(
        combined(scores["test"], wanted.combine), ground, place.registry, run=place.path.name,
        variant=f"ensemble of {len(members)} {wanted.combine}", weights=None, **_made(members, found, seconds),
    )  # fmt: skip
    with (
        tracked(place, run, command=request.command, workers=request.workers, resumed=False),
        place.kept(), EventLog(run.events) as events,
    ):  # fmt: skip
        score_table.write(assessed.scores, run.path / score_table.TEST_SCORES)
        result.write(run.result, assessed.result)
        events.write("run_finished", result=str(run.result), seconds=seconds)
        write_report(run.path)
    return _told(run, found, assessed.result)


def parse_seeds(text: str, own: int) -> tuple[int, ...]:
    """``5`` as that many seeds from the tier's own on, ``1,2,7`` as they are.

    Raises:
        UseError: something else, or fewer than two.
    """
    word = text.strip()
    if "," not in word and word.isascii() and word.isdigit():
        seeds = tuple(range(own, own + int(word)))
    else:
        seeds = tuple(seeds_of(text, own))
    if len(seeds) < 2:
        raise UseError(f"--seeds {text}: an ensemble has at least two members. Mend: --seeds 5, or --seeds 1,2,3.")
    return seeds


def _check_place(place: Place, resolved: Resolved, wanted: Wanted) -> None:
    """What lies there is nothing, or the same ensemble that was not finished."""
    if (place.path / "result.json").exists():
        raise UseError(f"run {place.path}: exists already, and is finished. Mend: `atft report {place.path}` shows it.")
    if (place.path / "config.json").exists() and runs.open_run(place.path).tier.sha256() != resolved.tier.sha256():
        raise UseError(f"run {place.path}: is of other settings. Mend: another --run.")
    if place.path.exists() and not wanted.request.again:
        raise UseError(
            f"run {place.path}: exists already, and a run is never written over. "
            f"Mend: another --run, or --run {place.path.name} --again to go on with its members."
        )


def _train(wanted: Wanted, root: Path, tell: Any) -> None:
    """Every member to its end: in this process one after another, or several processes at once."""
    request = wanted.request
    at_once = wanted.at_once or max(1, processors() // CORES_OF_A_MEMBER)
    members = [
        replace(request, flags={**request.flags, "seed": seed}, runs_root=root, name=member_name(seed), again=True)
        for seed in wanted.seeds
    ]
    if at_once == 1:
        for member in members:
            tell(f"{member.name}", 0.0)
            train_run(member)
        return
    tell(f"{len(members)} members, {at_once} at once", 0.0)
    _train_at_once(members, at_once)


def _train_at_once(members: list[TrainRequest], at_once: int) -> None:
    """Train members in processes of their own; where one fails or it is asked to stop, the others leave checkpoints."""
    waiting, running = deque(members), list[_Alone]()
    threads = max(1, processors() // at_once)
    with asked_to_stop() as wishes:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(_Alone(waiting.popleft(), threads))
                for each in [each for each in running if not each.process.is_alive()]:
                    running.remove(each)
                    each.check()
                if wishes.stop:
                    raise Interrupted("stopped as asked; the checkpoints of all members are written.")
                time.sleep(POLL_SECONDS)
        finally:
            for each in running:
                each.process.terminate()  # asked to, it ends with a checkpoint
            for each in running:
                each.process.join()


class _Alone:
    """A member that trains in a process of its own, on its share of the processors."""

    def __init__(self, request: TrainRequest, threads: int) -> None:
        self._name = request.name
        self._heard, told = Pipe(duplex=False)
        asked = replace(request, flags={"runtime.threads": threads, **request.flags}, quiet=True)
        self.process = get_context("spawn").Process(target=_train_and_tell, args=(asked, told))
        self.process.start()
        told.close()

    def check(self) -> None:
        """Raise what ended the member, if anything did."""
        try:
            kind, text = self._heard.recv()
        except EOFError:
            kind, text = "", ""  # it had nothing to tell
        if kind or self.process.exitcode:
            error = {"UseError": UseError, "Interrupted": Interrupted}.get(kind, RunError)
            raise error(f"{self._name}: {text or f'its process died with exit code {self.process.exitcode}'}")


def _train_and_tell(request: TrainRequest, told: Connection) -> None:
    """Train a member; an error is told instead of printed."""
    try:
        train_run(request)
    except AtftError as error:
        kind = "Interrupted" if isinstance(error, Interrupted) else "UseError" if isinstance(error, UseError) else "Run"
        told.send((kind, str(error)))
    except Exception as error:
        told.send(("Run", f"unexpected {type(error).__name__}: {error}"))


def _check_member(member: Trained, resolved: Resolved, panel: Panel) -> None:
    run = member.run
    alike = changed(run.tier, {"seed": resolved.tier.seed}).sha256() == resolved.tier.sha256()
    if not alike or run.panel_sha256 != panel.sha256:
        what = "other settings" if not alike else "other data"
        raise UseError(f"run {run.path}: was trained with {what} than this ensemble's. Mend: another --run.")


def _member(trained: Trained) -> Member:
    run = trained.run
    return Member(
        run=run.path.name, seed=run.tier.seed, weights=trained.weights.relative_to(run.path).as_posix(),
        weights_sha256=sha256_of(trained.weights),
    )  # fmt: skip


def _gains(ground: Ground, days: Any, scores: list[Floats], how: Combine) -> list[dict[str, Any]]:
    outcomes = ground.outcomes(days)
    horizon = ground.tier.label.horizon
    held = outcomes.holdings(scores[0])
    found = gains(scores, outcomes.returns, held, how, horizon=horizon, year=TRADING_DAYS)
    return [each.plain() for each in found]


def _created(place: Place, resolved: Resolved, panel: Panel, wanted: Wanted, checks: dict[str, Any]) -> runs.Run:
    request = wanted.request
    if (place.path / "config.json").exists():
        return runs.open_run(place.path)
    assert request.data is not None
    return runs.create(
        place.path,
        resolved,
        places.absolute(request.data),
        panel.manifest,
        request.command,
        beside_members=True,
        checks=checks,
        tier_file=tier_file(request.tier),
        more={"ensemble": {"seeds": list(wanted.seeds), "combine": wanted.combine}},
    )


def _made(members: list[Trained], found: Ensemble, seconds: float) -> dict[str, Any]:
    """The fields of the result that say how the scores came about: sums over the members."""
    results = [result.read(each.run.result) for each in members]
    first = results[0]
    return {
        "parameters": sum(each.parameters for each in results),
        "effective_batch": first.effective_batch,
        "world_size": first.world_size,
        "micro_batches": first.micro_batches,
        "precision": first.precision,
        "steps": sum(each.steps for each in results),
        "samples": sum(each.samples for each in results),
        "phases": (),
        "batch_sharpe": result.BatchSharpe(count=0, mean=None, std=None, min=None, max=None, range=None),
        "ensemble": result.EnsembleOf(combine=found.combine, seeds=tuple(each.seed for each in found.members)),
        "runtime_seconds": seconds,
    }


def _told(run: runs.Run, found: Ensemble, outcome: result.Result) -> dict[str, Any]:
    where = {"run": str(run.path), "result": str(run.result), "report": str(run.path / "report.html")}
    report: dict[str, Any] = {
        **where, "combine": found.combine, "seeds": [each.seed for each in found.members], "gains": found.gains,
        "test": outcome.test.model_dump(mode="json", exclude={"series"}),
    }  # fmt: skip
    lines = [texts.of_result(outcome, where), ""]
    for period, rows in found.gains.items():
        lines += [f"by number of members, {period} period:", *map("  ".join, _table(rows)), ""]
    lines.append(
        "choose a number of members by the validation period; intervals are over its days, ranges over subsets"
    )
    return report | {"text": "\n".join(lines)}


def _table(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    heads = ("members", "subsets", f"{'Sharpe a year':>13}", f"{'least .. most':>16}", f"{'gain of the last':>28}",
             f"{'IC':>7}", f"{'gain of the last':>28}")  # fmt: skip
    table: list[tuple[str, ...]] = [heads]
    for row in rows:
        table.append((
            f"{row['members']:>7}", f"{row['subsets']:>7}", _number(row["sharpe"], 2, 13),
            f"{_number(row['sharpe_low'], 2)} .. {_number(row['sharpe_high'], 2)}".rjust(16),
            _gain(row["sharpe_gain"], row["sharpe_gain_ci95"], 2), _number(row["ic"], 4, 7),
            _gain(row["ic_gain"], row["ic_gain_ci95"], 4),
        ))  # fmt: skip
    return table


def _number(value: float | None, digits: int, width: int = 0) -> str:
    return ("–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}").rjust(width)


def _gain(value: float | None, interval: Any, digits: int) -> str:
    if value is None:
        return "–".rjust(28)
    low, high = interval or (None, None)
    return f"{value:+.{digits}f} ({_number(low, digits)} .. {_number(high, digits)})".rjust(28)
