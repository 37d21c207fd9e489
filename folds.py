"""Cross-validated runs: the rows of each fold, and what the folds say together.

In: the folds' row ranges, the summary of their results. Out: splitting index arrays
(`cross_validation`), training a fold (`trainer`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import cross_validation
import tables
from config import Config
from cross_validation import PurgedSplitter
from data_loader import chronological_ranges

if TYPE_CHECKING:
    from artifacts import RunFolder

Ranges = dict[str, tuple[int, int]]

HEADLINES = (
    "num_samples",
    "log_loss",
    "skill_vs_train_prior",
    "skill_vs_own_mix",
    "skill_vs_trailing_7d",
    "activity_skill_vs_train_prior",
    "direction_skill_vs_train_prior",
    "direction_p_value",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    # Of a return or a price
    "mae",
    "rmse",
    "r2",
    "skill_mae_vs_persistence",
    "skill_mse_vs_persistence",
    "skill_mse_vs_train_mean",
    "skill_mse_vs_trailing_7d",
    "sign_accuracy",
    "sign_excess",
    "sign_p_value",
    "correlation",
)
"""Numbers of a part that stand for it: in the metadata, and in the folds' summary."""


def create_splitter(config: Config) -> PurgedSplitter:
    """Returns the splitter that `cv` names, with this run's window and horizon."""
    options = {
        "window_bars": config.sequence_length,
        "future_window": config.future_window,
        "embargo_bars": config.embargo_bars,
    }
    count = config.n_splits or 1
    if config.cv == "purged":
        return cross_validation.PurgedTimeSeriesSplit(count, **options)
    if config.cv == "blocking":
        return cross_validation.BlockingTimeSeriesSplit(count, **options)
    expanding = config.cv == "walk_forward"
    return cross_validation.WalkForwardSplit(count, expanding=expanding, **options)


def fold_ranges(num_rows: int, config: Config) -> list[Ranges]:
    """Returns the parts of each fold as row ranges, oldest fold first.

    Folds lie in the rows before the run's test part, which none of them sees. The
    newest rows of a fold's training block become its validation part, in the
    proportion of `validation_split` to the training share.

    Args:
        num_rows: Rows of the training file that are used.
        config: Number and kind of folds, window, horizon, splits.

    Raises:
        DataError: If there are too few rows.
    """
    window, future = config.sequence_length, config.future_window
    development = chronological_ranges(num_rows, config)["test"][0]
    share = config.validation_split / (1.0 - config.test_split)
    folds = []
    for [train], [test] in create_splitter(config).get_ranges(development - future):
        # A range of targets needs the rows of its first window and last label, too.
        start, stop = max(0, train[0] - window + 1), train[1] + future
        edge = stop - round((stop - start) * share)
        folds.append(
            {
                "train": (start, edge),
                "validation": (edge, stop),
                "test": (test[0] - window + 1, test[1] + future),
            }
        )
    return folds


def gather(
    run: RunFolder, results: Sequence[Mapping[str, Any]], *, num_rows: int
) -> dict[str, Any]:
    """Keeps the out-of-fold predictions in one file; returns the folds' summary.

    Args:
        run: The run, with a folder of its own for each fold.
        results: Each fold's results; their `test` is the fold's test block.
        num_rows: Rows of the training file that are used.
    """
    parts = []
    for number in range(1, len(results) + 1):
        folder = run.fold(number)
        table = pd.read_parquet(folder.file("predictions", ".parquet"))
        table = table[table["part"] == "test"].drop(columns="part")
        parts.append(table.assign(fold=number))
    tables.write_parquet(
        run.file("oof_predictions", ".parquet"), pd.concat(parts, ignore_index=True)
    )
    return {
        "cv": run.config.cv,
        "num_folds": len(results),
        "metrics": summarise([headline(item["test"], HEADLINES) for item in results]),
        "folds": [
            {key: item["test"][key] for key in ("first", "last", "num_samples")}
            | {"verdict": item["verdict"], "rows": rows}
            for item, rows in zip(
                results, fold_ranges(num_rows, run.config), strict=True
            )
        ],
    }


def headline(result: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Returns the named numbers of a part's results, and those of its trades."""
    trades = result.get("trading") or {}
    chosen = {name: result[name] for name in names if name in result}
    return chosen | {
        f"trading_{name}": value
        for name, value in trades.items()
        if value is None or isinstance(value, int | float)
    }


def summarise(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns mean, spread and every fold's value of each number the folds share.

    Args:
        results: Each fold's results of its test block.

    Returns:
        For each metric: `mean`, `std` (sample standard deviation; None for one fold)
        and `folds`, the values in order. None counts as not measured.
    """
    summary = {}
    for name in dict.fromkeys(name for fold in results for name in fold):
        values = [fold.get(name) for fold in results]
        known = [value for value in values if value is not None]
        if not known or not all(_is_number(value) for value in known):
            continue
        summary[name] = {
            "mean": float(np.mean(known)),
            "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
            "folds": values,
        }
    return summary


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
