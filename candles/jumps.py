"""Prices that do not go on from one bar to the next, in a table that is well formed.

In: redenominations, splits, slips of the decimal point, glitch prints, exchanged
columns, a market that stands still. Out: what a single bar shows (`checks`), cutting
and filling (`table`), labels that may not cross them (`dataset.rows`).

A bar opens where the one before it closed, within what the bars around do. The scale of
a row is the upper quartile of the true ranges (logarithms) of its block of 64 rows, or
of the block before or behind it, whichever is widest: a fault is a few rows among them,
a crash is many. `benchmarks/price_jumps.py` measures real candles against the limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from candles.columns import VALUES
from candles.timestamps import nanoseconds_of, timeframe_nanoseconds
from utils import counted

OPEN_LIMIT, OPEN_LEAST = 4.0, 0.05
"""An open so many scales from the close before it, and so far in logarithms, jumps."""

RANGE_LIMIT, RANGE_LEAST = 15.0, 0.15
"""The same of a body or a wick: inside of bars there are crashes."""

MAX_SLIP_BARS = 200
"""Longest stretch that is a slip, where the price returns behind it."""

_BLOCK_ROWS = 64
_LEAST_BARS = 16
_LEAST_TICKS = 3.0
_SAME = 0.4  # of a jump: nearer than this to the level before it is a return
_MOST_JUMPS = 5000  # more are no faults but how the file is; each is a row by itself
_SWAP_ROWS, _SWAP_SHARE, _SWAP_RATIO = 32, 0.9, 4.0
_STILL_BARS = 10
_LISTED = 5
_MEANT = 0.02  # a factor so near to a round one is that one, moved by a bar


@dataclass(frozen=True, kw_only=True, eq=False)
class Jumps:
    """What is doubtful about the prices of a candle table.

    Args:
        doubts: A line each, for a reader.
        bad_rows: Rows whose prices are doubtful (num_bad,), ascending.
        cut_rows: Rows before which the price jumps and stays (num_cuts,), ascending.
    """

    doubts: tuple[str, ...]
    bad_rows: np.ndarray
    cut_rows: np.ndarray


@dataclass(frozen=True, eq=False)
class Continuity:
    """How far prices are from going on, each in units of its limit.

    Args:
        path: Logarithms of open and close of each row in turn (2 * num_bars,).
        steps: From each price of the path to the next (2 * num_bars,), 0 first: of a
            limit, at even places into a bar's open, at odd ones to its close.
        wicks: Logarithms of the longer wick (num_bars,).
        far_wicks: The same of a limit.
    """

    path: np.ndarray
    steps: np.ndarray
    wicks: np.ndarray
    far_wicks: np.ndarray


def find_jumps(table: pd.DataFrame, timeframe: str) -> Jumps:
    """Returns where prices do not go on from one bar to the next.

    Args:
        table: A candle table without problems; fewer than 16 rows say nothing.
        timeframe: Length of its bars; the scale grows with the root of missing ones.
    """
    if len(table) < _LEAST_BARS:
        return Jumps(doubts=(), bad_rows=_rows([]), cut_rows=_rows([]))
    found = measure_continuity(table, timeframe)
    swapped = _swapped_rows(found.path)
    jumps = _jumps_of_level(found)
    jumps = jumps[~np.isin(jumps // 2, swapped)]
    slips, shifts = _split(jumps, found.path)
    wicks = np.flatnonzero(found.far_wicks > 1)
    starts = _rows([first for first, _ in slips])
    name = _Namer(table["timestamp"])
    doubts = [
        name("the price jumps and stays", shifts // 2, _step_at(found.path, shifts)),
        name(
            f"the price is off, for at most {MAX_SLIP_BARS} bars",
            starts // 2,
            _step_at(found.path, starts),
        ),
        name("a high or low far from its bar", wicks, found.wicks[wicks]),
        _swap_words(swapped, len(table)),
        _still_words(table),
    ]
    inside = shifts[shifts % 2 == 1] // 2
    off = [np.arange(first // 2, -(-stop // 2)) for first, stop in slips]
    return Jumps(
        doubts=tuple(filter(None, doubts)),
        bad_rows=np.unique(np.concatenate([wicks, swapped, inside, *off])),
        cut_rows=np.unique(np.concatenate([(shifts + 1) // 2, inside])),
    )


def may_jump(opens: np.ndarray, closes: np.ndarray) -> np.ndarray:
    """Returns which bars move as far as one that may cut a table (num_bars,)."""
    opens, closes = np.log(opens), np.log(closes)
    far = np.abs(opens - np.append(opens[:1], closes[:-1])) > OPEN_LEAST
    return far | (np.abs(closes - opens) > RANGE_LEAST)


def measure_continuity(table: pd.DataFrame, timeframe: str) -> Continuity:
    """Returns the steps from price to price and the wicks, of their limits."""
    prices = {name: table[name].to_numpy(np.float64) for name in VALUES[:4]}
    logs = {name: np.log(values) for name, values in prices.items()}
    before = np.append(logs["open"][:1], logs["close"][:-1])
    body_top = np.maximum(logs["open"], logs["close"])
    body_bottom = np.minimum(logs["open"], logs["close"])
    true_range = np.maximum(logs["high"], before) - np.minimum(logs["low"], before)
    scale = _scale(true_range)
    stamps = nanoseconds_of(table["timestamp"])
    distance = np.diff(stamps, prepend=stamps[:1])
    bars = np.maximum(distance // timeframe_nanoseconds(timeframe), 1)
    tick = _LEAST_TICKS * _tick(prices) / prices["low"]
    opens = np.maximum(OPEN_LIMIT * scale * np.sqrt(bars), np.maximum(OPEN_LEAST, tick))
    ranges = np.maximum(RANGE_LIMIT * scale, np.maximum(RANGE_LEAST, tick))
    path = np.column_stack([logs["open"], logs["close"]]).ravel()
    limits = np.column_stack([opens, ranges]).ravel()
    above, below = logs["high"] - body_top, body_bottom - logs["low"]
    wicks = np.where(above >= below, above, -below)
    return Continuity(
        path=path,
        steps=np.abs(np.diff(path, prepend=path[:1])) / limits,
        wicks=wicks,
        far_wicks=np.abs(wicks) / ranges,
    )


def _scale(ranges: np.ndarray) -> np.ndarray:
    """Returns the scale of each row (num_bars,) from its true ranges."""
    moved = ranges[ranges > 0]
    if not len(moved):
        return np.zeros(len(ranges))
    blocks = -(-len(ranges) // _BLOCK_ROWS)
    # The last block reaches back over its neighbour rather than hold a row or two.
    starts = np.minimum(
        np.arange(blocks) * _BLOCK_ROWS, max(0, len(ranges) - _BLOCK_ROWS)
    )
    size = min(_BLOCK_ROWS, len(ranges))
    rows = starts[:, None] + np.arange(size)
    quartile = 3 * size // 4
    own = np.partition(ranges[rows], quartile, axis=1)[:, quartile]
    own = np.maximum(own, np.median(moved) / 4)
    around = np.concatenate([own[:1], own, own[-1:]])
    widest = np.maximum(np.maximum(around[:-2], around[2:]), own)
    return np.repeat(widest, _BLOCK_ROWS)[: len(ranges)]


def _tick(prices: dict[str, np.ndarray]) -> float:
    """Returns the smallest range of a bar that moved: at least the price's step."""
    ranges = prices["high"] - prices["low"]
    moved = ranges[ranges > 0]
    return float(moved.min()) if len(moved) else 0.0


def _jumps_of_level(found: Continuity) -> np.ndarray:
    """Returns the places in the path at which the level changes, ascending."""
    jumps = found.steps > 1
    places = np.flatnonzero(jumps)
    # A glitch of one price has a step back beside its jump, of a body's wide limit.
    moves = np.diff(found.path, prepend=found.path[:1])
    for side in (-1, 1):
        beside = np.clip(places + side, 1, len(moves) - 1)
        back = np.abs(moves[beside] + moves[places]) < _SAME * np.abs(moves[places])
        jumps[beside[back]] = True
    return np.flatnonzero(jumps)


def _split(
    jumps: np.ndarray, path: np.ndarray
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Divides jumps into stretches behind which the price returns, and the others.

    Returns:
        First place and the one behind the last of each stretch; places of the others.
    """
    if len(jumps) > _MOST_JUMPS:
        return [(place, place + 1) for place in jumps.tolist()], _rows([])
    slips, shifts = [], []
    index = 0
    while index < len(jumps):
        first = int(jumps[index])
        stop = np.searchsorted(jumps, first + 2 * MAX_SLIP_BARS, side="right")
        later = jumps[index + 1 : stop]
        height = abs(path[first] - path[first - 1])
        returned = np.abs(path[later] - path[first - 1]) < _SAME * height
        if returned.any():
            index += 1 + int(returned.argmax())
            slips.append((first, int(jumps[index])))
        else:
            shifts.append(first)
        index += 1
    return slips, _rows(shifts)


def _step_at(path: np.ndarray, places: np.ndarray) -> np.ndarray:
    return path[places] - path[places - 1]


def _swapped_rows(path: np.ndarray) -> np.ndarray:
    """Returns the rows of stretches in which open and close are exchanged.

    There each close is where the open before it was, and not the open at the close.
    """
    opens, closes = path[::2], path[1::2]
    crossed = np.abs(closes[1:] - opens[:-1])
    usual = np.abs(opens[1:] - closes[:-1])
    vote = crossed < usual
    if np.count_nonzero(vote) < _SWAP_ROWS // 2:
        return _rows([])
    size = min(_SWAP_ROWS, len(vote))
    votes, decided, near, far = (
        _window_sums(values, size)
        for values in (vote, crossed != usual, crossed, usual)
    )
    # A stretch that is sure begins and ends where most rows of a window still agree.
    sure = (votes >= _SWAP_SHARE * decided) & (decided >= size // 2)
    sure &= near * _SWAP_RATIO < far
    likely = sure | ((2 * votes > decided) & (near < far))
    edges = np.flatnonzero(np.diff(likely, prepend=False, append=False))
    counts = np.append(0, np.cumsum(sure))
    rows = [_rows([])]
    for first, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if counts[stop] > counts[first]:
            agreed = _window_sums(vote[first : stop + size - 1], _SWAP_ROWS // 8)
            inside = first + np.flatnonzero(agreed == _SWAP_ROWS // 8)
            rows.append(np.arange(inside[0], inside[-1] + _SWAP_ROWS // 8 + 1))
    return np.unique(np.concatenate(rows))


def _window_sums(values: np.ndarray, size: int) -> np.ndarray:
    sums = np.cumsum(np.append(0, values))
    return sums[size:] - sums[:-size]


def _swap_words(rows: np.ndarray, num_rows: int) -> str:
    if not len(rows):
        return ""
    return (
        f"open and close look exchanged in {counted(len(rows), 'row', 'rows')} of "
        f"{num_rows} ({rows[0]} to {rows[-1]}): each close is at the open before it"
    )


def _still_words(table: pd.DataFrame) -> str:
    """Returns a line where the price stands still without volume to the end."""
    close = table["close"].to_numpy()
    still = table["volume"].to_numpy() == 0
    for name in ("open", "high", "low"):
        still = still & (table[name].to_numpy() == close)
    still[1:] &= close[1:] == close[:-1]
    moving = np.flatnonzero(~still)
    first = int(moving[-1]) + 1 if len(moving) else 0
    bars = len(close) - first
    longest = int(np.diff(moving, prepend=-1).max(initial=1)) - 1
    if bars < max(_STILL_BARS, 2 * longest):
        return ""
    return (
        f"price and volume stand still to the end: the last {bars} bars, from row "
        f"{first} ({table['timestamp'].iloc[first]:%F %R}) on"
    )


class _Namer:
    """Puts findings into a line: how many, the first rows, their times and factors."""

    def __init__(self, times: pd.Series) -> None:
        self.times = times

    def __call__(self, what: str, rows: np.ndarray, logs: np.ndarray) -> str:
        if not len(rows):
            return ""
        named = [
            f"row {row} ({self.times.iloc[row]:%F %R}) {_factor(log)}"
            for row, log in zip(rows[:_LISTED].tolist(), logs, strict=False)
        ]
        more = ["..."] if len(rows) > _LISTED else []
        return f"{what}: {len(rows)}, {', '.join([*named, *more])}"


def _factor(log: float) -> str:
    """Returns `times 1000 (999.6)`: the number that is meant, and what it is."""
    factor = float(np.exp(abs(log)))
    power = 10.0 ** np.floor(np.log10(factor))
    meant = min(
        (power * digit for digit in (1, 2, 3, 4, 5, 10)), key=lambda x: abs(x - factor)
    )
    shown, exact = _number(meant), _number(factor)
    if shown == exact or abs(factor - meant) > _MEANT * meant:
        shown = exact
    else:
        shown += f" ({exact})"
    return f"{'times' if log > 0 else 'divided by'} {shown}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10_000 else f"{value:.4g}"


def _rows(rows: Sequence[int]) -> np.ndarray:
    return np.array(rows, np.int64)
