"""An agent's positions for the newest bars: its account, carried from bar to bar.

In: where the account begins, what closes it, one row a bar. Out: the account itself
(`rl.accounts`), statuses and rows of models without one (`signals.answers`).

The rule: an account begins without a position at the first bar of the given candles
that can be answered, and is carried through all of them, whether they are asked for or
not; a stream carries it on from the candles of its history. It holds on across filled
bars. A bar that is unlike the training rows, stale, or behind a gap is not put to the
agent: the account is closed there, and begins anew at the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from config import HOLD
from preprocessing.row_kinds import FILLED, OK, FeatureRows
from signals.answers import OPEN_BAR, TIME, Answer, AnswerRules

if TYPE_CHECKING:
    from rl.adapter import AgentAdapter

_AFTER_ALL = "2262-01-01"
"""Candles of a history have closed."""


@dataclass(frozen=True, kw_only=True)
class PositionRules(AnswerRules):
    """What turns bars into rows of positions.

    Args:
        agent: The opened agent.
    """

    agent: AgentAdapter

    def answer(
        self, table: pd.DataFrame, last: int, now: datetime | str | None
    ) -> dict[str, Any]:
        """Returns `columns` of the last bars; the account lives on all of the table."""
        return {
            name: values[-last:]
            for name, values in self.columns(self.pipeline.features(table), now).items()
        }

    def begin(self, history: pd.DataFrame | None) -> Answer:
        """Returns what answers to bars behind a history, with the account of it."""
        carried = _Carried(self)
        if history is not None and len(history):
            filled = self.pipeline.step("fill_gaps").run(history)
            carried(self.pipeline.describe(filled), _AFTER_ALL)
        return carried

    def columns(
        self, newest: FeatureRows, now: datetime | str | None
    ) -> dict[str, Any]:
        """Returns the columns of the bars that are asked for, of an account of theirs.

        Args:
            newest: The bars, their features not scaled.
            now: The time, UTC where it states no zone; None asks the clock.
        """
        return _Carried(self)(newest, now)


class _Carried:
    """Answers to bars after bars with one account."""

    def __init__(self, rules: PositionRules) -> None:
        self._rules, self._account = rules, rules.agent.live_account()
        self._last: tuple[int, float] | None = None  # open and close, if it is going on

    def __call__(
        self, newest: FeatureRows, now: datetime | str | None
    ) -> dict[str, Any]:
        rules = self._rules
        newest, status, unlikeness = rules.judged(newest, now)
        opens, close = newest.opens[newest.first :], newest.close[newest.first :]
        position = np.full(len(status), np.nan)
        for bar, word in enumerate(status):
            if word == OK:
                row = newest.first + bar
                window = newest.windows(np.array([row]))
                self._move(int(opens[bar]), float(close[bar]))
                position[bar] = self._account.decide(rules.agent.seen_of(window)[0])
            elif word not in (FILLED, OPEN_BAR):
                self._account.close()
                self._last = None
        is_held = ~np.isnan(position)
        signal = np.full(len(status), HOLD, np.int8)
        signal[is_held] = rules.policy.signals(position[is_held])
        return {
            "timestamp": opens.view(TIME),
            "close": close,
            "status": status,
            "position": position,
            "signal": signal,
            "unlikeness": unlikeness,
            "model_id": np.full(len(status), rules.model_id, object),
        }

    def _move(self, opened: int, close: float) -> None:
        """Lets the account earn what the price did since the bar before."""
        if self._last is not None:
            before, price = self._last
            num_bars = (opened - before) // (self._rules.config.bar_seconds * 10**9)
            self._account.earn(math.log(close / price), num_bars=num_bars)
        self._last = (opened, close)
