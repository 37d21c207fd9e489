"""The description inside a `.skops` file: which types, and trees within their arrays.

In: every node that may stand there, and nothing beside it. Out: the file itself, and
opening it (`skops_files`).

skops checks types, not contents: compiled code follows the indices of a tree without
looking.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

MAX_NODES = 5_000_000

_TREE = "sklearn.tree._tree.Tree"
_PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
_FOREST = "sklearn.ensemble._forest."
_HISTOGRAM = "sklearn.ensemble._hist_gradient_boosting."
MODELS = frozenset(
    [
        _FOREST + "RandomForestClassifier",
        _FOREST + "RandomForestRegressor",
        _FOREST + "ExtraTreesClassifier",
        _FOREST + "ExtraTreesRegressor",
        "sklearn.ensemble._gb.GradientBoostingClassifier",
        "sklearn.ensemble._gb.GradientBoostingRegressor",
        _HISTOGRAM + "gradient_boosting.HistGradientBoostingClassifier",
        _HISTOGRAM + "gradient_boosting.HistGradientBoostingRegressor",
        "sklearn.pipeline.Pipeline",
    ]
)
"""What a file may be of."""

_PARTS = frozenset(
    [
        _PREDICTOR,
        _HISTOGRAM + "binning._BinMapper",
        "sklearn.tree._classes.DecisionTreeClassifier",
        "sklearn.tree._classes.DecisionTreeRegressor",
        "sklearn.tree._classes.ExtraTreeClassifier",
        "sklearn.tree._classes.ExtraTreeRegressor",
        "sklearn.dummy.DummyClassifier",
        "sklearn.dummy.DummyRegressor",
        "sklearn.preprocessing._label.LabelEncoder",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
        "sklearn._loss.loss.HalfSquaredError",
        "sklearn._loss.link.IdentityLink",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.link.Interval",
    ]
)
_SCALARS = ("float32", "float64", "int32", "int64", "uint32", "uint64", "bool")
_TYPES = {
    "JsonNode": frozenset(["builtins.str"]),
    "TypeNode": frozenset(["builtins.str"]),
    "DictNode": frozenset(["builtins.dict"]),
    "ListNode": frozenset(["builtins.list"]),
    "TupleNode": frozenset(["builtins.tuple"]),
    "NdArrayNode": frozenset(f"numpy.{name}" for name in ("ndarray", *_SCALARS)),
    "ObjectNode": _PARTS,
    "TreeNode": frozenset([_TREE]),
    "LossNode": frozenset(
        f"sklearn._loss._loss.Cy{name}"
        for name in ("HalfBinomialLoss", "HalfMultinomialLoss", "HalfSquaredError")
    ),
}
"""Kind of a node of skops -> the types it may have, below the model itself."""

TRUSTED = sorted(MODELS | _PARTS | _TYPES["TreeNode"] | _TYPES["LossNode"])
"""What skops is told to trust."""

_OWN_KEYS = {"__class__", "__module__", "__loader__"}
_KEYS = {
    "JsonNode": {"content", "is_json"},
    "TypeNode": set(),
    "DictNode": {"content", "key_types"},
    "ListNode": {"content"},
    "TupleNode": {"content"},
    "ObjectNode": {"content"},
    "TreeNode": {"content", "__reduce__"},
    "LossNode": {"content", "__reduce__"},
}
_ARRAY_KEYS = {"numpy": {"type", "file"}, "json": {"type", "content", "shape"}}


def type_of(node: Any) -> str:
    """Returns the type that a node says it is of."""
    if not isinstance(node, dict):
        return "no node"
    return f"{node.get('__module__')}.{node.get('__class__')}"


def iterate_nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yields every node of a description, parents first, in order."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "__loader__" in value:
                yield value
            waiting += reversed(value.values())
        elif isinstance(value, list):
            waiting += reversed(value)


# Checks of a description


def check_nodes(root: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError unless every node is plain, and every tree inside its arrays.

    A walk by what a node must have, so that nothing is beside what was looked at.
    """
    root = {k: v for k, v in root.items() if k not in ("protocol", "_skops_version")}
    # A pipeline's first step says how many columns it reads.
    sizes = [_json(n) for n in _named(root, "n_features_in_")]
    if not sizes or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError("expected n_features_in_, the number of inputs.")
    num_inputs = min(sizes)
    waiting, count = [root], 0
    while waiting:
        node, count = waiting.pop(), count + 1
        if count > MAX_NODES:
            raise ValueError(f"expected at most {MAX_NODES} nodes.")
        kind = node.get("__loader__") if isinstance(node, dict) else None
        known = MODELS if node is root else _TYPES.get(str(kind), ())
        if not isinstance(kind, str) or type_of(node) not in known:
            raise ValueError(
                f"expected the types of a plain model. Received: {type_of(node):.99}"
                f" as {kind!r:.40}"
            )
        wanted = _ARRAY_KEYS.get(str(node.get("type")), set())
        if set(node) != _OWN_KEYS | _KEYS.get(kind, wanted):
            raise ValueError(
                f"expected a plain {kind}. Received: {sorted(node)!r:.200}"
            )
        waiting += _CHILDREN[kind](node, arrays)
        if kind == "TreeNode":
            _check_tree(node, arrays, num_inputs)
        elif type_of(node) == _PREDICTOR:
            _check_predictor(node, arrays, num_inputs)


def _of_dict(node: Mapping[str, Any], _: object) -> list[Any]:
    content, kinds = node["content"], node["key_types"]
    if not isinstance(content, dict):
        raise ValueError("expected a dictionary's items.")
    return [*content.values(), kinds]


def _of_list(node: Mapping[str, Any], _: object) -> list[Any]:
    if not isinstance(node["content"], list):
        raise ValueError("expected a list's items.")
    return node["content"]


def _of_array(node: Mapping[str, Any], arrays: Mapping[str, Any]) -> list[Any]:
    if node["type"] == "json":
        return [*_of_list(node, None), node["shape"]]
    array = arrays.get(node["file"]) if isinstance(node["file"], str) else None
    if array is None or (node["__class__"] != "ndarray" and array.size != 1):
        raise ValueError(f"expected an array. Received: {node['file']!r:.99}")
    return []


def _of_json(node: Mapping[str, Any], _: object) -> list[Any]:
    if not isinstance(node["content"], str) or node["is_json"] is not True:
        raise ValueError("expected JSON text.")
    if len(node["content"]) > 2**16:
        raise ValueError("expected short JSON text.")
    return []


def _of_reduced(node: Mapping[str, Any], _: object) -> list[Any]:
    reduced = node["__reduce__"]
    if not isinstance(reduced, dict) or set(reduced) != {"args"}:
        raise ValueError("expected the arguments of a constructor.")
    return [node["content"], reduced["args"]]


_CHILDREN: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], list[Any]]] = {
    "JsonNode": _of_json,
    "TypeNode": lambda *_: [],
    "DictNode": _of_dict,
    "ListNode": _of_list,
    "TupleNode": _of_list,
    "NdArrayNode": _of_array,
    "ObjectNode": lambda node, _: [node["content"]],
    "TreeNode": _of_reduced,
    "LossNode": _of_reduced,
}


def _named(root: Any, name: str) -> list[Any]:
    """Returns the attributes of a name, of all objects."""
    contents = [
        node["content"].get("content")
        for node in iterate_nodes(root)
        if node["__loader__"] == "ObjectNode" and isinstance(node.get("content"), dict)
    ]
    return [c[name] for c in contents if isinstance(c, dict) and name in c]


def _json(node: Any) -> Any:
    """Returns the value of a JsonNode; None where it is none."""
    content = node.get("content") if isinstance(node, dict) else None
    if not isinstance(content, str) or len(content) > 100:
        return None
    try:
        return json.loads(content)
    except ValueError:
        return None


def _fields(
    node: Mapping[str, Any], names: set[str], arrays: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Returns numbers and arrays of an object, which has these fields alone."""
    content = node["content"].get("content")
    if not isinstance(content, dict) or set(content) != names:
        raise ValueError(f"expected a tree with {', '.join(sorted(names))}.")
    found = {}
    for name, item in content.items():
        file = item.get("file") if isinstance(item, dict) else None
        found[name] = arrays.get(file) if isinstance(file, str) else _json(item)
    return found


def _check_tree(
    node: Mapping[str, Any], arrays: Mapping[str, np.ndarray], num_inputs: int
) -> None:
    from sklearn.tree._tree import NODE_DTYPE

    names = {"max_depth", "node_count", "nodes", "values"}
    found = _fields(node, names, arrays)
    nodes, values = found["nodes"], found["values"]
    num_features, classes, num_outputs = _arguments(node, arrays)
    sizes = (found["node_count"], found["max_depth"], num_features, num_outputs)
    if (
        not all(type(size) is int and 0 <= size < 2**31 for size in sizes)
        or not all(isinstance(a, np.ndarray) for a in (nodes, values, classes))
        or (nodes.dtype, nodes.shape) != (NODE_DTYPE, (found["node_count"],))
        or (classes.dtype.kind, classes.shape, num_outputs) != ("i", (1,), 1)
        or not 1 <= classes[0] <= 1000
        or values.dtype != np.float64
        or values.shape != (len(nodes), 1, int(classes[0]))
        or not np.isfinite(values).all()
    ):
        raise ValueError("expected a tree whose arrays fit each other.")
    is_leaf = nodes["left_child"] == -1
    _check_children(
        is_leaf,
        left=nodes["left_child"],
        right=nodes["right_child"],
        feature=nodes["feature"],
        num_inputs=num_inputs,
    )
    if (nodes["right_child"][is_leaf] != -1).any():
        raise ValueError("expected leaves without children.")


def _arguments(
    node: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> tuple[Any, Any, Any]:
    """Returns what a tree is constructed of: features, classes, outputs."""
    items = node["__reduce__"]["args"].get("content")
    if not isinstance(items, list) or len(items) != 3:
        raise ValueError("expected three arguments of a tree.")
    file = items[1].get("file") if isinstance(items[1], dict) else None
    return _json(items[0]), arrays.get(str(file)), _json(items[2])


def _check_predictor(
    node: Mapping[str, Any], arrays: Mapping[str, np.ndarray], num_inputs: int
) -> None:
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    names = {"nodes", "binned_left_cat_bitsets", "raw_left_cat_bitsets"}
    nodes = _fields(node, names, arrays)["nodes"]
    if (
        not isinstance(nodes, np.ndarray)
        or nodes.dtype != PREDICTOR_RECORD_DTYPE
        or nodes.ndim != 1
        or not np.isfinite(nodes["value"]).all()
        or nodes["is_categorical"].any()
    ):
        raise ValueError("expected a tree of numbers, not of categories.")
    _check_children(
        nodes["is_leaf"] != 0,
        left=nodes["left"],
        right=nodes["right"],
        feature=nodes["feature_idx"],
        num_inputs=num_inputs,
    )


def _check_children(
    is_leaf: np.ndarray,
    *,
    left: np.ndarray,
    right: np.ndarray,
    feature: np.ndarray,
    num_inputs: int,
) -> None:
    """Raises ValueError unless every path ends in a leaf, and reads an input."""
    place = np.arange(len(is_leaf))[~is_leaf]
    inner = [column[~is_leaf].astype(np.int64) for column in (left, right, feature)]
    is_below = all(
        ((child > place) & (child < len(is_leaf))).all() for child in inner[:2]
    )
    is_input = ((inner[2] >= 0) & (inner[2] < num_inputs)).all()
    if not len(is_leaf) or not is_below or not is_input:
        raise ValueError("expected a tree whose nodes lead to its leaves.")


def check_versions(root: Any) -> None:
    """Raises ValueError unless this release line of scikit-learn wrote the model."""
    import sklearn

    found = {str(_json(node)) for node in _named(root, "_sklearn_version")}
    line = sklearn.__version__.split(".")[:2]
    if not found or any(version.split(".")[:2] != line for version in found):
        shown = ", ".join(sorted(found)) or "no version"
        raise ValueError(
            f"expected a model of scikit-learn {'.'.join(line)}, which is installed. "
            f"Received: one of {shown:.99}. Install that, or train again."
        )
