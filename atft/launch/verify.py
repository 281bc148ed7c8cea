"""``atft verify``: starts the workers of a check on this machine and tells what they found."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atft.config import Tier
from atft.data.panel import Panel
from atft.errors import RunError, UseError
from atft.experiment.tiers import resolve
from atft.experiment.verify import (
    JUDGED_STEPS,
    Course,
    CourseRow,
    Curve,
    Dtype,
    Limits,
    Naive,
    Partition,
    Row,
    course_row,
    courses,
    curve_bound,
    limits,
    naive_pieces,
    partitions,
    rounds,
    row_of,
    sampling_deviation,
)
from atft.experiment.verify_work import (
    Found,
    Job,
    Refused,
    answered,
    measure,
    only_last_phase,
    run_directory,
    train_legs,
)
from atft.launch.processes import run_group
from atft.observe import events
from atft.observe.console import stages
from atft.train.setup import check_workers

Tell = Callable[[str, float], None]


def exactness(
    tier: str, flags: Mapping[str, Any], data: Path | None, *, workers: str, micro_batches: str, dtype: Dtype,
    step: int, quiet: bool, work: Callable[..., Found] = measure,
) -> dict[str, Any]:  # fmt: skip
    """Compute one effective batch in many partitions, in real processes, and hold each to the bound.

    Args:
        tier: name or file.
        flags: as ``--set`` gives them.
        data: panel directory.
        workers: numbers of workers, such as ``1,2,4``.
        micro_batches: micro-batches of each worker, such as ``1,2,all``.
        dtype: what steps compute in.
        step: optimizer step whose batch it is, from 0.
        quiet: say nothing on the way.
        work: what each worker does; importable by name.

    Returns:
        The report: figures as plain data, ``passed``, ``failure`` and ``text``.

    Raises:
        UseError: bad settings, panel or numbers, or memory does not hold the batch in one piece.
        RunError: a worker failed.
    """
    settings, panel, teams = _given(tier, flags, data, workers)
    count, tell = settings.batch.blocks, stages(quiet)
    among = partitions(count, teams, numbers("--micro-batches", micro_batches, every="all"))
    with tempfile.TemporaryDirectory(prefix="atft-verify-") as folder:
        job = Job(settings, panel, Path(folder), dtype, step)
        found: dict[Partition, list[Any]] = {}
        whole: Found | None = None
        for team in sorted({1, *teams}):
            own = [each for each in among if each.workers == team]
            tell(f"{_workers(team)}: {len(own)} partition{'s' if len(own) != 1 else ''}", 0.0)
            told = _run(work, team, job, own, naive_pieces(count, among) if team == 1 else [])
            whole = whole or told[0]
            found |= {each: [worker.measured[number] for worker in told] for number, each in enumerate(own)}
    assert whole is not None
    return exactness_report(job, whole, found)


def exactness_report(job: Job, whole: Found, found: Mapping[Partition, Sequence[Any]]) -> dict[str, Any]:
    """The report of what was measured.

    Args:
        job: what was asked.
        whole: what the single worker found.
        found: what each worker measured, by partition.
    """
    assert whole.plain is not None
    bound = limits(whole.facts["number_format"], whole.plain)
    rows = [row_of(measured, whole.plain, bound) for measured in found.values()]
    plain = row_of([whole.plain], whole.plain, None)
    failed = [row for row in rows if row.problems]
    report = {
        "check": "exactness", "tier": job.tier.name, "panel": str(job.panel), "step": job.step,
        "effective_batch": {**job.tier.batch.model_dump(), "samples": job.tier.batch.samples}, **whole.facts,
        "dropout": job.tier.model.dropout, "bound": asdict(bound), "plain": asdict(plain),
        "partitions": [asdict(row) for row in rows], "naive": [asdict(each) for each in whole.naive],
        "passed": not failed, "failure": None,
    }  # fmt: skip
    if failed:
        mend = "report the table as a defect"
        if bound.loss is None:
            mend = "--set precision=32, where this is the precision's own error, as the plain step's row tells"
        report["failure"] = (
            f"exactness of tier {job.tier.name}: {len(failed)} of {len(rows)} partitions are beyond the bound; on "
            f"{_workers(failed[0].workers)}, {failed[0].micro_batches} micro-batches, {failed[0].kept_graphs} graphs "
            f"kept: {failed[0].problems[0]}. Mend: {mend}."
        )
    text = _exactness_text(report, rows, plain, bound, whole.naive)
    return {**events.plain(report), "text": text}


def determinism(
    tier: str, flags: Mapping[str, Any], data: Path | None, *, workers: str, steps: int, dtype: Dtype, quiet: bool
) -> dict[str, Any]:
    """Train some steps on each number of workers, resized and resumed, and compare the losses step by step.

    Args:
        tier: name or file.
        flags: as ``--set`` gives them.
        data: panel directory.
        workers: numbers of workers, such as ``1,2,4``.
        steps: optimizer steps of each run, at least 3.
        dtype: what they compute in.
        quiet: say nothing on the way.

    Returns:
        The report: figures as plain data, ``passed``, ``failure`` and ``text``.

    Raises:
        UseError: bad settings, panel or numbers.
        RunError: a worker failed.
    """
    settings, panel, teams = _given(tier, flags, data, workers)
    settings = only_last_phase(settings, steps)
    among = courses(teams, steps, dtype)
    with tempfile.TemporaryDirectory(prefix="atft-verify-") as folder:
        job = Job(settings, panel, Path(folder), dtype)
        curves = trained(job, among, stages(quiet))
    return determinism_report(job, steps, curves)


def trained(job: Job, among: Sequence[Course], tell: Tell) -> dict[Course, Curve]:
    """Train the runs ``among``, each leg in processes of its own, and read what they left in ``job.folder``.

    Raises:
        UseError: the tier does not fit the panel.
        RunError: a worker failed.
    """
    weights: dict[Course, list[int]] = {}
    formats: dict[Course, str] = {}
    for team, legs in rounds(among):
        tell(f"{_workers(team)}: {'; '.join(leg.course.title for leg in legs)}", 0.0)
        told = _run(train_legs, team, job, legs)
        for number, leg in enumerate(legs):
            weights[leg.course] = [worker[number][1] for worker in told]
            formats[leg.course] = told[0][number][0]
    return {each: _curve(run_directory(job.folder, each), formats[each], weights[each]) for each in among}


def _curve(directory: Path, number_format: str, weights: Sequence[int]) -> Curve:
    steps = events.steps(directory)
    return Curve(
        number_format,
        {step["step"]: step["loss"] for step in steps},
        {step["step"]: step["gradient_norm"] for step in steps},
        weights,
    )


def determinism_report(job: Job, steps: int, curves: Mapping[Course, Curve]) -> dict[str, Any]:
    """The report of the runs, of which the first is on one worker.

    Args:
        job: what was asked.
        steps: optimizer steps that each run should have.
        curves: what each run left behind.
    """
    base = next(iter(curves.values()))
    whole = {each.legs[0][0]: curve for each, curve in curves.items() if len(each.legs) == 1 and not each.nudged}
    deviation = sampling_deviation(job.tier)
    rows = []
    for course, curve in curves.items():
        teams = {team for team, _ in course.legs}
        twin = whole[teams.pop()] if len(course.legs) > 1 and len(teams) == 1 else None
        rows.append(course_row(course, curve, base, twin, steps=steps, deviation=deviation))
    failed = [row for row in rows if row.problems]
    bound, judged = curve_bound(base.number_format)
    report = {
        "check": "determinism", "tier": job.tier.name, "panel": str(job.panel), "steps": steps,
        "phase": next(iter(job.tier.phases)), "parts": sorted(next(iter(job.tier.phases.values())).parts),
        "number_format": base.number_format, "dropout": job.tier.model.dropout,
        "bound": bound, "judged_steps": judged or steps, "sampling_deviation": deviation,
        "runs": [asdict(row) for row in rows], "passed": not failed, "failure": None,
        "losses": {course.title: list(curve.losses.values()) for course, curve in curves.items()},
    }  # fmt: skip
    if failed:
        report["failure"] = (
            f"determinism of tier {job.tier.name}: {len(failed)} of {len(rows)} runs are beyond the bound; "
            f"{failed[0].title}: {failed[0].problems[0]}. Mend: {_mend(rows, bound, judged)}."
        )
    return {**events.plain(report), "text": _determinism_text(report, rows)}


def _mend(rows: Sequence[CourseRow], bound: float | None, judged: int | None) -> str:
    """What to do about a run beyond its bound: it may be that rounding alone gets as far."""
    alone = max((row.largest if judged is None else row.largest_first for row in rows if not row.judged), default=0.0)
    if bound is not None and alone > bound / 10:
        return (
            f"weights that are off by one rounding already change the losses by {alone:.1e}; check with fewer --steps, "
            "or a longer warm-up of the phase"
        )
    return "report the table as a defect"


def judge(report: Mapping[str, Any]) -> None:
    """Raise what a report found.

    Raises:
        RunError: something is beyond its bound.
    """
    if not report["passed"]:
        raise RunError(report["failure"])


def numbers(option: str, text: str, *, every: str | None = None) -> list[int | None]:
    """``1,2,4`` as numbers; the word ``every`` as None.

    Raises:
        UseError: something else.
    """
    found: list[int | None] = []
    for part in text.split(","):
        word = part.strip()
        if word == every:
            found.append(None)
        elif word.isascii() and word.isdigit() and int(word):
            found.append(int(word))
        else:
            raise UseError(
                f"{option} {text}: {word!r} is no whole number from 1. Mend: {option} 1,2,{every or 4}."
            )  # fmt: skip
    return found


def _given(
    name: str, flags: Mapping[str, Any], data: Path | None, workers: str
) -> tuple[Tier, Path, list[int]]:  # fmt: skip
    """Settings, panel and numbers of workers, all that can be refused before a process is started."""
    tier = resolve(name, flags=flags).tier
    if data is None:
        raise UseError("--data is missing: the panel to check on. Mend: `atft data synth DIR`, then --data DIR/panel.")
    teams = sorted({each for each in numbers("--workers", workers) if each})
    check_workers(tier, teams[-1])
    Panel.open(data)
    return tier, data, teams


def _run(work: Callable[..., Any], workers: int, job: Job, *arguments: Any) -> list[Any]:
    """``work`` in a group; what its workers were refused is refused here."""
    timeout = job.tier.runtime.collective_timeout_seconds
    found = run_group(answered, workers, work, job, *arguments, timeout=timeout)
    for each in found:
        if isinstance(each, Refused):
            raise UseError(each.text)
    return found


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


def _exactness_text(
    report: Mapping[str, Any], rows: Sequence[Row], plain: Row, bound: Limits, naive: Sequence[Naive]
) -> str:  # fmt: skip
    batch = report["effective_batch"]
    loss = "" if bound.loss is None else f", loss difference {bound.loss:.1e}"
    header = ["", "workers", "micro-batches", "kept", "loss diff", "grad error", "gathers", "all-reduces", "bytes sent",
              "seconds", "× plain", "peak MiB", ""]  # fmt: skip
    table = [header, ["plain", *_cells(plain), ""]]
    table += [["exact", *_cells(row), f"FAIL: {'; '.join(row.problems)}" if row.problems else "pass"] for row in rows]
    for each in naive:
        off = [_figure(each.loss_difference), _figure(each.gradient_error)]
        table.append(["naive", "–", str(each.pieces), "–", *off, *["–"] * 6, "NOT done"])
    return "\n".join([
        f"exactness of tier {report['tier']} on {report['panel']}, the batch of step {report['step']}",
        f"  {batch['days']} days × {batch['stocks_per_day']} stocks in blocks of {batch['block_days']} days; "
        f"{report['parameters']:,} parameters ({', '.join(report['parts'])}), dropout {report['dropout']:g}",
        f"  {report['number_format']} on {report['device']}; bound: gradient error {bound.gradient:.1e}{loss}, "
        "against float64 autograd of the batch in one piece",
        "",
        *_columns(table),
        "",
        "plain: one forward and one backward pass of the whole batch. naive: the mean over micro-batches of their own",
        "losses and gradients, which is NOT done here; it shows how wrong that is, whatever the precision.",
        _verdict(report, len(rows), "partitions"),
    ])  # fmt: skip


def _cells(row: Row) -> list[str]:
    return [
        str(row.workers), str(row.micro_batches), str(row.kept_graphs), _figure(row.loss_difference),
        _figure(row.gradient_error), str(row.gathers), str(row.reductions), f"{row.bytes_per_worker:,}",
        f"{row.seconds:.3f}", f"{row.ratio:.2f}", f"{row.peak_bytes / 2**20:.1f}",
    ]  # fmt: skip


def _determinism_text(report: Mapping[str, Any], rows: Sequence[CourseRow]) -> str:
    bound, steps, judged = report["bound"], report["steps"], report["judged_steps"]
    held = "none: in this number format losses are reported and not judged"
    if bound is not None and judged >= steps:
        held = f"the loss of every step within {bound:.0e} of that on one worker, relative to it"
    elif bound is not None:
        held = (
            f"the loss of the first {judged} steps within {bound:.0e} of that on one worker, relative to the greater "
            "of it\n  and of its sampling deviation; later steps are reported"
        )
    table = [["run", "largest", "at step", f"first {JUDGED_STEPS}", "bitwise", ""]]
    for row in rows:
        bitwise = "–" if row.bitwise is None else "yes" if row.bitwise else "no"
        verdict = f"FAIL: {'; '.join(row.problems)}" if row.problems else "pass" if row.judged else "not judged"
        table.append(
            [row.title, _figure(row.largest), str(row.at_step or "–"), _figure(row.largest_first), bitwise, verdict]
        )
    return "\n".join([
        f"determinism of tier {report['tier']} on {report['panel']}, {steps} steps of phase {report['phase']}",
        f"  parts {', '.join(report['parts'])}; dropout {report['dropout']:g}; {report['number_format']}",
        f"  bound: {held}",
        "",
        *_columns(table),
        "",
        "largest: greatest relative difference of a step's loss from the run on one worker. bitwise: whether losses,",
        "gradient norms and final weights of the resumed run are, to the last bit, those of the run without a break.",
        "The last row is how far rounding alone takes this training: the other runs should be about as close.",
        _verdict(report, sum(row.judged for row in rows), "runs"),
    ])  # fmt: skip


def _verdict(report: Mapping[str, Any], count: int, what: str) -> str:
    return f"all {count} {what} pass" if report["passed"] else f"FAIL: {report['failure']}"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1e}" if value else "0"


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns: the first and the last to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = []
    for first, *middle, last in table:
        cells = [f"{cell:>{width}}" for cell, width in zip(middle, widths[1:-1])]
        lines.append("  ".join([f"{first:{widths[0]}}", *cells, last]).rstrip())
    return lines
