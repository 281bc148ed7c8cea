"""Matplotlib figures as inline SVG that takes its colours and its typeface from the page's CSS.

A figure is drawn in stand-in colours; on the way out each becomes ``var(--chart-…)``, so that one SVG serves light
and dark. Text stays text: it can be searched, read aloud and set in the page's typeface.
"""

from __future__ import annotations

import io
import logging
import re
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROLES = ("ink", "muted", "grid", "model", "ridge", "reversal", "equal", "second", "gain", "loss", "paper")
"""What a colour stands for; the page's CSS gives each ``--chart-ROLE`` a value for light and for dark."""

CAPTION = "caption"
FONT_SIZE = 12
"""Pixels, at the figure's own size."""


def colour(role: str) -> str:
    """The stand-in for a role's colour."""
    return f"#0102{ROLES.index(role) + 16:02x}"


def new_figure(width: int, height: int, rows: int = 1, **layout: Any) -> tuple[Figure, list[Axes]]:
    """A transparent figure of ``rows`` panels over one another that share their horizontal axis.

    Args:
        width: pixels.
        height: pixels.
        rows: panels.
        layout: passed on to ``Figure.subplots``, such as ``height_ratios``.
    """
    quiet_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained", facecolor="none")
    panels = figure.subplots(rows, 1, sharex=rows > 1, squeeze=False, **layout)[:, 0].tolist()
    figure.get_layout_engine().set(w_pad=4 / 72, h_pad=6 / 72)  # type: ignore[union-attr, call-arg]
    for panel in panels:
        _dress(panel)
    return figure, panels


def quiet_matplotlib() -> None:
    """Keep matplotlib from telling that it builds its font cache on a fresh machine."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def _dress(panel: Axes) -> None:
    panel.set_facecolor("none")
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.spines["bottom"].set_color(colour("grid"))
    panel.tick_params(colors=colour("muted"), labelsize=FONT_SIZE, length=0, pad=6)
    panel.grid(axis="y", color=colour("grid"), linewidth=1)
    panel.set_axisbelow(True)


def caption_panel(panel: Axes, text: str) -> None:
    """The panel's title: what its vertical axis shows, at its upper left."""
    title = panel.set_title(text, loc="left", fontsize=FONT_SIZE, color=colour("ink"), pad=10, fontweight="semibold")
    title.set_gid(CAPTION)


def _align_captions(figure: Figure) -> None:
    """Move the panels' titles to the figure's left edge, over the labels of the vertical axis."""
    from matplotlib.text import Text

    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")
    for panel in figure.axes:
        for text in panel.findobj(Text):
            if text.get_gid() == CAPTION:
                text.set_x(-panel.bbox.x0 / panel.bbox.width)
                text.set_gid(None)


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an ``<svg>`` element for a page.

    Args:
        figure: drawn in colours of :func:`colour` only.
        name: unique on the page; ids inside the figure start with it.
        title: short, read aloud first.
        description: what a reader who cannot see the figure should know.
    """
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify": True})
        _align_captions(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = buffer.getvalue()
    width, height = (figure.get_size_inches() * 72).round().astype(int)
    body = drawing[drawing.index(">", drawing.index("<svg")) + 1 : drawing.rindex("</svg>")]
    body = _cleaned(body, name)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
        f"{body}</svg>"
    )


LIGHT = ("#16202c", "#5c6775", "#e1e5ea", "#1558c0", "#b45309", "#0b7a63", "#737c89", "#8a3ab9", "#0b7a63", "#c2410c",
         "#ffffff")  # fmt: skip
DARK = ("#e8edf3", "#a3afbd", "#2a3441", "#6cb0ff", "#f2a34b", "#46c9a6", "#929dab", "#cf9bf0", "#46c9a6", "#ff8a5c",
        "#161d26")  # fmt: skip
"""Colours of ``ROLES`` where no page gives them."""


def standalone(svg: str, width: int, height: int) -> str:
    """An ``<svg>`` element of :func:`to_svg` as a file of its own, with paper and colours for light and dark."""
    light, dark = (" ".join(f"--chart-{role}: {code};" for role, code in zip(ROLES, each)) for each in (LIGHT, DARK))
    style = (
        f"<style>:root {{ {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }} "
        "svg { font-family: system-ui, sans-serif; }</style>"
    )
    paper = '<rect width="100%" height="100%" style="fill: var(--chart-paper)"/>'
    opened, rest = svg.split(">", 1)
    opened = opened.replace("<svg", f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"', 1)
    return f"{opened}>{style}{paper}{rest}\n"


def _cleaned(body: str, name: str) -> str:
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(xlink:href="#|href="#|url\(#)', rf"\g<1>{name}-", body).replace("xlink:href", "href")
    body = re.sub(r"font: (?:(\d+) )?([\d.]+)px [^;\"]*", _font, body)
    body = re.sub(r' font-family: [^;"]*;?| transform="rotate\(-?0 [^"]*"', "", body)
    for role in ROLES:
        body = body.replace(colour(role), f"var(--chart-{role})")
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), body)
    return re.sub(r"\s*\n\s*", "\n", body)


def _font(match: re.Match[str]) -> str:
    weight, size = match.groups()
    return f"font-size: {size}px" + (f"; font-weight: {weight}" if weight else "")
