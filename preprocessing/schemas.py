"""What a table must have to go through a pipeline, and what comes out of it.

In: names and types of columns, the timeframe; holding a table against them. Out: steps
(`pipelines`), candles of any shape (`candles.formats`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from candles.columns import COLUMNS, VALUES, extra_columns
from candles.timestamps import (
    describe_distance,
    nanoseconds_of,
    timeframe_nanoseconds,
)
from files.strict import sha256_json
from utils import DataError, did_you_mean

TIME = "timestamp[ns, UTC]"
_ABOUT_ROWS = ("symbol", "pair", "date", "is_filled", "segment")
"""Columns of a candle table that say where it is from."""
_TYPES = re.compile(r"float(16|32|64)|u?int(8|16|32|64)|bool|timestamp\[ns, UTC\]")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Args:
        name: Its name.
        type: `float32`, `float64` or another of NumPy's numbers, or `TIME`.
        nulls: Whether cells may be empty.
    """

    name: str
    type: str
    nulls: bool = False


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Columns in their order, of bars of one length.

    Args:
        columns: The columns.
        timeframe: Length of a bar.
        window_bars: Rows that are read together; 1 where each is read alone.
    """

    columns: tuple[Column, ...]
    timeframe: str
    window_bars: int = 1

    @classmethod
    def of_candles(cls, timeframe: str) -> Self:
        """Returns that of a candle table."""
        columns = [
            Column(name=name, type=TIME if name == "timestamp" else "float64")
            for name in COLUMNS
        ]
        return cls(columns=tuple(columns), timeframe=timeframe)

    @classmethod
    def of_features(
        cls,
        names: Sequence[str],
        timeframe: str,
        *,
        types: Mapping[str, str],
        has_nulls: bool = True,
    ) -> Self:
        """Returns that of rows of features, without a value where a window is none.

        Args:
            names: The features.
            timeframe: Length of a bar.
            types: Those other than float32, by name.
            has_nulls: Whether a row may lack its values.
        """
        return cls(
            columns=tuple(
                Column(name=name, type=types.get(name, "float32"), nulls=has_nulls)
                for name in names
            ),
            timeframe=timeframe,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    def look_at_candles(self, table: pd.DataFrame) -> list[str]:
        """Returns a line of columns that nothing reads, if there are such.

        Raises:
            DataError: If prices, under names of any case, have lost bits.
        """
        odd = {
            str(name).lower(): table.iloc[:, place]
            for place, (name, dtype) in enumerate(table.dtypes.items())
            if str(name).lower() in VALUES
            and dtype != "float64"
            and dtype.kind in "fiuc"
        }
        extras = extra_columns(table)
        lost = [f"{name} twice" for name in self._named_twice(table)]
        lost += [f"{n} of {table[n].dtype}" for n in extras if table[n].dtype != "f8"]
        if lost := lost or self.lost_bits(pd.DataFrame(odd)):
            raise DataError(
                f"expected candles of float64. Received: {'; '.join(lost)}."
            )
        known = {*self.names, *_ABOUT_ROWS, *extras}
        unread = [str(name) for name in table.columns if name not in known]
        is_usual = {*self.names} <= {*table.columns}
        return [f"nothing reads the columns {', '.join(unread)}"] * bool(
            unread and is_usual
        )

    def _named_twice(self, table: pd.DataFrame) -> list[str]:
        """Returns the columns of which a table has several."""
        twice = table.columns[table.columns.duplicated()]
        return [name for name in self.names if name in twice]

    def lost_bits(self, table: pd.DataFrame) -> list[str]:
        """Returns the columns whose type has lost bits, or would lose some.

        Candles are computed with in 64 bits, so that prices of 32 bits have lost some;
        features are read in 32 bits, into which numbers of 64 go as they did in
        training.
        """
        least = np.dtype("float64" if self.names == COLUMNS else "float32")
        given = [each for each in self.columns if each.name in table]
        reasons = {
            each.name: _lost_bits(table[each.name], each.type, least)
            for each in given
            if each.type != TIME
        }
        return [f"{name} {why}" for name, why in reasons.items() if why]

    def problems(self, table: pd.DataFrame) -> list[str]:
        """Returns what of a table is missing, of other bars, or of an unfit type."""
        known, found = list(map(str, table.columns)), []
        if missing := [name for name in self.names if name not in table]:
            near = did_you_mean(missing[0], known).removesuffix("?")
            found.append(f"{', '.join(known)}; missing {', '.join(missing)}{near}")
        if twice := self._named_twice(table):
            return [*found, f"{', '.join(twice)} twice"]
        found += self.lost_bits(table)
        if "timestamp" in table and table["timestamp"].dtype.kind == "M":
            steps = np.abs(np.diff(nanoseconds_of(table["timestamp"])))
            if len(steps) and steps.min() != timeframe_nanoseconds(self.timeframe):
                words = describe_distance(int(steps.min()))
                found.append(f"timestamp: bars of {words}, not of {self.timeframe}")
        return found

    def take(self, table: pd.DataFrame) -> np.ndarray:
        """Returns the columns (num_rows, num_columns) float32, by name, in order.

        Raises:
            DataError: Naming the columns that are missing or of an unfit type.
        """
        if problems := self.problems(table):
            raise DataError(
                f"expected the columns {', '.join(self.names)}. Received: "
                f"{'; '.join(problems)}."
            )
        return self.read(table[list(self.names)].to_numpy(np.float32))

    def read(self, given: Any) -> np.ndarray:
        """Returns rows (num_rows, num_columns) float32, NaN where one is not finite.

        Raises:
            DataError: If they are no numbers of that shape.
        """
        wanted = f"(num_rows, {len(self.names)})"
        try:
            values = np.asarray(given, np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"expected numbers of shape {wanted}. Received: {error!s:.100}"
            ) from error
        if values.shape[1:] != (len(self.names),):
            raise DataError(
                f"expected numbers of shape {wanted}, the columns "
                f"{', '.join(self.names)}. Received: shape {values.shape}."
            )
        is_finite = np.isfinite(values)
        return values if is_finite.all() else np.where(is_finite, values, np.nan)

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON values."""
        return {
            "timeframe": self.timeframe,
            "window_bars": self.window_bars,
            "columns": [asdict(column) for column in self.columns],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restores a schema from `to_dict`; raises whatever other values make it."""
        columns = tuple(Column(**each) for each in values["columns"])
        found = cls(
            columns=columns,
            timeframe=values["timeframe"],
            window_bars=values["window_bars"],
        )
        if found.to_dict() != values or not all(_is_column(each) for each in columns):
            raise ValueError("a schema with other columns than names and types")
        return found


def compatibility_hash(taken: Schema, given: Schema) -> str:
    """Returns the SHA-256 of what goes into a pipeline and what comes out of it.

    Row counts and what was learned are no part of it: pipelines of one hash stand for
    each other.
    """
    return sha256_json([taken.to_dict(), given.to_dict()])


def _is_column(column: Column) -> bool:
    is_named = isinstance(column.name, str) and isinstance(column.nulls, bool)
    return is_named and bool(_TYPES.fullmatch(column.type))


def _lost_bits(cells: pd.Series, wanted: str, least: np.dtype[Any]) -> str:
    """Returns of which unfit type cells are; nothing of those that keep every bit."""
    dtype = getattr(cells.dtype, "numpy_dtype", cells.dtype)
    if not isinstance(dtype, np.dtype) or dtype.kind not in "fiub":
        return f"of {dtype}, not {wanted}"
    if dtype == wanted:
        return ""
    if dtype.kind == "f" and dtype.itemsize < least.itemsize:
        return f"of {dtype}, not {wanted}: bits are lost"
    values = cells.dropna().to_numpy(dtype)
    with np.errstate(all="ignore"):
        is_kept = np.array_equal(values.astype(wanted).astype(dtype), values)
    return "" if is_kept else f"of {dtype}, not {wanted}: bits would be lost"
