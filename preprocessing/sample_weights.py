"""How much each training target counts: by the bars of its label, or by its age.

In: weights from spans and times. Out: which targets there are, what weights do to the
class mix (`balance`), weighing a loss (`sequence_generator`, `models.window_tables`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from config import Config
from preprocessing.parts import Timeline

_DAY = np.timedelta64(1, "D")


def sample_weights(
    targets: np.ndarray,
    timeline: Timeline,
    outcomes: Mapping[str, np.ndarray],
    config: Config,
) -> np.ndarray | None:
    """Returns the weight of each row (num_rows,) float32, or None where all are alike.

    Those of the targets have mean 1; of all other rows they are 0.

    Args:
        targets: Rows that are trained on (num_targets,), ascending.
        timeline: Opens of all rows.
        outcomes: `label_end`, where the file has it; without it each label is taken to
            be as long as its horizon.
        config: Which weights.
    """
    if config.sample_weights == "uniform":
        return None
    if config.sample_weights == "uniqueness":
        ends = outcomes.get("label_end")
        bars = np.full(len(targets), config.future_window)
        if ends is not None:
            bars = np.maximum(ends[targets].astype(np.int64), 1)
        found = average_uniqueness(targets, bars)
    else:
        times = timeline.at(targets)
        half_life = config.sample_half_life_days
        found = 0.5 ** ((times.max() - times) / _DAY / half_life)
    weights = np.zeros(timeline.num_rows, np.float32)
    weights[targets] = found / found.mean()
    return weights


def average_uniqueness(targets: np.ndarray, bars: np.ndarray) -> np.ndarray:
    """Returns the mean over a label's bars of 1 / labels that are open at the bar.

    Source: Lopez de Prado, Advances in Financial Machine Learning (2018), 4.2 and 4.3.

    Args:
        targets: Rows (num_targets,); the label of row t looks at bars t + 1 and on.
        bars: Bars of each label (num_targets,), at least 1.

    Returns:
        (num_targets,) above 0, at most 1.
    """
    after = targets.astype(np.int64) + bars  # the last bar of each label
    steps = np.bincount(targets + 1, minlength=after.max() + 2).astype(np.int64)
    steps -= np.bincount(after + 1, minlength=len(steps))
    num_open = np.cumsum(steps)
    shares = np.concatenate([[0.0], np.cumsum(1.0 / np.maximum(num_open, 1))])
    return (shares[after + 1] - shares[targets + 1]) / bars


def effective_targets(weights: np.ndarray) -> float:
    """Returns how many equal targets would be as many (Kish 1965)."""
    return float(weights.sum() ** 2 / np.square(weights).sum())
