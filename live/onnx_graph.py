"""A model's arithmetic as ONNX operators: scaler, tables, class mix, calibration.

In: what each step of an artifact computes, in double precision as this project does it.
Out: networks (`onnx_networks`), which steps a model has, what is published (`export`).

Operators are those of ONNX 18; trees are `TreeEnsemble` of ai.onnx.ml 5, whose inputs
and thresholds may be doubles, so that no decision is another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import utils
from artifacts.array_models import LEAF, ArrayModel, Linear, Trees
from config import CLASS_NAMES
from evaluation import calibration
from evaluation.calibrator import EPSILON, LARGEST_LOGIT, Calibrator
from evaluation.policies import Policy, ReturnPolicy, SignalPolicy
from models.window_tables import ClassMix, WindowInputs
from preprocessing.scaling import FeatureScaler
from preprocessing.windows import statistic_units, window_sizes

OPSET = 18
TREES_OPSET = 5
IR_VERSION = 10
"""Of onnx 1.16 and onnxruntime 1.18, or newer."""


def import_onnx() -> Any:
    """Returns the module; DependencyError if it, or its runtime, is not installed."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise utils.DependencyError(
            "expected the packages onnx and onnxruntime for --format onnx. Received: "
            f"none of {error.name}. Install them: pip install -r "
            "requirements-export.txt"
        ) from error
    return onnx


class Graph:
    """Operators in the order they are added; each gives the name of what it computes.

    An input of an operator is such a name, or an array, which becomes a constant.
    """

    def __init__(self) -> None:
        self._onnx = import_onnx()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """Adds an operator; returns the name of its first output."""
        names = [self._name(each) for each in inputs]
        output = f"{operator.lower()}_{len(self.nodes)}"
        outputs = [output, f"{output}_places"] if operator == "TopK" else [output]
        node = self._onnx.helper.make_node(operator, names, outputs, **attributes)
        self.nodes.append(node)
        return output

    def _name(self, value: str | np.ndarray) -> str:
        if isinstance(value, str):
            return value
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.tensor(value, name))
        return name

    def tensor(self, value: np.ndarray, name: str = "") -> Any:
        """Returns an array as ONNX has it."""
        return self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)

    def cast(self, name: str, kind: str) -> str:
        """Converts to `float`, `double` or `int64`."""
        return self.add("Cast", name, to=getattr(self._onnx.TensorProto, kind.upper()))

    def total(self, name: str) -> str:
        """Sums each row, which keeps its one column."""
        return self.add("ReduceSum", name, np.array([1]))

    def include(self, model: Any, name: str) -> str:
        """Adds the operators of another model of one input and one output."""
        prefixed = self._onnx.compose.add_prefix(model, "network/").graph
        [given] = prefixed.input
        [output] = prefixed.output
        link = self._onnx.helper.make_node("Identity", [name], [given.name])
        self.nodes += [link, *prefixed.node]
        self.constants += prefixed.initializer
        return output.name

    def finish(
        self,
        given: tuple[str, tuple[int, int]],
        answer: str,
        named: tuple[str, list[str | int]],
    ) -> bytes:
        """Returns the file of the model.

        Args:
            given: Name of the input, and (window_bars, num_features).
            answer: What it computes.
            named: What that is called, and its shape.
        """
        onnx = self._onnx
        self.nodes.append(onnx.helper.make_node("Identity", [answer], [named[0]]))
        infos = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in ((given[0], ["batch", *given[1]]), named)
        ]
        graph = onnx.helper.make_graph(
            self.nodes, "signals", infos[:1], infos[1:], self.constants
        )
        model = onnx.helper.make_model(
            graph,
            opset_imports=[
                onnx.helper.make_opsetid("", OPSET),
                onnx.helper.make_opsetid("ai.onnx.ml", TREES_OPSET),
            ],
            ir_version=IR_VERSION,
            producer_name="live.export",
        )
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def runner(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what answers windows as the file does."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    return lambda windows: session.run(None, {given.name: windows})[0]


def add_scaler(graph: Graph, scaler: FeatureScaler, name: str) -> str:
    """Adds what `FeatureScaler.transform` does; returns float32 of the same shape."""
    x = graph.cast(name, "double")
    x = graph.add("Sub", x, np.array(scaler.center))
    x = graph.add("Div", x, np.array(scaler.scale))
    limit = np.array(scaler.clip_limit)
    return graph.cast(graph.add("Clip", x, -limit, limit), "float")


def add_window_inputs(graph: Graph, inputs: WindowInputs, name: str) -> str:
    """Adds what `WindowInputs.of_windows` does; returns (batch, num_inputs) float32.

    Sums are of the same whole numbers, so that the bits are the same.
    """
    bars = inputs.window_bars

    def newest(x: str, count: int) -> str:
        ends = (np.array([place]) for place in (bars - count, bars, 1))
        return graph.add("Slice", x, *ends)

    if inputs.kind == "last_row":
        return graph.add("Squeeze", newest(name, 1), np.array([1]))
    units = statistic_units(inputs.limits, bars)
    x = graph.cast(name, "double")
    x = graph.add("Min", graph.add("Max", x, -inputs.limits), inputs.limits)
    whole = graph.cast(graph.add("Round", graph.add("Div", x, units)), "int64")
    square = graph.add("Mul", whole, whole)
    columns = []
    for size in window_sizes(bars):
        total, squares = (
            graph.add("ReduceSum", newest(each, size), np.array([1]), keepdims=0)
            for each in (whole, square)
        )
        spread = graph.add("Mul", np.array(size), squares)
        spread = graph.add("Sub", spread, graph.add("Mul", total, total))
        spread = graph.add("Sqrt", graph.cast(spread, "double"))
        for each in (graph.cast(total, "double"), spread):
            column = graph.cast(graph.add("Mul", each, units / size), "float")
            columns.append(graph.add("Unsqueeze", column, np.array([2])))
    table = graph.add("Concat", *columns, axis=2)
    return graph.add("Reshape", table, np.array([-1, len(units) * len(columns)]))


def add_arrays(graph: Graph, model: ArrayModel, name: str) -> str:
    """Adds what `ArrayModel.predict` does; returns (batch, num_classes), or (batch, 1).

    Raises:
        ConfigError: If the model is of another kind.
    """
    if isinstance(model, Trees):
        scores = _add_trees(graph, model, name)
    elif isinstance(model, Linear):
        x = graph.add("Sub", graph.cast(name, "double"), model.mean)
        x = graph.add("MatMul", graph.add("Div", x, model.scale), model.weight)
        scores = graph.add("Add", x, model.intercept)
    else:
        raise utils.ConfigError(
            "format: expected a model of trees or a linear one, whose arrays have an "
            f"exact ONNX form. Received: {type(model).__name__}"
        )
    if model.link == "softmax":
        return graph.add("Softmax", scores, axis=1)
    if model.link == "logistic":
        high = graph.add("Sigmoid", scores)
        low = graph.add("Sub", np.array(1.0), high)
        return graph.add("Concat", low, high, axis=1)
    return scores


def _add_trees(graph: Graph, model: Trees, name: str) -> str:
    """Adds all trees: each says which of its leaves a row ends in.

    A leaf of `TreeEnsemble` adds to one score alone; its number is exact in a double,
    and what it stands for is looked up.
    """
    is_leaf, places = model.feature == LEAF, np.arange(len(model.feature))
    # A tree without a decision asks for nothing, and finds its leaf on either side.
    is_alone = is_leaf & np.isin(places, model.root)
    is_node = ~is_leaf | is_alone
    node, leaf = np.cumsum(is_node) - 1, np.cumsum(is_leaf) - 1
    asked: dict[str, list[int]] = {}
    for key, side in (("true", model.left), ("false", model.right)):
        child = np.where(is_alone, places, side)[is_node]
        found = np.where(is_leaf[child], leaf[child], node[child])
        asked[f"nodes_{key}nodeids"] = found.tolist()
        asked[f"nodes_{key}leafs"] = is_leaf[child].astype(int).tolist()
    tree = np.searchsorted(model.root, places, side="right") - 1
    leaves = graph.add(
        "TreeEnsemble",
        graph.cast(name, "double"),
        domain="ai.onnx.ml",
        n_targets=len(model.root),
        tree_roots=node[model.root].tolist(),
        nodes_featureids=np.maximum(model.feature, 0)[is_node].tolist(),
        nodes_splits=graph.tensor(model.threshold[is_node]),
        nodes_modes=graph.tensor(np.zeros(is_node.sum(), np.uint8)),
        leaf_targetids=tree[is_leaf].tolist(),
        leaf_weights=graph.tensor(np.arange(is_leaf.sum(), dtype=np.float64)),
        **asked,
    )
    values = model.value[is_leaf]
    found = graph.add("Gather", values, graph.cast(leaves, "int64"))
    if values.shape[1] == 1:  # a tree adds to one score
        found = graph.add("Squeeze", found, np.array([2]))
        scores = graph.add("MatMul", found, np.eye(model.num_scores)[model.column])
    else:
        scores = graph.add("ReduceSum", found, np.array([1]), keepdims=0)
    scores = graph.add("Add", scores, model.start)
    if model.link == "mean":
        scores = graph.add("Div", scores, np.array(float(len(model.root))))
    return scores


def add_mix(graph: Graph, mix: ClassMix, name: str) -> str:
    """Adds what `ClassMix.natural` does; returns (batch, 3) doubles."""
    count = len(CLASS_NAMES)
    x = graph.add("MatMul", name, np.eye(count)[list(mix.classes)])
    if mix.odds is not None:
        x = graph.add("Div", x, np.array(mix.odds))
    x = graph.add("Div", x, graph.total(x))
    x = graph.add("Mul", x, np.array(float(mix.num_targets)))
    x = graph.add("Add", x, np.array(1.0))
    return graph.add("Div", x, np.array(float(mix.num_targets + count)))


def add_policy(graph: Graph, policy: Policy, name: str, *, num_outputs: int = 1) -> str:
    """Adds what `Policy.calibrate` does, rounded to float32 as a run's table has it."""
    x = graph.cast(name, "double")
    if isinstance(policy, ReturnPolicy):
        if num_outputs > 1:  # quantiles: the middle one in their order
            x = graph.add("TopK", x, np.array([num_outputs // 2 + 1]), largest=0)
            x = graph.add("ReduceMax", x, np.array([1]))
        x = graph.add("Mul", x, np.array(policy.scaler.scale))
        x = graph.add("Add", x, np.array(policy.scaler.center))
        return graph.cast(graph.add("Reshape", x, np.array([-1])), "float")
    if isinstance(policy, SignalPolicy) and policy.calibrator is not None:
        x = _add_calibrator(graph, policy.calibrator, x)
    return graph.cast(graph.add("Div", x, graph.total(x)), "float")


def _add_calibrator(graph: Graph, calibrator: Calibrator, name: str) -> str:
    """Adds the map of a calibrator, before its rows are divided by their sum."""
    fitted = calibrator.parameters_
    if isinstance(calibrator, calibration.IsotonicCalibrator):
        columns = [
            _add_steps(graph, graph.add("Slice", name, *ends), **parameters)
            for ends, parameters in zip(_columns(len(fitted)), fitted, strict=True)
        ]
        return graph.add("Concat", *columns, axis=1)

    def of_all(key: str) -> np.ndarray:
        return np.array([parameters[key] for parameters in fitted])

    p = graph.add("Clip", name, np.array(EPSILON), np.array(1.0 - EPSILON))
    log_p = graph.add("Log", p)
    if isinstance(calibrator, calibration.TemperatureScaling):
        x = graph.add("Div", log_p, of_all("temperature"))
        return graph.add("Softmax", x, axis=1)
    if isinstance(calibrator, calibration.BiasScaling):
        return graph.add("Softmax", graph.add("Add", log_p, of_all("bias")), axis=1)
    log_not_p = graph.add("Log", graph.add("Sub", np.array(1.0), p))
    if isinstance(calibrator, calibration.PlattCalibrator):
        x = graph.add("Sub", log_p, log_not_p)
        x = graph.add("Mul", of_all("slope"), x)
        x = graph.add("Add", x, of_all("intercept"))
    elif isinstance(calibrator, calibration.BetaCalibrator):
        x = graph.add("Mul", of_all("a"), log_p)
        x = graph.add("Sub", x, graph.add("Mul", of_all("b"), log_not_p))
        x = graph.add("Add", x, of_all("c"))
    else:
        raise utils.ConfigError(
            "format: expected a calibration that has an ONNX form. Received: "
            f"{calibrator.name}"
        )
    limit = np.array(LARGEST_LOGIT)
    return graph.add("Sigmoid", graph.add("Clip", x, -limit, limit))


def _add_steps(
    graph: Graph, name: str, *, scores: list[float], frequencies: list[float]
) -> str:
    """Adds the line through points, flat beyond its ends, for one column (batch, 1)."""
    knots, values = np.array(scores), np.array(frequencies)
    slopes = np.append(np.diff(values) / np.diff(knots), 0.0)
    x = graph.add("Clip", name, knots[0], knots[-1])
    passed = graph.cast(graph.add("GreaterOrEqual", x, knots), "int64")
    place = graph.add("Sub", graph.total(passed), np.array(1))
    x = graph.add("Sub", x, graph.add("Gather", knots, place))
    x = graph.add("Mul", graph.add("Gather", slopes, place), x)
    return graph.add("Add", x, graph.add("Gather", values, place))


def _columns(count: int) -> list[list[np.ndarray]]:
    """Returns start, end and axis of each column of a table, for `Slice`."""
    return [[np.array([place]) for place in (k, k + 1, 1)] for k in range(count)]
