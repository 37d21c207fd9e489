"""Cross-validated runs: what the folds say together.

In: the summary of their results. Out: the rows of each fold (`preprocessing.parts`),
training a fold (`trainer`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from files import tables
from preprocessing.parts import fold_ranges

if TYPE_CHECKING:
    from artifacts.run_folder import RunFolder

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
