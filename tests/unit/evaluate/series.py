"""Made-up daily series whose truth is known."""

import numpy as np
from scipy.signal import lfilter


def autoregressive(random, count, phi=0.0, *, fat=False):
    """A stationary AR(1) of mean 0 and variance 1; with fat tails of a Student t of 5 degrees where asked."""
    noise = random.standard_t(5, count + 50) / np.sqrt(5 / 3) if fat else random.standard_normal(count + 50)
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], noise)[50:]


def pair(random, count, rho, phi=0.0, *, fat=False):
    """Two such series with this correlation."""
    common, own = (autoregressive(random, count, phi, fat=fat) for _ in range(2))
    return common, rho * common + np.sqrt(1 - rho**2) * own
