"""A model's answers for the newest bars -> one row a bar, with all that a trade needs.

In: signals, thresholds, levels and sizes by the rules of the report. Out: features of
the bars (`dataset.newest`), the model (`predictor`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from config import CLASS_NAMES, CLASS_TARGETS, HOLD, LONG, SHORT, Config
from dataset.newest import OK, NewestBars
from evaluation.backtest import sizes_of
from evaluation.policies import CALIBRATED_COLUMNS, PROBABILITY_COLUMNS, Policy

OPEN_BAR, STALE, UNLIKE = "open_bar", "stale", "unlike"
P_COLUMNS = tuple(f"p_{name.lower()}" for name in CLASS_NAMES)


@dataclass(frozen=True, kw_only=True)
class AnswerRules:
    """What turns a model's outputs for bars into rows.

    Args:
        config: The run that trained it.
        policy: Calibration and thresholds.
        model_id: The column `model_id`.
        stale_after: Last moment at which a bar may end; None: any.
    """

    config: Config
    policy: Policy
    model_id: str
    stale_after: pd.Timestamp | None = None

    @property
    def has_classes(self) -> bool:
        """Whether the target is a class, not a number."""
        return self.config.target in CLASS_TARGETS

    def status_of(self, newest: NewestBars, now: pd.Timestamp) -> np.ndarray:
        """Returns the status of each bar that is asked for (num_asked,)."""
        ends = newest.asked["timestamp"] + pd.Timedelta(self.config.bar_seconds, "s")
        status = newest.status.copy()
        if self.stale_after is not None:
            status[(status == OK) & (ends > self.stale_after).to_numpy()] = STALE
        status[(ends > now).to_numpy()] = OPEN_BAR
        return status

    def rows(
        self,
        newest: NewestBars,
        status: np.ndarray,
        outputs: np.ndarray,
        unlikeness: np.ndarray,
    ) -> pd.DataFrame:
        """Returns a row for each bar that is asked for, in order of time.

        Args:
            newest: The bars.
            status: Of those that are asked for (num_asked,).
            outputs: What the model says of those that are `ok`: (num_ok, 3)
                probabilities, or (num_ok,) numbers.
            unlikeness: Of those that are asked for (num_asked,), NaN where not known.
        """
        asked, is_ok = newest.asked, status == OK
        columns: dict[str, Any] = {
            "timestamp": asked["timestamp"].to_numpy(),
            "close": asked["close"].to_numpy(),
            "status": status,
        }
        answers, signals = self._decide(outputs)
        if self.has_classes:
            columns |= {
                name: _spread(answers[:, k], is_ok) for k, name in enumerate(P_COLUMNS)
            }
        else:
            columns["log_return"] = _spread(answers, is_ok)
        signal = np.full(len(status), HOLD, np.int8)
        signal[is_ok] = signals
        columns["signal"] = signal
        columns |= self._trade(asked, signal)
        columns["size"] = self._sizes(newest, answers, signal, is_ok)
        columns |= {"unlikeness": unlikeness, "model_id": self.model_id}
        table = pd.DataFrame(columns)
        for name in ("timestamp", "expires_at"):
            table[name] = pd.DatetimeIndex(table[name], tz="UTC")
        return table

    def _decide(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns answers and signals (num_ok,) as a predictions table has them."""
        if not self.has_classes:
            answers = self.policy.calibrate(outputs)
            return answers, self.policy.signals(answers)
        table = pd.DataFrame(dict(zip(PROBABILITY_COLUMNS, outputs.T, strict=True)))
        table = self.policy.add_signals(table)
        answers = table[list(CALIBRATED_COLUMNS)].to_numpy(np.float64)
        return answers, table["signal"].to_numpy()

    def _trade(self, asked: pd.DataFrame, signal: np.ndarray) -> dict[str, np.ndarray]:
        """Returns threshold, levels and the end of each signal's trade."""
        config, close = self.config, asked["close"].to_numpy()
        nothing = np.full(len(signal), np.nan)
        found = {name: nothing.copy() for name in ("threshold", "tp_price", "sl_price")}
        limits = {SHORT: self.policy.short_threshold, LONG: self.policy.long_threshold}
        levels = {
            SHORT: (-config.short_tp_pct, config.short_sl_pct),
            LONG: (config.long_tp_pct, -config.long_sl_pct),
        }
        for side, (tp_pct, sl_pct) in levels.items():
            is_side = signal == side
            if limits[side] is not None:
                found["threshold"][is_side] = limits[side]
            if config.target == "signal":
                found["tp_price"][is_side] = close[is_side] * (1 + tp_pct / 100)
                found["sl_price"][is_side] = close[is_side] * (1 + sl_pct / 100)
        bars = config.future_window + 1  # the entry is the close
        ends = asked["timestamp"] + pd.Timedelta(bars * config.bar_seconds, "s")
        found["expires_at"] = ends.where(signal != HOLD).to_numpy()
        return found

    def _sizes(
        self,
        newest: NewestBars,
        answers: np.ndarray,
        signal: np.ndarray,
        is_ok: np.ndarray,
    ) -> np.ndarray:
        """Returns the fraction of equity of each signal, 0 for HOLD (num_asked,)."""
        result = np.where(is_ok, 0.0, np.nan)
        is_trade = signal != HOLD
        first = len(newest.bars) - len(signal)
        sides = sizes_of(
            self.policy.scores(answers[is_trade[is_ok]]),
            newest.bars["close"].to_numpy(),
            first + np.flatnonzero(is_trade),
            self.config,
        )
        if sides is None:
            result[is_trade] = 1.0
        else:
            result[is_trade] = np.where(
                signal[is_trade] == LONG, sides[:, 1], sides[:, 0]
            )
        return result


def _spread(values: np.ndarray, is_ok: np.ndarray) -> np.ndarray:
    """Returns the values in the rows that are `ok`, NaN in the others."""
    result = np.full(len(is_ok), np.nan)
    result[is_ok] = values
    return result
