"""Numbers from labels and predictions: log loss, calibration error, regression.

In: scores of forecasts. Out: what follows from a confusion matrix (`classification`),
trades and money (`evaluation.trading`), uncertainty (`significance`). Pure NumPy;
nothing here knows a model, a file or a part.
Undefined numbers are None, never infinite or NaN, so every result is strict JSON.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_IDLE = 1  # the middle one of three classes: neither side

# Keras clips probabilities here (keras.config.epsilon), so losses can be compared.
EPSILON = 1e-7

# Arguments


def check_labels(
    labels: Any, *, num_rows: int | None = None, num_classes: int = 3
) -> np.ndarray:
    """Returns `labels` as integers (num_rows,), checked.

    Raises:
        ValueError: If they are empty, not one-dimensional, not whole numbers, outside
            0..num_classes-1, or not as many as `num_rows`.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            "`labels` must be a one-dimensional, non-empty array of class ids. "
            f"Received: shape={array.shape}. One-hot labels need `argmax(axis=1)`."
        )
    if num_rows is not None and len(array) != num_rows:
        raise ValueError(
            f"`labels` must have one entry for each of the {num_rows} rows. "
            f"Received: {len(array)}. Index both with the same target rows."
        )
    is_class = np.isin(array, np.arange(num_classes))
    if not is_class.all():
        raise ValueError(
            f"`labels` must be whole numbers from 0 to {num_classes - 1}. Received: "
            f"{array[~is_class][:5]}. Drop rows without a label before scoring."
        )
    return array.astype(np.int64)


def check_probabilities(probabilities: Any) -> np.ndarray:
    """Returns `probabilities` as float64 (num_rows, num_classes), checked.

    Raises:
        ValueError: If they are not a non-empty table of finite rows that sum to 1.
    """
    array = np.asarray(probabilities, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] < 2:
        raise ValueError(
            "`probabilities` must have the shape (num_rows, num_classes). "
            f"Received: shape={array.shape}."
        )
    # 1e-3: half-precision outputs sum to 1 within about 5e-4.
    wrong = ~(np.abs(sum(array.T) - 1.0) <= 1e-3)  # `sum(axis=1)` takes ten times that
    if wrong.any() or array.min() < 0:
        wrong |= array.min(axis=1) < 0
        row = int(np.argmax(wrong))
        raise ValueError(
            "`probabilities` must be finite, not negative, and sum to 1 in every row. "
            f"Received: row {row} = {array[row].tolist()} ({int(wrong.sum())} such "
            "rows). Apply a softmax, or find where the model became NaN."
        )
    return array


# Log-loss, its additive parts, and its references


def row_log_loss(labels: Any, probabilities: Any) -> np.ndarray:
    """Returns the log-loss of every row in nats (num_rows,), clipped like Keras."""
    table = check_probabilities(probabilities)
    labels = check_labels(labels, num_rows=len(table), num_classes=table.shape[1])
    return -_clipped_log(table[np.arange(len(table)), labels])


def log_loss(labels: Any, probabilities: Any) -> float:
    """Returns the mean log-loss in nats.

    Args:
        labels: Class ids (num_rows,).
        probabilities: Rows that sum to 1 (num_rows, num_classes).
    """
    return float(row_log_loss(labels, probabilities).mean())


def skill(loss: float, reference_loss: float) -> float | None:
    """Returns `1 - loss / reference_loss`: 0 is as good as the reference, 1 perfect.

    None where the reference leaves nothing to improve (its loss is 0 up to clipping).
    Source: Murphy (1988), "Skill scores based on the mean square error", eq. 4.
    """
    return None if reference_loss <= 2 * EPSILON else 1.0 - loss / reference_loss


def class_losses(probabilities: Any, *, part: str = "log_loss") -> np.ndarray:
    """Returns the loss each row would have under each label (num_rows, 3), in nats.

    The first and the last class are the two sides of a trade, the middle one is none.
    `"log_loss"` is the sum of the other two parts: `"activity_log_loss"` (a trade or
    none) and `"direction_log_loss"` (which side, given a trade; 0 without one):
    -ln p = -ln p_trade - ln(p / p_trade).
    """
    total = -_clipped_log(table := _of_three(probabilities))
    activity = total.copy()
    activity[:, [0, 2]] = -_clipped_log(table[:, [0]] + table[:, [2]])
    parts = {"log_loss": total, "activity_log_loss": activity}
    parts["direction_log_loss"] = total - activity
    if part not in parts:
        raise ValueError(f"`part` must be one of {list(parts)}. Received: {part!r}")
    return parts[part]


def _of_three(probabilities: Any) -> np.ndarray:
    table = check_probabilities(probabilities)
    if table.shape[1] != 3:
        raise ValueError(
            "activity and direction need three classes, the middle one for no trade. "
            f"Received: {table.shape[1]} classes."
        )
    return table


def row_losses(labels: Any, probabilities: Any) -> np.ndarray:
    """Returns each row's loss under its own label (num_rows, 3); see `class_losses`.

    All of it, activity, direction, which is 0 in rows without a trade.
    """
    table = _of_three(probabilities)
    labels = check_labels(labels, num_rows=len(table))
    total = -_clipped_log(table[np.arange(len(table)), labels])
    trade = -_clipped_log(table[:, 0] + table[:, 2])
    activity = np.where(labels == _IDLE, total, trade)
    return np.stack([total, activity, total - activity], axis=1)


def log_loss_parts(labels: Any, probabilities: Any) -> dict[str, float | None]:
    """Returns `log_loss` split into activity and direction, exactly additive.

    log_loss = activity_log_loss + trade_share * direction_log_loss. The direction part
    is a mean over true trades and None without any.
    """
    _, by_activity, by_direction = row_losses(labels, probabilities).T
    is_trade = np.asarray(labels) != _IDLE
    of_trades = by_direction[is_trade]
    return {
        "log_loss": float((by_activity + by_direction).mean()),
        "activity_log_loss": float(by_activity.mean()),
        "direction_log_loss": float(of_trades.mean()) if is_trade.any() else None,
        "trade_share": float(is_trade.mean()),
    }


def class_prior(labels: Any, num_classes: int = 3) -> np.ndarray:
    """Returns the share of each class (num_classes,): a forecast without a model."""
    labels = check_labels(labels, num_classes=num_classes)
    return np.bincount(labels, minlength=num_classes) / len(labels)


def trailing_mix(
    labels: Any,
    targets: Any,
    *,
    horizon_bars: int,
    window_bars: int,
    num_classes: int = 3,
    smoothing_count: float = 1.0,
) -> np.ndarray:
    """Returns the recent label mix that is known at each target: a model-free forecast.

    The label of row r looks at bars r+1 .. r+horizon_bars, so at the close of t the
    newest known label is that of row t - horizon_bars. The mix counts the
    `window_bars` rows that end there. Early targets have fewer; a target without any
    gets the uniform mix.

    Args:
        labels: Class id of every row of the file, in time order (num_rows,); a negative
            id marks a row without a label, which is not counted.
        targets: Rows to forecast (num_targets,).
        horizon_bars: Bars that a label looks ahead.
        window_bars: Rows of labels to count, e.g. 7 days of bars.
        num_classes: Number of classes.
        smoothing_count: Added to each class (Laplace), so that no share is 0.

    Returns:
        Shares (num_targets, num_classes), each row summing to 1.
    """
    if min(horizon_bars, window_bars) < 1 or not smoothing_count > 0:
        raise ValueError(
            "`horizon_bars` and `window_bars` must be at least 1, `smoothing_count` "
            "above 0 (an unseen class would cost an infinite loss). "
            f"Received: horizon_bars={horizon_bars}, window_bars={window_bars}, "
            f"smoothing_count={smoothing_count}"
        )
    labels, targets = np.asarray(labels), np.asarray(targets)
    if targets.size and not 0 <= targets.min() <= targets.max() < len(labels):
        raise ValueError(
            f"`targets` must be rows from 0 to {len(labels) - 1}. "
            f"Received: {targets.min()} to {targets.max()}."
        )
    seen = np.zeros((len(labels) + 1, num_classes), dtype=np.int64)
    for label in range(num_classes):
        np.cumsum(labels == label, out=seen[1:, label])
    end = np.clip(targets - horizon_bars + 1, 0, None)
    start = np.clip(end - window_bars, 0, None)
    counts = seen[end] - seen[start] + smoothing_count
    return counts / counts.sum(axis=1, keepdims=True)


# Probabilities that mean what they say


def brier_score(labels: Any, probabilities: Any) -> float:
    """Returns the mean squared distance of the rows to the one-hot labels, 0 to 2.

    Source: Brier (1950), "Verification of forecasts expressed in terms of probability".
    """
    table = check_probabilities(probabilities)
    labels = check_labels(labels, num_rows=len(table), num_classes=table.shape[1])
    of_truth = table[np.arange(len(table)), labels]
    return float((np.square(table).sum(axis=1) - 2 * of_truth + 1).mean())


def reliability_table(
    outcomes: Any, confidences: Any, *, num_bins: int = 15
) -> dict[str, np.ndarray]:
    """Returns the reliability diagram of one event: bins of equal width on [0, 1].

    Args:
        outcomes: Whether the event happened (num_rows,).
        confidences: Its forecast probability (num_rows,).
        num_bins: Number of bins; the upper edge belongs to the bin below it.

    Returns:
        Arrays (num_bins,): `count`, `mean_confidence`, `frequency` (NaN in an empty
        bin), and `edges` (num_bins + 1,).
    """
    outcomes = np.asarray(outcomes, dtype=np.float64)
    confidences = np.asarray(confidences, dtype=np.float64)
    if num_bins < 1:
        raise ValueError(f"`num_bins` must be at least 1. Received: {num_bins}")
    # ceil - 1: bins are (low, high], the convention of Guo et al.
    bins = np.clip(np.ceil(confidences * num_bins).astype(int) - 1, 0, num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    divisor = np.where(count > 0, count, np.nan)
    return {
        "count": count,
        "mean_confidence": np.bincount(bins, confidences, num_bins) / divisor,
        "frequency": np.bincount(bins, outcomes, num_bins) / divisor,
        "edges": np.linspace(0.0, 1.0, num_bins + 1),
    }


def calibration_error(
    labels: Any, probabilities: Any, *, num_bins: int = 15
) -> dict[str, Any]:
    """Returns expected and maximum calibration error, top-label and per class.

    ECE = sum of count / n * |frequency - mean confidence| over the bins; MCE is the
    largest of these gaps over non-empty bins.
    Source: Guo et al. (2017), "On calibration of modern neural networks", eq. 3 and 5;
    per class: Nixon et al. (2019), "Measuring calibration in deep learning".

    Returns:
        `expected` and `maximum` (top label), `classwise_expected` and
        `classwise_maximum` (num_classes,) as lists, `mean_classwise_expected`.
    """
    table = check_probabilities(probabilities)
    labels = check_labels(labels, num_rows=len(table), num_classes=table.shape[1])
    events = [(labels == table.argmax(axis=1), table.max(axis=1))]
    events += [(labels == k, table[:, k]) for k in range(table.shape[1])]
    gaps = []
    for outcomes, confidences in events:
        bins = reliability_table(outcomes, confidences, num_bins=num_bins)
        filled = bins["count"] > 0
        gap = np.abs(bins["frequency"] - bins["mean_confidence"])[filled]
        gaps.append((float(gap @ bins["count"][filled] / len(table)), float(gap.max())))
    return {
        "expected": gaps[0][0],
        "maximum": gaps[0][1],
        "classwise_expected": [expected for expected, _ in gaps[1:]],
        "classwise_maximum": [maximum for _, maximum in gaps[1:]],
        "mean_classwise_expected": float(np.mean([gap for gap, _ in gaps[1:]])),
    }


# Regression targets


def regression_metrics(
    actual: Any, predicted: Any, *, persistence: Any = 0.0, is_price: bool = False
) -> dict[str, Any]:
    """Returns errors of a regression beside those of naming the present value again.

    Args:
        actual: What happened (num_rows,).
        predicted: The forecast (num_rows,).
        persistence: The value known at t: the close for a price, 0 for a return.
        is_price: Adds `mape_pct`, which means nothing for returns near 0.

    Returns:
        `mae`, `rmse`, `r2` (None without variance), `sign_accuracy` of the move away
        from `persistence` (rows that moved; None without any), `mae_persistence`,
        `rmse_persistence`, `skill_mae_vs_persistence`, `skill_mse_vs_persistence`.
    """
    actual = np.asarray(actual, dtype=np.float64)
    predicted = np.asarray(predicted, dtype=np.float64)
    known = np.broadcast_to(np.asarray(persistence, dtype=np.float64), actual.shape)
    if actual.ndim != 1 or actual.size == 0 or predicted.shape != actual.shape:
        raise ValueError(
            "`actual` and `predicted` must be non-empty and of one shape (num_rows,). "
            f"Received: {actual.shape} and {predicted.shape}."
        )
    if not np.isfinite(actual + predicted + known).all():
        raise ValueError(
            "`actual`, `predicted` and `persistence` must be finite. Received: NaN or "
            "infinity. Drop rows without a target before scoring."
        )
    error, naive = actual - predicted, actual - known
    spread = float(np.square(actual - actual.mean()).sum())
    moved = naive != 0
    same_sign = np.sign(predicted - known)[moved] == np.sign(naive)[moved]
    mse, naive_mse = float(np.square(error).mean()), float(np.square(naive).mean())
    mae, naive_mae = float(np.abs(error).mean()), float(np.abs(naive).mean())
    scores = {
        "num_samples": len(actual),
        "mae": mae,
        "rmse": mse**0.5,
        "r2": 1.0 - float(np.square(error).sum()) / spread if spread > 0 else None,
        "sign_accuracy": float(same_sign.mean()) if moved.any() else None,
        "mae_persistence": naive_mae,
        "rmse_persistence": naive_mse**0.5,
        "skill_mae_vs_persistence": 1.0 - mae / naive_mae if naive_mae > 0 else None,
        "skill_mse_vs_persistence": 1.0 - mse / naive_mse if naive_mse > 0 else None,
    }
    if is_price:
        is_positive = (actual > 0).all()
        percent = 100.0 * float(np.abs(error / actual).mean()) if is_positive else None
        scores["mape_pct"] = percent
    return scores


def _clipped_log(values: np.ndarray) -> np.ndarray:
    return np.log(np.clip(values, EPSILON, 1.0 - EPSILON))
