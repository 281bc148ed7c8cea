"""Folds against an oracle that enumerates, as sets of days, what every decision sees and what its labels span."""

from __future__ import annotations

import datetime as dt
from itertools import combinations
from math import comb
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from atft.config import Combinatorial, Label, WalkForward
from atft.data.folds import backtest_paths, choices, validation_group
from atft.data.manifest import FeatureEntry
from atft.data.splits import cut, decision_days, fold_of, folds_of, input_reach
from atft.errors import UseError
from atft.experiment.tiers import resolve

TIER = resolve("tier1", environ={}).tier


def a_calendar(gaps):
    """Days that follow one another at the given distances."""
    return np.datetime64("2015-01-01", "D") + np.cumsum(np.asarray(gaps, dtype=np.int64))


def a_set(days):
    """A set of day numbers as one integer: bit ``d + 1000`` for day ``d``."""
    found = 0
    for day in days:
        found |= 1 << (day + 1000)
    return found


def label_days(day, label):
    """The days whose returns a decision's labels are made of."""
    horizons = (label.horizon, *label.quantile_horizons)
    return {day + label.execution_lag + step for horizon in horizons for step in range(1, horizon + 1)}


def input_days(day, window, lookbacks, graph):
    """The days whose closes a decision sees: through each day of its window, and through its graph."""
    seen = {day - back for back in range(graph + 1)}
    for back in range(window):
        for lookback in (0, *lookbacks):
            seen |= {day - back - further for further in range(lookback + 1)}
    return seen


def layout_of(dates, split, label):
    """Train, validate and test before any purge, as sets of decision days, counted out day by day."""
    reach = label.execution_lag + label.horizon
    decisions = [end - reach for end, date in enumerate(dates) if split.first <= date <= split.last]
    total = len(decisions)
    if isinstance(split, WalkForward):
        rest = total - split.train_days - split.validate_days
        if rest < split.folds:
            return None
        sizes = [rest // split.folds + (number < rest % split.folds) for number in range(split.folds)]
        start = split.train_days + split.validate_days + sum(sizes[: split.fold])
        test = range(start, start + sizes[split.fold])
        validate = range(start - split.validate_days, start)
        begin = 0 if split.scheme == "expanding" else validate[0] - split.train_days
        parts = {"train": range(begin, validate[0]), "validate": validate, "test": test}
    else:
        if total < split.groups:
            return None
        sizes = [total // split.groups + (number < total % split.groups) for number in range(split.groups)]
        group = [number for number, size in enumerate(sizes) for _ in range(size)]
        tested = list(combinations(range(split.groups), split.test_groups))[split.fold]
        held = tested[0] - 1
        while held % split.groups in tested:
            held -= 1
        kind = ["test" if g in tested else "validate" if g == held % split.groups else "train" for g in group]
        parts = {name: [p for p in range(total) if kind[p] == name] for name in ("train", "validate", "test")}
    return {name: [decisions[place] for place in places] for name, places in parts.items()}


def kept_of(chosen, label, window, lookbacks, graph, embargo):
    """What may stay: its sets of days meet no label, widened by the embargo, of what is judged later."""

    def clear(day, held):
        own = label_days(day, label)
        for other in held:
            judged = label_days(other, label)
            if day < other:
                own_and_after = a_set({each + more for each in own for more in range(embargo + 1)})
                if own_and_after & a_set(judged):
                    return False
            else:  # nothing between the decision and the end of its label, and nothing that looks back into it
                seen = own | input_days(day, window, lookbacks, graph)
                held_days = a_set(range(other, max(judged) + 1))
                if a_set({each - less for each in seen for less in range(embargo + 1)}) & held_days:
                    return False
        return True

    near = {}

    def clear_of(day, held):  # only the nearest on each side can matter: sets of days are runs
        sides = [max((h for h in held if h <= day), default=None), min((h for h in held if h >= day), default=None)]
        key = (day, *sides)
        if key not in near:
            near[key] = clear(day, [side for side in sides if side is not None])
        return near[key]

    kept = dict(chosen)
    kept["validate"] = [day for day in chosen["validate"] if clear_of(day, chosen["test"])]
    kept["train"] = [
        day for day in chosen["train"] if clear_of(day, kept["validate"]) and clear_of(day, chosen["test"])
    ]
    return kept


labels = st.builds(
    lambda horizon, lag, quantiles: Label(
        horizon=horizon, execution_lag=lag, cost_bps=0.0, quantile_horizons=tuple(quantiles)
    ),
    st.integers(1, 5),
    st.integers(0, 3),
    st.lists(st.integers(1, 9), max_size=2),
)


@st.composite
def schemes(draw, dates, label):
    """A scheme over most of the calendar, and one of its folds."""
    reach = label.execution_lag + label.horizon
    first = draw(st.integers(reach, reach + 6))
    last = draw(st.integers(len(dates) - 6, len(dates) - 1))
    common = {
        "first": dates[first] - dt.timedelta(days=draw(st.integers(0, (dates[first] - dates[first - 1]).days - 1))),
        "last": dates[last],
        "embargo_days": draw(st.integers(0, 5)),
    }
    if draw(st.booleans()):
        groups = draw(st.integers(3, 7))
        split = Combinatorial(
            scheme="combinatorial", groups=groups, test_groups=draw(st.integers(1, groups - 2)),
            own_lookback_days=draw(st.integers(0, 9)), **common,
        )  # fmt: skip
    else:
        split = WalkForward(
            scheme=draw(st.sampled_from(["expanding", "rolling"])), folds=draw(st.integers(1, 6)),
            train_days=draw(st.integers(3, 60)), validate_days=draw(st.integers(2, 30)), **common,
        )  # fmt: skip
    return split.model_copy(update={"fold": draw(st.integers(0, split.count - 1))})


@settings(max_examples=250, deadline=None)
@given(data=st.data(), gaps=st.lists(st.integers(1, 5), min_size=60, max_size=150), label=labels)
def test_what_is_left_of_a_fold_is_what_an_enumeration_of_label_and_input_days_leaves(data, gaps, label):
    days = a_calendar(gaps)
    dates = days.tolist()
    split = data.draw(schemes(dates, label))
    window = data.draw(st.integers(1, 6))
    graph = data.draw(st.integers(5, 14))
    lookbacks = data.draw(st.lists(st.one_of(st.none(), st.integers(0, 12)), max_size=3))
    tier = TIER.model_copy(
        update={
            "split": split,
            "label": label,
            "window": TIER.window.model_copy(update={"days": window}),
            "graph": TIER.graph.model_copy(update={"lookback_days": graph}),
        }
    )
    features = tuple(FeatureEntry(name="x", formula="", lookback_days=each) for each in lookbacks)
    panel = SimpleNamespace(days=days, manifest=SimpleNamespace(features=features, longest_span=0))
    chosen = layout_of(dates, split, label)
    known = [getattr(split, "own_lookback_days", 0) if each is None else each for each in lookbacks]
    kept = chosen and kept_of(chosen, label, window, known, graph, split.embargo_days)
    if not kept or not all(kept.values()):
        with pytest.raises(UseError, match="Mend"):
            fold_of(tier, panel)
        return
    found = fold_of(tier, panel)
    assert {name: period.tolist() for name, period in vars(found.periods).items()} == kept
    left_out = sorted(set(chosen["train"]) - set(kept["train"]) | set(chosen["validate"]) - set(kept["validate"]))
    assert sorted([*found.purged, *found.embargoed]) == left_out
    if not split.embargo_days:
        assert not len(found.embargoed)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), gaps=st.lists(st.integers(1, 4), min_size=80, max_size=120), label=labels)
def test_days_before_and_after_the_span_of_a_scheme_move_no_fold(data, gaps, label):
    days = a_calendar(gaps)
    split = data.draw(schemes(days.tolist(), label))
    more = data.draw(st.integers(1, 20))
    longer = np.concatenate([days[0] - np.arange(more, 0, -1), days, days[-1] + np.arange(1, more + 1)])
    try:
        short = cut(days, split, label, 9)
    except UseError:
        assume(False)
    long = cut(longer, split, label, 9)
    for name, period in vars(short.periods).items():
        assert days[period].tolist() == longer[getattr(long.periods, name)].tolist()


@settings(max_examples=60, deadline=None)
@given(
    total=st.integers(60, 200), folds=st.integers(1, 8), train=st.integers(5, 30), validate=st.integers(3, 12),
    scheme=st.sampled_from(["expanding", "rolling"]),
)  # fmt: skip
def test_walk_forward_tests_every_day_behind_the_first_validation_once_and_in_order(
    total, folds, train, validate, scheme
):
    days = a_calendar([1] * total)
    label = Label(horizon=1, execution_lag=0, cost_bps=0.0, quantile_horizons=())
    split = WalkForward(
        scheme=scheme, first=days[1].item(), last=days[-1].item(), folds=folds, train_days=train,
        validate_days=validate, embargo_days=0,
    )  # fmt: skip
    tier = TIER.model_copy(update={"split": split})
    found = [decision_days(days, each.split, label) for each in folds_of(tier)]
    assert np.concatenate([each.test for each in found]).tolist() == list(range(train + validate, total - 1))
    for each in found:
        assert each.validate[-1] < each.test[0]
        assert len(each.train) == (train if scheme == "rolling" else each.validate[0])
        assert {len(each.test) for each in found} <= {len(found[0].test), len(found[0].test) - 1}


def a_combination(groups, test_groups, **more):
    return Combinatorial(
        scheme="combinatorial", first=dt.date(2015, 1, 10), last=dt.date(2015, 5, 1), embargo_days=0, groups=groups,
        test_groups=test_groups, own_lookback_days=0, **more,
    )  # fmt: skip


def test_six_groups_two_of_them_tested_make_the_fifteen_splits_and_five_paths_of_the_book():
    split = a_combination(6, 2)
    assert (split.count, split.paths) == (15, 5)
    assert choices(split)[:6] == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (1, 2)]
    # "Path 1 is the result of combining the forecasts from (G1, S1), (G2, S1), (G3, S2), (G4, S3), (G5, S4) and
    # (G6, S5). Path 2 … from (G1, S2), (G2, S6), (G3, S6), (G4, S7), (G5, S8) and (G6, S9)."  López de Prado, 12.3
    assert [[fold + 1 for fold in path] for path in backtest_paths(split)[:2]] == [
        [1, 1, 2, 3, 4, 5],
        [2, 6, 6, 7, 8, 9],
    ]


@given(groups=st.integers(3, 8), data=st.data())
def test_every_test_group_of_every_fold_is_in_exactly_one_path(groups, data):
    split = a_combination(groups, data.draw(st.integers(1, groups - 2)))
    paths = backtest_paths(split)
    assert len(paths) == split.paths == comb(groups - 1, split.test_groups - 1)
    used = [(fold, group) for path in paths for group, fold in enumerate(path)]
    tested = [(fold, group) for fold, held in enumerate(choices(split)) for group in held]
    assert sorted(used) == sorted(tested)


def test_a_fold_validates_on_the_untested_group_before_its_first_test_group_around_the_end():
    split = a_combination(6, 2)
    assert validation_group(split, (2, 3)) == 1
    assert validation_group(split, (0, 3)) == 5
    assert validation_group(split, (0, 5)) == 4


def test_training_after_a_test_starts_a_window_less_one_and_the_longest_lookback_later():
    days = a_calendar([1] * 200)
    label = Label(horizon=2, execution_lag=1, cost_bps=0.0, quantile_horizons=(4,))
    split = a_combination(4, 1, fold=1).model_copy(update={"embargo_days": 3, "own_lookback_days": 7})
    tier = TIER.model_copy(update={"split": split, "window": TIER.window.model_copy(update={"days": 6})})
    features = (FeatureEntry(name="own", formula="", lookback_days=None),)
    assert input_reach(tier, features) == TIER.graph.lookback_days == 60  # the graph looks back further
    near = tier.model_copy(update={"graph": TIER.graph.model_copy(update={"lookback_days": 5})})
    assert input_reach(near, features) == 6 - 1 + 7
    assert input_reach(near, features, longest_span=11) == 6 - 1 + 11  # the calendar of several markets is longer
    found = decision_days(days, split, label, 6 - 1 + 7)
    end = found.test[-1] + 1 + 4  # of the last test day's longest label
    assert found.train[found.train > found.test[-1]][0] == end + 1 + 6 - 1 + 7 + 3


REFUSED = {
    "k of N": (lambda: a_combination(5, 5), r"test_groups = 5 of groups = 5.*mend: test_groups = 3 or fewer"),
    "k above N": (lambda: a_combination(3, 7), r"test_groups = 7 of groups = 3.*mend: groups = 9 or more"),
    "no training group": (lambda: a_combination(4, 3), r"test_groups = 3 of groups = 4"),
    "unknown fold": (lambda: a_combination(6, 2, fold=15), r"fold = 15 of 15 folds; mend: a fold from 0 to 14"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_scheme_that_cannot_be_is_refused(case):
    make, told = REFUSED[case]
    with pytest.raises(ValidationError, match=told):
        make()


def test_own_features_whose_lookback_nobody_states_are_refused():
    stated = a_combination(6, 2).model_dump()
    del stated["own_lookback_days"]
    with pytest.raises(UseError, match=r"split.own_lookback_days: not stated, and it has no default. Mend: --set"):
        resolve("tier1", flags={f"split.{name}": value for name, value in stated.items()}, environ={})


def test_a_scheme_without_a_fold_is_refused_where_days_are_asked_for():
    with pytest.raises(UseError, match=r"split.fold: not stated.*scheme of 15 folds.*--folds all"):
        decision_days(a_calendar([1] * 200), a_combination(6, 2), TIER.label, 5)


@pytest.mark.parametrize("shift", [{"first": dt.date(2014, 12, 1)}, {"last": dt.date(2016, 1, 1)}])
def test_a_span_that_the_calendar_does_not_hold_is_refused_since_folds_would_move(shift):
    split = a_combination(6, 2, fold=0).model_copy(update=shift)
    told = r"would move when it grows. Mend: .*--set split.first=2015-01-03 --set split.last=2015-07-20"
    with pytest.raises(UseError, match=told):
        decision_days(a_calendar([1] * 200), split, TIER.label, 5)


def test_too_few_days_for_the_folds_are_refused_with_their_count():
    label = Label(horizon=1, execution_lag=0, cost_bps=0.0, quantile_horizons=())
    split = WalkForward(
        scheme="rolling", first=dt.date(2015, 1, 10), last=dt.date(2015, 2, 8), folds=5, train_days=20,
        validate_days=7, embargo_days=0, fold=0,
    )  # fmt: skip
    with pytest.raises(UseError, match=r"holds 30 label days; train_days = 20 .* leave 3 of them for folds = 5"):
        decision_days(a_calendar([1] * 100), split, label)
    few = a_combination(6, 2, fold=0).model_copy(update={"last": dt.date(2015, 1, 12)})
    with pytest.raises(UseError, match=r"holds 3 label days for groups = 6"):
        decision_days(a_calendar([1] * 100), few, label, 5)


def test_the_least_days_and_the_earliest_first_date_that_suffice_do_and_one_less_does_not():
    label = Label(horizon=1, execution_lag=1, cost_bps=0.0, quantile_horizons=())
    days = a_calendar([2] * 40)  # the first label ends on the third day, so that `first` may follow the second
    split = WalkForward(
        scheme="rolling", first=days[1].item() + dt.timedelta(days=1), last=days[31].item(), folds=3, train_days=20,
        validate_days=7, embargo_days=0, fold=2,
    )  # fmt: skip
    found = decision_days(days, split, label)
    assert (found.train[0], found.test.tolist()) == (2, [29])
    with pytest.raises(UseError, match=r"holds 29 label days; .* leave 2 of them for folds = 3"):
        decision_days(days, split.model_copy(update={"last": days[30].item()}), label)
    with pytest.raises(UseError, match="would move when it grows"):
        decision_days(days, split.model_copy(update={"first": days[1].item()}), label)


def test_a_fold_without_training_days_after_the_purge_is_refused_with_the_mend():
    with pytest.raises(UseError, match=r"split.fold = 1: none of its \d+ train days is left.*Mend: fewer groups"):
        decision_days(a_calendar([1] * 200), a_combination(3, 1, fold=1), TIER.label, 90)


def test_walk_forward_needs_to_know_no_lookback_and_combinations_do():
    with pytest.raises(ValueError, match="periods_of"):
        decision_days(a_calendar([1] * 200), a_combination(6, 2, fold=0), TIER.label)
