"""What is written about a run: the sections of `metadata_{tag}.json`.

In: describing data, split, alignment, model, versions. Out: where it is written
(`artifacts`), the numbers of the report (`evaluation`).
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from config import CLASS_NAMES
from data_loader import TrainingData

ALIGNMENT = {
    "label_offset": 0,
    "window": "rows t - sequence_length + 1 .. t",
    "entry": "close of row t",
    "label": "bars t + 1 .. t + future_window",
    "class_names": list(CLASS_NAMES),
}
"""Which bars belong together; stored with every model."""

_PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "scikit-learn", "pyarrow")


def describe_data(data: TrainingData) -> dict[str, Any]:
    """Returns where the rows came from, the features, the class mix of training."""
    return dict(data.source) | {
        "feature_names": data.feature_names,
        "num_features": data.num_features,
        "train_prior": data.class_prior,
        "class_odds": data.class_odds,
        "class_weights": data.class_weights,
        "num_trained_targets": len(data.train_targets),
    }


def describe_split(data: TrainingData) -> dict[str, Any]:
    """Returns rows, targets, times and class shares of each part."""
    return {
        name: {
            "first_row": part.start,
            "rows": part.stop - part.start,
            "targets": len(part.targets),
            "first": f"{data.timeline.at(part.targets[0])}Z",
            "last": f"{data.timeline.at(part.targets[-1])}Z",
            "label_shares": data.label_shares(part.targets),
        }
        for name, part in data.parts.items()
    }


def describe_versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide results."""
    return {"python": platform.python_version()} | {
        name: version(name) for name in _PACKAGES
    }
