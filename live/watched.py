"""Numbers of a row that show whether a model still knows its market.

In: what is watched, and which side is bad. Out: how far is too far (`levels`), where
the rows come from (`watching`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from config import CLASS_TARGETS, HOLD, LONG, SHORT, Config
from evaluation.backtest import trade_rules
from evaluation.policies import CALIBRATED_COLUMNS, log_returns, probabilities_of
from metrics import scores
from signals.drift import moments_of, units_of


class Watched(NamedTuple):
    """A number of each row, as its mean over a day is watched.

    Attributes:
        values: (num_rows,).
        sides: 1 where more is bad, -1 where less is, 0 where both are.
        words: What it is.
    """

    values: np.ndarray
    sides: int
    words: str


def watched_numbers(
    table: pd.DataFrame, config: Config, prior: np.ndarray
) -> dict[str, Watched]:
    """Returns what is watched of rows whose outcome is known, by name.

    Args:
        table: Predictions with signals; see `evaluate.predictions_table`.
        config: The run.
        prior: Class shares of the training part (3,); of numbers (0,).
    """
    found = _of_classes(table, prior)
    if config.target not in CLASS_TARGETS:
        found = _of_numbers(table, config)
    if {"long_return", "short_return"} <= set(table.columns):
        found["net"] = Watched(
            1e4 * _net(table, config), -1, "net of a signal's trade, bps a row"
        )
    return found


def _of_classes(table: pd.DataFrame, prior: np.ndarray) -> dict[str, Watched]:
    if not set(CALIBRATED_COLUMNS) <= set(table.columns):
        return {}
    said = probabilities_of(table, CALIBRATED_COLUMNS)
    labels = table["label"].to_numpy()
    known = np.broadcast_to(prior, said.shape)
    excess = scores.row_log_loss(labels, said) - scores.row_log_loss(labels, known)
    moved = (labels != HOLD).astype(np.float64)
    side = (labels == LONG).astype(np.float64) - (labels == SHORT)
    traded = said[:, SHORT] + said[:, LONG]
    told = np.where(moved > 0, np.take_along_axis(said, labels[:, None], 1)[:, 0], 1)
    doubt = np.log(np.maximum(traded, scores.EPSILON))
    doubt -= np.log(np.maximum(told, scores.EPSILON)) + math.log(2.0)
    return {
        "loss": Watched(excess, 1, "log-loss above the train prior's"),
        "direction": Watched(
            np.where(moved > 0, doubt, 0.0), 1, "log-loss of the side above a coin's"
        ),
        "activity": Watched(
            1 - said[:, HOLD] - moved, 0, "trades expected above those that came"
        ),
        "side": Watched(
            said[:, LONG] - said[:, SHORT] - side, 0, "LONG expected above what came"
        ),
    }


def _of_numbers(table: pd.DataFrame, config: Config) -> dict[str, Watched]:
    actual = log_returns(table, config.target, "actual")
    error = actual - log_returns(table, config.target)
    found = {
        "loss": Watched(
            1e8 * (np.square(error) - np.square(actual)),
            1,
            "squared error above persistence's, bps squared",
        ),
        "side": Watched(-1e4 * error, 0, "predicted above actual return, bps"),
    }
    if "predicted_low" in table:
        low, high = (
            log_returns(table, config.target, f"predicted_{end}")
            for end in ("low", "high")
        )
        outside = ((actual < low) | (actual > high)).astype(np.float64)
        found["coverage"] = Watched(outside, 1, "share outside the intervals")
    return found


def _net(table: pd.DataFrame, config: Config) -> np.ndarray:
    """Returns what a trade of each row's signal leaves; 0 without a signal."""
    signal = table["signal"].to_numpy()
    cost = trade_rules(config).round_trip_cost
    gross = np.where(signal == LONG, table["long_return"], table["short_return"])
    return np.where(signal == HOLD, 0.0, np.nan_to_num(gross) - cost)


def days_of(
    times: np.ndarray, values: np.ndarray, unit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first moment and the mean of each unit of days (num_units,).

    A unit with less than half of the usual rows is left out.

    Args:
        times: (num_rows,) datetime64, ascending.
        values: (num_rows,).
        unit: Days.
    """
    units, places, counts = np.unique(
        units_of(times, unit), return_inverse=True, return_counts=True
    )
    means = np.bincount(places, weights=values) / counts
    is_whole = counts >= np.median(counts) / 2
    return moments_of(units[is_whole], unit), means[is_whole]
