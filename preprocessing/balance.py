"""Labels or returns -> which targets are trained on, with which weights.

In: thinning, weighing, and by how much both changed the class mix. Out: which rows are
targets at all (`data_loader`), taking the change back (`model_builder`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from config import CLASS_NAMES, Config
from preprocessing.scaling import TargetScaler
from utils import DataError

logger = logging.getLogger(__name__)


def class_fields(
    labels: np.ndarray,
    train: np.ndarray,
    config: Config,
    weigh: Callable[[np.ndarray], np.ndarray | None],
) -> dict[str, Any]:
    """Returns the fields of `TrainingData` that depend on the classes of its rows.

    Args:
        labels: (num_rows,) class ids.
        train: (num_targets,) target rows of the training part.
        config: How classes are balanced.
        weigh: Returns the weight of each row (num_rows,), or None, of the rows that
            are trained on.

    Raises:
        DataError: If there are fewer than two classes in training.
    """
    counts = np.bincount(labels[train], minlength=len(CLASS_NAMES))
    _require_classes(counts)
    chosen, weights = _balance(train, labels, counts, config)
    row_weights = weigh(chosen)
    share = None if row_weights is None else row_weights[chosen]
    kept = np.bincount(labels[chosen], weights=share, minlength=len(CLASS_NAMES))
    return {
        "labels": labels,
        "train_targets": chosen,
        "row_weights": row_weights,
        "class_weights": weights,
        "class_odds": _class_odds(kept, counts, weights),
        "class_prior": counts / counts.sum(),
    }


def value_fields(
    log_returns: np.ndarray,
    train: np.ndarray,
    weigh: Callable[[np.ndarray], np.ndarray | None],
) -> dict[str, Any]:
    """Returns the same fields as `class_fields` where the target is a number.

    Units are learned from training targets, and all of these are trained on.
    """
    scaler = TargetScaler.fit(log_returns[train])
    return {
        "labels": np.empty(0, np.int8),
        "train_targets": train,
        "row_weights": weigh(train),
        "class_weights": None,
        "class_odds": None,
        "class_prior": np.empty(0),
        "values": scaler.transform(log_returns),
        "target_scaler": scaler,
    }


def _require_classes(counts: np.ndarray) -> None:
    if (counts > 0).sum() < 2:
        shown = ", ".join(f"{n}: {c}" for n, c in zip(CLASS_NAMES, counts, strict=True))
        raise DataError(
            "labels: expected at least two classes in the training part. "
            f"Received: {shown}. Choose take profit and stop loss that the market "
            "reaches, or a longer file."
        )
    for name, count in zip(CLASS_NAMES, counts, strict=True):
        if not count:
            logger.warning("the training part has no %s target", name)


def _balance(
    targets: np.ndarray, labels: np.ndarray, counts: np.ndarray, config: Config
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the training targets to use and the class weights, or None."""
    if config.class_balancing == "systematic_undersampling":
        kept = systematic_undersample(
            targets, labels[targets], min_samples=config.undersampling_min_samples
        )
        return kept, None
    if config.class_balancing == "class_weights":
        if config.manual_class_weights is not None:
            return targets, np.array(config.manual_class_weights, np.float32)
        present = (counts > 0).sum()
        weights = counts.sum() / (present * np.maximum(counts, 1))
        return targets, np.where(counts > 0, weights, 1.0).astype(np.float32)
    return targets, None


def systematic_undersample(
    targets: np.ndarray, labels: np.ndarray, *, min_samples: int
) -> np.ndarray:
    """Thins large classes to max(smallest class, `min_samples`), evenly over time.

    Args:
        targets: (num_targets,) ascending rows.
        labels: (num_targets,) class of each.
        min_samples: No class is thinned below this.

    Returns:
        (num_kept,) rows, ascending.
    """
    classes, counts = np.unique(labels, return_counts=True)
    size = max(int(counts.min()), min_samples)
    if counts.max() <= size:
        return targets
    kept = []
    for class_id, count in zip(classes, counts, strict=True):
        members = targets[labels == class_id]
        if count > size:
            # Centres of `size` equal stretches: no class loses its newest rows.
            members = members[(np.arange(size) * 2 + 1) * count // (2 * size)]
        kept.append(members)
    return np.sort(np.concatenate(kept))


def _class_odds(
    kept: np.ndarray, natural: np.ndarray, weights: np.ndarray | None
) -> np.ndarray | None:
    """Returns the (3,) kept / natural share of each class, or None if all are 1."""
    if weights is not None:
        kept = kept * weights
    shares = np.maximum(natural, 1) / natural.sum()
    odds = np.where(natural > 0, kept / kept.sum() / shares, 1.0)
    return None if np.allclose(odds, 1.0) else odds.astype(np.float32)
