"""The columns of a candle table: their names, here and in the files of others.

In: names, aliases, the table made of them, what a file is refused with. Out: reading
one (`formats`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from utils import DataError

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
COLUMNS = ("timestamp", *VALUES)
MAX_ROWS = 200_000_000
FETCH_AGAIN = "Fetch it again."

_ALIASES = {
    "timestamp": "timestamp ts time date datetime open_time opentime unix".split(),
    "open": "open open_price o".split(),
    "high": "high high_price h".split(),
    "low": "low low_price l".split(),
    "close": "close close_price c".split(),
    "volume": "volume vol base_volume v".split(),
}


def make_table(timestamps: np.ndarray, values: dict[str, Any]) -> pd.DataFrame:
    """Returns a table from int64 nanoseconds (num_rows,) and columns, uncopied."""
    index = pd.DatetimeIndex(timestamps.view("M8[ns]")).tz_localize("UTC")
    return pd.DataFrame({"timestamp": index, **values}, copy=False)


def require_columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Raises a `DataError` where a table has not all the named candle columns."""
    if missing := [name for name in names if name not in table.columns]:
        raise DataError(
            f"expected the candle columns {', '.join(names)}. "
            f"Received: {', '.join(map(str, table.columns))}; "
            f"missing {', '.join(missing)}. Read the file with `candles.read_candles`."
        )


def pick_columns(names: Sequence[str], path: Path) -> dict[str, int]:
    """Returns the position of each candle column among a file's own names.

    Raises:
        DataError: If one is missing, or there twice.
    """
    keys = [re.sub(r"[\s.-]+", "_", str(name).strip().lower()) for name in names]
    found, problems = {}, []
    for column, aliases in _ALIASES.items():
        hits = [i for i, key in enumerate(keys) if key in aliases]
        if not hits and column == "timestamp":
            hits = [i for i, key in enumerate(keys) if key == "__index_level_0__"]
        if len(hits) > 1:
            several = " and ".join(repr(str(names[i])) for i in hits)
            problems.append(f"several columns for {column!r}: {several}")
        elif not hits:
            problems.append(f"no column {column!r}")
        else:
            found[column] = hits[0]
    if problems:
        raise refusal(
            path,
            "exactly one column (or common alias) each for " + ", ".join(COLUMNS),
            f"{'; '.join(problems)}; the columns are {[str(name) for name in names]}",
            "Rename or remove columns.",
        )
    return found


def floats_of(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    """Returns a column as float64 (num_rows,).

    Raises:
        DataError: If it is not of numbers.
    """
    try:
        return pc.cast(column, pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise refusal(
            path,
            f"numbers in column {name!r}",
            f"type {column.type}: {error}",
            "Write the column as float64.",
        ) from error


def refusal(path: Path, expected: str, received: str, cure: str) -> DataError:
    """Returns the error of a file that is not read, with the cure."""
    return DataError(f"{path}: expected {expected}. Received: {received}. {cure}")
