"""A trained model -> its results, and what the run's folder says of them.

In: predicting validation and test whole, choosing on validation, writing the report.
Out: scores (`evaluation`, `regression`), what features are worth (`importance`), texts
and pictures (`report`).
"""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

import audit
import evaluation
import folds
import importance
import regression
import report
import tables
import utils
from adapter_base import ModelAdapter
from artifacts import RunFolder
from data_loader import TrainingData

logger = logging.getLogger(__name__)


def judge(
    run: RunFolder, data: TrainingData, adapter: ModelAdapter
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predicts validation and test, chooses on validation, scores both.

    Writes `calibrator_{tag}.json` and `predictions_{tag}.parquet`.

    Returns:
        One row a predicted target, and the results of both parts.
    """
    judging: Any = regression if data.is_regression else evaluation
    outputs = {
        part: adapter.predict_rows(data, data.parts[part].targets)
        for part in ("validation", "test")
    }
    table = judging.predictions_table(data, outputs)
    policy, choice = judging.fit_policy(table, data, adapter.config)
    utils.write_json(run.file("calibrator", ".json"), policy.to_dict())
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


def add_audit(results: dict[str, Any], data: TrainingData) -> None:
    """Adds what can be said of leaks without candles, in a moment."""
    results["audit"] = audit.quick_audit(data).to_dict()


def write(
    run: RunFolder,
    data: TrainingData,
    results: dict[str, Any],
    *,
    history: dict[str, list[float]],
    metadata: dict[str, Any],
) -> None:
    """Writes the report and the metadata with its headlines; prints the report."""
    mix = None
    if not data.is_regression:
        mix = report.label_mix_over_time(data.timestamps, data.labels)
        mix.attrs["edges"] = {
            name: data.timeline.at(part.start) for name, part in data.parts.items()
        }
    report.write_report(
        run.path, results, history=history, label_mix=mix, metadata=metadata
    )
    metadata["results"] = {
        key: results[key] for key in ("verdict", "claims", "warnings")
    } | {
        part: {
            key: results[part][key] for key in folds.HEADLINES if key in results[part]
        }
        for part in ("validation", "test")
    }
    utils.write_json(run.file("metadata", ".json"), metadata)
    logger.info("%s", report.format_results(results))
