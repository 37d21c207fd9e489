"""Feather, Parquet and CSV files -> columns, read one by one and refused when unsafe.

In: opening a file of columns of any of the three formats, with one clear error.
Out: what the columns mean (`candles`, `training_file`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from utils import DataError, MissingInputError

SUFFIXES = (".feather", ".parquet", ".csv")


class Columns:
    """The columns of one file or frame; `read` brings one into memory.

    Args:
        table: A whole table, or None when `path` is read column by column.
        schema: Its schema.
        path: The file; None for a frame.
    """

    def __init__(
        self, *, schema: pa.Schema, table: pa.Table | None, path: Path | None
    ) -> None:
        self.schema = schema
        self.path = path
        self._table = table
        refuse_extension_types(schema, path or "the frame")
        repeated = {name for name in schema.names if schema.names.count(name) > 1}
        if repeated:
            raise DataError(
                f"{path or 'the frame'}: expected one column of each name. "
                f"Received twice: {', '.join(sorted(repeated))}"
            )

    @property
    def names(self) -> list[str]:
        """Names of the columns, in file order."""
        return list(self.schema.names)

    def read(self, name: str) -> pa.ChunkedArray:
        """Returns one column; only this column of the file is decoded."""
        if self._table is not None:
            return self._table.column(name)
        with _refuse_broken(self.path):
            return _read_table(self.path, columns=[name]).column(0)

    def read_numbers(self, name: str, out: np.ndarray) -> None:
        """Fills `out` (num_rows,) with a numeric column, nulls as NaN.

        Raises:
            DataError: If the column is not numeric or has another length.
        """
        column = self.read(name)
        kind = column.type
        if not (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_boolean(kind)
        ):
            raise DataError(
                f"{name}: expected numbers. Received: a column of type {kind}. "
                "Remove the column or convert it."
            )
        if len(column) != len(out):
            raise DataError(
                f"{name}: expected {len(out)} rows. Received: {len(column)}"
            )
        position = 0
        for chunk in column.chunks:
            if chunk.null_count and not np.issubdtype(out.dtype, np.floating):
                raise DataError(f"{name}: expected no empty cell.")
            values = chunk.to_numpy(zero_copy_only=False)
            out[position : position + len(chunk)] = values
            position += len(chunk)


def open_table(path: str | os.PathLike[str]) -> Columns:
    """Opens a feather, parquet or CSV file by its suffix.

    Raises:
        MissingInputError: If there is no file.
        DataError: If it is empty, of another format, damaged or unsafe.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"expected a file. Received: {path}")
    if path.suffix not in SUFFIXES:
        raise DataError(
            f"{path}: expected a name ending in {', '.join(SUFFIXES)}. "
            f"Received: {path.suffix or 'no suffix'!r}"
        )
    if path.stat().st_size == 0:
        raise DataError(
            f"{path}: expected a {path.suffix[1:]} file. Received: 0 bytes."
        )
    with _refuse_broken(path):
        if path.suffix == ".csv":
            table = pa.csv.read_csv(path)
            return Columns(schema=table.schema, table=table, path=path)
        if path.suffix == ".parquet":
            schema = pa.parquet.read_schema(path)
        else:
            with pa.OSFile(str(path)) as stream:
                schema = pa.ipc.open_file(stream).schema
    return Columns(schema=schema, table=None, path=path)


def from_pandas(frame: Any) -> Columns:
    """Takes a DataFrame; a `DatetimeIndex` stands for a missing `timestamp`."""
    import pandas as pd

    if "timestamp" not in frame.columns and isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.rename_axis("timestamp").reset_index()
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"expected plain columns. Received: {error}") from error
    return Columns(schema=table.schema, table=table, path=None)


def refuse_extension_types(schema: pa.Schema, where: object) -> None:
    """Refuses Arrow extension types before any conversion: some run code when read.

    Raises:
        DataError: Naming the columns.
    """
    unsafe = [
        field.name
        for field in schema
        if isinstance(field.type, pa.BaseExtensionType)
        or b"ARROW:extension:name" in (field.metadata or {})
    ]
    if unsafe:
        raise DataError(
            f"{where}: expected plain columns. Received Arrow extension types in: "
            f"{', '.join(unsafe)}. Such a file can run code when it is read."
        )


def _read_table(path: Path | None, *, columns: list[str]) -> pa.Table:
    if path is not None and path.suffix == ".parquet":
        return pa.parquet.read_table(
            path, columns=columns, page_checksum_verification=True, partitioning=None
        )
    return pa.feather.read_table(path, columns=columns, memory_map=False)


@contextlib.contextmanager
def _refuse_broken(path: Path | None) -> Iterator[None]:
    """Turns Arrow's errors about one file into a `DataError` that names it."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        suffix = path.suffix[1:] if path else "table"
        detail = str(error).splitlines()[0][:300]
        raise DataError(
            f"{path}: expected a whole {suffix} file. Received: {detail}. "
            "Check the format, or make the file again."
        ) from error
