"""What all cases share: interleaved timing, rows and bounds, the record of the machine, and the files written."""

from __future__ import annotations

import gc
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]

LEAST_ROUNDS = 5
"""Fewest interleaved rounds that a bound is taken from."""

SETTINGS = ("MALLOC_", "OMP_", "KMP_", "MKL_", "GOMP_", "TORCH_", "ATEN_", "LD_PRELOAD", "GLIBC_TUNABLES")
"""Environment variables that change speed or memory, by how their names begin."""

PACKAGES = ("torch", "torch-geometric", "numpy", "atft")

Row = dict[str, str | int | float]
"""One line of a table; its keys are the columns, with their units."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        quick: tiny shapes and few rounds, to see that a case runs; the numbers mean nothing and no bound is asserted.
        rounds: interleaved rounds of each timing.
        cores: numbers of the cores that may be used.
    """

    quick: bool
    rounds: int
    cores: tuple[int, ...]


@dataclass(frozen=True)
class Bound:
    """A measured number and what it may be.

    Attributes:
        what: the two things compared, and the quantity.
        measured: as measured.
        limit: what it may be at most, or must be at least.
        least: True where ``limit`` is a floor.
    """

    what: str
    measured: float
    limit: float
    least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the measured number is within the limit; a number that is not finite is not."""
        return self.measured >= self.limit if self.least else self.measured <= self.limit

    def row(self) -> Row:
        """As a line of a table."""
        sign = "≥" if self.least else "≤"
        held = "yes" if self.holds else "**no**"
        return {"what": self.what, "measured": self.measured, "bound": f"{sign} {self.limit:g}", "held": held}


@dataclass(frozen=True)
class Result:
    """What a case found.

    Attributes:
        title: of the page.
        about: what was compared, and how to read the tables.
        tables: rows by the title of their table.
        bounds: what is asserted.
    """

    title: str
    about: str
    tables: dict[str, list[Row]]
    bounds: list[Bound]

    @property
    def exceeded(self) -> list[Bound]:
        """The bounds that do not hold."""
        return [bound for bound in self.bounds if not bound.holds]


class Spent(NamedTuple):
    """Seconds of one call: by the clock, and of all threads of the process."""

    seconds: float
    processor: float


@dataclass(frozen=True)
class Timing:
    """Seconds of the same work, one entry a round.

    Attributes:
        seconds: by the clock.
        processor: of all threads of the process; says on a busy machine whether others stretched the clock's.
    """

    seconds: tuple[float, ...]
    processor: tuple[float, ...]

    @classmethod
    def of(cls, rounds: Sequence[Spent]) -> Timing:
        """What each round spent."""
        return cls(tuple(each.seconds for each in rounds), tuple(each.processor for each in rounds))

    @property
    def minimum(self) -> float:
        """The least: what the work takes where nothing else is on the machine. Bounds are ratios of these."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median: other work on the machine stretches it."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """The largest over the least, minus 1."""
        return max(self.seconds) / min(self.seconds) - 1

    def row(self, reference: Timing) -> Row:
        """As columns of a table, beside the ratio of minima to ``reference``."""
        return {
            "min s": self.minimum,
            "median s": self.median,
            "spread": self.spread,
            "min CPU s": min(self.processor),
            "rounds": len(self.seconds),
            "ratio": self.minimum / reference.minimum,
        }


def interleaved(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Seconds of each way, taken in turns so that a slow minute of the machine meets all of them.

    Each way runs once before; each round starts with another one, so that none always follows the same.

    Args:
        ways: what is called, by name.
        rounds: how often each is timed.
    """
    names = list(ways)
    for run in ways.values():
        run()
    gc.freeze()  # what is there by now is not looked through again before each call
    spent: dict[str, list[Spent]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            spent[name].append(timed(ways[name]))
    gc.unfreeze()
    return {name: Timing.of(found) for name, found in spent.items()}


def timed(run: Callable[[], object]) -> Spent:
    """What one call spends, without the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        return clocked(run)
    finally:
        gc.enable()


def clocked(run: Callable[[], object]) -> Spent:
    """What one call spends."""
    began, processor = time.perf_counter(), time.process_time()
    run()
    return Spent(time.perf_counter() - began, time.process_time() - processor)


@contextmanager
def pinned(cores: Sequence[int], threads: int) -> Iterator[None]:
    """Keep this thread and those it starts on ``cores``, with ``threads`` tensor threads; as before afterwards."""
    before = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before[0])
        torch.set_num_threads(before[1])


@dataclass(frozen=True)
class Machine:
    """Where and with what a case ran.

    Attributes:
        command: as it was given.
        began: UTC, ISO 8601.
        commit: of the repository, with ``+`` where files differ from it.
        processor: model name.
        cores: numbers of the cores in use.
        threads: tensor threads.
        memory_gib: of the machine.
        load: average of runnable processes over the minute before.
        system: kernel.
        huge_pages: setting of transparent huge pages.
        settings: environment variables that change speed or memory; the allocator is glibc's with its defaults
            where none of them says otherwise.
        versions: of Python and of the packages that matter.
    """

    command: str
    began: str
    commit: str
    processor: str
    cores: list[int]
    threads: int
    memory_gib: float
    load: float
    system: str
    huge_pages: str
    settings: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def found(cls, arguments: Sequence[str]) -> Machine:
        """This machine now, with ``python -m benchmarks`` given ``arguments``."""
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(
            command=shlex.join(["python", "-m", "benchmarks", *arguments]),
            began=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=_commit(),
            processor=_processor(),
            cores=sorted(os.sched_getaffinity(0)),
            threads=torch.get_num_threads(),
            memory_gib=round(pages / 2**30, 1),
            load=os.getloadavg()[0],
            system=f"{platform.system()} {platform.release()}",
            huge_pages=_huge_pages(),
            settings={name: value for name, value in sorted(os.environ.items()) if name.startswith(SETTINGS)},
            versions={"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        )


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _huge_pages() -> str:
    try:
        text = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return "none"
    return text[text.index("[") + 1 : text.index("]")]


def write(folder: Path, case: str, result: Result, machine: Machine) -> None:
    """Write ``<case>.json`` and ``<case>.md`` into ``folder``, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {
        "case": case,
        "machine": asdict(machine),
        "bounds": [{**asdict(bound), "holds": bound.holds} for bound in result.bounds],
        "tables": result.tables,
    }
    (folder / f"{case}.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    (folder / f"{case}.md").write_text(page(result, machine))


def page(result: Result, machine: Machine) -> str:
    """A result as Markdown: bounds first, then the tables, then the machine."""
    parts = [f"# {result.title}", result.about]
    if result.bounds:
        parts += ["## Bounds", table([bound.row() for bound in result.bounds])]
    for title, rows in result.tables.items():
        parts += [f"## {title}", table(rows)]
    told = {name.replace("_", " "): value for name, value in asdict(machine).items()}
    lines = [f"- {name}: {_told(value)}" for name, value in told.items()]
    return "\n\n".join([*parts, "## Machine", "\n".join(lines)]) + "\n"


def table(rows: Sequence[Row]) -> str:
    """Rows of equal keys as a Markdown table, numbers with four digits that count."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([_digits(row[name]) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _digits(value: str | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items()) or "none"
    return f"`{value}`" if isinstance(value, str) and value.startswith("python") else str(value)


def say(text: str) -> None:
    """Tell what is being measured, beside the results."""
    print(text, file=sys.stderr, flush=True)
