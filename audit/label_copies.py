"""Columns that are labels or outcomes of other rows which were not over at their row.

In: columns, labels and outcomes, at every distance. Out: columns that only know
something of the label (`column_skill`, `leading`), which may be forecasts.

The outcome of row `r` is known from the bar on that ends it. A column whose value at
row `t` is a function of the outcome of row `t - k`, in the rows where that was still
open, was made from later bars: no forecast is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from audit.findings import COPIED, LEAK, PASSED, Finding
from data_loader import TrainingData

_MAX_ROWS = 60_000  # the newest
_MAX_LEVELS = 24
_MIN_OPEN_ROWS = 100
_SHOWN = 4
_EXACT = 0.999  # share of rows; a few may be of a segment's start
_MIN_GAIN = 0.99  # of the rows off the usual value
_ENDS = {"label": "label_end", "long": "long_exit_bars", "short": "short_exit_bars"}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Outcome:
    """What came of each row (num_rows,), and after how many bars that was known."""

    name: str
    values: np.ndarray
    open_bars: np.ndarray
    shape: np.ndarray

    @property
    def is_class(self) -> bool:
        return _is_class(self.values)


def check_copies(data: TrainingData) -> Finding:
    """Looks for columns that are outcomes of rows which were still open.

    Args:
        data: Rows with labels or values, and outcomes; features scaled or not.
    """
    newest = slice(max(0, data.num_rows - _MAX_ROWS), None)
    outcomes = list(_outcomes(data, newest))
    found: dict[str, str] = {}
    for j, column in enumerate(data.feature_names):
        values = data.features[newest, j].astype(np.float64)
        if np.ptp(values) > 0:
            is_class, shape = _is_class(values), _shape(values)
            for outcome in outcomes:
                if outcome.is_class == is_class and column not in found:
                    lag = _lag(shape, outcome.shape)
                    if _is_copy(values, outcome, lag):
                        found[column] = f"{column} is {outcome.name} of row t{-lag:+d}"
    words = list(found.values())[:_SHOWN]
    words += [f"{len(found) - _SHOWN} more"] * (len(found) > _SHOWN)
    passed = f"none of {data.num_features} columns is an outcome of a row that was open"
    return Finding(
        check=COPIED,
        outcome=LEAK if found else PASSED,
        what=f"{', '.join(words)}: not known at row t" if found else passed,
        columns=tuple(found),
    )


def _outcomes(data: TrainingData, rows: slice) -> Iterator[_Outcome]:
    known: Mapping[str, np.ndarray] = {k: x[rows] for k, x in data.outcomes.items()}
    last = np.full(len(data.features[rows]), data.future_window)
    own = data.labels if data.values is None else data.values
    columns = {"label" if data.values is None else "target": own[rows]}
    columns |= {name: x for name, x in known.items() if name not in ("close", "target")}
    for name, column in columns.items():
        values = np.nan_to_num(np.asarray(column, np.float64), nan=-1.0)
        open_bars = known.get(_ENDS.get(name.split("_")[0], ""), last)
        if np.ptp(values) > 0:
            yield _Outcome(
                name=name, values=values, open_bars=open_bars, shape=_shape(values)
            )


def _is_class(values: np.ndarray) -> bool:
    return len(np.unique(values[:: max(1, len(values) // 2000)])) <= _MAX_LEVELS


def _shape(values: np.ndarray) -> np.ndarray:
    """Returns the spectrum of what no one-to-one map changes, up to its sign.

    Where classes change; the ranks of numbers, as far as maps are monotone.
    """
    from scipy.fft import next_fast_len, rfft
    from scipy.stats import rankdata

    series = np.diff(values, prepend=values[:1]) != 0
    if not _is_class(values):
        series = rankdata(values)
    series = series - series.mean()
    return rfft(series, 2 * next_fast_len(len(series)))


def _lag(shape: np.ndarray, other: np.ndarray) -> int:
    """Returns the rows by which the first series follows the second most closely."""
    from scipy.fft import irfft

    products = np.abs(irfft(shape * np.conj(other)))
    lag = int(products.argmax())
    return lag if lag < len(products) / 2 else lag - len(products)


def _is_copy(values: np.ndarray, outcome: _Outcome, lag: int) -> bool:
    """Whether values are a function of the outcome `lag` rows before, while open."""
    first, last = max(0, lag), min(len(values), len(values) + lag)
    mine = values[first:last]
    theirs = outcome.values[first - lag : last - lag]
    is_open = outcome.open_bars[first - lag : last - lag] > lag
    mine, theirs = mine[is_open], theirs[is_open]
    if len(mine) < _MIN_OPEN_ROWS or np.ptp(mine) == 0 or np.ptp(theirs) == 0:
        return False
    if not outcome.is_class:
        steps = np.diff(mine[np.argsort(theirs, kind="stable")])
        return float(max((steps >= 0).mean(), (steps <= 0).mean())) >= _EXACT
    codes, levels = (
        np.unique(series, return_inverse=True)[1] for series in (theirs, mine)
    )
    counts = np.zeros((codes.max() + 1, levels.max() + 1))
    np.add.at(counts, (codes, levels), 1)
    wrong = 1 - counts.max(axis=1).sum() / len(mine)
    usual = counts.sum(axis=0).max() / len(mine)
    return wrong <= 1 - _EXACT and wrong <= (1 - _MIN_GAIN) * (1 - usual)
