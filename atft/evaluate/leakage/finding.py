"""What a check found, and how much that proves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Proves = Literal["proof", "suspicion"]
Verdict = Literal["clean", "leak", "suspect", "note", "not checked"]

FALSE_ALARM = 0.01
"""Probability that the statistical checks of one panel together name anything in it although nothing leaks."""


@dataclass(frozen=True)
class Finding:
    """One row of the report.

    Attributes:
        check: name of the check.
        proves: what an offender of this check is: proven, or under suspicion.
        verdict: ``leak`` (proven) and ``suspect`` fail; ``note`` and ``not checked`` do not, and pass for nothing.
        offender: a feature's name, or ``label``, ``universe``, ``graph``, ``adjustment``, … ; None where clean.
        evidence: what was seen, with figures, first day and stock; or why nothing was checked.
        mend: what to do; empty where nothing is to be done.
    """

    check: str
    proves: Proves
    verdict: Verdict
    offender: str | None
    evidence: str
    mend: str = ""

    @property
    def fails(self) -> bool:
        """Whether something leaks, or may."""
        return self.verdict in ("leak", "suspect")


def clean(check: str, proves: Proves, evidence: str) -> Finding:
    """Nothing was found."""
    return Finding(check, proves, "clean", None, evidence)


def not_checked(check: str, proves: Proves, because: str) -> Finding:
    """Nothing was looked at."""
    return Finding(check, proves, "not checked", None, f"not checked, because {because}")


def suspect(check: str, offender: str, evidence: str, mend: str) -> Finding:
    """A statistic beyond its threshold."""
    return Finding(check, "suspicion", "suspect", offender, evidence, mend)


def leak(check: str, offender: str, evidence: str, mend: str) -> Finding:
    """A value that follows from what came after its day."""
    return Finding(check, "proof", "leak", offender, evidence, mend)
