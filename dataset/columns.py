"""The columns of a training file: which is what.

In: names as files and frames of others have them, times, columns that are no features.
Out: labels as classes (`label_columns`), the rows that all make (`training_file`), file
formats (`files.tables`).
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from candles.columns import one_market
from candles.layouts import ENDS, SYMBOLS, TIMES, piece_of, plain_name
from candles.timestamps import parse_timestamps
from dataset.labels import OUTCOME_TYPES
from files.clocks import PIECE_RANK, find_clock, with_clock
from files.tables import Columns
from settings.names import is_other_market
from utils import DataError

logger = logging.getLogger(__name__)

ONE_HOT = ("label_0", "label_1", "label_2")
OUTCOMES = {"close": np.float64, **OUTCOME_TYPES}
"""Columns that evaluation uses, and the type they are kept in."""

NOT_FEATURES = frozenset(
    ["timestamp", "label", *ONE_HOT, *OUTCOMES]
    + ["target", "segment", "is_target", "is_filled"]
)
"""Names that are never read as features."""

BESIDE = "read beside them"
"""Why a column of the contract is no feature."""

_NAMELESS = re.compile(r"\s*|Unnamed: \d+(_level_\d+)?|__index_level_\d+__")
_PLACES = (
    "exchange venue broker provider vendor source feed base quote basecurrency "
    "quotecurrency currency interval timeframe resolution instrumenttype"
)
"""Columns that say where all rows come from."""
_HEAD_ROWS = 1000
_MIN_COUNTED_ROWS = 10


def shape_of(columns: Columns) -> tuple[int, int]:
    """Returns how many rows and features a training file has."""
    num_rows = len(columns.read(columns.names[0]))
    return num_rows, len({*columns.names} - NOT_FEATURES)


# Names


def name_columns(columns: Columns) -> Columns:
    """Gives the columns of a file or frame the names of the contract; returns them.

    These are understood in any case. Without a column `timestamp`, the time is the
    first column that is called one in files of candles, or has no name, and is one.

    Raises:
        DataError: If two columns have one name.
    """
    plain = {name: name.strip().lower() for name in columns.names}
    known = {name: key for name, key in plain.items() if key in NOT_FEATURES}
    for key in known.values():
        if len(same := [name for name in known if known[name] == key]) > 1:
            raise DataError(
                f"expected one column {key!r}. Received: "
                f"{', '.join(map(repr, same))}. Rename or remove one of them."
            )
    if "timestamp" not in known.values() and (time := _find_time(columns)) is not None:
        known[time] = "timestamp"
        logger.info("timestamp: read from the column %s", _shown(time))
    columns.rename(known)
    return columns


def _find_time(columns: Columns) -> str | None:
    ranks = [aliases.split() for aliases in TIMES if aliases != ENDS]
    names = columns.names
    named = [name for rank in ranks for name in names if plain_name(name) in rank]
    head = columns.head(_HEAD_ROWS)
    if head is None:
        return next(iter(named), None)
    for name in [*named, *filter(_NAMELESS.fullmatch, names)]:
        try:
            cells = pa.chunked_array([head.column(name)])
            is_named = plain_name(name) in " ".join(TIMES[:2]).split()
            parse_timestamps(cells, is_named=is_named)
        except DataError:
            continue
        return name
    return next(iter(named), None)


def clocks_of(columns: Columns) -> list[str]:
    """Returns the columns of times of day beside `timestamp`, if there are any."""
    head = columns.head(_HEAD_ROWS)
    if head is None or "timestamp" not in columns.names:
        return []
    others = [name for name in columns.names if name != "timestamp"]
    clocks = [n for n in others if plain_name(n) in " ".join(TIMES[:2]).split()]
    pieces = [n for n in others if piece_of([plain_name(n)])]
    for name in clocks:
        if len(with_clock(_as_times(["timestamp", name], head.column))) == 1:
            return [name]
    found = find_clock(_as_times(["timestamp", *pieces], head.column))
    return [pieces[i - 1] for i in found[1]] if found else []


def _as_times(
    names: Sequence[str], cells_of: Callable[[str], pa.Array | pa.ChunkedArray]
) -> list[tuple[str, int, pa.ChunkedArray]]:
    """Returns columns as `files.clocks` takes them."""
    found = []
    for name in names:
        piece, cells = piece_of([plain_name(name)]), cells_of(name)
        cells = pa.chunked_array([cells]) if isinstance(cells, pa.Array) else cells
        found.append((piece or name, PIECE_RANK if piece else 0, cells))
    return found


def read_time_cells(columns: Columns) -> pa.ChunkedArray:
    """Returns the cells of `timestamp`, with the times of day of `clocks_of`."""
    clocks = clocks_of(columns)
    if not clocks:
        return columns.read("timestamp")
    ((name, _, cells),) = with_clock(_as_times(["timestamp", *clocks], columns.read))
    if name != "timestamp":
        logger.info("timestamp: with the time of day in %s", ", ".join(clocks))
    return cells


def order_rows(columns: Columns, times: np.ndarray) -> np.ndarray:
    """Drops exact duplicates, turns rows round of which the newest is the first.

    Rows that contradict each other, or are in no order, stay as they are.

    Args:
        columns: The file or frame.
        times: Nanoseconds of its rows (num_rows,).

    Returns:
        The times of the rows that `columns` has now.
    """
    if (np.diff(times) > 0).all():
        return times
    _, which, counts = np.unique(times, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[which] > 1)
    rows = np.arange(len(times))
    if len(repeated):
        named = [name for name in columns.names if not _NAMELESS.fullmatch(name)]
        cells = columns.take(repeated).select(named).to_pandas()
        copies = repeated[cells.duplicated().to_numpy()]
        rows = np.delete(rows, copies)
        if len(copies):
            logger.info("exact duplicates dropped: %d", len(copies))
    if (np.diff(times[rows]) < 0).all():
        rows = rows[::-1]
        logger.info("the newest row is the first: turned round")
    elif len(rows) == len(times):
        return times
    columns.keep(rows)
    return times[rows]


def feature_columns(
    columns: Columns, pair: str | None = None
) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the names of the features, and what is no feature by the reason.

    A column without a name, a time, and a column that counts (it grows in every row,
    by whole numbers or always the same) say where a row stands, not what the market
    does. Nor does one that names the market.

    Raises:
        DataError: If a column names several markets, or another than `pair`.
    """
    head = columns.head(_HEAD_ROWS)
    clocks = clocks_of(columns)
    names: list[str] = []
    left_out: dict[str, list[str]] = {}
    for name in columns.names:
        reason = None
        if name in NOT_FEATURES:
            # Our own builder's columns need no words.
            is_known = name in ("timestamp", "label", *ONE_HOT)
            if is_known or "label_end" in columns.names:
                continue
            reason = BESIDE
        elif _NAMELESS.fullmatch(name):
            reason = "without a name"
        elif name in clocks:
            reason = "the time of day"
        elif head is not None and _is_time(head.column(name)):
            reason = "another time"
        elif is_text(columns.kind(name)):
            reason = _reason_of_words(columns, name, pair)
        elif head is not None and _counts(head.column(name)):
            reason = "counts the rows" if _counts(columns.read(name)) else None
        if reason is None:
            names.append(name)
        else:
            left_out.setdefault(reason, []).append(_shown(name))
    return names, left_out


def _reason_of_words(columns: Columns, name: str, pair: str | None) -> str | None:
    """Returns why words are no feature: one market, that of `pair`, or one place of it.

    None of others, which are refused where features are read.
    """
    is_symbol = plain_name(name) in SYMBOLS.split()
    if not is_symbol and plain_name(name) not in _PLACES.split():
        return None
    cells = pc.utf8_trim_whitespace(pc.cast(columns.read(name), pa.string()))
    cells = cells.combine_chunks().dictionary_encode()
    if not is_symbol:
        return "the same in every row" if len(cells.dictionary) == 1 else None
    market = one_market(cells, name)
    if market is not None and pair is not None and is_other_market(market, pair):
        if not market.isupper() and len(market) < 5:
            return None  # a word, no market
        raise DataError(
            f"expected rows of {pair}. Received: {market!r} in column {name!r}. "
            "Say --pair with the market of the file, or take another file."
        )
    return "the market"


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is text, also where the words are numbered."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def describe_left_out(left_out: Mapping[str, Sequence[str]]) -> str:
    """Returns what `feature_columns` left out, in words."""
    found = (f"{', '.join(names)} ({reason})" for reason, names in left_out.items())
    return "not read as features: " + "; ".join(found)


def _shown(name: str) -> str:
    return name if name.isidentifier() else repr(name)


def _is_time(column: pa.Array) -> bool:
    """Whether a column has dates or times of day, also as text."""
    kind = column.type
    if is_text(kind):
        with contextlib.suppress(DataError):
            parse_timestamps(pa.chunked_array([column]))
            return True
    is_date = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    return is_date or pa.types.is_time(kind)


def _counts(column: pa.Array | pa.ChunkedArray) -> bool:
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not is_number or column.null_count or len(column) < _MIN_COUNTED_ROWS:
        return False
    values = column.to_numpy(zero_copy_only=False).astype(np.float64)
    steps = np.diff(values)
    if not ((steps > 0).all() or (steps < 0).all()):
        return False
    rounding = 8 * np.finfo(np.float32).eps * np.abs(values).max()
    is_even = np.ptp(steps) <= rounding < 0.01 * abs(values[-1] - values[0])
    return bool(is_even or (values == np.floor(values)).all())


def has_labels(names: Iterable[str]) -> bool:
    """Whether columns of these names say classes, or a number to predict."""
    return not {"label", *ONE_HOT, "target"}.isdisjoint(names)
