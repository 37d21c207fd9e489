"""Predictions -> results: one aligned table in, numbers with their references out.

In: which rows, labels, probabilities and returns belong together, and what they say.
Out: formulas (`metrics`), pictures and text (`report`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

import metrics
from config import CLASS_NAMES
from data_loader import TrainingData

PROBABILITY_COLUMNS = tuple(f"probability_{name.lower()}" for name in CLASS_NAMES)
SECONDS_OF_TRAILING_MIX = 7 * 86_400


def predictions_table(
    data: TrainingData, probabilities: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Returns one row for each predicted target, in time order.

    The same row number addresses timestamp, label, returns and probabilities; nothing
    is paired by its position in another list.

    Args:
        data: Arrays and parts.
        probabilities: For each part, (num_targets, 3) in the order of its targets.
    """
    tables = []
    for part, values in probabilities.items():
        rows = data.parts[part].targets
        if values.shape != (len(rows), len(CLASS_NAMES)):
            raise ValueError(
                f"{part}: expected probabilities of shape {(len(rows), 3)}. "
                f"Received: {values.shape}"
            )
        columns = {
            "timestamp": pd.DatetimeIndex(data.timestamps[rows], tz="UTC"),
            "row": rows.astype(np.int64),
            "part": pd.Categorical([part] * len(rows), categories=list(data.parts)),
            "label": data.labels[rows],
        }
        columns |= dict(zip(PROBABILITY_COLUMNS, values.T, strict=True))
        columns |= {name: column[rows] for name, column in data.outcomes.items()}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def evaluate(
    predictions: pd.DataFrame, data: TrainingData, *, bar_seconds: int
) -> dict[str, Any]:
    """Returns the results of each part of a predictions table.

    References of the log-loss skill: the class shares of the training part, those of
    the part itself (unknown beforehand: the strictest), and the label mix of the
    trailing seven days that is known at each target.

    Args:
        predictions: From `predictions_table`.
        data: The same data.
        bar_seconds: Length of a bar.

    Returns:
        `class_names`, `train_prior`, and one mapping for each part.
    """
    results: dict[str, Any] = {
        "class_names": list(CLASS_NAMES),
        "train_prior": data.class_prior,
    }
    for part, table in predictions.groupby("part", observed=True, sort=False):
        rows = table["row"].to_numpy()
        trailing = metrics.trailing_mix(
            known_labels(data),
            rows,
            horizon_bars=data.future_window,
            window_bars=max(1, SECONDS_OF_TRAILING_MIX // bar_seconds),
        )
        results[str(part)] = {
            "first": table["timestamp"].iloc[0],
            "last": table["timestamp"].iloc[-1],
        } | metrics.classification_metrics(
            table["label"].to_numpy(),
            table[list(PROBABILITY_COLUMNS)].to_numpy(np.float64),
            reference={"train_prior": data.class_prior, "trailing_7d": trailing},
        )
    return results


def known_labels(data: TrainingData) -> np.ndarray:
    """Returns (num_rows,) labels as a forecast may use them, row by row."""
    return data.labels
