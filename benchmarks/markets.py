"""Markets that owe nothing to the demo's generator: what honest numbers are tested on.

Returns are martingale differences: no direction can be known. Volatility can.
"""

import numpy as np
from scipy.signal import lfilter

from candles.columns import make_table

FIRST = 1_672_531_200_000_000_000  # 2023-01-01, ns
SIGMA = 0.00075  # mean volatility of a minute


def unit_ar1(rng, length, half_life_bars):
    """Returns a process of variance 1 (length,)."""
    keep = 0.5 ** (1 / half_life_bars)
    steps = rng.standard_normal(length) * np.sqrt(1 - keep**2)
    steps[0] /= np.sqrt(1 - keep**2)
    return lfilter([1.0], [1.0, -keep], steps)


def garch_candles(num_bars, seed, *, bar_seconds=60):
    """Returns bars of a GARCH(1, 1) with leverage and Student's t.

    Shocks fade with a half-life of 350 bars, 5.8 hours of minutes.
    Source: Glosten, Jagannathan and Runkle (1993), for the leverage.
    """
    rng = np.random.default_rng([seed, 1])
    burn_in = 4_000
    arch, leverage, garch = 0.015, 0.02, 0.973
    constant = SIGMA**2 * (1 - arch - leverage / 2 - garch)
    squares = []
    variance = SIGMA**2
    shocks = rng.standard_t(6, burn_in + num_bars) * np.sqrt(4 / 6)
    for shock in shocks.tolist():
        squares.append(variance)
        slope = arch + leverage * (shock < 0)
        variance = constant + variance * (slope * shock * shock + garch)
    sigma = np.sqrt(np.array(squares) * bar_seconds / 60)
    return _candles(rng, sigma[burn_in:], shocks[burn_in:], bar_seconds=bar_seconds)


def slow_candles(num_bars, seed):
    """Returns minutes whose log volatility has a half-life of a day."""
    rng = np.random.default_rng([seed, 2])
    sigma = SIGMA * np.exp(0.4 * unit_ar1(rng, num_bars, 1440) - 0.5 * 0.4**2)
    return _candles(rng, sigma, rng.standard_normal(num_bars))


def _candles(rng, sigma, shocks, *, bar_seconds=60):
    """Returns candles with these volatilities and shocks, both (num_bars,)."""
    ends = np.cumsum(sigma * shocks - sigma**2 / 2)
    starts = np.append(0.0, ends[:-1])
    # Extremes of a Brownian bridge between the ends of a bar.
    far = [
        (starts + ends) / 2
        + sign
        * np.sqrt((ends - starts) ** 2 - 2 * sigma**2 * np.log(rng.random(len(ends))))
        / 2
        for sign in (1, -1)
    ]
    columns = {
        "open": starts,
        "high": np.maximum(far[0], np.maximum(starts, ends)),
        "low": np.minimum(far[1], np.minimum(starts, ends)),
        "close": ends,
    }
    columns = {name: 100 * np.exp(values) for name, values in columns.items()}
    noise = np.exp(0.5 * rng.standard_normal(len(ends)))
    columns["volume"] = 40 * sigma / SIGMA * noise
    times = FIRST + np.arange(len(ends)) * bar_seconds * 1_000_000_000
    return make_table(times, columns)
