"""Judged forecasts of a return or a price, on a random walk."""

import numpy as np
import pandas as pd

from config import Config
from data_loader import TrainingDataLoader
from dataset import labels
from evaluation.evaluate import decide, evaluate
from world.frames import CORE8

NUM_ROWS, HORIZON = 4000, 5
SMALL = Config(
    pair="TESTUSDT",
    timeframe="1h",
    target="return",
    sequence_length=10,
    future_window=HORIZON,
    validation_split=0.3,
    test_split=0.3,
    baseline_model=False,
)


def market(target="return", *, seed=0, num_rows=NUM_ROWS, drift=0.0):
    """A random walk's frame as our builder writes it."""
    rng = np.random.default_rng(seed)
    steps = drift + 0.005 * rng.standard_normal(num_rows)
    close = 1000.0 * np.exp(np.cumsum(steps))
    candles = pd.DataFrame(
        {
            "timestamp": pd.date_range("2024", periods=num_rows, freq="h", tz="UTC"),
            **dict.fromkeys(("open", "high", "low", "close"), close),
        }
    )
    outcome = getattr(labels, f"{target}_target")(candles, horizon=HORIZON)
    frame = pd.DataFrame(
        rng.standard_normal((num_rows, 8)).astype(np.float32), columns=list(CORE8)
    )
    frame.insert(0, "timestamp", candles["timestamp"])
    frame["close"] = close
    frame = pd.concat([frame, outcome], axis=1)
    frame["segment"] = np.int32(0)
    return frame[frame["label_end"] > 0].reset_index(drop=True)


def load(frame, **fields):
    config = SMALL.replace(**fields)
    return TrainingDataLoader.from_frame(frame, config=config).load_training_data()


def outputs(data, *, knows=0.0, size=0.3, seed=1):
    """Outputs of a model that knows the value with a weight of `knows`."""
    rng = np.random.default_rng(seed)
    result = {}
    for part in ("validation", "test"):
        rows = data.parts[part].targets
        noise = size * rng.standard_normal(len(rows))
        result[part] = knows * data.values[rows] + (1 - knows) * noise
    return result


def judge(data, values, **fields):
    config = SMALL.replace(**fields)
    model = decide(data, values, config)
    return model.table, model.policy, evaluate(model, data, config)
