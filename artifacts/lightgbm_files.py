"""LightGBM models <-> the bytes of LightGBM's text format.

In: writing and opening such a text, what it may hold. Out: whether the bytes are the
published ones (`manifest`).

LightGBM reads a text in compiled code that follows its indices and sizes without
looking. So a text is read here first, line by line; LightGBM opens what has passed. It
has the header and the trees alone: the parameters that LightGBM appends name files and
machines, and predicting needs none of them.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

import utils
from utils import RefusedArtifactError

MAX_MODEL_BYTES = 2**29
MAX_LEAVES = 2**17
MAX_DEPTH = 400
"""LightGBM writes a tree out by recursion, and Python reads that by recursion."""

_END = "end of trees\n"
_WORD = r"[A-Za-z0-9_]+"
_NUMBER = r"[-+]?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?"
_HEADER = re.compile(
    "tree\n"
    "version=v4\n"
    "num_class=(?P<num_class>[0-9]{1,4})\n"
    "num_tree_per_iteration=(?P<per_iteration>[0-9]{1,4})\n"
    "label_index=0\n"
    "max_feature_idx=(?P<max_feature>[0-9]{1,6})\n"
    r"objective=(?P<objective>regression|multiclass num_class:(?P<classes>[0-9]{1,4}))"
    "\n"
    f"feature_names=(?P<names>{_WORD}(?: {_WORD})*)\n"
    f"feature_infos=(?P<infos>(?:none|\\[{_NUMBER}:{_NUMBER}\\])"
    f"(?: (?:none|\\[{_NUMBER}:{_NUMBER}\\]))*)\n"
    "tree_sizes=(?P<sizes>[0-9]{1,9}(?: [0-9]{1,9})*)\n"
    "\n"
)
_INDICES = ("split_feature", "decision_type", "left_child", "right_child")
_INTEGERS = (*_INDICES, "internal_count", "leaf_count")
_INNER = (*_INDICES, "split_gain", "threshold")
_INNER_NOTES = ("internal_value", "internal_weight", "internal_count")
_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
_SCALARS = ("num_leaves", "num_cat", "is_linear", "shrinkage")
_KEYS = frozenset((*_INNER, *_INNER_NOTES, *_LEAVES, *_SCALARS))
_DECISIONS = (0, 2, 4, 6, 8, 10)
"""Numbers, not categories: with or without a default side, any kind of missing."""


def dump_lightgbm(booster: Any, *, num_rounds: int | None = None) -> bytes:
    """Returns the header and the trees of a booster as text.

    Args:
        booster: A `lightgbm.Booster`.
        num_rounds: Rounds to keep, the first ones; None keeps all.
    """
    text = booster.model_to_string(num_iteration=num_rounds or -1)
    return (text.split(_END)[0] + _END).encode()


def load_lightgbm(data: bytes, where: object) -> Any:
    """Returns the `lightgbm.Booster` in the bytes of a text of `dump_lightgbm`.

    Raises:
        DependencyError: If LightGBM is not installed.
        RefusedArtifactError: Naming what is not as expected.
    """
    try:
        text = data.decode("ascii")
        check_text(text)
    except ValueError as error:
        raise RefusedArtifactError(
            f"{where}: expected trees in LightGBM's text format. "
            f"Received: {error!s:.300}"
        ) from error
    try:
        return import_lightgbm().Booster(model_str=text)
    except utils.DependencyError:
        raise
    except Exception as error:
        raise RefusedArtifactError(
            f"{where}: expected a model that LightGBM opens. Received: {error!s:.300}"
        ) from error


def import_lightgbm() -> Any:
    """Returns the module.

    Raises:
        DependencyError: If it is not installed.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise utils.DependencyError(
            "expected the package lightgbm for model 'lightgbm'. Received: none. "
            "Install it: pip install -r requirements-lightgbm.txt"
        ) from error
    return lightgbm


def check_text(text: str) -> None:
    """Refuses a text in which an index or a size is not what the rest says.

    Raises:
        ValueError: Naming it.
    """
    header = _HEADER.match(text)
    if header is None:
        raise ValueError("another header")
    classes, per_iteration, num_features = (
        int(header["num_class"]),
        int(header["per_iteration"]),
        int(header["max_feature"]) + 1,
    )
    if not 1 <= per_iteration == classes == int(header["classes"] or 1):
        raise ValueError(f"{classes} classes, {per_iteration} trees a round")
    for name in ("names", "infos"):
        if len(header[name].split(" ")) != num_features:
            raise ValueError(f"other feature_{name} than {num_features}")
    sizes = [int(size) for size in header["sizes"].split(" ")]
    if len(sizes) % per_iteration or header.end() + sum(sizes) + len(_END) != len(text):
        raise ValueError("other sizes than the trees have")
    if not text.endswith(_END):
        raise ValueError("no end of trees")
    start, highest = header.end(), 0.0
    for number, size in enumerate(sizes):
        leaves = _check_tree(text[start : start + size], number, num_features)
        start, highest = start + size, highest + float(np.abs(leaves).max())
    if not math.isfinite(highest):
        raise ValueError("leaves whose sum is not finite")


def _check_tree(text: str, number: int, num_features: int) -> np.ndarray:
    """Returns the values of a tree's leaves."""
    lines = text.split("\n")
    if lines[0] != f"Tree={number}" or lines[-3:] != ["", "", ""]:
        raise ValueError(f"no tree {number}")
    pairs = [line.partition("=") for line in lines[1:-3]]
    items = {name: value for name, _, value in pairs}
    if set(items) != _KEYS or len(pairs) != len(items):
        raise ValueError(f"other lines in tree {number}: {sorted(items)!r:.200}")
    if not re.fullmatch("[0-9]{1,6}", items["num_leaves"]):
        raise ValueError(f"no leaves in tree {number}")
    num_leaves = int(items["num_leaves"])
    if (
        not 1 <= num_leaves <= MAX_LEAVES
        or items["num_cat"] + items["is_linear"] != "00"
    ):
        raise ValueError(f"unexpected leaves or categories in tree {number}")
    _read_numbers(items, "shrinkage", 1)
    # A tree without a split has one leaf's value and count, and nothing else.
    inner = num_leaves - 1
    columns = {name: _read_numbers(items, name, inner) for name in _INNER}
    for name in _INNER_NOTES:
        _read_numbers(items, name, inner)
    for name in _LEAVES:
        is_bare = not inner and name == "leaf_weight"
        columns[name] = _read_numbers(items, name, 0 if is_bare else num_leaves)
    if not _is_tree(columns, num_leaves, num_features):
        raise ValueError(f"nodes of tree {number} that do not lead to its leaves")
    if _is_deeper(columns["left_child"], columns["right_child"], MAX_DEPTH):
        raise ValueError(f"more than {MAX_DEPTH} decisions in a row in tree {number}")
    return columns["leaf_value"]


def _read_numbers(items: dict[str, str], name: str, count: int) -> np.ndarray:
    """Returns the finite numbers of a line, which has `count` of them."""
    words = items[name].split(" ") if items[name] else []
    pattern = "-?[0-9]{1,9}" if name in _INTEGERS else _NUMBER
    if len(words) != count or not all(re.fullmatch(pattern, word) for word in words):
        raise ValueError(f"{name}: expected {count} numbers")
    values = np.array(words, np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected finite numbers")
    return values


def _is_tree(
    columns: dict[str, np.ndarray], num_leaves: int, num_features: int
) -> bool:
    """Whether every path ends in a leaf, each leaf is reached, and features are inputs.

    Children are nodes after their parent, or leaves as -1 - number.
    """
    feature = columns["split_feature"]
    place = np.arange(num_leaves - 1)
    sides = [columns["left_child"], columns["right_child"]]
    are_after = all(((side > place) | (side < 0)).all() for side in sides)
    reached = np.sort(np.concatenate(sides))
    wanted = np.concatenate([np.arange(-num_leaves, 0), np.arange(1, num_leaves - 1)])
    return (
        are_after
        and (num_leaves == 1 or np.array_equal(reached, wanted))
        and bool(((feature >= 0) & (feature < num_features)).all())
        and bool(np.isin(columns["decision_type"], _DECISIONS).all())
    )


def _is_deeper(left: np.ndarray, right: np.ndarray, max_depth: int) -> bool:
    """Whether a path from the root makes more decisions; level by level."""
    level = np.zeros(min(1, len(left)), np.int64)
    for _ in range(max_depth):
        if not len(level):
            return False
        level = np.concatenate([left[level], right[level]]).astype(np.int64)
        level = level[level >= 0]
    return bool(len(level))
