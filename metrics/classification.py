"""Which class was said, which one came: the confusion matrix and what follows from it.

In: numbers of class forecasts. Out: each score of probabilities (`scores`). Undefined
numbers are None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metrics.scores import (
    brier_score,
    calibration_error,
    check_labels,
    check_probabilities,
    class_prior,
    log_loss,
    log_loss_parts,
    skill,
)


def confusion_matrix(labels: Any, predicted: Any, num_classes: int = 3) -> np.ndarray:
    """Returns counts (num_classes, num_classes): rows are true, columns predicted."""
    labels = check_labels(labels, num_classes=num_classes)
    predicted = check_labels(predicted, num_rows=len(labels), num_classes=num_classes)
    pairs = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def matrix_metrics(matrix: Any, *, class_names: Sequence[str]) -> dict[str, Any]:
    """Returns accuracy, per-class scores and shares of a confusion matrix.

    A ratio with nothing in its denominator is reported as 0.0 and named in the class's
    `undefined` list. `macro_f1` is the mean over classes that occur, as truth or as
    prediction; `balanced_accuracy` the mean recall over classes that occur as truth.
    Source: Sokolova and Lapalme (2009), table 3; Brodersen et al. (2010).

    Args:
        matrix: Counts, rows true (num_classes, num_classes).
        class_names: Names in the order of the class ids.
    """
    matrix = np.asarray(matrix, dtype=np.int64)
    total = int(matrix.sum())
    if total == 0 or matrix.shape != (len(class_names),) * 2:
        raise ValueError(
            f"`matrix` must be {len(class_names)} x {len(class_names)} with at least "
            f"one count. Received: shape={matrix.shape}, sum={total}."
        )
    hits, true, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    precision, recall = _ratio(hits, predicted), _ratio(hits, true)
    f1 = _ratio(2 * hits, true + predicted)
    classes = {}
    for k, name in enumerate(class_names):
        empty = (predicted[k] == 0, true[k] == 0, true[k] + predicted[k] == 0)
        scores = ("precision", "recall", "f1")
        classes[name] = {
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
            "support": int(true[k]),
            "undefined": [scores[i] for i in range(3) if empty[i]],
        }
    return {
        "num_samples": total,
        "confusion_matrix": matrix.tolist(),
        "accuracy": float(hits.sum() / total),
        "macro_f1": float(f1[true + predicted > 0].mean()),
        "balanced_accuracy": float(recall[true > 0].mean()),
        "classes": classes,
        "true_share": _named(true / total, class_names),
        "predicted_share": _named(predicted / total, class_names),
    }


def classification_metrics(
    labels: Any,
    probabilities: Any,
    *,
    class_names: Sequence[str],
    reference: Any = None,
) -> dict[str, Any]:
    """Returns everything about argmax predictions and their probabilities.

    Args:
        labels: Class ids (num_rows,).
        probabilities: Rows that sum to 1 (num_rows, num_classes).
        class_names: Names in the order of the class ids.
        reference: What skill is measured against: shares (num_classes,), one row per
            target (num_rows, num_classes), or a mapping from name to either. A bare
            array is named "reference".

    Returns:
        The keys of `matrix_metrics`, and `log_loss`, `mean_probability`, `brier`,
        `expected_calibration_error`, `maximum_calibration_error` (top label). For three
        classes also `activity_log_loss`, `direction_log_loss`, `trade_share`. For each
        reference and for the rows' own mix (`own_mix`): `log_loss_{name}`,
        `skill_vs_{name}`, `activity_skill_vs_{name}`, `direction_skill_vs_{name}`.
    """
    table = check_probabilities(probabilities)
    num_classes = table.shape[1]
    labels = check_labels(labels, num_rows=len(table), num_classes=num_classes)
    matrix = confusion_matrix(labels, table.argmax(axis=1), num_classes)
    calibration = calibration_error(labels, table)
    scores: dict[str, Any] = matrix_metrics(matrix, class_names=class_names) | {
        "mean_probability": _named(table.mean(axis=0), class_names),
        "brier": brier_score(labels, table),
        "expected_calibration_error": calibration["expected"],
        "maximum_calibration_error": calibration["maximum"],
    }
    own = _parts(labels, table)
    references = {"own_mix": class_prior(labels, num_classes)}
    if isinstance(reference, Mapping):
        references |= reference
    elif reference is not None:
        references["reference"] = reference
    scores |= own
    for name, shares in references.items():
        other = _parts(labels, np.broadcast_to(np.asarray(shares, float), table.shape))
        scores[f"log_loss_{name}"] = other["log_loss"]
        for key, loss in own.items():
            if key.endswith("log_loss"):
                gain = None if loss is None else skill(loss, other[key])
                scores[f"{key.removesuffix('log_loss')}skill_vs_{name}"] = gain
    return scores


def _parts(labels: np.ndarray, table: np.ndarray) -> dict[str, Any]:
    """Returns the log-loss, with its parts where there are three classes."""
    if table.shape[1] == 3:
        return log_loss_parts(labels, table)
    return {"log_loss": log_loss(labels, table)}


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns the quotient, 0.0 where the denominator is 0."""
    return numerator / np.where(denominator > 0, denominator, 1)


def _named(values: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    return dict(zip(names, map(float, values), strict=True))
