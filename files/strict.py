"""Strict JSON, `.npy` and zip: what is written can be read back by any parser.

In: text and bytes of others, taken for what they say and refused otherwise. Out: where
they lie and how they get there (`files.atomic`).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

import numpy as np

from files.atomic import atomic_write
from utils import DataError

MAX_JSON_BYTES = 64 * 2**20


def to_jsonable(value: Any) -> Any:
    """Converts NumPy values, paths, dates and tuples; non-finite floats become None."""
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return to_jsonable(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [to_jsonable(item) for item in items]
    if isinstance(value, np.generic):
        return to_jsonable(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value


def to_json(value: Any) -> str:
    """Returns `value` as indented, strict JSON, with a newline at its end."""
    text = json.dumps(to_jsonable(value), indent=2, allow_nan=False, ensure_ascii=False)
    return text + "\n"


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented, strict JSON, atomically."""
    atomic_write(path, to_json(value))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads what `parse_json` takes, of at most MAX_JSON_BYTES."""
    with open(path, "rb") as stream:
        # The buffer is as large as what is asked for, where memory may be short.
        size = os.fstat(stream.fileno()).st_size
        data = stream.read(min(size, MAX_JSON_BYTES) + 1)
    if len(data) > MAX_JSON_BYTES:
        raise DataError(f"{path}: expected at most {MAX_JSON_BYTES} bytes of JSON.")
    return parse_json(data, path)


def parse_json(data: bytes, source: object) -> Any:
    """Returns the value of strict JSON: no key twice, NaN, Infinity; or DataError."""

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
            raise ValueError(f"key {twice!r} appears twice")
        return result

    def no_constant(literal: str) -> Any:
        raise ValueError(f"{literal} is not JSON")

    def finite(literal: str) -> float:
        if not math.isfinite(value := float(literal)):
            raise ValueError(f"{literal[:40]} is no finite number")
        return value

    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=no_duplicates,
            parse_constant=no_constant,
            parse_float=finite,
        )
        if b"\\ud" in data.lower():  # half a character, which no file can have
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{source}: expected strict JSON. Received: {error!s:.300}."
        ) from error


def sha256_json(value: Any) -> str:
    """Returns the SHA-256 of a value's canonical JSON."""
    text = json.dumps(
        to_jsonable(value), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def unzip_stored(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields name and bytes of each member of a zip; they are no larger than it is.

    Raises:
        ValueError: If members are packed, or share a name.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        items = archive.infolist()
        is_packed = any(item.compress_type != zipfile.ZIP_STORED for item in items)
        if is_packed or sum(item.file_size for item in items) > len(data):
            raise ValueError("expected members that are not packed")
        if len({item.filename for item in items}) < len(items):
            raise ValueError("expected each member once")
        for item in items:
            yield item.filename, archive.read(item)


def parse_npy(data: bytes, source: object) -> np.ndarray:
    """Returns the array in the bytes of an `.npy` file, which is no larger than they.

    Raises:
        ValueError: If it is of objects, of another version, or of another size.
    """
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{source} is of another version")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    size = len(data) - stream.tell()
    if math.prod(shape) * dtype.itemsize != size or dtype.hasobject:
        raise ValueError(f"{source} is of another size")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)
