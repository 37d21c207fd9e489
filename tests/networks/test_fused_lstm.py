"""The LSTM stack in one loop: the network's numbers, its gradient, its conditions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from config import Config
from model_builder import NetworkBuilder
from networks.branched import BranchedTraining
from networks.fused_lstm import FusedLSTM, _tanh

SMALL = {"sequence_length": 20, "lstm_units": (7, 6, 5), "dense_units": (4,)}


def network_of(**fields):
    keras.utils.set_random_seed(3)
    return NetworkBuilder(Config(**SMALL | fields), 3).build_network()


def loss_and_gradients(network, *, fused, branches=1, size=1.0):
    """Of one batch, with the dropout masks of one fixed state."""
    for state in network.non_trainable_variables:
        state.assign(np.array([7, 9], np.uint32))
    model = BranchedTraining(network, num_branches=branches)
    assert model.fused is not None
    if not fused:
        model.fused = None
    rng = np.random.default_rng(0)
    windows = tf.constant(size * rng.standard_normal((33, 20, 3)), tf.float32)
    labels = tf.constant(rng.integers(0, 3, 33))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            outputs = model(windows, training=True)
            loss = keras.losses.sparse_categorical_crossentropy(labels, outputs)
            loss = tf.reduce_mean(loss)
        gradients = tape.gradient(loss, network.trainable_variables)
        return loss, outputs, gradients

    loss, outputs, gradients = step()
    return float(loss), outputs.numpy(), [each.numpy() for each in gradients], step


@pytest.mark.parametrize("units", [(7, 6, 5), (5,), (4, 9)])
@pytest.mark.parametrize("dropout_rate", [0.0, 0.4])
def test_loss_and_gradient_are_the_networks(units, dropout_rate):
    network = network_of(lstm_units=units, dropout_rate=dropout_rate)
    loss, outputs, gradients, _ = loss_and_gradients(network, fused=False)
    fused = loss_and_gradients(network, fused=True)
    assert fused[0] == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(fused[1], outputs, rtol=0, atol=1e-6)
    for ours, own in zip(fused[2], gradients, strict=True):
        assert np.abs(own).max() > 0
        np.testing.assert_allclose(ours, own, rtol=0, atol=2e-5 * np.abs(own).max())


def test_tanh_is_as_near_as_tensorflows():
    rng = np.random.default_rng(0)
    x = np.float32([10.0, 1.0, 0.1, 1e-5])[:, None] * rng.uniform(-1, 1, 200_000)
    x, compiled = x.astype(np.float32), tf.function(_tanh, jit_compile=True)
    exact = np.tanh(x.astype(np.float64))
    off = np.abs(compiled(x) - exact)
    last_place = np.spacing(np.abs(exact).astype(np.float32))
    assert (off / last_place).max() < 6
    assert off.max() <= np.abs(tf.tanh(x) - exact).max()
    assert np.abs(compiled(x)).max() <= 1.0
    ends = np.float32([8.0, 1e30, np.inf])  # saturated: no gradient passes
    ends = compiled(np.float32([*ends, *-ends, 0.0, np.nan])).numpy()
    np.testing.assert_array_equal(ends, [1, 1, 1, -1, -1, -1, 0, np.nan])


def test_saturated_gates_pass_no_gradient():
    network = network_of(dropout_rate=0.0, lstm_units=(3,))
    own, ours = (
        loss_and_gradients(network, fused=fused, size=1e6)[2] for fused in (False, True)
    )
    for one, other in zip(ours, own, strict=True):
        at_most = 1e-6 + 2e-5 * np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=at_most)


@pytest.mark.parametrize("units", [(7, 6, 5), (5,)])
@pytest.mark.parametrize("training", [False, None])
def test_forecasts_are_the_networks(units, training):
    network = network_of(lstm_units=units, dropout_rate=0.4)
    windows = np.random.default_rng(0).standard_normal((33, 20, 3)).astype(np.float32)
    fused = FusedLSTM.of(network)
    outputs = tf.function(lambda x: fused(x, training=training))(windows)
    expected = network(windows, training=False)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-6)
    wrapped = BranchedTraining(network, num_branches=2).predict(windows, verbose=0)
    np.testing.assert_allclose(wrapped, expected, rtol=0, atol=1e-6)


def test_forecasts_keep_nothing_for_a_gradient():
    """One loop carries one array over the bars: the windows themselves."""
    function = tf.function(FusedLSTM.of(network_of()))
    graph = function.get_concrete_function(tf.TensorSpec((None, 20, 3))).graph
    (loop,) = (op for op in graph.get_operations() if "While" in op.type)
    assert [each.dtype for each in loop.outputs].count(tf.variant) == 1


def test_gradient_is_the_slope_of_the_loss():
    network = network_of(dropout_rate=0.0, dense_units=())  # relu has kinks
    *_, gradients, step = loss_and_gradients(network, fused=True)
    rng = np.random.default_rng(1)
    for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
        way = np.sign(gradient) * rng.random(gradient.shape)
        start, width = variable.numpy(), 2e-3
        sides = []
        for sign in (1, -1):
            variable.assign(start + sign * width * way)
            sides.append(float(step()[0]))
        variable.assign(start)
        slope = (sides[0] - sides[1]) / (2 * width)
        assert slope == pytest.approx(float((gradient * way).sum()), rel=1e-2)


def test_branches_make_the_same_gradient():
    network = network_of(dropout_rate=0.0, lstm_units=(7, 6))
    whole = loss_and_gradients(network, fused=True)[2]
    split = loss_and_gradients(network, fused=True, branches=3)[2]
    for one, other in zip(whole, split, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=2e-5 * np.abs(one).max())


def test_training_learns_what_the_plain_network_learns():
    rng = np.random.default_rng(0)
    windows = rng.standard_normal((256, 20, 3)).astype(np.float32)
    labels = (windows[:, -3:, 0].mean(axis=1) > 0).astype(np.int32)
    histories = []
    for is_fused in (True, False):
        network = network_of(dropout_rate=0.2, lstm_units=(8, 8))
        model = BranchedTraining(network, num_branches=2)
        model.fused = model.fused if is_fused else None
        model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
        model.build((None, 20, 3))
        model.optimizer.build(model.trainable_variables)  # or it is traced twice
        record = model.fit(windows, labels, epochs=3, batch_size=32, verbose=0)
        histories.append(record.history["loss"])
    # Not equal: each shuffles and drops with the generators it finds. As good.
    assert histories[0][-1] == pytest.approx(histories[1][-1], abs=0.05)
    assert histories[0][-1] < histories[0][0]


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "gru"},
        {"model": "cnn"},
        {"model": "cnn_lstm"},
        {"model": "attention"},
        {"bidirectional": True},
        {"recurrent_dropout": 0.1},
    ],
)
def test_other_networks_are_computed_as_they_are(fields):
    assert FusedLSTM.of(network_of(**fields)) is None


def chain(*between, **options):
    layers = keras.layers
    x = inputs = keras.Input((20, 3))
    for layer in (
        layers.LSTM(4, return_sequences=True, **options),
        *between,
        layers.LSTM(4),
        layers.Dense(3, "softmax"),
    ):
        x = layer(x)
    return keras.Model(inputs, x)


def test_only_plain_stacks_are_fused():
    layers = keras.layers
    assert FusedLSTM.of(chain()) is not None
    assert FusedLSTM.of(chain(layers.SpatialDropout1D(0.1))) is not None
    for between in (layers.Dropout(0.1), layers.LayerNormalization()):
        assert FusedLSTM.of(chain(between)) is None
    twice = (layers.SpatialDropout1D(0.1), layers.SpatialDropout1D(0.1))
    assert FusedLSTM.of(chain(*twice)) is None
    for options in (
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"use_bias": False},
        {"dropout": 0.1},
        {"go_backwards": True},
        {"dtype": "float64"},
    ):
        assert FusedLSTM.of(chain(**options)) is None, options


def test_a_network_with_a_side_path_is_not_a_chain():
    layers = keras.layers
    inputs = keras.Input((20, 3))
    x = layers.LSTM(4, return_sequences=True)(inputs)
    y = layers.LSTM(4)(x)
    outputs = layers.Concatenate()([y, layers.Flatten()(x)])
    assert FusedLSTM.of(keras.Model(inputs, layers.Dense(3)(outputs))) is None
    # Sequential does not show its input layer: not looked into.
    hidden = keras.Sequential([keras.Input((20, 3)), layers.LSTM(4), layers.Dense(3)])
    assert FusedLSTM.of(hidden) is None


def test_saved_network_is_the_plain_one(tmp_path):
    model = BranchedTraining(network_of())
    model.save(tmp_path / "model.keras")
    text = keras.saving.load_model(tmp_path / "model.keras").to_json()
    assert "Fused" not in text and text.count('"LSTM"') == 3
