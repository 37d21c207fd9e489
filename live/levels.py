"""When days no longer are what they were: cumulative sums, and levels they may reach.

In: how far is too far, at a stated rate of false alarms. Out: which numbers of a day
are watched (`live.watching`).

Each day's number is held against the days that the report was made of. Small steps into
one direction add up (Page 1954, "Continuous inspection schemes"): S = max(0, S + z - k)
with z in deviations of a day. What S reaches in a quarter by luck is learned from
series that move from day to day as those days do: as many days as there were to learn
the usual one from, and a quarter that is held against it. So the error of what is usual
counts, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

QUARTER_DAYS = 91
WARNINGS_A_QUARTER, ALARMS_A_QUARTER = 0.1, 0.002
"""What all watched numbers give in a quarter by design, where a day remembers one day;
what they do is measured in docs/live.md."""
LEAST_DAYS = 10
"""Fewer days say nothing of what is usual."""
SLACK = 0.5
"""k: half of a shift of one deviation, which is found soonest."""
_NUM_DRAWS = 8000
_MOST_PHI, _WARM_UP = 0.95, 60


@dataclass(frozen=True, kw_only=True)
class Levels:
    """What is usual of a number a day, and how far its sums may go.

    Args:
        center: Mean of a usual day.
        spread: Deviation of a usual day.
        sides: 1 where only more is bad, -1 where only less is, 0 where both are.
        warning: A sum above it is a warning.
        alarm: A sum above it is an alarm.
    """

    center: float
    spread: float
    sides: int
    warning: float
    alarm: float

    def sums(self, days: np.ndarray) -> np.ndarray:
        """Returns the larger of both sums after each day (num_days,)."""
        z = (days - self.center) / self.spread
        return _sums(z[None], self.sides)[0]


def learn_levels(
    days: np.ndarray, *, sides: int, share: float, unit_days: int = 1, seed: int = 0
) -> Levels | None:
    """Returns the levels of a number a day; None of fewer than `LEAST_DAYS`.

    Args:
        days: Its usual days, in order (num_days,).
        sides: See `Levels`.
        share: Of the false alarms there may be, as there are other numbers.
        unit_days: What counts as a day, in days.
        seed: Of the draws.
    """
    if len(days) < LEAST_DAYS or not days.std() > 0:
        return None
    rng, count = np.random.default_rng(seed), len(days)
    later = max(1, round(QUARTER_DAYS / unit_days))
    drawn = _alike(days, (_NUM_DRAWS, count + later), rng)
    usual = drawn[:, :count]
    spread = np.maximum(usual.std(axis=1, keepdims=True), 1e-3 * days.std())
    z = (drawn[:, count:] - usual.mean(axis=1, keepdims=True)) / spread
    most = _sums(z, sides).max(axis=1)
    warning, alarm = (
        float(np.quantile(most, 1 - rate * share))
        for rate in (WARNINGS_A_QUARTER, ALARMS_A_QUARTER)
    )
    return Levels(
        center=float(days.mean()),
        spread=float(days.std()),
        sides=sides,
        warning=warning,
        alarm=alarm,
    )


def _alike(
    days: np.ndarray, shape: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Returns series that move as days do, around their mean (num_series, num_days).

    x_t = phi x_(t - 1) + e, phi corrected for the few days it is learned from, e drawn
    from what is left of them.
    Source of the correction: Kendall (1954), "Note on bias in the estimation of
    autocorrelation".
    """
    moved = days - days.mean()
    found = float(moved[1:] @ moved[:-1] / (moved @ moved))
    phi = min(_MOST_PHI, max(0.0, found + (1 + 3 * found) / len(days)))
    left = moved[1:] - phi * moved[:-1]
    left = (left - left.mean()) * np.sqrt(len(days) / (len(days) - 2))
    steps = rng.choice(left, (shape[0], _WARM_UP + shape[1]))
    series = np.zeros(len(steps))
    drawn = np.empty(steps.shape)
    for day in range(steps.shape[1]):
        series = phi * series + steps[:, day]
        drawn[:, day] = series
    return days.mean() + drawn[:, _WARM_UP:]


def _sums(z: np.ndarray, sides: int) -> np.ndarray:
    """Returns the larger of both sums (num_series, num_days) of standardised days."""
    found = np.zeros(z.shape)
    for sign in (1.0, -1.0):
        if sides and sign != sides:
            continue
        total = np.zeros(len(z))
        for day in range(z.shape[1]):
            total = np.maximum(0.0, total + sign * z[:, day] - SLACK)
            found[:, day] = np.maximum(found[:, day], total)
    return found
