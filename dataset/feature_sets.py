"""What a feature set is: a function of candles, its warm-up and its names.

In: asking one for its columns, and what it must give. Out: the sets that there are, and
a table of several (`features`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from candles.columns import EXTRAS, VALUES, make_table
from utils import DataError, duration_seconds


@dataclass(frozen=True)
class FeatureContext:
    """What a feature function may know besides its candles."""

    timeframe: str
    """Length of a bar, such as `"1m"`."""

    raw_prices: bool = False
    """Give absolute prices and volumes instead of ratios, where the set has them."""

    newest: int | None = None
    """Bars at the end that are asked for; a set may leave out the others. None: all."""

    @property
    def day_bars(self) -> int:
        """Bars in a day, at least 1."""
        return max(1, 86_400 // duration_seconds(self.timeframe))

    @property
    def week_bars(self) -> int:
        """Bars in 7 days, always more than in a day: their columns need two names."""
        return max(self.day_bars + 1, 7 * 86_400 // duration_seconds(self.timeframe))

    @property
    def month_bars(self) -> int:
        """Bars in 30 days, always more than in a day, as those of a week."""
        month = 30 * 86_400 // duration_seconds(self.timeframe)
        return max(self.day_bars + 1, month)


Columns = dict[str, np.ndarray]
"""Name -> values. Making a table of them takes longer than the features of a bar."""
FeatureFunction = Callable[[Any, FeatureContext], pd.DataFrame | Columns]
WarmUp = int | Callable[[FeatureContext], int]


@dataclass(frozen=True)
class FeatureSet:
    """One registered set: its function and the rows it needs before its first value."""

    name: str
    function: FeatureFunction
    warm_up: WarmUp
    reads: tuple[str, ...] = VALUES
    """Candle columns that it reads."""

    @property
    def reads_prices(self) -> bool:
        """Whether prices and volume are all it needs; else the clock, or a rate."""
        return self.reads != ("timestamp",) and not self.extras

    @property
    def extras(self) -> tuple[str, ...]:
        """Columns that it reads and that not every candle table has."""
        return tuple(name for name in self.reads if name in EXTRAS)

    def warm_up_bars(self, context: FeatureContext) -> int:
        """Leading rows of a segment without a value."""
        return self.warm_up(context) if callable(self.warm_up) else self.warm_up

    def names(self, context: FeatureContext) -> tuple[str, ...]:
        """Column names, asked of the function itself: there is no list to drift."""
        return _names_of(self, context)

    @property
    def is_built_in(self) -> bool:
        """Whether it is one of ours, which takes columns by name like a table."""
        return self.function.__module__ == "dataset.features"

    def compute(
        self, segment: pd.DataFrame | Columns, context: FeatureContext
    ) -> Columns:
        """Features of one gapless segment, `(num_bars,)` each, checked.

        Where `context.newest` bars are asked for, it may have those alone.
        """
        table, num_bars = self.function(segment, context), len(segment["close"])
        least = min(context.newest or num_bars, num_bars)
        parts = table.values() if isinstance(table, dict) else [table]
        is_long = all(least <= len(part) <= num_bars for part in parts)
        if not (isinstance(table, dict | pd.DataFrame) and is_long):
            received = f"{type(table).__name__} of {len(table)} rows"
            raise DataError(
                f"feature set '{self.name}': expected a DataFrame with one row for "
                f"each of {num_bars} candles. Received: {received}."
            )
        if isinstance(table, dict):
            return table
        repeated = table.columns[table.columns.duplicated()]
        if len(repeated):
            raise DataError(
                f"feature set '{self.name}': expected every column name once. "
                f"Received: {repeated[0]!r} more than once."
            )
        return {str(name): column.to_numpy() for name, column in table.items()}


@functools.lru_cache(maxsize=64)
def _names_of(item: FeatureSet, context: FeatureContext) -> tuple[str, ...]:
    num_bars = item.warm_up_bars(context) + 2
    stamps = duration_seconds(context.timeframe) * 10**9 * np.arange(num_bars)
    names = (*VALUES, *item.extras)
    flat = make_table(stamps, {name: np.ones(num_bars) for name in names})
    with np.errstate(all="ignore"):
        return tuple(item.compute(flat, context))
