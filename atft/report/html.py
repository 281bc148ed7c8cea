"""The report of a run: one HTML file without scripts or requests, the verdict first."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atft.errors import UseError
from atft.report import certainty, charts, material, tables
from atft.report.material import Material
from atft.report.verdict import standing, standing_net, verdict

FILE_NAME = "report.html"
TEMPLATE = "template.html.j2"

STANDINGS = {
    "positive": "above 0",
    "negative": "below 0",
    "noise": "not distinguishable from 0",
    "unknown": "no verdict",
}


def write_report(
    run_dir: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    deflated: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report of a run; what the run did not leave behind is named in it.

    Args:
        run_dir: a run's directory, finished or not.
        out: the HTML file; ``report.html`` in the run's directory where not given.
        deflated: the Sharpe ratio deflated by the trials until now; by those until the evaluation where not given.

    Returns:
        The file written.

    Raises:
        UseError: the directory is no run, the extra ``report`` is not installed, or the file cannot be written.
    """
    run = material.load(Path(run_dir))
    if deflated is not None:
        run = material.with_deflated(run, deflated)
    target = Path(out) if out is not None else run.path / FILE_NAME
    write_page(target, render(run))
    return target


def render(run: Material) -> str:
    """The whole page as text."""
    return filled(TEMPLATE, _page(run), run.path)


def filled(template: str, values: Mapping[str, Any], about: str | os.PathLike[str]) -> str:
    """A page of this package as text.

    Args:
        template: its file.
        values: that it is filled with.
        about: what an error names.

    Raises:
        UseError: the extra ``report`` is not installed.
    """
    try:
        import jinja2
        import matplotlib  # noqa: F401 - to say what is missing before work begins
    except ImportError as error:
        raise UseError(
            f"{about}: a report needs {error.name}, which is not installed. Mend: pip install 'atft[report]'."
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("atft.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["minus"] = minus
    return environment.get_template(template).render(**values)


def minus(text: str) -> str:
    """Hyphens before figures as minus signs; dates and names keep theirs."""
    return re.sub(r"(?<![\w-])-(?=[\d.])", "−", str(text))


def badges(test: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the Sharpe ratio is shown to be before and after costs: colour and words of each.

    None is painted as good unless both are, since what costs take was never earned.
    """
    gross, net = standing(test), standing_net(test)
    if gross == net == "unknown":
        return [("unknown", "No verdict")]
    good = gross == net == "positive"
    return [
        (each if good or each != "positive" else "noise", f"{words}: {STANDINGS[each]}")
        for each, words in ((gross, "Before costs"), (net, "After costs"))
    ]


def _page(run: Material) -> dict[str, Any]:
    """What the template is filled with."""
    test: Mapping[str, Any] = run.result.get("test") or {}
    said = verdict(run.result) if run.result else list(run.gaps)
    tier = run.tier.get("name") or run.result.get("tier") or run.last("run_started").get("tier") or "unknown tier"
    return {
        "tier": tier,
        "run": run.result.get("run") or run.last("run_started").get("run") or run.path.resolve().name,
        "description": run.tier.get("description") or "",
        "badges": badges(test) if run.result else [("unknown", "Not finished")],
        "headline": said[0],
        "sentences": said[1:],
        "gaps": run.gaps if run.result else (),
        "warnings": run.texts("warning") + run.early_warnings(),
        "divergences": run.texts("divergence") if not run.result else (),
        "tiles": tables.tiles(test),
        "comparison": tables.comparison(run.result, run.beside),
        "strategies": tables.strategies(test),
        "certainty": certainty.intervals(test),
        "probabilities": certainty.probabilities(test),
        "differences": certainty.differences(test),
        "interval_method": test.get("sharpe_method") or "",
        "phases": tables.phases(run.phases),
        "facts": tables.facts(run),
        "settings": tables.settings(run.tier, run.provenance),
        "hashes": tables.hashes(run.result),
        **charts.all_of(run),
    }


def write_page(target: Path, text: str) -> None:
    """All of the page or nothing of it.

    Raises:
        UseError: it cannot be written.
    """
    try:
        with _beside(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
            temporary.chmod(0o644)
            os.replace(temporary, target)
    except OSError as error:
        raise UseError(
            f"{target}: the report ({len(text):,} characters) cannot be written: {error.strerror or error}. "
            "Mend: free space, or another file by --out."
        ) from error


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
