import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from world.frames import PROJECT, TINY
from world.networks import batch, build

from artifacts.keras_files import load_keras_model
from config import Config
from model_builder import DualWindowLSTMBuilder
from networks.branched import BranchedTraining, weights_digest
from networks.callbacks import CollapseMonitor, NonFiniteLossError, StopOnNonFinite


def test_default_network_has_133603_parameters():
    builder = DualWindowLSTMBuilder(Config(), num_features=8)
    network = builder.build_network()
    assert network.count_params() == 133_603
    assert builder.estimate_model_memory()["parameters"] == 133_603 * 16
    assert network.output_shape == (None, 3)


# To trace it takes a third of the time of an LSTM: where any network will do.
MLP = {"model": "mlp", "mlp_inputs": "bars"}


@pytest.mark.parametrize(("weighted", "fields"), [(False, {}), (True, MLP)])
def test_branches_learn_what_one_network_learns(weighted, fields):
    x, y = batch(67)
    weights = np.random.default_rng(1).random(67).astype(np.float32)
    trained = {}
    for branches in (1, 2, 3):
        model = build(num_branches=branches, batch_size=67, **fields)
        assert model.num_branches == branches
        for _ in range(5):
            model.train_on_batch(x, y, sample_weight=weights if weighted else None)
        trained[branches] = model.get_weights()
    for branches in (2, 3):
        for a, b in zip(trained[1], trained[branches], strict=True):
            np.testing.assert_allclose(a, b, atol=2e-6)


def test_odds_act_in_training_alone():
    model = build(odds=[4.0, 1.0, 2.0])
    x, _ = batch()
    natural = model.network(x).numpy()
    outputs = model(x, training=False).numpy()
    np.testing.assert_allclose(outputs, natural, rtol=0, atol=1e-6)
    seen = natural * [4, 1, 2]
    seen /= seen.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model(x, training=True).numpy(), seen, atol=1e-6)


def test_network_trained_under_odds_speaks_of_the_natural_mix():
    # No feature tells the classes apart: the natural shares are all there is to learn.
    natural, odds = np.array([0.1, 0.8, 0.1]), np.array([2.5, 0.3125, 5.0])
    shown = natural * odds / (natural * odds).sum()
    model = build(odds=odds, learning_rate=0.02, **MLP)
    rng = np.random.default_rng(0)
    x = np.zeros((4000, 8, 3), np.float32)
    model.fit(x, rng.choice(3, 4000, p=shown), epochs=6, batch_size=64, verbose=0)
    learned = model.network.predict(x[:1], verbose=0)[0]
    np.testing.assert_allclose(learned, natural, atol=0.03)


def test_saved_model_is_the_plain_network(tmp_path):
    model = build(odds=[4.0, 1.0, 2.0])
    x, y = batch()
    model.train_on_batch(x, y)
    model.save(tmp_path / "m.keras")
    expected = model.network.predict(x, verbose=0)
    # Refuses every class but Keras's own.
    loaded = load_keras_model((tmp_path / "m.keras").read_bytes(), "m.keras")
    assert type(loaded).__name__ == "Functional"
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    assert [path.name for path in tmp_path.glob("*.keras")] == ["m.keras"]


def test_training_wrapper_survives_its_own_serialisation():
    model = build(odds=[4.0, 1.0, 2.0])
    copy = BranchedTraining.from_config(model.get_config())
    assert (copy.num_branches, copy.odds) == (2, (4.0, 1.0, 2.0))


def test_equal_seeds_give_equal_weights():
    x, y = batch()

    def trained(seed):
        model = build(seed=seed, dropout_rate=0.3)
        for _ in range(3):
            model.train_on_batch(x, y)
        return weights_digest(model)

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


def test_callbacks(tmp_path):
    builder = DualWindowLSTMBuilder(Config(**TINY | {"tensorboard": True}), 3)
    callbacks = builder.create_callbacks(tmp_path)
    assert [type(callback).__name__ for callback in callbacks] == [
        "StopOnNonFinite",
        "ModelCheckpoint",
        "EarlyStopping",
        "ReduceLROnPlateau",
        "MemoryMonitor",
        "TensorBoard",
    ]
    stopping = callbacks[2]
    assert stopping.restore_best_weights and stopping.patience == 10


def test_early_stopping_restores_the_best_epoch(tmp_path):
    config = Config(**TINY | {"early_stopping_patience": 2, "epochs": 50})
    keras.utils.set_random_seed(1)
    model = DualWindowLSTMBuilder(config, 3).build_model()
    callbacks = DualWindowLSTMBuilder(config, 3).create_callbacks(tmp_path)
    x, y = batch(256)
    valid = batch(64, seed=9)
    history = model.fit(
        x, y, epochs=50, validation_data=valid, callbacks=callbacks, verbose=0
    ).history
    assert len(history["loss"]) < 50
    final = model.evaluate(*valid, verbose=0, return_dict=True)["loss"]
    assert final == pytest.approx(min(history["val_loss"]), rel=1e-5)
    saved = keras.saving.load_model(tmp_path / "best_model_checkpoint.keras")
    np.testing.assert_array_equal(
        saved.predict(valid[0], verbose=0), model.network.predict(valid[0], verbose=0)
    )


@pytest.mark.parametrize(
    ("monitor", "values", "epochs", "best"),
    [
        # Each epoch is better, but by 0.04 only; 0.10 in sum counts every third time.
        ("val_loss", [1.0, 0.96, 0.92, 0.88, 0.84, 0.80, 0.76], 7, 7),
        ("val_loss", [1.0, 0.97, 0.98, 0.99, 0.5], 3, 2),
        ("val_accuracy", [0.5, 0.53, 0.52, 0.51, 0.9], 3, 2),
        ("val_accuracy", [0.5, 0.7, 0.65, 0.6, 0.9], 4, 2),
    ],
)
def test_minimum_delta_decides_when_to_stop_not_what_is_best(
    tmp_path, monitor, values, epochs, best
):
    config = Config(
        **TINY
        | MLP
        | {
            "monitor": monitor,
            "early_stopping_min_delta": 0.1,
            "early_stopping_patience": 2 if len(values) == 5 else 3,
        }
    )
    builder = DualWindowLSTMBuilder(config, 3)
    model = builder.build_model()
    stopping = [
        item
        for item in builder.create_callbacks(tmp_path)
        if type(item).__name__ == "EarlyStopping"
    ]
    # A weight that names its epoch, and a validation that says what it should.
    bias = model.network.get_layer("trading_decisions").bias
    script = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: bias.assign([epoch + 1.0] * 3),
        on_epoch_end=lambda epoch, logs: logs.update({monitor: values[epoch]}),
    )
    model.optimizer.learning_rate = 0.0
    history = model.fit(
        *batch(), epochs=len(values), callbacks=[script, *stopping], verbose=0
    )
    assert len(history.history["loss"]) == epochs
    assert bias.numpy().tolist() == [best] * 3


def test_non_finite_loss_stops_within_the_batch():
    model = build(dense_units=())  # some processors' relu turns NaN into 0
    x, y = batch(640)
    x[200:] = np.nan
    seen = []
    counter = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: seen.append(step)
    )
    with pytest.raises(NonFiniteLossError, match="epoch 1, batch 4: expected a finite"):
        model.fit(
            *(x, y),
            batch_size=64,
            shuffle=False,
            callbacks=[StopOnNonFinite(), counter],
            verbose=0,
        )
    assert seen == [0, 1, 2]


class HideNaN(keras.layers.Layer):
    """NaN becomes 0, as in the relu of some processors (of others it stays NaN)."""

    def call(self, x):
        return tf.where(tf.math.is_nan(x), 0.0, x)


def test_weights_that_a_layer_hides_from_the_loss_are_noticed():
    layers = keras.layers
    first, last = layers.Dense(4), layers.Dense(3, "softmax")
    model = keras.Sequential([layers.Flatten(), first, HideNaN(), last])
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = batch()
    x[0] = np.nan
    assert np.isfinite(model.evaluate(x, y, verbose=0))
    with pytest.raises(NonFiniteLossError, match="finite weights after the update"):
        model.fit(x, y, callbacks=[StopOnNonFinite()], batch_size=64, verbose=0)


def test_non_finite_input_ends_a_training_whatever_relu_makes_of_it():
    model = build()
    x, y = batch()
    x[0] = np.nan
    with pytest.raises(NonFiniteLossError, match="epoch 1, batch 1: expected"):
        model.fit(x, y, callbacks=[StopOnNonFinite()], batch_size=64, verbose=0)


def test_non_finite_validation_is_never_the_best(tmp_path):
    builder = DualWindowLSTMBuilder(Config(**TINY | {"dense_units": ()}), 3)
    model = builder.build_model()
    x, y = batch()
    bad = np.full_like(x, np.nan)
    with pytest.raises(NonFiniteLossError, match="its validation"):
        model.fit(
            *(x, y),
            validation_data=(bad, y),
            callbacks=builder.create_callbacks(tmp_path),
            verbose=0,
        )
    assert list(tmp_path.iterdir()) == []


def test_collapse_is_warned_about_once(caplog):
    model = build()
    bias = model.network.get_layer("trading_decisions").bias
    bias.assign([0.0, 50.0, 0.0])
    x, y = batch()
    windows = tf.data.Dataset.from_tensors((x, y))
    monitor = CollapseMonitor(windows, np.array([0.3, 0.4, 0.3]))
    monitor.set_model(model)
    monitor.on_epoch_end(0)
    monitor.on_epoch_end(1)
    ours = [item for item in caplog.records if item.name == "networks.callbacks"]
    assert [record.getMessage() for record in ours] == [
        "epoch 1: 0.0 % of the most probable classes are SHORT, of the labels 30.0 %",
        "epoch 1: 100.0 % of the most probable classes are HOLD, of the labels 40.0 %",
        "epoch 1: 0.0 % of the most probable classes are LONG, of the labels 30.0 %",
    ]


@pytest.mark.parametrize("model", ["gru", "attention"])
def test_branches_of_other_families_learn_the_same(model):
    x, y = batch(67)
    fields = {"model": model, "gru_units": (4,), "attention_dropout": 0.0}
    fields |= {"attention_dim": 8, "attention_heads": 2, "attention_ff_dim": 8}
    fields |= {"attention_blocks": 1}
    # Not Adam: it makes a rounding error in a gradient near 0 a whole step.
    fields |= {"optimizer": "sgd", "batch_size": 67}
    trained = []
    for branches in (1, 3):
        network = build(num_branches=branches, **fields)
        assert network.num_branches == branches
        for _ in range(3):
            network.train_on_batch(x, y)
        trained.append(network.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.parametrize(
    ("fields", "branches"),
    [
        ({"model": "lstm"}, 2),
        ({"model": "lstm", "dense_batch_norm": True}, 1),
        ({"model": "cnn"}, 1),
        ({"model": "cnn", "conv_batch_norm": False}, 2),
    ],
)
def test_batch_normalisation_sees_the_whole_batch(fields, branches):
    model = build(cnn_filters=(4,), cnn_kernels=(3,), num_branches=2, **fields)
    assert model.num_branches == branches


def test_statistics_of_batch_normalisation_are_the_whole_batchs():
    model = build(model="cnn", cnn_filters=(4,), cnn_kernels=(1,), num_branches=4)
    x, y = batch()
    x[32:] += 3.0  # the second half of the batch is another market
    bias = model.network.get_layer("conv_1").bias.numpy()
    kernel = model.network.get_layer("conv_1").kernel.numpy()[0]
    model.train_on_batch(x, y)
    mean = model.network.get_layer("norm_c1").moving_mean.numpy()
    np.testing.assert_allclose(mean, 0.1 * (x @ kernel + bias).mean((0, 1)), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "branches"),
    [
        ({}, 2),  # one keeps two threads busy
        ({"num_threads": 1}, 1),
        ({"recurrent_dropout": 0.1}, 4),  # not computed in one loop
        ({"model": "gru", "gru_units": (4,)}, 4),
        ({"bidirectional": True}, 1),
        ({"model": "ensemble", "conv_batch_norm": False}, 1),
        ({"num_branches": 3}, 3),
    ],
)
def test_branches_follow_threads_where_they_make_it_faster(fields, branches):
    fields = {"num_branches": None, "num_threads": 4} | fields
    assert build(**fields).num_branches == branches


def test_one_branch_without_tensors_of_zero_rows():
    model = build(num_branches=4, batch_size=2)
    assert model.num_branches == 2
    assert model(tf.zeros((2, 8, 3))).shape == (2, 3)


def test_gradient_accumulation_keeps_the_effective_batch():
    x, y = batch(64)
    whole = build(batch_size=64, **MLP)
    whole.fit(x, y, batch_size=64, epochs=3, shuffle=False, verbose=0)
    parts = build(batch_size=32, gradient_accumulation_steps=2, **MLP)
    parts.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0)
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_mixed_precision_computes_in_float16_and_keeps_float32_weights(monkeypatch):
    monkeypatch.setattr(
        DualWindowLSTMBuilder, "dtype_policy", property(lambda _: "mixed_float16")
    )
    model = build()
    lstm = model.network.get_layer("lstm_1")
    assert lstm.compute_dtype == "float16"
    assert {str(v.dtype) for v in model.network.trainable_variables} == {"float32"}
    x, y = batch()
    first = model.train_on_batch(x, y, return_dict=True)["loss"]
    assert np.isfinite(first)
    assert model.network(x).dtype == tf.float32


def test_several_devices_learn_what_one_learns(tmp_path):
    # Two logical CPUs stand for two GPUs; they must be set up before TensorFlow starts.
    code = """
import sys
sys.path[:0] = [PROJECT, PROJECT + '/tests']
import tensorflow as tf
cpu = tf.config.list_physical_devices('CPU')[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import numpy as np
import model_builder
from world.networks import batch, build
x, y = batch(64)
trained = []
for scope in (model_builder.training_scope, None):
    if scope is None:
        strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
        model_builder.training_scope = strategy.scope
    model = build(model="mlp", num_branches=1)  # as on GPUs, no fused loop
    model.fit(x, y, batch_size=64, epochs=3, shuffle=False, verbose=0)
    trained.append(model.get_weights())
for a, b in zip(*trained):
    np.testing.assert_allclose(a, b, atol=1e-5)
""".replace("PROJECT", repr(str(PROJECT)))
    probe = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert probe.returncode == 0, probe.stderr[-2000:]


def test_an_lstm_that_gives_every_bar_is_trained_as_it_is():
    layers = keras.layers
    x = inputs = keras.Input((8, 3))
    x = layers.LSTM(4, return_sequences=True)(x)
    x = layers.GlobalAveragePooling1D()(x)
    network = keras.Model(inputs, layers.Dense(3, "softmax")(x))
    model = BranchedTraining(network)
    windows, _ = batch()
    expected = network(windows, training=False)
    np.testing.assert_allclose(model(windows, training=True), expected, atol=1e-6)


def test_one_gpu_gets_the_plain_network_in_the_form_cudnn_takes(monkeypatch):
    # Detection alone is replaced: layers are built on the CPU.
    physical = tf.config.list_physical_devices
    monkeypatch.setattr(
        tf.config,
        "list_physical_devices",
        lambda kind=None: ["a GPU"] if kind == "GPU" else physical(kind),
    )
    model = build(num_branches=4, num_threads=4)
    assert model.num_branches == 1
    assert model.fused is None
    # https://keras.io/api/layers/recurrent_layers/lstm lists what cuDNN asks for.
    lstm = model.network.get_layer("lstm_1")
    assert lstm.activation is keras.activations.tanh
    assert lstm.recurrent_activation is keras.activations.sigmoid
    assert lstm.use_bias and lstm.use_cudnn == "auto"
    assert not (lstm.recurrent_dropout or lstm.unroll)
    builder = DualWindowLSTMBuilder(Config(mixed_precision=True), num_features=3)
    assert builder.dtype_policy == "mixed_float16"


@pytest.mark.parametrize("fields", [{}, {"loss": "focal", "optimizer": "adamw"}])
def test_the_first_step_is_traced_once(monkeypatch, fields):
    traced = []
    step = BranchedTraining.train_step
    monkeypatch.setattr(
        BranchedTraining,
        "train_step",
        lambda self, data: traced.append(1) or step(self, data),
    )
    x, y = batch(64)
    build(**fields).fit(x, y, batch_size=64, epochs=2, shuffle=False, verbose=0)
    assert len(traced) == 1
