"""A model's answers for the newest bars -> one row a bar, with all that a trade needs.

In: signals, thresholds, levels and sizes by the rules of the report. Out: features of
the bars (`preprocessing.pipelines`), the model (`predictor`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from config import CLASS_NAMES, CLASS_TARGETS, HOLD, LONG, SHORT, Config
from evaluation.backtest import sizes_of
from evaluation.policies import Policy, ReturnPolicy
from evaluation.thresholds import side_sizes
from metrics.quantiles import column_of
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.row_kinds import OK, FeatureRows
from preprocessing.windows import change_spread, chunks
from signals.reference import UNLIKE_ABOVE, Reference
from utils import DataError

OPEN_BAR, STALE, UNLIKE = "open_bar", "stale", "unlike"
_CHUNK_WINDOWS = 2048
_SECOND = 10**9
TIME = np.dtype("M8[ns]")
"""Of the columns of times."""
Answer = Callable[[FeatureRows, datetime | str | None], dict[str, Any]]
"""Returns the columns of bars at a time, UTC; None asks the clock."""
_NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True, kw_only=True)
class AnswerRules:
    """What turns bars into rows. It keeps no state: threads may share it.

    Args:
        config: The run that trained the model.
        policy: Calibration and thresholds.
        pipeline: What features go through.
        say: Returns the model's outputs for scaled windows.
        model_id: The column `model_id`.
        reference: What the rows of the run were like; None: not known.
        stale_after: Last moment at which a bar may end; None: any.
    """

    config: Config
    policy: Policy
    pipeline: PreprocessingPipeline
    say: Callable[[np.ndarray], np.ndarray]
    model_id: str
    reference: Reference | None = None
    stale_after: pd.Timestamp | None = None

    @property
    def has_classes(self) -> bool:
        """Whether the target is a class, not a number."""
        return self.config.target in CLASS_TARGETS

    def answer(
        self, table: pd.DataFrame, last: int, now: datetime | str | None
    ) -> dict[str, Any]:
        """Returns `columns` of the last bars of a table of candles."""
        return self.columns(self.pipeline.features(table, last=last), now)

    def begin(self, history: pd.DataFrame | None) -> Answer:
        """Returns what answers to bars that come one by one behind a history."""
        return self.columns

    def columns(
        self, newest: FeatureRows, now: datetime | str | None
    ) -> dict[str, Any]:
        """Returns the columns of the bars that are asked for, in order of time.

        Times are datetime64[ns], in UTC: pandas takes longer than a bar's features.

        Args:
            newest: The bars, their features not scaled.
            now: The time, UTC where it states no zone; None asks the clock.
        """
        newest, status, unlikeness = self.judged(newest, now)
        rows = newest.first + np.flatnonzero(status == OK)
        nothing = np.empty((0, len(CLASS_NAMES)) if self.has_classes else 0, np.float32)
        said = [
            self.say(newest.windows(rows[s])) for s in chunks(len(rows), _CHUNK_WINDOWS)
        ]
        outputs = np.concatenate(said) if said else nothing
        return self._columns(newest, status, outputs) | {
            "unlikeness": unlikeness,
            "model_id": np.full(len(status), self.model_id, object),
        }

    def judged(
        self, newest: FeatureRows, now: datetime | str | None
    ) -> tuple[FeatureRows, np.ndarray, np.ndarray]:
        """Returns bars as a model reads them, status and unlikeness of each asked."""
        newest = self.pipeline.finish(newest)
        status = self._status(newest, moment_of(now))
        unlikeness = np.full(len(status), np.nan)
        if self.reference is not None:
            asked = newest.values[newest.first :]
            unlikeness = self.reference.unlikeness(asked, self.pipeline.scaler)
            status[(status == OK) & (unlikeness > UNLIKE_ABOVE)] = UNLIKE
        return newest, status, unlikeness

    def _status(self, newest: FeatureRows, now: pd.Timestamp) -> np.ndarray:
        """Returns the status of each bar that is asked for (num_asked,)."""
        ends = newest.opens[newest.first :] + self.config.bar_seconds * _SECOND
        status = newest.status.copy()
        if self.stale_after is not None:
            late = ends > self.stale_after.as_unit("ns").value
            status[(status == OK) & late] = STALE
        status[ends > now.as_unit("ns").value] = OPEN_BAR
        return status

    def _columns(
        self, newest: FeatureRows, status: np.ndarray, outputs: np.ndarray
    ) -> dict[str, Any]:
        """Returns all columns but the last, for the outputs of bars that are `ok`."""
        is_ok, count = status == OK, len(status)
        opens, close = newest.opens[newest.first :], newest.close[newest.first :]
        answers, signals = self.policy.decide(outputs)
        columns: dict[str, Any] = {"timestamp": opens.view(TIME)}
        columns |= {"close": close, "status": status}
        named = zip(self.policy.answer_names, np.atleast_2d(answers.T), strict=True)
        for name, values in named:
            columns[name] = np.full(count, np.nan)
            columns[name][is_ok] = values
        columns |= self._ends(newest, answers, is_ok)
        columns |= self._quantiles(outputs, is_ok)
        signal = np.full(count, HOLD, np.int8)
        signal[is_ok] = signals
        columns["signal"] = signal
        for name in ("threshold", "tp_price", "sl_price"):
            columns[name] = np.full(count, np.nan)
        for side, threshold, tp_pct, sl_pct in self._sides():
            is_side = signal == side
            columns["threshold"][is_side] = threshold
            columns["tp_price"][is_side] = close[is_side] * (1 + tp_pct / 100)
            columns["sl_price"][is_side] = close[is_side] * (1 + sl_pct / 100)
        # The entry is the close, and the bars of the horizon follow it.
        reach = (self.config.future_window + 1) * self.config.bar_seconds * _SECOND
        ends = np.where(signal == HOLD, _NO_TIME, opens + reach)
        columns["expires_at"] = ends.view(TIME)
        columns["size"] = np.where(is_ok, 0.0, np.nan)
        if (signal != HOLD).any():
            columns["size"][signal != HOLD] = self._sizes(
                newest, answers, signal, is_ok
            )
        return columns

    def _ends(
        self, newest: FeatureRows, answers: np.ndarray, is_ok: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns the ends of a number's interval; nothing where it has none."""
        found = getattr(self.policy, "interval", None)
        if found is None:
            return {}
        rows = newest.first + np.flatnonzero(is_ok)
        bars = self.config.sequence_length
        spread = change_spread(newest.close, rows, window_bars=bars)
        columns = {}
        for end, values in zip(
            ("low", "high"), found.ends(answers, answers, spread), strict=True
        ):
            columns[end] = np.full(len(is_ok), np.nan)
            columns[end][is_ok] = values
        return columns

    def _quantiles(self, outputs: np.ndarray, is_ok: np.ndarray) -> dict[str, Any]:
        """Returns the quantiles of the log return, of a model that says several."""
        names = [column_of(level) for level in self.config.quantiles]
        columns = {name: np.full(len(is_ok), np.nan) for name in names}
        if names and is_ok.any() and isinstance(self.policy, ReturnPolicy):
            said = self.policy.quantiles(outputs)
            for name, values in zip(names, said.T, strict=True):
                columns[name][is_ok] = values
        return columns

    def _sides(self) -> list[tuple[int, float, float, float]]:
        """Returns side, threshold, take profit and stop in percent of the entry."""
        config, policy = self.config, self.policy
        sides: list[tuple[int, float | None, float, float]] = [
            (SHORT, policy.short_threshold, -config.short_tp_pct, config.short_sl_pct),
            (LONG, policy.long_threshold, config.long_tp_pct, -config.long_sl_pct),
        ]
        has_levels = config.target == "signal"
        return [
            (
                side,
                math.nan if threshold is None else threshold,
                tp_pct if has_levels else math.nan,
                sl_pct if has_levels else math.nan,
            )
            for side, threshold, tp_pct, sl_pct in sides
        ]

    def _sizes(
        self,
        newest: FeatureRows,
        answers: np.ndarray,
        signal: np.ndarray,
        is_ok: np.ndarray,
    ) -> np.ndarray:
        """Returns the fraction of equity of each signal that is a trade."""
        trades = np.flatnonzero(signal != HOLD)
        of_answers = np.cumsum(is_ok)[trades] - 1
        scores = self.policy.scores(answers[of_answers].astype(np.float64))
        sizes = sizes_of(scores, newest.close, newest.first + trades, self.config)
        found = side_sizes(signal[trades], sizes)
        return np.ones(len(trades)) if found is None else found


def to_table(columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Returns columns of `AnswerRules` as a table, its times in UTC."""
    return pd.DataFrame(
        {
            name: pd.DatetimeIndex(cells, tz="UTC") if cells.dtype == TIME else cells
            for name, cells in columns.items()
        }
    )


def to_row(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the first row of such columns, its times in UTC."""
    return {
        name: pd.Timestamp(cells[0], tz="UTC") if cells.dtype == TIME else cells[0]
        for name, cells in columns.items()
    }


def moment_of(now: datetime | str | None) -> pd.Timestamp:
    """Returns a time in UTC; that of the clock for None.

    Raises:
        DataError: If it is no time. Numbers could be of any unit.
    """
    if now is None:
        return pd.Timestamp.now(tz="UTC")
    try:
        moment = pd.Timestamp(now if isinstance(now, str | datetime) else "")
    except ValueError:
        moment = pd.Timestamp("")
    if pd.isna(moment):
        raise DataError(
            "now: expected a time such as 2026-01-31T12:00Z, or a datetime. "
            f"Received: {now!r:.50}"
        )
    return moment if moment.tzinfo else moment.tz_localize("UTC")
