"""How a tier cuts the calendar into training, validation and test: date ranges, or one fold of a scheme."""

from __future__ import annotations

import datetime as dt
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from atft.settings import Positive, Settings


class Span(Settings):
    """Label dates from ``first`` to ``last``, both included. A label's date is the day on which it ends."""

    first: dt.date
    last: dt.date

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"last = {self.last} is before first = {self.first}")
        return self


class Split(Settings):
    """The three periods by label date, in this order, without overlap."""

    train: Span
    validate_: Annotated[Span, Field(alias="validate")]
    test: Span
    embargo_days: Annotated[int, Field(ge=0)]
    """Trading days left out before a later period begins, beyond the purge."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_alias=True, serialize_by_alias=True)

    @model_validator(mode="after")
    def _order(self) -> Self:
        if not self.train.last < self.validate_.first <= self.validate_.last < self.test.first:
            raise ValueError(
                f"train ({self.train.first}..{self.train.last}), "
                f"validate ({self.validate_.first}..{self.validate_.last}) "
                f"and test ({self.test.first}..{self.test.last}) must follow one another without overlap"
            )
        return self


class Scheme(Settings, ABC):
    """Folds over the label dates from ``first`` to ``last``, each of which the panel has to hold."""

    first: dt.date
    last: dt.date
    embargo_days: Annotated[int, Field(ge=0)]
    """Trading days left out beside what is judged later, beyond the purge."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """Which fold a run is of, from 0; the tier of a scheme states none, ``--fold`` and ``--folds`` do."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Folds that there are."""

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"last = {self.last} is before first = {self.first}")
        if self.fold is not None and self.fold >= self.count:
            raise ValueError(f"fold = {self.fold} of {self.count} folds; mend: a fold from 0 to {self.count - 1}")
        return self


class WalkForward(Scheme):
    """Test spans of equal length that follow one another, each with its validation and training days before it."""

    scheme: Literal["expanding", "rolling"]
    """Whether training begins at ``first`` in all folds, or ``train_days`` before each validation."""
    folds: Positive
    """Test spans that the label days behind the first training and validation are cut into."""
    train_days: Positive
    """Label days of training before the purge: of every rolling fold, of the first expanding one."""
    validate_days: Positive
    """Label days of validation, right before each test span."""

    @property
    def count(self) -> int:
        """Folds that there are."""
        return self.folds


class Combinatorial(Scheme):
    """Combinatorial purged cross-validation (López de Prado 2018, ch. 12): every choice of test groups is a fold.

    Each fold validates on one of the other groups and trains on the rest, before and after what it is tested on.
    """

    scheme: Literal["combinatorial"]
    groups: Positive
    """Equal runs of label days (N)."""
    test_groups: Positive
    """Groups that each fold is tested on (k)."""
    own_lookback_days: Annotated[int, Field(ge=0)]
    """Trading days that the panel's own features look back on, which only their maker knows; 0 where it has none."""

    @property
    def count(self) -> int:
        """Folds that there are: ``C(N, k)``."""
        return math.comb(self.groups, self.test_groups)

    @property
    def paths(self) -> int:
        """Backtest paths that they make: ``C(N, k) · k / N``."""
        return self.count * self.test_groups // self.groups

    @model_validator(mode="after")
    def _groups_suffice(self) -> Self:
        if self.groups < 3 or self.test_groups > self.groups - 2:
            mend = f"test_groups = {self.groups - 2} or fewer, or " if self.groups > 3 else ""
            raise ValueError(
                f"test_groups = {self.test_groups} of groups = {self.groups} leaves fewer than the two that validation "
                f"and training need; mend: {mend}groups = {max(3, self.test_groups + 2)} or more"
            )
        return self


def fold_told(split: Split | Scheme) -> dict[str, Any] | None:
    """Scheme, fold and number of folds, as runs record them; None of date ranges."""
    if isinstance(split, WalkForward | Combinatorial):
        return {"scheme": split.scheme, "fold": split.fold, "folds": split.count}
    return None


def fold_name(fold: int) -> str:
    """Name of the run of a fold among those of all folds."""
    return f"fold-{fold:02}"


def is_fold(name: str) -> bool:
    """Whether :func:`fold_name` gave this name."""
    return re.fullmatch(r"fold-\d{2,}", name) is not None


SPLITS: dict[str, type[Split] | type[Scheme]] = {
    "dates": Split,
    "expanding": WalkForward,
    "rolling": WalkForward,
    "combinatorial": Combinatorial,
}
"""The kinds of split by their ``scheme``; date ranges have none."""


def _kind_of_split(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("scheme", "dates"))
    return str(getattr(value, "scheme", "dates"))


AnySplit = Annotated[
    Annotated[Split, Tag("dates")]
    | Annotated[WalkForward, Tag("expanding")]
    | Annotated[WalkForward, Tag("rolling")]
    | Annotated[Combinatorial, Tag("combinatorial")],
    Discriminator(
        _kind_of_split,
        custom_error_type="scheme",
        custom_error_message="scheme is none of expanding, rolling, combinatorial; date ranges state none",
    ),
]
