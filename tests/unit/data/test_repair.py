"""Adjustment factors that a vendor scales anew stay the same to the last bit."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.data.repair import steady

SHORT = [1, 2, 0.5, 4, 0.25, 0.1, 10, 1.5, 3, 100, 1e-6, 1e6, 0.875, 0.99999999, 1.0000001, 1.2345678, 123.4, 1e10]
"""At most 8 digits."""


@pytest.mark.parametrize("ratio", SHORT)
def test_a_short_number_is_itself_however_it_was_computed(ratio):
    near = np.array([ratio, *np.nextafter(ratio, [0, np.inf]), ratio * (1 - 4e-16), ratio * (1 + 4e-16)])
    assert steady(near).tolist() == [ratio] * 5


@given(st.floats(1e-14, 1e14))
def test_a_ratio_keeps_eight_digits(ratio):
    found = steady(np.array([ratio]))[0]
    assert abs(found - ratio) <= 0.69 * 1e-7 * ratio
    digits = Decimal(repr(float(found))).normalize().as_tuple().digits
    assert len(digits) <= 8 or found > 1e16


TIES = [1.5**6, 0.5**11, 1.25**5, 0.75**9, 1.000000005, 123.456785, 2.0**27 + 1, *(1.5**n for n in range(20))]
"""Numbers that end where a rounding to nearest is undecided, or a digit or two behind."""


@pytest.mark.parametrize("ratio", [*TIES, 1 / 3, 2 / 3, 1 / 7, 5 / 6])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_no_common_ratio_lies_where_one_step_ends(ratio, side):
    for each in (ratio, 1 / ratio):
        near = np.array([each, each * (1 - 8e-16), each * (1 + 8e-16)])
        assert len(set(steady(near).tolist())) == 1, each


@settings(max_examples=200)
@given(
    st.lists(st.integers(1, 40).flatmap(lambda a: st.integers(1, 40).map(lambda b: a / b)), min_size=1, max_size=6),
    st.floats(1e-4, 1e4),
)
def test_scaling_all_factors_of_a_stock_changes_no_relative_one(events, scale):
    factors = 1 / np.cumprod([1.0, *events][::-1])[::-1]
    scaled = factors * scale
    assert steady(factors / factors[0]).tobytes() == steady(scaled / scaled[0]).tobytes()


def test_what_lies_far_outside_is_left_alone():
    far = np.array([1e-300, 3.3e-15, 1.7e15, 1e300])
    assert steady(far).tobytes() == far.tobytes()
