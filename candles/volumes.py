"""Columns that may be the volume -> the volume in base units, told by the prices.

In: quote volume, contracts and base volume, told apart. Out: what the names of the
columns say (`layouts`).

Quote volume over base volume is the average price of the bar, so it lies between its
low and its high, in every bar. Contracts differ from one of these by a constant factor.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from candles.layouts import Volume, are_times, is_price

_SHARE = 0.98  # of the bars; the volumes of the others were rounded
_MIN_BARS = 3
_MIN_BARS_OF_A_FACTOR = 20
_BASE_UNITS = (1e-4, 1e8)
_QUOTE_UNITS = (1, 1000)
"""Sizes of contracts; beyond these one of the columns is in another scale."""
_LEVEL = 0.03  # usual change of a volume from bar to bar, in logarithms: 0.2 or more
_SPREAD = 10.0
_BELIEVED = {"base": 0, "plain": 1, "either": 2, "quote": 3}


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The volume in base units (num_rows,), and what was done or is in doubt."""

    values: np.ndarray
    note: str = ""
    doubt: str = ""


def choose_volume(
    candidates: Sequence[Volume],
    columns: Sequence[np.ndarray],
    *,
    low: np.ndarray,
    high: np.ndarray,
) -> Choice | None:
    """Returns the volume in base units, or None where two columns may be it.

    Args:
        candidates: What the names say of the columns.
        columns: Their values (num_rows,) each.
        low: Low of each bar (num_rows,).
        high: High of each bar.
    """
    ranked = sorted(
        zip(candidates, columns, strict=True),
        key=lambda item: _BELIEVED[item[0].kind],
    )
    (first, values), *others = ranked
    if not others:
        return Choice(values)
    named = "" if first.kind == "plain" else f"volume is {first.name!r}"
    for (base, base_values), (quote, quote_values) in itertools.permutations(ranked, 2):
        if _share(base_values, quote_values, low, high, factor=1.0) >= _SHARE:
            if base.kind == "plain" or (base is first and base.kind == "base"):
                return Choice(base_values, "" if base.kind == "plain" else named)
            return Choice(
                base_values,
                f"volume is {base.name!r}: {quote.name!r} / {base.name!r} is the price",
            )
    for other, other_values in others:
        taken = _from_contracts(first, values, other, other_values, low, high)
        if taken is not None:
            return taken
    rivals = [volume for volume, _ in ranked if volume.kind == first.kind]
    if len(rivals) > 1 and not _are_equal(columns):
        return None
    for other, other_values in others:
        if factor := _constant(values, other_values):
            doubt = (
                f"{other.name!r} is {first.name!r} x {factor:g} in every bar: one of "
                "them counts contracts"
            )
            return Choice(values, named, doubt)
        if other.kind == "quote" and _varies(other_values) and _varies(values):
            doubt = (
                f"{other.name!r} / {first.name!r} is not the price: {first.name!r} "
                "may not be in base units"
            )
            return Choice(values, named, doubt)
    return Choice(values, named)


def rivals_of(
    values: np.ndarray,
    others: Mapping[str, np.ndarray],
    *,
    asked: Sequence[str],
    low: np.ndarray,
    high: np.ndarray,
) -> list[str]:
    """Returns why a volume may be none: other columns that may be it, in words.

    Known are prices, times, what never changes, a multiple, the number of trades of a
    volume that is no whole number, and, where one other column is the quote volume,
    parts of both.

    Args:
        values: What is taken as the volume (num_rows,).
        others: The columns (num_rows,) beside time and prices.
        asked: Those of them that should be the quote volume.
        low: Low of each bar (num_rows,).
        high: High of each bar.
    """
    traded = values > 0
    steps = np.abs(np.diff(np.log(values[traded])))
    if len(steps) >= _MIN_BARS_OF_A_FACTOR and np.median(steps) < _LEVEL:
        return ["it hardly changes from bar to bar, as an open interest does"]
    rest = {
        name: other
        for name, other in others.items()
        if other.any() and not np.isnan(other).all() and not are_times(other)
        if not is_price(other, high=high, low=low)
    }
    quotes = [name for name, x in rest.items() if is_quote(values, x, low, high)]
    if asked and not quotes and values.any():
        return [f"{' and '.join(asked)} is not its quote volume"]
    parts = [name for name, x in rest.items() if quotes and (x <= values).all()]
    known = {*quotes, *parts}
    known |= {
        name
        for name, x in rest.items()
        if any(is_quote(rest[part], x, low, high) for part in parts)
        or _constant(values, x)
        or np.array_equal(values, x)
        or _are_trades(x, values)
    }
    return [f"{name} may be it, too" for name in rest if name not in known]


def is_quote(
    values: np.ndarray, other: np.ndarray, low: np.ndarray, high: np.ndarray
) -> bool:
    """Whether a column is the quote volume of another, perhaps in contracts."""
    traded = (values > 0) & (other > 0) & (low > 0)
    if np.count_nonzero(traded) < _MIN_BARS:
        return False
    ratio = other[traded] / values[traded] / np.sqrt(low * high)[traded]
    share = _share(values, other, low, high, factor=_round_factor(ratio))
    return share >= _SHARE


def _are_trades(cells: np.ndarray, volume: np.ndarray) -> bool:
    """Whether cells count the trades of a volume: whole, in no steady ratio to it."""
    traded = (volume > 0) & (cells > 0)
    is_whole = [(x == np.floor(x)).all() for x in (cells, volume)]
    if is_whole != [True, False] or (cells[volume > 0] == 0).any():
        return False
    size = volume[traded] / cells[traded]
    return len(size) > 0 and size.max() > _SPREAD * size.min()


def _from_contracts(
    first: Volume,
    values: np.ndarray,
    other: Volume,
    other_values: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> Choice | None:
    """Returns the base volume where the first column counts contracts."""
    traded = (values > 0) & (other_values > 0) & (low > 0)
    are_whole = (values[traded] == np.floor(values[traded])).all()
    if first.kind == "base" or not are_whole:  # contracts are
        return None
    if np.count_nonzero(traded) < _MIN_BARS_OF_A_FACTOR or not _varies(values):
        return None
    price = np.sqrt(low * high)[traded]
    ratio = other_values[traded] / values[traded]
    of_base = _round_factor(ratio / price)
    linear = _BASE_UNITS[0] <= of_base <= _BASE_UNITS[1] and (
        _share(values, other_values, low, high, factor=of_base) >= _SHARE
    )
    of_quote = _round_factor(ratio * price)
    # Contracts of quote units: they are the quote volume, the other column the base.
    inverse = _QUOTE_UNITS[0] <= of_quote <= _QUOTE_UNITS[1] and (
        _share(other_values, values, low, high, factor=1 / of_quote) >= _SHARE
    )
    if linear and inverse:
        linear, inverse = other.kind == "quote", other.kind != "quote"
    if inverse:
        return Choice(
            other_values,
            f"volume is {other.name!r}: {first.name!r} counts contracts of "
            f"{of_quote:g} quote units",
        )
    if linear:
        return Choice(
            values * of_base,
            f"{first.name!r} counts contracts of {of_base:g} base units: volume is "
            f"{first.name!r} x {of_base:g}",
        )
    return None


def _share(
    base: np.ndarray,
    quote: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    factor: float,
) -> float:
    """Returns the share of bars in which `quote / base` is `factor` times the price."""
    traded = (base > 0) & (quote > 0)
    if np.count_nonzero(traded) < _MIN_BARS:
        return 0.0
    # Small volumes are those that rounding moves most.
    traded &= base >= np.median(base[traded])
    base, quote = base[traded], quote[traded]
    whole = [np.where(x == np.floor(x), 1 / x, 0.0) for x in (base, quote)]
    slack = 1e-3 + whole[0] + whole[1]
    ratio = quote / base / factor
    inside = (ratio >= low[traded] * (1 - slack)) & (
        ratio <= high[traded] * (1 + slack)
    )
    return float(inside.mean())


def _constant(values: np.ndarray, others: np.ndarray) -> float:
    """Returns the ratio that two volumes have in all bars, unless it is 1; or 0."""
    traded = (values > 0) & (others > 0)
    if np.count_nonzero(traded) < _MIN_BARS_OF_A_FACTOR or not _varies(values):
        return 0.0
    ratio = others[traded] / values[traded]
    middle = float(np.median(ratio))
    is_one = (np.abs(ratio / middle - 1) < 1e-3).mean() >= _SHARE
    return middle if is_one and abs(middle - 1) > 0.01 else 0.0


def _round_factor(factors: np.ndarray) -> float:
    """Returns the size of a contract: 1, 2 or 5 times a power of ten."""
    middle = float(np.median(factors))
    power = 10.0 ** np.floor(np.log10(middle))
    sizes = [power * digit for digit in (1, 2, 5, 10)]
    return min(sizes, key=lambda size: abs(np.log(size / middle)))


def _varies(values: np.ndarray) -> bool:
    positive = values[values > 0]
    return len(positive) >= _MIN_BARS and float(positive.max()) > 1.5 * positive.min()


def _are_equal(columns: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(columns[0], column) for column in columns[1:])
