"""What parts of a split share, and which rows a fitted value saw.

In: shared bars of parts and folds, scalers, priors and samples of a training. Out:
splitting and fitting themselves (`preprocessing.splits`, `data_loader`), the choice of
checks (`run`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

import utils
from audit.findings import (
    BEYOND_TRAIN,
    LEAK,
    PASSED,
    SCALED_FILE,
    UNPURGED_SPLIT,
    Finding,
)
from config import Config
from data_loader import TrainingData
from preprocessing.inheritance import STEPS_LEARNED_UNTIL
from preprocessing.parts import fold_ranges, spans_of
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.scaling import FeatureScaler
from preprocessing.shared_bars import count_shared_bars

Splits = Mapping[str, Mapping[str, np.ndarray]]
"""Name of a split -> name of a part -> its target rows (num_targets,)."""

_SHOWN = 4

# Splits


def check_shared_bars(
    splits: Splits, *, window_bars: int, future_window: int
) -> Finding:
    """Counts the bars that parts of one split share.

    Args:
        splits: Target rows of every part of every split, such as those of
            `split_targets` or the folds of another splitter.
        window_bars: Rows that a target's window reads.
        future_window: Bars that a target's label looks ahead.
    """
    shared = {}
    num_pairs = 0
    for split, parts in splits.items():
        for first, second in itertools.combinations(parts, 2):
            num_pairs += 1
            count = count_shared_bars(
                parts[first],
                parts[second],
                window_bars=window_bars,
                future_window=future_window,
            )
            if count:
                shared[f"{split}: {first} and {second}"] = count
    of_splits = utils.counted(len(splits), "split", "splits")
    passed = f"0 bars shared in {num_pairs} pairs of parts of {of_splits}"
    words = [f"{pair} share {count:,} bars" for pair, count in shared.items()]
    words[_SHOWN:] = [f"{len(words) - _SHOWN} more pairs"] * (len(words) > _SHOWN)
    left_out = window_bars + future_window - 1
    cure = (
        f"Leave out {left_out} targets at each border (window {window_bars} + label "
        f"{future_window} - 1)"
    )
    return Finding(
        check=UNPURGED_SPLIT,
        outcome=LEAK if shared else PASSED,
        what=f"{'; '.join(words)}. {cure}" if shared else passed,
        evidence={"num_pairs": num_pairs, "shared_bars": shared},
    )


def split_targets(data: TrainingData, config: Config) -> Splits:
    """Returns the targets of the run's parts and, where there are folds, of theirs.

    A fold is held against the run's test part, too. Its targets are every row whose
    window and label fit; those of a training are among them.
    """
    final = {name: part.targets for name, part in data.parts.items()}
    splits: dict[str, Mapping[str, np.ndarray]] = {"run": final}
    window, future = data.window_bars, data.future_window
    for number, ranges in enumerate(fold_ranges(data.timeline, config), 1):
        parts = {
            name: np.concatenate(
                [
                    np.arange(start + window - 1, stop - future)
                    for start, stop in spans_of(rows)
                ]
            )
            for name, rows in ranges.items()
        }
        splits[f"fold {number}"] = parts | {"the run's test": final["test"]}
    return splits


# What was fitted

_CENTRED = 1e-4  # float32 values, summed in float64


def check_fitted_on_train(
    data: TrainingData, raw: TrainingData | None = None
) -> Finding:
    """Asks whether scaler, clipping, class prior and undersampling saw train only.

    Args:
        data: What a training reads.
        raw: The same rows, neither scaled nor balanced: the scaler is then fitted again
            and must be equal to the bit. None looks whether the scaled training rows
            are centred, which tells as much to four digits.
    """
    train = data.parts["train"]
    faults = _scaler_faults(data, raw)
    if not np.isin(data.train_targets, train.targets).all():
        faults.append("rows outside the training part are trained on")
    faults += _target_faults(data)
    if raw is not None:
        faults += [
            f"{name} was thinned: {len(data.parts[name].targets):,} of "
            f"{len(part.targets):,} targets"
            for name, part in raw.parts.items()
            if not np.array_equal(part.targets, data.parts[name].targets)
        ]
    rows = f"{data.scaler.num_rows:,} training rows"
    how = f"of {rows}: they are centred"
    if STEPS_LEARNED_UNTIL in data.source:
        how = f"of {rows} of a model that it builds on: all before validation"
    elif raw is not None:
        how = f"fitted again on {rows}: equal to the bit"
    learned = "target scaler" if data.target_scaler else "class prior"
    passed = (
        f"scaler ({data.scaler.kind}) {how}; {learned} and "
        f"{len(data.train_targets):,} trained targets are of train"
    )
    return Finding(
        check=BEYOND_TRAIN,
        outcome=LEAK if faults else PASSED,
        what="; ".join(faults) or passed,
        evidence={"scaler_rows": data.scaler.num_rows, "faults": faults},
    )


def _target_faults(data: TrainingData) -> list[str]:
    """Looks at what was learned from labels, or from the values of a regression."""
    targets = data.parts["train"].targets
    if data.values is None or data.target_scaler is None:
        if np.array_equal(data.class_prior, data.label_shares(targets)):
            return []
        return ["the class prior is not that of the training part"]
    if data.own_mean is not None:
        return []  # units are those of all pooled pairs
    values = data.values[targets].astype(np.float64)
    is_own = data.target_scaler.num_rows == len(targets)
    if is_own and abs(values.mean()) < _CENTRED and abs(values.std() - 1) < _CENTRED:
        return []
    return ["the target's scaler is not that of the training part"]


def _scaler_faults(data: TrainingData, raw: TrainingData | None) -> list[str]:
    train, scaler, pipeline = data.parts["train"], data.scaler, data.pipeline
    rows = slice(train.start, train.stop)
    if STEPS_LEARNED_UNTIL in data.source:
        fitted = np.datetime64(data.source[STEPS_LEARNED_UNTIL].removesuffix("Z"))
        is_before = fitted < data.timeline.at(data.parts["validation"].start)
        return ["steps taken over were fitted to validation"] * (not is_before)
    if raw is None:
        num_rows = train.stop - train.start
        if scaler.num_rows != num_rows:
            return [f"the scaler saw {scaler.num_rows:,} rows, train has {num_rows:,}"]
        columns = _not_centred(data, rows)
        return [f"the scaler of {columns} is not that of the training rows"] * bool(
            columns
        )
    if _fits(raw.features[rows], pipeline):
        if np.array_equal(pipeline.scaled(raw.features), data.features):
            return []
        return ["features are not what the scaler makes of the file: clipped otherwise"]
    until = data.parts["validation"].stop
    if _fits(raw.features, pipeline):
        return ["the scaler was fitted on every row, validation and test included"]
    if _fits(raw.features[:until], pipeline):
        return ["the scaler was fitted on train and validation"]
    return ["the scaler is not that of the training rows"]


def _fits(values: np.ndarray, pipeline: PreprocessingPipeline) -> bool:
    again, own = pipeline.fit(values).scaler, pipeline.scaler
    return (again.center, again.scale) == (own.center, own.scale)


_COLUMNS_LOOKED_AT = 8  # all were fitted on the same rows


def _not_centred(data: TrainingData, rows: slice) -> str:
    """Returns the columns whose scaled training rows have another centre or scale."""
    scaler, found = data.scaler, []
    for j in range(min(data.num_features, _COLUMNS_LOOKED_AT)):
        column = data.features[rows, j : j + 1]
        # Clipping moves means; quartiles are inside of it.
        by_quartiles = scaler.kind == "robust" and scaler.clip_limit >= 1
        if not by_quartiles and np.abs(column).max() >= scaler.clip_limit:
            continue
        name = scaler.feature_names[j]
        again = FeatureScaler.fit(column, [name], kind=scaler.kind, clip_limit=1.0)
        if abs(again.center[0]) > _CENTRED or abs(again.scale[0] - 1) > _CENTRED:
            found.append(name)
    return ", ".join(found)


# Columns that were scaled before they came here

_ROUNDING = 1e-5  # of float32 columns, summed in float64
_OTHERWISE = 1e-3


def check_scaled_file(raw: TrainingData) -> Finding:
    """Looks for columns that were scaled with statistics of later rows.

    A scaler leaves a trace: mean 0 and deviation 1, median 0 and quartile range 1, or
    minimum and maximum 0 and 1, to the last digits, over the rows that it was fitted
    on. Over all rows, or all before the test, and not over the training rows: it was
    fitted before the split.

    Args:
        raw: The file's rows, features not scaled or not clipped.
    """
    train, until = raw.parts["train"], raw.parts["test"].start
    spans = {"every row": raw.num_rows, "train and validation": until}
    found: dict[str, dict[str, str]] = {}
    for j, name in enumerate(raw.feature_names):
        column = _unscaled(raw, j)
        own = column[train.start : train.stop]
        for span, stop in spans.items():
            trace = _scaler_trace(column[:stop], own)
            if trace is not None:
                found.setdefault(f"{trace} over {span}", {})[name] = span
                break
    words = []
    for trace, columns in found.items():
        names = list(columns)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        words.append(f"{', '.join(names[:_SHOWN])}{more}: {trace}")
    passed = f"no column of {raw.num_features} has a scaler's trace over later rows"
    return Finding(
        check=SCALED_FILE,
        outcome=LEAK if words else PASSED,
        what=f"{'; '.join(words)}, but not over train" if words else passed,
        evidence={trace: list(columns) for trace, columns in found.items()},
        columns=tuple(name for columns in found.values() for name in columns),
    )


def _unscaled(data: TrainingData, j: int) -> np.ndarray:
    """Returns a column as the file has it (num_rows,), clipped where it was."""
    scaler, column = data.scaler, data.features[:, j].astype(np.float64)
    if scaler.kind == "none":
        return column
    return column * scaler.scale[j] + scaler.center[j]


def _scaler_trace(column: np.ndarray, own: np.ndarray) -> str | None:
    """Returns the statistics that are a scaler's over `column` and not over `own`."""
    deviation = float(column.std())
    sample = deviation * (len(column) / max(1, len(column) - 1)) ** 0.5
    if abs(column.mean()) < _ROUNDING and (
        min(abs(deviation - 1), abs(sample - 1)) < _ROUNDING
    ):
        is_other = abs(own.mean()) > _OTHERWISE or abs(own.std() - 1) > _OTHERWISE
        return "mean 0 and deviation 1" if is_other else None
    low, high = float(column.min()), float(column.max())
    # A column that is bounded by itself, a flag or an oscillator, is often at a bound.
    is_once = all((column == bound).sum() == 1 for bound in (low, high))
    if high == 1 and low in (0, -1) and is_once:
        is_other = own.min() > low or own.max() < high
        return f"minimum {low:g} and maximum 1" if is_other else None
    few = column[:: max(1, len(column) // 10_000)]
    if abs(np.median(few)) < 0.1 and abs(np.subtract(*_quartiles(few)) + 1) < 0.2:
        if _is_robustly_scaled(column, _ROUNDING):
            is_other = not _is_robustly_scaled(own, _OTHERWISE)
            return "median 0 and quartile range 1" if is_other else None
    return None


def _quartiles(values: np.ndarray) -> np.ndarray:
    return np.percentile(values, [25, 75])


def _is_robustly_scaled(values: np.ndarray, tolerance: float) -> bool:
    width = -np.subtract(*_quartiles(values))
    return abs(np.median(values)) < tolerance and abs(width - 1) < tolerance
