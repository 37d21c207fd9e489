"""Judged forecasts of classes, on a market whose outcomes are its labels."""

import numpy as np
import pandas as pd

from config import Config
from data_loader import TrainingDataLoader
from evaluation.evaluate import decide, evaluate
from world.frames import make_own_frame

NUM_ROWS = 6000
SMALL = Config(
    pair="TESTUSDT",
    timeframe="1h",
    sequence_length=10,
    future_window=5,
    undersampling_min_samples=100,
    validation_split=0.3,
    test_split=0.3,
    baseline_model=False,
)


def hours(count):
    return pd.date_range("2024-01-01", periods=count, freq="h", tz="UTC")


def market(seed=0):
    """A frame whose take profits are its labels: +1 % won, 0.5 % lost, else -0.1 %."""
    labels = np.random.default_rng(seed).choice(3, NUM_ROWS, p=[0.2, 0.6, 0.2])
    frame = make_own_frame(NUM_ROWS, seed=seed, label=labels)
    frame["timestamp"] = hours(NUM_ROWS)
    frame["close"] = 1000.0
    frame["long_return"] = np.array([-0.005, -0.001, 0.01])[labels]
    frame["short_return"] = np.array([0.01, -0.001, -0.005])[labels]
    return frame


def load(frame, config=SMALL):
    return TrainingDataLoader.from_frame(frame, config=config).load_training_data()


def forecasts(data, *, knows=0.0, seed=1):
    """Probabilities that know the class with a weight of `knows`."""
    result = {}
    rng = np.random.default_rng(seed)
    for part in ("validation", "test"):
        labels = data.labels[data.parts[part].targets]
        noise = rng.dirichlet([4, 12, 4], size=len(labels))
        result[part] = (1 - knows) * noise + knows * np.eye(3)[labels]
    return result


def judge(data, probabilities, config=SMALL):
    model = decide(data, probabilities, config)
    return model.table, model.policy, evaluate(model, data, config)
