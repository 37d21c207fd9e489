"""A network of two trained ones: what it begins with, its loss, its phases."""

import keras
import numpy as np
import pytest
from keras import layers

from artifacts.keras_files import load_keras_model
from networks.hybrid import TwoHeadLoss, class_network, hybrid, trunk_of
from networks.position_losses import SharpeLoss
from utils import ConfigError

WINDOWS = np.random.default_rng(0).standard_normal((16, 8, 3)).astype(np.float32)
ACCOUNT = 3


@pytest.fixture(scope="module")
def base():
    keras.utils.set_random_seed(3)
    window = keras.Input((8, 3))
    x = layers.Conv1D(4, 3, name="conv")(window)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Flatten(name="flat")(x)
    seen = layers.Dense(5, "relu", name="dense")(x)
    return keras.Model(window, layers.Dense(3, "softmax", name="classes")(seen))


def embedding(base):
    return keras.Model(base.input, base.layers[-1].input)(WINDOWS).numpy()


def policy(units, activation, *, hidden="tanh"):
    seen = keras.Input((5 + ACCOUNT,))
    x = layers.Dense(6, hidden)(seen)
    return keras.Model(
        seen, layers.Dense(units, activation)(layers.Dense(4, hidden)(x))
    )


def flat(seen):
    """Observations of accounts without a position."""
    return np.concatenate([seen, np.zeros((len(seen), ACCOUNT), np.float32)], axis=1)


def test_it_begins_as_both_of_its_parents(base, tmp_path):
    seen = embedding(base)
    center, scale = seen.mean(axis=0), seen.std(axis=0) + 0.5
    for actor in (policy(1, "tanh", hidden="relu"), policy(3, "softmax")):
        trunk = trunk_of(actor, 5, units=(center, scale))
        network, warm = hybrid(base, trunk, hidden=())
        said = actor(flat((seen - center) / scale)).numpy()
        if said.shape[1] == 3:  # the mean position, were there no FLAT
            said = (said[:, 2:] - said[:, :1]) / (said[:, 2:] + said[:, :1])
        found = network(WINDOWS).numpy()
        np.testing.assert_allclose(found[:, 3:], said, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found[:, :3], base(WINDOWS), rtol=0, atol=1e-6)
        assert warm[-3:] == ["dense", "actor_1", "actor_2"]
        assert not {"classes", "position"} & {*warm}
    network.save(tmp_path / "hybrid.keras")
    opened = load_keras_model((tmp_path / "hybrid.keras").read_bytes(), "hybrid")
    assert np.array_equal(opened(WINDOWS), found)
    assert np.array_equal(class_network(opened)(WINDOWS), found[:, :3])
    before = base(WINDOWS).numpy()
    network.get_layer("conv").kernel.assign_add(np.ones((3, 3, 4)))
    assert np.array_equal(base(WINDOWS), before)  # it stays as it is


def test_without_an_agent_it_begins_without_a_position(base):
    network, warm = hybrid(base, None, hidden=(7,))
    assert not network(WINDOWS).numpy()[:, 3].any()
    assert network.get_layer("actor_1").units == 7
    assert warm[-1] == "dense"


def test_networks_that_are_no_parents_are_refused(base):
    with pytest.raises(ConfigError, match="expected an agent that sees the 9"):
        trunk_of(policy(1, "tanh"), 9)
    with pytest.raises(ConfigError, match="rl_model: expected an agent"):
        trunk_of(policy(2, "softmax"), 5)
    two = keras.Model(base.input, layers.Dense(2, "softmax")(base.layers[-1].input))
    with pytest.raises(ConfigError, match="base_model: .* three classes"):
        hybrid(two, None, hidden=())
    cut = keras.Model(base.input, layers.ReLU()(base.output))
    with pytest.raises(ConfigError, match="base_model: network: expected one"):
        hybrid(cut, None, hidden=())


def test_the_loss_is_the_sum_of_what_both_heads_lose():
    y_true = np.array([[2, 0.02], [0, -0.01], [1, 0.0]], np.float32)
    y_pred = np.array(
        [[0.2, 0.3, 0.5, 0.5], [0.25, 0.25, 0.5, -1.0], [0.0, 1.0, 0.0, 0.0]],
        np.float32,
    )
    # Half of a position earns 0.01; a turn of 1.5 costs 0.015 and earns 0.01; closing
    # costs 0.01: 0.01, -0.005, -0.01.
    net = np.array([0.01, -0.005, -0.01])
    sharpe = net.mean() / np.sqrt(net.var() + 1e-8)
    entropy = -np.log([0.5, 0.25, 1.0]).mean()
    position = SharpeLoss(100.0, position_scale=None)
    classes = keras.losses.SparseCategoricalCrossentropy()
    loss = TwoHeadLoss(classes, position, class_weight=0.3)
    expected = 0.3 * entropy - 0.7 * sharpe
    assert float(loss(y_true, y_pred)) == pytest.approx(expected, rel=1e-5)
    found = {}
    for metric in loss.metrics([keras.metrics.SparseCategoricalAccuracy("accuracy")]):
        metric.update_state(y_true, y_pred)
        found[metric.name] = float(metric.result())
    assert found == {
        "accuracy": pytest.approx(2 / 3),
        "class_loss": pytest.approx(entropy, rel=1e-5),
        "position_loss": pytest.approx(-sharpe, rel=1e-5),
    }
    with pytest.raises(ValueError, match="no sample weights"):
        loss(y_true, y_pred, np.ones(3))
