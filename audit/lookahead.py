"""What candles prove: feature functions that read a later bar, files that are others.

In: feature functions on truncated tables, a file's rows against those that its candles
give. Out: filled bars (`gap_fills`), what can be told without candles (`column_skill`,
`label_timing`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import numpy as np
import pandas as pd

import utils
from audit.findings import (
    LEAK,
    LOOKS_AHEAD,
    NO_CANDLES,
    NO_FUNCTION,
    NOT_DONE,
    OTHER_FEATURES,
    PASSED,
    Finding,
)
from candles.timestamps import nanoseconds_of
from config import Config
from data_loader import TrainingData
from dataset import blocks, features
from dataset import rows as dataset_rows
from dataset.feature_sets import FeatureContext
from settings.label_fields import LabelFields
from utils import DataError

FeatureTable = Callable[[pd.DataFrame], pd.DataFrame]
"""Candles -> feature columns, one row a candle."""

MAX_BARS = 200_000
"""Bars of the table that is truncated: the newest. Bounds the time."""

_NUM_CUTS = 12
_SHOWN = 4

# What a truncated table shows


def check_look_back(
    candles: pd.DataFrame, compute: FeatureTable, *, seed: int = 0
) -> Finding:
    """Computes features on truncated tables and demands equality to the bit.

    Row `t` of a feature that looks back alone is the same whether or not bars after `t`
    exist. Tables end at bars drawn at random, before the last bar of segments, and
    before filled bars, where a function may reach for the next real one.

    Args:
        candles: Candle table `(num_bars,)`, gaps filled.
        compute: The feature functions.
        seed: Seed of the bars.

    Returns:
        A leak names the columns and how many bars ahead they read at least.
    """
    whole = compute(candles)
    known = np.isfinite(whole.to_numpy(np.float64)).all(axis=1)
    ends = _last_rows(candles, known, seed=seed)
    if not len(ends):
        return Finding(
            check=LOOKS_AHEAD,
            outcome=NOT_DONE,
            what=f"no row of {len(candles):,} candles has every feature",
        )
    if unsteady := list(_changed_rows(whole, compute(candles))):
        return Finding(
            check=LOOKS_AHEAD,
            outcome=NOT_DONE,
            what=f"{', '.join(unsteady[:_SHOWN])}: other values at each call, nothing "
            "can be compared. Seed the function",
        )
    reach: dict[str, int] = {}
    everywhere = set()
    for end in ends.tolist():
        part = compute(candles.iloc[: end + 1])
        for name, rows in _changed_rows(whole, part).items():
            reach[name] = max(reach.get(name, 0), end + 1 - int(rows[0]))
            if len(rows) > 0.9 * np.count_nonzero(known[: end + 1]):
                everywhere.add(name)
    columns = utils.counted(whole.shape[1], "column", "columns")
    passed = (
        f"{columns} of {len(candles):,} candles, computed again on {len(ends)} "
        "truncated tables: equal to the bit"
    )
    return Finding(
        check=LOOKS_AHEAD,
        outcome=LEAK if reach else PASSED,
        what=_describe_reach(reach, everywhere) or passed,
        evidence={
            "num_bars": len(candles),
            "num_columns": whole.shape[1],
            "num_truncations": len(ends),
            "bars_ahead": reach,
        },
        columns=tuple(reach),
    )


def _changed_rows(whole: pd.DataFrame, part: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns, by column, the rows of `part` with other bits than in `whole`."""
    changed = {}
    for j, name in enumerate(whole.columns):
        long, short = whole.iloc[: len(part), j].to_numpy(), part.iloc[:, j].to_numpy()
        rows = np.flatnonzero((long != short) & ~(_is_nan(long) & _is_nan(short)))
        if len(rows):
            changed[str(name)] = rows
    return changed


def _describe_reach(reach: Mapping[str, int], everywhere: Set[str]) -> str:
    words = [
        f"{name} is computed over the whole table (a mean, a scaler, a rank of all "
        "rows?)"
        if name in everywhere
        else f"{name} reads at least {utils.counted(bars, 'bar', 'bars')} ahead"
        for name, bars in reach.items()
    ]
    words[_SHOWN:] = [f"{len(words) - _SHOWN} more columns"] * (len(words) > _SHOWN)
    return "; ".join(words)


def check_feature_sets(
    candles: pd.DataFrame, config: Config, *, seed: int = 0
) -> Finding:
    """Runs `check_look_back` on the feature sets of a configuration, joins included.

    Args:
        candles: Bars of the configuration's timeframe, gaps filled.
        config: Feature sets, timeframes.
        seed: Seed of the truncations.

    Raises:
        DataError: If a set breaks its contract otherwise than by looking ahead.
    """
    size = max(MAX_BARS, 2 * blocks.warm_up_bars(config))
    candles = candles.iloc[-size:].reset_index(drop=True)
    compute = functools.partial(blocks.compute_features, config=config)
    try:
        return check_look_back(candles, compute, seed=seed)
    except DataError:
        # A set without values at a segment's end is refused there, before it can be
        # compared; its bare function tells why they are missing.
        bare = functools.partial(_bare_features, config=config)
        finding = check_look_back(_longest_segment(candles), bare, seed=seed)
        if finding.outcome != LEAK:
            raise
        return finding


def _bare_features(segment: pd.DataFrame, config: Config) -> pd.DataFrame:
    context = FeatureContext(config.timeframe, config.raw_prices)
    sets = features.find_feature_sets(config.feature_sets)
    tables = [pd.DataFrame(item.compute(segment, context)) for item in sets]
    return pd.concat(tables, axis=1)


def _longest_segment(candles: pd.DataFrame) -> pd.DataFrame:
    longest = candles["segment"].value_counts().index[0]
    return candles[candles["segment"] == longest].reset_index(drop=True)


def _last_rows(candles: pd.DataFrame, known: np.ndarray, *, seed: int) -> np.ndarray:
    """Returns the (num_truncations,) last rows of the tables, ascending."""
    inside = np.flatnonzero(known[:-1])  # a table that ends at the last row is whole
    rng = np.random.Generator(np.random.PCG64(seed))
    places = []
    if "segment" in candles:
        segment = candles["segment"].to_numpy()
        is_last = np.append(segment[1:] != segment[:-1], True)
        places.append(np.flatnonzero(is_last[1:] & known[:-1]))
    if "is_filled" in candles:
        is_filled = candles["is_filled"].to_numpy(bool)
        places.append(np.flatnonzero(is_filled[1:] & known[:-1]))
    chosen = [rng.permutation(rows)[: _NUM_CUTS // 4] for rows in places]
    anywhere = _NUM_CUTS - sum(map(len, chosen))
    return np.unique(np.concatenate([*chosen, rng.permutation(inside)[:anywhere]]))


def _is_nan(values: np.ndarray) -> np.ndarray:
    return np.isnan(values.astype(np.float64, copy=False))


# What the candles of a file give for its rows


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
    known = ~_is_nan(theirs)
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
