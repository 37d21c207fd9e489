"""Agents as a family of the trainer: published, opened, killed and resumed."""

import os
import signal

import numpy as np
import pytest
from world.classes import SMALL, hours
from world.frames import CORE8, make_own_frame

from artifacts.artifact import load_artifact
from config import Config, ConfigError
from models.families import load_adapter
from predictor import Predictor
from rl.adapter import shares_of
from rl.checkpoints import KeptTraining
from rl.ppo import PPO
from trainer import StandaloneTrainer
from utils import Interrupted

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
