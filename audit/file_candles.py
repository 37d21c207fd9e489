"""The candles that a training file was made from, and those of its context pairs.

In: what is given, or stated in the file's description. Out: what they prove
(`lookahead`, `context_steps`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from candles.columns import EXTRAS, VALUES, beside_column, extra_columns
from candles.sources import (
    Candles,
    CandleSource,
    find_candles,
    read_checked,
    resolve_candles,
)
from candles.synthetic import synthetic_candles
from config import Config
from data_loader import TrainingData
from dataset import fingerprints
from dataset import rows as dataset_rows
from dataset.builder import DEMO_PAIR, demo_candles
from dataset.context import columns_of, join_context
from dataset.context_files import (
    ContextSource,
    find_context,
    parse_context,
    read_context,
)
from settings.names import is_pair_of, plain_pair, stated_pair
from utils import ConfigError, MissingInputError

CANDLE_FOLDER = Path("data")
"""Where candles of the file are looked for, unless they are given."""


class FileCandles(NamedTuple):
    """Candles of a file's pair, and of its context pairs.

    Args:
        own: Candle table of the pair.
        bars: The same, gaps filled, of the configuration's timeframe.
        others: Candle tables of the context pairs.
        timeframe: Length of a bar.
    """

    own: pd.DataFrame
    bars: pd.DataFrame
    others: Mapping[str, pd.DataFrame]
    timeframe: str

    @property
    def joined(self) -> pd.DataFrame:
        """The bars with those of context pairs beside them."""
        return join_context(self.bars, self.others, self.timeframe)


def split_words(
    words: Sequence[str] | None, config: Config
) -> tuple[list[str] | None, dict[str, list[str]]]:
    """Returns candle files, and what is beside them, such as `BTCUSDT=FILE[,FILE]`."""
    pairs = {plain_pair(name) for name in (*config.context_pairs, *EXTRAS)}
    given = list(words or ())
    named = [w for w in given if plain_pair(w.partition("=")[0]) in pairs and "=" in w]
    own = [word for word in given if word not in named]
    return own or None, parse_context(named)


def find_file_candles(
    config: Config,
    data: TrainingData,
    candles: CandleSource,
    context: ContextSource | None = None,
) -> FileCandles | None:
    """Returns the candles that are given or stated by the file; None without.

    Raises:
        MissingInputError: If there are candles, and none of a context pair.
        DataError: If they break their contract.
    """
    zone = config.timezone or data.source.get("timezone")
    config = config.replace(timezone=zone)
    source: Candles | None = None
    if candles is not None:
        source = resolve_candles(candles, config, data_dir=CANDLE_FOLDER)
    elif data.source.get("built_by_us"):
        source = _stated_candles(config, data)
    if source is None:
        return None
    found = find_context(context, config, beside=source, data_dir=CANDLE_FOLDER)
    return file_candles(
        read_checked(source, config), read_context(found, config), config
    )


def file_candles(
    table: pd.DataFrame, others: Mapping[str, pd.DataFrame], config: Config
) -> FileCandles:
    """Returns candles in all their forms.

    Args:
        table: A checked candle table; it may have columns of context pairs.
        others: Those of context pairs, and series, where it has not.
        config: Timeframe, pairs, what is filled.
    """
    extras = extra_columns(table)
    own, others = table.drop(columns=extras), dict(others)
    for pair in config.context_pairs:
        if pair not in others and {*columns_of([pair])} <= {*extras}:
            others[pair] = _split_off(table, pair)
    step = own_step(own)
    for name in EXTRAS:
        if name not in others and name in extras:
            known = table[["timestamp", name]].dropna()
            # As a column of candles it is known at their closes.
            times = known["timestamp"] + step
            others[name] = known.assign(timestamp=times).reset_index(drop=True)
    bars = dataset_rows.fill_and_resample(own, config)
    return FileCandles(own, bars, others, config.timeframe)


def own_step(table: pd.DataFrame) -> pd.Timedelta:
    """Returns the length of a bar of a candle table."""
    return table["timestamp"].diff().min()


def _split_off(table: pd.DataFrame, pair: str) -> pd.DataFrame:
    """Returns the candles of a context pair that are columns of a table."""
    names = {beside_column(name, pair): name for name in VALUES}
    found = table[["timestamp", *names]].rename(columns=names)
    return found.dropna().reset_index(drop=True)


def synthetic_market(num_bars: int, config: Config) -> FileCandles:
    """Returns made-up candles of the pair and its context pairs."""
    others = {
        pair: synthetic_candles(num_bars, timeframe=config.timeframe, seed=seed)
        for seed, pair in enumerate(config.context_pairs, 1)
    }
    own = synthetic_candles(num_bars, timeframe=config.timeframe)
    for name in EXTRAS:  # of any value above 0
        others[name] = own[["timestamp", "close"]].rename(columns={"close": name})
    return file_candles(own, others, config)


def _stated_candles(config: Config, data: TrainingData) -> Candles | None:
    """Returns the candles whose digest the file's description has, if at hand."""
    wanted = data.source.get("digests", {})
    if "candles" not in wanted:
        return None
    if config.pair == DEMO_PAIR:
        table = demo_candles()
        same = fingerprints.table_fingerprint(table) == wanted["candles"]
        return table if same else None
    try:
        files = find_candles(CANDLE_FOLDER, config.pair, config.timeframe)
        others = find_context(None, config, beside=files, data_dir=CANDLE_FOLDER)
    except (MissingInputError, ConfigError):
        return None
    stated = fingerprints.candle_digests(files, others)
    return files if stated.items() <= wanted.items() else None


def candles_of_pair(candles: CandleSource, pair: str) -> CandleSource:
    """Returns the candle files of a pooled pair, by their names.

    Raises:
        ConfigError: If they are no files.
    """
    if candles is None:
        return None
    if isinstance(candles, str | Path):
        candles = [candles]
    if not isinstance(candles, Sequence):
        raise ConfigError(
            "candles: expected files whose names say their pair, of pooled pairs. "
            f"Received: {type(candles).__name__}."
        )
    stated = [(path, stated_pair(Path(path).name)) for path in candles]
    own = [path for path, name in stated if name is not None and is_pair_of(name, pair)]
    return own or None
