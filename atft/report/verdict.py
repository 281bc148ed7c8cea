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

YEAR = 252**0.5
"""From a Sharpe ratio per day to that of a year; a result holds the interval after costs per day."""
LEVEL = 0.05
"""p-value up to which a difference is called one."""
SURE = 0.95
"""Probability from which a deflated Sharpe ratio is more than the luck of a search."""
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
    sentences += _bootstrap(test)
    sentences += _net(test)
    sentences += [] if _mapping(result.get("baseline")) else _search(test)
    sentences += _without_label(test)
    sentences += _track_record(test)
    for name in COMPARED:
        sentences += _against(test, name, _mapping(_mapping(result.get("baselines")).get(name)))
    sentences += _shuffled(_mapping(_mapping(result.get("baselines")).get("shuffled")))
    sentences += _planted(test, _mapping(result.get("planted")))
    sentences += [f"Loss and metric part ways, {text}." for text in _divergences(result, divergences)]
    sentences += _batch_sharpe(_mapping(result.get("batch_sharpe")))
    if test:
        sentences.append(
            "Training used the test period for nothing; every choice of weights was made on the validation period."
        )
    return sentences


def standing(figures: Mapping[str, Any]) -> Standing:
    """Where the 95 % interval of a Sharpe ratio before costs lies: above 0, below, around it (noise), nowhere known."""
    return _standing(number_of(figures, "sharpe_annual"), interval_of(figures))


def standing_net(figures: Mapping[str, Any]) -> Standing:
    """The same of the ratio after costs."""
    return _standing(number_of(figures, "sharpe_net_annual"), net_interval_of(figures))


def _standing(ratio: float | None, interval: tuple[float, float] | None) -> Standing:
    if ratio is None or interval is None:
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
    return _pair(figures.get("sharpe_annual_ci95"))


def net_interval_of(figures: Mapping[str, Any]) -> tuple[float, float] | None:
    """The 95 % interval of the annual Sharpe ratio after costs; None where there is none."""
    daily = _pair(figures.get("sharpe_net_ci95"))
    return None if daily is None else (daily[0] * YEAR, daily[1] * YEAR)


def _pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return None
    low, high = (number_of({"": bound}, "") for bound in value)
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
    told = f"Test Sharpe {sharpe:.2f} a year, 95 % interval {interval[0]:.2f} to {interval[1]:.2f}{over}: {words}"
    return f"{told}{_after_costs(test)}."


def _after_costs(test: Mapping[str, Any]) -> str:
    """What a ratio above 0 before costs comes to after them; empty where the headline says it all."""
    net, interval = number_of(test, "sharpe_net_annual"), net_interval_of(test)
    if standing(test) != "positive" or net is None or interval is None:
        return ""
    words = {"positive": "and after them", "negative": "but below 0 after them", "noise": "but not after them"}
    return f" before costs, {words[standing_net(test)]} ({net:.2f}, {interval[0]:.2f} to {interval[1]:.2f})"


def _bootstrap(test: Mapping[str, Any]) -> list[str]:
    """Nothing where both intervals of the Sharpe ratio say the same; a caution where they part."""
    found = _mapping(_mapping(test.get("inference")).get("sharpe_annual_bootstrap"))
    low, high, held = number_of(found, "low"), number_of(found, "high"), standing(test)
    if low is None or high is None or held == "unknown":
        return []
    other = "positive" if low > 0 else "negative" if high < 0 else "noise"
    if other == held:
        return []
    return [
        f"The block bootstrap's interval, {low:.2f} to {high:.2f}, {'covers' if other == 'noise' else 'leaves out'} 0, "
        "and so says something else: too close to call."
    ]


def _search(test: Mapping[str, Any]) -> list[str]:
    """What is left of the ratio after all looks at this test period."""
    found = _mapping(_mapping(test.get("inference")).get("deflated"))
    share, best, trials = (number_of(found, name) for name in ("probability", "benchmark_annual", "trials"))
    if share is None or best is None or trials is None:
        return []
    others = number_of(found, "elsewhere") or 0
    more = f" ({others:.0f} more on overlapping dates, of other panels or test periods)" if others else ""
    chance = f"{100 * share:.1f} %"
    if trials <= 1 or not best:
        looks = {0: "no trial on this test period is", 1: "one trial on this test period is"}
        known = looks.get(int(trials), f"{trials:.0f} trials on this test period, too few of them with different "
                          "ratios to take anything off, are")  # fmt: skip
        nothing = ", so that nothing is taken off for a search" if trials <= 1 else ""
        return [
            f"The probability that the true Sharpe ratio is above 0 is {chance}; {known} registered{more}{nothing}."
        ]
    passed = "so the search alone does not explain it" if share >= SURE else "so the search alone may explain it"
    return [
        f"This is one of {trials:.0f} different evaluations of this test period{more}: the best of as many models of "
        f"no worth would reach {best:.2f} a year. The probability that this one's true ratio is above that is {chance} "
        f"(deflated Sharpe ratio), {passed}."
    ]


def _without_label(test: Mapping[str, Any]) -> list[str]:
    """What became of decisions that have no label: no investor could have left them out."""
    missing, days = number_of(test, "missing_labels"), number_of(test, "decisions")
    if not missing or days is None:
        return []
    told = f"{missing:,.0f} of {missing + days:,.0f} scored stock-days have no label"
    valued, cash = number_of(test, "valued_at_last_price"), number_of(test, "not_bought")
    if valued is None or cash is None:
        return [_left_out(test, f"{told} and are left out")]
    if not valued + cash:
        return [f"{told}; a label of the table's own has no price to value them at, so that they are left out."]
    parts = [f"{valued:,.0f} are valued at the last known price"] if valued else []
    parts += [f"{cash:,.0f} had no price to be bought at and stay in cash"] if cash else []
    return [f"{told}: in the portfolio {', '.join(parts)}; the IC leaves them out."]


def _left_out(test: Mapping[str, Any], told: str) -> str:
    """Of a result whose portfolio left them out: beside it what positions taken before anyone knew have earned."""
    held = test.get("strategies")
    books = held if isinstance(held, Sequence) and not isinstance(held, str) else ()
    for each in map(_mapping, books):
        kept = number_of(each, "sharpe_annual")
        if each.get("strategy") == "score" and each.get("execution") == "close" and kept is not None:
            return f"{told}; traded before anyone knew which, the scores reach a Sharpe ratio of {kept:.2f} a year."
    return f"{told}."


def _track_record(test: Mapping[str, Any]) -> list[str]:
    """How long it would take, where the days do not suffice."""
    sure, days = _mapping(test.get("inference")), number_of(test, "days")
    needed, least = number_of(sure, "minimum_track_record_days"), number_of(sure, "detectable_sharpe_annual")
    if days is None or least is None or standing(test) != "noise":
        return []
    seen = (
        f"{days:.0f} days show a true Sharpe ratio of {least:.2f} a year or more four times in five, others less often"
    )
    if needed is None or needed <= days:
        return [f"{seen}."]
    return [f"{seen}; a ratio such as this would need {needed:,.0f} days to be above 0 with 95 % probability."]


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
    """The model beside one baseline: better or worse by the paired test, without one where the intervals keep apart."""
    mine, other = number_of(test, "sharpe_annual"), number_of(baseline, "sharpe_annual")
    if mine is None or other is None:
        return []
    called = f"the {BASELINE_NAMES[name]}" if name != "equal_weight" else "equal weight"
    verb = "Beats" if mine > other else "Falls short of" if mine < other else "Equals"
    by = f" by {abs(mine - other):.2f} a year" if mine != other else ""
    figures = f"{verb} {called}{by} ({mine:.2f} against {other:.2f})"
    tested = _tested(_mapping(_mapping(_mapping(test.get("inference")).get("against")).get(name)))
    if tested:
        return [f"{figures}; {tested}"]
    own, its = interval_of(test), interval_of(baseline)
    if own is None or its is None:
        return [f"{figures}; without both intervals nothing is shown."]
    if own[0] > its[1]:
        return [f"{figures}; the intervals keep apart: better."]
    if own[1] < its[0]:
        return [f"{figures}; the intervals keep apart: worse."]
    return [f"{figures}; the intervals overlap: not shown to be {'worse' if mine < other else 'better'}."]


def _tested(found: Mapping[str, Any]) -> str:
    """What the paired test says, its p-value corrected for all baselines; empty where there is none."""
    p, difference = number_of(found, "p_value_holm"), number_of(_mapping(found.get("sharpe_annual")), "estimate")
    if p is None or difference is None:
        return ""
    told = f"a paired test, corrected for the three, gives p = {p:.3f}"
    word = "better" if difference > 0 else "worse"
    return f"{told}: {word}." if p <= LEVEL else f"{told}: not shown to be {word}."


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
        return [f"{figures}. That covers 0, as it must whatever the scores know."]
    return [f"{figures}. That leaves out 0: the evaluation itself is wrong, and no figure here can be trusted."]


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
