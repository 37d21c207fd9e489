"""The features of every timeframe, side by side: which there are, and how far back.

In: a configuration's blocks of columns, their names, their values on filled bars. Out:
one set on one table (`features`), which higher bar a row knows (`timeframes`), the rows
that are kept (`rows`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

import utils
from config import Config
from dataset import features, timeframes
from dataset.columns import NOT_FEATURES
from utils import ConfigError, DataError


class Block(NamedTuple):
    """Columns that have their values in the same rows."""

    timeframe: str
    feature_sets: tuple[str, ...]
    suffix: str

    def names(self, config: Config) -> tuple[str, ...]:
        """Returns its columns, in order."""
        found = features.feature_names(
            self.feature_sets, self.timeframe, raw_prices=config.raw_prices
        )
        return tuple(f"{name}{self.suffix}" for name in found)


def blocks_of(config: Config, feature_sets: Sequence[str] = ()) -> list[Block]:
    """Returns the blocks of a configuration, in the order of their columns.

    A set of the clock alone is computed once: a longer bar closes at no other time.
    `feature_sets` are others than those of the configuration.

    Raises:
        ConfigError: If a set is unknown, or there is no column at all.
    """
    sets = tuple(feature_sets) or config.feature_sets
    own = Block(config.timeframe, sets, "")
    market = tuple(
        item.name for item in features.find_feature_sets(sets) if item.reads_market
    )
    higher = [Block(each, market, f"_{each}") for each in config.higher_timeframes]
    blocks = [own, *(higher if market else [])]
    found = [block for block in blocks if block.names(config)]
    if not found:
        raise ConfigError(
            f"feature_sets: expected a set with a column at {config.timeframe}. "
            f"Received: {', '.join(sets)}"
        )
    return found


def feature_names(config: Config) -> tuple[str, ...]:
    """Returns the columns of `compute_features`, in order, without any data."""
    blocks = blocks_of(config)
    return tuple(name for block in blocks for name in block.names(config))


def compute_features(
    filled: pd.DataFrame, config: Config, *, newest: int | None = None
) -> pd.DataFrame:
    """Returns the feature columns of every bar, or of the `newest` ones.

    NaN where a bar has no value yet. Those of a higher timeframe are of its last bar
    that closed, named `{name}_{1h}`.
    """
    asked = filled if newest is None else filled.iloc[-newest:]
    found = []
    for block in blocks_of(config):
        compute = functools.partial(
            features.compute_features,
            timeframe=block.timeframe,
            feature_sets=block.feature_sets,
            raw_prices=config.raw_prices,
        )
        if not block.suffix:
            found.append(compute(filled, newest=newest))
            continue
        higher = block.timeframe
        bars = timeframes.higher_candles(filled, config.timeframe, higher)
        # At each bar a higher one may close, and the last may have closed before.
        table = compute(bars, newest=newest and newest + 1)
        table.insert(0, "timestamp", bars["timestamp"])
        found.append(
            timeframes.join_higher_timeframe(
                asked, table, timeframe=config.timeframe, higher_timeframe=higher
            )
        )
    table = found[0] if len(found) == 1 else pd.concat(found, axis=1)
    if reserved := NOT_FEATURES.intersection(table.columns):
        raise DataError(
            "expected feature names that a training file does not use itself. "
            f"Received: {', '.join(sorted(reserved))}. Rename them in the feature set."
        )
    return table


def has_value(feature_table: pa.Table, config: Config) -> np.ndarray:
    """Returns (num_bars,) whether a bar has every feature.

    The columns of one block have their values in the same rows: one is looked at.
    """
    known, first = np.ones(feature_table.num_rows, bool), 0
    for block in blocks_of(config):
        known &= np.isfinite(feature_table.column(first).to_numpy())
        first += len(block.names(config))
    return known


def warm_up_bars(config: Config, feature_sets: Sequence[str] = ()) -> int:
    """Returns the bars a segment needs before its first value of every feature.

    `feature_sets` are others than those of the configuration.
    """
    needed = []
    for block in blocks_of(config, feature_sets):
        bars = features.warm_up_bars(block.feature_sets, block.timeframe)
        ratio = utils.duration_seconds(block.timeframe) // config.bar_seconds
        needed.append((bars + 1) * ratio - 1)
    return max(needed)


def shorter_warm_ups(config: Config, num_bars: int) -> dict[str, int]:
    """Returns the warm-up of each feature set that needs fewer bars, longest first.

    Joined with the higher timeframes of the configuration; a set of the clock alone
    stands for no other.
    """
    names = [
        item.name
        for item in features.find_feature_sets(features.feature_set_names())
        if item.reads_market
    ]
    needed = {name: warm_up_bars(config, (name,)) for name in names}
    names = sorted(needed, key=needed.__getitem__, reverse=True)
    return {name: needed[name] for name in names if needed[name] < num_bars}
