"""Features of every timeframe and pair, side by side: which there are, how far back.

In: a configuration's blocks of columns, their names, their values on filled bars. Out:
one set on one table (`features`), which higher bar a row knows (`timeframes`), which
bar of another pair (`context`), the rows that are kept (`rows`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

import utils
from candles.columns import EXTRAS, extra_columns
from config import Config
from dataset import context, features, timeframes
from dataset.columns import NOT_FEATURES
from utils import ConfigError, DataError


class Block(NamedTuple):
    """Columns that have their values in the same rows."""

    timeframe: str
    feature_sets: tuple[str, ...]
    suffix: str
    pair: str | None = None
    """Another pair, whose bars they are of."""
    extras: tuple[str, ...] = ()
    """Columns that not every row has, and that they read."""

    def names(self, config: Config) -> tuple[str, ...]:
        """Returns its columns, in order."""
        found = features.feature_names(
            self.feature_sets, self.timeframe, raw_prices=config.raw_prices
        )
        return tuple(f"{name}{self.suffix}" for name in found)


def blocks_of(config: Config, feature_sets: Sequence[str] = ()) -> list[Block]:
    """Returns the blocks of a configuration, in the order of their columns.

    What reads more than prices is computed once: a longer bar, or one of another pair,
    closes at no other time and with no other rate. `feature_sets` are others than those
    of the configuration.

    Raises:
        ConfigError: If a set is unknown, there is no column at all, or none of the
            pairs that are asked for.
    """
    asked = _asked_blocks(config, feature_sets)
    found = [block for block in asked if block.names(config)]
    if not found:
        raise ConfigError(
            f"feature_sets: expected a set with a column at {config.timeframe}. "
            f"Received: {', '.join(feature_sets or config.feature_sets)}"
        )
    return found


def _asked_blocks(config: Config, feature_sets: Sequence[str]) -> list[Block]:
    """Returns `blocks_of`, of sets without a column, too.

    To name columns the set is computed, which may need a library that is not there.
    """
    sets = tuple(feature_sets) or config.feature_sets
    found = features.find_feature_sets(sets)
    market = tuple(item.name for item in found if item.reads_prices)
    if config.context_pairs and not market and not feature_sets:
        raise ConfigError(
            "context_pairs: expected a set of prices among feature_sets, such as ray12."
            f" Received: {', '.join(sets)}"
        )
    plain = tuple(item.name for item in found if not item.extras)
    blocks = [Block(config.timeframe, plain, "")]
    blocks += [
        Block(config.timeframe, (item.name,), "", extras=item.extras)
        for item in found
        if item.extras
    ]
    for pair in (None, *config.context_pairs):
        end = "" if pair is None else context.suffix_of(pair)
        if pair is not None:
            blocks.append(Block(config.timeframe, market, end, pair))
        for higher in config.higher_timeframes:
            blocks.append(Block(higher, market, f"_{higher}{end}", pair))
    return [block for block in blocks if block.feature_sets]


def beside_columns(config: Config) -> tuple[str, ...]:
    """Returns the candle columns that a configuration needs beside prices, in order."""
    extras = (name for block in blocks_of(config) for name in block.extras)
    return (*context.columns_of(config.context_pairs), *dict.fromkeys(extras))


def most_carried(config: Config) -> int:
    """Returns for how many rows a value of those columns stands at most."""
    names = (None, *(n for n in beside_columns(config) if n in EXTRAS))
    return max(context.most_carried(config, name) for name in names)


def require_beside(
    table: Mapping[str, Any] | pd.DataFrame | pd.Series, config: Config
) -> None:
    """Raises a `DataError` where candles lack what features read beside prices."""
    missing = [name for name in beside_columns(config) if name not in table]
    if missing and missing[0] in EXTRAS:
        name = missing[0]
        sets = [b.feature_sets[0] for b in blocks_of(config) if name in b.extras]
        raise DataError(
            f"expected candles with the column {name}, which the feature set "
            f"{sets[0]} reads. Received: none. Give candles that have it, or its "
            f"values with their times: {name}=FILE behind --context, or behind "
            "--audit-candles."
        )
    if missing:
        raise DataError(
            f"expected the candles of {', '.join(config.context_pairs)} beside those "
            f"of {config.pair}. Received: none in {', '.join(missing[:2])}, ... Give "
            f"them: context={{{config.context_pairs[0]!r}: candles}}, or "
            "--context PAIR=FILE."
        )


def feature_names(config: Config) -> tuple[str, ...]:
    """Returns the columns of `compute_features`, in order, without any data."""
    blocks = blocks_of(config)
    return tuple(name for block in blocks for name in block.names(config))


def compute_features(
    filled: pd.DataFrame, config: Config, *, newest: int | None = None
) -> pd.DataFrame:
    """Returns the feature columns of every bar, or of the `newest` ones.

    NaN where a bar has no value yet. Those of a higher timeframe are of its last bar
    that closed, named `{name}_{1h}`; those of another pair of its bar that closed with
    the row's, named `{name}_{BTCUSDT}`.

    Raises:
        DataError: If the bars of another pair are not beside them (`context`).
    """
    require_beside(filled, config)
    asked = filled if newest is None else filled.iloc[-newest:]
    own = filled.drop(columns=extra_columns(filled))
    others = {
        pair: context.context_candles(
            filled, pair, most_carried=context.most_carried(config)
        )
        for pair in config.context_pairs
    }
    found = []
    for block in blocks_of(config):
        bars = own if block.pair is None else others[block.pair]
        if block.extras:
            bars = context.rows_with(filled, block.extras, config)
        part = _compute(block, bars, config, first=asked.index[0], newest=newest)
        found.append(part if bars is own else part.reindex(asked.index))
    table = found[0] if len(found) == 1 else pd.concat(found, axis=1)
    if reserved := NOT_FEATURES.intersection(table.columns):
        raise DataError(
            "expected feature names that a training file does not use itself. "
            f"Received: {', '.join(sorted(reserved))}. Rename them in the feature set."
        )
    return table


def _compute(
    block: Block, bars: pd.DataFrame, config: Config, *, first: int, newest: int | None
) -> pd.DataFrame:
    """Returns a block's columns of the bars of an index from `first` on."""
    own, timeframe = config.timeframe, block.timeframe
    asked = bars[bars.index >= first] if newest is not None else bars
    if not len(asked):
        return pd.DataFrame(np.nan, asked.index, block.names(config), np.float32)
    compute = functools.partial(
        features.compute_features,
        timeframe=timeframe,
        feature_sets=block.feature_sets,
        raw_prices=config.raw_prices,
    )
    count = None if newest is None else len(asked)
    if timeframe == own:
        table = compute(bars, newest=count)
    else:
        higher = timeframes.higher_candles(bars, own, timeframe)
        # At each bar a higher one may close, and the last may have closed before.
        table = compute(higher, newest=count and count + 1)
        table.insert(0, "timestamp", higher["timestamp"])
        table = timeframes.join_higher_timeframe(
            asked, table, timeframe=own, higher_timeframe=timeframe
        )
    return table.set_axis(list(block.names(config)), axis=1)


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
    for block in _asked_blocks(config, feature_sets):
        bars = features.warm_up_bars(block.feature_sets, block.timeframe)
        ratio = utils.duration_seconds(block.timeframe) // config.bar_seconds
        needed.append((bars + 1) * ratio - 1)
    return max(needed)


def shorter_warm_ups(config: Config, num_bars: int) -> dict[str, int]:
    """Returns the warm-up of each feature set that needs fewer bars, longest first.

    Joined with the higher timeframes of the configuration; one that reads no prices
    stands for no other.
    """
    names = [
        item.name
        for item in features.find_feature_sets(features.feature_set_names())
        if item.reads_prices
    ]
    needed = {name: warm_up_bars(config, (name,)) for name in names}
    names = sorted(needed, key=needed.__getitem__, reverse=True)
    return {name: needed[name] for name in names if needed[name] < num_bars}
