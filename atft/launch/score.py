"""``atft score``: the scores of one day as Parquet, with figures of how far the data has moved since training."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atft.config import Split, Tier
from atft.data.gather import scorable_days
from atft.data.panel import Panel
from atft.data.splits import periods_of
from atft.errors import UseError
from atft.experiment import reference, score_table
from atft.experiment.reference import MOVED, SHIFTED, Drift, Reference
from atft.experiment.runs import Run
from atft.launch import places
from atft.launch.prediction import Model, Wanted, check_features, check_target
from atft.storage import Store, is_remote

SHOWN = 5
"""Features of the largest shift that the text names."""


def score_day(
    path: Path, *, data: Path, date: dt.date | None, out: Path | None, overwrite: bool, quiet: bool
) -> dict[str, Any]:
    """Score every stock of one day that can be scored.

    Args:
        path: the run or ensemble, a directory or a URI.
        data: directory or URI of the panel.
        date: the decision day; the panel's last one where None.
        out: the file; ``scores-DATE.parquet`` in the run's directory where None.
        overwrite: replace a file that is there.
        quiet: say nothing on the way.

    Raises:
        UseError: before anything is computed: no trained run, a day that cannot be scored, a file that cannot be
            written, or a panel whose features, scaling or calendar are not those of training; nothing is written.
        RunError: a score is not finite.
    """
    started = time.monotonic()
    model = Model.open(path)
    panel = places.open_panel(data)
    day = date or panel.days[-1].item()
    target = out or model.run.path / f"scores-{day}.parquet"
    check_target(target, overwrite)
    check_features(model.run, panel)
    known = reference_of(model)
    check_calendar(known, model.run, panel)
    _check_day(panel, day)
    days = Wanted(first=day, last=day).days(model.run.tier, panel)
    scorable = scorable_days(panel.present, model.run.tier.window)
    found = reference.drift(known, panel, int(days[0]), scorable)
    scores = model.scores(panel, days, quiet=quiet)
    told = score_table.origin(model.run.path.resolve().name, model.run.tier, panel, model.file)
    table = with_ranks(score_table.as_table(panel, days, scores, told))
    score_table.write(table, target)
    if out is None and is_remote(path):
        Store(places.as_uri(path)).upload(target, target.name)
    report = {
        "run": str(path), "panel": str(panel.path), "date": str(day), "scores": str(target), "rows": table.num_rows,
        "not_scored": int(panel.present[days[0]].sum()) - table.num_rows, "drift": found.plain(),
        "spread": _spread(model, panel, scores), "notes": list(_notes(model.run.tier, panel, day, known, found)),
        "seconds": time.monotonic() - started,
    }  # fmt: skip
    return report | {"text": _text(report, found)}


def with_ranks(table: pa.Table) -> pa.Table:
    """The table with a column ``rank`` (int32): 1 for the highest score, the first code where scores are equal."""
    scores = table["score"].to_numpy()
    rank = np.empty(len(scores), np.int32)
    rank[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1, dtype=np.int32)
    return table.append_column("rank", pa.array(rank, pa.int32())).replace_schema_metadata(table.schema.metadata)


def reference_of(model: Model) -> Reference:
    """What the model was trained on: as its run kept it, or of the panel that it was trained on.

    Raises:
        UseError: neither is there.
    """
    run = model.members[0].run
    found = reference.read(run.path)
    if found is not None:
        return found
    try:
        panel = places.open_panel(run.panel)
    except UseError as error:
        raise UseError(
            f"run {run.path}: has no {reference.NAME}, and its panel {run.panel} cannot be read, so that it cannot be "
            f"told what it was trained on ({str(error).partition(' Mend:')[0]}). Mend: put that panel back."
        ) from None
    if panel.sha256 != run.panel_sha256:
        raise UseError(
            f"run {run.path}: has no {reference.NAME}, and its panel {run.panel} was replaced by other data, so that "
            f"it cannot be told what it was trained on. Mend: put that panel back (hash {run.panel_sha256[:12]})."
        )
    return reference.reference_of(
        panel, periods_of(run.tier, panel).train, scorable_days(panel.present, run.tier.window)
    )


def check_calendar(known: Reference, run: Run, panel: Panel) -> None:
    """The panel has the calendar of training, as far as both go.

    Raises:
        UseError: it has not; says how it differs.
    """
    told = reference.calendar_difference(known, panel)
    if told:
        raise UseError(
            f"{panel.path}: its calendar is not that of the panel that run {run.path} was trained on: {told}. "
            "Mend: build the panel from a table of the same markets, whole days only."
        )


def _check_day(panel: Panel, day: dt.date) -> None:
    if np.datetime64(day, "D") in panel.days:
        return
    before = panel.days[panel.days < np.datetime64(day, "D")]
    near = f" The last day before it is {before[-1]}." if len(before) else ""
    raise UseError(
        f"--date {day}: is no day of the calendar of {panel.path}, {panel.days[0]} to {panel.days[-1]}.{near} "
        "Mend: a day of that calendar, or append the new day first (`atft data append`)."
    )


def _notes(tier: Tier, panel: Panel, day: dt.date, known: Reference, found: Drift) -> Any:
    """What a reader of the scores should know."""
    if day != panel.days[-1].item():
        yield f"{day} is not the panel's last day, which is {panel.days[-1]}"
    split = tier.split
    if isinstance(split, Split) and day <= split.train.last:
        yield f"{day} is not after the training period, which ends on {split.train.last}: these scores are no forecasts"
    if not isinstance(split, Split) and day <= split.last:
        yield f"{day} lies in the span of the tier's {split.scheme} scheme, to {split.last}: perhaps no forecasts"
    if np.datetime64(known.calendar[-1], "D") < panel.days[0]:
        yield f"the panel begins after the training panel's last day, {known.calendar[-1]}: no day could be compared"
    moved = found.moved
    if moved:
        names = ", ".join(each.name for each in moved[:SHOWN])
        more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
        yield f"{len(moved)} features have moved far from training: {names}{more}"
    for name, place in (("the dispersion of returns", found.dispersion_percentile),
                        ("the number of stocks", found.stocks_percentile)):  # fmt: skip
        if place is not None and place in (0.0, 100.0):
            yield f"{name} is {'below' if place == 0 else 'above'} that of every training day"


def _spread(model: Model, panel: Panel, scores: NDArray[np.float64]) -> dict[str, float | None]:
    """Spread of the day's scores, beside those of the test period."""
    now = float(np.nanstd(scores))
    try:
        tested = pa.parquet.read_table(model.run.path / score_table.TEST_SCORES)
    except (OSError, pa.ArrowException):
        return {"now": now, "percentile": None}
    dates, values = tested["date"].to_numpy(), tested["score"].to_numpy()
    then = np.array([values[dates == each].std() for each in np.unique(dates)])
    return {"now": now, "percentile": float(100 * np.mean(then < now)) if len(then) else None}


def _text(report: dict[str, Any], found: Drift) -> str:
    place = report["spread"]["percentile"]
    beside = f", above {place:.0f} % of the test days" if place is not None else ""
    lines = [
        f"{report['scores']}: {report['rows']:,} scores of {report['date']}, in {report['seconds']:.0f} s"
        + (f"; {report['not_scored']} stocks have a row that day and too few before" if report["not_scored"] else ""),
        f"spread of the scores {report['spread']['now']:.4f}{beside}",
        f"the last {found.days} days against training:",
        f"  returns disperse by {_percent(found.dispersion)} a day (percentile {_number(found.dispersion_percentile)} "
        f"of the training days), {found.stocks:,} stocks (percentile {_number(found.stocks_percentile)})",
        f"  {'feature':28} {'stability index':>16} {'missing':>9} {'in training':>12}",
    ]
    for each in found.features[:SHOWN]:
        index = "–" if each.stability_index is None else f"{each.stability_index:.3f}"
        lines.append(f"  {each.name:28} {index:>16} {each.missing:>9.1%} {each.missing_then:>12.1%}")
    lines.append(f"  (an index below {SHIFTED} is usual, from {MOVED} on the feature has moved far)")
    return "\n".join([*lines, *(f"note: {each}" for each in report["notes"])])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
