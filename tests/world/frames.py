"""Training files as frames, and where the project lies."""

from pathlib import Path

import numpy as np
import pandas as pd

PROJECT = Path(__file__).parents[2]
SHARED_DATA = PROJECT.parent / "shared" / "data"
CORE8 = (
    "high_change",
    "low_change",
    "close_change",
    "volume_change",
    "price_to_ma1440",
    "price_to_ma43200",
    "volume_to_ma1440",
    "volume_to_ma43200",
)


def make_frame(num_rows=2000, *, seed=0, label=None, start="2024-01-01"):
    """A foreign V3 file's frame: eight features, one-hot labels, timestamps."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        rng.standard_normal((num_rows, 8)).astype(np.float32), columns=list(CORE8)
    )
    times = pd.date_range(start, periods=num_rows, freq="min", tz="UTC")
    frame.insert(0, "timestamp", times)
    labels = rng.integers(0, 3, num_rows) if label is None else np.asarray(label)
    for k in range(3):
        frame[f"label_{k}"] = (labels == k).astype(np.uint8)
    return frame


def make_own_frame(num_rows=2000, *, seed=0, label=None):
    """A frame as our builder writes it, with outcomes that encode their row."""
    frame = make_frame(num_rows, seed=seed, label=label)
    labels = frame[["label_0", "label_1", "label_2"]].to_numpy().argmax(axis=1)
    frame = frame.drop(columns=["label_0", "label_1", "label_2"])
    row = np.arange(num_rows)
    frame["label"] = labels.astype(np.int8)
    frame["close"] = 1000.0 + row
    frame["label_end"] = np.int32(3)
    frame["long_return"] = row / 1e6
    frame["short_return"] = -row / 1e6
    frame["long_exit_bars"] = frame["short_exit_bars"] = np.int32(3)
    frame["long_exit"] = np.where(labels == 2, 1, 2).astype(np.int8)
    frame["short_exit"] = np.where(labels == 0, 1, 2).astype(np.int8)
    frame["segment"] = np.int32(0)
    frame["is_target"] = True
    return frame


TINY = {
    "pair": "TESTUSDT",
    "sequence_length": 8,
    "future_window": 5,
    "lstm_units": (4,),
    "dense_units": (4,),
    "epochs": 2,
    "batch_size": 64,
    "num_branches": 2,
    "undersampling_min_samples": 100,
    "tensorboard": False,
}


def make_forecasts(num_rows=2000, seed=0):
    """Labels (num_rows,), drawn with the probabilities (num_rows, 3) beside them."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet([1.0, 2.0, 1.0], num_rows)
    labels = (rng.random(num_rows)[:, None] > table.cumsum(axis=1)).sum(axis=1)
    return labels, table
