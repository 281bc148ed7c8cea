"""What a simple probe's information coefficient does when labels are shifted and shuffled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from atft.config import Tier
from atft.data.gather import scorable_days
from atft.data.labels import known_returns
from atft.data.panel import Panel
from atft.data.splits import periods_of
from atft.errors import UseError
from atft.evaluate import baselines, metrics
from atft.evaluate.leakage.finding import Finding, clean, not_checked, suspect
from atft.evaluate.metrics import Bools, Floats

MOST_DAYS = 250
"""Days that the probe is fitted on, and as many that it is judged on."""
LEAST_DAYS = 30
SURE = 4.0
"""Standard errors of a mean IC that is no accident, with five of them looked at."""
MOST_INPUTS = 512
SHIFTS = (-1, 1, 2)
SHIFTED, WITHIN, ACROSS = "labels shifted", "shuffled within days", "shuffled across time"


def findings(panel: Panel, tier: Tier, seed: int) -> Iterator[Finding]:
    """The ridge baseline, fitted on early training days, on the later ones and the validation days; never on test days.

    A genuine signal loses most of its IC when its labels are shifted, and all of it when the scores are dealt anew
    among the stocks of each day or the labels of the days are exchanged.

    Args:
        panel: the data.
        tier: label, window and split.
        seed: of the shuffles.
    """
    try:
        periods = periods_of(tier, panel)
    except UseError as error:
        yield from _none(f"the split of tier {tier.name} does not fit the calendar: {error}")
        return
    returns = known_returns(panel, tier.label)
    scorable = scorable_days(np.asarray(panel.present), tier.window)
    fit, judge = _split(periods.train, periods.validate, tier.label.longest + tier.label.execution_lag)
    if min(len(fit), len(judge)) < LEAST_DAYS:
        yield from _none(f"{len(fit)} days to fit on and {len(judge)} to judge are fewer than {LEAST_DAYS}")
        return
    if len(panel.feature_names) > MOST_INPUTS:
        yield from _none(f"{len(panel.feature_names)} features are more than the probe takes ({MOST_INPUTS})")
        return
    valid = scorable & np.isfinite(returns)
    scores, _ = baselines.ridge(panel, baselines.Labels(fit, returns[fit], valid[fit]), judge)
    yield from judged(scores, returns, scorable, judge, tier.label.horizon, seed)


def judged(
    scores: Floats, returns: Floats, scorable: Bools, days: np.ndarray, horizon: int, seed: int
) -> Iterator[Finding]:
    """The three findings on some scores.

    Args:
        scores: ``[decisions, stocks]``, NaN where there is none.
        returns: ``[days, stocks]``, the labels of all days.
        scorable: ``[days, stocks]``.
        days: ``[decisions]``, numbers of the decisions' days.
        horizon: days that a label spans.
        seed: of the shuffles.
    """
    own = _ic(scores, returns[days], scorable[days], horizon)
    yield _shifted(scores, returns, scorable, days, horizon, own)
    random = np.random.default_rng(seed)
    held = scorable[days] & np.isfinite(scores) & np.isfinite(returns[days])
    dealt = next(baselines.shuffled(scores, held, seed=seed, repeats=1))
    within = _ic(dealt, returns[days], held, horizon)
    if _sure(within):
        yield suspect(
            WITHIN,
            "evaluation",
            f"scores dealt anew among each day's stocks keep a rank IC of {_told(within)}",
            "report it as a defect: no information is left in them",
        )
    else:
        yield clean(WITHIN, "suspicion", f"scores dealt anew within days: rank IC {_told(within)}, covers 0")
    moved = random.permutation(len(days))
    across = _ic(scores, returns[days][moved], scorable[days], horizon)
    if _sure(across) and abs(across.estimate) > 0.5 * abs(own.estimate):
        yield Finding(
            ACROSS,
            "suspicion",
            "note",
            None,
            f"labels of other days keep a rank IC of {_told(across)} of "
            f"{_told(own)}: the scores rank stocks for good, not day by day",
            "look for a feature that is a constant of each stock, such as a mean over the whole sample",
        )
    else:
        yield clean(ACROSS, "suspicion", f"labels of other days: rank IC {_told(across)}")


def _shifted(
    scores: Floats, returns: Floats, scorable: Bools, days: np.ndarray, horizon: int, own: metrics.Interval
) -> Finding:
    moved = {}
    for shift in SHIFTS:
        at = days + shift * horizon if shift > 0 else days + shift
        inside = (at >= 0) & (at <= days.max())  # later days are of the test period
        moved[shift] = _ic(scores[inside], returns[at[inside]], scorable[days[inside]], horizon)
    told = (
        f"rank IC {_told(own)}; labels later by one horizon {_told(moved[1])}, by two {_told(moved[2])}, "
        f"earlier by a day {_told(moved[-1])}"
    )
    error = float(np.hypot(own.standard_error, moved[1].standard_error))
    if _sure(moved[1]) and abs(moved[1].estimate) - abs(own.estimate) > SURE * error:
        return Finding(
            SHIFTED,
            "suspicion",
            "note",
            None,
            f"{told}: the features foretell the day after the label's better than the label's own",
            "check label.execution_lag, and whether features stand a day too early",
        )
    if not _sure(own):
        return not_checked(SHIFTED, "suspicion", f"the probe finds nothing that a shift could destroy: {told}")
    return clean(SHIFTED, "suspicion", told)


def _split(train: np.ndarray, validate: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    edge = int(0.7 * len(train))
    fit, judge = train[: max(edge - reach, 0)], np.concatenate([train[edge:], validate])
    return _thin(fit), judge[-MOST_DAYS:]


def _thin(days: np.ndarray) -> np.ndarray:
    return days if len(days) <= MOST_DAYS else days[np.linspace(0, len(days) - 1, MOST_DAYS).astype(int)]


def _ic(scores: Floats, returns: Floats, held: Bools, horizon: int) -> metrics.Interval:
    valid = held & np.isfinite(scores) & np.isfinite(returns)
    return metrics.mean_interval(metrics.rank_ic(scores, returns, valid), horizon=horizon)


def _sure(ic: metrics.Interval) -> bool:
    return abs(ic.estimate) > SURE * ic.standard_error


def _told(ic: metrics.Interval) -> str:
    return f"{ic.estimate:+.3f} ± {ic.standard_error:.3f}"


def _none(because: str) -> Iterator[Finding]:
    for check in (SHIFTED, WITHIN, ACROSS):
        yield not_checked(check, "suspicion", because)
