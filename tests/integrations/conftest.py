"""Published models, with their candles and the predictions of their test part."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from world.frames import SHARED_DATA

from candles import read_candles, synthetic_candles
from config import Config
from dataset_builder import build_training_file
from evaluation import backtest, trading
from trainer import StandaloneTrainer

SMALL = {
    "pair": "ETHUSDT",
    "model": "logistic",
    "feature_sets": ("ray12",),
    "sequence_length": 30,
    "future_window": 60,
    "slippage_bps": 0.0,
    "baseline_model": False,
    "importance_windows": None,
    "tensorboard": False,
}
LEVELS = {"long_tp_pct": 0.6, "long_sl_pct": 0.4, "short_tp_pct": 0.5}
"""The sides differ, so that one is not taken for the other."""


@dataclass(frozen=True)
class Market:
    """What was trained on, what came of it, what it says of its test part."""

    candles: pd.DataFrame
    config: Config
    folder: Path

    @property
    def predictions(self):
        table = pd.read_parquet(next(self.folder.glob("predictions_*.parquet")))
        return table[table["part"] == "test"].reset_index(drop=True)

    def trades(self, signals, **costs):
        """This project's simulation of signals, with other costs."""
        table = self.predictions
        rules = backtest.trade_rules(self.config.replace(**costs))
        outcomes = backtest.trade_outcomes(table)
        return trading.simulate_trades(signals, outcomes, rules=rules)


def made_up_candles(num_bars=40_000):
    """Cents, and opens a little beside the close before them, as on an exchange."""
    table = synthetic_candles(num_bars, seed=3, strength=3.0)
    prices = ["open", "high", "low", "close"]
    rng = np.random.default_rng(5)
    table[prices] *= 2000 / table["close"].iloc[0]
    table["open"] *= 1 + 1e-4 * rng.standard_normal(num_bars)
    table[prices] = table[prices].round(2)
    table["high"] = table[prices].max(axis=1)
    table["low"] = table[prices].min(axis=1)
    return table


def without(table, *gaps):
    """The candles without those of `gaps`: (bars before the last, their number)."""
    row = np.arange(-len(table), 0)
    kept = [(row < -start) | (row >= -start + count) for start, count in gaps]
    return table[np.logical_and.reduce(kept)].reset_index(drop=True)


def train(folder, candles, **fields):
    fields |= {f"{name}_dir": str(folder / name) for name in ("inputs", "outputs")}
    config = Config(**SMALL | LEVELS | fields)
    build_training_file(candles, config)
    return Market(candles, config, StandaloneTrainer(config).run_training())


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    """A planted direction: the thresholds of validation trade both sides."""
    return train(tmp_path_factory.mktemp("made_up"), made_up_candles(), fee_bps=1.0)


@pytest.fixture(scope="session")
def with_gaps(tmp_path_factory):
    """The same, with 20 minutes and 5 hours missing from the test part, and sizes."""
    candles = without(made_up_candles(), (3000, 20), (2000, 300))
    folder, sizes = tmp_path_factory.mktemp("gaps"), {"position_sizing": "volatility"}
    return train(folder, candles, fee_bps=1.0, **sizes)


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """Without costs the thresholds of validation trade; skipped without candles."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real candles are not beside this checkout")
    candles = read_candles(SHARED_DATA / "ETHUSDT-1m.parquet")
    levels = {"short_tp_pct": 0.6, "short_sl_pct": 0.4}
    return train(tmp_path_factory.mktemp("real"), candles, fee_bps=0.0, **levels)
