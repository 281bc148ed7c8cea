"""The folds of a tier: listed before training, trained one after another, and put together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atft.config import Combinatorial, Scheme, Split, Tier
from atft.data.folds import groups
from atft.data.panel import Panel
from atft.data.splits import cut, decisions_within, fold_of, folds_of, input_reach
from atft.errors import UseError
from atft.evaluate import result
from atft.evaluate.folds import Folds, Span, gathered
from atft.experiment import runs
from atft.experiment.tiers import resolve
from atft.launch import fold_texts, local, places
from atft.launch.places import Place
from atft.launch.request import TrainRequest
from atft.launch.tracked import planned
from atft.launch.validate import checked_folds
from atft.schemes import fold_name
from atft.storage import Store
from atft.train.checkpoint import write_text
from atft.train.setup import check_periods
from atft.train.wishes import Interrupted

NAME = "folds.json"

Calendar = npt.NDArray[np.datetime64]


def list_folds(tier_name: str, flags: Mapping[str, Any], data: Path | None) -> dict[str, Any]:
    """Every fold of a tier: its dates, its days, and what the purge and the embargo left out.

    Args:
        tier_name: name or file of the tier.
        flags: dotted path to value.
        data: the panel; without one weekdays stand for its calendar, and computed features for its own.

    Raises:
        UseError: the settings, the panel, or a fold without days.
    """
    tier = resolve(tier_name, flags=flags).tier
    panel = places.open_panel(data) if data else None
    days = panel.days if panel else _weekdays(tier)
    inputs = input_reach(tier, panel.manifest.features, panel.manifest.longest_span) if panel else _usual_reach(tier)
    found = [(each.split, cut(days, each.split, each.label, inputs)) for each in folds_of(tier)]
    report: dict[str, Any] = {
        "tier": tier.name,
        "scheme": getattr(tier.split, "scheme", "dates"),
        "panel": str(data) if data else None,
        "calendar_days": len(days),
        "label_days": tier.label.longest,
        "input_days": inputs,
        "embargo_days": tier.split.embargo_days,
        "folds": [fold_texts.plain(fold, split, days, tier.label) for split, fold in found],
    }
    return report | {"text": fold_texts.listing(report, [fold for _, fold in found], days)}


def train_folds(wanted: TrainRequest) -> dict[str, Any]:
    """Train every fold of a tier in its turn, each a run of its own in one directory, and put them together.

    All folds are checked before the first is trained. A fold that is finished is not run again.

    Args:
        wanted: its name is that of the directory.

    Raises:
        UseError: before anything is computed, also where folds that are there were trained otherwise.
        RunError: training had to stop; the finished folds stay.
    """
    resolved = resolve(wanted.tier, flags=wanted.flags)
    tier, split = resolved.tier, _scheme_of(resolved.tier)
    if (wanted.resume or wanted.again) and wanted.name is None:
        raise UseError("--resume and --again need --run NAME. Mend: the name of the directory of folds to go on with.")
    place = places.run_place(wanted.runs_root, wanted.name or runs.new_name(tier))
    root = wanted.runs_root / place.path.name
    own = [places.run_place(root, fold_name(number)) for number in range(split.count)]
    begun = {number: runs.open_run(each.path) for number, each in enumerate(own) if _is_begun(each)}
    _check_directory(place, begun, go_on=wanted.resume or wanted.again)
    data = wanted.data or next((run.panel for run in begun.values()), None)
    if data is None:
        raise UseError("--data is missing: the panel to train on. Mend: `atft data synth DIR`, then --data DIR/panel.")
    panel = places.open_panel(data)
    _check_folds(tier, panel, begun)
    wanted = checked_folds(wanted, resolved, data, begun=bool(begun))
    for number, each in enumerate(folds_of(tier)):
        if number not in begun:
            planned(own[number], each, command=wanted.command)
    for number in range(split.count):
        _train_one(replace(wanted, data=data, runs_root=root), number)
    results = [result.read(each.path / "result.json") for each in own]
    return _told(place, gathered(split, results, _group_dates(tier, panel)))


def _scheme_of(tier: Tier) -> Scheme:
    split = tier.split
    if isinstance(split, Split) or split.fold is not None:
        only = "date ranges, no folds" if isinstance(split, Split) else f"fold {split.fold} only"
        raise UseError(
            f"--folds all: tier {tier.name} has {only}. "
            "Mend: leave --folds out, or state a split.scheme and no fold (docs/guide/splits.md)."
        )
    return split


def _is_begun(place: Place) -> bool:
    """Whether a fold's run is there; brings its working copy up to date."""
    if place.uri is not None and not Store(place.uri).exists("config.json"):
        return False
    place.fetch()
    return (place.path / "config.json").exists()


def _check_directory(place: Place, begun: Mapping[int, runs.Run], *, go_on: bool) -> None:
    if (place.path / "config.json").exists():
        raise UseError(f"run {place.path}: is a run by itself, not a directory of folds. Mend: another --run.")
    if go_on:
        return
    if begun:
        raise UseError(
            f"run {place.path}: has {len(begun)} folds already, and a run is never written over. "
            f"Mend: another --run, or --run {place.path.name} --resume to go on with them."
        )
    runs.check_new(place.path)


def _check_folds(tier: Tier, panel: Panel, begun: Mapping[int, runs.Run]) -> None:
    """Every fold can be trained, and those that are there belong with those that are still to be."""
    for number, each in enumerate(folds_of(tier)):
        check_periods(each, panel, fold_of(each, panel).periods)
        if number in begun:
            _check_same(begun[number], each, panel)


def _check_same(run: runs.Run, tier: Tier, panel: Panel) -> None:
    """A fold that is there belongs with those that are still to be trained."""
    if run.tier.sha256() != tier.sha256():
        raise UseError(
            f"run {run.path}: was trained with other settings than these, and folds that are put together share all "
            "but their days. Mend: the settings that the first folds were given, or another --run."
        )
    if run.panel_sha256 != panel.sha256:
        raise UseError(
            f"run {run.path}: was trained on {run.panel}, whose data is not that of {panel.path}. "
            "Mend: leave --data out, or another --run."
        )


def _train_one(wanted: TrainRequest, fold: int) -> None:
    flags = {**wanted.flags, "split.fold": fold}
    try:
        local.train_run(replace(wanted, flags=flags, name=fold_name(fold), resume=False, again=True))
    except Interrupted as stopped:
        told = str(stopped).partition(" Mend:")[0]
        without = " and without that --stop-on" if wanted.stop_on else ""
        raise Interrupted(
            f"fold {fold}: {told} Mend: the same command with --resume{without} goes on from there."
        ) from None


def _group_dates(tier: Tier, panel: Panel) -> list[Span]:
    """First and last label date of each group; none where the scheme has no groups."""
    if not isinstance(tier.split, Combinatorial):
        return []
    ends = panel.days[tier.label.execution_lag + tier.label.horizon :]
    parts = groups(decisions_within(panel.days, tier.split, tier.label), tier.split)
    return [(ends[part[0]].item(), ends[part[-1]].item()) for part in parts]


def _told(place: Place, found: Folds) -> dict[str, Any]:
    text = json.dumps(found.model_dump(mode="json"), indent=2) + "\n"
    target = place.path / NAME
    write_text(target, text)
    if place.uri is not None:
        Store(place.uri).upload(target, NAME)
    report = {"run": str(place.path), "folds": str(target), **found.model_dump(mode="json", exclude={"folds"})}
    return report | {"text": fold_texts.summary(found, target)}


def _weekdays(tier: Tier) -> Calendar:
    """Monday to Friday, from as many days before the first label as it takes."""
    dates = tier.split
    first, last = (dates.train.first, dates.test.last) if isinstance(dates, Split) else (dates.first, dates.last)
    reach = tier.label.execution_lag + tier.label.horizon
    begin = np.busday_offset(first, -reach, roll="forward")
    end = np.busday_offset(last, 0, roll="forward")
    days = np.arange(begin, end + 1)
    return np.asarray(days[np.is_busday(days)])


def _usual_reach(tier: Tier) -> int:
    from atft.data.features import FEATURES
    from atft.data.manifest import FeatureEntry

    own = FeatureEntry(name="", formula="", lookback_days=None)
    computed = [FeatureEntry(name=f.name, formula="", lookback_days=f.lookback_days) for f in FEATURES]
    return input_reach(tier, (own, *computed))
