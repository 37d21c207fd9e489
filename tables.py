"""Feather, Parquet and CSV files -> columns, read in batches, refused when unsafe.

In: opening a file of columns of any of the three formats, with one clear error.
Out: what the columns mean (`candles`, `training_file`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from utils import DataError, MissingInputError

SUFFIXES = (".feather", ".parquet", ".csv")
BATCH_ROWS = 65_536


class Columns:
    """The columns of one file or frame; a file is read when a column is asked for.

    Args:
        table: A whole table, or None when `path` is read in batches.
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
        """Returns one whole column."""
        with _refuse_broken(self.path):
            chunks = [_detached(batch.column(0)) for batch in self._batches([name])]
        return pa.chunked_array(chunks, type=self.schema.field(name).type)

    def read_numbers(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Fills arrays with numeric columns in one pass, nulls as NaN.

        A batch of rows is in memory at a time, never the file.

        Args:
            outputs: Column name -> (num_rows,) array that receives it.

        Raises:
            DataError: If a column is not numeric, has an empty cell that its array
                cannot hold, or has another length.
        """
        for name in outputs:
            _require_numeric(name, self.schema.field(name).type)
        position = 0
        with _refuse_broken(self.path):
            for batch in self._batches(list(outputs)):
                stop = position + len(batch)
                for name, out in outputs.items():
                    if stop > len(out):
                        raise DataError(f"{name}: expected {len(out)} rows, not more.")
                    column = batch.column(name)
                    if column.null_count and out.dtype.kind != "f":
                        raise DataError(f"{name}: expected no empty cell.")
                    out[position:stop] = column.to_numpy(zero_copy_only=False)
                position = stop
        for name, out in outputs.items():
            if position != len(out):
                raise DataError(
                    f"{name}: expected {len(out)} rows. Received: {position}"
                )

    def _batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Yields the named columns, some ten thousand rows at a time."""
        if self._table is not None:
            yield from self._table.select(names).to_batches(max_chunksize=BATCH_ROWS)
        elif self.path is not None and self.path.suffix == ".parquet":
            with pa.parquet.ParquetFile(
                self.path, page_checksum_verification=True
            ) as file:
                yield from file.iter_batches(BATCH_ROWS, columns=names)
        else:
            fields = [self.schema.get_field_index(name) for name in names]
            options = pa.ipc.IpcReadOptions(included_fields=fields)
            with pa.OSFile(str(self.path)) as stream:
                reader = pa.ipc.open_file(stream, options=options)
                for index in range(reader.num_record_batches):
                    yield reader.get_batch(index)


def _detached(column: pa.Array) -> pa.Array:
    """Returns a copy of a plain column; a slice keeps its whole batch in memory."""
    kind = column.type
    is_plain = pa.types.is_primitive(kind) and not pa.types.is_boolean(kind)
    if column.null_count or not is_plain or kind.bit_width != 64:
        return column
    values = column.view(pa.int64()).to_numpy(zero_copy_only=True).copy()
    return pa.array(values).view(kind)


def _require_numeric(name: str, kind: pa.DataType) -> None:
    checks = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    if not any(check(kind) for check in checks):
        raise DataError(
            f"{name}: expected numbers. Received: a column of type {kind}. "
            "Remove the column or convert it."
        )


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


@contextlib.contextmanager
def _refuse_broken(path: Path | None) -> Iterator[None]:
    """Turns Arrow's errors about one file into a `DataError` that names it."""
    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        suffix = path.suffix[1:] if path else "table"
        detail = str(error).splitlines()[0][:300]
        raise DataError(
            f"{path}: expected a whole {suffix} file. Received: {detail}. "
            "Check the format, or make the file again."
        ) from error
