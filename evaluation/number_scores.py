"""One part of a regression's predictions -> its scores, each with its interval.

In: what one part says about the model and its baselines, as `class_scores` for classes.
Out: making the table, what validation decides, the whole of the results (`numbers`).

Skill and errors are in the target's unit; what is drawn, and everything about signs and
sizes, is in log returns, in basis points, for a price too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from config import HOLD, LONG, SHORT, Config
from data_loader import TrainingData
from evaluation import thresholds, trading
from evaluation.backtest import (
    NUM_SAMPLES,
    backtest,
    backtest_part,
    trade_outcomes,
    trade_rules,
    trading_problem,
)
from evaluation.baselines import simple_return_forecasts
from evaluation.class_scores import EARNED, skill_interval
from metrics import scores as metrics
from metrics import significance
from metrics.significance import bootstrap_interval

REFERENCES = ("train_mean", "trailing_7d")
"""Forecasts without a model that skill is measured against, beside persistence."""

_NUM_BINS = 10
_NUM_STRETCHES = 40
_RESIDUAL_BINS = 60
_QUANTILES_PCT = (1, 5, 25, 50, 75, 95, 99)


def log_returns(
    table: pd.DataFrame, target: str, column: str = "predicted"
) -> np.ndarray:
    """Returns the `predicted` or `actual` column as log returns (num_rows,).

    Args:
        table: From `regression.predictions_table`.
        target: `return` or `price`.
        column: Name of the column.
    """
    values = table[column].to_numpy(np.float64)
    if target == "return":
        return values
    return np.log(values / table["known"].to_numpy(np.float64))


class RegressionJudge:
    """Judges one part of a predictions table; each method answers one question.

    Args:
        part: Name of the part.
        table: Its rows, from `add_signals`.
        data: Returns of all rows.
        config: The run.
    """

    def __init__(
        self, part: str, table: pd.DataFrame, data: TrainingData, config: Config
    ) -> None:
        self.part, self.table, self.data, self.config = part, table, data, config
        self.rows = table["row"].to_numpy()
        self.actual = table["actual"].to_numpy(np.float64)
        self.returns = log_returns(table, data.target)
        self.actual_returns = log_returns(table, data.target, "actual")
        self.squares = np.square(self.actual - table["predicted"].to_numpy())
        self.forecasts = simple_return_forecasts(
            data, self.rows, bar_seconds=config.bar_seconds
        )

    def add_forecasts(self, boosted: pd.DataFrame | None) -> None:
        """Takes the boosting model's forecasts of the part among the baselines."""
        if boosted is not None:
            table = boosted[boosted["part"] == self.part]
            returns = log_returns(table, self.data.target)
            self.forecasts["gradient_boosting"] = returns

    def skill(self) -> dict[str, Any]:
        """Returns the skill of the size of the predictions, with intervals.

        Returns:
            `skill_mse_vs_train_mean` and `skill_mse_vs_trailing_7d`: share of the
            squared error that the model takes away; `correlation` of predicted and
            actual log returns; `slope` of actual on predicted: 1 where the predicted
            size is right on average, near 0 where it is noise. Sources: Campbell and
            Thompson (2008), "Predicting excess stock returns out of sample", eq. 1;
            Mincer and Zarnowitz (1969), "The evaluation of economic forecasts".
            `r2_persistence`: R2 of persistence, close to 1 for a price. Deviations.
        """
        intervals = {
            f"skill_mse_vs_{name}": skill_interval(
                self.squares, self._squares_of(name), self._options()
            )
            for name in REFERENCES
        }
        x = self.returns - self.returns.mean()
        y = self.actual_returns - self.actual_returns.mean()
        columns = np.stack([x, y, x * x, y * y, x * y], axis=1)
        columns[:, 2:] *= 1e8  # squares of basis points: far from rounding
        columns[:, :2] *= 1e4
        # What is left of equal predictions is rounding, and no spread.
        is_flat = float(x.std()) <= 1e-9 * float(y.std())

        def moments(m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            over_x = m[..., 2] - np.square(m[..., 0])
            over_y = m[..., 3] - np.square(m[..., 1])
            return over_x, over_y, m[..., 4] - m[..., 0] * m[..., 1]

        def correlation(m: np.ndarray) -> np.ndarray:
            over_x, over_y, both = moments(m)
            return both / np.sqrt(over_x * over_y) if not is_flat else both * np.nan

        def slope(m: np.ndarray) -> np.ndarray:
            over_x, _, both = moments(m)
            return both / over_x if not is_flat else both * np.nan

        for name, statistic in (("correlation", correlation), ("slope", slope)):
            intervals[name] = bootstrap_interval(columns, statistic, **self._options())
        variance = float(self.actual.var())
        naive = float(self._squares_of("persistence").mean())
        return {name: found["estimate"] for name, found in intervals.items()} | {
            "r2_persistence": 1.0 - naive / variance if variance > 0 else None,
            "predicted_std_bps": 1e4 * float(self.returns.std()),
            "actual_std_bps": 1e4 * float(self.actual_returns.std()),
            "intervals": intervals,
        }

    def signs(self) -> dict[str, Any]:
        """Returns the one pre-declared test: does the model know the sign?

        Returns:
            `sign_expected`: share of right signs if predicted and actual signs were
            independent, as often up and down as they are (always naming the rising side
            of a rising market is no skill); `sign_excess`: the share beyond it, with
            its interval; `sign_test`, `sign_p_value`: shuffle test of the signs in
            blocks. Source of the expected share: Pesaran and Timmermann (1992), "A
            simple nonparametric test of predictive performance".
        """
        moved = self.actual_returns != 0
        up, rises, falls = (
            moved & is_side
            for is_side in (self.actual_returns > 0, self.returns > 0, self.returns < 0)
        )
        hits = (up & rises) | (moved & ~up & falls)

        def expected(m: np.ndarray) -> np.ndarray:
            share = m / m[..., [4]]
            up, down = share[..., 1], 1.0 - share[..., 1]
            return up * share[..., 2] + down * share[..., 3]

        def excess(m: np.ndarray) -> np.ndarray:
            return m[..., 0] / m[..., 4] - expected(m)

        columns = np.stack([hits, up, rises, falls, moved], axis=1).astype(np.float64)
        found = bootstrap_interval(columns, excess, **self._options())
        # Loss of a row if the price fell, and if it rose: 1 for the wrong sign.
        losses = 1.0 - np.stack([falls, rises], axis=1)
        test = significance.shuffle_test(
            up.astype(np.int64),
            losses,
            is_counted=moved,
            block_rows=self._block_rows(int(moved.sum())),
            num_permutations=NUM_SAMPLES,
            seed=self.config.seed,
        )
        shares = columns.mean(axis=0)
        return {
            "sign_expected": float(expected(shares)) if moved.any() else None,
            "sign_excess": found["estimate"],
            "sign_test": test,
            "sign_p_value": test["p_value"],
            "intervals": {"sign_excess": found},
        }

    def bins(self) -> dict[str, list[Any]]:
        """Returns what followed small and large predictions, in basis points.

        Bins of equally many rows by predicted return: `count`, `predicted_bps`,
        `actual_bps` (means), `low_bps` and `high_bps` of the actual mean.
        """
        levels = np.linspace(0, 1, _NUM_BINS + 1)[1:-1]
        edges = np.unique(np.quantile(self.returns, levels))
        places = np.searchsorted(edges, self.returns, side="right")
        names = ("count", "predicted_bps", "actual_bps", "low_bps", "high_bps")
        result: dict[str, list[Any]] = {name: [] for name in names}
        for place in np.unique(places):
            inside = places == place
            columns = np.stack([1e4 * self.actual_returns * inside, inside], axis=1)
            found = bootstrap_interval(
                columns, lambda m: m[..., 0] / m[..., 1], **self._options()
            )
            mean = 1e4 * float(self.returns[inside].mean())
            row = (inside.sum(), mean, found["estimate"], found["low"], found["high"])
            for name, value in zip(names, row, strict=True):
                result[name].append(value)
        return result

    def errors(self) -> dict[str, list[Any]]:
        """Returns the errors of the log returns over time, in basis points.

        Stretches of equally many rows: `start`, `stop`, `mae_bps`,
        `mae_persistence_bps`, `bias_bps` (mean of actual - predicted).
        """
        error = 1e4 * (self.actual_returns - self.returns)
        count = min(_NUM_STRETCHES, len(error))
        times = self.table["timestamp"].to_numpy("datetime64[s]")
        names = ("start", "stop", "mae_bps", "mae_persistence_bps", "bias_bps")
        result: dict[str, list[Any]] = {name: [] for name in names}
        for rows in np.array_split(np.arange(len(error)), count):
            row = (
                f"{times[rows[0]]}Z",
                f"{times[rows[-1]]}Z",
                float(np.abs(error[rows]).mean()),
                1e4 * float(np.abs(self.actual_returns[rows]).mean()),
                float(error[rows].mean()),
            )
            for name, value in zip(names, row, strict=True):
                result[name].append(value)
        return result

    def residuals(self) -> dict[str, Any]:
        """Returns the distribution of actual - predicted log return, in basis points.

        `edges_bps` and `count`, those of persistence beside (`count_persistence`),
        between the 0.5 % and 99.5 % quantiles of both; `outside`; `quantiles_bps`;
        mean, deviation, skewness and excess kurtosis.
        """
        error = 1e4 * (self.actual_returns - self.returns)
        naive = 1e4 * self.actual_returns
        limits = np.quantile(np.stack([error, naive]), [0.005, 0.995], axis=1)
        low, high = float(limits[0].min()), float(limits[1].max())
        edges = np.linspace(low, high if high > low else low + 1.0, _RESIDUAL_BINS + 1)
        counts = [np.histogram(values, edges)[0] for values in (error, naive)]
        quantiles = np.quantile(error, np.array(_QUANTILES_PCT) / 100)
        deviation = error - error.mean()
        variance, third, fourth = (float((deviation**k).mean()) for k in (2, 3, 4))
        return {
            "edges_bps": edges,
            "count": counts[0],
            "count_persistence": counts[1],
            "outside": len(error) - int(counts[0].sum()),
            "quantiles_bps": {
                f"{pct}": float(value)
                for pct, value in zip(_QUANTILES_PCT, quantiles, strict=True)
            },
            "mean_bps": float(error.mean()),
            "std_bps": variance**0.5,
            "skewness": third / variance**1.5 if variance > 0 else None,
            "excess_kurtosis": fourth / variance**2 - 3.0 if variance > 0 else None,
        }

    def trades(self, table: pd.DataFrame, num_tried: int) -> dict[str, Any]:
        """Returns what a table's signals earned, or why that is not known."""
        scores = thresholds.return_scores(log_returns(table, self.data.target))
        return backtest_part(table, scores, self.data, self.config, num_tried=num_tried)

    def baselines(
        self, boosted: pd.DataFrame | None, boosted_choice: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Returns scores of every baseline.

        One that nothing is fitted for trades where it names a move beyond the costs of
        a round trip.
        """
        results = {name: self._score(name) for name in self.forecasts}
        if trading_problem(self.table):
            return results
        cost = trade_rules(self.config).round_trip_cost
        for name, returns in self.forecasts.items():
            if name == "gradient_boosting" and boosted is not None and boosted_choice:
                table = boosted[boosted["part"] == self.part]
                num_tried = boosted_choice["thresholds"]["num_tried"]
                earned = self.trades(table, num_tried)
            else:
                sides = np.where(returns > cost, LONG, HOLD)
                earned = backtest(
                    self.table,
                    np.where(returns < -cost, SHORT, sides),
                    self.config,
                    horizon_bars=self.data.future_window,
                )
            results[name]["trading"] = {key: earned[key] for key in EARNED}
        held = trading.buy_and_hold_metrics(
            trade_outcomes(self.table), rules=trade_rules(self.config)
        )
        return results | {"buy_and_hold": {"trading": held}}

    def comparisons(self) -> dict[str, Any]:
        """Returns the model against the boosting model and the best baseline, paired.

        Best: the lowest squared error in this very part, so the choice favours the
        baseline.
        """
        squares = {name: self._squares_of(name) for name in self.forecasts}
        best = min(squares, key=lambda name: float(squares[name].mean()))
        pairs = {"best_baseline": best}
        if "gradient_boosting" in squares:
            pairs["gradient_boosting"] = "gradient_boosting"
        return {
            key: {
                "baseline": name,
                "squared_error_difference": significance.paired_bootstrap_test(
                    self.squares, squares[name], **self._options()
                ),
                "skill": skill_interval(self.squares, squares[name], self._options()),
            }
            for key, name in pairs.items()
        }

    def _score(self, name: str) -> dict[str, Any]:
        forecast, is_price = self._in_unit(name), self.data.target == "price"
        known = self.table["known"].to_numpy(np.float64) if is_price else 0.0
        scores = metrics.regression_metrics(
            self.actual, forecast, persistence=known, is_price=is_price
        )
        if not self.forecasts[name].any():
            scores["sign_accuracy"] = None  # names no sign
        keys = ("mae", "rmse", "sign_accuracy")
        skills = ("skill_mae_vs_persistence", "skill_mse_vs_persistence")
        interval = skill_interval(
            self._squares_of(name), self._squares_of("persistence"), self._options()
        )
        return {key: scores[key] for key in (*keys, *skills)} | {
            "intervals": {"skill_mse_vs_persistence": interval}
        }

    def _in_unit(self, name: str) -> np.ndarray:
        """Returns a baseline's forecast as the target has it, log return or price."""
        returns = self.forecasts[name]
        if self.data.target == "return":
            return returns
        return self.table["known"].to_numpy(np.float64) * np.exp(returns)

    def _squares_of(self, name: str) -> np.ndarray:
        return np.square(self.actual - self._in_unit(name))

    def _block_rows(self, num_rows: int) -> int:
        horizon = self.data.future_window
        return significance.suggest_block_rows(num_rows, horizon_bars=horizon)

    def _options(self) -> dict[str, Any]:
        return {
            "block_rows": self._block_rows(len(self.rows)),
            "num_samples": NUM_SAMPLES,
            "seed": self.config.seed,
        }
