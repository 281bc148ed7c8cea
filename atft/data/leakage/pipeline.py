"""A user's own function from a table of bars to a table with features, called in this process."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from atft.data.roles import Roles
from atft.errors import UseError


@dataclass(frozen=True)
class Pipeline:
    """A function that makes a table with features of a table of bars.

    Attributes:
        name: ``MODULE:FUNCTION``.
        function: takes and returns a Polars or a pandas frame.
        pandas: whether it wants a pandas frame, as the annotation of its first parameter says.
    """

    name: str
    function: Callable[[Any], Any]
    pandas: bool

    @classmethod
    def load(cls, name: str) -> Pipeline:
        """The pipeline called ``MODULE:FUNCTION``, looked for in the working directory first.

        Raises:
            UseError: another form, no such module or function, or a module that fails when it is imported.
        """
        module_name, mark, function_name = name.partition(":")
        if not (mark and module_name and function_name):
            raise UseError(f"--pipeline {name!r} is not MODULE:FUNCTION. Mend: for instance features:make.")
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # what a user's module raises is the user's to see
            raise UseError(
                f"--pipeline {name}: module {module_name!r} cannot be imported: {_told(error)}. "
                "Mend: run it from the directory that holds the module, or set PYTHONPATH."
            ) from error
        function = getattr(module, function_name, None)
        if not callable(function):
            raise UseError(f"--pipeline {name}: {module_name!r} has no function {function_name!r}.")
        return cls(name, function, _wants_pandas(function))

    def __call__(self, table: pl.DataFrame, roles: Roles, what: str) -> pl.DataFrame:
        """What the function makes of ``table``.

        Args:
            table: the bars; the function gets a copy of its own.
            roles: of the result.
            what: the table in words, for errors.

        Raises:
            UseError: the function raises, or returns no frame with a date and a code, once for each row.
        """
        try:
            made = self.function(table.to_pandas() if self.pandas else table.clone())
            if not isinstance(made, pl.DataFrame):
                made = made.collect() if isinstance(made, pl.LazyFrame) else pl.from_pandas(made)
        except Exception as error:  # whatever it is: the user's own error, named
            raise UseError(
                f"--pipeline {self.name} failed on {what}: {_told(error)}. "
                "Mend: the function has to work on any table that begins as the source does; --debug shows where."
            ) from error
        lacking = {roles.date, roles.code} - set(made.columns)
        if lacking:
            raise UseError(
                f"--pipeline {self.name}: its table has no column {sorted(lacking)[0]!r}; it has {made.columns[:20]}. "
                "Mend: keep date and code, or name them in the roles."
            )
        if made.select(pl.struct(roles.date, roles.code).is_duplicated().any()).item():
            raise UseError(f"--pipeline {self.name}: its table repeats a (date, code) on {what}.")
        return made


def _wants_pandas(function: Callable[[Any], Any]) -> bool:
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):
        return False
    if first is None or first.annotation is inspect.Parameter.empty:
        return False
    told = first.annotation if isinstance(first.annotation, str) else getattr(first.annotation, "__module__", "")
    return str(told).startswith(("pandas", "pd."))


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
