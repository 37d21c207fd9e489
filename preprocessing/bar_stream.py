"""Bars one by one -> the newest, with the features of its window, as tables give them.

In: what is kept of the past, so that a bar costs its own features alone. Out: the same
of a table at once (`pipelines`), what a model says of them (`signals.stream`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from candles.checks import check_candles
from candles.columns import COLUMNS, VALUES, make_table
from candles.jumps import may_jump
from candles.table import fill_gaps, longest_fill
from candles.timestamps import (
    first_boundary,
    nanoseconds_of,
    parse_timestamps,
    timeframe_nanoseconds,
)
from dataset import blocks, features
from dataset import rows as dataset_rows
from dataset.context_files import beside_values
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.row_kinds import FeatureRows
from utils import DataError

_OPEN, _CLOSE = VALUES.index("open"), VALUES.index("close")
_DAY = 86_400 * 10**9


class Bar(NamedTuple):
    """A candle: its open in nanoseconds since 1970, and `BarStream.names` (num,)."""

    stamp: int
    values: np.ndarray


class BarStream:
    """The bars that the next one needs, and the features of the newest window.

    A missing bar is filled as in a training file; a gap longer than `max_fill_bars`
    begins anew. While a price that may have jumped is kept, each bar is computed like
    a table of all that is kept: what is a jump and what a slip, later bars decide.

    Args:
        pipeline: How features are made.
        history: Candles before the first of the stream, from `pipeline.checked`; None
            begins cold.
    """

    def __init__(
        self, pipeline: PreprocessingPipeline, history: pd.DataFrame | None = None
    ) -> None:
        config = pipeline.config
        self.pipeline = pipeline
        self._step = timeframe_nanoseconds(config.timeframe)
        self._most_filled = longest_fill(config.max_fill_bars, config.timeframe)
        self._least_bars = blocks.warm_up_bars(config) + 1
        self._kept = pipeline.min_candles + self._most_filled
        num_places = 2 * self._kept
        self.names = (*VALUES, *blocks.beside_columns(config))
        self._values = np.empty((len(self.names), num_places))
        self._is_filled = np.empty(num_places, bool)
        self._segment = np.empty(num_places, np.int32)
        columns: dict[str, Any] = dict(zip(self.names, self._values, strict=True))
        columns |= {"is_filled": self._is_filled, "segment": self._segment}
        # A view of them all: to make a table takes longer than the features of a bar.
        self._bars = make_table(np.zeros(num_places, np.int64), columns)
        self._stamps = self._bars["timestamp"].array.view(np.int64)
        self._begin_anew(is_after_gap=False)
        if history is not None and len(history):
            self._take(history)

    def _begin_anew(self, *, is_after_gap: bool) -> None:
        self._num_bars, self._is_after_gap = 0, is_after_gap
        self._segment[:] = is_after_gap
        self._jumped = 0  # nanoseconds of the newest bar that may have jumped
        shape = (self.pipeline.config.sequence_length, len(self.pipeline.feature_names))
        self._features = np.full(shape, np.nan, np.float32)

    def _take(self, history: pd.DataFrame) -> None:
        """Begins with the bars of a table since its last gap."""
        config = self.pipeline.config
        table = fill_gaps(
            self.pipeline.tail(history),
            config.timeframe,
            max_fill_bars=config.max_fill_bars,
        )
        segment = table["segment"].to_numpy()
        self._begin_anew(is_after_gap=bool(segment[-1] > 0))
        table = table[segment == segment[-1]].iloc[-self._kept :]
        self._num_bars = len(table)
        self._stamps[: len(table)] = nanoseconds_of(table["timestamp"])
        self._values[:, : len(table)] = table[list(self.names)].to_numpy().T
        self._is_filled[: len(table)] = table["is_filled"]
        jumps = may_jump(table["open"].to_numpy(), table["close"].to_numpy())
        self._jumped = int(self._stamps[: len(table)][jumps].max(initial=0))
        self._describe_whole()

    @property
    def newest(self) -> pd.Timestamp | None:
        """Open of the newest bar; None before the first."""
        if not self._num_bars:
            return None
        return _moment(int(self._stamps[self._num_bars - 1]))

    def alone(self, bar: Bar) -> FeatureRows:
        """Returns a bar that is not taken, without features."""
        return FeatureRows(
            names=self.pipeline.feature_names,
            values=np.full((1, self._features.shape[1]), np.nan, np.float32),
            opens=np.array([bar.stamp]),
            close=bar.values[[_CLOSE]],
            is_filled=np.zeros(1, bool),
            segment=np.zeros(1, np.int32),
        )

    def push(self, bar: Bar) -> FeatureRows | None:
        """Takes the next bar; returns the bars of its window, None for the same again.

        Raises:
            DataError: If it is older than the newest, or another one of the same time.
        """
        stamp, values = bar
        if self._num_bars:
            last = self._num_bars - 1
            bars, rest = divmod(stamp - int(self._stamps[last]), self._step)
            known = self._values[:, last]
            if bars == rest == 0 and np.array_equal(values, known, equal_nan=True):
                return None
            if rest or bars < 1:
                raise DataError(
                    f"expected the bar after {self.newest}, or a later one, of "
                    f"{self.pipeline.config.timeframe}. Received: "
                    f"{_moment(stamp)}{' with other values' * (not bars)}."
                )
            if bars - 1 > self._most_filled:
                self._begin_anew(is_after_gap=True)
            else:
                silent = np.full(len(self.names), np.nan)
                silent[: len(VALUES)] = [self._values[_CLOSE, last]] * 4 + [0.0]
                for number in range(1, bars):
                    missing = int(self._stamps[last]) + number * self._step
                    self._add(missing, silent, is_filled=True)
        return self._add(stamp, values, is_filled=False)

    def read(self, candle: Mapping[str, Any] | pd.Series) -> Bar:
        """Returns a candle by name as a bar.

        Raises:
            DataError: If it is no good candle.
        """
        if not isinstance(candle, Mapping | pd.Series):
            raise DataError(
                "expected one candle, its values by name. Received: "
                f"{type(candle).__name__}. Give the rows of a table one after another."
            )
        if missing := [name for name in COLUMNS if name not in candle]:
            raise DataError(
                f"expected a candle with {', '.join(COLUMNS)}, by name. Received: no "
                f"{', '.join(missing)}."
            )
        if any(name not in candle for name in self.names):
            blocks.require_beside(candle, self.pipeline.config)
        try:
            stamp = stamp_of(candle["timestamp"])
            numbers = [candle[name] for name in self.names]
            values = np.array(
                [np.nan if number is None else float(number) for number in numbers]
            )
        except (TypeError, ValueError) as error:
            raise DataError(
                f"expected a candle of numbers. Received: {error}"
            ) from error
        problems = [
            f"{name} of {number.dtype}, which has lost bits"
            for name, number in zip(self.names, numbers, strict=True)
            if isinstance(number, np.float32 | np.float16)
        ]
        num_pairs = 1 + len(self.pipeline.config.context_pairs)
        for first in range(0, num_pairs * len(VALUES), len(VALUES)):
            part = values[first : first + len(VALUES)]
            is_absent = first > 0 and bool(np.isnan(part).all())
            if not is_absent and not _is_good(*part.tolist()):
                columns = {name: part[[k]] for k, name in enumerate(VALUES)}
                report = check_candles(make_table(np.array([stamp]), columns))
                market = f" ({self.names[first].partition('@')[2]})" * (first > 0)
                problems += [f"{text}{market}" for text in report.problems]
        if self._step < _DAY and (stamp - first_boundary(self._step)) % self._step:
            problems.append(
                f"an open off the {self.pipeline.config.timeframe} boundary"
            )
        if problems:
            raise DataError(
                f"expected a good candle. Received: {'; '.join(problems)} at "
                f"{_moment(stamp)}."
            )
        return Bar(stamp, values)

    def beside(
        self, candle: Mapping[str, Any] | pd.Series, given: Mapping[str, Any]
    ) -> Mapping[str, Any] | pd.Series:
        """Returns a candle with those of other pairs at its time as columns.

        Args:
            candle: Of the pair itself, by name.
            given: See `context_files.beside_values`.

        Raises:
            DataError: If one is of another time, or of a pair that nothing reads.
        """
        if not isinstance(candle, Mapping | pd.Series) or "timestamp" not in candle:
            return candle  # which `read` refuses
        config = self.pipeline.config
        found = beside_values(candle["timestamp"], given, config, stamp_of)
        return {**dict(candle), **found}

    def _add(self, stamp: int, values: np.ndarray, *, is_filled: bool) -> FeatureRows:
        if self._num_bars == len(self._stamps):
            for column in (self._stamps, self._values, self._is_filled):
                column[..., : self._kept] = column[..., -self._kept :].copy()
            self._num_bars = self._kept
        self._stamps[self._num_bars] = stamp
        self._values[:, self._num_bars] = values
        self._is_filled[self._num_bars] = is_filled
        self._num_bars += 1
        recent = self._values[:, max(0, self._num_bars - 2) : self._num_bars]
        if may_jump(recent[_OPEN], recent[_CLOSE])[-1]:
            self._jumped = stamp
        first = max(0, self._num_bars - self._kept)
        if self._jumped > self._stamps[first] and not self.pipeline.config.accept_jumps:
            return self._describe_whole()
        return self._describe_newest()

    def _table(self, num_bars: int) -> pd.DataFrame:
        """Returns the newest bars, of one segment."""
        first = max(0, self._num_bars - num_bars)
        table = self._bars.iloc[first : self._num_bars]
        return table.set_axis(pd.RangeIndex(len(table)))

    def _describe_newest(self) -> FeatureRows:
        """Computes the features of the newest bar alone."""
        self._features[:-1] = self._features[1:].copy()
        self._features[-1] = np.nan
        if self._num_bars >= self._least_bars:
            self._features[-1] = self._newest_features()
        kept = slice(max(0, self._num_bars - len(self._features)), self._num_bars)
        return FeatureRows(
            names=self.pipeline.feature_names,
            values=self._features[kept.start - kept.stop :].copy(),
            opens=self._stamps[kept].copy(),
            close=self._values[_CLOSE, kept].copy(),
            is_filled=self._is_filled[kept].copy(),
            segment=self._segment[kept].copy(),
            num_asked=1,
        )

    def _newest_features(self) -> np.ndarray:
        config, num_bars = self.pipeline.config, self.pipeline.warm_up_bars + 1
        if len(self.names) > len(VALUES):
            num_bars += self._most_filled  # what stands beside may do so for so long
        elif not config.higher_timeframes:
            kept = slice(max(0, self._num_bars - num_bars), self._num_bars)
            values: dict[str, np.ndarray] = {"timestamp": self._stamps[kept]}
            found = features.newest_features(
                values | dict(zip(VALUES, self._values[:, kept], strict=True)),
                timeframe=config.timeframe,
                feature_sets=config.feature_sets,
                raw_prices=config.raw_prices,
            )
            if found is not None:
                return found
        table = self._table(num_bars)
        rows = blocks.compute_features(table, config, newest=1)
        return rows.to_numpy()[-1]

    def _describe_whole(self) -> FeatureRows:
        """Computes what is kept as a table is."""
        table = self._table(self._kept)
        candles = table[~table["is_filled"]].drop(columns=["is_filled", "segment"])
        filled = dataset_rows.fill_and_resample(
            candles.reset_index(drop=True), self.pipeline.config
        )
        filled["segment"] += int(self._is_after_gap)
        newest = self.pipeline.describe(filled, last=1)
        self._features[:] = np.nan
        self._features[len(self._features) - len(newest.values) :] = newest.values
        return newest


def stamp_of(time: Any) -> int:
    """Returns a time, UTC where it states no zone, in nanoseconds since 1970.

    Raises:
        ValueError: If it is none; TypeError, DataError likewise.
    """
    if isinstance(time, str | int | np.integer):
        stamps, _ = parse_timestamps(pa.chunked_array([pa.array([time])]))
        return int(stamps[0])
    moment = pd.Timestamp(time)
    moment = moment if moment.tzinfo else moment.tz_localize("UTC")
    return moment.as_unit("ns").value


def _is_good(
    open_: float, high: float, low: float, close: float, volume: float
) -> bool:
    """Whether `check_candles`, which takes as long as the features, finds nothing."""
    is_inside = 0 < low <= min(open_, close) and max(open_, close) <= high < math.inf
    return is_inside and 0 <= volume < math.inf


def _moment(stamp: int) -> pd.Timestamp:
    return pd.Timestamp(stamp, tz="UTC")
