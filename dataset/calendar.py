"""Where the close of a bar stands in the day, in the week and before the next funding.

In: opens of bars as nanoseconds. Out: its registration as a feature set (`features`).

The time is that of the bar's *close*, the moment its row is known. Each place is a
point on a circle, its sine and cosine, so that 23:59 stands beside 00:00. A column that
the length of a bar makes constant, such as the hour of daily bars, is left out.
"""

from __future__ import annotations

import math

import numpy as np

DAY, WEEK = 86_400, 7 * 86_400
FUNDING = 8 * 3600
"""Seconds from one funding of a perpetual contract to the next: 00:00, 08:00, 16:00."""

_MONDAY = 3  # days that 1970-01-01, a Thursday, lies behind a Monday


def clock_columns(opens: np.ndarray, bar_seconds: int) -> dict[str, np.ndarray]:
    """Returns sines and cosines of the hour, the weekday and the minutes to funding.

    Args:
        opens: Nanoseconds since 1970, UTC (num_bars,).
        bar_seconds: Length of a bar.

    Returns:
        `hour_*` (time of day, a day is the circle), `weekday_*` (whole days since
        Monday, of seven) and `to_funding_*` (time left, of eight hours), `*` being
        `sin` and `cos`, (num_bars,) float64 each.
    """
    closes = opens // 10**9 + bar_seconds
    parts = {
        "hour": (closes % DAY / DAY, DAY),
        "weekday": ((closes // DAY + _MONDAY) % 7 / 7, WEEK),
        "to_funding": (-closes % FUNDING / FUNDING, FUNDING),
    }
    found = {}
    for name, (turns, circle) in parts.items():
        num_places = circle // math.gcd(bar_seconds, circle)
        if num_places > 2:  # at two places, 0 and half a turn, the sine is 0
            found[f"{name}_sin"] = np.sin(2 * np.pi * turns)
        if num_places > 1:
            found[f"{name}_cos"] = np.cos(2 * np.pi * turns)
    return found
