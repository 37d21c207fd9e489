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

from utils import DataError

PRICES = ("open", "high", "low", "close")
VALUES = (*PRICES, "volume")
COLUMNS = ("timestamp", *VALUES)
MAX_ROWS = 200_000_000
FETCH_AGAIN = "Fetch it again."

MAGIC = {
    b"ARROW1": "a feather (Arrow) file",
    b"FEA1": "a feather file of the old version 1",
    b"PAR1": "a parquet file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
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


def floats_of(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    """Returns a column as float64 (num_rows,).

    Raises:
        DataError: If it is not of numbers.
    """
    try:
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


def refusal(path: Path, expected: str, received: str, cure: str) -> DataError:
    """Returns the error of a file that is not read, with the cure."""
    return DataError(f"{path}: expected {expected}. Received: {received}. {cure}")


def looks_like(head: bytes) -> str:
    """Returns what the first bytes of a file look like."""
    for magic, what in MAGIC.items():
        if head.startswith(magic):
            return what
    start = head[:40].split(b"\n")[0]
    if start and all(byte == 9 or 32 <= byte < 127 for byte in start.strip(b"\r")):
        return f"text that begins with {start.decode()!r}"
    return f"bytes that begin with {start[:8]!r}"
