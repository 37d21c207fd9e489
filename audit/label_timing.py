"""Which row a label belongs to, told by the bars that decide it.

In: the correlation of a column's newest move with the labels around its row. Out: how
much columns know (`column_skill`), what candles prove (`lookahead`).

Bar `t` decides labels of rows before `t` and no other: as a function of the label's row
the correlation is there up to row `t - 1` and gone from row `t` on. Where it goes only
later, labels begin before their row's bar has closed. A shift by one bar costs 0.003 of
the skill of window statistics; it moves this edge by one whole row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.findings import LATER_BAR, LEAK, NOT_DONE, PASSED, SHIFTED_LABEL, Finding
from config import LONG, SHORT
from data_loader import TrainingData
from metrics.intervals import block_error
from metrics.significance import suggest_block_rows

_SHOWN = 4

MAX_ROWS = 200_000
"""Newest rows on which labels are timed."""

_EARLIER_ROWS = 20
_LATER_ROWS = 40  # beyond the horizon: enough rows to see the noise
_MAX_HORIZON = 500
_SHARPNESS = 0.4  # share of a column's largest correlation that falls in one bar
_CLEAR_ERRORS = 4.0  # standard errors; 9 % trades in 44,000 rows give 5.2
_CLEAR_NOISE = 8.0  # times the spread of the other falls; noise reached 4.6
_SAME_RULE = 0.98  # of labels equal: only the tie policy or a few candles differ
_SHOWN_OFFSETS = (-20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelEdge:
    """The row from which on labels are decided by later bars than a column's newest.

    The correlation of a column's newest move with the side of the label (LONG 1, SHORT
    -1) of row `t + k` is there for `k < 0`, where bar `t` lies in the label's future,
    and is gone from `k = 0` on: it falls in one bar, and `shift_bars` is 0. A fall
    between `k = s - 1` and `k = s` says that labels sit `s` rows too late, or the
    column `s` rows too early.

    Args:
        column: Name of the column; `close` stands for its returns.
        shift_bars: The `k` before which the correlation falls.
        before: Correlation at `k = shift_bars - 1`.
        after: Correlation at `k = shift_bars`.
        standard_error: Of their difference, from sums of blocks.
        curve: Correlation at some `k` around 0.
    """

    column: str
    shift_bars: int
    before: float
    after: float
    standard_error: float
    curve: Mapping[int, float]


def find_label_edges(data: TrainingData) -> list[LabelEdge]:
    """Times the labels by every column that follows the price closely enough."""
    newest = slice(max(0, data.num_rows - MAX_ROWS), None)
    labels = data.labels[newest]
    side = _standardised((labels == LONG) * 1.0 - (labels == SHORT))
    spectrum = _spectrum(side)
    columns = dict(zip(data.feature_names, data.features[newest].T, strict=True))
    if "close" in data.outcomes:
        columns["close"] = np.log(data.outcomes["close"][newest])
    edges = []
    for column, values in columns.items():
        levels = values.astype(np.float64)
        moves = np.diff(levels, prepend=levels[:1])
        found = [
            _sharpest_edge(column, _clipped(series), side, spectrum, data.future_window)
            for series in (moves, levels)
        ]
        clear = [edge for edge in found if edge is not None]
        if clear:
            edges.append(max(clear, key=lambda edge: edge.before - edge.after))
    return edges


def check_label_shift(
    data: TrainingData,
    *,
    edges: Sequence[LabelEdge] | None = None,
    true_labels: np.ndarray | None = None,
) -> Finding:
    """Asks whether the label of row `t` begins after bar `t`.

    Args:
        data: Rows with their labels.
        edges: `find_label_edges(data)`, where it is known.
        true_labels: Labels of these rows computed from candles (num_rows,), -1 where
            one is not known; where they are by the same rule, they settle it.
    """
    edges = find_label_edges(data) if edges is None else edges
    evidence: dict[str, Any] = {
        "shift_bars": {edge.column: edge.shift_bars for edge in edges},
        "correlation": {edge.column: dict(edge.curve) for edge in edges},
    }
    shift = _common_shift(edges)
    words = []
    if true_labels is not None:
        agreement = _label_agreement(data.labels, true_labels)
        offset = max(agreement, key=lambda k: (agreement[k], k == 0))
        evidence |= {"recomputed_offset": offset, "agreement": agreement[offset]}
        words.append(
            f"{agreement[offset]:.2%} of the labels are those that the candles give "
            f"for {_row_name(offset)}"
        )
        if agreement[offset] >= _SAME_RULE:
            shift = -offset
    if shift is None:
        return Finding(
            check=SHIFTED_LABEL,
            outcome=NOT_DONE,
            what="no column follows the price closely enough to time the labels: give "
            "candles, or a file with the column close",
            evidence=evidence,
        )
    if edges:
        words.append(_describe_edge(max(edges, key=lambda e: e.before - e.after)))
    if shift > 0:
        bars = "bar is" if shift == 1 else f"{shift} bars are"
        words.insert(
            0, f"row t has the label of row t-{shift}, whose first {bars} known"
        )
    elif shift < 0:
        words.append(f"row t has the label of row t+{-shift}: late, but no leak")
    return Finding(
        check=SHIFTED_LABEL,
        outcome=LEAK if shift > 0 else PASSED,
        what="; ".join(words),
        evidence=evidence,
    )


def check_column_shift(
    data: TrainingData, *, edges: Sequence[LabelEdge] | None = None
) -> Finding:
    """Looks for columns whose newest value is of a later bar than their row.

    Args:
        data: Rows with their labels.
        edges: `find_label_edges(data)`, where it is known.
    """
    edges = find_label_edges(data) if edges is None else edges
    common = _common_shift(edges)
    if common is None:
        return Finding(
            check=LATER_BAR,
            outcome=NOT_DONE,
            what="no column follows the price closely enough to be timed",
        )
    early = [edge for edge in edges if edge.shift_bars > max(0, common)]
    evidence = {edge.column: edge.shift_bars for edge in edges}
    if early:
        words = [
            f"{edge.column} is that of row t+{edge.shift_bars - max(0, common)}"
            for edge in early[:_SHOWN]
        ]
        words += [f"{len(early) - _SHOWN} more"] * (len(early) > _SHOWN)
        what = f"{', '.join(words)}: it knows how labels of row t begin"
    else:
        timed = sum(edge.column != "close" for edge in edges)
        what = f"{timed} of {data.num_features} columns could be timed, none is early"
    return Finding(
        check=LATER_BAR,
        outcome=LEAK if early else PASSED,
        what=what,
        evidence={"shift_bars": evidence},
        columns=tuple(edge.column for edge in early),
    )


def _common_shift(edges: Sequence[LabelEdge]) -> int | None:
    """Returns the shift that `close` has, else the most frequent one; None without."""
    if not edges:
        return None
    of_close = [edge.shift_bars for edge in edges if edge.column == "close"]
    shifts = [edge.shift_bars for edge in edges]
    return of_close[0] if of_close else max(sorted(set(shifts)), key=shifts.count)


def _sharpest_edge(
    column: str,
    series: np.ndarray,
    side: np.ndarray,
    spectrum: np.ndarray,
    horizon: int,
) -> LabelEdge | None:
    """Returns the largest fall from one row's label to the next's, if it is clear.

    `spectrum` is that of `side`.
    """
    later = min(horizon, _MAX_HORIZON) + _LATER_ROWS
    if len(side) < 4 * (later + _EARLIER_ROWS) or not series.any():
        return None
    offsets = np.arange(-_EARLIER_ROWS, later + 1)
    sizes = np.abs(_correlations(series, spectrum, offsets))
    falls = sizes[:-1] - sizes[1:]
    at = int(np.argmax(falls))
    noise = 1.4826 * np.median(np.abs(falls - np.median(falls)))
    if falls[at] < max(_SHARPNESS * sizes.max(), _CLEAR_NOISE * noise):
        return None
    shift = int(offsets[at + 1])
    rows = np.arange(_EARLIER_ROWS, len(side) - later - 1)
    products = series[rows] * (side[rows + shift - 1] - side[rows + shift])
    error = block_error(
        products, block_rows=suggest_block_rows(len(rows), horizon_bars=horizon)
    )
    if not abs(products.mean()) >= _CLEAR_ERRORS * error > 0:
        return None
    return LabelEdge(
        column=column,
        shift_bars=shift,
        before=float(sizes[at]),
        after=float(sizes[at + 1]),
        standard_error=error,
        curve={k: float(sizes[k + _EARLIER_ROWS]) for k in _SHOWN_OFFSETS},
    )


def _spectrum(series: np.ndarray) -> np.ndarray:
    """Returns the Fourier transform, with room for a shift by every row."""
    from scipy.fft import rfft

    return rfft(series, _room(len(series)))


def _correlations(
    series: np.ndarray, spectrum: np.ndarray, offsets: np.ndarray
) -> np.ndarray:
    """Returns the correlation of `series[t]` with `side[t + k]` for each offset `k`.

    `spectrum` is that of `side`.
    """
    from scipy.fft import irfft

    product = spectrum.copy()
    product *= np.conj(_spectrum(series))
    return irfft(product, _room(len(series)))[offsets] / len(series)


def _room(num_rows: int) -> int:
    from scipy.fft import next_fast_len

    return next_fast_len(2 * num_rows - 1, real=True)


def _standardised(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    spread = centred.std()
    return centred / spread if spread > 0 else np.zeros(len(values))


def _clipped(values: np.ndarray) -> np.ndarray:
    """Returns standardised values whose tails are cut: few bars shall not decide."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    width = (high - low) or values.std() or 1.0
    return _standardised(np.clip((values - middle) / width, -3, 3))


def _label_agreement(labels: np.ndarray, true_labels: np.ndarray) -> dict[int, float]:
    """Returns the share of labels that are the true ones of row `t + k`, by `k`."""
    shares = {}
    for offset in range(-_MAX_HORIZON, _MAX_HORIZON + 1):
        ours = labels[max(0, -offset) : len(labels) - max(0, offset)]
        true = true_labels[max(0, offset) : len(labels) - max(0, -offset)]
        known = true >= 0
        if known.any():
            shares[offset] = float((ours[known] == true[known]).mean())
    return shares


def _row_name(offset: int) -> str:
    return "their own row" if offset == 0 else f"row t{offset:+d}"


def _describe_edge(edge: LabelEdge) -> str:
    return (
        f"the newest move of {edge.column} correlates {edge.before:.3f} with the side "
        f"of the label of row t{edge.shift_bars - 1:+d}, {edge.after:.3f} with that of "
        f"{'its own row' if edge.shift_bars == 0 else f'row t{edge.shift_bars:+d}'}"
    )
