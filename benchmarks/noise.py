"""Noise study: on markets without direction, no direction and no edge may be found.

Twenty fixed seeds of `synthetic_candles(strength=0)`. One p-value was declared
beforehand, that of direction on the test part: at most 3 of 20 may be below 0.05, which
an honest test passes in 98 % of such studies. The gradient-boosting baseline stands for
the network: cheap, and eager to fit noise.

    python benchmarks/noise.py [--seeds 20] [--strength 0]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from candles.synthetic import synthetic_candles
from config import Config
from data_loader import TrainingDataLoader
from dataset.builder import build_training_frame
from evaluation.baselines import boosted_outputs
from evaluation.evaluate import decide, evaluate

NUM_SEEDS = 20
MOST_BELOW = 3
NUM_BARS = 160_000  # 43,200 warm the features up; 24 days are left to test


def run_seed(seed, *, strength=0.0, num_bars=NUM_BARS, **fields):
    """Returns the results of one market: all of the evaluation, a cheap model."""
    settings = {"pair": "NOISEUSDT", "sequence_length": 60, "baseline_model": False}
    settings |= {"test_split": 0.3, "validation_split": 0.3, "seed": seed}
    config = Config(**settings | fields)
    market = synthetic_candles(num_bars, seed=seed, strength=strength)
    frame, _ = build_training_frame(market, config)
    data = TrainingDataLoader.from_frame(frame, config=config).load_training_data()
    outputs = boosted_outputs(data, ("validation", "test"), seed=seed)
    return evaluate(decide(data, outputs, config), data, config)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS)
    parser.add_argument("--strength", type=float, default=0.0)
    options = parser.parse_args()
    started = time.perf_counter()
    p_values, claims = [], []
    print(
        f"{'seed':>4} {'activity':>9} {'direction':>10} {'p':>6} {'trades':>7}  claims"
    )
    for seed in range(options.seeds):
        results = run_seed(seed, strength=options.strength)
        test = results["test"]
        p_values.append(test["direction_p_value"])
        claims.append(results["claims"])
        found = ", ".join(name for name, claimed in claims[-1].items() if claimed)
        print(
            f"{seed:>4} {test['activity_skill_vs_train_prior']:>+9.3f} "
            f"{test['direction_skill_vs_train_prior']:>+10.3f} {p_values[-1]:>6.3f} "
            f"{test['trading']['num_trades']:>7}  {found or 'none'}",
            flush=True,
        )
    below = sum(p < 0.05 for p in p_values)
    counts = {name: sum(each[name] for each in claims) for name in claims[0]}
    print(f"p below 0.05: {below} of {len(p_values)}; claimed: {counts}")
    print(f"{time.perf_counter() - started:.0f} s")
    if options.strength:
        return 0
    is_honest = below <= MOST_BELOW * len(p_values) / NUM_SEEDS
    return 0 if is_honest and not counts["direction"] + counts["edge"] else 1


if __name__ == "__main__":
    sys.exit(main())
