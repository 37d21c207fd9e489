"""What candles prove: feature functions that read a later bar.

In: feature functions on truncated tables. Out: a file's rows against those that its
candles give (`recomputed`), filled bars (`gap_fills`), what can be told without candles
(`column_skill`, `label_timing`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Set

import numpy as np
import pandas as pd

import utils
from audit.findings import (
    LEAK,
    LOOKS_AHEAD,
    NOT_DONE,
    PASSED,
    Finding,
)
from candles.columns import EXTRAS
from config import Config
from dataset import blocks, features
from dataset.context import join_context
from dataset.feature_sets import FeatureContext
from utils import DataError

FeatureTable = Callable[[pd.DataFrame], pd.DataFrame]
"""Candles -> feature columns, one row a candle."""

MAX_BARS = 200_000
"""Bars of the table that is truncated: the newest. Bounds the time."""

_NUM_CUTS = 12
_OTHERWISE = {"open": 1.3, "high": 2.5, "low": 0.6, "close": 1.7, "volume": 3.0}
"""What candles of a context pair become after a table's end, times what they are."""
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
        rows = np.flatnonzero((long != short) & ~(is_nan(long) & is_nan(short)))
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
    candles: pd.DataFrame,
    config: Config,
    *,
    others: Mapping[str, pd.DataFrame] | None = None,
    seed: int = 0,
) -> Finding:
    """Runs `check_look_back` on the feature sets of a configuration, joins included.

    Candles of context pairs are not cut where the table ends, but others from there on:
    no row may know them.

    Args:
        candles: Bars of the configuration's timeframe, gaps filled.
        config: Feature sets, timeframes, context pairs.
        others: Candle tables of context pairs.
        seed: Seed of the truncations.

    Raises:
        DataError: If a set breaks its contract otherwise than by looking ahead.
    """
    size = max(MAX_BARS, 2 * blocks.warm_up_bars(config))
    candles = candles.iloc[-size:].reset_index(drop=True)
    compute = functools.partial(_compute, config=config, others=others or {})
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


def _compute(
    candles: pd.DataFrame, config: Config, others: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Returns features beside context pairs that are others after the last bar."""
    changed = {}
    for pair, table in others.items():
        end = candles["timestamp"].iloc[-1]
        if pair in EXTRAS:
            end += pd.Timedelta(config.bar_seconds, "s")
            later = np.where(table["timestamp"] > end, 1.7, 1.0) * table[pair]
            changed[pair] = table.assign(**{pair: later})
            continue
        is_later = table["timestamp"] > end
        changed[pair] = table.assign(
            **{
                name: np.where(is_later, factor * table[name], table[name])
                for name, factor in _OTHERWISE.items()
            }
        )
    joined = join_context(candles, changed, config.timeframe)
    return blocks.compute_features(joined, config)


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


def is_nan(values: np.ndarray) -> np.ndarray:
    """Returns which values are none (num_values,)."""
    return np.isnan(values.astype(np.float64, copy=False))
