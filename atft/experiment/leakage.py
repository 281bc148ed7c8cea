"""All checks of one panel for knowledge of the future, in one order, and what they came to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from atft.config import Span, Split, Tier
from atft.data.files import Source
from atft.data.leakage.pipeline import Pipeline
from atft.data.leakage.rebuild import read_source
from atft.data.panel import Panel
from atft.data.roles import Roles
from atft.errors import UseError
from atft.evaluate.leakage.finding import Finding, not_checked
from atft.experiment import leak_path, leak_probe, leak_rebuild, leak_statistics

CUTS = (0.35, 0.6, 0.85)
"""Parts of the calendar after which the future is changed."""
LEAST_DAYS = 30
SEED = 20_240_101
PARTS = ("label", "universe", "scaler", "graph", "adjustment", "split", "sampler", "evaluation")
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Asked:
    """What is to be checked.

    Attributes:
        panel: the data.
        tier: whose graph, window, label and split are used.
        source: the table that the panel was made from, or that the pipeline is given; None: not at hand.
        roles: of the table that the panel was made from; None: as the panel's manifest says.
        pipeline: the user's function from ``source`` to that table; None: ``source`` is that table.
    """

    panel: Panel
    tier: Tier
    source: Path | Source | None = None
    roles: Roles | None = None
    pipeline: Pipeline | None = None


def check(
    asked: Asked, tell: Tell, *, parts: leak_path.Parts | None = None, cuts: Sequence[float] = CUTS, seed: int = SEED
) -> list[Finding]:
    """Everything that can be checked with what was given.

    Args:
        asked: panel, tier, and source and pipeline if they are at hand.
        tell: told the stage and how much of it is done.
        parts: the data path; the shipped one where not given.
        cuts: parts of the calendar after which the future is changed.
        seed: of other futures, samples and shuffles.

    Raises:
        UseError: a source that is not the panel's, or a pipeline that fails.
    """
    panel, parts = asked.panel, parts or leak_path.Parts()
    count = len(panel.days)
    if count < LEAST_DAYS:
        raise UseError(
            f"{panel.path}: {count} days are fewer than the {LEAST_DAYS} that a check of the future needs. "
            "Mend: build the panel from a longer table."
        )
    days = sorted({min(max(1, int(part * count)), count - 2) for part in cuts})
    tell("data path rebuilt with other futures", 0.0)
    found = list(leak_path.findings(panel, asked.tier, days, parts, seed))
    found += _with_source(asked, days, parts, seed, tell)
    found += leak_statistics.of_panel(panel, tell, seed)
    tell("labels shifted and shuffled", 0.0)
    return [*found, *leak_probe.findings(panel, asked.tier, seed)]


def _with_source(asked: Asked, days: Sequence[int], parts: leak_path.Parts, seed: int, tell: Tell) -> list[Finding]:
    """Rebuilds, and the traces in the source's own features."""
    panel, roles = asked.panel, asked.roles or asked.panel.manifest.roles
    if asked.source is None:
        return [
            not_checked(
                leak_rebuild.FEATURES, "proof", "no --source was given: features are suspected from the panel alone"
            ),
            not_checked(
                leak_statistics.RAW, "suspicion", "no --source was given: a panel holds normalised values only"
            ),
        ]
    if roles is None:
        raise UseError(f"{panel.path}: does not say which roles its columns had. Mend: --roles FILE.")
    found: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="atft-leakage-") as folder:
        if asked.pipeline is None:
            tell("reading the source", 0.0)
            checked = read_source(asked.source, roles, panel)
            if checked.own_names:
                found.append(
                    not_checked(
                        leak_rebuild.PIPELINE,
                        "proof",
                        f"no --pipeline was given: the source's own "
                        f"{len(checked.own_names)} features are only suspected",
                    )
                )
        else:
            found, checked = leak_rebuild.of_pipeline(
                panel, asked.source, roles, asked.pipeline, days, seed, tell, Path(folder)
            )
        found += leak_rebuild.of_label(panel, checked, by_pipeline=asked.pipeline is not None)
        found += leak_rebuild.of_panel(panel, checked, days, parts.build, seed, tell)
        found += leak_statistics.of_source(panel, checked, asked.tier, tell)
    return found


def fitted_to(tier: Tier, panel: Panel) -> Tier:
    """The tier with periods of 60, 20 and 20 % of the panel's calendar, where its own are not what is asked about."""
    days = [day.astype(object) for day in panel.days]
    edges = [0, int(np.ceil(0.6 * len(days))), int(np.ceil(0.8 * len(days))), len(days)]
    spans = [Span(first=days[begin], last=days[end - 1]) for begin, end in pairwise(edges)]
    split = Split.model_validate(
        {"train": spans[0], "validate": spans[1], "test": spans[2], "embargo_days": tier.split.embargo_days}
    )
    return tier.model_copy(update={"split": split})
