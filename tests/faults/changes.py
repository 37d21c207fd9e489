"""Changes of model files: bytes, nodes and arrays of skops, lines of LightGBM.

Each takes a whole file and a random generator, and nothing else decides.
"""

from __future__ import annotations

import copy
import io
import json
import re
from typing import Any

import numpy as np
from test_skops_files import pack, unpack

from artifacts.skops_schema import iterate_nodes

ODD_NUMBERS = """
0 -1 1 2 3 4 5 7 255 256 32768 65536 1000000 2147483647 2147483648 -2147483648
4294967296 9223372036854775807 9223372036854775808 -9223372036854775809 1e9 1e18 1e308
-1e308 1e999 -1e999 1e-400 0.5 nan NaN inf Infinity -Infinity 0x10 1_0 01 +1 -0
""".split()
ODD_TEXTS = [*ODD_NUMBERS, "", " ", "null", "true", '"x"', "[", "[]", "{}", "9" * 5000]
ODD_VALUES = [None, True, 0, -1, 7, 2**70, 0.5, float("nan"), [], {}, [[]], {"a": 1}]
ODD_FLOATS = [0.0, -1.0, 1.0, 4.0, 1e9, 2.0**31, 2.0**63, 1e308, -1e308, np.nan, np.inf]

Rng = np.random.Generator


def pick(rng: Rng, items: Any) -> Any:
    """Returns one of the items."""
    return items[int(rng.integers(len(items)))]


def change_bytes(data: bytes, rng: Rng) -> bytes:
    """Returns the bytes with some overwritten, taken out or doubled, or cut."""
    changed = bytearray(data)
    kind = int(rng.integers(6))
    if kind == 0:
        return data[: int(rng.integers(len(data)))]
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


# Changes of `.skops` files


def change_skops(data: bytes, rng: Rng) -> bytes:
    """Returns the file with one to three changes of bytes, nodes or arrays."""
    if rng.random() < 0.1:
        return change_bytes(data, rng)
    schema, members = unpack(data)
    for _ in range(int(rng.integers(1, 4))):
        if rng.random() < 0.3:
            _change_array(members, rng)
        else:
            _change_node(schema, rng)
    if rng.random() < 0.05:
        text = change_bytes(json.dumps(schema).encode(), rng)
        return pack(schema, members).replace(json.dumps(schema).encode(), text)
    return pack(schema, members)


def _change_node(schema: dict[str, Any], rng: Rng) -> None:
    nodes = list(iterate_nodes(schema))
    node, other = pick(rng, nodes), copy.deepcopy(pick(rng, nodes))
    change = pick(rng, NODE_CHANGES)
    change(node, other, rng)


def _set_value(node: dict[str, Any], other: dict[str, Any], rng: Rng) -> None:
    key = pick(rng, sorted(node))
    values = (ODD_VALUES, ODD_TEXTS, [other.get(key)], ["1.npy", "3.npy"])
    node[key] = pick(rng, pick(rng, values))


def _set_number(node: dict[str, Any], other: dict[str, Any], rng: Rng) -> None:
    """Changes a scalar in the node's dictionary or list."""
    content = node.get("content")
    items = list(content.values()) if isinstance(content, dict) else content
    items = items if isinstance(items, list) else [node]
    texts = [i for i in items if isinstance(i, dict) and "is_json" in i]
    if texts:
        pick(rng, texts)["content"] = pick(rng, ODD_TEXTS)


def _become(node: dict[str, Any], other: dict[str, Any], rng: Rng) -> None:
    node.clear()
    node.update(other)


def _change_type(node: dict[str, Any], other: dict[str, Any], rng: Rng) -> None:
    for key in ("__class__", "__module__", "__loader__"):
        if key in other:
            node[key] = other[key]


def _change_items(node: dict[str, Any], other: dict[str, Any], rng: Rng) -> None:
    """Drops, doubles, renames or turns round the items of a dictionary or a list."""
    content = node.get("content")
    kind = int(rng.integers(4))
    if isinstance(content, list) and content:
        place = int(rng.integers(len(content)))
        if kind == 0:
            del content[place]
        elif kind == 1:
            content.insert(place, copy.deepcopy(pick(rng, content)))
        elif kind == 2:
            content.reverse()
        else:
            content.insert(place, other)
    elif isinstance(content, dict) and content:
        names = ("predict", "predict_proba", "__class__", "_in_fit", "_preprocessor")
        names += ("feature_names_in_", "classes_", "init", "verbose", "tree_", "x")
        key = pick(rng, sorted(content))
        value = content.pop(key)
        if kind == 1:
            content[pick(rng, names)] = value
        elif kind == 2:
            content |= {key: value, pick(rng, names): other}
            types = node.get("key_types")
            if isinstance(types, dict) and types.get("content"):
                types["content"].append(types["content"][0])
        elif kind == 3:
            content[key] = other


NODE_CHANGES = (_set_value, _set_number, _become, _change_type, _change_items)
NODE_CHANGES += (_set_number, _set_value)


def _change_array(members: dict[str, bytes], rng: Rng) -> None:
    name = pick(rng, sorted(members))
    kind = int(rng.integers(6))
    if kind == 0:
        members[name] = members[pick(rng, sorted(members))]
        return
    if kind == 1:
        members[name] = change_bytes(members[name], rng)
        return
    try:
        array = np.load(io.BytesIO(members[name])).copy()
    except Exception:  # an earlier change broke it, in any way
        return
    if kind == 2:
        array = np.resize(array, pick(rng, SHAPES))
    elif kind == 3 and array.dtype.kind in "biufc":  # "-0." is no whole number
        array = array.astype(pick(rng, ["f4", "i4", "i8", ">f8", "U3", "c16", "?"]))
    elif array.size:
        field = array[pick(rng, array.dtype.names)] if array.dtype.names else array
        place = np.unravel_index(int(rng.integers(array.size)), array.shape)
        value = np.asarray(pick(rng, ODD_FLOATS))
        field[place] = value.astype(field.dtype) if field.dtype.kind != "U" else "x"
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    members[name] = stream.getvalue()


SHAPES = [(), (0,), (1,), (2,), (3,), (4,), (1, 1), (2, 4), (0, 8), (3, 1), (9, 1, 3)]


# Changes of LightGBM's text


def change_lightgbm(data: bytes, rng: Rng) -> bytes:
    """Returns the text with one to three changes of bytes, numbers or lines."""
    if rng.random() < 0.2:
        return change_bytes(data, rng)
    lines = data.decode().split("\n")
    for _ in range(int(rng.integers(1, 4))):
        pick(rng, LINE_CHANGES)(lines, rng)
    text = "\n".join(lines)
    if rng.random() < 0.9:
        text = _fit_sizes(text)
    return text.encode()


def _change_number(lines: list[str], rng: Rng) -> None:
    place = int(rng.integers(len(lines)))
    key, equals, values = lines[place].partition("=")
    words = re.split("([ :])", values)
    words[int(rng.integers(len(words)))] = pick(rng, [*ODD_TEXTS, *words])
    lines[place] = key + equals + "".join(words)


def _change_count(lines: list[str], rng: Rng) -> None:
    """Adds or drops numbers of a line."""
    place = int(rng.integers(len(lines)))
    key, equals, values = lines[place].partition("=")
    words = values.split(" ")
    count = int(rng.integers(0, 2 * len(words) + 1))
    lines[place] = key + equals + " ".join((2 * words)[:count])


def _swap_numbers(lines: list[str], rng: Rng) -> None:
    place = int(rng.integers(len(lines)))
    key, equals, values = lines[place].partition("=")
    words = values.split(" ")
    lines[place] = key + equals + " ".join(rng.permutation(words))


def _move_line(lines: list[str], rng: Rng) -> None:
    place, other = rng.integers(len(lines), size=2)
    kind = int(rng.integers(4))
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(place, lines[other])
    elif kind == 2:
        lines[place], lines[other] = lines[other], lines[place]
    else:
        same = [k for k in lines if k.split("=")[0] == lines[place].split("=")[0]]
        lines[place] = pick(rng, same)


def _grow_chain(lines: list[str], rng: Rng) -> None:
    """Makes a tree whose every node has one leaf, or of one leaf."""
    starts = [i for i, line in enumerate(lines) if line.startswith("Tree=")]
    if not starts:
        return
    start = pick(rng, starts)
    count = int(pick(rng, [0, 1, 2, 50, 399, 400, 401, 3000, 30_000]))
    columns = {
        "num_leaves": [count + 1],
        "left_child": [*range(1, count), *([-count] if count else [])],
        "right_child": [*range(-1, -count, -1), *([-count - 1] if count else [])],
    }
    for place in range(start + 1, len(lines)):
        key, _, values = lines[place].partition("=")
        if not key:
            break
        if key.startswith("leaf_"):
            columns[key] = [1] * (count + 1)
        elif " " in values and key not in columns:
            columns[key] = [2 if key == "decision_type" else 0] * count
        if key in columns:
            lines[place] = f"{key}={' '.join(map(str, columns[key]))}"


LINE_CHANGES = (_change_number, _change_count, _swap_numbers, _move_line)
LINE_CHANGES = (*(2 * LINE_CHANGES), _change_number, _grow_chain)


def _fit_sizes(text: str) -> str:
    """Returns the text with the sizes that its trees have."""
    head, *trees = re.split("(?=^Tree=)", text.split("end of trees")[0], flags=re.M)
    sizes = " ".join(str(len(tree)) for tree in trees)
    head = re.sub("^tree_sizes=.*$", f"tree_sizes={sizes}", head, flags=re.M)
    return head + "".join(trees) + "end of trees\n"
