"""``atft verify leakage``: opens what it is given, and tells what the checks found."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from atft.data.leakage.pipeline import Pipeline
from atft.data.roles import Roles
from atft.errors import UseError
from atft.evaluate.leakage.finding import FALSE_ALARM, Finding
from atft.experiment.leakage import PARTS, Asked, check, fitted_to
from atft.experiment.tiers import resolve
from atft.launch import places
from atft.observe import events
from atft.observe.console import stages

WIDTHS = {"check": 22, "proves": 11, "finding": 13, "offender": 15}
LINE = 118
DEFAULT_TIER = "tier1"


def leakage(
    panel: Path,
    *,
    source: Path | None,
    roles: Path | None,
    pipeline: str | None,
    tier: str | None,
    accept: Sequence[str],
    quiet: bool,
) -> dict[str, Any]:
    """Check a panel for knowledge of the future.

    Args:
        panel: directory or URI.
        source: table that it was built from, or that ``pipeline`` is given: a file, a directory or a URI.
        roles: YAML that names the columns; as in the panel's manifest without it.
        pipeline: ``MODULE:FUNCTION`` that makes the panel's table of ``source``.
        tier: name or file; without one, tier1 with periods of 60, 20 and 20 % of the calendar.
        accept: offenders that are known and shall not fail.
        quiet: say nothing on the way.

    Returns:
        The report: findings as plain data, ``passed``, ``failure`` and ``text``.

    Raises:
        UseError: no such panel, a source that is not the panel's, a pipeline that fails, an unknown offender.
    """
    if pipeline and source is None:
        raise UseError("--pipeline needs --source: the table that the function is given. Mend: --source bars.parquet.")
    if roles and source is None:
        raise UseError("--roles needs --source: the table whose columns they name. Mend: --source TABLE.")
    began, opened = time.monotonic(), places.open_panel(panel)
    unknown = sorted(set(accept) - {*PARTS, *opened.feature_names})
    if unknown:
        raise UseError(f"--accept {unknown[0]}: is no feature of {panel}, and none of {', '.join(PARTS)}.")
    asked = Asked(
        panel=opened,
        tier=resolve(tier).tier if tier else fitted_to(resolve(DEFAULT_TIER).tier, opened),
        source=None if source is None else places.open_source(source),
        roles=Roles.read(roles) if roles else None,
        pipeline=Pipeline.load(pipeline) if pipeline else None,
    )
    found = check(asked, stages(quiet))
    return report(panel, asked, found, accept, time.monotonic() - began)


def report(
    panel: Path, asked: Asked, found: Sequence[Finding], accept: Sequence[str], seconds: float
) -> dict[str, Any]:
    """The report of some findings.

    Args:
        panel: as it was named.
        asked: what was checked.
        found: the findings, in order.
        accept: offenders that are known and shall not fail.
        seconds: that it took.
    """
    rows = [
        {"finding": each.verdict, **asdict(each), "accepted": each.fails and each.offender in accept} for each in found
    ]
    failing = [each for each, row in zip(found, rows) if each.fails and not row["accepted"]]
    told: dict[str, Any] = {
        "check": "leakage",
        "panel": str(panel),
        "data_sha256": asked.panel.sha256,
        "tier": asked.tier.name,
        "source": None if asked.source is None else str(asked.source),
        "pipeline": asked.pipeline.name if asked.pipeline else None,
        "false_alarm": FALSE_ALARM,
        "findings": rows,
        "offenders": sorted({str(each.offender) for each in failing}),
        "not_checked": sum(each.verdict == "not checked" for each in found),
        "passed": not failing,
        "failure": None,
        "seconds": seconds,
    }
    if failing:
        first = failing[0]
        proven = [each for each in failing if each.verdict == "leak"]
        others = f" and {len(told['offenders']) - 1} more" if len(told["offenders"]) > 1 else ""
        told["failure"] = (
            f"leakage of {panel}: {'proven' if proven else 'suspected'} of {first.offender}{others}. "
            f"Mend: {first.mend}; or --accept {first.offender} where it is known and meant."
        )
    return {**events.plain(told), "text": _text(told)}


def _text(told: Mapping[str, Any]) -> str:
    panel = told["panel"]
    given = [
        f"source {told['source']}" if told["source"] else "",
        f"pipeline {told['pipeline']}" if told["pipeline"] else "",
    ]
    lines = [f"knowledge of the future in {panel}" + "".join(f", {each}" for each in given if each), ""]
    lines.append("".join(f"{name:{width}}" for name, width in WIDTHS.items()) + "evidence, and mend")
    for row in told["findings"]:
        lines += _row(row)
    lines += [
        "",
        f"proof: a value follows from what came after its day, or surely does not. suspicion: statistics, which name "
        f"something in {told['false_alarm']:.0%}",
        "of clean panels at most, and miss what is weaker than their threshold "
        "(docs/guide/leakage.md). not checked: says nothing.",
        _verdict(told),
    ]
    return "\n".join(lines)


def _row(row: Mapping[str, Any]) -> list[str]:
    finding = (
        "accepted"
        if row["accepted"]
        else row["finding"].upper()
        if row["finding"] in ("leak", "suspect")
        else row["finding"]
    )
    cells = {"check": row["check"], "proves": row["proves"], "finding": finding, "offender": row["offender"] or "–"}
    head = "".join(f"{cells[name]:{width - 1}} " for name, width in WIDTHS.items())
    evidence = row["evidence"] + (f". Mend: {row['mend']}" if row["mend"] else "")
    indent = sum(WIDTHS.values())
    first, *rest = textwrap.wrap(evidence, LINE - indent)
    if len(head) > indent:  # a feature with a long name
        return [head.rstrip(), " " * indent + first, *(" " * indent + each for each in rest)]
    return [head + first, *(" " * indent + each for each in rest)]


def _verdict(told: Mapping[str, Any]) -> str:
    left = f"; {told['not_checked']} checks were not made" if told["not_checked"] else ""
    if told["passed"]:
        return f"no offender in {told['seconds']:.0f} s{left}"
    names = told["offenders"]
    many = "s" if len(names) > 1 else ""
    return f"{len(names)} offender{many} in {told['seconds']:.0f} s: {', '.join(names)}{left}"
