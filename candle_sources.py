"""Where a dataset's candles are: a table, files by path, files by their pair.

In: finding the files, and one way to checked candles from all of these. Out: how a file
is read and joined with others (`candles`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import candles as candle_tables
import utils
from candle_checks import check_candles
from config import Config
from utils import DataError, MissingInputError

CandleSource = (
    pd.DataFrame | str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
)

Candles = pd.DataFrame | tuple[Path, ...]
"""A source that was found: the table itself, or files that are there."""

_SUFFIXES = (".parquet", ".feather", ".csv", ".zip", ".json", ".jsongz", ".h5", ".hdf5")


def resolve_candles(
    candles: CandleSource, *, pair: str, timeframe: str, data_dir: Path
) -> Candles:
    """Returns the table, or the files, all there; None is looked up in `data_dir`.

    Raises:
        MissingInputError: If a file is missing.
    """
    if isinstance(candles, pd.DataFrame):
        return candles
    if candles is None:
        return find_candles(data_dir, pair, timeframe)
    given = [candles] if isinstance(candles, str | os.PathLike) else candles
    paths = tuple(Path(path) for path in given)
    for path in paths:
        if not path.is_file():
            raise MissingInputError(f"expected a candle file. Received: {path}")
    return paths


def find_candles(data_dir: Path, pair: str, timeframe: str) -> tuple[Path, ...]:
    """Returns the files of a pair, of the timeframe or the longest that divides it.

    Their names are `{PAIR}-{timeframe}` and anything after a dot or a dash.

    Raises:
        MissingInputError: If there are none.
    """
    wanted = utils.duration_seconds(timeframe)
    found: dict[int, list[Path]] = {}
    files = sorted(data_dir.iterdir()) if data_dir.is_dir() else []
    for path in files:
        match = re.match(r"(.+?)-(\d{1,5}[smhdw])(?=[.-])", path.name)
        if match is None or plain_pair(match[1]) != plain_pair(pair):
            continue
        seconds = utils.duration_seconds(match[2])
        is_candles = path.name.removesuffix(".gz").endswith(_SUFFIXES)
        if is_candles and path.is_file() and wanted % seconds == 0:
            found.setdefault(seconds, []).append(path)
    if not found:
        raise MissingInputError(
            f"expected candles of {pair}, {timeframe} or finer, in {data_dir}, in "
            f"files named {pair}-{timeframe}.parquet. Received: {len(files)} other "
            "files. Name the file, or fetch it: python candles.py download --help"
        )
    return tuple(found[max(found)])


def read_checked(source: Candles, config: Config) -> pd.DataFrame:
    """Returns checked candles of the configuration's timeframe or finer.

    Raises:
        DataError: With everything that is wrong with them.
    """
    if not isinstance(source, pd.DataFrame):
        return candle_tables.read_candles(source)
    if problems := check_candles(source, timeframe=config.timeframe).problems:
        lines = "".join(f"\n  {line}" for line in problems)
        raise DataError(f"expected good candles. Received:{lines}")
    return source


def plain_pair(pair: str) -> str:
    """Returns a pair as it compares: `eth_usdt` is `ETHUSDT`."""
    return re.sub(r"[_-]", "", pair).upper()
