"""Where a dataset's candles are: a table, files by path, files by their pair.

In: finding the files, and one way to checked candles from all of these. Out: how a file
is read and joined with others (`table`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import utils
from candles import table
from candles.checks import check_candles
from candles.formats import candle_files, read_file, read_frame
from settings.names import (
    is_other_market,
    is_pair_of,
    parse_candle_filename,
    plain_pair,
    stated_contents,
    stated_pair,
    without_settlement,
)
from settings.run_fields import RunFields
from utils import ConfigError, DataError, MissingInputError

logger = logging.getLogger(__name__)

CandleSource = (
    pd.DataFrame | str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
)

Candles = pd.DataFrame | tuple[Path, ...]
"""A source that was found: the table itself, or files that are there."""

_SUFFIXES = (".parquet", ".feather", ".csv", ".zip", ".json", ".jsongz", ".h5", ".hdf5")


def resolve_candles(
    candles: CandleSource, config: RunFields, *, data_dir: Path
) -> Candles:
    """Returns the table, or the files, all there; None is looked up in `data_dir`.

    Args:
        candles: A DataFrame is read as a file of its columns is.
        config: Pair, timeframe, and the zone of times that state none.
        data_dir: Where candles of the pair are looked for.

    Raises:
        MissingInputError: If a file is missing.
        DataError: If the name of one states another pair.
    """
    if isinstance(candles, pd.DataFrame):
        return read_frame(candles, timezone=config.timezone)
    if candles is None:
        files = find_candles(data_dir, config.pair, config.timeframe)
        count = utils.counted(len(files), "file", "files")
        logger.info("%s: %s from %s", config.pair, count, files[0].parent)
        return files
    given = [candles] if isinstance(candles, str | os.PathLike) else candles
    paths = tuple(file for path in given for file in candle_files(path))
    for path in paths:
        stated = stated_pair(path.name)
        if stated is not None and not is_pair_of(stated, config.pair):
            raise DataError(
                f"{path}: expected candles of {config.pair}. Received: a file that is "
                f"named after {stated}. Give --pair {stated}, or the file of "
                f"{config.pair}; rename the file if its name is wrong."
            )
    return paths


def pair_of_files(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Returns the pair that the names of candle files state.

    Raises:
        MissingInputError: If a file is missing.
        ConfigError: If they state none, or several.
    """
    files = [file for path in paths for file in candle_files(path)]
    stated = [stated_pair(file.name) for file in files]
    pairs = {plain_pair(pair): pair for pair in stated if pair is not None}
    if len(pairs) == 1:
        return next(iter(pairs.values()))
    received = " and ".join(sorted(pairs.values())) or "names that state none"
    raise ConfigError(
        "pair: expected --pair, or candle files that are named after one, such as "
        f"BTCUSDT-1m.parquet. Received: {received}. Add --pair."
    )


def timeframe_of_files(
    paths: Sequence[str | os.PathLike[str]], *, timezone: str | None, default: str
) -> str:
    """Returns the timeframe that candle files are named after, else that of their bars.

    Args:
        paths: Files and folders that are there.
        timezone: Of times that state none.
        default: What it is where bars are shorter than a minute, or do not show it.
    """
    files = [file for path in paths for file in candle_files(path)]
    names = [parse_candle_filename(file.name) for file in files]
    found = [name[1] for name in names if name is not None]
    if not found:
        bars = read_file(files[0], timezone=timezone)
        report = check_candles(bars, timeframe=None, with_doubts=False)
        found = [report.timeframe or default]
    longest = max(found, key=utils.duration_seconds)
    return longest if utils.duration_seconds(longest) >= 60 else default


def find_candles(data_dir: Path, pair: str, timeframe: str) -> tuple[Path, ...]:
    """Returns the files of a pair, of the timeframe or the longest that divides it.

    Their names are `{PAIR}-{timeframe}` and anything after a dot or a dash. They are in
    `data_dir` or in one folder of it: a download has one for each market or exchange.
    Those of `ETHUSDT` serve ETH_USDT_USDT where none has its name.

    Raises:
        MissingInputError: If there are none.
        ConfigError: If more than one folder has some.
    """
    there = sorted(data_dir.iterdir()) if data_dir.is_dir() else []
    inside = [path for path in there if path.is_dir() and path.name[0] != "."]
    for market in dict.fromkeys((pair, without_settlement(pair))):
        found = {
            folder: files
            for folder in (data_dir, *inside)
            if (files := _files_in(folder, market, timeframe))
        }
        if found:
            break
    else:
        others = [path.name for path in there if path.is_file()]
        named = f": {', '.join(others[:3])}{', ...' * (len(others) > 3)}" * bool(others)
        received = utils.counted(len(others), "other file", "other files") + named
        if not data_dir.is_dir():
            received = "a file" if data_dir.exists() else "no such folder"
        raise MissingInputError(
            f"expected candles of {pair}, {timeframe} or finer, in {data_dir} or a "
            f"folder of it, in files named {pair}-{timeframe}.parquet. Received: "
            f"{received}. "
            "Name the file, or fetch it: python -m candles download --help"
        )
    if len(found) > 1:
        choices = " or ".join(f"--data-dir {folder}" for folder in found)
        raise ConfigError(
            f"expected candles of {pair} in one folder. Received: some in "
            f"{' and '.join(map(str, found))}. Choose {choices}, or name the files."
        )
    (files,) = found.values()
    return files


def _files_in(folder: Path, pair: str, timeframe: str) -> tuple[Path, ...]:
    wanted = utils.duration_seconds(timeframe)
    found: dict[int, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        named = parse_candle_filename(path.name)
        if named is None or plain_pair(named[0]) != plain_pair(pair):
            continue
        seconds = utils.duration_seconds(named[1])
        is_candles = path.name.removesuffix(".gz").endswith(_SUFFIXES)
        is_candles &= stated_contents(path.name) is None
        if is_candles and path.is_file() and wanted % seconds == 0:
            found.setdefault(seconds, []).append(path)
    return tuple(found[max(found)]) if found else ()


def read_checked(source: Candles, config: RunFields) -> pd.DataFrame:
    """Returns checked candles of the configuration's timeframe or finer.

    Raises:
        DataError: With everything that is wrong with them; if a column of the files
            says that they are of another pair.
    """
    if isinstance(source, pd.DataFrame):
        candles, name = source, "the frame"
        report = check_candles(source, timeframe=config.timeframe, with_doubts=False)
        if report.problems:
            lines = "".join(f"\n  {line}" for line in report.problems)
            raise DataError(f"expected good candles. Received:{lines}")
        if report.note:
            logger.info("%s", report.note)
    else:
        name = str(source[0])
        candles = table.read_candles(
            source, expected_timeframe=config.timeframe, timezone=config.timezone
        )
    symbol = candles.attrs.get("symbol")
    if symbol is not None and is_other_market(symbol, config.pair):
        raise DataError(
            f"{name}: expected candles of {config.pair}. Received: {symbol!r} in a "
            "column. Give the candles of the pair, or their --pair."
        )
    return candles


def refuse_candles(source: Path | pd.DataFrame, cure: str) -> None:
    """Raises a `DataError` where candles are given in the place of a training file.

    What else it lacks is told where that is missed.
    """
    named = ""
    try:
        if isinstance(source, pd.DataFrame):
            found = read_frame(source)
        else:
            named, found = f"{source}: ", read_file(source)
    except utils.UserError:
        return
    first, last = found["timestamp"].iloc[[0, -1]]
    raise DataError(
        f"{named}expected a training file, with features and labels. Received: "
        f"candles, {utils.counted(len(found), 'bar', 'bars')} from {first} to {last}. "
        f"{cure}"
    )
