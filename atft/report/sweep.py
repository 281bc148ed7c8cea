"""The table and the picture of a sweep, as a page, as Markdown and as lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from atft.errors import UseError
from atft.report.svg import DARK, LIGHT, ROLES, caption_panel, colour, new_figure, to_svg

WIDTH, HEIGHT = 940, 380
UNITS = {"sharpe": "Sharpe ratio per day", "ic": "mean IC", "rank_ic": "mean rank IC", "loss": "minus the loss"}
"""What a tier's validation metric is called."""
HEADINGS = ("point", "seeds", "validation", "± error", "difference", "± error", "p", "p, Holm", "best epoch", "steps",
            "stock-days", "seconds", "")  # fmt: skip
"""Columns: the differences are from the reference; steps, stock-days and seconds are of one run."""

STYLE = """
:root { color-scheme: light dark; LIGHT }
@media (prefers-color-scheme: dark) { :root { DARK } }
body { margin: 0; background: var(--chart-paper); color: var(--chart-ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 72px; }
h1 { font-size: 22px; margin: 0 0 4px; }
p, li { max-width: 80ch; }
.said { font-size: 19px; font-weight: 600; }
.soft { color: var(--chart-muted); font-size: 14px; }
figure { margin: 24px 0; }
svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 8px 0 8px 16px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--chart-grid); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.reference > * { font-weight: 650; }
"""


def picture(rows: Sequence[Mapping[str, Any]], reference: str | None, *, variable: str, metric: str) -> str | None:
    """The validation metric against the variable, with standard errors; None where fewer than two points have one.

    Args:
        rows: of the table.
        reference: name of the point that is marked.
        variable: its name, for the axis.
        metric: the tier's validation metric.
    """
    shown = [row for row in rows if row["mean"] is not None]
    if len(shown) < 2:
        return None
    _check_installed()
    values = [row["value"] for row in shown]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    at = [float(value) for value in values] if numeric else [float(number) for number in range(len(values))]
    figure, (panel,) = new_figure(WIDTH, HEIGHT)
    for x, row in zip(at, shown, strict=True):
        own = row["point"] == reference
        role = "ridge" if own else "model"
        panel.errorbar(
            [x], [row["mean"]], yerr=[row["error"] or 0.0], fmt="D" if own else "o", color=colour(role), capsize=5,
            markersize=9 if own else 8, elinewidth=2,
        )  # fmt: skip
        if own:
            panel.axhline(row["mean"], color=colour(role), linewidth=1.2, linestyle="dashed")
    if numeric and evenly_in_logarithm(at):
        panel.set_xscale("log")
        panel.minorticks_off()
    panel.set_xticks(at, [str(value) for value in values])
    panel.set_xlabel(variable, color=colour("muted"))
    caption_panel(panel, f"Validation {UNITS[metric]}, mean over seeds ± standard error over seeds and days")
    said = "; ".join(f"{row['value']}: {row['mean']:.4g} ± {row['error'] or 0:.2g}" for row in shown)
    return to_svg(figure, "sweep", f"Validation {UNITS[metric]} by {variable}", said)


def _check_installed() -> None:
    try:
        import matplotlib  # noqa: F401 - to say what is missing
    except ImportError as error:
        raise UseError(
            f"the picture of a sweep needs {error.name}, which is not installed. Mend: pip install 'atft[report]'."
        ) from error


def evenly_in_logarithm(values: Sequence[float]) -> bool:
    """Whether values are spaced more evenly in the logarithm than as they are."""
    if min(values) <= 0 or len(set(values)) < 3:
        return False
    ordered = np.unique(values)
    plain, logs = np.diff(ordered), np.diff(np.log(ordered))
    return bool(logs.std() / logs.mean() < plain.std() / plain.mean())


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the table as text, in the order of ``HEADINGS``."""
    epochs = sorted(row["best_epochs"])
    best = "–" if not epochs else str(epochs[0]) if epochs[0] == epochs[-1] else f"{epochs[0]}..{epochs[-1]}"
    states = ", ".join(f"{count} {state}" for state, count in row["states"].items() if state != "done")
    return [
        row["point"], f"{row['finished']}/{row['seeds']}", _text(row["mean"], "+.4f"), _text(row["error"], ".4f"),
        _text(row["difference"], "+.4f"), _text(row["difference_error"], ".4f"), _text(row["p_value"], ".3f"),
        _text(row["p_value_holm"], ".3f"), best, _text(row["steps"], ","), _text(row["samples"], ","),
        _text(row["seconds"], ".1f"), states,
    ]  # fmt: skip


def lines(rows: Sequence[Mapping[str, Any]], reference: str | None) -> list[str]:
    """The table in columns for a terminal; the reference is marked with a star."""
    body = [[f"{'* ' if row['point'] == reference else '  '}{cells(row)[0]}", *cells(row)[1:]] for row in rows]
    whole = [list(HEADINGS), *body]
    widths = [max(len(line[column]) for line in whole) for column in range(len(HEADINGS))]
    return [
        "  ".join(
            cell.ljust(width) if column in (0, len(widths) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in whole
    ]


def markdown(told: Mapping[str, Any]) -> str:
    """``sweep.md``.

    Args:
        told: ``title``, ``description``, ``facts``, ``rows``, ``reference``, ``verdict`` and ``notes``.
    """
    table = ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
    for row in told["rows"]:
        shown = cells(row)
        shown[0] = f"**{shown[0]}** (reference)" if row["point"] == told["reference"] else shown[0]
        table.append("| " + " | ".join(shown) + " |")
    said = [f"- {sentence}" for sentence in told["verdict"]]
    return "\n\n".join([
        f"# {told['title']}", told["description"], "\n".join(said), "\n".join(table),
        "\n".join(f"- {each}" for each in [*told["facts"], *told["notes"]]),
    ]) + "\n"  # fmt: skip


def page(told: Mapping[str, Any], svg: str | None) -> str:
    """``sweep.html``: one file without scripts or requests; ``told`` as for :func:`markdown`."""
    light, dark = (" ".join(f"--chart-{role}: {code};" for role, code in zip(ROLES, each)) for each in (LIGHT, DARK))
    style = STYLE.replace("LIGHT", light).replace("DARK", dark)
    first, *rest = map(escape, told["verdict"])
    heading = "".join(f'<th scope="col">{escape(name)}</th>' for name in HEADINGS)
    body = "\n".join(_html_row(row, row["point"] == told["reference"]) for row in told["rows"])
    notes = "".join(f"<li>{escape(each)}</li>" for each in [*told["facts"], *told["notes"]])
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(told['title'])} · atft</title><style>{style}</style></head>\n<body><main>\n"
        f'<h1>{escape(told["title"])}</h1><p class="soft">{escape(told["description"])}</p>\n'
        f'<p class="said">{first}</p>{"".join(f"<p>{each}</p>" for each in rest)}\n'
        f"<figure>{svg or ''}</figure>\n"
        f'<div class="scroll"><table><thead><tr>{heading}</tr></thead><tbody>\n{body}\n</tbody></table></div>\n'
        f'<ul class="soft">{notes}</ul>\n</main></body></html>\n'
    )


def _html_row(row: Mapping[str, Any], reference: bool) -> str:
    shown = [re.sub(r"^-(?=\d)", "−", escape(each)) for each in cells(row)]
    first = f'<th scope="row">{shown[0]}{" (reference)" if reference else ""}</th>'
    rest = "".join(f"<td>{each}</td>" for each in shown[1:])
    return f'<tr class="reference">{first}{rest}</tr>' if reference else f"<tr>{first}{rest}</tr>"


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
