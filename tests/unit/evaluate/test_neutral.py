import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atft.errors import UseError
from atft.evaluate.neutral import neutralise
from atft.evaluate.portfolio import positions

numbers = st.floats(-1e3, 1e3, allow_subnormal=False)
cases = st.integers(3, 14).flatmap(
    lambda stocks: st.tuples(
        hnp.arrays(np.float64, (2, stocks), elements=numbers),
        hnp.arrays(np.bool_, (2, stocks), elements=st.booleans()),
        hnp.arrays(np.int32, stocks, elements=st.integers(-1, 3)).filter(lambda groups: (groups >= 0).any()),
        hnp.arrays(np.float64, (2, stocks), elements=st.one_of(numbers, st.just(np.nan))),
    )
)


@settings(max_examples=60, deadline=None)
@given(cases)
def test_what_is_left_is_orthogonal_to_the_day_every_group_and_the_characteristic(case):
    values, valid, groups, size = case
    left = neutralise(values, valid, groups=groups, characteristics=[size])
    held = positions(left, valid)
    for found in (left / max(np.abs(values).max(), 1e-300), held):
        assert not found[~valid].any()
        assert np.abs(found.sum(1)).max() < 1e-10
        for group in range(4):
            assert np.abs(found[:, groups == group].sum(1)).max(initial=0) < 1e-10
        for day in range(2):
            known = valid[day] & np.isfinite(size[day])
            scale = max(np.abs(size[day, known]).max(initial=0), 1e-300)
            average = size[day, known].mean() if known.any() else 0.0
            exposure = np.where(known, size[day] - average, 0.0) / scale
            assert abs(found[day] @ exposure) < 1e-10


def test_it_is_the_residual_of_statsmodels_regression():
    random = np.random.default_rng(1)
    values, valid = random.standard_normal((4, 50)), random.random((4, 50)) < 0.8
    groups = random.integers(-1, 5, 50)
    size, other = random.standard_normal((4, 50)) + values, random.standard_normal((4, 50))
    left = neutralise(values, valid, groups=groups, characteristics=[size, other])
    for day in range(4):
        kept = valid[day]
        dummies = (groups[kept, None] == np.arange(5)).astype(float)
        design = np.column_stack([np.ones(kept.sum()), dummies, size[day, kept], other[day, kept]])
        np.testing.assert_allclose(left[day, kept], sm.OLS(values[day, kept], design).fit().resid, atol=1e-10)


def test_scores_that_industry_explains_leave_nothing_and_not_rounding():
    groups = np.repeat([0, 1, 2], 5)
    scores = np.array([np.repeat([0.1, 1 / 3, 7.7], 5), np.repeat([1e9 / 3, 0.1, 5], 5)])
    left = neutralise(scores, np.ones_like(scores, dtype=bool), groups=groups)
    assert not left.any()


def test_a_characteristic_that_groups_explain_changes_nothing():
    random = np.random.default_rng(2)
    scores, groups = random.standard_normal((1, 15)), np.repeat([0, 1, 2], 5)
    valid = np.ones_like(scores, dtype=bool)
    alone = neutralise(scores, valid, groups=groups)
    doubled = neutralise(scores, valid, groups=groups, characteristics=[np.repeat([[0.1, 1 / 3, 7.7]], 5, axis=1)])
    np.testing.assert_allclose(doubled, alone, atol=1e-14)


def test_a_characteristic_given_twice_counts_once():
    random = np.random.default_rng(3)
    scores, size = random.standard_normal((1, 15)), random.standard_normal((1, 15))
    valid = np.ones_like(scores, dtype=bool)
    once = neutralise(scores, valid, characteristics=[size])
    np.testing.assert_allclose(neutralise(scores, valid, characteristics=[size, 2 * size + 1]), once, atol=1e-12)


def test_industries_that_are_all_unknown_are_refused():
    with pytest.raises(UseError, match=r"industry of all 4 stocks is unknown.*Mend: --neutralise size"):
        neutralise(np.ones((1, 4)), np.ones((1, 4), dtype=bool), groups=np.full(4, -1))
