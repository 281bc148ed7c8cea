"""How many workers a run may have."""

from __future__ import annotations

import re
from dataclasses import dataclass

from atft.config import Tier
from atft.errors import UseError


@dataclass(frozen=True)
class Workers:
    """At least ``least`` and at most ``most`` workers; the run is elastic where these differ."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str) -> Workers:
        """``4`` or ``1-4``.

        Raises:
            UseError: neither, none at all, or a range upside down.
        """
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
        if not found:
            raise UseError(f"--workers {text}: not a number of workers. Mend: --workers 4, or 1-4 for an elastic run.")
        least, most = int(found[1]), int(found[2] or found[1])
        if least < 1:
            raise UseError(f"--workers {text}: at least 1 worker has to train. Mend: --workers 1-{max(1, most)}.")
        if most < least:
            raise UseError(f"--workers {text}: the range is upside down. Mend: --workers {most}-{least}.")
        return cls(least, most)

    @property
    def elastic(self) -> bool:
        """Whether their number may change during the run."""
        return self.least < self.most

    @property
    def alone(self) -> bool:
        """Whether one process does it all."""
        return self.most == 1

    def check(self, tier: Tier) -> None:
        """Raise UseError where a worker would have no block, or where the tier's mode is that of one process."""
        if tier.mode == "safe" and not self.alone:
            raise UseError(
                f"mode safe is one process, and --workers asks for up to {self.most}. Mend: --workers 1, or "
                "--set mode=optimized --set runtime.deterministic=true, which learns the same."
            )
        from atft.train.setup import check_workers  # loads torch, and a number is parsed before anything else

        check_workers(tier, self.most)
