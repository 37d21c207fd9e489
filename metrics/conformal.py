"""Intervals around predicted numbers that hold a stated share of what comes.

In: errors in units of a known spread, one factor for all of them. Out: which rows teach
it, which spread it is (`evaluation.numbers`).

Split conformal prediction holds its level where errors are exchangeable. Those of a
market are not: calm and wild weeks follow each other. Their size in units of the spread
of the window just read changes far less, so that one factor serves both.

Sources: Lei et al. (2018), "Distribution-free predictive inference for regression",
algorithm 2 and 5.2 (locally weighted); Romano, Patterson and Candes (2019),
"Conformalized quantile regression", for ends that are predicted themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

LEAST_ROWS = 100
"""Fewer errors teach no interval."""
_LEAST_SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class SpreadInterval:
    """Ends at a predicted low and high, widened by a factor of a known spread.

    Args:
        level: Share of what comes that is to lie inside.
        factor: Spreads that each end is moved out by; below 0 moves it in.
        least_spread: A smaller spread counts as this one: a window without a trade.
        num_rows: Rows that taught it.
    """

    level: float
    factor: float
    least_spread: float
    num_rows: int

    @classmethod
    def fit(
        cls, actual: Any, low: Any, high: Any, spread: Any, *, level: float
    ) -> Self | None:
        """Learns the factor, or returns None of fewer than `LEAST_ROWS` rows.

        Args:
            actual: What came (num_rows,).
            low: Predicted low end (num_rows,); of a point forecast the point.
            high: Predicted high end (num_rows,).
            spread: Known at the forecast (num_rows,), in the same unit.
            level: Between 0 and 1.
        """
        spread = np.asarray(spread, np.float64)
        moved = spread[spread > 0]
        if len(spread) < LEAST_ROWS or not len(moved):
            return None
        least = float(np.quantile(moved, _LEAST_SHARE))
        beyond = np.maximum(np.asarray(low) - actual, np.asarray(actual) - high)
        scores = np.sort(beyond / np.maximum(spread, least))
        # One more row than there are: what comes next is one of them.
        place = min(len(scores), math.ceil((len(scores) + 1) * level))
        return cls(
            level=level,
            factor=float(scores[place - 1]),
            least_spread=least,
            num_rows=len(scores),
        )

    def ends(self, low: Any, high: Any, spread: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns both ends (num_rows,) for what is predicted; low is never above high.

        Args:
            low: As in `fit`.
            high: As in `fit`.
            spread: As in `fit`.
        """
        wide = self.factor * np.maximum(spread, self.least_spread)
        low, high = np.asarray(low) - wide, np.asarray(high) + wide
        middle = (low + high) / 2
        return np.minimum(low, middle), np.maximum(high, middle)

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restores an interval from `to_dict`.

        Raises:
            ValueError: If the values are not those of one.
        """
        numbers = {k: float(values[k]) for k in ("level", "factor", "least_spread")}
        is_fit = 0 < numbers["level"] < 1 and numbers["least_spread"] > 0
        count = values["num_rows"]
        if not (is_fit and math.isfinite(sum(numbers.values())) and type(count) is int):
            raise ValueError(f"expected an interval. Received: {values!r:.200}")
        return cls(**numbers, num_rows=count)
