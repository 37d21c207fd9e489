"""Packed files -> what is inside: gzip and zip, refused where they unpack to far more.

In: what a file begins with, members of a zip that are not a desktop's. Out: what the
text says (`text`).
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from files.text import MAGIC, looks_like, refusal

MAX_UNPACKED_BYTES = 2 * 2**30
MAX_UNPACK_RATIO = 100


def unpack_gzip(path: Path) -> bytes:
    """Returns the content of a gzip file.

    Raises:
        DataError: If it is none, or looks like a decompression bomb.
    """
    require_magic(path, b"\x1f\x8b")
    with gzip.open(path) as stream:
        return _unpack(stream, path)


def zip_members(path: Path) -> list[zipfile.ZipInfo]:
    """Returns the files inside a zip, without those that programs of a desktop add.

    Raises:
        DataError: If it is no zip.
    """
    require_magic(path, b"PK\x03\x04")
    with zipfile.ZipFile(path) as archive:
        return [item for item in archive.infolist() if not _is_clutter(item)]


def unpack_members(path: Path, members: list[zipfile.ZipInfo]) -> Iterator[bytes]:
    """Yields the content of each of the files inside a zip.

    Raises:
        DataError: If one looks like a decompression bomb.
    """
    with zipfile.ZipFile(path) as archive:
        for item in members:
            with archive.open(item) as stream:
                yield _unpack(stream, path)


def require_magic(path: Path, magic: bytes) -> bytes:
    """Returns the end of a file that begins with `magic`, as many bytes.

    Raises:
        DataError: If it begins with something else.
    """
    with open(path, "rb") as stream:
        head = stream.read(64)
        stream.seek(max(0, path.stat().st_size - len(magic)))
        tail = stream.read()
    if not head.startswith(magic):
        cure = "Rename it after what it is."
        raise refusal(path, MAGIC[magic], looks_like(head), cure)
    return tail


def _unpack(stream: IO[bytes] | gzip.GzipFile, path: Path) -> bytes:
    """Returns all of `stream`, refusing what grows beyond any file of ours."""
    packed_bytes = path.stat().st_size
    limit = min(MAX_UNPACKED_BYTES, MAX_UNPACK_RATIO * packed_bytes + 2**20)
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise refusal(
            path,
            f"at most {limit} bytes from {packed_bytes} packed bytes",
            "more: this looks like a decompression bomb",
            "Do not use this file.",
        )
    return data


def _is_clutter(item: zipfile.ZipInfo) -> bool:
    name = item.filename
    hidden = name.startswith("__MACOSX/") or name.rsplit("/", 1)[-1].startswith(".")
    return item.is_dir() or hidden or name.endswith(".CHECKSUM")
