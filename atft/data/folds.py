"""How a scheme lays its folds over label days: before purge and embargo, and as pure arithmetic of positions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from atft.config import Combinatorial, Scheme, WalkForward
from atft.errors import UseError

Days = NDArray[np.int64]


@dataclass(frozen=True)
class Periods:
    """Decision days as rising indices into the calendar, int64; training days may lie on both sides of the others."""

    train: Days
    validate: Days
    test: Days


def laid(decisions: Days, split: Scheme) -> Periods:
    """The periods of fold ``split.fold``, before any purge.

    Args:
        decisions: ``[days]``, the consecutive decision days whose labels end within the span of the scheme.
        split: the scheme.

    Raises:
        UseError: no fold is stated, or the days are too few for the folds.
    """
    if split.fold is None:
        raise UseError(
            f"split.fold: not stated; the tier's split is a scheme of {split.count} folds, and a run is of one of "
            "them. Mend: --set split.fold=0, or for training --fold 0, or --folds all."
        )
    if isinstance(split, WalkForward):
        return _walk(decisions, split, split.fold)
    assert isinstance(split, Combinatorial)
    return _combination(decisions, split, split.fold)


def _walk(decisions: Days, split: WalkForward, fold: int) -> Periods:
    start = split.train_days + split.validate_days
    if len(decisions) - start < split.folds:
        raise UseError(
            f"split: {split.first} to {split.last} holds {len(decisions)} label days; train_days = {split.train_days} "
            f"and validate_days = {split.validate_days} leave {max(0, len(decisions) - start)} of them for "
            f"folds = {split.folds} test spans. Mend: a longer span, fewer folds, or fewer train_days."
        )
    test = np.array_split(decisions[start:], split.folds)[fold]
    before = decisions[decisions < test[0]]
    train, validate = np.split(before, [len(before) - split.validate_days])
    return Periods(train if split.scheme == "expanding" else train[-split.train_days :], validate, test)


def _combination(decisions: Days, split: Combinatorial, fold: int) -> Periods:
    parts = groups(decisions, split)
    tested = choices(split)[fold]
    held = validation_group(split, tested)
    rest = [part for number, part in enumerate(parts) if number not in (*tested, held)]
    return Periods(np.concatenate(rest), parts[held], np.concatenate([parts[number] for number in tested]))


def groups(decisions: Days, split: Combinatorial) -> list[Days]:
    """The ``N`` groups: consecutive runs of days, as equal as can be.

    Raises:
        UseError: fewer days than groups.
    """
    if len(decisions) < split.groups:
        raise UseError(
            f"split: {split.first} to {split.last} holds {len(decisions)} label days for groups = {split.groups}. "
            "Mend: a longer span, or fewer groups."
        )
    return np.array_split(decisions, split.groups)


def choices(split: Combinatorial) -> list[tuple[int, ...]]:
    """Test groups of every fold, in lexicographic order."""
    return list(combinations(range(split.groups), split.test_groups))


def validation_group(split: Combinatorial, tested: tuple[int, ...]) -> int:
    """The group that a fold validates on: the nearest untested one before its first test group, around the end."""
    return next(back for step in range(1, split.groups) if (back := (tested[0] - step) % split.groups) not in tested)


def backtest_paths(split: Combinatorial) -> list[list[int]]:
    """The fold that each path takes for each group: ``[paths][groups]``.

    Path ``p`` takes a group from the ``p``-th of the folds that test it, so that every fold's every test group is in
    exactly one path.

    Source: López de Prado (2018), Advances in Financial Machine Learning, section 12.3.
    """
    testing = [[fold for fold, tested in enumerate(choices(split)) if group in tested] for group in range(split.groups)]
    return [list(path) for path in zip(*testing, strict=True)]
