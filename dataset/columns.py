"""The columns of a training file: which is what, and labels as classes.

In: names as files and frames of others have them, columns that are no features, labels
written as numbers or words, where labels may be missing. Out: the rows that they make
(`dataset.training_file`), file formats (`files.tables`).
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import utils
from candles.columns import one_market
from candles.layouts import ENDS, SYMBOLS, TIMES, plain_name
from candles.timestamps import parse_timestamps, with_clock
from config import CLASS_NAMES, HOLD, LONG, SHORT
from dataset.labels import OUTCOME_TYPES
from files.tables import Columns
from files.text import BLANK
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

LABEL_CURE = (
    "Name the column with the classes (0 SHORT, 1 HOLD, 2 LONG) so, or build the file "
    "with dataset_builder.py."
)

BESIDE = "read beside them"
"""Why a column of the contract is no feature."""

_NAMELESS = re.compile(r"\s*|Unnamed: \d+(_level_\d+)?|__index_level_\d+__")
_CLASS_OF_WORD = {
    **dict.fromkeys(("short", "sell", "down"), SHORT),
    **dict.fromkeys(("hold", "flat", "neutral"), HOLD),
    **dict.fromkeys(("long", "buy", "up"), LONG),
}
_MISSING_WORDS = (*BLANK, "<na>", "nat")
_SIGNS = (-1, 0, 1)
_HEAD_ROWS = 1000
_MIN_COUNTED_ROWS = 10


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
            parse_timestamps(pa.chunked_array([head.column(name)]))
        except DataError:
            continue
        return name
    return next(iter(named), None)


def clock_of(columns: Columns) -> str | None:
    """Returns the column of times of day beside `timestamp`, if there is one."""
    head, words = columns.head(_HEAD_ROWS), " ".join(TIMES).split()
    if head is None or "timestamp" not in columns.names:
        return None
    day, *others = (
        (name, 0, pa.chunked_array([head.column(name)]))
        for name in sorted(columns.names, key="timestamp".__ne__)
        if plain_name(name) in words
    )
    found = (other[0] for other in others if len(with_clock([day, other])) == 1)
    return next(found, None)


def read_time_cells(columns: Columns) -> pa.ChunkedArray:
    """Returns the cells of `timestamp`, with the times of day of `clock_of`."""
    cells, clock = columns.read("timestamp"), clock_of(columns)
    if clock is None:
        return cells
    both = [("timestamp", 0, cells), (clock, 1, columns.read(clock))]
    name, _, cells = with_clock(both)[0]
    if name != "timestamp":
        logger.info("timestamp: with the time of day in %s", _shown(clock))
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
    clock = clock_of(columns)
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
        elif name == clock:
            reason = "the time of day"
        elif head is not None and _is_time(head.column(name)):
            reason = "another time"
        elif plain_name(name) in SYMBOLS.split() and _names_market(columns, name, pair):
            reason = "the market"
        elif head is not None and _counts(head.column(name)):
            reason = "counts the rows" if _counts(columns.read(name)) else None
        if reason is None:
            names.append(name)
        else:
            left_out.setdefault(reason, []).append(_shown(name))
    return names, left_out


def _names_market(columns: Columns, name: str, pair: str | None) -> bool:
    """Whether a column has words, which then must be one market, and that of `pair`."""
    kind = columns.kind(name)
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return False
    cells = pc.utf8_trim_whitespace(pc.cast(columns.read(name), pa.string()))
    market = one_market(cells.combine_chunks().dictionary_encode(), name)
    if market is not None and pair is not None and is_other_market(market, pair):
        if not market.isupper() and len(market) < 5:
            return False  # a word, no market
        raise DataError(
            f"expected rows of {pair}. Received: {market!r} in column {name!r}. "
            "Say --pair with the market of the file, or take another file."
        )
    return True


def describe_left_out(left_out: Mapping[str, Sequence[str]]) -> str:
    """Returns what `feature_columns` left out, in words."""
    found = (f"{', '.join(names)} ({reason})" for reason, names in left_out.items())
    return "not read as features: " + "; ".join(found)


def _shown(name: str) -> str:
    return name if name.isidentifier() else repr(name)


def _is_time(column: pa.Array) -> bool:
    """Whether a column has dates or times of day, also as text."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
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


# Labels


def has_labels(names: Iterable[str]) -> bool:
    """Whether columns of these names say classes, or a number to predict."""
    return not {"label", *ONE_HOT, "target"}.isdisjoint(names)


def read_labels(
    columns: Columns, may_lack: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the class ids int8 (num_rows,), and the rows that have none (num_rows,).

    These hold HOLD, which nobody reads. See `label_classes` for the rest.

    Raises:
        DataError: If a row that is a target has none.
    """
    classes = label_classes(columns, may_lack)
    lacks = np.isnan(classes)
    bad = np.flatnonzero(lacks & ~may_lack)
    if len(bad):
        raise DataError(
            "label: expected a label in every row that is a target. Received: "
            f"{_count(bad)} without, the first is row {bad[0]}. Only rows without a "
            "whole window or future may have none: set future_window to the bars that "
            "labels look ahead, or mark other rows as no targets in a column is_target."
        )
    found = np.unique(classes[~lacks]).astype(int).tolist()
    if found and LONG not in found:
        read = " and ".join(f"{k} as {CLASS_NAMES[k]}" for k in found)
        logger.warning("label: no row is LONG (2); read are %s", read)
    return np.where(lacks, HOLD, classes).astype(np.int8), lacks


def label_classes(columns: Columns, may_lack: np.ndarray) -> np.ndarray:
    """Returns the class ids (num_rows,), NaN in rows without a label.

    Classes are written as 0, 1, 2, or -1, 0, 1 in this order, or words such as SHORT,
    HOLD, LONG, or one-hot.

    Args:
        columns: The file or frame.
        may_lack: Rows that are no targets (num_rows,). They may have no label, or -1.

    Raises:
        DataError: If there are no labels, or others than these.
    """
    if "label" in columns.names:
        return _read_classes(columns, may_lack)
    return _read_one_hot(columns, may_lack)


def _read_classes(columns: Columns, may_lack: np.ndarray) -> np.ndarray:
    """Returns the classes of the column `label` (num_rows,), NaN where it has none."""
    column = columns.read("label")
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = pc.cast(column, kind.value_type), kind.value_type
    if pa.types.is_boolean(kind) or not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_null(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    ):
        raise _other_labels(f"a column of type {kind}")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = _from_words(column)
    else:
        values = pc.cast(column, pa.float64()).to_numpy().copy()
    asked = ~may_lack & ~np.isnan(values)
    is_sign = asked & (values == -1)
    is_class = np.isin(values, range(len(CLASS_NAMES)))
    if not is_sign.any():  # of rows without an outcome, as `labels` writes them
        values[may_lack & (values == -1)] = np.nan
    elif not (values[asked] == LONG).any():
        is_class = np.isin(values, _SIGNS)
    bad = np.flatnonzero(~np.isnan(values) & ~is_class)
    if len(bad):
        first = f"{_count(bad)} with others, the first is row {bad[0]}"
        raise _other_labels(f"{first}: {values[bad[0]]:g}")
    if is_sign.any():
        logger.info("label: -1, 0, 1 read as %s", ", ".join(CLASS_NAMES))
        values += 1
    return values


def _from_words(column: pa.ChunkedArray) -> np.ndarray:
    """Returns what words, or numbers as text, say (num_rows,), NaN for empty cells."""
    coded = column.dictionary_encode().combine_chunks()
    texts = coded.dictionary.to_pylist()
    words = {text: text.strip().lower() for text in texts}
    there = [word for word in words.values() if word not in _MISSING_WORDS]
    is_word = any(word in _CLASS_OF_WORD for word in there)
    values = np.full(len(texts) + 1, np.nan)  # the last one: an empty cell
    for k, word in enumerate(words.values()):
        if word in _MISSING_WORDS:
            continue
        try:
            values[k] = _CLASS_OF_WORD[word] if is_word else float(word)
        except (KeyError, ValueError):
            raise _other_labels(f"{texts[k]!r:.60}") from None
    if is_word:
        shown = [text for text, word in words.items() if word in there]
        read = [CLASS_NAMES[_CLASS_OF_WORD[words[text]]] for text in shown]
        logger.info("label: %s read as %s", ", ".join(shown), ", ".join(read))
    codes = coded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
    return values[codes]


def _read_one_hot(columns: Columns, may_lack: np.ndarray) -> np.ndarray:
    """Returns the classes of `label_0` to `label_2` (num_rows,), NaN without one."""
    missing = [name for name in ONE_HOT if name not in columns.names]
    if missing:
        raise DataError(
            f"expected a column 'label', or {', '.join(ONE_HOT)}. "
            f"Received: {', '.join(columns.names)}. {LABEL_CURE}"
        )
    one_hot = np.empty((len(may_lack), len(ONE_HOT)), np.float32)
    columns.read_numbers({name: one_hot[:, j] for j, name in enumerate(ONE_HOT)})
    classes = one_hot.argmax(axis=1).astype(np.float64)
    classes[np.isnan(one_hot).all(axis=1)] = np.nan
    classes[may_lack & (one_hot == 0).all(axis=1)] = np.nan
    good = np.isin(one_hot, (0, 1)).all(axis=1) & (one_hot.sum(axis=1) == 1)
    good |= np.isnan(classes)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(
            f"{', '.join(ONE_HOT)}: expected a single 1 in each row. Received: "
            f"{(~good).sum()} rows without, the first is row {row}: {one_hot[row]}"
        )
    return classes


def _count(rows: Sequence[int] | np.ndarray) -> str:
    return utils.counted(len(rows), "row", "rows")


def _other_labels(received: str) -> DataError:
    return DataError(
        "label: expected 0 (SHORT), 1 (HOLD) or 2 (LONG), or -1, 0, 1, or these "
        f"words. Received: {received}. Write the classes so where the file is made."
    )
