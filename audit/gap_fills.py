"""Whether bars without a trade have the last price, or one that came later.

In: closes, volumes and marks of filled bars. Out: filling gaps (`candles.table`), what
else candles prove (`lookahead`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from audit.findings import FUTURE_FILLED, LEAK, NOT_DONE, PASSED, Finding
from audit.recomputed import Recomputed
from candles.timestamps import nanoseconds_of
from config import Config
from data_loader import TrainingData
from dataset.columns import name_columns
from dataset.training_file import open_training_file, read_times
from files import tables

_ON_LINE = 1e-12  # of the price: rounding of an interpolation in float64
_MAX_DECIMALS = 9
_GRID_ROWS = 10_000
_FEWEST = 3  # one bar on a line may be chance


def check_gaps(
    config: Config,
    frame: pd.DataFrame | None,
    data: TrainingData,
    candles: pd.DataFrame | None,
    again: Recomputed | None,
) -> Finding:
    """Looks at the closes of the file, and at those of the candles."""
    found = []
    if "close" in data.outcomes:
        rows = {
            "close": data.outcomes["close"],
            "segment": _stretches(data.timestamps.astype(np.int64)),
        }
        rows |= _marks_of_file(config, frame, data)
        found.append(check_filled_gaps(pd.DataFrame(rows), again))
    if candles is not None:
        stretches = _stretches(nanoseconds_of(candles["timestamp"]))
        table = candles.assign(segment=stretches)
        found.append(check_filled_gaps(table))
    if not found:
        return Finding(
            check=FUTURE_FILLED,
            outcome=NOT_DONE,
            what="neither candles nor a column close: --audit-candles FILE...",
        )
    return next((item for item in found if item.outcome == LEAK), found[0])


def _stretches(times: np.ndarray) -> np.ndarray:
    """Returns the number of each row's gapless stretch (num_rows,)."""
    steps = np.diff(times)
    return np.cumsum(np.append(0, steps != steps.min(initial=np.iinfo(np.int64).max)))


def _marks_of_file(
    config: Config, frame: pd.DataFrame | None, data: TrainingData
) -> dict[str, np.ndarray]:
    """Returns `is_filled` and `volume`, as far as the file has them for all rows."""
    if frame is None:
        columns = open_training_file(data.source["path"])
    else:
        columns = name_columns(tables.from_pandas(frame))
    found = {
        name: np.empty(data.source["rows"], kind)
        for name, kind in (("is_filled", bool), ("volume", np.float64))
        if name in columns.names and data.source["rows"] == data.num_rows
    }
    if found:
        read_times(columns)  # has the rows that were read
        columns.read_numbers(found)
    return found


def check_filled_gaps(bars: pd.DataFrame, again: Recomputed | None = None) -> Finding:
    """Looks for filled bars whose price was not yet known.

    Between two trades the last close is all that is known. A bar without a trade at
    another price took it from later: the next price, or a point on the line to it. An
    interpolated bar is found without volumes, too: it lies exactly between its
    neighbours, with more decimals than prices have.

    Args:
        bars: `close` (num_bars,) and, as far as they are known, `volume`, `is_filled`
            and `segment`.
        again: What the candles give for these rows, where they are known.
    """
    close = bars["close"].to_numpy(np.float64)
    inside = np.zeros(len(close), bool)
    inside[1:] = True
    if "segment" in bars:
        segment = bars["segment"].to_numpy()
        inside[1:] = segment[1:] == segment[:-1]
    idle = _idle(bars) & inside
    later = _prices_of_later(close, idle)
    straight = _straight(close, inside)
    moved = np.zeros(0, bool)
    if again is not None:
        ours = close[again.rows][again.is_filled]
        moved = ~np.isclose(ours, again.close[again.is_filled], rtol=1e-9, atol=0)
    num_idle, num_later = int(idle.sum()), int(later.sum())
    num_moved, num_straight = int(moved.sum()), int(straight.sum())
    signs = {
        f"{num_moved:,} of {len(moved):,} bars without a candle have another price "
        "than the last close": num_moved,
        f"{num_later:,} of {num_idle:,} bars without a trade have the next price, or "
        "one on the line to it": num_later,
        f"{num_straight:,} bars lie exactly on the line between their neighbours, off "
        "the grid of prices: they are interpolated": num_straight,
    }
    words = [text for text, count in signs.items() if count >= _FEWEST]
    at_last = len(moved) - num_moved
    if again is None and num_idle:
        at_last = int((close[1:] == close[:-1])[idle[1:]].sum())
    passed = "no bar is interpolated between its neighbours"
    if at_last:
        passed = f"{at_last:,} bars without a trade are at the last close; {passed}"
    return Finding(
        check=FUTURE_FILLED,
        outcome=LEAK if words else PASSED,
        what="; ".join(words) or passed,
        evidence={
            "without_trade": max(num_idle, len(moved)),
            "at_last_close": at_last,
            "at_later_prices": num_later + num_moved,
            "interpolated": num_straight,
        },
    )


def _idle(bars: pd.DataFrame) -> np.ndarray:
    """Returns which bars are known to be without a trade (num_bars,)."""
    idle = np.zeros(len(bars), bool)
    if "is_filled" in bars:
        idle |= bars["is_filled"].to_numpy(bool)
    if "volume" in bars:
        idle |= bars["volume"].to_numpy(np.float64) == 0
    return idle


def _prices_of_later(close: np.ndarray, idle: np.ndarray) -> np.ndarray:
    """Returns which idle bars have the next price, or one on the line to it."""
    traded = np.flatnonzero(~idle)
    rows = np.flatnonzero(idle)
    after = np.searchsorted(traded, rows)
    known = (after > 0) & (after < len(traded))
    rows, after = rows[known], after[known]
    first, following = traded[after - 1], traded[after]
    step = (close[following] - close[first]) / (following - first)
    on_line = close[first] + step * (rows - first)
    is_later = np.isclose(close[rows], on_line, rtol=1e-9, atol=0)
    is_later |= close[rows] == close[following]
    result = np.zeros(len(close), bool)
    result[rows] = is_later & (close[rows] != close[first])
    return result


def _straight(close: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Returns which bars lie between their neighbours and off the grid of prices."""
    result = np.zeros(len(close), bool)
    if len(close) < 3:
        return result
    bend = np.abs(close[2:] - 2 * close[1:-1] + close[:-2])
    moves = close[2:] != close[:-2]
    on_line = (bend <= _ON_LINE * close[1:-1]) & moves & inside[1:-1] & inside[2:]
    rows = np.flatnonzero(on_line) + 1
    if len(rows):
        result[rows] = True
        decimals = _decimals(close)
        starts = np.arange(0, len(close), _GRID_ROWS)
        grid = np.maximum.reduceat(np.where(result, -1, decimals), starts)
        usual = grid[rows // _GRID_ROWS]
        result[rows] = (decimals[rows] > usual) | (usual >= _MAX_DECIMALS)
    return result


def _decimals(values: np.ndarray) -> np.ndarray:
    """Returns how many decimals each value has, at most `_MAX_DECIMALS`."""
    result = np.full(len(values), _MAX_DECIMALS)
    for digits in reversed(range(_MAX_DECIMALS)):
        scaled = values * 10.0**digits
        rounding = 4 * np.finfo(np.float64).eps * np.abs(scaled)
        on_grid = np.abs(scaled - np.rint(scaled)) <= np.maximum(1e-6, rounding)
        result[on_grid] = digits
    return result
