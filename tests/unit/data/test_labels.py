"""Labels: forward returns and the days on which they end."""

import numpy as np
import pytest

from atft.data.labels import forward_returns, label_dates


@pytest.mark.parametrize(("horizon", "lag"), [(1, 0), (1, 1), (5, 0), (5, 2), (20, 1), (40, 0)])
def test_a_label_is_the_return_from_execution_to_the_horizon(horizon, lag):
    close = np.random.default_rng(0).uniform(1, 2, (30, 4))
    close[7, 1] = close[20, 2] = np.nan
    expected = np.full(close.shape, np.nan)
    for t in range(30):
        if t + lag + horizon < 30:
            expected[t] = close[t + lag + horizon] / close[t + lag] - 1
    np.testing.assert_array_equal(forward_returns(close, horizon, lag), expected)


@pytest.mark.parametrize(("horizon", "lag"), [(1, 0), (5, 2), (40, 0)])
def test_a_label_ends_on_the_day_whose_close_it_needs_last(horizon, lag):
    days = np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-01-31"))
    ends = label_dates(days, horizon, lag)
    for t, end in enumerate(ends):
        assert end == (t + lag + horizon if t + lag + horizon < len(days) else -1)


@pytest.mark.parametrize(("horizon", "lag"), [(0, 0), (-1, 0), (1, -1)])
def test_a_label_in_the_past_is_refused(horizon, lag):
    with pytest.raises(ValueError, match="horizon ≥ 1 and lag ≥ 0"):
        forward_returns(np.ones((3, 2)), horizon, lag)
