"""Sharpe study: what training with the Sharpe loss earns, against squared error.

Markets of `synthetic_candles`, with a planted direction and without. The same small
network is trained on the return of the next bar, once by its squared error, once by the
Sharpe ratio of its positions after costs. Test part, positions from one bar to the
next, starting flat, COST_BPS for a change by 1. Positions are `tanh(output)`; those of
the squared error are also tried as `sign(output)`, and its better one counts.

Annual Sharpe ratios with 95 % intervals. Exit code 1 unless, planted,
the median of the Sharpe loss is above that of squared error, and on noise at most one
interval in five leaves 0 out.

    python benchmarks/sharpe_loss.py [--seeds 5] [--cost-bps 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from candles.synthetic import synthetic_candles
from config import Config
from data_loader import TrainingDataLoader
from dataset.builder import build_training_frame
from metrics.intervals import LONG_ENOUGH, cosine_interval
from model_builder import NetworkBuilder
from preprocessing.stretches import next_bar_returns
from sequence_generator import MemoryEfficientDataLoader

NUM_SEEDS = 5
NUM_BARS = 160_000  # 43,200 warm the features up
COST_BPS = 5.0
HORIZON_BARS = 120  # a planted tilt has a half-life of 90 bars
BARS_PER_YEAR = 365 * 1440

SETTINGS = {
    "pair": "SHARPEUSDT",
    "target": "return",
    "future_window": 1,
    "feature_sets": ("window_stats",),
    "sequence_length": 1,  # the features are statistics of up to two hours
    "lstm_units": (16,),
    "dense_units": (),
    "dropout_rate": 0.1,
    "validation_split": 0.2,
    "test_split": 0.3,
    "batch_size": 512,
    "epochs": 20,
    "early_stopping_patience": 4,
}


def prepare(*, seed, strength, num_bars=NUM_BARS, **fields):
    """Returns the configuration and the data of one market."""
    config = Config(**SETTINGS | {"seed": seed} | fields)
    market = synthetic_candles(num_bars, seed=seed, strength=strength)
    frame, _ = build_training_frame(market, config)
    return config, TrainingDataLoader.from_frame(
        frame, config=config
    ).load_training_data()


def train(config, data, rows):
    """Returns what the network of the best epoch says of `rows` (num_rows,)."""
    keras.utils.set_random_seed(config.seed)
    generators = MemoryEfficientDataLoader(
        data,
        batch_size=config.batch_size,
        seed=config.seed,
        loss_traits=config.loss_traits,
    )
    model = NetworkBuilder(config, data.num_features).build_model()
    stopping = keras.callbacks.EarlyStopping(
        patience=config.early_stopping_patience, restore_best_weights=True
    )
    model.fit(
        generators.train_dataset(),
        steps_per_epoch=generators.steps_per_epoch,
        validation_data=generators.validation_dataset(),
        epochs=config.epochs,
        callbacks=[stopping],
        shuffle=False,
        verbose=0,
    )
    outputs = model.predict(generators.evaluation_dataset(rows), verbose=0)
    return outputs[:, 0].astype(np.float64)


def realised_sharpe(positions, returns, *, cost_bps):
    """Returns the annual Sharpe ratio of positions after costs, with its interval."""
    change = np.abs(np.diff(positions, prepend=0.0))
    net = positions * returns - cost_bps / 1e4 * change

    def annual(means):
        variance = means[..., 1] - means[..., 0] ** 2
        return np.sqrt(BARS_PER_YEAR) * means[..., 0] / np.sqrt(variance)

    # Its markets do not drift: how long a test is long enough is known.
    result = cosine_interval(np.column_stack([net, net**2]), annual, length=LONG_ENOUGH)
    return result | {"turnover": float(change.mean())}


def run_market(*, seed, strength, cost_bps=COST_BPS, **fields):
    """Returns what the two losses earn on one market: `mse` (its better), `sharpe`."""
    config, data = prepare(seed=seed, strength=strength, **fields)
    returns = next_bar_returns(data)
    rows = data.parts["test"].targets
    rows = rows[np.isfinite(returns[rows])]
    earned = returns[rows].astype(np.float64)
    squared = train(config.replace(loss="mse"), data, rows)
    tried = {"mse, tanh": np.tanh(squared), "mse, sign": np.sign(squared)}
    sharpe = config.replace(loss="sharpe", loss_cost_bps=cost_bps)
    tried["sharpe"] = np.tanh(train(sharpe, data, rows))
    found = {
        name: realised_sharpe(positions, earned, cost_bps=cost_bps)
        for name, positions in tried.items()
    }
    better = max(found["mse, tanh"], found["mse, sign"], key=lambda x: x["estimate"])
    return found | {"mse": better}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS)
    parser.add_argument("--cost-bps", type=float, default=COST_BPS)
    options = parser.parse_args()
    started = time.perf_counter()
    columns = ("mse, tanh", "mse, sign", "sharpe")
    head = "  ".join(f"{name:>24} {'turnover':>8}" for name in columns)
    print(f"{'strength':>8} {'seed':>4}  {head}")
    results = {1.0: [], 0.0: []}
    for strength, found in results.items():
        for seed in range(options.seeds):
            item = run_market(seed=seed, strength=strength, cost_bps=options.cost_bps)
            found.append(item)
            cells = "  ".join(
                f"{item[name]['estimate']:>+8.1f} [{item[name]['low']:>+6.1f}, "
                f"{item[name]['high']:>+5.1f}] {item[name]['turnover']:>8.4f}"
                for name in columns
            )
            print(f"{strength:>8} {seed:>4}  {cells}", flush=True)
    medians = {
        strength: {
            name: statistics.median(item[name]["estimate"] for item in found)
            for name in ("mse", "sharpe")
        }
        for strength, found in results.items()
    }
    noise = [item["sharpe"] for item in results[0.0]]
    outside = sum(not item["low"] <= 0 <= item["high"] for item in noise)
    for strength, both in medians.items():
        print(
            f"strength {strength}: median {both['sharpe']:+.1f} by the Sharpe loss, "
            f"{both['mse']:+.1f} by squared error"
        )
    print(f"noise: {outside} of {len(noise)} intervals leave 0 out")
    print(f"{options.cost_bps:g} bps a change, {time.perf_counter() - started:.0f} s")
    is_better = medians[1.0]["sharpe"] > medians[1.0]["mse"]
    return 0 if is_better and outside <= len(noise) / 5 else 1


if __name__ == "__main__":
    sys.exit(main())
