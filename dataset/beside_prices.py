"""What is known at a bar's close beside its prices: the clock, funding, open interest.

In: opens of bars as nanoseconds, rates and contracts known at their closes. Out:
registration as feature sets (`features`), which rows know a rate (`context`).

The clock's time is that of the bar's *close*, the moment its row is known. Each place
is a point on a circle, its sine and cosine, so that 23:59 stands beside 00:00. A column
that the length of a bar makes constant, such as the hour of daily bars, is left out.
"""

from __future__ import annotations

import math

import numpy as np

from dataset.indicators import ratio, rolling_mean, shifted

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


def funding_bars(bar_seconds: int) -> int:
    """Returns the bars from one funding to the next, at least 1."""
    return max(1, FUNDING // bar_seconds)


def funding_columns(rates: np.ndarray, bar_seconds: int) -> dict[str, np.ndarray]:
    """Returns the last rate, and its change over the time to the next funding.

    Args:
        rates: Funding rates as fractions of a position (num_bars,).
        bar_seconds: Length of a bar.

    Returns:
        `funding_bps`, `funding_change_bps`: basis points, (num_bars,) each; the change
        is NaN before `funding_bars`.
    """
    level = 1e4 * rates
    change = level - shifted(level, funding_bars(bar_seconds))
    return {"funding_bps": level, "funding_change_bps": change}


def open_interest_columns(
    contracts: np.ndarray, week_bars: int, *, raw: bool, newest: int | None
) -> dict[str, np.ndarray]:
    """Returns the change of a bar in percent, and the ratio to the mean of 7 days.

    Args:
        contracts: Open interest, of any unit (num_bars,).
        week_bars: Bars of 7 days.
        raw: Give the level instead of the ratio.
        newest: Bars at the end that are asked for; None: all.
    """
    before = shifted(contracts, 1)
    columns = {"open_interest_change": 100 * ratio(contracts - before, before)}
    if raw:
        return columns | {"open_interest": contracts}
    mean = rolling_mean(contracts, week_bars, newest)
    level = ratio(contracts[-len(mean) :], mean, otherwise=1.0)
    change = columns["open_interest_change"][-len(mean) :]
    return {
        "open_interest_change": change,
        f"open_interest_to_ma{week_bars}": level,
    }
