"""One part of a table of numbers -> its scores, each with its interval.

In: what one part says about the model and its baselines, as `class_scores` for classes.
Out: trades and comparisons (`part_scores`), what validation decides and the results as
a whole (`evaluate`).

Skill and errors are in the target's unit; what is drawn, and everything about signs and
sizes, is in log returns, in basis points, for a price too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from config import HOLD, LONG, SHORT
from evaluation.backtest import trade_rules
from evaluation.baselines import simple_return_forecasts
from evaluation.part_scores import PartScores
from evaluation.policies import log_returns
from metrics import scores as metrics
from metrics.errors import error_scores
from metrics.quantiles import column_of, pinball

REFERENCES = ("train_mean", "trailing_7d")
"""Forecasts without a model that skill is measured against, beside persistence."""

_NUM_BINS = 10
_NUM_STRETCHES = 40
_RESIDUAL_BINS = 60
_QUANTILES_PCT = (1, 5, 25, 50, 75, 95, 99)


class NumberScores(PartScores):
    """Errors, skill and signs of predicted returns or prices."""

    loss_difference = "squared_error_difference"
    forecasts: dict[str, np.ndarray]

    def prepare(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Returns squared errors (num_rows,), and log returns (num_rows,) by name."""
        table, target = self.table, self.data.target
        self.actual = table["actual"].to_numpy(np.float64)
        self.predicted = table["predicted"].to_numpy(np.float64)
        self.is_price = target == "price"
        self.known = np.zeros(len(table))
        if self.is_price:
            self.known = table["known"].to_numpy(np.float64)
        self.returns = log_returns(table, target)
        self.actual_returns = log_returns(table, target, "actual")
        forecasts: dict[str, np.ndarray] = {}
        for places, rows, data in self.pairs():
            found = simple_return_forecasts(
                data, rows, bar_seconds=self.config.bar_seconds
            )
            for name, said in found.items():
                forecasts.setdefault(name, np.zeros(len(self.rows)))[places] = said
        for name, judged in self.beside.items():
            forecasts[name] = log_returns(judged.table, target)
        return np.square(self.actual - self.predicted), forecasts

    def results(self) -> dict[str, Any]:
        """Returns the keys of `results.NumberPart`."""
        found = [
            error_scores(
                self.actual,
                self.predicted,
                self.known,
                is_price=self.is_price,
                length=self.length,
                by_moment=self.by_moment,
            ),
            self.skill(),
            self.signs(),
            self.coverage(),
            self.quantiles(),
        ]
        intervals = {key: each for x in found for key, each in x["intervals"].items()}
        scores = {key: value for each in found for key, value in each.items()}
        return {
            "target": self.data.target,
            **self.span(),
            **scores,
            "intervals": intervals,
            "bins": self.bins(),
            "errors": self.errors(),
            "residuals": self.residuals(),
            **self.money(),
        }

    def coverage(self) -> dict[str, Any]:
        """Returns how much of what came the intervals held: `coverage`.

        Its `level`, the share inside in `thirds` of the part, oldest first, and the
        mean `width_bps`; the share of the whole part has an interval. Nothing where
        there are none.
        """
        if "predicted_low" not in self.table:
            return {"intervals": {}}
        held, inside = self._held("predicted_low", "predicted_high")
        return {
            "coverage": {"level": self.config.interval_level} | held,
            "intervals": {"coverage": inside},
        }

    def quantiles(self) -> dict[str, Any]:
        """Returns how good the quantiles are that a model says at once: `quantiles`.

        Their `levels`, what share came `below` each and the mean loss of each,
        `pinball_bps`; of the lowest and the highest what `coverage` says of an interval
        of `level`. The skill of the mean loss, against the quantiles of the training
        targets, has an interval, and so has the share inside. Nothing without them.
        """
        levels = self.config.quantiles
        names = [column_of(level) for level in levels]
        if not levels or not {*names} <= {*self.table}:
            return {"intervals": {}}
        said = [log_returns(self.table, self.data.target, name) for name in names]
        columns, actual = np.stack(said, axis=1), self.actual_returns
        losses = pinball(actual, columns, levels)
        held, inside = self._held(names[0], names[-1])
        intervals = {"quantile_coverage": inside}
        if len(train := self.data.parts["train"].targets):
            usual = np.quantile(self.data.log_returns(train), levels)
            reference = pinball(actual, usual, levels).mean(axis=1)
            skill = self.skill_interval(losses.mean(axis=1), reference)
            intervals["skill_pinball_vs_train"] = skill
        return {
            "quantiles": {
                "levels": list(levels),
                "below": [float((actual < each).mean()) for each in said],
                "pinball_bps": (1e4 * losses.mean(axis=0)).tolist(),
                "level": levels[-1] - levels[0],
                **held,
            },
            "intervals": intervals,
        }

    def _held(self, *ends: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns thirds and width of what lies between two columns, and the share."""
        low, high = (log_returns(self.table, self.data.target, end) for end in ends)
        inside = (low <= self.actual_returns) & (self.actual_returns <= high)
        return {
            "thirds": [float(each.mean()) for each in np.array_split(inside, 3)],
            "width_bps": 1e4 * float((high - low).mean()),
        }, self.interval(inside.astype(np.float64))

    def skill(self) -> dict[str, Any]:
        """Returns skill, correlation and slope of the predictions, with intervals.

        Sources: Campbell and Thompson (2008), "Predicting excess stock returns out of
        sample", eq. 1; Mincer and Zarnowitz (1969), "The evaluation of economic
        forecasts", for the slope: near 0 where predicted sizes are noise.
        """
        intervals = {
            f"skill_mse_vs_{name}": self.skill_interval(
                self.losses, self._squares_of(name)
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
            intervals[name] = self.interval(columns, statistic)
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

        Signs are expected to be right as often as if predicted and actual ones were
        independent: always naming the rising side of a rising market is no skill.
        Source: Pesaran and Timmermann (1992), "A simple nonparametric test of
        predictive performance".
        """
        moved = self.actual_returns != 0
        up, rises, falls = (
            moved & is_side
            for is_side in (self.actual_returns > 0, self.returns > 0, self.returns < 0)
        )
        hits = (up & rises) | (moved & ~up & falls)

        def expected(m: np.ndarray) -> np.ndarray:
            # Of pooled pairs each has shares of its own, weighed by its rows.
            own = m.reshape(*m.shape[:-1], -1, 5)
            share = own / own[..., [4]]
            up, down = share[..., 1], 1.0 - share[..., 1]
            chance = up * share[..., 2] + down * share[..., 3]
            weights = own[..., 4] / own[..., 4].sum(axis=-1, keepdims=True)
            return (weights * chance).sum(axis=-1)

        def excess(m: np.ndarray) -> np.ndarray:
            return m[..., ::5].sum(axis=-1) / m[..., 4::5].sum(axis=-1) - expected(m)

        columns = np.stack([hits, up, rises, falls, moved], axis=1).astype(np.float64)
        if self.data.pairs:
            inside = np.zeros((len(columns), len(self.data.pairs), 1))
            for k, (places, _, _) in enumerate(self.pairs()):
                inside[places, k] = 1.0
            columns = (columns[:, None] * inside).reshape(len(columns), -1)
        found = self.interval(columns, excess)
        # Loss of a row if the price fell, and if it rose: 1 for the wrong sign.
        losses = 1.0 - np.stack([falls, rises], axis=1)
        test = self.shuffle(up.astype(np.int64), losses, moved)
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
        rows = []
        for place in np.unique(places):
            inside = places == place
            columns = np.stack([1e4 * self.actual_returns * inside, inside], axis=1)
            found = self.interval(columns, lambda m: m[..., 0] / m[..., 1])
            mean = 1e4 * float(self.returns[inside].mean())
            ends = (found["estimate"], found["low"], found["high"])
            rows.append((inside.sum(), mean, *ends))
        names = ("count", "predicted_bps", "actual_bps", "low_bps", "high_bps")
        return _columns(names, rows)

    def errors(self) -> dict[str, list[Any]]:
        """Returns the errors of the log returns over time, in basis points.

        Stretches of equally many rows: `start`, `stop`, `mae_bps`,
        `mae_persistence_bps`, `bias_bps` (mean of actual - predicted).
        """
        error = 1e4 * (self.actual_returns - self.returns)
        count = min(_NUM_STRETCHES, len(error))
        times = self.table["timestamp"].to_numpy("datetime64[s]")
        rows = [
            (
                f"{times[k[0]]}Z",
                f"{times[k[-1]]}Z",
                float(np.abs(error[k]).mean()),
                1e4 * float(np.abs(self.actual_returns[k]).mean()),
                float(error[k].mean()),
            )
            for k in np.array_split(np.arange(len(error)), count)
        ]
        names = ("start", "stop", "mae_bps", "mae_persistence_bps", "bias_bps")
        return _columns(names, rows)

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

    def baseline_losses(self) -> dict[str, np.ndarray]:
        """Returns the squared error of each row (num_rows,)."""
        return {name: self._squares_of(name) for name in self.forecasts}

    def baseline_signals(self, name: str) -> np.ndarray:
        """Returns the sides (num_rows,) of moves beyond the costs of a round trip."""
        returns, cost = self.forecasts[name], trade_rules(self.config).round_trip_cost
        sides = np.where(returns > cost, LONG, HOLD)
        return np.where(returns < -cost, SHORT, sides)

    def baseline_scores(self, name: str) -> dict[str, Any]:
        """Returns errors, skill and signs of a baseline."""
        scores = metrics.regression_metrics(
            self.actual,
            self._in_unit(name),
            persistence=self.known,
            is_price=self.is_price,
        )
        if not self.forecasts[name].any():
            scores["sign_accuracy"] = None  # names no sign
        keys = ("mae", "rmse", "sign_accuracy")
        skills = ("skill_mae_vs_persistence", "skill_mse_vs_persistence")
        interval = self.skill_interval(
            self._squares_of(name), self._squares_of("persistence")
        )
        return {key: scores[key] for key in (*keys, *skills)} | {
            "intervals": {"skill_mse_vs_persistence": interval}
        }

    def _in_unit(self, name: str) -> np.ndarray:
        """Returns a baseline's forecast as the target has it, log return or price."""
        returns = self.forecasts[name]
        return self.known * np.exp(returns) if self.is_price else returns

    def _squares_of(self, name: str) -> np.ndarray:
        return np.square(self.actual - self._in_unit(name))


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
