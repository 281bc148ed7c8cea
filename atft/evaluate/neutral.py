"""Scores or positions without exposure to industries, size or any other characteristic of a stock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from atft.errors import UseError
from atft.evaluate.metrics import Bools, Floats, check_finite, check_shapes

SMALLEST_LEFT = 1e-12
"""What is left of values after neutralising is rounding, and set to 0, where it is no more than this of the largest."""
SMALLEST_RANK = 1e-10
"""A characteristic whose own part is no more than this of the largest is a mix of the others."""

Groups = npt.NDArray[np.int32] | npt.NDArray[np.int64]


def neutralise(
    values: Floats, valid: Bools, *, groups: Groups | None = None, characteristics: Sequence[Floats] = ()
) -> Floats:
    """What is left of each day's values after regressing them on a constant, groups and characteristics.

    The result is orthogonal to all of them: over a day it sums to 0, it sums to 0 within each group, and its product
    with each characteristic sums to 0. Stocks of no known group belong to none, and are not compared with one another
    as if they were one; yet as the day and all groups sum to 0, so do they together.

    Args:
        values: ``[days, stocks]`` scores or positions.
        valid: ``[days, stocks]``, True where they count.
        groups: ``[stocks]`` numbers from 0; below 0 is unknown.
        characteristics: ``[days, stocks]`` each, such as log size; a stock whose characteristic is not finite counts
            as average in it.

    Returns:
        ``[days, stocks]``; 0 where not valid, and where nothing but rounding is left.

    Raises:
        ValueError: shapes differ, or a valid value is not finite.
        UseError: all groups are unknown.

    Source: the residual of an ordinary regression, groups partialled out first (Frisch and Waugh, 1933).
    """
    check_shapes(values=values, valid=valid, **{f"characteristic {n}": c for n, c in enumerate(characteristics)})
    check_finite("values", values, valid)
    if groups is not None:
        check_known(groups)
    result = np.zeros_like(values, dtype=np.float64)
    for day, row in enumerate(valid):
        kept = np.flatnonzero(row)
        if len(kept):
            members = np.zeros(len(kept), np.int64) if groups is None else groups[kept]
            # Where every group is known the constant is their sum; the unknown ones are what is left of it.
            place = np.unique(members, return_inverse=True)[1]
            exposures = [_known(characteristic[day, kept]) for characteristic in characteristics]
            result[day, kept] = _residual(values[day, kept].astype(np.float64), place, exposures)
    return result


def check_known(groups: Groups) -> None:
    """Refuse groups that are all unknown.

    Raises:
        UseError: as said.
    """
    if not any(group >= 0 for group in groups.tolist()):
        raise UseError(
            f"neutralise industry: the industry of all {len(groups)} stocks is unknown, so that there is no group to "
            "be neutral to. Mend: --neutralise size, or a panel built with the role industry."
        )


def _known(characteristic: Floats) -> Floats:
    """The characteristic as deviation from its day's mean, 0 where it is not known."""
    known = np.isfinite(characteristic)
    average = characteristic[known].mean() if known.any() else 0.0
    return np.where(known, characteristic - average, 0.0)


def _residual(values: Floats, place: npt.NDArray[np.int64], exposures: list[Floats]) -> Floats:
    """``[stocks]`` values less what groups and exposures explain of them."""
    left = _demeaned(values, place)
    if exposures:
        basis = _basis(np.stack([_or_nothing(_demeaned(each, place), each) for each in exposures], axis=1))
        for _ in range(2):  # the second pass removes what rounding left of the first
            left = _demeaned(left - basis @ (basis.T @ left), place)
    return _or_nothing(left, values)


def _or_nothing(left: Floats, values: Floats) -> Floats:
    """What is left of ``values``, 0 where that is no more than rounding."""
    return left if np.abs(left).max() > SMALLEST_LEFT * np.abs(values).max() else np.zeros_like(left)


def _demeaned(values: Floats, place: npt.NDArray[np.int64]) -> Floats:
    """Values less the mean of their group."""
    means = np.bincount(place, values) / np.bincount(place)
    once = values - means[place]
    result: Floats = once - (np.bincount(place, once) / np.bincount(place))[place]
    return result


def _basis(exposures: Floats) -> Floats:
    """Orthonormal columns that span those of ``exposures [stocks, k]``."""
    scale = np.abs(exposures).max(0)
    columns = exposures[:, scale > 0] / scale[scale > 0]
    if not columns.size:
        return np.zeros((len(exposures), 0))
    left, strength, _ = np.linalg.svd(columns, full_matrices=False)
    result: Floats = left[:, strength > SMALLEST_RANK * strength[0]]
    return result
