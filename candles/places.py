"""Columns of a file without names -> what they are, told by their cells.

In: known orders of columns, what shows that a file is in none of them. Out: files with
names (`layouts`), prices under each other's names (`rows`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from candles.columns import PRICES, refusal
from candles.layouts import (
    SIDES,
    TIMES,
    VOLUMES,
    Layout,
    Volume,
    are_times,
    is_later,
    is_price,
)
from candles.rows import require_order
from candles.timestamps import goes_back
from candles.volumes import choose_volume, is_quote, rivals_of
from utils import DataError

_ORDERS = (
    "timestamp open high low close volume",
    "timestamp open high low close volume last",  # Kraken, Bybit: trades or turnover
    "timestamp open high low close volume end quotevolume",  # MEXC
    "timestamp open high low close volume usdtvolume quotevolume",  # Bitget
    "timestamp open high low close vwap volume count",  # Kraken's REST
    "timestamp open high low close vol volccy volccyquote confirm",  # OKX
    "timestamp open high low close volume end amount count taker1 taker2",
    "timestamp open high low close volume end amount count taker1 taker2 ignore",
    "date clock open high low close volume",  # MetaTrader 4
)
"""Files without names; `amount` is Binance's quote volume, or COIN-M's base volume."""
_FAR = 0.2
_NEARER, _THIN, _OFTEN = 0.6, 0.9, 0.2
_MIN_ROWS = 5


def layout_of_rows(rows: Sequence[Sequence[Any]], path: Path) -> Layout:
    """Returns what the columns of a file without names are, from its first rows.

    Raises:
        DataError: If they are in no known order, with the order that fits.
    """
    width = len(rows[0])
    columns = [
        np.array([_number(row[i]) for row in rows if len(row) == width])
        for i in range(width)
    ]
    layout = layout_of_places(columns, path)
    try:
        back = goes_back(
            [" ".join(str(row[t[0]]) for t in layout.times) for row in rows]
        )
    except DataError as error:
        raise DataError(f"{path}: without names, column 1: {error}") from error
    require_order(dict(enumerate(columns)), layout, path, newest_first=back)
    if found := _misplaced([x[::-1] if back else x for x in columns], layout):
        raise refusal(
            path,
            "timestamp, open, high, low, close, volume where a file has no names",
            found,
            "Give the columns names.",
        )
    return replace(layout, doubt=_doubt_of_volume(columns, layout))


def _doubt_of_volume(columns: Sequence[np.ndarray], layout: Layout) -> str:
    """Returns which other columns may be the volume, in words; empty without one."""
    low, high = (columns[layout.prices[name]] for name in ("low", "high"))
    cells = [columns[volume.position] for volume in layout.volumes]
    choice = choose_volume(layout.volumes, cells, low=low, high=high)
    if choice is None:
        return ""  # refused where all rows are read
    known = {*(time[0] for time in layout.times), *layout.prices.values()}
    known |= {*layout.sides.values()}
    rest = {
        f"column {i + 1}": column
        for i, column in enumerate(columns)
        if i not in known and column is not choice.values
    }
    if rest and is_quote(choice.values, cells[0], low, high):
        return f"{choice.note}, in no known order. If not, give the columns names"
    asked = [v.name for v in layout.volumes if v.kind == "quote" and v.name in rest]
    rivals = rivals_of(choice.values, rest, asked=asked, low=low, high=high)
    if not rivals:
        return ""
    taken = choice.note or f"volume is {layout.volumes[0].name!r}"
    return f"{taken}; {' and '.join(rivals)}. If not, give the columns names"


def _misplaced(columns: Sequence[np.ndarray], layout: Layout) -> str:
    """Returns which column is not what its place says, as far as the rows tell."""
    for place in layout.prices.values():
        if np.isnan(columns[place]).all():
            return f"column {place + 1} without numbers"
    opens, highs, lows, closes = (columns[layout.prices[name]] for name in PRICES)
    tops, bottoms = np.fmax(opens, closes), np.fmin(opens, closes)
    body, above, below = map(_apart, (tops, highs, bottoms), (bottoms, tops, lows))
    jumps = map(_apart, (opens[1:], opens[:-1]), (closes[:-1], closes[1:]))
    if min(body, *jumps) > _FAR:
        return f"column {layout.prices['open'] + 1}, far from the closes, as the open"
    # A volume below the prices would be a low, one above them a high.
    for name, far, near in (("high", above, below), ("low", below, above)):
        if far > _FAR and far > 10 * body and (far > 10 * near or near > _FAR):
            place = layout.prices[name] + 1
            return f"column {place}, far from the others, as the {name}"
    if _are_averages(opens, highs, lows, closes):
        return "opens that do not follow the closes: one may be an average price"
    first = layout.volumes[0].position
    volume, times = columns[first], columns[layout.times[0][0]]
    flags = layout.sides.get("confirm")
    if flags is not None and not np.isin(columns[flags], (0, 1, np.nan)).all():
        return f"column {flags + 1}, neither 0 nor 1, as whether a bar is over"
    end = layout.sides.get("end")
    if end is not None and not is_later(columns[end], times):
        return f"column {end + 1}, no time after the first column's, as the end of bars"
    if len(np.unique(volume[volume > 0])) < _MIN_ROWS:
        return ""
    what = "a price within the bar" if is_price(volume, high=highs, low=lows) else ""
    what = "a time" if are_times(volume) else what
    return f"column {first + 1}, {what}, as the volume" if what else ""


def _are_averages(
    opens: np.ndarray, highs: np.ndarray, lows: np.ndarray, closes: np.ndarray
) -> bool:
    """Whether one of open and close is no nearer to its neighbour than any price is.

    A bar opens near where the one before closed, or is of so few trades that both often
    are its high or low. In 13 files of real candles, 300 rows at a time, the distance
    is at most 0.48 of what is next to it, of thin bars 0.79, of averages at least 0.88.
    """
    moved = highs > lows
    pairs = moved[1:] & moved[:-1]
    middles = (highs + lows) / 2
    if np.count_nonzero(pairs) < _MIN_ROWS or not np.ptp(middles):
        return False
    jump, *others = (
        np.abs(after[1:] - before[:-1])[pairs].mean()
        for after, before in ((opens, closes), (middles, closes), (opens, middles))
    )
    touched = [((x == highs) | (x == lows))[moved].mean() for x in (opens, closes)]
    is_thin = min(touched) >= max(_OFTEN, max(touched) / 2)
    return bool(jump > (_THIN if is_thin else _NEARER) * min(others))


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the usual distance of two columns in logarithms; 0 of a few rows."""
    with np.errstate(invalid="ignore", divide="ignore"):
        distances = np.abs(np.log(one / other))
    distances = distances[~np.isnan(distances)]
    return float(np.median(distances)) if len(distances) >= _MIN_ROWS else 0.0


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return np.nan


def layout_of_places(columns: Sequence[np.ndarray], path: Path) -> Layout:
    """Returns what the columns of a file without names are.

    Args:
        columns: The first rows of each column as numbers, NaN where they are none.
        path: The file, for the error.

    Raises:
        DataError: If no known order has as many columns.
    """
    width = len(columns)
    empty = [bool(np.isnan(column).all()) for column in columns]
    is_clocked = empty[:2] == [True, True]
    orders = [
        dict(zip(order.split(), range(width), strict=True))
        for order in _ORDERS
        if len(order.split()) == width and ("clock" in order) == is_clocked
    ]
    orders.sort(key=lambda order: _doubt(columns, order))
    if not orders:
        widths = sorted({len(order.split()) for order in _ORDERS})
        raise refusal(
            path,
            f"{', '.join(map(str, widths[:-1]))} or {widths[-1]} columns where a file "
            "has no names: timestamp, open, high, low, close, volume and what follows",
            f"{width} columns",
            "Give the columns names.",
        )
    places = orders[0]
    volumes = [
        Volume(place, f"column {place + 1}", kind)
        for name, place in places.items()
        for kind, aliases in VOLUMES.items()
        if name in aliases.split()
    ]
    sides = {side: places[side] for side in SIDES if side in places}
    if "last" in places and empty[-1]:  # words
        sides["symbol"] = places["last"]
    elif "last" in places:
        volumes.append(Volume(places["last"], f"column {width}", "either"))
    last = len(TIMES) - 1
    return Layout(
        times=tuple((i, f"column {i + 1}", last) for i in range(1 + is_clocked)),
        prices={name: places[name] for name in PRICES},
        volumes=tuple(volumes),
        sides=sides,
    )


def _doubt(columns: Sequence[np.ndarray], order: Mapping[str, int]) -> int:
    """Returns 0 where the columns that tell an order from others are there, else 2.

    An order without such columns has 1.
    """
    if "vwap" in order:
        high, low = (columns[order[name]] for name in ("high", "low"))
        return 0 if is_price(columns[order["vwap"]], high=high, low=low) else 2
    if "end" in order:
        return 0 if is_later(columns[order["end"]], columns[order["timestamp"]]) else 2
    return 1
