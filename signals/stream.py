"""A model's answer to one bar after another.

In: the next candle; bars that go on, and the same again. Out: features
(`preprocessing.bar_stream`), rows (`answers`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd

from candles.timestamps import timeframe_nanoseconds
from preprocessing.bar_stream import BarStream
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.row_kinds import FeatureRows
from signals.answers import Answer, moment_of, to_row


class SignalStream:
    """Answers to bars as they close, with the bits that a table of them would give.

    Several threads may share one.

    Args:
        pipeline: How features are made.
        answer: Returns the columns of the bars that are asked for, at a time.
        history: Candles before the first of the stream; None begins cold.
    """

    def __init__(
        self,
        pipeline: PreprocessingPipeline,
        answer: Answer,
        history: pd.DataFrame | None = None,
    ) -> None:
        self._bars = BarStream(pipeline, history)
        self._length = timeframe_nanoseconds(pipeline.timeframe)
        self._answer = answer
        self._lock = threading.Lock()
        self._names: pd.Index | None = None  # making it takes longer than the row

    @property
    def newest(self) -> pd.Timestamp | None:
        """Open of the newest bar that was taken; None before the first."""
        return self._bars.newest

    def update(
        self,
        candle: Mapping[str, Any] | pd.Series,
        *,
        now: datetime | str | None = None,
        context: Mapping[str, Mapping[str, Any] | pd.Series | None] | None = None,
    ) -> pd.Series | None:
        """Takes the next candle; returns its row, as `predict_candles` has it.

        A bar that is still open is answered `open_bar` and not taken: it comes again.

        Args:
            candle: `timestamp` (open of the bar), `open`, `high`, `low`, `close`,
                `volume`, by name.
            now: The time, UTC where it states no zone; None asks the clock.
            context: Candles of the same time by context pair; None for a pair that has
                none. Without it `candle` has them, such as `close@BTCUSDT`.

        Returns:
            The row; None for the newest candle again.

        Raises:
            DataError: If it is older than the newest, another one of the same time, or
                no good candle.
        """
        if context is not None:
            candle = self._bars.beside(candle, context)
        with self._lock:
            bar = self._bars.read(candle)
            bars: FeatureRows | None
            if bar.stamp + self._length > moment_of(now).as_unit("ns").value:
                bars = self._bars.alone(bar)
            elif (bars := self._bars.push(bar)) is None:
                return None
            row = to_row(self._answer(bars, now))
        if self._names is None:
            self._names = pd.Index(row)
        return pd.Series([*row.values()], index=self._names, dtype=object)
