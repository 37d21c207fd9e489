"""The columns of a candle table: their names, here and in the files of others.

In: names, aliases, the table made of them, what a file is refused with. Out: reading
one (`formats`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from files.text import refusal
from settings.names import plain_pair
from utils import DataError, counted

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
COLUMNS = ("timestamp", *VALUES)
EXTRAS = ("funding_rate", "open_interest")
"""Columns that a candle table may have: known at its bar's close, NaN where unknown."""
MAX_ROWS = 200_000_000
FETCH_AGAIN = "Fetch it again."


def make_table(timestamps: np.ndarray, values: dict[str, Any]) -> pd.DataFrame:
    """Returns a table from int64 nanoseconds (num_rows,) and columns, uncopied."""
    index = pd.DatetimeIndex(timestamps.view("M8[ns]")).tz_localize("UTC")
    return pd.DataFrame({"timestamp": index, **values}, copy=False)


def beside_column(name: str, pair: str) -> str:
    """Returns the name that a column of another pair has: `close@BTCUSDT`."""
    return f"{name}@{plain_pair(pair)}"


def extra_columns(table: pd.DataFrame) -> list[str]:
    """Returns the columns of a candle table that are `EXTRAS`, or of another pair."""
    names = [str(name) for name in table.columns]
    return [n for n in names if n in EXTRAS or ("@" in n and base_of(n) in VALUES)]


def base_of(name: str) -> str:
    """Returns the column that one of another pair is: `close` of `close@BTCUSDT`."""
    return name.partition("@")[0]


def require_columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Raises a `DataError` where a table has not all the named candle columns."""
    if missing := [name for name in names if name not in table.columns]:
        raise DataError(
            f"expected the candle columns {', '.join(names)}. "
            f"Received: {', '.join(map(str, table.columns))}; "
            f"missing {', '.join(missing)}. Read the file with `candles.read_candles`."
        )


def floats_of(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    """Returns a column as float64 (num_rows,).

    Raises:
        DataError: If it is not of numbers.
    """
    try:
        if pa.types.is_decimal(column.type):  # a direct cast is off by an ulp
            column = pc.cast(column, pa.string())
        return pc.cast(column, pa.float64()).to_numpy()
    except pa.ArrowException as error:
        received = f"values of type {column.type}"
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            cells = column.to_pandas()
            bad = pd.to_numeric(cells, errors="coerce").isna() & cells.notna()
            row = int(bad.to_numpy().argmax())
            received = f"{cells.iloc[row]!r} in row {row}, {bad.sum()} such cells"
        raise refusal(
            path,
            f"numbers in column {name!r}",
            received,
            "Write the column as numbers, with a point for decimals.",
        ) from error


def one_market(cells: pa.DictionaryArray, name: str) -> str | None:
    """Returns the one market that a column states in words; None without one.

    Raises:
        DataError: If it states several, with the first row of the second.
    """
    codes = cells.dictionary.to_pylist()
    found = [text for text in codes if text]
    if len({plain_pair(text) for text in found}) > 1:
        other = next(x for x in found if plain_pair(x) != plain_pair(found[0]))
        is_other = pc.equal(cells.indices, codes.index(other))
        row = pc.index(is_other.fill_null(False), True).as_py()
        raise DataError(
            "expected candles of one market. Received: "
            f"{counted(len(found), 'market', 'markets')} in column {name!r}: "
            f"{found[0]!r}, and from row {row} on {other!r}. "
            "Keep the rows of one market in a file."
        )
    return found[0] if found else None
