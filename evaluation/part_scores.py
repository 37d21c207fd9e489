"""What scores of one part have in common: trades, baselines, comparisons, intervals.

In: a table with signals, the forecasts beside it. Out: scores of probabilities
(`class_scores`) and of numbers (`number_scores`), the whole of the results
(`evaluate`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping
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
    held_outcomes,
    trade_rules,
    trading_problem,
)
from evaluation.policies import Policy
from evaluation.trading import buy_and_hold_metrics
from metrics import significance
from metrics.intervals import Length, cosine_interval, paired_test
from preprocessing.training_data import PairRows

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

    def of_part(self, part: str, pair: PairRows | None = None) -> Judged:
        """Returns the same of the rows of one part, and of one pooled pair alone.

        Pooled pairs are in order of time; the rows of one of them are its own.
        """
        table = self.table[self.table["part"] == part]
        if pair is not None:
            own = table[table["pair"] == pair.name].drop(columns="pair")
            table = own.assign(row=own["row"] - pair.start)
        elif "pair" in table:
            table = table.sort_values("timestamp", kind="stable", ignore_index=True)
        return dataclasses.replace(self, table=table)

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
        times, self._moments = np.unique(self.table["timestamp"], return_inverse=True)
        self.length = Length.of(
            len(times), horizon_bars=data.future_window, bar_seconds=config.bar_seconds
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

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, TrainingData]]:
        """Yields places in the table, rows and data of each pair; of no pool all."""
        if not self.data.pairs:
            yield np.arange(len(self.rows)), self.rows, self.data
        for _, cut, data in self.data.each_pair():
            places = np.flatnonzero((self.rows >= cut.start) & (self.rows < cut.stop))
            yield places, self.rows[places] - cut.start, data

    def by_moment(self, columns: Any) -> np.ndarray:
        """Returns columns (num_rows, num_columns) as one row a moment.

        Of a pool: rows of one moment move together, so their deviations from the mean
        are added before anything is said about how much the mean moves.
        """
        table = np.asarray(columns, dtype=np.float64)
        if not self.data.pairs:
            return table
        table = table.reshape(len(table), -1)
        mean, count = table.mean(axis=0), int(self._moments.max()) + 1
        sums = [
            np.bincount(self._moments, column, count) for column in (table - mean).T
        ]
        found = mean + np.stack(sums, axis=1) * (count / len(table))
        return found if np.ndim(columns) > 1 else found[:, 0]

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
            held_outcomes(self.table), rules=trade_rules(self.config)
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
                    self.by_moment(self.losses),
                    self.by_moment(losses[name]),
                    length=self.length,
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
        return cosine_interval(self.by_moment(columns), statistic, length=self.length)

    def shuffle(
        self, truth: np.ndarray, losses: np.ndarray, is_counted: np.ndarray
    ) -> dict[str, Any]:
        """Returns `significance.shuffle_test` in blocks of counted rows.

        Of a pool each pair is shuffled in itself, else its own mix would be knowledge.
        Twice the mean of their p-values is one, however they depend on each other.
        Source: Vovk and Wang (2020), "Combining p-values via averaging".
        """
        found = [
            significance.shuffle_test(
                truth[places],
                losses[places],
                is_counted=is_counted[places],
                block_rows=significance.suggest_block_rows(
                    int(is_counted[places].sum()), horizon_bars=self.data.future_window
                ),
                seed=self.config.seed,
            )
            for places, _, _ in self.pairs()
        ]
        if len(found) == 1:
            return found[0]
        known = {"num_blocks": sum(each["num_blocks"] for each in found)}
        for key, times in (("observed", 1.0), ("shuffled_mean", 1.0), ("p_value", 2.0)):
            values = [each[key] for each in found]
            known[key] = None if None in values else times * float(np.mean(values))
        if known["p_value"] is not None:
            known["p_value"] = min(1.0, known["p_value"])
        return found[0] | known

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
