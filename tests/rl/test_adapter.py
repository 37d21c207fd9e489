"""Agents as a family of the trainer: published, opened, killed and resumed."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from world.classes import SMALL, hours
from world.frames import CORE8, make_own_frame

from artifacts.artifact import load_artifact
from config import Config, ConfigError
from models.families import create_forecaster, load_adapter
from predictor import Predictor
from rl.adapter import AgentAdapter, shares_of
from rl.checkpoints import KeptTraining
from rl.ppo import PPO
from trainer import StandaloneTrainer
from utils import Interrupted, RefusedArtifactError

ROWS = 900
TINY = {
    "agent_hidden": (8,),
    "agent_steps": 8 * 256,
    "agent_seeds": 2,
    "agent_envs": 4,
    "agent_episode_bars": 60,
    "report": "light",
    "save_scaler_pickle": False,
    "checkpoint_minutes": 0.0,
}


def readable_frame(*, knows=True):
    """The first feature is the next return, or noise."""
    labels = np.random.default_rng(0).choice(3, ROWS, p=[0.2, 0.6, 0.2])
    frame = make_own_frame(ROWS, label=labels)
    frame["timestamp"] = hours(ROWS)
    steps = np.random.default_rng(1).normal(0.0, 0.002, ROWS + 1)
    frame["close"] = 1000.0 * np.exp(np.cumsum(steps[:-1]))
    if knows:
        frame[CORE8[0]] = (steps[1:] / 0.002).astype("f4")
    return frame


def config(tmp_path, **fields):
    base = {"model": "ppo", "outputs_dir": str(tmp_path)} | TINY | fields
    return SMALL.replace(**base)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A run of an agent that sees the next return: trainer and artifact."""
    asked = config(tmp_path_factory.mktemp("agents"), fee_bps=0.0, slippage_bps=0.0)
    trainer = StandaloneTrainer(asked, frame=readable_frame())
    return trainer, load_artifact(trainer.run_training())


def test_an_agent_is_published_and_opened(published):
    trainer, artifact = published
    about = artifact.metadata
    assert about["files"]["model"] == f"agent_{trainer.config.tag}.keras"
    assert about["model"]["family"] == "ppo" and not about["model"]["is_flat"]
    opened, rows = load_adapter(artifact), trainer.data.parts["test"].targets
    expected = trainer.adapter.predict_rows(trainer.data, rows)
    np.testing.assert_array_equal(opened.predict_rows(trainer.data, rows), expected)
    held = opened.account(trainer.data, "test")
    assert held.net.sum() == trainer.adapter.account(trainer.data, "test").net.sum()
    assert held.net.mean() > 0.0005  # of 0.0016 that there is
    windows = trainer.data.features[rows[:9, None] + np.arange(-9, 1)]
    found = opened.predict_windows(windows)
    np.testing.assert_array_equal(found, trainer.adapter.predict_windows(windows))
    assert set(np.unique(found)) <= {0.0, 1.0}


def test_a_predictor_proves_it_and_answers_with_positions(published):
    trainer, artifact = published
    predictor = Predictor(artifact.path)
    assert predictor.check() == {"windows": 16, "largest_difference": 0.0}
    data, table = trainer.data, trainer.predictions
    held = predictor.predict_windows(data.golden_windows)
    assert set(held) <= {-1.0, 0.0, 1.0} and len(held) == 16
    assert predictor.signals(held).tolist() == (held + 1).tolist()
    test = table[table["part"] == "test"]
    about = artifact.metadata["results"]["test"]
    assert about["net_bps"] == pytest.approx(1e4 * test["net"].mean())
    assert about["num_samples"] == len(test)


def test_a_checkpoint_is_a_row_of_the_history(published):
    trainer, artifact = published
    history, training = trainer.history, artifact.metadata["training"]
    assert history["steps"] == 2 * [256.0 * k for k in range(1, 9)]
    assert history["val_loss"] == [-each for each in history["val_net_bps"]]
    best = int(np.argmax(history["val_net_bps"]))
    assert training["best_epoch"] == best + 1
    assert trainer.adapter.trained.chosen.steps == history["steps"][best]
    told = {each["seed"]: each["mean_bps"] for each in training["seeds"]}
    assert list(told) == trainer.adapter.seeds and len(told) == 2
    assert max(told.values()) == max(history["val_net_bps"])
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["reward"]).all()


def test_positions_are_shares():
    found = shares_of(np.array([-1.0, -0.25, 0.0, 0.5]))
    assert found.tolist() == [[1, 0, 0], [0.25, 0.75, 0], [0, 1, 0], [0, 0.5, 0.5]]


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"loss": "focal"}, "loss: expected none, because it learns from what"),
        ({"n_splits": 2}, "n_splits, cv: expected no folds of model 'ppo'"),
        ({"target": "return"}, "target: expected one with classes for model 'ppo'"),
        ({"position_sizing": "kelly"}, "position_sizing: expected 'full'"),
        ({"funding_bps_per_day": 1.0}, "funding_bps_per_day: expected 0"),
        ({"monitor": "val_accuracy"}, "monitor: expected 'val_loss'"),
        ({"agent_hidden": ()}, "agent_hidden: expected at least one layer"),
    ],
)
def test_what_an_agent_cannot_do_is_refused(fields, said):
    with pytest.raises(ConfigError) as caught:
        Config(**{"model": "ppo"} | fields)
    assert said in str(caught.value)


class Killed(Exception):
    """What stands for a kill."""


def trained(asked, **words):
    """A trainer, its steps up to the files."""
    trainer = StandaloneTrainer(asked, frame=readable_frame(), **words)
    trainer.initialize_components()
    trainer.load_and_validate_data()
    trainer.create_generators()
    trainer.build_model()
    trainer.setup_callbacks()
    trainer.train_model()
    trainer.save_model_and_metadata()
    return trainer


def test_a_killed_run_ends_with_the_same_bytes(published, tmp_path, monkeypatch):
    def advance(agent):
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return learn(agent)

    whole, learn, left = published[0], PPO.advance, 11
    asked = whole.config.replace(outputs_dir=str(tmp_path))
    monkeypatch.setattr(PPO, "advance", advance)
    with pytest.raises(Killed):
        trained(asked)
    left = 99
    again = trained(asked, resume="newest")
    assert 99 - left == 16 - 11 and again.adapter.rounds_done == 11
    assert again.run.resumes()[0]["is_exact"]
    assert again.history == whole.history
    for one, other in zip(
        whole.model.get_weights(), again.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_signal_ends_a_run_that_goes_on(tmp_path, monkeypatch):
    def advance(agent):
        if agent.steps == 512:
            os.kill(os.getpid(), signal.SIGTERM)
        return learn(agent)

    asked, learn = config(tmp_path, checkpoint_minutes=99.0), PPO.advance
    monkeypatch.setattr(PPO, "advance", advance)
    with pytest.raises(Interrupted, match="interrupted"):
        trained(asked)
    [kept] = tmp_path.glob("runs/*/checkpoints/agents.ckpt")
    found = KeptTraining(kept.parent, owner=None)
    assert [each.steps for each in found.candidates] == [256, 512]
    assert found._state["agent"]["steps"] == 768  # what it was at is kept, too


# On a network that was trained before


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """A network on the older half of train, and an agent that sees through it."""
    outputs = str(tmp_path_factory.mktemp("stages"))
    small = {"outputs_dir": outputs, "report": "light", "stage_share": 0.5}
    network = {"model": "cnn", "cnn_filters": (4,), "cnn_kernels": (3,), "epochs": 1}
    sizes = {"dense_units": (5,), "batch_size": 64, "tensorboard": False}
    below = trained(SMALL.replace(**network, **sizes, **small)).run.publish()
    asked = config(outputs, base_model=str(below), agent_seeds=1, agent_steps=256)
    return below, trained(asked)


def test_an_agent_sees_through_a_network_and_stands_alone(stages):
    below, trainer = stages
    older = load_artifact(below)
    learned = older.metadata["split"]["train"]
    assert trainer.data.parts["train"].start == learned["rows"] == 180
    assert trainer.data.scaler == older.scaler
    assert trainer.adapter.market.features.shape == (ROWS, 5)
    found = load_artifact(trainer.run.publish())
    assert found.metadata["lineage"]["parents"][0]["role"] == "base_model"
    assert (
        found.metadata["files"]["extractor"] == f"extractor_{trainer.config.tag}.keras"
    )
    away = below.rename(below.with_name("away"))
    opened, rows = load_adapter(found), trainer.data.parts["test"].targets
    windows = trainer.data.features[rows[:200, None] + np.arange(-9, 1)]
    np.testing.assert_array_equal(
        opened.seen_of(windows), trainer.adapter.market.features[rows[:200]]
    )
    center, spread = opened.seen_units
    assert center.shape == (5,) and (spread > 0).all()
    away.rename(below)


def test_below_an_agent_stands_a_network_with_one_last_layer(stages, tmp_path):
    from rl.markets import extractor_of

    below, trainer = stages
    [parent] = trainer.adapter.parents
    tree = replace(parent)
    tree.__dict__["adapter"] = object()
    with pytest.raises(ConfigError, match="base_model: expected a network that ends"):
        extractor_of(tree)
    with pytest.raises(ConfigError, match="of sequence_length 10, not 9"):
        trained(config(tmp_path, base_model=str(below), sequence_length=9))


def test_no_agent_stands_on_an_agent(published, tmp_path):
    below = str(published[1].path)
    with pytest.raises(ConfigError, match="builds on no other model.* family 'ppo'"):
        AgentAdapter(config(tmp_path, base_model=below)).parents  # noqa: B018


# Hostile files


@pytest.mark.parametrize(
    "change, said",
    [
        ({"scale": "nan"}, "scale above 0"),
        ({"scale": "-0x1p-9"}, "scale above 0"),
        ({"num_inputs": 7}, "sizes"),
        ({"num_inputs": True}, "numbers that it sees"),
        ({"published": 16}, "one"),
        ({"candidates": []}, "checkpoints"),
        ({"candidates": [{"seed": 1}] * 16}, "Candidate"),
        ({"around": {"cost": 2.0}}, "episode_bars"),
        ({"embedding": {"family": "cnn", "center": [], "spread": []}}, "units of each"),
        ({"family": "td3"}, "sizes"),
        ({"family": "lstm"}, "one of ppo, sac, td3"),
    ],
)
def test_a_description_of_another_agent_is_refused(published, change, said):
    trainer, artifact = published
    description = json.loads(json.dumps(artifact.metadata["model"]))
    of_model = {k: v for k, v in change.items() if k == "family"}
    description["agent"] |= {k: v for k, v in change.items() if k != "family"}
    with pytest.raises(RefusedArtifactError, match="an agent that fits") as caught:
        AgentAdapter.load(trainer.model, description | of_model, "here")
    assert said in str(caught.value) or said in str(caught.value.__cause__)


def test_a_network_of_other_arithmetic_is_refused(published):
    import keras

    trainer, artifact = published
    inputs = keras.Input((11,))
    hidden = keras.layers.Dense(8, "relu")(inputs)  # not tanh
    other = keras.Model(inputs, keras.layers.Dense(3, "softmax")(hidden))
    with pytest.raises(RefusedArtifactError, match="hidden layers of tanh"):
        AgentAdapter.load(other, artifact.metadata["model"], "here")
    flat = artifact.metadata["model"] | {"is_flat": True}
    with pytest.raises(RefusedArtifactError, match="no position"):
        AgentAdapter.load(trainer.model, flat, "here")


def test_an_agent_is_not_compared_with_forecasts():
    asked = Config(model="ppo")
    with pytest.raises(ConfigError, match="because a sweep goes by what forecasts"):
        create_forecaster(asked, "a sweep")
