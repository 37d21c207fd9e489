"""Columns that were learned over rows which come later: encodings, ranks, components.

In: the traces that they leave in the file itself. Out: scalers (`split_checks`), what
leads the market (`leading`).

What was fitted over all rows holds exactly over all rows, and not over the training
rows alone: ranks are evenly spaced, components uncorrelated, the levels of a target
encoding are the means of the target. Clusters, and
encodings that were smoothed or had noise added, leave none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from audit.findings import (
    DOUBTFUL,
    FITTED_PRICE,
    INTERPOLATED,
    LEAK,
    LEARNED,
    NOT_DONE,
    PASSED,
    Finding,
)
from data_loader import TrainingData

_MAX_ROWS = 200_000
_BLOCK_ROWS = 50_000
_MAX_LEVELS = 2000
_MIN_LEVELS = 4
_EXACT = 1e-5  # of float32 columns, summed in float64
_OTHERWISE = 1e-3
_EVEN, _UNEVEN = 5e-3, 0.05  # some rows may have gone to warm-up since
_STRAIGHT = 0.8  # share of rows on the line between their neighbours
_MIN_SLOPES = 20
_SAME = 1e-4  # share of a variance that one map of the price leaves
_CENTRED, _UNCENTRED = 0.05, 0.1  # of a deviation
_ORDERS = 9  # terms of a polynomial of time
_CURVE_LEFT = 0.009  # share of the price's deviation; means of the past leave 0.010
_UNTILTED = 0.05  # correlation with the mean and the slope of all rows
_EVEN_RANKS = 0.03
_SPACED_ROWS = 20_000


def check_learned(data: TrainingData) -> Finding:
    """Looks for columns with a trace of having been learned over later rows.

    Args:
        data: The file's rows; features scaled or not.
    """
    until = data.parts["train"].stop
    spans = {
        "every row": data.num_rows,
        "train and validation": data.parts["test"].start,
    }
    targets = _targets(data)
    found: dict[str, str] = {}
    for j, name in enumerate(data.feature_names):
        column = data.features[:, j].astype(np.float64)
        for span, stop in spans.items():
            for trace in _traces(column, targets, stop=stop, until=until):
                found.setdefault(name, f"{name}: {trace} over {span}, not over train")
    for span, stop in spans.items():
        for names in _components(data, stop=stop, until=until):
            for name in names:
                found.setdefault(
                    name,
                    f"{name}: one of {len(names)} components that are "
                    f"uncorrelated over {span}, not over train",
                )
    passed = (
        f"no column of {data.num_features} has the trace of an encoding, of ranks or "
        "of components of later rows"
    )
    return Finding(
        check=LEARNED,
        outcome=LEAK if found else PASSED,
        what="; ".join(found.values()) or passed,
        columns=tuple(found),
    )


def _targets(data: TrainingData) -> Mapping[str, np.ndarray]:
    """Returns what an encoding could have taken the mean of (num_rows,)."""
    if data.values is not None:
        return {"value": data.values.astype(np.float64)}
    targets = {f"label {k}": (data.labels == k) * 1.0 for k in range(3)}
    return targets | {"side": data.labels - 1.0}


def _traces(
    column: np.ndarray, targets: Mapping[str, np.ndarray], *, stop: int, until: int
) -> Iterator[str]:
    """Yields what holds for the rows before `stop` and not for those before `until`."""
    levels, counts = np.unique(column[:stop], return_counts=True)
    if len(levels) < _MIN_LEVELS:
        return
    is_ramp = (np.diff(column[:stop]) >= 0).mean() > 0.9  # counts rows, as a clock does
    if not is_ramp and len(levels) > 0.1 * stop:
        ordered = np.repeat(levels, counts)
        for words, place in (("ranks", np.asarray), ("normal scores", _place)):
            is_even = _unevenness(place(ordered)) < _EVEN
            if is_even and _unevenness(place(np.sort(column[:until]))) > _UNEVEN:
                yield f"{words}, evenly spaced"
    if len(levels) > _MAX_LEVELS or counts.max() > 0.5 * stop:
        return
    codes = np.searchsorted(levels, column[:stop])
    for name, target in targets.items():
        errors = []
        for end in (stop, until):
            known = np.isfinite(target[:end])
            kept, goal = codes[:end][known], target[:end][known]
            size = np.bincount(kept, minlength=len(levels))
            sums = np.bincount(kept, goal, minlength=len(levels))
            errors.append(_off_line(levels, sums / np.maximum(size, 1), size))
        if errors[0] < _OTHERWISE and errors[1] > 10 * errors[0] + _EXACT:
            yield f"its levels are the means of {name}"


def _place(column: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return ndtr(column)


def _unevenness(ordered: np.ndarray) -> float:
    """Returns how far sorted values are off an even spacing, as a share of it all."""
    line = np.linspace(ordered[0], ordered[-1], len(ordered))
    return float(np.abs(ordered - line).max() / (ordered[-1] - ordered[0] or np.inf))


def _off_line(levels: np.ndarray, means: np.ndarray, size: np.ndarray) -> float:
    """Returns the share of the means' variance that no line of the levels explains."""
    used = size > 0
    if used.sum() < _MIN_LEVELS or np.ptp(means[used]) == 0:
        return 1.0
    correlation = np.cov(levels[used], means[used], fweights=size[used])
    scale = correlation[0, 0] * correlation[1, 1]
    return float(1 - correlation[0, 1] ** 2 / scale) if scale else 1.0


def _components(data: TrainingData, *, stop: int, until: int) -> Iterator[list[str]]:
    """Yields groups of columns that are uncorrelated over the rows before `stop`."""
    overall, own = (_correlations(data.features[:end]) for end in (stop, until))
    exact = (overall < _EXACT) & (own > _OTHERWISE)
    partners = exact.sum(axis=1)
    members = np.flatnonzero(partners >= 2)
    if len(members) >= 3:
        yield [data.feature_names[j] for j in members]


def _correlations(table: np.ndarray) -> np.ndarray:
    """Returns absolute correlations (num_features, num_features), 0 of constants."""
    means = table.mean(axis=0, dtype=np.float64)
    products = np.zeros((table.shape[1], table.shape[1]))
    for first in range(0, len(table), _BLOCK_ROWS):
        block = table[first : first + _BLOCK_ROWS] - means
        products += block.T @ block
    spread = np.sqrt(np.diag(products))
    spread[spread == 0] = np.inf
    return np.abs(products / np.outer(spread, spread))


def check_interpolated(columns: Mapping[str, np.ndarray]) -> Finding:
    """Looks for columns that run straight from one known value to the next.

    Between two values only the first is known. Counters run straight, too, at one
    slope.

    Args:
        columns: Columns (num_rows,).
    """
    found = []
    for name, whole in columns.items():
        values = np.asarray(whole[-_MAX_ROWS:], np.float64)
        steps = np.diff(values)
        rounding = 8 * np.finfo(np.float32).eps * np.abs(values).max()
        straight = np.abs(np.diff(steps)) <= rounding
        moving = straight & (np.abs(steps[1:]) > 2 * rounding)
        slopes = np.unique(np.round(steps[1:][moving] / max(rounding, 1e-300) / 4))
        if moving.mean() > _STRAIGHT and len(slopes) >= _MIN_SLOPES:
            found.append(name)
    passed = f"none of {len(columns)} columns runs straight between values of its own"
    words = f"{', '.join(found)}: straight from one value to a later one, which was not"
    return Finding(
        check=INTERPOLATED,
        outcome=DOUBTFUL if found else PASSED,
        what=f"{words} known. Carry the last one forward" if found else passed,
        columns=tuple(found),
    )


def check_price_fits(data: TrainingData) -> Finding:
    """Looks for prices that were standardised, ranked or detrended over later rows.

    Each is the price at its row, put to scale by all rows: it leads by little, and has
    an exact form instead. Honest columns, such as the price against means of its past,
    have none of these forms.

    Args:
        data: The file's rows, with `close`; features scaled or not.
    """
    if "close" not in data.outcomes:
        why = "the file has no column close"
        return Finding(check=FITTED_PRICE, outcome=NOT_DONE, what=why)
    until = data.parts["train"].stop
    close = data.outcomes["close"].astype(np.float64)
    prices = np.log(close), close
    found, scaler = {}, data.scaler
    for j, name in enumerate(data.feature_names):
        column = data.features[:, j].astype(np.float64)
        column = column * scaler.scale[j] + scaler.center[j]
        if np.ptp(column[:until]) > 0:
            form = _form(column, prices, until=until)
            if form:
                found[name] = f"{name} is the price {form}"
    passed = f"none of {data.num_features} columns is a price fitted to all rows"
    return Finding(
        check=FITTED_PRICE,
        outcome=DOUBTFUL if found else PASSED,
        what=f"{'; '.join(found.values())} over all rows" if found else passed,
        columns=tuple(found),
    )


def _form(column: np.ndarray, prices: tuple[np.ndarray, ...], *, until: int) -> str:
    """Returns how a column was made of the price and of all rows, or nothing."""
    likeness = [np.corrcoef(column, price)[0, 1] ** 2 for price in prices]
    if max(likeness) > 1 - _SAME:
        off, off_train = (
            max(abs(part.mean()), abs(part.std() - 1))
            for part in (column, column[:until])
        )
        return "standardised" * bool(off < _CENTRED and off_train > _UNCENTRED)
    if max(likeness) > 0.5 and _is_ordered(column, prices[0]):
        even, own = (_unevenness(np.sort(part)) for part in (column, column[:until]))
        return "ranked" * bool(even < _EVEN_RANKS and own > max(_EVEN_RANKS, 2 * even))
    time = np.linspace(-1, 1, len(column))
    tilts = column.mean() / column.std(), np.corrcoef(column, time)[0, 1]
    if np.abs(tilts).max() > _UNTILTED:
        return ""
    rows = slice(None, None, max(1, len(column) // _SPACED_ROWS))
    terms = [column[rows], *(time[rows] ** k for k in range(_ORDERS))]
    table = np.column_stack(terms)
    fitted = np.column_stack([price[rows] for price in prices])
    left = fitted - table @ np.linalg.lstsq(table, fitted, rcond=None)[0]
    spreads = _CURVE_LEFT * np.std(prices, axis=1)
    return "less a curve fitted" * bool((left.std(axis=0) < spreads).any())


def _is_ordered(column: np.ndarray, price: np.ndarray) -> bool:
    """Whether a column is the larger, the higher the price."""
    steps = np.diff(column[np.argsort(price, kind="stable")])
    return bool((steps >= 0).mean() > 1 - _SAME)
