"""A sweep from what is asked to its table: every point checked, every run trained, kept in one directory."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from atft.data.graph import trailing_graph
from atft.data.panel import Panel
from atft.errors import UseError
from atft.experiment import runs, sweep, sweep_table, validation_days
from atft.experiment.sweep_plan import Plan, Point, Trial, planned
from atft.experiment.sweep_table import Member
from atft.experiment.validation_days import ValidationDays
from atft.launch import places, sweep_text
from atft.launch.places import Place
from atft.launch.sweep_book import Book
from atft.launch.sweep_trial import Job, trials_of
from atft.launch.tracked import planned as planned_run
from atft.launch.training import asked_to_stop
from atft.launch.workers import Workers
from atft.train.setup import check_panel
from atft.train.wishes import Interrupted

Say = Callable[[str], None]


@dataclass(frozen=True)
class SweepRequest:
    """A sweep that is to be carried out.

    Attributes:
        name: of a shipped sweep, or a file.
        flags: settings that all points share, by dotted path.
        data: the panel; that of the sweep where it is resumed.
        runs_root: where the sweep's directory goes, a directory or a URI.
        run: name of that directory; that of the sweep where not given.
        resume: go on with the sweep that is there.
        hold, seeds: in place of what the file states.
        at_once: most trials at the same time; None: as many as there is room for.
        scheduler: ``none``, or ``asha``, which stops trials early.
        search: ``grid`` of the values, or ``optuna`` in the range.
        address: of a Ray cluster.
        command: what the user typed.
        say: shows a line of progress.
    """

    name: str
    flags: Mapping[str, Any]
    data: Path | None
    runs_root: Path
    run: str | None = None
    resume: bool = False
    hold: str | None = None
    seeds: str | None = None
    at_once: int | None = None
    scheduler: str = "none"
    search: str = "grid"
    address: str | None = None
    command: list[str] = field(default_factory=list)
    say: Say = lambda line: None


def plan_of(wanted: SweepRequest) -> Plan:
    """Every point of what is asked for, resolved and checked by its tier.

    Raises:
        UseError: all that is refused, before anything is trained.
    """
    seeds = None if wanted.seeds is None else sweep.seeds_of(wanted.seeds)
    asked = sweep.changed(sweep.read(wanted.name), seeds=seeds, hold=wanted.hold)
    plan = planned(asked, wanted.flags, search=wanted.search != "grid")
    if wanted.scheduler == "asha":
        _check_early_stops(wanted, plan)
    return plan


def _check_early_stops(wanted: SweepRequest, plan: Plan) -> None:
    if plan.sweep.path in (sweep.EPOCHS, "max_epochs") or plan.sweep.path.endswith(".epochs"):
        raise UseError(
            f"--scheduler asha: the points of {plan.sweep.name} have different phases at the same epoch, and cannot be "
            "compared there. Mend: --scheduler none."
        )
    if wanted.search != "grid" and len(plan.sweep.seeds) > 1:
        raise UseError(
            f"--scheduler asha with --search {wanted.search}: a trial of {len(plan.sweep.seeds)} seeds has no epoch to "
            f"be stopped at. Mend: one seed, --seeds 1, or --scheduler none."
        )


def dry_run(wanted: SweepRequest) -> dict[str, Any]:
    """What a sweep would do, without doing any of it; the panel is checked where one is named."""
    plan = plan_of(wanted)
    if wanted.data is not None:
        _check_panel(plan, places.open_panel(wanted.data))
    report = sweep_text.of_plan(plan, wanted.search)
    return report | {"text": sweep_text.plan_lines(plan, report)}


def sweep_run(wanted: SweepRequest) -> dict[str, Any]:
    """Train every run of a sweep that is not trained yet, and tell what they came to.

    Raises:
        UseError: before anything is trained.
        Interrupted: it was asked to stop; --resume goes on.
    """
    plan = plan_of(wanted)
    place = places.run_place(wanted.runs_root, wanted.run or plan.sweep.name)
    book = Book.read(place) if wanted.resume else None
    if wanted.resume and book is None:
        raise UseError(f"--resume: there is no sweep at {place.path}. Mend: leave --resume out to begin it.")
    data = wanted.data or (Path(book.told["panel"]) if book else None)
    if data is None:
        raise UseError("--data is missing: the panel to train on. Mend: `atft data synth DIR`, then --data DIR/panel.")
    panel = places.open_panel(data)
    _check_panel(plan, panel)
    told = _definition(wanted, plan, data, panel)
    if book is None:
        _check_new(place)
        book = Book(place, told)
    else:
        book.check_same(told, {trial.name: trial.resolved.tier.sha256() for trial in plan.trials})
    ray_tune = _ray_tune(wanted.search)
    for graph in {point.tier.graph.model_dump_json(): point.tier.graph for point in _all_points(plan)}.values():
        trailing_graph(panel, graph)  # once, beside the panel, and not by every trial for itself
    root = places.absolute(wanted.runs_root) / place.path.name
    note_planned(book, plan.trials, root)
    _carry_out(ray_tune, wanted, plan, book, Job(plan, root, places.absolute(data), wanted.command))
    return _told(wanted, plan, book, root)


def note_planned(book: Book, trials: Sequence[Trial], root: Path) -> None:
    """Write down every run that is going to be, before the first one starts."""
    for trial in trials:
        if not book.knows(trial.name):
            planned_run(places.run_place(root, trial.name), trial.resolved.tier)
        book.plan(trial)
    book.write()


def _carry_out(ray_tune: ModuleType, wanted: SweepRequest, plan: Plan, book: Book, job: Job) -> None:
    by_epoch = wanted.scheduler == "asha"
    stopped = frozenset(book.named("stopped"))
    left = [trial.name for trial in plan.trials if book.state(trial.name) != "done"]
    if wanted.search == "grid" and not left:
        return
    tiers = [point.tier for point in _all_points(plan)]
    epochs = max(sum(phase.epochs for phase in tier.phases_to_run().values()) for tier in tiers)
    first_phase = next(iter(plan.base.tier.phases_to_run().values())).epochs
    threads = plan.base.tier.runtime.threads
    wanted.say(f"each trial takes {threads} processor(s)" + (f", {wanted.at_once} at once" if wanted.at_once else ""))
    room = Workers(1, max(1, threads * (wanted.at_once or 1)))
    # In this order: Ray takes SIGTERM for itself when it starts.
    with ray_tune.cluster(wanted.address, room), asked_to_stop() as wishes:
        tuning = ray_tune.Tuning(
            told=Job(plan, job.root, job.panel, job.command, stopped, by_epoch).pickled(), place=book.place,
            at_once=wanted.at_once, threads=threads, epochs=epochs,
            grace=plan.sweep.grace_epochs or first_phase, heard=_listener(plan, book, job.root, wanted.say),
            wishes=wishes,
        )  # fmt: skip
        if wanted.search == "grid":
            # A scheduler decides by all that trials have told: those of an earlier sitting tell it again.
            names = [trial.name for trial in plan.trials] if by_epoch else left
            spared = [trial.name for trial in plan.trials if trial.point == plan.reference]
            ray_tune.grid(tuning, names, spared=spared, asha=by_epoch)
        else:
            _search(ray_tune, tuning, plan, book, job.root, asha=by_epoch)
    if wishes.stop:
        book.interrupt()
        book.write()
        raise Interrupted(
            f"stopped as asked; {len(book.named('done'))} runs are finished. Mend: the same command with --resume goes "
            "on from the checkpoints of the others."
        )


def _search(ray_tune: ModuleType, tuning: Any, plan: Plan, book: Book, root: Path, *, asha: bool) -> None:
    """Suggest values, knowing what is finished; those that were begun come first."""
    assert plan.sweep.range is not None
    known, begun = [], [float(point.value) for point in plan.points]
    for value in book.values():
        found = [run.value for run in _finished(plan, plan.suggested(value), root).values()]
        if len(found) == len(plan.sweep.seeds):
            known.append((value, sum(-1e30 if each is None else each for each in found) / len(found)))
            begun = [each for each in begun if each != value]
        elif value not in begun:
            begun.append(value)
    seed = plan.base.tier.seed
    ray_tune.search(tuning, plan.sweep.range, seed=seed, known=known, first=begun, asha=asha)


def _listener(plan: Plan, book: Book, root: Path, say: Say) -> Callable[[Mapping[str, Any], str, str | None], None]:
    """Keeps the book when a trial starts or ends."""

    def heard(config: Mapping[str, Any], state: str, error: str | None) -> None:
        for trial in trials_of(plan, config):
            if book.state(trial.name) == "done":
                continue  # told again, for a scheduler
            found = _validation(places.run_place(root, trial.name))
            now = "done" if found else {"ended": "stopped"}.get(state, state)
            book.note(trial, now, error, found)
            said = "" if found is None else f", validation {found.metric} {_figure(found.value)}"
            say(f"{trial.name}: {now}{said}{f': {error}' if error and not found else ''}")
        book.write()

    return heard


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.4f}"


def _finished(plan: Plan, point: Point, root: Path) -> dict[int, ValidationDays]:
    found = {trial.seed: _validation(places.run_place(root, trial.name)) for trial in plan.trials_of(point)}
    return {seed: run for seed, run in found.items() if run is not None}


def _validation(place: Place) -> ValidationDays | None:
    """The validation days of a run; of one in an object store, that file alone is fetched."""
    if place.uri is not None:
        store = places.store_of(place)
        if not store.exists(validation_days.NAME):
            return None
        place.path.mkdir(parents=True, exist_ok=True)
        store.download(validation_days.NAME, place.path / validation_days.NAME)
    return validation_days.read(place.path)


def _told(wanted: SweepRequest, plan: Plan, book: Book, root: Path) -> dict[str, Any]:
    """The table of all that finished, written beside the runs and told."""
    points = list(plan.points) if wanted.search == "grid" else _searched(plan, book)
    members = [
        Member(
            point.name, point.value, _finished(plan, point, root),
            {trial.seed: book.state(trial.name) for trial in plan.trials_of(point)},
        )
        for point in points
    ]  # fmt: skip
    reference = plan.reference
    found = sweep_table.table(members, reference.name if reference else None)
    report = sweep_text.report_of(plan, found, book, wanted.runs_root / book.place.path.name)
    book.conclude(found, sweep_text.files_of(report))
    return report | {"text": sweep_text.report_lines(report)}


def _searched(plan: Plan, book: Book) -> list[Point]:
    """The tier as it is and every suggestion, by value."""
    points = {point.name: point for point in (*plan.points, *(plan.suggested(value) for value in book.values()))}
    return sorted(points.values(), key=lambda point: float(point.value))


def _definition(wanted: SweepRequest, plan: Plan, data: Path, panel: Panel) -> dict[str, Any]:
    return {
        "sweep": plan.sweep.model_dump(mode="json"), "search": wanted.search, "scheduler": wanted.scheduler,
        "base_sha256": plan.base.tier.sha256(), "panel": str(places.absolute(data)), "panel_sha256": panel.sha256,
        "command": wanted.command, "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _check_new(place: Place) -> None:
    try:
        runs.check_new(place.path)
        place.check_new()
        taken = Book.read(place) is not None
    except UseError:
        taken = True
    if taken:
        raise UseError(
            f"sweep {place.uri or place.path}: exists already, and nothing is written over. "
            "Mend: --resume to go on with it, or --run NAME for a directory of another name."
        )


def _check_panel(plan: Plan, panel: Panel) -> None:
    """Every point can be trained on the panel, and every reason why one cannot."""
    problems: dict[str, list[str]] = {}
    for point in _all_points(plan):
        try:
            check_panel(point.tier, panel)
        except UseError as error:
            problems.setdefault(str(error), []).append(point.name)
    if problems:
        told = "\n".join(f"  {', '.join(points)}: {text}" for text, points in problems.items())
        raise UseError(f"sweep {plan.sweep.name}: the panel does not suit every point:\n{told}")


def _all_points(plan: Plan) -> Sequence[Point]:
    """The points that are known beforehand, the bounds of a search among them."""
    asked = plan.sweep.range
    if plan.points or asked is None:
        return plan.points
    return [plan.suggested(asked.low), plan.suggested(asked.high)]


def _ray_tune(search: str) -> ModuleType:
    try:
        found = import_module("atft.launch.ray_tune")
    except ModuleNotFoundError as error:
        raise UseError(f"a sweep needs Ray ({error}). Mend: pip install 'atft[ray]'.") from None
    if search != "grid":
        found.check_search()
    return found
