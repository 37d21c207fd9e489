"""Names in files of columns that are safe to show, on a terminal or a page.

In: names of columns and of time zones. Out: the columns themselves (`files.tables`).
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from utils import DataError, is_plain_text


def refuse_unsafe_names(names: Iterable[object], where: object) -> None:
    """Raises DataError for names of columns that could steer a terminal or a page."""
    unsafe = [name for name in map(str, names) if not is_plain_text(name)]
    if unsafe:
        raise DataError(
            f"{where}: expected names of columns in printable characters. Received: "
            f"{', '.join(ascii(name[:60]) for name in unsafe[:5])}. Rename them."
        )


def refuse_unsafe_schema(schema: pa.Schema, where: object) -> None:
    """Raises DataError for names of columns, or of zones, that no text can show."""
    try:
        zones = [getattr(field.type, "tz", None) or "" for field in schema]
        refuse_unsafe_names([*schema.names, *zones], where)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: expected names of columns and time zones in UTF-8. Received: "
            f"other bytes ({error}). Make the file again."
        ) from error
