"""Candles of other pairs: where they are, read, and put beside the pair's own.

In: files by pair, from the command line or beside the pair's own; how new they must be.
Out: which bar a row knows (`context`), reading a file (`candles.sources`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from candles.columns import VALUES, beside_column, extra_columns
from candles.formats import as_table
from candles.sources import Candles, CandleSource, read_checked, resolve_candles
from config import Config
from dataset.context import columns_of, join_context
from settings.names import plain_pair
from utils import ConfigError, DataError, MissingInputError

ContextSource = Mapping[str, CandleSource]
"""Candles by their pair."""

DATA_DIR = Path("data")
"""Where candles of other pairs are looked for that are not beside the pair's own."""


def parse_context(words: Sequence[str]) -> dict[str, list[str]]:
    """Returns files by pair, of words such as `BTCUSDT=FILE[,FILE]`.

    Raises:
        ConfigError: If a word is not of that form, or a pair is given twice.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        pair, _, files = word.partition("=")
        if not pair or not files or pair in found:
            raise ConfigError(
                f"context: expected PAIR=FILE[,FILE], each pair once. Received: {word}."
            )
        found[pair] = files.split(",")
    return found


def find_context(
    given: ContextSource | None, config: Config, *, beside: Candles, data_dir: Path
) -> dict[str, Candles]:
    """Returns the candles of every context pair.

    Args:
        given: Those that are named; others lie beside the pair's own files, or in
            `data_dir`.
        config: The context pairs, and the timeframe.
        beside: Candles of the pair itself. A table that has the columns needs no more.
        data_dir: Where candles of pairs are looked for.

    Raises:
        MissingInputError: If there are none of a pair.
        ConfigError: If candles are given of another pair.
    """
    named = {plain_pair(pair): source for pair, source in (given or {}).items()}
    wanted = {plain_pair(pair): pair for pair in config.context_pairs}
    if plain_pair(config.pair) in wanted:
        raise ConfigError(
            f"context_pairs: expected other pairs than {config.pair}. Received: "
            f"{', '.join(config.context_pairs)}."
        )
    if others := [pair for pair in given or {} if plain_pair(pair) not in wanted]:
        raise ConfigError(
            f"context_pairs: expected candles of {', '.join(wanted) or 'no pair'}. "
            f"Received: those of {', '.join(others)}. Add --context-pairs."
        )
    if isinstance(beside, pd.DataFrame) and {*columns_of(config.context_pairs)} <= {
        *beside.columns
    }:
        return {}
    own = () if isinstance(beside, pd.DataFrame) else (beside[0].parent,)
    return {
        pair: _find(named.get(plain, None), pair, config, (*own, data_dir))
        for plain, pair in wanted.items()
    }


def _find(
    source: CandleSource, pair: str, config: Config, folders: Sequence[Path]
) -> Candles:
    market = market_of(config, pair)
    if source is not None:
        return resolve_candles(source, market, data_dir=Path())
    for folder in folders:
        try:
            return resolve_candles(None, market, data_dir=folder)
        except MissingInputError as error:
            missing = error
    raise MissingInputError(
        f"context_pairs: {missing} Or name it: --context {pair}=FILE."
    )


def market_of(config: Config, pair: str) -> Config:
    """Returns a configuration of the other pair."""
    return config.replace(pair=pair, context_pairs=())


def read_context(found: Mapping[str, Candles], config: Config) -> dict[str, Any]:
    """Returns the checked candle tables of other pairs."""
    return {
        pair: read_checked(source, market_of(config, pair))
        for pair, source in found.items()
    }


def with_context(
    candles: pd.DataFrame, given: ContextSource | None, config: Config
) -> pd.DataFrame:
    """Returns a pair's candles with those of the context pairs, which are as new.

    Args:
        candles: A candle table; it stays as it is where nothing is `given`.
        given: Candles by pair.
        config: Pairs and timeframe.

    Raises:
        DataError: If a pair has no good candles, or none of the newest bar.
        ConfigError: If candles are given of another pair.
    """
    if not given:
        return candles
    candles = as_table(candles)
    bare = candles.drop(columns=extra_columns(candles))
    found = find_context(given, config, beside=bare, data_dir=Path())
    others = read_context(found, config)
    require_current(candles, others, config.timeframe)
    return join_context(candles, others, config.timeframe)


def beside_values(
    time: Any, given: Mapping[str, Any], config: Config
) -> dict[str, float]:
    """Returns the candles of context pairs at one time, as columns of a candle table.

    Args:
        time: Open of the bar of the pair itself.
        given: A candle by pair, its values by name; None where the pair has none.
        config: The pairs.

    Raises:
        DataError: If a pair is missing or unknown, or a candle is of another time.
    """
    wanted = {plain_pair(pair): pair for pair in config.context_pairs}
    candles = {plain_pair(pair): candle for pair, candle in given.items()}
    if {*candles} != {*wanted}:
        raise DataError(
            f"context: expected a candle, or None, of {', '.join(wanted) or 'no pair'}."
            f" Received: {', '.join(given) or 'none'}."
        )
    found = {}
    for pair, candle in candles.items():
        if candle is not None and candle["timestamp"] != time:
            raise DataError(
                f"context: expected the candle of {pair} at {time}. Received: one at "
                f"{candle['timestamp']}. Give None where it has none."
            )
        for name in VALUES:
            value = np.nan if candle is None else candle[name]
            found[beside_column(name, pair)] = value
    return found


def read_with_context(
    source: Candles, config: Config, given: ContextSource | None = None
) -> pd.DataFrame:
    """Returns checked candles with those of the context pairs, up to the last of all.

    Args:
        source: Candles of the pair.
        config: Pairs and timeframe.
        given: Candles by pair; others lie beside the pair's own files, or in `data`.

    Raises:
        MissingInputError: If there are none of a pair.
        DataError: If they are no good candles.
    """
    table = read_checked(source, config)
    found = find_context(given, config, beside=source, data_dir=DATA_DIR)
    others = read_context(found, config)
    return join_context(last_common(table, others), others, config.timeframe)


def require_current(
    candles: pd.DataFrame, others: Mapping[str, pd.DataFrame], timeframe: str
) -> None:
    """Refuses other pairs' candles that end before the newest bar of the pair.

    An old bar would stand for one that has closed and is only not there yet: no row of
    the training was like that.

    Raises:
        DataError: Naming the pair and both times.
    """
    newest = candles["timestamp"].iloc[-1]
    for pair, table in others.items():
        last = table["timestamp"].iloc[-1] if len(table) else None
        if last is None or last < newest:
            raise DataError(
                f"context: expected candles of {pair}, {timeframe}, up to {newest}, "
                f"the newest bar. Received: up to {last}. Fetch the later ones, or "
                "leave out bars that they do not reach."
            )


def last_common(
    candles: pd.DataFrame, others: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Returns the candles up to the last bar that every other pair has reached."""
    for table in others.values():
        reached = table["timestamp"].iloc[-1] if len(table) else pd.Timestamp(0, tz=0)
        candles = candles[candles["timestamp"] <= reached]
    return candles
