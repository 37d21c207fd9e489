"""What a model loses without a feature: permutation importance on validation windows.

In: shuffling one feature's windows among target rows, for any family. Out: a library's
own importance (`ModelAdapter.feature_importance`), showing it (`reports.report`,
`reports.plots`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from data_loader import TrainingData
from evaluation.evaluate import task_of
from evaluation.results import Results
from files.progress import track
from models.adapter import ModelAdapter
from preprocessing.windows import cut_windows, evenly_spaced

NUM_REPEATS = 3
MAX_PREDICTED = 50_000
"""Most windows that are predicted in all: seconds for a small network on a CPU."""
MAX_CELLS = 25_000_000
"""Most numbers of the windows that are held, 100 MB."""
MIN_WINDOWS = 100


def add_importance(
    results: Results[Any], adapter: ModelAdapter, data: TrainingData
) -> None:
    """Adds what the model loses without each feature, and what its library says."""
    config = adapter.config
    if config.importance_windows is not None and config.report == "full":
        results["importance"] = permutation_importance(
            adapter, data, num_windows=config.importance_windows, seed=config.seed
        )
    own = adapter.feature_importance()
    if own is not None:
        ranked = sorted(own.items(), key=lambda item: -item[1])
        results["library_importance"] = [
            {"name": name, "share": share} for name, share in ranked
        ]


def permutation_importance(
    adapter: ModelAdapter,
    data: TrainingData,
    *,
    num_windows: int,
    num_repeats: int = NUM_REPEATS,
    seed: int = 0,
) -> dict[str, Any]:
    """Returns the validation skill that is lost when each feature tells of other rows.

    The whole window of a feature goes to another target row, so that a series stays a
    series. Of two features that say the same, neither seems to matter much.

    Args:
        adapter: A fitted model of any family.
        data: The data it was fitted on.
        num_windows: Validation windows, evenly spaced; fewer where features or bars are
            many.
        num_repeats: Shuffles of each feature.
        seed: Seed of the shuffles.

    Returns:
        `method`, `part`, `score`, `num_windows`, `num_repeats`, `skill` (of the same
        windows, untouched) and `features`, most lost first: for each its `name`, `mean`
        and `std` of the lost skill over the shuffles, and of classes the same of the
        direction's skill (`direction_mean`, `direction_std`, None without any trade).
    """
    task = task_of(data.target)
    count = _count_windows(data, num_windows, num_repeats)
    rows = evenly_spaced(data.parts["validation"].targets, count)
    windows = cut_windows(data.features, rows, window_bars=data.window_bars)
    targets = data.supervision(rows)
    before = task.skills(adapter.predict_windows(windows), targets, data)
    lost: dict[str, list[dict[str, float | None]]] = {}
    for j, name in enumerate(track(data.feature_names, "feature", data.num_features)):
        column = windows[:, :, j].copy()
        lost[name] = []
        for repeat in range(num_repeats):
            draw = np.random.Generator(np.random.PCG64([seed, j, repeat]))
            windows[:, :, j] = column[draw.permutation(len(rows))]
            after = task.skills(adapter.predict_windows(windows), targets, data)
            lost[name].append(_difference(before, after))
        windows[:, :, j] = column
    features = [{"name": name} | _spread(values) for name, values in lost.items()]
    return {
        "method": "permutation",
        "part": "validation",
        "score": task.skill_name,
        "num_windows": len(rows),
        "num_repeats": num_repeats,
        "skill": before["all"],
        "features": sorted(features, key=lambda feature: -feature["mean"]),
    }


def _count_windows(data: TrainingData, wanted: int, num_repeats: int) -> int:
    predictions = 1 + data.num_features * num_repeats
    most = min(
        MAX_PREDICTED // predictions,
        MAX_CELLS // (data.window_bars * data.num_features),
    )
    return min(wanted, max(MIN_WINDOWS, most))


def _difference(
    before: Mapping[str, float | None], after: Mapping[str, float | None]
) -> dict[str, float | None]:
    pairs = {name: (value, after[name]) for name, value in before.items()}
    return {
        name: None if was is None or became is None else was - became
        for name, (was, became) in pairs.items()
    }


def _spread(lost: list[dict[str, float | None]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in lost[0]:
        values = [each[name] for each in lost if each[name] is not None]
        prefix = "" if name == "all" else f"{name}_"
        known = np.array(values, np.float64)
        result[f"{prefix}mean"] = float(known.mean()) if len(known) else None
        result[f"{prefix}std"] = float(known.std()) if len(known) else None
    result["mean"] = result["mean"] or 0.0  # a reference that cannot be beaten
    return result
