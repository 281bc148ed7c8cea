"""What the parts of ``result.json`` are made of: numbers that may be undefined, intervals, hashes, a frozen model."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Maybe = Annotated[Number | None, BeforeValidator(_none_if_nan)]
"""A number, or null where it is undefined; NaN becomes null, an infinite value is refused."""
Bounds = tuple[Number, Number] | None
"""Lower and upper bound of a 95 % interval; null where none can be given."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Model(BaseModel):
    """A frozen part of the result that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
