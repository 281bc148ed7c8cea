"""What a result says, in plain words: noise is called noise, and nothing is claimed that an interval does not carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

Standing = Literal["positive", "negative", "noise", "unknown"]

BASELINE_NAMES = {
    "reversal": "1-day reversal",
    "ridge": "ridge",
    "equal_weight": "equal weight",
    "shuffled": "shuffled labels",
}
COMPARED = ("ridge", "reversal", "equal_weight")
"""Baselines that the model is compared with, the hardest first; shuffled labels are a check, not a rival."""

MOSTLY = 0.5
"""Share of the batch Sharpe's variance from which sampling noise is called most of it."""


def verdict(result: Mapping[str, Any], divergences: Iterable[str] = ()) -> list[str]:
    """Sentences that judge a run, the most important first.

    Args:
        result: what ``result.json`` holds; what is missing or null in it is left out or said to be missing.
        divergences: texts of divergence events, beside those that the result holds.

    Returns:
        At least one sentence. Sharpe ratios are a year's, by ``sqrt(252)``.
    """
    test = _mapping(result.get("test"))
    sentences = [_headline(test)]
    sentences += _net(test)
    for name in COMPARED:
        sentences += _against(test, name, _mapping(_mapping(result.get("baselines")).get(name)))
    sentences += _shuffled(_mapping(_mapping(result.get("baselines")).get("shuffled")))
    sentences += _planted(test, _mapping(result.get("planted")))
    sentences += [f"Loss and metric part ways, {text}." for text in _divergences(result, divergences)]
    sentences += _batch_sharpe(_mapping(result.get("batch_sharpe")))
    if test:
        sentences.append(
            "The test period was used once, at the end; every earlier choice was made on the validation period."
        )
    return sentences


def standing(figures: Mapping[str, Any]) -> Standing:
    """Where the 95 % interval of a Sharpe ratio lies: above 0, below it, around it (noise), or nowhere known."""
    interval = interval_of(figures)
    if interval is None or number_of(figures, "sharpe_annual") is None:
        return "unknown"
    if interval[0] > 0:
        return "positive"
    return "negative" if interval[1] < 0 else "noise"


def number_of(figures: Mapping[str, Any], name: str) -> float | None:
    """A figure as a float; None where it is missing, null or not finite."""
    value = figures.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):
        return None
    return float(value)


def interval_of(figures: Mapping[str, Any]) -> tuple[float, float] | None:
    """The 95 % interval of the annual Sharpe ratio; None where there is none."""
    pair = figures.get("sharpe_annual_ci95")
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        return None
    low, high = (number_of({"": bound}, "") for bound in pair)
    return None if low is None or high is None else (low, high)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _headline(test: Mapping[str, Any]) -> str:
    sharpe, interval, days = number_of(test, "sharpe_annual"), interval_of(test), number_of(test, "days")
    over = f" over {days:.0f} days" if days is not None else ""
    if sharpe is None:
        return f"No test Sharpe ratio{over}: nothing can be said about this run."
    if interval is None:
        return f"Test Sharpe {sharpe:.2f} a year{over}, without an interval: nothing can be said about it."
    words = {
        "positive": "distinguishable from 0",
        "negative": "distinguishable from 0, and negative: the portfolio lost",
        "noise": "not distinguishable from 0",
        "unknown": "",
    }[standing(test)]
    return f"Test Sharpe {sharpe:.2f} a year, 95 % interval {interval[0]:.2f} to {interval[1]:.2f}{over}: {words}."


def _net(test: Mapping[str, Any]) -> list[str]:
    net, gross, turnover = (number_of(test, name) for name in ("sharpe_net_annual", "sharpe_annual", "turnover"))
    cost = number_of(test, "cost_bps")
    if net is None or gross is None:
        return []
    priced = f"of {cost:g} basis points for each unit traded" if cost is not None else "of trading"
    traded = f", at a turnover of {turnover:.2f} a day," if turnover is not None else ""
    sentence = f"Net of a cost {priced}{traded} the Sharpe ratio is {net:.2f} a year"
    return [f"{sentence}: costs take all of it." if gross > 0 >= net else f"{sentence}."]


def _divergences(result: Mapping[str, Any], more: Iterable[str]) -> list[str]:
    """Texts of the result's divergences and of ``more``, each once, without their full stops."""
    found = result.get("divergences")
    told = found if isinstance(found, Sequence) and not isinstance(found, str) else ()
    texts = [str(_mapping(each).get("note")) for each in told] + list(more)
    return list(dict.fromkeys(text.rstrip(".") for text in texts))


def _against(test: Mapping[str, Any], name: str, baseline: Mapping[str, Any]) -> list[str]:
    """The model beside one baseline; better or worse only where the two intervals keep apart."""
    mine, other = number_of(test, "sharpe_annual"), number_of(baseline, "sharpe_annual")
    if mine is None or other is None:
        return []
    called = f"the {BASELINE_NAMES[name]}" if name != "equal_weight" else "equal weight"
    verb = "Beats" if mine > other else "Falls short of" if mine < other else "Equals"
    by = f" by {abs(mine - other):.2f} a year" if mine != other else ""
    figures = f"{verb} {called}{by} ({mine:.2f} against {other:.2f})"
    own, its = interval_of(test), interval_of(baseline)
    if own is None or its is None:
        return [f"{figures}; without both intervals nothing is shown."]
    if own[0] > its[1]:
        return [f"{figures}; the intervals keep apart: better."]
    if own[1] < its[0]:
        return [f"{figures}; the intervals keep apart: worse."]
    return [f"{figures}; the intervals overlap: not shown to be {'worse' if mine < other else 'better'}."]


def _shuffled(shuffled: Mapping[str, Any]) -> list[str]:
    """The range of luck: 95 % of shuffles, which has to hold 0 unless the evaluation itself is wrong."""
    interval, settings = interval_of(shuffled), _mapping(shuffled.get("settings"))
    if interval is None:
        return []
    repeats, share = number_of(settings, "repeats"), number_of(settings, "share_above_sharpe")
    many = f"95 % of {repeats:.0f} shuffles" if repeats else "95 % of shuffles"
    reached = f"; {100 * share:.1f} % of them reach this model's Sharpe" if share is not None else ""
    figures = f"Scores shuffled among each day's stocks reach {interval[0]:.2f} to {interval[1]:.2f} ({many}){reached}"
    if interval[0] <= 0 <= interval[1]:
        return [f"{figures}. That covers 0, as it must."]
    return [f"{figures}. That leaves out 0: the evaluation itself leaks, and no figure here can be trusted."]


def _planted(test: Mapping[str, Any], planted: Mapping[str, Any]) -> list[str]:
    best, reached = number_of(planted, "ic"), number_of(test, "ic")
    if best is None or reached is None:
        return []
    if best <= 0:
        return [f"This market holds no planted signal; the IC of {reached:.3f} is chance."]
    return [
        f"The market is synthetic, with a known truth: the IC of {reached:.3f} is {100 * reached / best:.0f} % "
        f"of the best reachable, {best:.3f}."
    ]


def _batch_sharpe(batch: Mapping[str, Any]) -> list[str]:
    """How much of the batch Sharpe's variance the sample alone explains."""
    count, mean, spread, expected = (number_of(batch, name) for name in ("count", "mean", "std", "expected_std"))
    if not count or mean is None or not spread:
        return []
    seen = f"The batch Sharpe of {count:,.0f} steps was {mean:.3f} ± {spread:.3f}"
    if not expected:
        return [f"{seen}; its expected sampling noise is not known."]
    share = min((expected / spread) ** 2, 1.0)
    noise = f"{seen}; sampling noise alone gives ± {expected:.3f}, {share:.0%} of that variance".replace("%", " %")
    if share >= MOSTLY:
        return [f"{noise}: most of its ups and downs are the sample's, not learning's."]
    return [f"{noise}: the rest is learning, or days that differ more than the sample explains."]
