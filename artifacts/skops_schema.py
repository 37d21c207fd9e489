"""The description inside a `.skops` file: which types, and trees within their arrays.

In: every node that may stand there, and nothing beside it. Out: the file itself, and
opening it (`skops_files`).

skops checks types, not contents: compiled code follows the indices of a tree without
looking. So nodes are first read into plain values, which is where their form is
checked; sizes and trees are then checked on the values.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

MAX_NODES = 5_000_000
MAX_ARRAY_BYTES = 2**30
"""Of all nodes together: skops reads an array again for each node that names it."""

MAX_SCALAR_LENGTH = 1000
MAX_TREE_DEPTH = 1000
MIN_PROTOCOL = 2
"""What skops 0.16 writes; for files of older ones skops has other loaders."""

_TREE = "sklearn.tree._tree.Tree"
_FOREST = "sklearn.ensemble._forest."
_HISTOGRAM = "sklearn.ensemble._hist_gradient_boosting."
_PREDICTOR = _HISTOGRAM + "predictor.TreePredictor"
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

_LOSSES = ("HalfBinomialLoss", "HalfMultinomialLoss", "HalfSquaredError")
_COMPILED_LOSSES = frozenset(f"sklearn._loss._loss.Cy{name}" for name in _LOSSES)
_TREES = frozenset(
    f"sklearn.tree._classes.{name}"
    for name in (
        "DecisionTreeClassifier",
        "DecisionTreeRegressor",
        "ExtraTreeClassifier",
        "ExtraTreeRegressor",
    )
)
_INTERVAL = frozenset(["sklearn._loss.link.Interval"])
_PLACES = {
    "estimator": _TREES,
    "estimator_": _TREES,
    "estimators_": _TREES,
    "tree_": frozenset([_TREE]),
    "init_": frozenset(
        ["sklearn.dummy.DummyClassifier", "sklearn.dummy.DummyRegressor"]
    ),
    "steps": frozenset(
        [
            "sklearn.preprocessing._data.StandardScaler",
            "sklearn.linear_model._logistic.LogisticRegression",
        ]
    ),
    "_predictors": frozenset([_PREDICTOR]),
    "_bin_mapper": frozenset([_HISTOGRAM + "binning._BinMapper"]),
    "_label_encoder": frozenset(["sklearn.preprocessing._label.LabelEncoder"]),
    "_loss": frozenset(f"sklearn._loss.loss.{name}" for name in _LOSSES),
    "closs": _COMPILED_LOSSES,
    "link": frozenset(
        f"sklearn._loss.link.{name}"
        for name in ("IdentityLink", "LogitLink", "MultinomialLogit")
    ),
    "interval_y_true": _INTERVAL,
    "interval_y_pred": _INTERVAL,
}
"""Attribute -> the types of objects that it may hold, also in lists."""

_SCALARS = ("float32", "float64", "int32", "int64", "uint32", "uint64", "bool")
_TYPES = {
    "JsonNode": frozenset(["builtins.str"]),
    "TypeNode": frozenset(["builtins.str"]),
    "DictNode": frozenset(["builtins.dict"]),
    "ListNode": frozenset(["builtins.list"]),
    "TupleNode": frozenset(["builtins.tuple"]),
    "NdArrayNode": frozenset(f"numpy.{name}" for name in ("ndarray", *_SCALARS)),
    "ObjectNode": frozenset().union(*_PLACES.values()) - _COMPILED_LOSSES - {_TREE},
    "TreeNode": frozenset([_TREE]),
    "LossNode": _COMPILED_LOSSES,
}
"""Kind of a node of skops -> the types it may have, below the model itself."""

TRUSTED = sorted(MODELS.union(*_PLACES.values()))
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
_CONTENT = {"JsonNode": str, "ListNode": list, "TupleNode": list, "NdArrayNode": list}
"""Kind of a node -> the type of its content; a dictionary elsewhere."""


@dataclasses.dataclass(frozen=True)
class Instance:
    """An object of a description: its type, attributes, and constructor's arguments."""

    type: str
    fields: dict[str, Any]
    arguments: tuple[Any, ...] = ()


def type_of(node: Any) -> str:
    """Returns the type that a node says it is of."""
    if not isinstance(node, dict):
        return "no node"
    module, name = node.get("__module__"), node.get("__class__")
    if not isinstance(module, str) or not isinstance(name, str):
        return "no type"
    return f"{module}.{name}"


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


def check_description(
    schema: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Raises ValueError unless a description is of a plain model, and of one that fits.

    Args:
        schema: The description, a node of a type in `MODELS`.
        arrays: The file's arrays by the names of their members.
    """
    root = {k: v for k, v in schema.items() if k not in ("protocol", "_skops_version")}
    protocol = schema.get("protocol")
    if type(protocol) is not int or protocol < MIN_PROTOCOL:
        _refuse(f"a protocol of skops, {MIN_PROTOCOL} or later", protocol)
    model = _NodeReader(arrays).read_model(root)
    instances = list(_iterate_instances(model))
    for instance in instances:
        _check_attributes(instance)
    _check_versions(instances)
    sizes = _read_sizes(instances)
    for instance in instances:
        _check_sizes(instance, sizes)
        if instance.type == _PREDICTOR:
            _check_predictor(instance, sizes)
        elif instance.type in _TREES and "tree_" in instance.fields:
            _check_tree(instance, sizes)


def _refuse(expectation: str, received: object) -> NoReturn:
    start = reprlib.Repr()  # the whole may be huge
    start.maxstring = start.maxother = 99
    raise ValueError(f"expected {expectation}. Received: {start.repr(received):.200}")


# Nodes -> values


class _NodeReader:
    """Reads nodes into scalars, arrays, lists, tuples, dictionaries and instances.

    Each node has its kind's keys and no others, so nothing is beside what was read.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._num_nodes = 0
        self._num_bytes = 0

    def read_model(self, node: Any) -> Instance:
        """Returns the instance of the node at the root."""
        return self._read_object(self._open(node, "ObjectNode", types=MODELS))

    def _read(self, node: Any, *kinds: str) -> Any:
        """Returns the value of a node of these kinds; of any kind of value without."""
        node = self._open(node, *(kinds or _READERS))
        return _READERS[node["__loader__"]](self, node)

    def _open(
        self, node: Any, *kinds: str, types: frozenset[str] | None = None
    ) -> dict[str, Any]:
        """Returns a node whose kind, type, keys and type of content are known."""
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES:
            raise ValueError(f"expected at most {MAX_NODES} nodes.")
        kind = node.get("__loader__") if isinstance(node, dict) else None
        if kind not in kinds or type_of(node) not in (types or _TYPES[kind]):
            _refuse("the types of a plain model", (type_of(node), kind))
        wanted = _KEYS.get(kind)
        if wanted is None:
            wanted = _ARRAY_KEYS.get(str(node.get("type")), set())
        if set(node) != _OWN_KEYS | wanted:
            _refuse(f"a plain {kind}", sorted(node))
        if "content" in wanted:
            content, expected = node["content"], _CONTENT.get(kind, dict)
            if type(content) is not expected:
                _refuse(f"a {kind} with content", content)
        return node

    def _read_scalar(self, node: dict[str, Any]) -> Any:
        text = node["content"]
        # A scalar cannot nest, so it is no matter of recursion.
        is_scalar = len(text) <= MAX_SCALAR_LENGTH and text.lstrip()[:1] not in "[{"
        try:
            if is_scalar and node["is_json"] is True:
                return json.loads(text)
        except ValueError:
            pass
        _refuse("a short JSON scalar", text)

    def _read_list(self, node: dict[str, Any]) -> list[Any]:
        return [self._read(item) for item in node["content"]]

    def _read_tuple(self, node: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(self._read_list(node))

    def _read_dict(self, node: dict[str, Any]) -> dict[str, Any]:
        key_types = self._open(node["key_types"], "ListNode")["content"]
        for item in key_types:
            self._open(item, "TypeNode")
        # skops stops at the end of the shorter one.
        if len(key_types) != len(node["content"]):
            _refuse(f"{len(node['content'])} types of keys", len(key_types))
        return {key: self._read(item) for key, item in node["content"].items()}

    def _read_array(self, node: dict[str, Any]) -> Any:
        if node["type"] == "json":
            return self._read_objects(node)
        name, file = node["__class__"], node["file"]
        array = self._arrays.get(file) if isinstance(file, str) else None
        if array is None:
            _refuse("an array of the file", file)
        self._num_bytes += array.nbytes
        if self._num_bytes > MAX_ARRAY_BYTES:
            raise ValueError(f"expected at most {MAX_ARRAY_BYTES} bytes of arrays.")
        if name == "ndarray":
            return array
        if array.shape != () or array.dtype != np.dtype(name):
            _refuse(f"one {name}", array)
        return array[()]

    def _read_objects(self, node: dict[str, Any]) -> list[list[Any]]:
        """Returns the rows of a table of objects."""
        shape = self._read(node["shape"], "TupleNode")
        rows = [self._read(row, "ListNode") for row in node["content"]]
        if node["__class__"] != "ndarray" or not all(type(n) is int for n in shape):
            _refuse("a table of objects", shape)
        if {(len(rows), len(row)) for row in rows} != {shape}:
            _refuse("rows of a table's shape", shape)
        return rows

    def _read_object(self, node: dict[str, Any]) -> Instance:
        fields = self._read(node["content"], "DictNode", "JsonNode")
        if fields is not None and type(fields) is not dict:
            _refuse("attributes", fields)
        return Instance(type_of(node), fields or {})

    def _read_tree(self, node: dict[str, Any]) -> Instance:
        fields = self._read(node["content"], "DictNode")
        return Instance(type_of(node), fields, self._read_arguments(node))

    def _read_arguments(self, node: dict[str, Any]) -> tuple[Any, ...]:
        """Returns what the constructor of a compiled type is called with."""
        reduced = node["__reduce__"]
        if type(reduced) is not dict or set(reduced) != {"args"}:
            _refuse("the arguments of a constructor", reduced)
        return self._read(reduced["args"], "TupleNode")

    def _read_loss(self, node: dict[str, Any]) -> Instance:
        # Some releases of scikit-learn say () where others say {}.
        state = self._read(node["content"], "DictNode", "TupleNode")
        arguments = self._read_arguments(node)
        if state or arguments:
            _refuse("a loss without a state", state or arguments)
        return Instance(type_of(node), {})


_READERS: dict[str, Callable[[_NodeReader, dict[str, Any]], Any]] = {
    "JsonNode": _NodeReader._read_scalar,
    "DictNode": _NodeReader._read_dict,
    "ListNode": _NodeReader._read_list,
    "TupleNode": _NodeReader._read_tuple,
    "NdArrayNode": _NodeReader._read_array,
    "ObjectNode": _NodeReader._read_object,
    "TreeNode": _NodeReader._read_tree,
    "LossNode": _NodeReader._read_loss,
}
"""Kinds of nodes that are values; a TypeNode stands only beside the keys it is of."""


def _iterate_instances(value: Any, *, is_deep: bool = True) -> Iterator[Instance]:
    """Yields the instances in a value, of which each is a tree; parents first."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Instance):
            yield value
            if is_deep:
                waiting += [value.arguments, value.fields]
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


# Checks of values


def _check_attributes(instance: Instance) -> None:
    """Raises ValueError if an attribute hides a method, or holds a misplaced object."""
    module, _, name = instance.type.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    for field, value in instance.fields.items():
        if callable(getattr(kind, field, None)):
            _refuse(f"attributes of {name}", field)
        for part in _iterate_instances(value, is_deep=False):
            if part.type not in _PLACES.get(field, ()):
                _refuse(f"no object of this type in {field}", part.type)
    for part in _iterate_instances(instance.arguments, is_deep=False):
        _refuse(f"plain arguments of {name}", part.type)


def _check_versions(instances: list[Instance]) -> None:
    """Raises ValueError unless this release line of scikit-learn wrote the model."""
    import sklearn

    name = "_sklearn_version"
    found = {str(item.fields[name]) for item in instances if name in item.fields}
    line = sklearn.__version__.split(".")[:2]
    if not found or any(version.split(".")[:2] != line for version in found):
        shown = ", ".join(sorted(found)) or "no version"
        raise ValueError(
            f"expected a model of scikit-learn {'.'.join(line)}, which is installed. "
            f"Received: one of {shown:.99}. Install that, or train again."
        )


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """What all parts of a model agree on; without classes it predicts a number."""

    num_inputs: int
    num_classes: int | None

    @property
    def num_scores(self) -> int:
        """Trees of a round of boosting, or rows of coefficients."""
        classes = self.num_classes or 1
        return classes if classes > 2 else 1


def _read_sizes(instances: list[Instance]) -> _Sizes:
    """Returns the sizes that the first object to have them has."""
    inputs = [
        i.fields["n_features_in_"] for i in instances if "n_features_in_" in i.fields
    ]
    if not inputs or not all(type(size) is int and size > 0 for size in inputs):
        raise ValueError("expected n_features_in_, the number of inputs.")
    classes = [i.fields["classes_"] for i in instances if "classes_" in i.fields]
    if not classes:
        return _Sizes(inputs[0], None)
    if not isinstance(classes[0], np.ndarray) or classes[0].ndim != 1:
        _refuse("classes_, a list", classes[0])
    return _Sizes(inputs[0], len(classes[0]))


def _check_sizes(instance: Instance, sizes: _Sizes) -> None:
    """Raises ValueError if an attribute that predicting needs is of another size."""
    num_inputs, num_scores = sizes.num_inputs, sizes.num_scores
    numbers = {
        "n_features_in_": num_inputs,
        "_n_features": num_inputs,
        "n_outputs_": 1,
        "n_classes_": sizes.num_classes,
        "n_trees_per_iteration_": num_scores,
    }
    shapes = {
        "classes_": (sizes.num_classes,),
        "class_prior_": (sizes.num_classes,),
        "constant_": (1, 1),
        "mean_": (num_inputs,),
        "scale_": (num_inputs,),
        "var_": (num_inputs,),
        "coef_": (num_scores, num_inputs),
        "intercept_": (num_scores,),
        "_baseline_prediction": (1, num_scores),
    }
    for name, value in instance.fields.items():
        if name in numbers:
            is_whole = type(value) is int or isinstance(value, np.integer)
            if not is_whole or value != numbers[name]:
                _refuse(f"{numbers[name]} as {name}", value)
        elif name in shapes:
            kinds = "biuf" if name == "classes_" else "f"
            if not _is_array(value, shapes[name], kinds):
                _refuse(f"finite numbers of shape {shapes[name]} as {name}", value)
        elif name == "is_categorical_" and value is not None:
            if not _is_array(value, (num_inputs,), "bu") or value.any():
                _refuse("inputs without categories", value)
        elif name in ("_predictors", "estimators_"):
            rounds = value if isinstance(value, list) else [[]]
            if any(isinstance(r, list) and len(r) != num_scores for r in rounds):
                _refuse(f"rounds of trees, each of {num_scores}", value)


def _is_array(value: Any, shape: tuple[int | None, ...], kinds: str) -> bool:
    """Whether a value is an array of finite numbers, of a shape and of a kind."""
    return (
        isinstance(value, np.ndarray)
        and value.shape == shape
        and value.dtype.kind in kinds
        and bool(np.isfinite(value).all())
    )


def _check_tree(owner: Instance, sizes: _Sizes) -> None:
    """Raises ValueError unless compiled code stays within a tree's arrays."""
    from sklearn.tree._tree import NODE_DTYPE

    tree = owner.fields["tree_"]
    if not isinstance(tree, Instance):
        _refuse("a tree", tree)
    if set(tree.fields) != {"max_depth", "node_count", "nodes", "values"}:
        _refuse("a tree with its four attributes", sorted(tree.fields))
    if len(tree.arguments) != 3:
        _refuse("three arguments of a tree", tree.arguments)
    num_values = sizes.num_classes if owner.type.endswith("Classifier") else 1
    num_inputs, widths, num_outputs = tree.arguments
    nodes, values = tree.fields["nodes"], tree.fields["values"]
    count, depth = tree.fields["node_count"], tree.fields["max_depth"]
    if (
        not all(type(n) is int for n in (num_inputs, num_outputs, count, depth))
        or (num_inputs, num_outputs) != (sizes.num_inputs, 1)
        or not _is_array(widths, (1,), "i")
        or widths[0] != num_values
        or not isinstance(nodes, np.ndarray)
        or (nodes.dtype, nodes.shape) != (NODE_DTYPE, (count,))
        or not _is_array(values, (count, 1, num_values), "f")
        or values.dtype != np.float64
    ):
        raise ValueError("expected a tree whose arrays fit each other.")
    is_leaf = nodes["left_child"] == -1
    if (nodes["right_child"][is_leaf] != -1).any():
        raise ValueError("expected leaves without children.")
    _check_children(
        is_leaf,
        left=nodes["left_child"],
        right=nodes["right_child"],
        feature=nodes["feature"],
        num_inputs=num_inputs,
    )
    # Paths of decisions are written to arrays of max_depth places.
    if depth > MAX_TREE_DEPTH or _is_deeper(is_leaf, nodes, depth):
        _refuse("a tree of the depth that it says", depth)


def _check_predictor(tree: Instance, sizes: _Sizes) -> None:
    """Raises ValueError unless compiled code stays within a histogram tree's arrays."""
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    bitsets = {"binned_left_cat_bitsets", "raw_left_cat_bitsets"}
    if set(tree.fields) != {"nodes"} | bitsets:
        _refuse("a tree with its three attributes", sorted(tree.fields))
    nodes = tree.fields["nodes"]
    if (
        not all(_is_array(tree.fields[name], (0, 8), "u") for name in bitsets)
        or not isinstance(nodes, np.ndarray)
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
        num_inputs=sizes.num_inputs,
    )


def _check_children(
    is_leaf: np.ndarray,
    *,
    left: np.ndarray,
    right: np.ndarray,
    feature: np.ndarray,
    num_inputs: int,
) -> None:
    """Raises ValueError unless nodes are a tree, after their parents, of inputs."""
    place = np.flatnonzero(~is_leaf)
    left, right, feature = (
        column[place].astype(np.int64) for column in (left, right, feature)
    )
    is_below = ((left > place) & (right > place)).all()
    is_input = ((feature >= 0) & (feature < num_inputs)).all()
    children = np.sort(np.concatenate([left, right]))
    is_reached = np.array_equal(children, np.arange(1, len(is_leaf)))
    if not len(is_leaf) or not is_below or not is_input or not is_reached:
        raise ValueError("expected a tree whose nodes lead to its leaves.")


def _is_deeper(is_leaf: np.ndarray, nodes: np.ndarray, max_depth: int) -> bool:
    """Whether a path from the root makes more decisions; level by level."""
    level = np.zeros(1, np.int64)
    for _ in range(max_depth + 1):
        level = level[~is_leaf[level]]
        if not len(level):
            return False
        level = np.concatenate(
            [nodes["left_child"][level], nodes["right_child"][level]]
        )
    return True
