"""A trained model -> its results.

In: predicting validation and test whole, choosing on validation. Out: scores
(`classes`, `numbers`), what features are worth (`importance`), texts and pictures
(`reports`).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from artifacts.run_folder import RunFolder
from data_loader import TrainingData
from evaluation import classes, importance, numbers
from files import tables
from files.strict import write_json
from models.adapter import ModelAdapter


def judge(
    run: RunFolder, data: TrainingData, adapter: ModelAdapter
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predicts validation and test, chooses on validation, scores both.

    Writes `calibrator_{tag}.json` and `predictions_{tag}.parquet`.

    Returns:
        One row a predicted target, and the results of both parts.
    """
    judging: Any = numbers if data.is_regression else classes
    outputs = {
        part: adapter.predict_rows(data, data.parts[part].targets)
        for part in ("validation", "test")
    }
    table = judging.predictions_table(data, outputs)
    policy, choice = judging.fit_policy(table, data, adapter.config)
    write_json(run.file("calibrator", ".json"), policy.to_dict())
    predictions = judging.add_signals(table, policy)
    tables.write_parquet(run.file("predictions", ".parquet"), predictions)
    results = judging.evaluate(
        predictions, data, adapter.config, policy=policy, choice=choice
    )
    return predictions, results


def add_importance(
    results: dict[str, Any], adapter: ModelAdapter, data: TrainingData
) -> None:
    """Adds what the model loses without each feature, and what its library says."""
    config = adapter.config
    if config.importance_windows is not None:
        results["importance"] = importance.permutation_importance(
            adapter, data, num_windows=config.importance_windows, seed=config.seed
        )
    own = adapter.feature_importance()
    if own is not None:
        ranked = sorted(own.items(), key=lambda item: -item[1])
        results["library_importance"] = [
            {"name": name, "share": share} for name, share in ranked
        ]
