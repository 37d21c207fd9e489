import keras
import numpy as np
import pytest
import tensorflow as tf

from config import Config
from networks.optimizers import build_optimizer, learning_rate_at, rate_callback
from utils import ConfigError


def rates(**fields):
    config = Config(learning_rate=0.1, min_learning_rate=1e-3, **fields)
    return [learning_rate_at(config, epoch) for epoch in range(config.epochs)]


def test_constant():
    assert rates(lr_schedule="constant", epochs=3) == [0.1, 0.1, 0.1]


def test_step():
    found = rates(lr_schedule="step", lr_step_epochs=2, epochs=7)
    assert found == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.0125]


def test_step_has_a_floor():
    found = rates(lr_schedule="step", lr_step_epochs=1, reduce_lr_factor=0.05, epochs=4)
    assert found == pytest.approx([0.1, 0.005, 1e-3, 1e-3])


def test_cosine():
    # 0.001 + 0.099 (1 + cos(pi e / 4)) / 2
    found = rates(lr_schedule="cosine", epochs=4)
    assert found == pytest.approx([0.1, 0.0855018, 0.0505, 0.0154982], abs=1e-7)


def test_warm_up_rises_in_equal_steps_and_the_schedule_begins_after_it():
    found = rates(lr_schedule="cosine", epochs=7, warmup_epochs=3)
    assert found[:3] == pytest.approx([0.025, 0.05, 0.075])
    assert found[3:] == pytest.approx([0.1, 0.0855018, 0.0505, 0.0154982], abs=1e-7)
    assert rates(lr_schedule="step", lr_step_epochs=2, epochs=5, warmup_epochs=1) == [
        *(0.05, 0.1, 0.1, 0.05, 0.05)
    ]
    found = rates(lr_schedule="constant", epochs=3, warmup_epochs=1)
    assert found == [0.05, 0.1, 0.1]


def test_plateau_depends_on_losses():
    callback = rate_callback(Config(reduce_lr_patience=3, reduce_lr_factor=0.2))
    assert type(callback) is keras.callbacks.ReduceLROnPlateau
    assert (callback.monitor, callback.patience, callback.factor) == (
        "val_loss",
        3,
        0.2,
    )
    with pytest.raises(ValueError, match="depends on the losses"):
        learning_rate_at(Config(), 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"warmup_epochs": 2}, "lr_schedule constant, step or cosine"),
        (
            {"warmup_epochs": 5, "epochs": 5, "lr_schedule": "cosine"},
            "warmup_epochs: expected fewer than epochs. Received: 5 of 5",
        ),
    ],
)
def test_impossible_schedules_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Config(**fields)


class Weights(keras.layers.Layer):
    """Two weights, whose gradients are what the test says."""

    def build(self, _):
        self.kernel = self.add_weight(shape=(2,), initializer="ones", name="kernel")
        self.bias = self.add_weight(shape=(), initializer="ones", name="bias")


def step(config, gradients, *, scales_loss=False):
    """Applies each (kernel's, bias's) gradient in turn; returns the weights."""
    layer = Weights()
    layer.build(None)
    optimizer = build_optimizer(config, scales_loss=scales_loss)
    optimizer.build([layer.kernel, layer.bias])
    for kernel, bias in gradients:
        scale = float(optimizer.dynamic_scale) if scales_loss else 1.0
        values = [tf.constant(kernel) * scale, tf.constant(bias) * scale]
        optimizer.apply(values, [layer.kernel, layer.bias])
    return [*layer.kernel.numpy().tolist(), float(layer.bias.numpy())], optimizer


SGD = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1}
STEEP = ([30.0, 0.0], 40.0)  # of norm 50


def test_gradients_are_clipped_by_their_common_norm():
    weights, _ = step(Config(**SGD), [STEEP])
    assert weights == pytest.approx([1 - 0.06, 1, 1 - 0.08], abs=1e-6)
    weights, _ = step(Config(**SGD, gradient_clip_norm=25.0), [STEEP])
    assert weights == pytest.approx([1 - 1.5, 1, 1 - 2], abs=1e-5)
    weights, _ = step(Config(**SGD, gradient_clip_norm=None), [STEEP])
    assert weights == pytest.approx([1 - 3, 1, 1 - 4], abs=1e-5)
    weights, _ = step(Config(**SGD), [([0.3, 0.0], 0.4)])
    assert weights == pytest.approx([1 - 0.03, 1, 1 - 0.04], abs=1e-6)


def test_what_is_clipped_is_the_mean_of_the_accumulated_gradients():
    config = Config(**SGD, gradient_accumulation_steps=2)
    flat = ([-30.0, 0.0], -40.0)
    weights, _ = step(config, [STEEP, flat])
    assert weights == pytest.approx([1, 1, 1])  # clipped one by one they were, too
    weights, _ = step(config, [STEEP, ([0.0, 0.0], 0.0)])
    assert weights == pytest.approx([1 - 0.06, 1, 1 - 0.08], abs=1e-6)
    # Two thirds of a unit each: not clipped after the mean, nor before.
    weights, _ = step(config, [([0.4, 0.0], 0.0), ([0.8, 0.0], 0.0)])
    assert weights == pytest.approx([1 - 0.06, 1, 1], abs=1e-6)
    # The mean (3, 1) of (6, 0) and (0, 2) is clipped, not the sum of clipped ones.
    weights, _ = step(config, [([6.0, 0.0], 0.0), ([0.0, 2.0], 0.0)])
    assert weights == pytest.approx([1 - 0.0948683, 1 - 0.0316228, 1], abs=1e-6)


def test_a_scaled_loss_is_unscaled_before_clipping():
    weights, optimizer = step(Config(**SGD), [([0.3, 0.0], 0.4)], scales_loss=True)
    assert type(optimizer) is keras.optimizers.LossScaleOptimizer
    assert weights == pytest.approx([1 - 0.03, 1, 1 - 0.04], abs=1e-6)
    config = Config(**SGD, gradient_accumulation_steps=2)
    weights, _ = step(config, [([6.0, 0.0], 0.0), ([0.0, 2.0], 0.0)], scales_loss=True)
    assert weights == pytest.approx([1 - 0.0948683, 1 - 0.0316228, 1], abs=1e-6)


def test_the_rate_of_a_schedule_reaches_a_scaled_optimizer():
    optimizer = build_optimizer(Config(), scales_loss=True)
    optimizer.learning_rate = 0.25
    assert float(optimizer.inner_optimizer.learning_rate) == 0.25


def test_momentum_goes_on():
    config = Config(**SGD | {"momentum": 0.5})
    weights, _ = step(config, [([0.5, 0.0], 0.0), ([0.0, 0.0], 0.0)])
    assert weights == pytest.approx([1 - 0.05 - 0.025, 1, 1], abs=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_weight_decay_takes_its_share_of_kernels_alone(optimizer):
    config = Config(optimizer=optimizer, learning_rate=0.1, weight_decay=0.5)
    weights, found = step(config, [([0.0, 0.0], 0.0)])
    assert weights == pytest.approx([0.95, 0.95, 1], abs=1e-6)
    assert type(found).__name__.lower() == optimizer


@pytest.mark.parametrize(
    ("fields", "share"),
    [
        ({"optimizer": "adamw"}, 0.01),
        ({"optimizer": "adamw", "weight_decay": 0.0}, 0.0),
        ({"optimizer": "adam"}, 0.0),
        ({"optimizer": "sgd"}, 0.0),
    ],
)
def test_only_adamw_decays_by_itself(fields, share):
    weights, _ = step(Config(learning_rate=0.5, **fields), [([0.0, 0.0], 0.0)])
    assert weights == pytest.approx([1 - 0.5 * share, 1 - 0.5 * share, 1], abs=1e-7)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_every_rule_finds_the_minimum(optimizer):
    config = Config(optimizer=optimizer, learning_rate=0.05)
    layer = Weights()
    layer.build(None)
    rule = build_optimizer(config)
    wanted = tf.constant([0.4, -0.3])
    for _ in range(150):
        gradient = 2 * (layer.kernel.value - wanted)
        rule.apply([gradient, tf.constant(0.0)], [layer.kernel, layer.bias])
    np.testing.assert_allclose(layer.kernel.numpy(), wanted, atol=0.05)


def test_weight_decay_leaves_normalisation_alone():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(3), layers.BatchNormalization()]
    )
    model.add(layers.LayerNormalization())
    optimizer = build_optimizer(Config(**SGD, weight_decay=0.5))
    before = [weight.numpy() for weight in model.trainable_weights]
    gradients = [tf.zeros_like(weight) for weight in model.trainable_weights]
    optimizer.apply(gradients, model.trainable_weights)
    for weight, value in zip(model.trainable_weights, before, strict=True):
        share = 0.95 if weight.name == "kernel" else 1.0
        np.testing.assert_allclose(weight.numpy(), share * value, rtol=1e-6)


def test_warm_up_begins_at_the_floor_at_the_lowest():
    config = Config(
        **{"learning_rate": 0.1, "min_learning_rate": 0.03, "epochs": 9},
        **{"lr_schedule": "constant", "warmup_epochs": 4},
    )
    found = [learning_rate_at(config, epoch) for epoch in range(6)]
    assert found == pytest.approx([0.03, 0.04, 0.06, 0.08, 0.1, 0.1])


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_each_epoch_is_trained_at_its_rate(schedule):
    fields = {"epochs": 4, "warmup_epochs": 1, "lr_step_epochs": 1}
    config = Config(learning_rate=0.1, lr_schedule=schedule, **fields)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(build_optimizer(config), "mse")
    x = np.ones((8, 2), np.float32)
    record = model.fit(
        x, x[:, :1], epochs=4, callbacks=[rate_callback(config)], verbose=0
    )
    expected = [learning_rate_at(config, epoch) for epoch in range(4)]
    assert record.history["learning_rate"] == pytest.approx(expected, rel=1e-6)


def test_the_plateau_has_the_floor_of_the_others():
    assert rate_callback(Config(min_learning_rate=1e-5)).min_lr == 1e-5
