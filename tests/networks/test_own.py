import logging

import keras
import numpy as np
import pytest
from keras import layers
from world.frames import TINY, make_own_frame

from artifacts.artifact import load_artifact
from config import Config
from models import (
    KerasAdapter,
    families,
    load_adapter,
    register_family,
    register_network,
)
from networks import families as networks
from predictor import Predictor
from trainer import StandaloneTrainer
from utils import ConfigError

FIELDS = TINY | {"model": "mine", "epochs": 1, "baseline_model": False}


@pytest.fixture(autouse=True)
def registers(monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", dict(families.FAMILIES))
    monkeypatch.setattr(networks, "NETWORKS", dict(networks.NETWORKS))


def pooled(config, num_features, *, dtype="float32"):
    """The mean of each feature, then softmax: num_features x 3 + 3 parameters."""
    window = keras.Input((config.sequence_length, num_features))
    x = layers.GlobalAveragePooling1D(dtype=dtype)(window)
    x = layers.Dense(3, "softmax", dtype="float32")(x)
    return keras.Model(window, x, name="pooled")


def test_a_network_of_ones_own_trains_from_file_to_signal(tmp_path, caplog):
    register_network("mine", pooled)
    register_family("mine", KerasAdapter)
    config = Config(**FIELDS | {"outputs_dir": str(tmp_path), "importance_windows": 20})
    run = StandaloneTrainer(config, frame=make_own_frame(1200))
    with caplog.at_level(logging.INFO):
        folder = run.run_training()
    assert "model: pooled, 27 parameters" in caplog.text
    assert "memory not estimated: a network of your own" in caplog.text
    assert "mine" in (folder / "report.html").read_text()
    model = load_artifact(folder).metadata["model"]
    assert (model["family"], model["name"], model["total_parameters"]) == (
        *("mine", "pooled", 27),
    )
    rows = run.data.parts["test"].targets
    np.testing.assert_allclose(
        load_adapter(load_artifact(folder)).predict_proba(run.data, rows),
        run.adapter.predict_proba(run.data, rows),
        atol=1e-6,
    )
    windows = np.zeros((3, 8, 8), np.float32)
    assert Predictor(folder).predict_windows(windows).shape == (3, 3)


class Mine(layers.Layer):
    def call(self, x):
        return x


def changed(step, *, outputs=3, activation="softmax", bars=8):
    def build(config, num_features, *, dtype):
        window = keras.Input((bars, num_features))
        x = layers.Flatten()(step(window))
        return keras.Model(window, layers.Dense(outputs, activation)(x))

    return build


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (changed(Mine()), "can be opened again.* Received: .*Mine"),
        (
            changed(layers.Lambda(lambda x: x)),
            "can be opened again.* Received: .*Lambda",
        ),
        (changed(layers.ReLU(), outputs=4), r"to \(None, 3\).* to \(None, 4\)"),
        (changed(layers.ReLU(), bars=9), r"windows \(None, 8, 8\).* \(None, 9, 8\)"),
        (changed(layers.ReLU(), activation=None), "expected probabilities for the ta"),
        (lambda config, num_features, *, dtype: None, "Received: NoneType, from None"),
    ],
)
def test_what_could_not_be_used_is_refused_before_training(tmp_path, builder, message):
    register_network("mine", builder)
    config = Config(**FIELDS | {"outputs_dir": str(tmp_path)})
    run = StandaloneTrainer(config, frame=make_own_frame(900))
    with pytest.raises(ConfigError, match=message):
        run.run_training()
    assert not list(tmp_path.rglob("*.keras"))


def test_a_number_needs_no_probabilities():
    register_network("mine", changed(layers.ReLU(), outputs=1, activation=None))
    config = Config(**FIELDS | {"target": "return"})
    assert networks.build_network(config, 5).output_shape == (None, 1)

    def in_sequence(config, num_features, *, dtype):
        window = keras.Input((config.sequence_length, num_features))
        return keras.Sequential([window, layers.LSTM(2), layers.Dense(1)])

    register_network("mine", in_sequence)
    assert networks.build_network(config, 5).output_shape == (None, 1)


def test_registration_is_checked_at_the_door():
    with pytest.raises(ConfigError, match="expected a new one. Received: 'lstm'"):
        register_network("lstm", pooled)
    with pytest.raises(ConfigError, match=r"builder\(config, num_features, \*, dtype"):
        register_network("mine", lambda config, num_features: None)
    register_family("mine", KerasAdapter)
    with pytest.raises(ConfigError, match="Give its builder: register_network"):
        networks.build_network(Config(**FIELDS), 8)
