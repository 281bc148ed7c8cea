"""What a user names to have it compared: a tier, a tier file, or a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atft.config import Tier
from atft.errors import UseError
from atft.experiment.tiers import names, resolve
from atft.storage import is_remote, local_path


@dataclass(frozen=True)
class Subject:
    """A recipe that can be compared with another.

    Attributes:
        name: as it is told.
        tier: its settings.
        data: hash of the panel, of a run.
    """

    name: str
    tier: Tier
    data: str | None = None

    @property
    def is_run(self) -> bool:
        """Whether it is a run, and not what a run could be started from."""
        return self.data is not None


def subject(text: str) -> Subject:
    """The tier, tier file or run that ``text`` names; a tier as its file states it, whatever the environment sets.

    Raises:
        UseError: none of these, or one that cannot be read.
    """
    path = Path(text)
    if text in names():
        return Subject(text, resolve(text, environ={}).tier)
    if path.suffix in (".yaml", ".yml"):
        return Subject(text, resolve(text, environ={}).tier)
    if is_remote(path) or local_path(path).is_dir():
        from atft.launch.places import open_run  # loads what reads tables, which a tier can do without

        run = open_run(path)
        return Subject(run.path.name, run.tier, run.panel_sha256)
    try:
        return Subject(text, resolve(text, environ={}).tier)
    except UseError as error:
        raise UseError(f"{error} Or name the directory of a run.") from None
