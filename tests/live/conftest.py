"""A small model whose features are made of candles."""

import pytest
from world.frames import TINY

from candles import synthetic_candles
from config import Config
from dataset_builder import build_training_file
from trainer import StandaloneTrainer


@pytest.fixture(scope="session")
def candles():
    return synthetic_candles(1600, seed=7)


@pytest.fixture(scope="session")
def run(tmp_path_factory, candles):
    folder = tmp_path_factory.mktemp("run")
    own = {"inputs_dir": str(folder), "outputs_dir": str(folder / "outputs")}
    near = ("long_tp_pct", "long_sl_pct", "short_tp_pct", "short_sl_pct")
    own |= {"model": "logistic", "feature_sets": ("ray12",), "report": "light"}
    config = Config(**TINY | dict.fromkeys(near, 0.1) | own)
    build_training_file(candles, config)
    return StandaloneTrainer(config).run_training()
