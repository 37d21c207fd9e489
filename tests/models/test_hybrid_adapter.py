"""`--model hybrid`: its parents, the rows it learns from, its phases, resumed."""

import dataclasses

import keras
import numpy as np
import pytest
from world.frames import TINY, make_own_frame

from artifacts.artifact import load_artifact
from config import Config
from models.families import load_adapter
from networks.branched import weights_digest
from trainer import StandaloneTrainer
from utils import ConfigError, DataError

SMALL = TINY | {
    "cnn_filters": (4,),
    "cnn_kernels": (3,),
    "stage_share": 0.5,
    "optimizer": "sgd",  # with momentum: it has much to remember, and is soon traced
    "baseline_model": False,
    "epochs": 1,
}
FRAME = make_own_frame(900, seed=3)


class Killed(BaseException):
    """Stands for a process that ends without a word."""


class Die(keras.callbacks.Callback):
    def __init__(self, after_epoch, after_step):
        super().__init__()
        self.due, self.epoch = (after_epoch, after_step), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch + 1) == self.due:
            raise Killed


class Watch(keras.callbacks.Callback):
    """Notes each layer's weights, and the optimizer's steps, as an epoch ends."""

    def __init__(self):
        super().__init__()
        self.weights, self.steps = [], []

    def on_epoch_begin(self, epoch, logs=None):
        layers = self.model.network.layers
        self.weights.append({each.name: each.get_weights() for each in layers})
        self.steps.append(int(self.model.optimizer.iterations))


def prepared(frame=FRAME, **fields):
    options = {key: fields.pop(key) for key in ("resume",) if key in fields}
    trainer = StandaloneTrainer(Config(**SMALL | fields), frame=frame, **options)
    for step in (
        trainer.initialize_components,
        trainer.load_and_validate_data,
        trainer.create_generators,
        trainer.build_model,
        trainer.setup_callbacks,
    ):
        step()
    return trainer


def published(trainer):
    trainer.train_model()
    trainer.save_model_and_metadata()
    return trainer.run.publish()


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return str(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def base(outputs):
    return published(prepared(model="cnn", outputs_dir=outputs))


@pytest.fixture(scope="module")
def hybrid(base, outputs):
    fields = {"model": "hybrid", "base_model": str(base), "stage_share": 1.0}
    return (
        SMALL
        | fields
        | {"outputs_dir": outputs, "epochs": 4}
        | {
            "hybrid_frozen_epochs": 2,
            "checkpoint_minutes": 0.0,
        }
    )


def outcome(trainer):
    optimizer = [v.numpy().tobytes() for v in trainer.model.optimizer.variables]
    exact = {k: [x.hex() for x in v] for k, v in trainer.history.items()}
    return weights_digest(trainer.model), optimizer, exact


def test_its_layers_rest_then_join_and_it_resumes_to_the_same_bytes(
    hybrid, base, tmp_path
):
    whole, watch = prepared(**hybrid), Watch()
    assert whole.data.parts["train"].start == 315  # behind the older half of 630
    parent = load_artifact(base)
    assert whole.data.pipeline == parent.preprocessor
    whole.callbacks.append(watch)
    folder = published(whole)
    num_steps = whole.generators.steps_per_epoch
    assert watch.steps == [0, num_steps, 0, num_steps]  # it begins anew
    first, second, third, last = watch.weights
    rested = set(whole.model_builder.warm_layers)
    assert {"conv_1", "norm_c1", "dense_1"} <= rested
    for name in first:
        same = all(map(np.array_equal, first[name], third[name]))
        assert same == (name in rested or not first[name])
    assert not np.array_equal(third["conv_1"][0], last["conv_1"][0])
    assert not np.array_equal(first["position"][0], second["position"][0])

    killed = hybrid | {"outputs_dir": str(tmp_path), "resume": "newest"}
    for death in ((1, 1), (2, 1)):  # in the first phase and in the second
        trainer = prepared(**killed)
        trainer.callbacks.append(Die(*death))
        with pytest.raises(Killed):
            trainer.train_model()
        trainer.run.unlock()  # a dead process holds no lock
    again = prepared(**killed)
    again.train_model()
    assert outcome(again) == outcome(whole)

    rows = whole.data.parts["test"].targets
    beside = whole.adapter.said_by_parents(whole.data, ["test"])
    expected = load_adapter(parent).predict_rows(whole.data, rows)
    assert np.array_equal(beside["base_model"]["test"], expected)
    opened = load_adapter(load_artifact(folder))
    said = opened.predict_rows(whole.data, rows)
    held = opened.positions(whole.data, rows)
    assert said.shape == (len(rows), 3) and held.shape == (len(rows),)
    for found, expected in (
        (said, whole.adapter.predict_rows(whole.data, rows)),
        (held, whole.adapter.positions(whole.data, rows)),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_its_position_begins_as_its_agents_while_that_holds_none(hybrid, base, outputs):
    tiny = {"agent_steps": 256, "agent_seeds": 1, "agent_envs": 4, "agent_hidden": (6,)}
    tiny |= {"agent_episode_bars": 60, "stage_share": 1.0, "outputs_dir": outputs}
    agent = published(prepared(model="ppo", base_model=str(base), **tiny))
    trainer = StandaloneTrainer(
        Config(**hybrid | {"rl_model": str(agent)}), frame=FRAME
    )
    trainer.initialize_components()
    data = trainer.load_and_validate_data()
    assert data.parts["train"].start == 315  # the agent's own rows, once more
    opened = trainer.adapter.parents[1].adapter
    last = opened.model.layers[-1]
    draw = np.random.default_rng(0)
    last.set_weights([draw.standard_normal(w.shape) for w in last.get_weights()])
    windows = draw.standard_normal((8, 8, 8)).astype(np.float32)
    account = np.zeros((8, 3), np.float32)
    seen = np.concatenate([opened.seen_of(windows), account], axis=1)
    short, _, long = opened.model(seen).numpy().T
    for chosen in (opened.trained.best, None):
        opened.trained = dataclasses.replace(opened.trained, chosen=chosen)
        trainer.create_generators()
        found = trainer.build_model().network(windows).numpy()[:, 3]
        expected = (long - short) / (long + short) if chosen else np.zeros(8)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_parents_that_will_not_do_are_refused(hybrid, base, outputs, tmp_path):
    def refused(match, error=ConfigError, **fields):
        with pytest.raises(error, match=match):
            prepared(**hybrid | fields)

    refused("base_model: expected a trained model, which hybrid", base_model=None)
    refused("future_window 5, not 6", future_window=6)
    refused("sequence_length 8, not 9", sequence_length=9)
    refused("rl_model: expected an agent that sees", rl_model=str(base))
    trees = published(prepared(model="logistic", outputs_dir=outputs))
    refused("base_model: expected a network", base_model=str(trees))
    greedy = published(prepared(model="cnn", outputs_dir=outputs, stage_share=1.0))
    refused("train: expected rows behind", DataError, base_model=str(greedy))


def test_what_a_hybrid_cannot_be_is_refused():
    for fields, message in (
        ({"target": "return"}, "which predicts classes"),
        ({"loss": "sharpe"}, "loss: expected one of classes with model 'hybrid'"),
        ({"batch_size": 1}, "batch_size: expected at least 2 bars"),
        ({"n_splits": 3}, "n_splits, cv: expected no folds with model 'hybrid'"),
        ({"class_balancing_method": "class_weights"}, "expected 'none' with a loss"),
        ({"hybrid_class_weight": 1.1}, "hybrid_class_weight: expected <= 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            Config(model="hybrid", **fields)
    assert Config(model="hybrid", loss_cost_bps=5.0, loss="focal").loss_traits == (
        ("signal", "direction"),
        "class and return",
        True,
    )
