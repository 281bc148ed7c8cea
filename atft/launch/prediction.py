"""What a trained run says of every stock and day that can be scored, as one Parquet file."""

from __future__ import annotations

import datetime as dt
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atft.config import Tier
from atft.data.gather import scorable_days
from atft.data.graph import trailing_graph
from atft.data.manifest import Inputs, Manifest
from atft.data.panel import Panel
from atft.data.splits import periods_of
from atft.errors import UseError
from atft.evaluate.ensemble import Combine, combined
from atft.evaluate.predict import predict
from atft.experiment import ensemble, runs, score_table
from atft.experiment.runs import Run
from atft.launch import places
from atft.launch.processes import run_group
from atft.observe.console import stages
from atft.storage import Store, is_remote
from atft.train.checkpoint import load_weights
from atft.train.collectives import Group
from atft.train.keeper import phases_done
from atft.train.setup import prepare_scoring, use_machine

NAME = "predictions.parquet"
DAYS_AT_ONCE = 1
"""Each day is computed by itself: in a pass of several, the last bits of a score would depend on its neighbours, and
so on the days asked for and on days that come later."""
NAMED = 3
"""Most features that an error names."""


@dataclass(frozen=True)
class Trained:
    """A run that is trained to its end.

    Attributes:
        run: the run.
        weights: file of the best weights of its last phase.
        parts: parts of the network that this phase had on.
    """

    run: Run
    weights: Path
    parts: frozenset[str]

    @classmethod
    def open(cls, path: Path) -> Trained:
        """The run at ``path``, a directory or a URI.

        Raises:
            UseError: no run there, it is not trained to its end, or its weights cannot be read.
        """
        run = places.open_run(path)
        phases = run.tier.phases_to_run()
        if not run.result.exists():
            runs.check_trained(run, path, phases_done(run.path))
        last = list(phases)[-1]
        weights = run.path / "checkpoints" / f"best-{len(phases) - 1}-{last}.safetensors"
        load_weights(weights)
        return cls(run, weights, frozenset(phases[last].parts))


@dataclass(frozen=True)
class Model:
    """What scores a panel: a trained run, or the members of an ensemble.

    Attributes:
        run: the run, or the ensemble's own description.
        members: one trained run, or several whose scores are combined.
        combine: how; None for a single run.
        file: of its weights; of an ensemble, what lists its members and theirs.
    """

    run: Run
    members: tuple[Trained, ...]
    combine: Combine | None
    file: Path

    @classmethod
    def open(cls, path: Path) -> Model:
        """The run or ensemble at ``path``, a directory or a URI.

        Raises:
            UseError: nothing there that is trained to its end, or weights that cannot be read.
        """
        place = places.place_of(path)
        if not ensemble.is_ensemble(place.path):
            return cls.of(Trained.open(path))
        found = ensemble.read(place.path)
        members = tuple(Trained.open(place.path / each.run) for each in found.members)
        return cls(runs.open_run(place.path), members, found.combine, place.path / ensemble.NAME)

    @classmethod
    def of(cls, trained: Trained) -> Model:
        """A single run."""
        return cls(trained.run, (trained,), None, trained.weights)

    def scores(
        self, panel: Panel, days: NDArray[np.int64], *, workers: int = 1, quiet: bool = True
    ) -> NDArray[np.float64]:
        """``[days, stocks]``, NaN where a stock cannot be scored.

        Args:
            panel: the data.
            days: ``[days]`` rising day numbers.
            workers: processes of this machine that share the days.
            quiet: say nothing on the way.

        Raises:
            RunError: a score is not finite, or a worker died.
        """
        found = [_scores(each, panel, days, workers, quiet) for each in self.members]
        return combined(found, self.combine) if self.combine else found[0]


@dataclass(frozen=True)
class Wanted:
    """Which decision days to score.

    Attributes:
        period: ``train``, ``validate`` or ``test`` of the run's tier, or ``all``.
        first, last: decision days before and after these are left out; None leaves out none.
    """

    period: str = "all"
    first: dt.date | None = None
    last: dt.date | None = None

    def __str__(self) -> str:
        bounds = [f" {name} {day}" for name, day in (("--from", self.first), ("--to", self.last)) if day]
        return f"--period {self.period}{''.join(bounds)}"

    def days(self, tier: Tier, panel: Panel) -> NDArray[np.int64]:
        """Rising numbers of the days asked for on which any stock can be scored, labelled or not.

        Raises:
            UseError: bounds in the wrong order or outside the calendar, a period that the panel does not hold, or no
                day left.
        """
        self._check_bounds(panel)
        can = np.flatnonzero(scorable_days(panel.present, tier.window).any(axis=1)).astype(np.int64)
        kept = can if self.period == "all" else np.intersect1d(can, self._period(tier, panel))
        if self.first:
            kept = kept[panel.days[kept] >= np.datetime64(self.first, "D")]
        if self.last:
            kept = kept[panel.days[kept] <= np.datetime64(self.last, "D")]
        if not len(kept):
            span = f"those on which one can: {panel.days[can[0]]} to {panel.days[can[-1]]}" if len(can) else "none can"
            raise UseError(
                f"{panel.path}: {self} holds no day on which a stock can be scored ({span}); it needs a row on the day "
                f"and window.least_present = {tier.window.least_present} rows in the window.days = {tier.window.days} "
                "that end there. Mend: other days, or a panel that begins earlier."
            )
        return kept

    def _check_bounds(self, panel: Panel) -> None:
        if self.first and self.last and self.first > self.last:
            raise UseError(
                f"--from {self.first} is after --to {self.last}. Mend: --from {self.last} --to {self.first}."
            )
        for name, day in (("--from", self.first), ("--to", self.last)):
            if day and not panel.days[0] <= np.datetime64(day, "D") <= panel.days[-1]:
                raise UseError(
                    f"{name} {day}: the calendar of {panel.path} has {len(panel.days)} days from {panel.days[0]} to "
                    f"{panel.days[-1]}. Mend: a date inside it, or no {name}."
                )

    def _period(self, tier: Tier, panel: Panel) -> NDArray[np.int64]:
        """The days as training and evaluation cut them, which takes the next period's first day into account."""
        try:
            days: NDArray[np.int64] = getattr(periods_of(tier, panel), self.period)
        except UseError as error:
            why = str(error).partition(" Mend:")[0]
            raise UseError(
                f"{panel.path}: --period {self.period}: the panel does not hold the periods of tier {tier.name}: {why} "
                "Mend: --period all, with --from and --to."
            ) from None
        return days


def predict_run(
    path: Path,
    *,
    data: Path | None = None,
    wanted: Wanted = Wanted(),
    out: Path | None = None,
    overwrite: bool = False,
    workers: int = 1,
    quiet: bool = False,
) -> dict[str, Any]:
    """Score a panel with a run or an ensemble: one row for each decision day and stock that can be scored, no other.

    The file is bitwise the same for any number of workers, and a day's scores for any other days asked for with it.

    Args:
        path: the run's directory or URI.
        data: directory or URI of the panel; the run's own where None.
        wanted: the decision days.
        out: the file; ``NAME`` in the run's directory where None.
        overwrite: replace a file that is there, once the new one is complete.
        workers: processes of this machine that share the days.
        quiet: say nothing on the way.

    Returns:
        What was written, for the command line.

    Raises:
        UseError: before anything is computed: a run, panel, days, file or workers that cannot be; nothing is written.
        RunError: a score is not finite, or a worker died.
    """
    started = time.monotonic()
    model = Model.open(path)
    target = out or model.run.path / NAME
    check_target(target, overwrite)
    panel = places.open_panel(data or model.run.panel)
    check_features(model.run, panel)
    days = wanted.days(model.run.tier, panel)
    _check_workers(workers, len(days))
    told = score_table.origin(model.run.path.resolve().name, model.run.tier, panel, model.file)
    table = score_table.as_table(panel, days, model.scores(panel, days, workers=workers, quiet=quiet), told)
    score_table.write(table, target)
    if out is None and is_remote(path):
        _store(target, path)
    report = {
        "run": str(path), "panel": str(panel.path), "predictions": str(target), "rows": table.num_rows,
        "days": len(days), "first_day": str(panel.days[days[0]]), "last_day": str(panel.days[days[-1]]),
        "stocks": len(table["code"].unique()), "weights": str(model.file), "seconds": time.monotonic() - started,
    }  # fmt: skip
    return report | {"text": _text(report)}


def check_target(target: Path, overwrite: bool) -> None:
    """Whether a file can be made or replaced at ``target``, found out without leaving one.

    Raises:
        UseError: as said.
    """
    if target.exists() and not target.is_file():
        raise UseError(f"{target}: is no file that could be replaced. Mend: --out FILE.")
    if target.exists() and not overwrite:
        raise UseError(f"{target}: exists already. Mend: another --out, or --overwrite.")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise UseError(
            f"{target}: cannot be written: {error.strerror or error}. "
            "Mend: --out FILE in a directory that is there and can be written."
        ) from None


def check_features(run: Run, panel: Panel) -> None:
    """The network takes numbers by their place: the panel's features have to be those that it learned from.

    Raises:
        UseError: they are not, or it cannot be told.
    """
    if panel.sha256 == run.panel_sha256:
        return
    if told := _difference(_learned_from(run), panel.manifest.inputs):
        raise UseError(
            f"{panel.path}: its features are not those that run {run.path} learned from in {run.panel}: {told}. "
            "Mend: build the panel with the same roles and options, from a table with the same columns."
        )


def _learned_from(run: Run) -> Inputs:
    """The features of the panel that a run was started on: as the run tells them, or that panel's manifest."""
    if run.inputs is not None:
        return run.inputs
    try:
        found = places.open_panel(run.panel).manifest if is_remote(run.panel) else Manifest.read(run.panel)
        why = "" if found.sha256 == run.panel_sha256 else "was replaced by other data"
    except UseError as error:
        why = f"cannot be read ({str(error).partition(' Mend:')[0].removesuffix('.')})"
    if why:
        raise UseError(
            f"run {run.path}: its panel {run.panel} {why}, so that it cannot be told which features it learned from. "
            f"Mend: put that panel's manifest.json back (data of hash {run.panel_sha256[:12]}), which is enough."
        )
    return found.inputs


def _difference(there: Inputs, here: Inputs) -> str | None:
    """How the features of two panels differ, in words; None where they do not."""
    known, names = ([feature.name for feature in each.features] for each in (there, here))
    lacking = [name for name in known if name not in names]
    added = [name for name in names if name not in known]
    if lacking or added:
        parts = [f"{word} {_listed(each)}" for word, each in (("lacks", lacking), ("adds", added)) if each]
        return f"it {' and '.join(parts)}"
    moved = [f"{one!r} is at place {names.index(one) + 1}, not {known.index(one) + 1}"
             for one, other in zip(known, names) if one != other]  # fmt: skip
    if moved:
        return "; ".join(moved[:NAMED])
    for one, other in zip(there.features, here.features):
        if one.formula != other.formula:
            return f"{one.name!r} is {other.formula}, not {one.formula}"
    return None if there.normalise == here.normalise else f"normalised by {here.normalise}, not {there.normalise}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(map(repr, names[:NAMED])) + more


def _check_workers(workers: int, days: int) -> None:
    if not 1 <= workers <= days:
        raise UseError(
            f"--workers {workers} for {days} days to score: each worker takes at least one. "
            f"Mend: --workers from 1 to {days}."
        )


def _scores(trained: Trained, panel: Panel, days: NDArray[np.int64], workers: int, quiet: bool) -> NDArray[np.float64]:
    """Scores ``[days, stocks]``, NaN where a stock cannot be scored, computed on so many processes."""
    tell, tier = stages(quiet), trained.run.tier
    tell(f"scores of {len(days):,} days", 0.0)
    if workers == 1:
        alone = scores_of(Group(), trained, panel, days, tell)
        assert alone is not None
        return alone
    trailing_graph(panel, tier.graph, progress=tell)  # kept beside the panel, so that each worker finds it there
    timeout = tier.runtime.collective_timeout_seconds
    found: NDArray[np.float64] = run_group(scores_of, workers, trained, panel, days, timeout=timeout)[0]
    return found


def scores_of(
    group: Group,
    trained: Trained,
    panel: Panel,
    days: NDArray[np.int64],
    progress: Callable[[str, float], None] | None = None,
) -> NDArray[np.float64] | None:
    """Score a share of ``days`` as one of the workers of ``group``.

    A worker computes on the threads that the run states, or on one, however many workers there are: with other threads
    sums are rounded differently.

    Args:
        group: the workers, all of which call this.
        trained: the run.
        panel: the data.
        days: ``[days]`` rising day numbers.
        progress: told what is being prepared.

    Returns:
        ``[days, stocks]`` of all workers on the leading one, NaN where a stock cannot be scored; None on the others.

    Raises:
        RunError: a score is not finite, or another worker did not come.
    """
    tier = trained.run.tier
    ready = prepare_scoring(tier, panel, progress=progress)
    ready.network.load_state_dict(load_weights(trained.weights))
    use_machine(tier.runtime.model_copy(update={"threads": tier.runtime.threads or 1}))
    scores = predict(
        ready.network, ready.gatherer, days, trained.parts, device=ready.device,
        precision_context=ready.precision.autocast, days_at_once=DAYS_AT_ONCE, group=group,
    )  # fmt: skip
    return scores if group.leads else None


def _store(target: Path, run: Path) -> None:
    """Put the file beside the run in its object store; where that fails there is none here either."""
    try:
        Store(places.as_uri(run)).upload(target, target.name)
    except UseError:
        target.unlink()
        raise


def _text(report: dict[str, Any]) -> str:
    return (
        f"{report['predictions']}: {report['rows']:,} scores of {report['stocks']:,} stocks on {report['days']:,} days "
        f"{report['first_day']}..{report['last_day']}, in {report['seconds']:.0f} s"
    )
