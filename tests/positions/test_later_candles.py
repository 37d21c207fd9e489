"""An agent of candles: the predictor holds what its report held, then later rows."""

import json

import numpy as np
import pandas as pd
import pytest
from world.classes import hours

from artifacts.artifact import load_artifact
from candles import synthetic_candles
from config import Config, ConfigError
from dataset.builder import build_training_file
from experiments.evaluations import evaluate_models
from predictor import Predictor
from rl import training
from trainer import StandaloneTrainer

NUM_CANDLES, NUM_KNOWN = 2600, 1900


@pytest.fixture(scope="module")
def candles():
    table = synthetic_candles(NUM_CANDLES, seed=3, strength=4.0)
    return table.assign(timestamp=hours(NUM_CANDLES))


@pytest.fixture(scope="module")
def artifact(candles, tmp_path_factory):
    """A run of an agent that holds something, however unsure it is."""
    root = tmp_path_factory.mktemp("agent")
    config = Config(
        pair="TESTUSDT",
        timeframe="1h",
        model="ppo",
        feature_sets=("ray12",),
        **{"sequence_length": 10, "future_window": 5},
        **{"inputs_dir": str(root / "inputs"), "outputs_dir": str(root / "outputs")},
        **{"agent_hidden": (8,), "agent_steps": 1024, "agent_seeds": 1},
        **{"agent_envs": 4, "agent_episode_bars": 40, "report": "light"},
        **{"test_split": 0.2, "validation_split": 0.2},
    )
    build_training_file(candles.iloc[:NUM_KNOWN], config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "needed_t_value", lambda _: -99.0)
        return load_artifact(StandaloneTrainer(config).run_training())


def test_candles_give_the_positions_of_the_report(artifact, candles):
    table = pd.read_parquet(next(artifact.path.glob("predictions_*.parquet")))
    test = table[table["part"] == "test"].set_index("timestamp")["position"]
    assert test.nunique() > 1
    predictor = Predictor(artifact.path)
    known = candles.iloc[:NUM_KNOWN]
    found = predictor.predict_candles(known, last=500).set_index("timestamp")
    assert (found["status"] == "ok").all()
    assert (found["signal"] == found["position"] + 1).all()
    both = found.join(test.rename("reported"), how="inner")
    # Both have begun without a position, at other bars: once alike, they stay so.
    alike = (both["position"] == both["reported"]).to_numpy()
    assert len(both) == len(test) and alike[np.argmax(alike) :].all()
    stream = predictor.stream(known.iloc[:-30])
    rows = [stream.update(bar) for bar in known.iloc[-30:].to_dict("records")]
    held = np.array([row["position"] for row in rows], float)
    assert held.tobytes() == found["position"].to_numpy(float)[-30:].tobytes()


def test_later_candles_are_judged_with_all_frozen(artifact, candles, tmp_path):
    start = candles["timestamp"][NUM_KNOWN + 100]
    outputs = {"outputs_dir": str(tmp_path), "report": "light"}
    file = tmp_path / "TESTUSDT-1h.parquet"
    candles.to_parquet(file)
    [folder] = evaluate_models([artifact.path], file, start=str(start), **outputs)
    about = json.loads((folder / "evaluation.json").read_text())
    held = pd.read_parquet(next(folder.glob("predictions_*.parquet")))
    assert held["timestamp"].min() == start and set(held["part"]) == {"test"}
    assert about["results"]["test"]["net_bps"] == pytest.approx(
        1e4 * held["net"].mean()
    )
    assert set(about["results"]["promised"]) == {"net_a_bar"}
    assert about["in_sample"] is False and about["results"]["claims"] == {"edge": False}
    with pytest.raises(ConfigError, match="one agent alone"):
        evaluate_models([artifact.path, artifact.path], file)
