"""What makes training fast and small, as structure: no clock is read here."""

import gc
import sys
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from world.frames import TINY, make_own_frame

from config import Config
from data_loader import TrainingDataLoader
from model_builder import NetworkBuilder
from sequence_generator import MemoryEfficientDataLoader


@pytest.fixture(scope="module")
def data():
    config = Config(**TINY | {"sequence_length": 100})
    frame = make_own_frame(12_000)
    return TrainingDataLoader.from_frame(frame, config=config).load_training_data()


def generators(data, **options):
    options = {"batch_size": 64, "seed": 1, "windows_per_epoch": 6400} | options
    return MemoryEfficientDataLoader(data, **options)


def loops(model, num_features):
    """Counts the loops over time in the graph of one training step."""

    @tf.function
    def step(windows, labels):
        with tf.GradientTape() as tape:
            outputs = model(windows, training=True)
            loss = tf.reduce_sum(tf.gather(outputs, labels, batch_dims=1))
        return tape.gradient(loss, model.trainable_variables)

    window = tf.TensorSpec((None, TINY["sequence_length"], num_features))
    graph = step.get_concrete_function(window, tf.TensorSpec((None,), tf.int32)).graph
    return sum("While" in operation.type for operation in graph.get_operations())


@pytest.mark.parametrize("branches", [1, 2, 3])
@pytest.mark.parametrize("units", [(4,), (4, 3, 2)])
def test_a_stack_has_one_loop_and_its_gradient_one_a_branch(units, branches):
    config = Config(**TINY | {"lstm_units": units, "num_branches": branches})
    model = NetworkBuilder(config, 5).build_model()
    assert model.num_branches == branches
    assert loops(model, 5) == 2 * branches


def test_other_families_have_a_loop_a_layer_and_a_branch():
    config = Config(**TINY | {"model": "gru", "gru_units": (4, 3)})
    model = NetworkBuilder(config, 5).build_model()
    assert loops(model, 5) >= 2 * 2 * TINY["num_branches"]


def test_windows_are_cut_batch_by_batch(data):
    made = generators(data)
    batch_bytes = 64 * 100 * data.num_features * 4
    windows_bytes = made.windows_per_epoch * 100 * data.num_features * 4
    made.train_dataset()  # what TensorFlow makes once
    tracemalloc.start()  # CPython before 3.12.9 may crash where another thread works
    iterator = iter(made.train_dataset().as_numpy_iterator())
    next(iterator)
    tracemalloc.reset_peak()
    for _ in range(made.steps_per_epoch):
        next(iterator)
    peak = tracemalloc.get_traced_memory()[1]
    del iterator
    gc.collect()
    tracemalloc.stop()
    assert windows_bytes > 90 * batch_bytes
    # The one that is read, two waiting, one being cut, its indices.
    assert peak < 10 * batch_bytes


def test_the_array_is_never_a_tensor(data):
    graph = tf.compat.v1.GraphDef()
    dataset = generators(data).train_dataset()
    graph.ParseFromString(dataset._as_serialized_graph().numpy())
    assert graph.ByteSize() < data.features.nbytes / 4


def test_order_of_an_epoch_has_four_bytes_a_target(data):
    order = generators(data).epoch_targets(0)
    assert order.dtype == np.int32 and order.base is None


def python_calls(function):
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def test_no_python_runs_for_each_window(data):
    made, targets = generators(data), data.train_targets
    few, many = targets[:10], targets[:1000]
    made._batch(few, weighted=True)
    assert python_calls(lambda: made._batch(few, weighted=True)) == python_calls(
        lambda: made._batch(many, weighted=True)
    )
