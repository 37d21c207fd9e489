"""Each step of an artifact as ONNX operators, against the same step in NumPy."""

import numpy as np
import pytest
from world import models

from artifacts.array_models import LEAF, Trees
from evaluation.calibration import CALIBRATORS, create_calibrator
from evaluation.policies import ReturnPolicy, SignalPolicy
from live import onnx_graph
from models.window_tables import ClassMix, WindowInputs
from preprocessing.scaling import FeatureScaler, TargetScaler
from settings.tree_fields import OPTIONAL_MODELS

pytest.importorskip("onnxruntime", reason="needs requirements-export.txt")
pytest.importorskip("onnx", reason="needs requirements-export.txt")

DRAW = np.random.default_rng(3)


def answers(add, inputs, *, columns):
    """What operators say of (num_rows, bars, features), or of a table of one bar."""
    graph = onnx_graph.Graph()
    windows = inputs if inputs.ndim == 3 else inputs[:, None]
    name = "features"
    if inputs.ndim == 2:
        name = graph.add("Squeeze", name, np.array([1]))
    answer = graph.cast(add(graph, name), "float")
    shape = ["batch", columns] if columns else ["batch"]
    content = graph.finish(("features", windows.shape[1:]), answer, ("x", shape))
    return onnx_graph.runner(content)(windows)


def edges(model, inputs):
    """Inputs at the thresholds themselves, and beside them."""
    rows = [inputs]
    for feature, threshold in zip(model.feature, model.threshold, strict=True):
        if feature != LEAF:
            near = np.repeat(inputs[:3], 1, axis=0)
            single = np.float32(threshold)
            near[:, feature] = [
                np.nextafter(single, np.float32(-9)),
                single,
                np.nextafter(single, np.float32(9)),
            ]
            rows.append(near)
    return np.concatenate(rows)


def check_arrays(model):
    inputs = models.INPUTS
    if isinstance(model, Trees):
        inputs = edges(model, inputs)
    expected = model.predict(inputs).reshape(len(inputs), -1)
    found = answers(
        lambda graph, name: onnx_graph.add_arrays(graph, model, name),
        inputs,
        columns=expected.shape[1],
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", models.estimators())
def test_plain_arrays(name):
    check_arrays(models.plain(name))


@pytest.mark.parametrize("num_classes", [3, 0])
@pytest.mark.parametrize("library", OPTIONAL_MODELS)
def test_boosters(library, num_classes):
    pytest.importorskip(library)
    check_arrays(models.boosted(library, num_classes, rounds=5)[0])


def test_trees_without_a_decision():
    none = {"importance": np.empty(0), "family": "x", "link": "identity"}
    check_arrays(
        Trees(
            **none,
            num_inputs=4,
            num_classes=None,
            feature=np.array([LEAF, 1, LEAF, LEAF], np.int32),
            left=np.array([LEAF, 2, LEAF, LEAF], np.int32),
            right=np.array([LEAF, 3, LEAF, LEAF], np.int32),
            threshold=np.array([0, 0.25, 0, 0.0]),
            value=np.array([[1.0], [0.0], [2.0], [4.0]]),
            root=np.array([0, 1], np.int32),
            column=np.zeros(2, np.int32),
            start=np.array([8.0]),
            is_single=False,
        )
    )


@pytest.mark.parametrize("kind", ["window_statistics", "last_row"])
@pytest.mark.parametrize("bars", [1, 8, 61, 200])
def test_window_inputs_to_the_bit(kind, bars):
    limits = np.array([1.0, 4.0, 0.25])
    inputs = WindowInputs(kind=kind, window_bars=bars, limits=limits)
    windows = DRAW.standard_normal((50, bars, 3)).astype(np.float32)
    windows[0] = 0.1  # no spread
    found = answers(
        lambda graph, name: onnx_graph.add_window_inputs(graph, inputs, name),
        windows,
        columns=inputs.count(),
    )
    assert np.array_equal(found, inputs.of_windows(windows))


def test_scaler_to_the_bit():
    scaler = FeatureScaler(
        kind="robust",
        feature_names=("a", "b"),
        center=(1.0001, -3e4),
        scale=(0.003, 7e3),
        clip_limit=5.0,
        num_rows=9,
    )
    rows = DRAW.standard_normal((500, 2)).astype(np.float32)
    rows = (rows * [0.01, 2e4] + [1.0, -3e4]).astype(np.float32)
    found = answers(
        lambda graph, name: onnx_graph.add_scaler(graph, scaler, name), rows, columns=2
    )
    assert np.array_equal(found, scaler.transform(rows))
    assert (np.abs(found) == 5).any()


@pytest.mark.parametrize("odds", [None, (0.5, 1.5, 0.7)])
@pytest.mark.parametrize("classes", [(0, 1, 2), (0, 2)])
def test_class_mix(odds, classes):
    mix = ClassMix(classes=classes, odds=odds, num_targets=97)
    table = DRAW.dirichlet(np.ones(len(classes)), 200).astype(np.float32)

    def add(graph, name):
        return onnx_graph.add_mix(graph, mix, graph.cast(name, "double"))

    found = answers(add, table, columns=3)
    np.testing.assert_allclose(found, mix.natural(table), rtol=2e-7)


@pytest.mark.parametrize("name", [None, *CALIBRATORS])
def test_calibration(name):
    table = DRAW.dirichlet([1.0, 2.0, 1.0], 3000).astype(np.float32)
    table[0], table[1] = [1, 0, 0], [0, 0, 1]
    labels = (DRAW.random(3000)[:, None] > table.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    fitted = (
        None if name is None else create_calibrator(name).fit(table[5:], labels[5:])
    )
    policy = SignalPolicy(calibrator=fitted)
    found = answers(
        lambda graph, given: onnx_graph.add_policy(graph, policy, given),
        table,
        columns=3,
    )
    np.testing.assert_allclose(found, policy.calibrate(table), rtol=2e-7, atol=1e-12)


def test_numbers_in_their_own_units():
    scaler = TargetScaler(center=1e-4, scale=5e-3, num_rows=7)
    policy = ReturnPolicy(target="price", scaler=scaler)
    outputs = DRAW.standard_normal((100, 1)).astype(np.float32)
    found = answers(
        lambda graph, name: onnx_graph.add_policy(graph, policy, name),
        outputs,
        columns=None,
    )
    np.testing.assert_allclose(found, policy.calibrate(outputs), rtol=1e-7)
