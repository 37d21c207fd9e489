"""What the candles of a file give for its rows, against what the file has there.

In: features and outcomes made anew, columns that are others than their functions say.
Out: whether the functions look back alone (`lookahead`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

import utils
from audit.findings import (
    LEAK,
    NO_CANDLES,
    NO_FUNCTION,
    NOT_DONE,
    OTHER_FEATURES,
    PASSED,
    Finding,
)
from audit.lookahead import is_nan
from candles.timestamps import nanoseconds_of
from config import Config
from data_loader import TrainingData
from dataset import blocks
from dataset import rows as dataset_rows
from settings.label_fields import LabelFields
from utils import DataError

_SHOWN = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Recomputed:
    """What candles give for the rows of a file.

    Args:
        rows: Rows of the file that have a bar (num_common,).
        is_filled: Whether that bar was filled (num_common,).
        close: Its close, the last one carried forward where it was filled
            (num_common,).
        features: Feature columns of those bars (num_common, num_features); NaN where
            one has no value.
        outcomes: Class ids, or log returns where the target is a number, of all rows
            of the file (num_rows,); NaN where none is known.
    """

    rows: np.ndarray
    is_filled: np.ndarray
    close: np.ndarray
    features: pd.DataFrame
    outcomes: np.ndarray


def recompute(
    data: TrainingData,
    candles: pd.DataFrame,
    config: Config,
    *,
    has_features: bool = True,
) -> Recomputed:
    """Computes features and outcomes of a file's rows anew.

    Args:
        data: The file's rows, features not scaled.
        candles: Bars of the configuration's timeframe, gaps filled.
        config: Features and target.
        has_features: Whether features are wanted, or outcomes alone.

    Raises:
        DataError: If these are not the candles of the file.
    """
    bars, rows = nanoseconds_of(candles["timestamp"]), data.timestamps.astype(np.int64)
    at = np.minimum(np.searchsorted(bars, rows), len(bars) - 1)
    common = np.flatnonzero(bars[at] == rows)
    at = at[common]
    if not len(common):
        raise DataError(
            "expected the candles of the file. Received: none at any of its times, "
            f"{data.timestamps[0]} to {data.timestamps[-1]}. Check the files."
        )
    close = candles["close"].to_numpy(np.float64)[at]
    is_filled = candles["is_filled"].to_numpy(bool)[at]
    if "close" in data.outcomes:
        ours = data.outcomes["close"][common]
        wrong = np.flatnonzero(~np.isclose(ours, close, rtol=1e-6, atol=0) & ~is_filled)
        if len(wrong) > 0.01 * len(common):
            first = common[wrong[0]]
            raise DataError(
                "expected the candles of the file. Received: others; the close differs "
                f"in {len(wrong):,} of {len(common):,} rows, first at "
                f"{data.timestamps[first]}: {ours[wrong[0]]} in the file, "
                f"{close[wrong[0]]} in the candles. Check the files and the timeframe."
            )
    outcomes = np.full(data.num_rows, np.nan)
    outcomes[common] = _outcomes(candles, config)[at]
    table = pd.DataFrame(index=candles.index)
    if has_features:
        table = blocks.compute_features(candles, config)
    return Recomputed(
        rows=common,
        is_filled=is_filled,
        close=close,
        features=table.iloc[at].reset_index(drop=True),
        outcomes=outcomes,
    )


def _outcomes(candles: pd.DataFrame, config: LabelFields) -> np.ndarray:
    """Returns class ids or log returns of all bars (num_bars,), NaN without one."""
    table = dataset_rows.compute_outcomes(candles, config)
    if "label" in table:
        ids = table["label"].to_numpy(np.float64)
        return np.where(ids >= 0, ids, np.nan)
    values = table["target"].to_numpy(np.float64)
    if config.target == "price":
        values = np.log(values / candles["close"].to_numpy(np.float64))
    return values


_LATER_BARS = 120
_OF_SPREAD = 1e-3  # of the middle half of a column; rounding and a scaler's rounding
_SAMPLED_ROWS = 20_000


def uncovered_rows(data: TrainingData, again: Recomputed) -> Finding:
    """Returns that rows of the file have no candle: nothing was compared there."""
    missing = np.setdiff1d(np.arange(data.num_rows), again.rows)
    first, last = data.timestamps[missing[[0, -1]]]
    return Finding(
        check=NO_CANDLES,
        outcome=NOT_DONE,
        what=f"{len(missing):,} of {data.num_rows:,} rows, {first} to {last}, have no "
        "candle among those given: neither columns nor labels were compared there",
        evidence={"num_rows": len(missing)},
    )


def check_features(data: TrainingData, again: Recomputed) -> list[Finding]:
    """Compares a file's columns with what their functions give for its candles.

    Only then does it follow from functions that look back that the file does. Equal is
    equal to rounding, up to a factor and an offset: a column may be scaled.

    Args:
        data: The file's rows, features not scaled.
        again: What the candles give.

    Returns:
        What became of columns with a function, and those without one: not done.
    """
    shared = [name for name in data.feature_names if name in again.features]
    other = [name for name in data.feature_names if name not in again.features]
    found = []
    if other:
        found = [
            Finding(
                check=NO_FUNCTION,
                outcome=NOT_DONE,
                what=f"cannot be recomputed: {', '.join(other)}",
                columns=tuple(other),
            )
        ]
    if not shared:
        return found
    wrong = {}
    for name in shared:
        ours = data.features[again.rows, data.feature_names.index(name)]
        theirs = again.features[name].to_numpy()
        if count := _num_different(ours, theirs):
            wrong[name] = (count, _later_bar(ours, theirs))
    compared = Finding(
        check=OTHER_FEATURES,
        outcome=LEAK if wrong else PASSED,
        what=_difference(shared, wrong, num_rows=len(again.rows)),
        evidence={"num_rows": len(again.rows), "columns": shared, "different": wrong},
        columns=tuple(wrong),
    )
    return [compared, *found]


def _difference(
    shared: list[str], wrong: Mapping[str, tuple[int, int | None]], *, num_rows: int
) -> str:
    """Returns in which rows, or to which later bar, columns differ from candles."""
    again = "computed again from the candles:"
    if not wrong:
        columns = utils.counted(len(shared), "column", "columns")
        return f"{columns} of {num_rows:,} rows, {again} equal"
    words = [
        f"{name} is that of row t+{later}"
        if later
        else f"{name} differs in {n:,} row{'s' * (n != 1)}"
        for name, (n, later) in list(wrong.items())[:_SHOWN]
    ]
    words += [f"{len(wrong) - _SHOWN} more columns"] * (len(wrong) > _SHOWN)
    return (
        f"{', '.join(words)} of {num_rows:,}, {again} what the functions prove does "
        "not hold for the file. Build it again"
    )


def _num_different(ours: np.ndarray, theirs: np.ndarray) -> int:
    """Returns the rows in which two columns differ, up to a factor and an offset."""
    known = ~is_nan(theirs)
    ours, theirs = ours[known].astype(np.float64), theirs[known].astype(np.float64)
    if not len(ours):
        return 0
    count = _num_far(ours, theirs)
    if count > len(ours) // 2:
        low, high = np.argsort(theirs)[[len(theirs) // 10, -1 - len(theirs) // 10]]
        span = theirs[high] - theirs[low]
        factor = (ours[high] - ours[low]) / span if span else 0.0
        if factor > 0:
            scaled = ours[low] + factor * (theirs - theirs[low])
            # Scaled columns may be clipped, too.
            inside = (scaled >= ours.min()) & (scaled <= ours.max())
            return min(count, _num_far(ours[inside], scaled[inside]))
    return count


def _num_far(ours: np.ndarray, theirs: np.ndarray) -> int:
    low, high = np.percentile(theirs, [25, 75])
    tolerance = _OF_SPREAD * float(high - low or theirs.std())
    return int(np.count_nonzero(~np.isclose(ours, theirs, rtol=1e-6, atol=tolerance)))


def _later_bar(ours: np.ndarray, theirs: np.ndarray) -> int | None:
    """Returns the `k > 0` for which row `t` has the value of row `t + k`."""
    ours, theirs = ours[-_SAMPLED_ROWS:], theirs[-_SAMPLED_ROWS:]
    for later in range(1, min(_LATER_BARS, len(ours) // 2) + 1):
        # A few rows at gaps have no such bar.
        if _num_different(ours[:-later], theirs[later:]) <= len(ours) // 100:
            return later
    return None
