"""The labels of a training file, however they are written, as classes.

In: labels as numbers, words or one-hot, where they may be missing. Out: which columns
have them (`columns`), the rows that they belong to (`training_file`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import utils
from config import CLASS_NAMES, HOLD, LONG, SHORT
from dataset.columns import ONE_HOT, is_text
from files.tables import Columns
from files.text import BLANK
from utils import DataError

logger = logging.getLogger(__name__)

LABEL_CURE = (
    "Name the column with the classes (0 SHORT, 1 HOLD, 2 LONG) so, or build the file "
    "with dataset_builder.py."
)


_CLASS_OF_WORD = {
    **dict.fromkeys(("short", "sell", "down"), SHORT),
    **dict.fromkeys(("hold", "flat", "neutral"), HOLD),
    **dict.fromkeys(("long", "buy", "up"), LONG),
}
_MISSING_WORDS = (*BLANK, "<na>", "nat")
_SIGNS = (-1, 0, 1)


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
    found = [k for k in range(len(CLASS_NAMES)) if (classes == k).any()]
    if found and LONG not in found:
        read = " and ".join(f"{k} as {CLASS_NAMES[k]}" for k in found)
        logger.warning("label: no row is LONG (2); read are %s", read)
    ids = np.full(len(classes), HOLD, np.int8)
    np.copyto(ids, classes, where=~lacks, casting="unsafe")
    return ids, lacks


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
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_null, is_text)
    if not any(check(kind) for check in known):
        raise _other_labels(f"a column of type {kind}")
    if is_text(kind):
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
            f"{utils.counted((~good).sum(), 'row', 'rows')} without, the first is "
            f"row {row}: {one_hot[row]}"
        )
    return classes


def _count(rows: Sequence[int] | np.ndarray) -> str:
    return utils.counted(len(rows), "row", "rows")


def _other_labels(received: str) -> DataError:
    return DataError(
        "label: expected 0 (SHORT), 1 (HOLD) or 2 (LONG), or -1, 0, 1, or these "
        f"words. Received: {received}. Write the classes so where the file is made."
    )
