"""A folder of Parquet tables found by key: damage is noticed, size is capped.

In: storing a table whole, finding it again, removing the least recently used. Out: what
a key is made of (`fingerprints`) and what a table means (`dataset_builder`).

Two programs may share the folder: a table appears by rename, a removed one stays
readable for whoever has it open, and whoever finds none makes it again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet

from files.atomic import atomic_path
from files.strict import to_jsonable
from files.tables import refuse_extension_types

logger = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 4 * 10**9

_Read = TypeVar("_Read")

# Two cores read groups of this size twice as fast as one group of 2 M rows.
_ROW_GROUP_ROWS = 2**18
_LEFTOVER_SECONDS = 86_400
_NAME = re.compile(r"(\.tmp-[0-9a-f]+-)?[a-z]+-[0-9a-f]{32}\.parquet")


class DatasetCache:
    """Tables by kind and key, in one folder of their own.

    Args:
        folder: Where the tables are; made when the first one is stored. Files of other
            names in it are left alone.
        max_bytes: The least recently used tables beyond this are removed.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes

    def facts(self, kind: str, key: str) -> dict[str, Any] | None:
        """Returns what `load` does without the table, whose pages are not read."""
        return self._use(self._path(kind, key), lambda path: _open(path)[1])

    def load(
        self, kind: str, key: str, names: Sequence[str] | None = None
    ) -> tuple[pa.Table, dict[str, Any]] | None:
        """Returns a table and its facts; None where there is none, or a damaged one.

        Args:
            kind: What it is.
            key: Digest of what it was made from.
            names: Columns to read, as far as it has them; None reads all.
        """
        return self._use(self._path(kind, key), lambda path: _read(path, names))

    def _use(self, path: Path, read: Callable[[Path], _Read]) -> _Read | None:
        try:
            found = read(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except Exception as error:  # whatever the reason: it is made again
            reason = str(error).splitlines()[0][:200] if str(error) else repr(error)
            logger.warning("%s is damaged and is made again: %s", path, reason)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # when it was last used
        return found

    def store(
        self, kind: str, key: str, table: pa.Table, facts: Mapping[str, Any]
    ) -> None:
        """Keeps a table; a folder that does not take it costs a warning, no more."""
        path = self._path(kind, key)
        if table.nbytes > self.max_bytes:
            logger.info("not cached: larger than the cap of %d bytes", self.max_bytes)
            return
        try:
            with atomic_path(path) as temporary:
                _write(temporary, table, path.name, facts)
            self._remove_oldest(keep=path)
        except OSError as error:
            # A full disk has more to say when the result itself is written.
            is_full = getattr(error.__cause__, "errno", error.errno) == errno.ENOSPC
            level = logging.DEBUG if is_full else logging.WARNING
            logger.log(level, "not cached: %s", error)

    def info(self) -> dict[str, Any]:
        """Returns folder, cap, total size and the tables, the latest used first."""
        entries = [
            {
                "name": path.stem,
                "bytes": stat.st_size,
                "used": datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(),
            }
            for path, stat in reversed(self._entries())
            if not path.name.startswith(".")
        ]
        return {
            "folder": str(self.folder),
            "max_bytes": self.max_bytes,
            "bytes": sum(entry["bytes"] for entry in entries),
            "tables": entries,
        }

    def clear(self) -> int:
        """Removes every table; returns how many."""
        entries = self._entries()
        for path, _ in entries:
            path.unlink(missing_ok=True)
        return len(entries)

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / f"{kind}-{key[:32]}.parquet"

    def _entries(self) -> list[tuple[Path, os.stat_result]]:
        """Returns our files, the least recently used first."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.folder.iterdir():
                if _NAME.fullmatch(path.name):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((path, path.stat()))
        return sorted(found, key=lambda item: (item[1].st_mtime_ns, item[0].name))

    def _remove_oldest(self, *, keep: Path) -> None:
        entries = self._entries()
        total = sum(stat.st_size for _, stat in entries)
        for path, stat in entries:
            unfinished = path.name.startswith(".")
            # A killed writer's leftover; a younger one may still be at work.
            stale = unfinished and time.time() - stat.st_mtime > _LEFTOVER_SECONDS
            too_much = total > self.max_bytes and not unfinished and path != keep
            if stale or too_much:
                path.unlink(missing_ok=True)
                total -= stat.st_size


def _write(path: Path, table: pa.Table, name: str, facts: Mapping[str, Any]) -> None:
    """Writes pages with checksums, and in the footer a digest of what they hold."""
    content = json.dumps(
        to_jsonable(
            {"name": name, "facts": facts, "rows": table.num_rows}
            | {"columns": [[field.name, str(field.type)] for field in table.schema]}
        ),
        allow_nan=False,
    ).encode()
    digest = hashlib.sha256(content).hexdigest().encode()
    compression = {
        # Features do not compress, and reading them plainly is twice as fast.
        field.name: "NONE" if pa.types.is_float32(field.type) else "LZ4"
        for field in table.schema
    }
    pa.parquet.write_table(
        table.replace_schema_metadata({"content": content, "sha256": digest}),
        path,
        row_group_size=_ROW_GROUP_ROWS,
        compression=compression,
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )


def _open(path: Path) -> tuple[pa.parquet.ParquetFile, dict[str, Any]]:
    """Returns a file whose footer and name are those written, and its facts."""
    file = pa.parquet.ParquetFile(path, page_checksum_verification=True)
    schema = file.schema_arrow
    refuse_extension_types(schema, path)
    content = (schema.metadata or {}).get(b"content", b"")
    written = (schema.metadata or {}).get(b"sha256", b"").decode()
    if hashlib.sha256(content).hexdigest() != written:
        raise ValueError("its description does not match its digest")
    description = json.loads(content)
    columns = [[field.name, str(field.type)] for field in schema]
    found = {"name": path.name, "rows": file.metadata.num_rows, "columns": columns}
    wrong = [name for name, value in found.items() if description[name] != value]
    if wrong:
        raise ValueError(f"its {', '.join(wrong)} are not those that were written")
    return file, description["facts"]


def _read(path: Path, names: Sequence[str] | None) -> tuple[pa.Table, dict[str, Any]]:
    """Reads columns of which every page is the one that was written."""
    file, facts = _open(path)
    there = file.schema_arrow.names
    table = file.read([name for name in there if names is None or name in names])
    table.validate()
    if table.num_rows != file.metadata.num_rows:
        raise ValueError(f"{file.metadata.num_rows} rows were written")
    return table.replace_schema_metadata(None), facts
