"""Kinds of the files in a folder, by their first bytes: what could run code there.

In: a folder of anybody's. Out: whether a file is what somebody vouched for
(`artifacts.manifest`), reading one (`tables`, `strict`).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from utils import MissingInputError

PICKLES = ("pickle", "torch zip", "npy of objects", "pickle by name")
"""Kinds of files that could run code when they are opened."""

_MAGIC = {
    b"\x89HDF\r\n": "hdf5",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "zip",
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\x89PNG": "png",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{bytes([0x80, protocol]): "pickle" for protocol in range(2, 6)},
}
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".skops", ".dill")
_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
_HEAD_BYTES = 256


def scan(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Returns `name`, `kind` and `bytes` of every file below a folder; opens no model.

    A kind is told by the first bytes, where they tell; a pickle of text has none, so
    names that pickles have count, too.

    Raises:
        MissingInputError: If there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingInputError(f"scan: expected a folder. Received: {root}")
    found = []
    for parent, folders, names in os.walk(root):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        folders.sort()
        for name in sorted([*names, *links]):
            path = Path(parent, name)
            place = path.relative_to(root).as_posix()
            size = path.lstat().st_size
            found.append({"name": place, "kind": _kind(path), "bytes": size})
    return found


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "link"
    if not stat.S_ISREG(mode):
        return "pipe or device"
    try:
        # Nothing is waited for, should it be another file by now.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(path, flags), "rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return "unreadable"
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
    if kind == "zip" and (path.suffix in _TORCH_SUFFIXES or _has_pickle_first(head)):
        return "torch zip"
    if kind == "npy" and b"'|O" in head:
        return "npy of objects"
    if kind != "pickle" and path.suffix in _PICKLE_SUFFIXES:
        return "pickle by name"
    if kind:
        return kind
    is_text = not head[:16].strip(bytes(range(32, 127)) + b"\t\n\r")
    return {b"{": "json", b"[": "json"}.get(head[:1], "text" if is_text else "other")


def _has_pickle_first(head: bytes) -> bool:
    """Whether a zip begins with a member named like a pickle, as PyTorch writes it."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return name.endswith(tuple(suffix.encode() for suffix in _PICKLE_SUFFIXES))
