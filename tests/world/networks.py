"""Small networks, what they learn from, and a run that has much to remember."""

import keras
import numpy as np

from config import Config
from model_builder import DualWindowLSTMBuilder
from world.frames import TINY

RUN = TINY | {
    "model": "mlp",  # of all families the soonest traced
    "mlp_inputs": "bars",
    "dropout_rate": 0.3,
    "epochs": 12,
    "windows_per_epoch": 200,
    "reduce_lr_patience": 1,
    "early_stopping_patience": 3,
    "learning_rate": 0.02,
    "report": "light",
    "baseline_model": False,
}


def build(seed=1, odds=None, **fields):
    keras.utils.set_random_seed(seed)
    config = Config(**TINY | {"dropout_rate": 0.0} | fields)
    return DualWindowLSTMBuilder(config, num_features=3).build_model(odds)


def batch(rows=64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 8, 3)).astype(np.float32)
    return x, rng.integers(0, 3, rows).astype(np.int32)
