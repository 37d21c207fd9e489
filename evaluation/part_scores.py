"""What scores of one part have in common: trades, baselines, comparisons, intervals.

In: a table with signals, the forecasts beside it. Out: scores of probabilities
(`class_scores`) and of numbers (`number_scores`), the whole of the results
(`evaluate`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from config import Config
from data_loader import TrainingData
from evaluation.backtest import (
    backtest,
    backtest_part,
    trade_outcomes,
    trade_rules,
    trading_problem,
)
from evaluation.policies import Policy
from evaluation.trading import buy_and_hold_metrics
from metrics import significance
from metrics.intervals import Length, cosine_interval, paired_test

EARNED = (
    "num_trades",
    "total_return_pct",
    "mean_net_return_bps",
    "max_drawdown_pct",
    "sharpe",
)
"""What is kept of a baseline's trades."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What a model said, and what validation made of it.

    Args:
        table: From `policy.add_signals`.
        policy: What made its signals.
        choice: How the policy came about.
    """

    table: pd.DataFrame
    policy: Policy
    choice: Mapping[str, Any]

    def of_part(self, part: str) -> Judged:
        """Returns the same of the rows of one part."""
        return dataclasses.replace(self, table=self.table[self.table["part"] == part])

    def scores(self) -> np.ndarray:
        """Returns what speaks for SHORT, HOLD and LONG in each row (num_rows, 3)."""
        return self.policy.scores(self.policy.answers_of(self.table))


class PartScores(abc.ABC):
    """Scores one part of a predictions table; each method answers one question.

    Args:
        model: Rows of the part.
        data: The same data.
        config: The run.
        beside: The same rows by each baseline that was trained, by name.
        num_trials: Runs that looked at these rows, if they are a test part.

    Attributes:
        forecasts: Each baseline's forecast of the rows, by name.
        losses: Loss of the model in each row (num_rows,).
        length: Of the part.
    """

    loss_difference: ClassVar[str]
    """Key of the paired test of losses."""

    negligible_loss: ClassVar[float] = 0.0
    """A reference with no more than this leaves nothing to improve: it has no skill."""

    def __init__(
        self,
        model: Judged,
        data: TrainingData,
        config: Config,
        *,
        beside: Mapping[str, Judged] = MappingProxyType({}),
        num_trials: int = 1,
    ) -> None:
        self.num_trials = num_trials
        self.model, self.data, self.config, self.beside = model, data, config, beside
        self.table = model.table
        self.part = str(self.table["part"].iloc[0])
        self.rows = self.table["row"].to_numpy()
        self.length = Length.of(
            len(self.rows),
            horizon_bars=data.future_window,
            bar_seconds=config.bar_seconds,
        )
        self.losses, self.forecasts = self.prepare()

    @abc.abstractmethod
    def prepare(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Reads the table's columns; returns `losses` and `forecasts`."""

    @abc.abstractmethod
    def results(self) -> dict[str, Any]:
        """Returns everything that is said about the part."""

    @abc.abstractmethod
    def baseline_losses(self) -> dict[str, np.ndarray]:
        """Returns the loss of each row (num_rows,) by each baseline that has one."""

    @abc.abstractmethod
    def baseline_signals(self, name: str) -> np.ndarray:
        """Returns what a baseline without thresholds would trade (num_rows,)."""

    @abc.abstractmethod
    def baseline_scores(self, name: str) -> dict[str, Any]:
        """Returns the scores of a baseline's forecast."""

    def span(self) -> dict[str, Any]:
        """Returns the times of the rows at the ends, and the length of the part."""
        times = self.table["timestamp"]
        return {
            "first": times.iloc[0],
            "last": times.iloc[-1],
            "length": {"days": self.length.days, "horizons": self.length.horizons},
        }

    def money(self) -> dict[str, Any]:
        """Returns `trading`, `baselines` and `comparisons`."""
        return {
            "trading": self._trades(self.model),
            "baselines": self.baselines(),
            "comparisons": self.comparisons(),
        }

    def baselines(self) -> dict[str, Any]:
        """Returns scores and trades of every baseline; without trades no buy and hold.

        Trained ones trade at thresholds of their own, the others as they are.
        """
        results = {name: self.baseline_scores(name) for name in self.forecasts}
        if trading_problem(self.table):
            return results
        for name, scores in results.items():
            if name in self.beside:
                earned = self._trades(self.beside[name])
            else:
                earned = backtest(
                    self.table,
                    self.baseline_signals(name),
                    self.config,
                    horizon_bars=self.data.future_window,
                )
            scores["trading"] = {key: earned[key] for key in EARNED}
        held = buy_and_hold_metrics(
            trade_outcomes(self.table), rules=trade_rules(self.config)
        )
        return results | {"buy_and_hold": {"trading": held}}

    def comparisons(self) -> dict[str, Any]:
        """Returns the model against the best baseline and each trained one, paired.

        Best: the lowest loss in this very part, so the choice favours the baseline.
        """
        losses = self.baseline_losses()
        pairs = {"best_baseline": min(losses, key=lambda k: float(losses[k].mean()))}
        pairs |= {name: name for name in self.beside}
        return {
            key: {
                "baseline": name,
                self.loss_difference: paired_test(
                    self.losses, losses[name], length=self.length
                ),
                "skill": self.skill_interval(self.losses, losses[name]),
            }
            for key, name in pairs.items()
        }

    def skill_interval(self, own: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
        """Returns the skill of losses (num_rows,) against others of the same rows."""
        return self.interval(
            np.stack([own, reference], axis=1),
            lambda means: np.where(
                means[..., 1] > self.negligible_loss,
                1.0 - means[..., 0] / means[..., 1],
                np.nan,
            ),
        )

    def interval(
        self,
        columns: Any,
        statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Returns `cosine_interval` of columns (num_rows, num_columns)."""
        return cosine_interval(columns, statistic, length=self.length)

    def shuffle(
        self, truth: np.ndarray, losses: np.ndarray, is_counted: np.ndarray
    ) -> dict[str, Any]:
        """Returns `significance.shuffle_test` in blocks of counted rows."""
        block = significance.suggest_block_rows(
            int(is_counted.sum()), horizon_bars=self.data.future_window
        )
        return significance.shuffle_test(
            truth,
            losses,
            is_counted=is_counted,
            block_rows=block,
            seed=self.config.seed,
        )

    def _trades(self, judged: Judged) -> dict[str, Any]:
        """Returns what signals earned, or why that is not known."""
        num_trials = self.num_trials
        if self.part == "validation":
            num_trials = judged.choice["thresholds"]["num_tried"]
        return backtest_part(
            judged.table,
            judged.scores(),
            self.data,
            self.config,
            num_trials=num_trials,
        )
