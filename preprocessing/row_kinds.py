"""Steps on rows of features: scaled, clipped, cut into windows, checked.

In: `FeatureRows`, and what a step learns of training rows. Out: how rows come from
candles (`candle_kinds`), the order of steps (`pipelines`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from preprocessing.scaling import clip_columns, learn_scales, scale_columns
from preprocessing.windows import cut_windows
from utils import ConfigError, DataError

State = Mapping[str, Any]

OK, WARMING_UP, GAP, FILLED = "ok", "warming_up", "gap", "filled"


def _none(dtype: type) -> Any:
    return field(default_factory=lambda: np.empty(0, dtype))


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureRows:
    """Bars, with what a model reads of them.

    Args:
        names: Name of each feature.
        values: (num_rows, num_features) float32, NaN where a bar has no value.
        opens: Open of each bar (num_rows,), int64 nanoseconds; empty of rows that were
            not made of candles here, like the three below.
        close: Their closes (num_rows,).
        is_filled: Which bars were missing (num_rows,).
        segment: Which of them follow each other without a gap (num_rows,), from 0 for
            the first candles there are.
        num_asked: The last rows, which are asked for; None asks for all. Rows before
            them belong to their windows.
        is_own: Whether a step may write into `values`.
        window_bars: Bars of a window.
        status: Of the bars that are asked for (num_asked,): `ok`, `filled`,
            `warming_up` (its look-back reaches before the first candle) or `gap`
            (before a gap that is not filled, or a jump of the price); empty before the
            last step.
    """

    names: tuple[str, ...]
    values: np.ndarray
    opens: np.ndarray = _none(np.int64)
    close: np.ndarray = _none(np.float64)
    is_filled: np.ndarray = _none(bool)
    segment: np.ndarray = _none(np.int32)
    num_asked: int | None = None
    is_own: bool = False
    window_bars: int = 1
    status: np.ndarray = _none(object)

    @property
    def first(self) -> int:
        """Row of the first bar that is asked for."""
        count = len(self.values)
        return count - min(count, count if self.num_asked is None else self.num_asked)

    @property
    def ok_rows(self) -> np.ndarray:
        """Rows that are asked for and end a window that may be answered (num_ok,)."""
        return self.first + np.flatnonzero(self.status == OK)

    def windows(self, rows: np.ndarray) -> np.ndarray:
        """Returns the windows of rows (num_rows, window_bars, num_features)."""
        return cut_windows(self.values, rows, window_bars=self.window_bars)

    def tail(self, window_bars: int, num_asked: int | None) -> FeatureRows:
        """Returns the rows of the last windows alone."""
        if num_asked is None:
            return self
        kept = slice(max(0, len(self.values) - window_bars - num_asked + 1), None)
        return replace(
            self,
            values=self.values[kept],
            opens=self.opens[kept],
            close=self.close[kept],
            is_filled=self.is_filled[kept],
            segment=self.segment[kept],
            num_asked=num_asked,
        )


class RowKind:
    """What steps on rows have in common."""

    reads: ClassVar[str] = "rows"
    learns: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Scale(RowKind):
    """`(x - center) / scale` of each column; see `scaling`.

    Args:
        method: `robust`, `standard`, `minmax` or `none`.
    """

    learns = True
    method: str = "robust"

    def fit(self, rows: FeatureRows) -> dict[str, Any]:
        """Learns from rows that have every value."""
        values = rows.values
        whole = np.isfinite(values).all(axis=1)
        values = values if whole.all() else values[whole]
        if not len(values):
            raise DataError("scale: expected rows with every feature. Received: none.")
        center, scale = learn_scales(values, self.method)
        return {
            "feature_names": list(rows.names),
            "center": center,
            "scale": scale,
            "num_rows": len(values),
        }

    def apply(self, rows: FeatureRows, state: State) -> FeatureRows:
        """Scales every column."""
        require_names(rows, state)
        out = rows.values if rows.is_own else np.empty(rows.values.shape, np.float32)
        scale_columns(rows.values, state["center"], state["scale"], out=out)
        return replace(rows, values=out, is_own=True)


@dataclass(frozen=True, kw_only=True)
class Clip(RowKind):
    """Cuts off what is beyond plus and minus a limit.

    Args:
        limit: In units of the scale.
    """

    limit: float

    def fit(self, rows: FeatureRows) -> dict[str, Any]:
        """Learns nothing: the limit is stated."""
        return {}

    def apply(self, rows: FeatureRows, state: State) -> FeatureRows:
        """Clips every value."""
        out = rows.values if rows.is_own else np.empty(rows.values.shape, np.float32)
        clip_columns(rows.values, self.limit, out=out)
        return replace(rows, values=out, is_own=True)


@dataclass(frozen=True, kw_only=True)
class PairColumns(RowKind):
    """Says whose rows they are: a column for each pair, 1 in its own rows, else 0.

    Args:
        pairs: That trained the model.
        pair: Whose rows they are; of a pair that trained none all are 0.
    """

    pairs: Sequence[str]
    pair: str

    def fit(self, rows: FeatureRows) -> dict[str, Any]:
        """Keeps the columns that it adds to."""
        return {"feature_names": list(rows.names)}

    def apply(self, rows: FeatureRows, state: State) -> FeatureRows:
        """Adds a column for each pair."""
        require_names(rows, state)
        own = np.array([name == self.pair for name in self.pairs], np.float32)
        added = np.broadcast_to(own, (len(rows.values), len(own)))
        names = (*rows.names, *(f"pair_{name}" for name in self.pairs))
        values = np.concatenate([rows.values, added], axis=1)
        return replace(rows, names=names, values=values, is_own=True)


@dataclass(frozen=True, kw_only=True)
class Windows(RowKind):
    """Reads each row with the ones before it.

    Args:
        bars: Bars of a window.
    """

    reads = "windows"
    bars: int

    def __post_init__(self) -> None:
        """Refuses what counts no bars."""
        if type(self.bars) is not int or self.bars < 1:
            raise ConfigError(f"bars: expected at least 1. Received: {self.bars!r:.50}")

    def fit(self, rows: FeatureRows) -> dict[str, Any]:
        """Learns nothing."""
        return {}

    def apply(self, rows: FeatureRows, state: State) -> FeatureRows:
        """Gives the rows windows, of which none is copied before it is asked for."""
        return replace(rows, window_bars=self.bars)


@dataclass(frozen=True, kw_only=True)
class FinalCheck(RowKind):
    """Says which windows may be answered; refuses columns that are not the model's."""

    reads = "windows"

    def fit(self, rows: FeatureRows) -> dict[str, Any]:
        """Keeps the columns."""
        return {"feature_names": list(rows.names)}

    def apply(self, rows: FeatureRows, state: State) -> FeatureRows:
        """Gives each row that is asked for its status."""
        require_names(rows, state)
        count = len(rows.values)
        status = bar_status(
            rows.values,
            rows.is_filled if len(rows.is_filled) else np.zeros(count, bool),
            rows.segment if len(rows.segment) else np.zeros(count, np.int32),
            window_bars=rows.window_bars,
            num_asked=count - rows.first,
        )
        return replace(rows, status=status)


def require_names(rows: FeatureRows, state: State) -> None:
    """Refuses rows of other columns than those that a step was fitted on."""
    names = state["feature_names"]
    if list(rows.names) != names or rows.values.shape[1:] != (len(names),):
        raise DataError(
            f"expected the features {', '.join(names)}. Received: "
            f"{', '.join(rows.names)}, numbers of shape {rows.values.shape}."
        )


def bar_status(
    features: np.ndarray,
    is_filled: np.ndarray,
    segment: np.ndarray,
    *,
    window_bars: int,
    num_asked: int,
) -> np.ndarray:
    """Returns whether the last bars have a whole window in their segment (num_asked,).

    Args:
        features: (num_bars, num_features), NaN where a bar has no value.
        is_filled: (num_bars,).
        segment: (num_bars,), from 0 for the first candles there are.
        window_bars: Bars of a window.
        num_asked: Bars at the end that are asked for.
    """
    row = np.arange(len(segment))
    begins = np.diff(segment, prepend=segment[:1]) != 0
    has_value = np.isfinite(features).all(axis=1)
    first = np.maximum(np.where(begins, row, 0), np.where(has_value, 0, row + 1))
    whole = row - np.maximum.accumulate(first) + 1 >= window_bars
    asked = slice(len(row) - num_asked, None)
    status = np.where(is_filled[asked], FILLED, OK).astype(object)
    missing = ~whole[asked]
    status[missing] = np.where(segment[asked][missing] > 0, GAP, WARMING_UP)
    return status
