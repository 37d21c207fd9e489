"""Changes of model files: their bytes, their header, their arrays and members.

Each takes a whole file and a random generator, and nothing else decides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from world.models import npy, pack, unpack

ODD_VALUES = [None, True, False, 0, -1, 1, 2, 3, 4, 7, 2**31, 2**70, 0.5, 1e308, 3.0]
ODD_VALUES += ["", "x", "mean", "identity", "logistic", "softmax", "trees", "linear"]
ODD_VALUES += [[], {}, [[]], {"a": 1}, "9" * 5000, "\ud800"]
ODD_NUMBERS = [0.0, -0.0, -1.0, 1.0, 2.0, 3.0, 4.0, 1e9, 2.0**31, 2.0**63, 1e100, 1e101]
ODD_NUMBERS += [1e308, -1e308, 1e-308, 0.5, np.nan, np.inf, -np.inf]
KINDS = [
    "f2",
    "f4",
    "f8",
    "i4",
    "i8",
    "u4",
    ">f8",
    ">i4",
    "U3",
    "c16",
    "?",
    "V4",
    "M8[s]",
]
SHAPES = [(), (0,), (1,), (2,), (3,), (4,), (1, 1), (2, 4), (0, 8), (3, 1), (9, 1, 3)]

Rng = np.random.Generator


def pick(rng: Rng, items: Any) -> Any:
    """Returns one of the items."""
    return items[int(rng.integers(len(items)))]


def change_bytes(data: bytes, rng: Rng) -> bytes:
    """Returns the bytes with some overwritten, taken out or doubled, or cut."""
    changed = bytearray(data)
    kind = int(rng.integers(6))
    if kind == 0 or not data:
        return data[: int(rng.integers(len(data) + 1))]
    place = int(rng.integers(len(data)))
    length = int(rng.integers(1, 30))
    if kind == 1:
        del changed[place : place + length]
    elif kind == 2:
        changed[place:place] = data[place : place + length]
    else:
        for _ in range(int(rng.integers(1, 4))):
            changed[int(rng.integers(len(data)))] = int(rng.integers(256))
    return bytes(changed)


def change_file(data: bytes, rng: Rng) -> bytes:
    """Returns the file with one to three changes of bytes, header or arrays."""
    if rng.random() < 0.1:
        return change_bytes(data, rng)
    header, arrays = unpack(data)
    others: dict[str, Any] = {}
    for _ in range(int(rng.integers(1, 4))):
        place = rng.random()
        if place < 0.2:
            _change_header(header, rng)
        elif place < 0.25:
            names = ("x.npy", "header.json", "../left.npy", "left", "left.npy", "a.py")
            others[pick(rng, names)] = pick(rng, [b"", b"{}", npy(np.zeros(3))])
        else:
            _change_array(arrays, rng)
    return pack(header, arrays, packed=rng.random() < 0.02, others=others)


def _change_header(header: dict[str, Any], rng: Rng) -> None:
    key = pick(rng, [*header, "kind", "more"])
    if rng.random() < 0.2:
        header.pop(key, None)
    else:
        header[key] = pick(rng, [*ODD_VALUES, *header.values()])


def _change_array(arrays: dict[str, Any], rng: Rng) -> None:
    name = pick(rng, sorted(arrays) or ["left"])
    array, kind = arrays.get(name, b""), int(rng.integers(12))
    if isinstance(array, bytes) or kind == 0:
        content = array if isinstance(array, bytes) else npy(array)
        arrays[name] = change_bytes(content, rng)
    elif kind == 1:
        other = pick(rng, sorted(arrays))
        arrays[name], arrays[other] = arrays[other], array
    elif kind == 2:
        arrays[name] = np.resize(array, pick(rng, [*SHAPES, array.shape[::-1]]))
    elif kind == 3:
        arrays[name] = _cast(array, pick(rng, KINDS))
    elif kind == 4:
        arrays[name] = rng.permutation(array) if array.ndim else array
    elif kind == 5:
        del arrays[name]
    elif kind == 6:
        _grow_chain(arrays, rng)
    elif array.size:
        _change_numbers(arrays, name, rng)


def _cast(array: np.ndarray, kind: str) -> Any:
    """Returns the array as another type; its bytes as that type where it has none."""
    try:
        return array.astype(kind)
    except (TypeError, ValueError):
        return npy(array).replace(array.dtype.str.encode(), kind.encode())


def _change_numbers(arrays: dict[str, Any], name: str, rng: Rng) -> None:
    """Changes some numbers to odd ones, to near ones, or to others of the array."""
    array = arrays[name] = np.array(arrays[name])
    for _ in range(int(rng.integers(1, 4))):
        place = np.unravel_index(int(rng.integers(array.size)), array.shape)
        kind = int(rng.integers(3))
        if kind == 0:
            array[place] = np.asarray(pick(rng, ODD_NUMBERS)).astype(array.dtype)
        elif kind == 1 and array.dtype.kind in "iuf":
            array[place] += np.asarray(pick(rng, [-1, 1, 2])).astype(array.dtype)
        else:
            array[place] = pick(rng, array.ravel())


def _grow_chain(arrays: dict[str, Any], rng: Rng) -> None:
    """Makes the whole one tree whose every node has one leaf, or of one leaf."""
    depth = int(pick(rng, [0, 1, 2, 50, 999, 1000, 1001, 30_000]))
    place = np.arange(2 * depth + 1, dtype=np.int32)
    is_inner = (place % 2 == 0) & (place < 2 * depth)
    width = np.shape(arrays.get("value", 0))[-1:] or (1,)
    arrays |= {
        "feature": np.where(is_inner, 0, -1).astype(np.int32),
        "left": np.where(is_inner, place + 1, -1).astype(np.int32),
        "right": np.where(is_inner, place + 2, -1).astype(np.int32),
        "threshold": np.zeros(len(place)),
        "value": np.full((len(place), *width), 1 / max(1, *width)),
        "root": np.zeros(1, np.int32),
        "column": np.zeros(1, np.int32),
    }
