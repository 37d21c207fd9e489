"""Columns that are constant over an hour, a day or a week, against that very period.

In: columns that change at the edges of the clock alone. Out: all other columns
(`leading`).

A value that stands over a whole day was either known when it began, or is of the day
itself. Bar by bar the second is hard to see; the day's return, volume and range tell it
at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

_PERIODS = ("7D", "1D", "8h", "4h", "1h")
_MIN_PERIODS = 25
_MIN_CHANGING = 0.5  # share of edges at which the column changes
_MIN_CORRELATION = 0.4  # of volume and range, which a calendar foretells, too


class PeriodBars:
    """Return, volume and range of each hour, day and week of some bars.

    Args:
        bars: As for `leading.check_leading`.
    """

    def __init__(self, bars: pd.DataFrame) -> None:
        self._bars = bars
        times = pd.DatetimeIndex(bars["timestamp"])
        self._starts: dict[str, np.ndarray] = {}
        for period in _PERIODS:
            edges = times.floor(period).asi8
            starts = np.flatnonzero(np.diff(edges, prepend=edges[:1] - 1))
            if _MIN_PERIODS <= len(starts) <= len(bars) // 2:
                self._starts[period] = starts

    def leads(self, values: np.ndarray) -> Iterator[tuple[str, float, float, str]]:
        """Yields name, z, partial rank correlation and words of what a column knows."""
        changes = np.flatnonzero(np.diff(values, prepend=values[:1]))
        for period, starts in self._starts.items():
            is_edge = np.isin(changes, starts, assume_unique=True).all()
            if is_edge and len(changes) >= _MIN_CHANGING * len(starts):
                yield from self._of_period(values[starts], period, starts)
                return

    def _of_period(
        self, values: np.ndarray, period: str, starts: np.ndarray
    ) -> Iterator[tuple[str, float, float, str]]:
        from scipy.stats import norm, rankdata
        from scipy.stats import t as student

        sums = {
            name: np.apply_along_axis(rankdata, 0, column)
            for name, column in self._sums(starts).items()
        }
        before = [
            column[lag : len(column) - 2 + lag]
            for column in sums.values()
            for lag in (0, 1)
        ]
        known = np.column_stack(
            [np.ones(len(starts) - 2), *before, *self._calendar(starts[2:])]
        )
        column = _residual(rankdata(values)[2:], known)
        freedom = len(known) - np.linalg.matrix_rank(known) - 1
        if freedom < 10 or not column.any():
            return
        for name, target in sums.items():
            news = _residual(target[2:], known)
            correlation = float(np.corrcoef(column, news)[0, 1])
            if name != "price" and abs(correlation) < _MIN_CORRELATION:
                continue
            odds = correlation * np.sqrt(freedom / max(1e-12, 1 - correlation**2))
            z = float(-norm.ppf(max(student.sf(abs(odds), freedom), 1e-300)))
            what = f"its value with the {period} it stands for"
            yield name, np.copysign(z, correlation), correlation, what

    def _sums(self, starts: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what came of each period (num_periods,)."""
        close = np.log(self._bars["close"].to_numpy(np.float64))
        ends = np.append(starts[1:], len(close)) - 1
        first = close[np.maximum(starts - 1, 0)]
        high, low = (
            np.log(self._bars[name if name in self._bars else "close"].to_numpy())
            for name in ("high", "low")
        )
        width = np.maximum.reduceat(high, starts) - np.minimum.reduceat(low, starts)
        sums = {"price": close[ends] - first, "volatility": width}
        if "volume" in self._bars:
            sums["volume"] = np.add.reduceat(self._bars["volume"].to_numpy(), starts)
        return sums

    def _calendar(self, starts: np.ndarray) -> list[np.ndarray]:
        times = pd.DatetimeIndex(self._bars["timestamp"])[starts]
        angles = (2 * np.pi * (times.hour + times.minute / 60) / 24).to_numpy()
        waves = [wave(k * angles) for k in (1, 2) for wave in (np.sin, np.cos)]
        return [*waves, times.day_of_week >= 5, times.day_of_week == 0]


def _residual(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns what `known` leaves of values (num_periods,), 0 where it is rounding."""
    left = values - known @ np.linalg.lstsq(known, values, rcond=None)[0]
    return left if left.std() > 1e-6 * values.std() else np.zeros(len(values))
