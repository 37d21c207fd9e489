"""What stands beside a pair's candles: where it is, read, and put into columns.

In: candles of other pairs and series of values with their times, by name, from the
command line or beside the pair's own files; how new they must be. Out: which bar a row
knows (`context`), reading a file of candles (`candles.sources`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from candles.columns import EXTRAS, VALUES, beside_column, make_table
from candles.formats import as_table
from candles.layouts import EXTRA_NAMES, plain_name
from candles.sources import (
    Candles,
    CandleSource,
    find_candles,
    read_checked,
    resolve_candles,
)
from candles.timestamps import parse_timestamps
from config import Config
from dataset.context import columns_of, join_context
from files.tables import from_pandas, open_table
from settings.names import plain_pair
from utils import ConfigError, DataError, MissingInputError

logger = logging.getLogger(__name__)

ContextSource = Mapping[str, CandleSource]
"""Candles by their pair; by the name of one of `EXTRAS` its values with their times."""

_TIMES = "timestamp time date datetime fundingtime calctime createtime"
"""Names of columns, small letters and digits alone, the first that is there counts."""

DATA_DIR = Path("data")
"""Where candles of other pairs are looked for that are not beside the pair's own."""


def parse_context(words: Sequence[str]) -> dict[str, list[str]]:
    """Returns files by pair or column, of words such as `BTCUSDT=FILE[,FILE]`.

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
    """Returns the candles of every context pair, and the series that are given.

    Args:
        given: Those that are named; other pairs lie beside the pair's own files, or in
            `data_dir`.
        config: The context pairs, and the timeframe.
        beside: Candles of the pair itself; of pairs that are columns of a table no more
            is needed.
        data_dir: Where candles of pairs are looked for.

    Raises:
        MissingInputError: If there are none of a pair.
        ConfigError: If candles are given of another pair.
    """
    series = {name: each for name, each in (given or {}).items() if name in EXTRAS}
    given = {name: each for name, each in (given or {}).items() if name not in EXTRAS}
    named = {plain_pair(pair): source for pair, source in given.items()}
    wanted = {plain_pair(pair): pair for pair in config.context_pairs}
    if plain_pair(config.pair) in wanted:
        raise ConfigError(
            f"context_pairs: expected other pairs than {config.pair}. Received: "
            f"{', '.join(config.context_pairs)}."
        )
    if others := [pair for pair in given if plain_pair(pair) not in wanted]:
        raise ConfigError(
            f"context_pairs: expected candles of {', '.join(wanted) or 'no pair'}. "
            f"Received: those of {', '.join(others)}. Add --context-pairs."
        )
    own: tuple[Path, ...] = ()
    if isinstance(beside, pd.DataFrame):
        there = {*beside.columns}
        wanted = {
            plain: pair
            for plain, pair in wanted.items()
            if plain in named or not {*columns_of([pair])} <= there
        }
    else:
        own = (beside[0].parent,)
    found = {
        pair: _find(named.get(plain), pair, config, (*own, data_dir))
        for plain, pair in wanted.items()
    }
    return found | {name: _find_series(name, each) for name, each in series.items()}


def _find_series(name: str, source: CandleSource) -> Candles:
    if isinstance(source, pd.DataFrame):
        return read_series(source, name)
    paths = [source] if isinstance(source, str | os.PathLike) else source or ()
    files = tuple(map(Path, paths))
    if missing := [path for path in files if not path.is_file()]:
        raise MissingInputError(
            f"{missing[0]}: expected a file of {name} with its times. Received: "
            "nothing there. Check the path."
        )
    return files


def read_series(source: Candles, name: str) -> pd.DataFrame:
    """Returns values and the times at which they were known.

    Args:
        source: A table, or files with a time and a column of that name, or of an alias
            of it (`layouts.EXTRA_NAMES`).
        name: One of `EXTRAS`.

    Returns:
        `timestamp` (UTC, increasing) and the column (float64), finite.

    Raises:
        DataError: If a column is missing, a time is there twice, or a value is none.
    """
    tables = [source] if isinstance(source, pd.DataFrame) else map(open_table, source)
    parts = []
    for each in tables:
        columns = from_pandas(each) if isinstance(each, pd.DataFrame) else each
        where = columns.path or "the frame"
        plain = {plain_name(key): key for key in columns.names}
        time, value = (
            next((plain[key] for key in words.split() if key in plain), None)
            for words in (_TIMES, EXTRA_NAMES[name])
        )
        if time is None or value is None:
            raise DataError(
                f"{where}: expected a column 'timestamp' and one {name!r}. Received: "
                f"{', '.join(columns.names)}. Rename the columns that are meant."
            )
        stamps, _ = parse_timestamps(columns.read(time))
        values = np.empty(len(stamps))
        columns.read_numbers({value: values})
        parts.append(make_table(stamps, {name: values}))
    table = pd.concat(parts).sort_values("timestamp", ignore_index=True)
    twice = np.flatnonzero(table["timestamp"].duplicated())
    bad = np.flatnonzero(~np.isfinite(table[name]))
    if len(twice) or len(bad) or not len(table):
        row = int([*twice, *bad, 0][0])
        what = f"{table['timestamp'].iloc[row]} twice" if len(twice) else "no number"
        raise DataError(
            f"{name}: expected a finite number at each time, each once. Received: "
            f"{what if len(table) else 'no rows'}. Mend the file."
        )
    return table


def _find(
    source: CandleSource, pair: str, config: Config, folders: Sequence[Path]
) -> Candles:
    market = market_of(config, pair)
    if source is not None:
        return resolve_candles(source, market, data_dir=Path())
    for folder in folders:
        try:
            return find_candles(folder, market.pair, market.timeframe)
        except MissingInputError as error:
            missing = error
    raise MissingInputError(
        f"context_pairs: {missing} Or name it: --context {pair}=FILE."
    )


def market_of(config: Config, pair: str) -> Config:
    """Returns a configuration of the other pair."""
    return config.replace(pair=pair, context_pairs=())


def read_context(found: Mapping[str, Candles], config: Config) -> dict[str, Any]:
    """Returns the checked candle tables of other pairs, and series."""
    return {
        name: read_series(source, name)
        if name in EXTRAS
        else read_checked(source, market_of(config, name))
        for name, source in found.items()
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
    found = find_context(given, config, beside=candles, data_dir=Path())
    others = read_context(found, config)
    require_current(candles, others, config.timeframe)
    return join_context(candles, others, config.timeframe)


def beside_values(
    time: Any,
    given: Mapping[str, Any],
    config: Config,
    stamp_of: Callable[[Any], int],
) -> dict[str, float]:
    """Returns the candles of context pairs at one time, as columns of a candle table.

    Args:
        time: Open of the bar of the pair itself.
        given: A candle by pair, its values by name; None where the pair has none. By
            the name of one of `EXTRAS` a number, or None.
        config: The pairs.
        stamp_of: Returns a time in nanoseconds.

    Raises:
        DataError: If a pair is missing or unknown, or a candle is of another time.
    """
    wanted = {plain_pair(pair): pair for pair in config.context_pairs}
    found = {name: value for name, value in given.items() if name in EXTRAS}
    candles = {plain_pair(p): each for p, each in given.items() if p not in EXTRAS}
    if {*candles} != {*wanted}:
        raise DataError(
            f"context: expected a candle, or None, of {', '.join(wanted) or 'no pair'}."
            f" Received: {', '.join(given) or 'none'}."
        )
    for pair, candle in candles.items():
        if candle is not None and not {"timestamp", *VALUES} <= {*candle.keys()}:
            raise DataError(
                f"context: expected a candle of {pair}, by name, or None. Received: "
                f"{', '.join(map(str, candle.keys()))}."
            )
        if candle is not None and stamp_of(candle["timestamp"]) != stamp_of(time):
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
    common = last_common(table, others)
    # One bar that is not there yet is the rule while a market is followed.
    if (missing := len(table) - len(common)) > 1 and len(common):
        logger.warning(
            "context: candles of %s end %d bars before %s, the newest of %s: the last "
            "bar of all, %s, is the newest that is read",
            " or ".join(_pairs_of(others)),
            missing,
            table["timestamp"].iloc[-1],
            config.pair,
            common["timestamp"].iloc[-1],
        )
    return join_context(common, others, config.timeframe)


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
    for pair, table in _pairs_of(others).items():
        last = table["timestamp"].iloc[-1] if len(table) else None
        if last is None or last < newest:
            raise DataError(
                f"context: expected candles of {pair}, {timeframe}, up to {newest}, "
                f"the newest bar. Received: up to {last}. Fetch the later ones, or "
                "leave out bars that they do not reach."
            )


def _pairs_of(others: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {name: table for name, table in others.items() if name not in EXTRAS}


def last_common(
    candles: pd.DataFrame, others: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Returns the candles up to the last bar that every other pair has reached."""
    for table in _pairs_of(others).values():
        reached = table["timestamp"].iloc[-1] if len(table) else pd.Timestamp(0, tz=0)
        candles = candles[candles["timestamp"] <= reached]
    return candles
