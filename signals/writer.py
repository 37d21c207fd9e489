"""Rows of signals -> lines of text, or a file.

In: how a time, a number and what is not known are written. Out: the rows (`answers`),
the words of the command (`predictor`).
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from config import CLASS_NAMES
from files import tables
from files.atomic import atomic_write, make_folder

FORMATS = ("table", "csv", "jsonl", "parquet")

_WIDTHS = {
    **{"timestamp": 16, "status": 10, "signal": 6, "expires_at": 16, "size": 6},
    **dict.fromkeys(("close", "tp_price", "sl_price"), 12),
    **dict.fromkeys(("p_short", "p_hold", "p_long", "threshold", "unlikeness"), 9),
    **{"log_return": 11, "position": 8},
}
"""Columns for a reader; the id of the model is said once, beside the rows."""
_PLACES = {
    "unlikeness": 2,
    "log_return": 6,
    "position": 3,
    "p_short": 4,
    "p_hold": 4,
    "p_long": 4,
    "threshold": 4,
}


class RowWriter:
    """Writes rows to a file or to standard output, each line whole.

    Args:
        file_format: One of `FORMATS`.
        output: A file; None is standard output.
        is_growing: Lines are added to the file as they come; else it is written whole.
    """

    def __init__(
        self,
        file_format: str,
        output: str | os.PathLike[str] | None = None,
        *,
        is_growing: bool = False,
    ) -> None:
        self.file_format = file_format
        self.output = None if output is None else Path(output)
        self._is_growing = is_growing
        self._has_header = False

    def write(self, rows: pd.DataFrame) -> None:
        """Writes rows of `predict_candles`."""
        if self.file_format == "parquet" and self.output is not None:
            tables.write_parquet(self.output, rows)
            return
        text = self._text(rows)
        if self.output is None:
            _write_line(sys.stdout, text)
        elif self._is_growing:
            make_folder(self.output.parent)
            with self.output.open("a", encoding="utf-8") as stream:
                _write_line(stream, text)
        else:
            atomic_write(self.output, text)

    def _text(self, rows: pd.DataFrame) -> str:
        """Returns the lines of rows, below a header the first time."""
        lines: list[list[Any]] = []
        records = rows.to_dict("records")
        if self.file_format == "jsonl":
            return "".join(
                json.dumps({k: plain(v) for k, v in row.items()}, allow_nan=False)
                + "\n"
                for row in records
            )
        header = not self._has_header and not self._has_lines()
        self._has_header = True
        if self.file_format == "csv":
            stream = io.StringIO()
            lines += [list(rows.columns)] * header
            lines += [[_cell(value) for value in row.values()] for row in records]
            csv.writer(stream, lineterminator="\n").writerows(lines)
            return stream.getvalue()
        names = [name for name in rows.columns if name in _WIDTHS]
        lines += [names] * header
        lines += [[_shown(name, row[name]) for name in names] for row in records]
        return "".join(
            "  ".join(
                f"{cell:>{_WIDTHS[name]}}"
                for name, cell in zip(names, line, strict=True)
            )
            + "\n"
            for line in lines
        )

    def _has_lines(self) -> bool:
        """Whether the growing file has some of an earlier program."""
        path = self.output if self._is_growing else None
        return path is not None and path.is_file() and path.stat().st_size > 0


def plain(value: Any) -> Any:
    """Returns a value as JSON has it: ISO 8601 times in UTC, None where not known."""
    if value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, pd.Timestamp):
        return f"{value.tz_convert('UTC').tz_localize(None).isoformat()}Z"
    return value.item() if hasattr(value, "item") else value


def _cell(value: Any) -> Any:
    value = plain(value)
    return "null" if value is None else value


def _shown(name: str, value: Any) -> str:
    """Returns a cell for a reader."""
    if plain(value) is None:
        return "-"
    if name == "signal":
        return CLASS_NAMES[value]
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:.{_PLACES[name]}f}" if name in _PLACES else f"{value:.8g}"
    return str(value)


def _write_line(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()
