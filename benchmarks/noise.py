"""Noise study: what is claimed of markets in which there is nothing to claim.

Twenty fixed seeds of two markets: `synthetic_candles(strength=0)`, whose activity can
be known and whose direction cannot, and one of independent returns with jumps, where
nothing can. Declared beforehand: direction is claimed at most twice of twenty, an edge
at most once without costs and never with them, skill never on the market of jumps; the
direction of the demo market, strength 1, is found. Gradient boosting stands for the
network: cheap, and eager to fit noise.

    python benchmarks/noise.py [--seeds 20]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import machine
from candles.columns import make_table
from candles.synthetic import synthetic_candles
from config import Config
from data_loader import TrainingDataLoader
from dataset.builder import DEMO_SEED, build_training_frame
from evaluation.baselines import boosted_outputs
from evaluation.evaluate import decide, evaluate

NUM_SEEDS = 20
NUM_BARS = 160_000  # 43,200 warm the features up; 24 days are left to test
FREE = {"fee_bps": 0.0, "slippage_bps": 0.0}
MOST = {
    "direction, clustered": 2,
    "edge, clustered": 0,
    "edge without costs, clustered": 1,
    "skill, jumps": 0,
    "direction, jumps": 2,
    "edge, jumps": 0,
    "edge without costs, jumps": 1,
}
"""Claim and market -> most of `NUM_SEEDS` runs that may claim it."""


def jump_candles(num_bars, *, seed):
    """Returns minutes whose independent returns jump once in four hours on average."""
    rng = np.random.Generator(np.random.PCG64(seed))
    steps = 0.0006 * rng.standard_normal((num_bars, 4)) / 2
    jumps = rng.random(num_bars) < 1 / 240
    steps[jumps, 0] += rng.normal(0.0, 0.006, jumps.sum())
    path = 30_000 * np.exp(np.cumsum(steps)).reshape(num_bars, 4)
    opens = np.append(30_000.0, path[:-1, -1])
    reached = np.column_stack([opens, path])
    columns = {
        "open": opens,
        "high": reached.max(axis=1),
        "low": reached.min(axis=1),
        "close": path[:, -1],
        "volume": rng.lognormal(0.0, 0.5, num_bars),
    }
    minutes = np.datetime64("2024-01-01", "ns") + np.arange(num_bars) * 60 * 10**9
    return make_table(minutes.view("i8"), columns)


def judge_market(market, seed, *fields):
    """Returns the results of one market, once for each of several configurations.

    All of the evaluation, of a cheap model.
    """
    settings = {"pair": "NOISEUSDT", "sequence_length": 60, "baseline_model": False}
    settings |= {"test_split": 0.3, "validation_split": 0.3, "seed": seed}
    configs = [Config(**settings | each) for each in fields]
    frame, _ = build_training_frame(market, configs[0])
    loader = TrainingDataLoader.from_frame(frame, config=configs[0])
    data = loader.load_training_data()
    outputs = boosted_outputs(data, ("validation", "test"), seed=seed)
    return [evaluate(decide(data, outputs, each), data, each) for each in configs]


def run_seed(seed, *, strength=0.0, num_bars=NUM_BARS, **fields):
    """Returns the results of one market of clustered volatility."""
    market = synthetic_candles(num_bars, seed=seed, strength=strength)
    return judge_market(market, seed, fields)[0]


def claimed(charged, free, name):
    """Returns what a market's results claim, as in `MOST`, and prints a line."""
    test, claims = charged["test"], charged["claims"]
    found = [f"{claim}, {name}" for claim, is_so in claims.items() if is_so]
    if free["claims"]["edge"]:
        found.append(f"edge without costs, {name}")
    print(
        f"  {name:<9} {test['activity_skill_vs_train_prior']:>+9.3f} "
        f"{test['direction_skill_vs_train_prior']:>+10.3f} "
        f"{test['direction_p_value']:>6.3f} {free['test']['trading']['num_trades']:>7}"
        f"  {'; '.join(found) or 'nothing'}",
        flush=True,
    )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS)
    options = parser.parse_args()
    started, counts = time.perf_counter(), Counter()
    print("seed, market: activity, direction, p, trades without costs, claims")
    for seed in range(options.seeds):
        print(f"seed {seed}")
        for name, market in (
            ("clustered", synthetic_candles(NUM_BARS, seed=seed, strength=0.0)),
            ("jumps", jump_candles(NUM_BARS, seed=seed)),
        ):
            counts.update(claimed(*judge_market(market, seed, {}, FREE), name))
    is_found = run_seed(DEMO_SEED, strength=1.0)["claims"]["direction"]
    print(f"claimed, of {options.seeds}; at most so many of {NUM_SEEDS}:")
    for claim, most in MOST.items():
        print(f"  {claim:<30} {counts[claim]:>3} {most:>3}")
    print(f"direction of the demo market, strength 1, found: {is_found}")
    words = ", ".join(str(value) for value in machine().values())
    print(f"{time.perf_counter() - started:.0f} s ({words})")
    return int(not is_found or any(counts[claim] > MOST[claim] for claim in MOST))


if __name__ == "__main__":
    sys.exit(main())
