"""What came after each bar: labels, outcomes and targets. May only look forward.

In: the label rule of a two-sided take profit / stop loss trade, and the direction,
return and price targets. Out: anything that describes the bar itself (`features`), and
the choice of rows for a part of the data (`data_loader`).

Time alignment, the same for every target:

| what | bars |
|---|---|
| entry | `close[t]` |
| outcome | `t+1 .. t+future_window`, all inside the segment of `t` |
| outcome known | once bar `t + label_end` closed, `1 <= label_end <= future_window` |

A price touches a level that it reaches up to rounding (`_TOUCH`): 1.111 is 1 % above
1.1, although the product in floating point is the next number above it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from candles.columns import PRICES, require_columns
from config import HOLD, LONG, SHORT
from utils import DataError

LABEL_VERSION = "2"
"""Changes with the results of this module; files of version 1 do not name it.

Version 1 took a bar that opens beyond a level for a tie, and a touch by its bits.
"""

TIMEOUT, TAKE_PROFIT, STOP_LOSS = 0, 1, 2
EXIT_NAMES = ("timeout", "tp", "sl")
"""Exit codes 0, 1, 2 of `long_exit` and `short_exit`."""

NO_OUTCOME = -1
"""Stands in every integer column of a row whose future is not in the table."""

OUTCOME_TYPES = {
    "label_end": np.int32,
    "long_return": np.float64,
    "short_return": np.float64,
    "long_exit_bars": np.int32,
    "short_exit_bars": np.int32,
    "long_exit": np.int8,
    "short_exit": np.int8,
}
"""What came of a bar, in the order of a training file's columns."""

_TOUCH = 4 * np.finfo(np.float64).eps
"""Of the larger of entry and level: decimal prices and percents, the level computed
from them and the price compared with it are each rounded once, to half of a unit."""

_BLOCK_ROWS = 32_768  # about 20 work arrays of this length stay in a 4 MB cache


def label_candles(
    candles: pd.DataFrame,
    *,
    future_window: int = 120,
    long_tp_pct: float = 1.0,
    long_sl_pct: float = 0.5,
    short_tp_pct: float = 1.0,
    short_sl_pct: float = 0.5,
    tie_policy: str = "pessimistic",
) -> pd.DataFrame:
    """Labels every bar by what a long and a short entered at its close would do.

    Per side, the first of the next `future_window` bars that touches take profit or
    stop loss decides. A stop fills at the worse of its level and that bar's open, a
    take profit at its level, a timeout at the last bar's close. One side wins (exits by
    take profit): its class. Both win: the earlier; in the same bar HOLD, or LONG
    if optimistic. Neither: HOLD.

    What the open decides is no tie, under both policies: a bar that opens at or beyond
    the stop is stopped at its open, one that opens at or beyond the take profit takes
    it, whatever the bar touches later, and a side that wins so is the earlier one.

    Args:
        candles: Candle table, `(num_bars,)` rows. `segment`, `is_filled`, `is_doubtful`
            are optional: segments then come from the timestamps, no bar is either.
        future_window: Bars that may decide the outcome.
        long_tp_pct: Take profit of the long side, percent of the entry.
        long_sl_pct: Stop loss of the long side, percent of the entry.
        short_tp_pct: Take profit of the short side, percent of the entry.
        short_sl_pct: Stop loss of the short side, percent of the entry.
        tie_policy: What a bar that opens between both levels and touches both means:
            the stop was first (`"pessimistic"`) or the take profit was
            (`"optimistic"`, the V3 rule).

    Returns:
        A table with the index of `candles`, `(num_bars, 9)`: `label` (int8),
        `label_end` (int32, bars: the winner's exit, for HOLD the later exit),
        `long_return` and `short_return` (float64, gross), `long_exit_bars` and
        `short_exit_bars` (int32), `long_exit` and `short_exit` (int8, see
        `EXIT_NAMES`), `is_target` (bool: has an outcome, is not filled, no doubtful bar
        in it or its future). Rows without an outcome hold -1 and NaN.

    Raises:
        ValueError: If an argument is out of range.
        DataError: If a price column is missing or not finite.
    """
    _require_bars("future_window", future_window)
    levels = {"long_tp_pct": long_tp_pct, "long_sl_pct": long_sl_pct}
    levels |= {"short_tp_pct": short_tp_pct, "short_sl_pct": short_sl_pct}
    for name, pct in levels.items():
        # At 100 a level is a price of 0, or twice the entry.
        if not 0 < pct <= 100:
            raise ValueError(
                f"`{name}`: expected a percentage above 0, at most 100. "
                f"Received: {name}={pct!r}"
            )
    if tie_policy not in ("pessimistic", "optimistic"):
        raise ValueError(
            "`tie_policy`: expected 'pessimistic' or 'optimistic'. "
            f"Received: tie_policy={tie_policy!r}"
        )
    market = _Market(candles, future_window)
    optimistic = tie_policy == "optimistic"
    rows = _rows_with_outcome(candles, future_window)
    result = _empty_outcomes(len(candles))
    for first in range(0, len(rows), _BLOCK_ROWS):
        block = rows[first : first + _BLOCK_ROWS]
        long = market.exits(block, 1, long_tp_pct, long_sl_pct, optimistic=optimistic)
        short = market.exits(
            block, -1, short_tp_pct, short_sl_pct, optimistic=optimistic
        )
        decided = _decide(long, short, optimistic=optimistic)
        result["label"][block], result["label_end"][block] = decided
        for side, exits in (("long", long), ("short", short)):
            result[f"{side}_return"][block] = exits.gross_return
            result[f"{side}_exit_bars"][block] = exits.bars
            result[f"{side}_exit"][block] = exits.code
    result["is_target"] = _is_target(candles, rows, future_window)
    return pd.DataFrame(result, index=candles.index)


def direction_target(
    candles: pd.DataFrame, *, horizon: int = 1, dead_zone_pct: float = 0.0
) -> pd.DataFrame:
    """Labels every bar by the direction of the close `horizon` bars later.

    Args:
        candles: Candle table, as in `label_candles`.
        horizon: Bars ahead.
        dead_zone_pct: A move of at most this many percent, either way, is HOLD. Such
            rows stay targets: leaving them out would select rows by their outcome.

    Returns:
        The columns of `label_candles`: LONG is up, SHORT is down, HOLD is flat; returns
        are those of holding to the horizon, and every exit is a timeout.

    Raises:
        ValueError: If an argument is out of range.
        DataError: If a price column is missing or not finite.
    """
    if not 0 <= dead_zone_pct < 100:
        raise ValueError(
            "`dead_zone_pct`: expected a percentage in [0, 100). "
            f"Received: dead_zone_pct={dead_zone_pct}"
        )
    outcome, rows = _held_to_horizon(candles, horizon)
    close = candles["close"].to_numpy(np.float64)
    now, then = close[rows], close[rows + horizon]
    flat = np.abs(then - now) <= dead_zone_pct / 100 * now + _rounding(now, then)
    label = np.where(flat, HOLD, np.where(then > now, LONG, SHORT))
    outcome["label"][rows] = label.astype(np.int8)
    return pd.DataFrame(outcome, index=candles.index)


def return_target(candles: pd.DataFrame, *, horizon: int = 1) -> pd.DataFrame:
    """Gives every bar its forward log return, `ln(close[t+horizon] / close[t])`.

    Args:
        candles: Candle table, as in `label_candles`.
        horizon: Bars ahead.

    Returns:
        The columns of `direction_target` with `target` (float64, NaN without an
        outcome) in the place of `label`.

    Raises:
        ValueError: If `horizon` is not a positive whole number.
        DataError: If a price column is missing or not finite.
    """
    return _number_target(candles, horizon, lambda now, then: np.log(then / now))


def price_target(candles: pd.DataFrame, *, horizon: int = 1) -> pd.DataFrame:
    """Gives every bar the close `horizon` bars later; the rest is `return_target`'s.

    A price level has no stable scale. A model that learns `return_target` reports the
    same thing back in price units as `close[t] * exp(predicted return)`.
    """
    return _number_target(candles, horizon, lambda _, then: then)


@dataclass(frozen=True)
class _Exits:
    """How one side left, `(num_rows,)` each; `won_at_open`: by what that bar opened."""

    bars: np.ndarray
    code: np.ndarray
    gross_return: np.ndarray
    won_at_open: np.ndarray


class _Market:
    """Prices and, for powers of two, the extremes of that many bars from each bar on.

    A table of running maxima finds the first touch in log2(future_window) steps for
    all rows at once (binary lifting), instead of one pass per future bar.
    """

    def __init__(self, candles: pd.DataFrame, future_window: int) -> None:
        self.prices, self.future_window = _prices(candles), future_window
        self.highest = _running_maxima(self.prices["high"], future_window)
        self.highest_negated_low = _running_maxima(-self.prices["low"], future_window)

    def exits(
        self,
        rows: np.ndarray,
        side: int,
        tp_pct: float,
        sl_pct: float,
        *,
        optimistic: bool,
    ) -> _Exits:
        """Returns the exits of trades entered at `close[rows]`; `side` is 1 or -1."""
        close, window = self.prices["close"], self.future_window
        entry = close[rows]
        take_profit = entry * (1 + side * tp_pct / 100)
        stop = entry * (1 - side * sl_pct / 100)
        # Where a touch begins, seen so that take profits lie above and stops below.
        near_tp = side * take_profit - _rounding(entry, take_profit)
        near_stop = side * stop + _rounding(entry, stop)
        above, below = self.highest, self.highest_negated_low
        favourable, adverse = (above, below) if side > 0 else (below, above)
        tp_bars = self._first_touch(favourable, rows, near_tp)
        sl_bars = self._first_touch(adverse, rows, -near_stop)
        bars = np.minimum(tp_bars, sl_bars)
        timeout = bars > window
        bars = np.minimum(bars, window)
        opened = self.prices["open"][rows + bars]
        won_at_open = (tp_bars <= sl_bars) & (side * opened >= near_tp)
        tie_is_stop = ~won_at_open
        if optimistic:
            tie_is_stop &= side * opened <= near_stop
        by_stop = (sl_bars < tp_bars) | ((sl_bars == tp_bars) & tie_is_stop)
        # A bar that opened beyond the stop fills there: the worse of level and open.
        worse = np.minimum if side > 0 else np.maximum
        fill = np.where(by_stop, worse(stop, opened), take_profit)
        fill = np.where(timeout, close[rows + bars], fill)
        code = np.where(by_stop, STOP_LOSS, TAKE_PROFIT)
        code = np.where(timeout, TIMEOUT, code).astype(np.int8)
        gross = fill / entry - 1 if side > 0 else 1 - fill / entry
        return _Exits(bars.astype(np.int32), code, gross, won_at_open)

    def _first_touch(
        self, maxima: list[np.ndarray], rows: np.ndarray, levels: np.ndarray
    ) -> np.ndarray:
        """Returns the first bar after `rows` at or above `levels`, else window + 1."""
        start = rows + 1
        untouched = np.zeros(len(rows), np.int64)
        for power in reversed(range(len(maxima))):
            size = 1 << power
            inside = untouched + size <= self.future_window
            below = maxima[power].take(start + untouched, mode="clip") < levels
            untouched += size * (inside & below)
        return untouched + 1


def _rounding(entry: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Returns how far apart prices are that are equal up to rounding, `(num_rows,)`."""
    return _TOUCH * np.maximum(entry, price)


def _running_maxima(values: np.ndarray, future_window: int) -> list[np.ndarray]:
    """Returns `out[p][t] = max(values[t : t + 2**p])` for every power in the window."""
    maxima = [values]
    while (size := 1 << (len(maxima) - 1)) * 2 <= min(future_window, len(values)):
        previous = maxima[-1]
        maxima.append(np.maximum(previous[:-size], previous[size:]))
    return maxima


def _decide(
    long: _Exits, short: _Exits, *, optimistic: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the label and the bars until it is known, `(num_rows,)` each."""
    long_wins, short_wins = long.code == TAKE_PROFIT, short.code == TAKE_PROFIT
    in_one_bar = long.bars == short.bars
    long_first = (long.bars < short.bars) | (in_one_bar & long.won_at_open)
    short_first = (short.bars < long.bars) | (in_one_bar & short.won_at_open)
    if optimistic:
        long_first |= in_one_bar & ~short.won_at_open
    is_long = long_wins & (~short_wins | long_first)
    is_short = short_wins & (~long_wins | short_first)
    label = np.where(is_long, LONG, np.where(is_short, SHORT, HOLD))
    later = np.maximum(long.bars, short.bars)
    end = np.where(is_long, long.bars, np.where(is_short, short.bars, later))
    return label, end


def _held_to_horizon(
    candles: pd.DataFrame, horizon: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the outcome columns of holding `horizon` bars, and the rows that can."""
    _require_bars("horizon", horizon)
    close = _prices(candles)["close"]
    rows = _rows_with_outcome(candles, horizon)
    outcome = _empty_outcomes(len(candles))
    ratio = close[rows + horizon] / close[rows]
    outcome["long_return"][rows] = ratio - 1
    outcome["short_return"][rows] = 1 - ratio
    for name in ("label_end", "long_exit_bars", "short_exit_bars"):
        outcome[name][rows] = horizon
    for name in ("long_exit", "short_exit"):
        outcome[name][rows] = TIMEOUT
    outcome["is_target"] = _is_target(candles, rows, horizon)
    return outcome, rows


def _number_target(
    candles: pd.DataFrame,
    horizon: int,
    number: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> pd.DataFrame:
    """Returns the outcomes with `number(close[t], close[t + horizon])` as `target`."""
    outcome, rows = _held_to_horizon(candles, horizon)
    del outcome["label"]
    close = candles["close"].to_numpy(np.float64)
    target = np.full(len(candles), np.nan)
    target[rows] = number(close[rows], close[rows + horizon])
    return pd.DataFrame({"target": target, **outcome}, index=candles.index)


def _empty_outcomes(num_bars: int) -> dict[str, np.ndarray]:
    """Returns the columns in their order, every row without an outcome."""
    columns: dict[str, np.ndarray] = {}
    for name, kind in {"label": np.int8, **OUTCOME_TYPES}.items():
        nothing = np.nan if kind is np.float64 else NO_OUTCOME
        columns[name] = np.full(num_bars, nothing, kind)
    return columns | {"is_target": np.zeros(num_bars, bool)}


def _is_target(candles: pd.DataFrame, rows: np.ndarray, horizon: int) -> np.ndarray:
    target = np.zeros(len(candles), bool)
    target[rows] = True
    if "is_filled" in candles.columns:
        target &= ~candles["is_filled"].to_numpy(bool)
    if "is_doubtful" in candles.columns:
        before = np.append(0, np.cumsum(candles["is_doubtful"].to_numpy(bool)))
        target[rows] &= before[rows + horizon + 1] == before[rows]
    return target


def _rows_with_outcome(candles: pd.DataFrame, future_window: int) -> np.ndarray:
    """Returns the rows whose next `future_window` bars lie in their own segment."""
    num_bars = len(candles)
    if "segment" in candles.columns:
        segment = candles["segment"].to_numpy()
        starts = np.flatnonzero(segment[1:] != segment[:-1]) + 1
    elif "timestamp" in candles.columns and num_bars > 1:
        steps = np.diff(candles["timestamp"].to_numpy("datetime64[ns]"))
        starts = np.flatnonzero(steps != steps.min()) + 1
    else:
        starts = np.empty(0, np.int64)
    edges = np.concatenate(([0], starts, [num_bars]))
    stop_of_row = np.repeat(edges[1:], np.diff(edges))
    return np.flatnonzero(np.arange(num_bars) + future_window < stop_of_row)


def _prices(candles: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns the price columns as float64, checked."""
    require_columns(candles, PRICES)
    prices = {name: candles[name].to_numpy(np.float64) for name in PRICES}
    for name, values in prices.items():
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(bad):
            raise DataError(
                f"expected finite, positive prices. Received: {len(bad)} bad values in "
                f"'{name}', first at row {bad[0]}. Read the file with "
                "`candles.read_candles`, which names and treats bad bars."
            )
    return prices


def _require_bars(name: str, bars: int) -> None:
    if isinstance(bars, bool) or not isinstance(bars, int | np.integer) or bars < 1:
        raise ValueError(
            f"`{name}`: expected a whole number of bars, at least 1. "
            f"Received: {name}={bars!r}"
        )
