"""How far features may move from those of the training, as its own blocks did.

In: distances of blocks of rows to all training rows, what is usual of them. Out: what
is done about a distance that is not (`live.watching`).

The population stability index is sum (s - e) ln(s / e) over bins that hold shares e of
the training and s of a block. Textbook limits (0.1, 0.25) are of independent draws: one
day of a slow column lies in two bins, and its index is above 2 on a usual day. So what
is usual is learned: the training part is cut into blocks as long.
Source of the index: Siddiqi (2006), "Credit risk scorecards", chapter 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

_DAY_SECONDS = 86_400
LEAST_ROWS = 20
"""Rows of a block that has shares at all."""
BLOCK_UNITS = (1, 7, 28)
"""Lengths of blocks, in the shortest that has `LEAST_ROWS`."""
LEAST_BLOCKS = 8
"""Fewer blocks one behind the other say nothing of what is usual."""
_BLOCKS_A_FEATURE, _FEWEST_BLOCKS, _MOST_CELLS = 25, 100, 40_000
"""Holm's first step is the number of features: a block farther than all of the training
has to pass it. Of more than 40 features none is told apart by itself."""
_MOST_DAYS = 400
_LEAST_SHARE = 1e-4
_ROUNDED = 1e-4
"""Blocks are kept to five digits: a column that lies in one bin is as far as ever."""


def unit_days(bar_seconds: int) -> int:
    """Returns the fewest whole days that hold `LEAST_ROWS` bars."""
    return max(1, -(-LEAST_ROWS * bar_seconds // _DAY_SECONDS))


def stability_index(rows: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Returns the index of each feature of a block (num_features,).

    Args:
        rows: (num_rows, num_features).
        quantiles: Of the training rows, evenly spaced from the least to the largest
            (num_features, num_levels). Equal ones are one bin of as much share.
    """
    return stability_indices(rows, [(0, len(rows))], quantiles)[0]


def stability_indices(
    rows: np.ndarray, blocks: Sequence[tuple[int, int]], quantiles: np.ndarray
) -> np.ndarray:
    """Returns `stability_index` of many blocks of rows (num_blocks, num_features).

    `blocks` are (first row, one past the last), and may overlap.
    """
    levels = np.linspace(0, 1, quantiles.shape[1])
    spans = np.array(blocks, dtype=np.int64).reshape(-1, 2)
    # Rows between two edges are counted once, however many blocks they are part of.
    edges, ends = np.unique(np.append(spans, [[0, len(rows)]], 0), return_inverse=True)
    ends = ends.reshape(-1, 2)[:-1].T
    piece = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    num_rows = np.diff(spans)
    found = np.zeros((len(blocks), len(quantiles)))
    for k, steps in enumerate(quantiles):
        values, first = np.unique(steps, return_index=True)
        if len(values) < 2:
            continue  # one value alone: nothing can be compared
        # A bin begins with its value; the largest is one where many rows have it.
        bounds, cuts = levels[first], values[1:]
        if bounds[-1] < 1:
            bounds = np.append(bounds, 1.0)
        else:
            cuts = cuts[:-1]
        num_bins = len(bounds) - 1
        places = np.searchsorted(cuts, rows[:, k], side="right")
        counts = np.bincount(
            piece * num_bins + places, minlength=(len(edges) - 1) * num_bins
        )
        before = np.zeros((len(edges), num_bins))
        np.cumsum(counts.reshape(-1, num_bins), axis=0, out=before[1:])
        shares = np.diff(before[ends], axis=0)[0] / num_rows
        seen, expected = (
            np.maximum(x, _LEAST_SHARE) for x in (shares, np.diff(bounds))
        )
        found[:, k] = ((seen - expected) * np.log(seen / expected)).sum(axis=1)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class UsualDrift:
    """What blocks of the training part lie apart from all of it.

    Args:
        unit_days: Days of the shortest block.
        blocks: By days of a block, the sorted indices of training blocks
            (num_blocks, num_features).
        daily: Mean over features of the index's logarithm, of the last training units
            one behind the other (num_units,).
    """

    unit_days: int
    blocks: Mapping[int, np.ndarray]
    daily: np.ndarray

    @classmethod
    def of(
        cls,
        rows: np.ndarray,
        times: np.ndarray,
        quantiles: np.ndarray,
        bar_seconds: int,
    ) -> Self:
        """Learns from training rows.

        Args:
            rows: (num_rows, num_features), in order of time.
            times: Their opens (num_rows,), datetime64.
            quantiles: See `stability_index`.
            bar_seconds: Length of a bar.
        """
        unit = unit_days(bar_seconds)
        units, starts = _units(times, unit)
        ends = np.append(starts[1:], len(rows))
        width = rows.shape[1]
        count = max(_FEWEST_BLOCKS, _BLOCKS_A_FEATURE * width)
        count = min(count, max(LEAST_BLOCKS, _MOST_CELLS // width))
        blocks = {}
        for length in BLOCK_UNITS:
            if len(units) < length * LEAST_BLOCKS:
                break
            span = np.timedelta64(length * unit, "D")
            newest = int(np.searchsorted(times, times[-1] - span))
            firsts = np.unique(np.linspace(0, newest, count).astype(int))
            after = np.searchsorted(times, times[firsts] + span)
            long = after - firsts >= LEAST_ROWS
            spans = list(zip(firsts[long], after[long], strict=True))
            found = stability_indices(rows, spans, quantiles)
            blocks[length * unit] = np.sort(found, axis=0)
        last = range(max(0, len(units) - _MOST_DAYS), len(units))
        whole = [
            (starts[k], ends[k]) for k in last if ends[k] - starts[k] >= LEAST_ROWS
        ]
        daily = log_index(stability_indices(rows, whole, quantiles))
        return cls(unit_days=unit, blocks=blocks, daily=daily)

    def p_values(self, found: np.ndarray, days: int) -> np.ndarray:
        """Returns how often blocks of so many days were as far (num_features,)."""
        usual = self.blocks[days]
        as_far = (usual >= found * (1 - _ROUNDED)).sum(axis=0)
        return (1 + as_far) / (1 + len(usual))

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON values, five digits each."""
        return {
            "unit_days": self.unit_days,
            "blocks": {f"{days}": _short(found) for days, found in self.blocks.items()},
            "daily": _short(self.daily),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], num_features: int) -> Self:
        """Restores it from `to_dict`; ValueError if the values are not so."""
        blocks = {int(k): np.array(v, np.float64) for k, v in values["blocks"].items()}
        daily = np.array(values["daily"], np.float64)
        shapes = {each.shape[1:] for each in blocks.values()}
        is_whole = daily.ndim == 1 and shapes <= {(num_features,)}
        if not is_whole or not all(
            np.isfinite(x).all() for x in (daily, *blocks.values())
        ):
            raise ValueError("expected what blocks of the training lie apart")
        return cls(unit_days=int(values["unit_days"]), blocks=blocks, daily=daily)


def log_index(found: np.ndarray) -> np.ndarray:
    """Returns the mean over features (the last axis) of the index's logarithm."""
    return np.log(np.maximum(found, _LEAST_SHARE)).mean(axis=-1)


def daily_drift(
    rows: np.ndarray, times: np.ndarray, quantiles: np.ndarray, unit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first moment and `log_index` of each unit of rows (num_units,).

    Args:
        rows: (num_rows, num_features), in order of time.
        times: Their opens (num_rows,), datetime64.
        quantiles: See `stability_index`.
        unit: Days.
    """
    units, starts = _units(times, unit)
    ends = np.append(starts[1:], len(rows))
    kept = np.flatnonzero(ends - starts >= LEAST_ROWS)
    spans = list(zip(starts[kept], ends[kept], strict=True))
    found = log_index(stability_indices(rows, spans, quantiles))
    return moments_of(units[kept], unit), found


def units_of(times: np.ndarray, unit: int) -> np.ndarray:
    """Returns the number of each time's unit of days since 1970 (num_rows,)."""
    return times.astype("datetime64[D]").astype(np.int64) // unit


def moments_of(units: np.ndarray, unit: int) -> np.ndarray:
    """Returns the first day of units of days (num_units,), datetime64[D]."""
    return (units * unit).astype("datetime64[D]")


def _units(times: np.ndarray, unit: int) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(units_of(times, unit), return_index=True)


def _short(values: np.ndarray) -> Any:
    """Returns numbers of five digits, as lists."""
    return np.char.mod("%.5g", values).astype(np.float64).tolist()
