"""Noise study: what is claimed of markets in which there is nothing to claim.

Twenty fixed seeds of two markets: `synthetic_candles(strength=0)`, whose activity can
be known and whose direction cannot, and one of independent returns with jumps, where
nothing can; and the first pooled with a second one that moves nearly as it does, which
is hardly more evidence. Declared beforehand: direction is claimed at most twice of
twenty, an edge at most once without costs and never with them, skill never on the
market of jumps; the direction of the demo market, strength 1, is found. Gradient
boosting stands for the network: cheap, and eager to fit noise. Graded like a run: on
the market of jumps at most one of twenty is above C and none above B; an answer of HOLD
alone and a coin are nowhere above C.

    python benchmarks/noise.py [--seeds 20]
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from artifacts.grades import PerformanceGrade, grade_of
from benchmarks.common import machine
from candles.columns import make_table
from candles.synthetic import synthetic_candles
from config import HOLD, Config
from data_loader import TrainingDataLoader
from dataset.builder import DEMO_SEED, build_training_frame
from dataset_builder import build_training_file
from evaluation.baselines import boosted_outputs
from evaluation.evaluate import decide, evaluate
from settings.names import member_config

NUM_SEEDS = 20
NUM_BARS = 160_000  # 43,200 warm the features up; 24 days are left to test
PARTS = ("validation", "test")
SETTINGS = {"pair": "NOISEUSDT", "sequence_length": 60, "baseline_model": False}
SETTINGS |= {"test_split": 0.3, "validation_split": 0.3}
FREE = {"fee_bps": 0.0, "slippage_bps": 0.0}
MOST = {
    "direction, clustered": 2,
    "edge, clustered": 0,
    "edge without costs, clustered": 1,
    "skill, jumps": 0,
    "direction, jumps": 2,
    "edge, jumps": 0,
    "edge without costs, jumps": 1,
    "direction, pooled": 2,
    "edge, pooled": 0,
    "edge without costs, pooled": 1,
}
"""Claim and market -> most of `NUM_SEEDS` runs that may claim it."""
MOST_ABOVE = {
    ("jumps", "boosting"): {"C": 1, "B": 0},
    ("clustered", "boosting"): {"B-": 2, "B": 0},  # its activity can be known
}
"""Market and model -> grade -> most runs above it; of the others none is above C."""


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


def load_market(market, config):
    """Returns the training data of a market's candles."""
    frame, _ = build_training_frame(market, config)
    return TrainingDataLoader.from_frame(frame, config=config).load_training_data()


def judged(data, outputs, config):
    """Returns the results of a cheap model, by all of the evaluation."""
    return evaluate(decide(data, outputs, config), data, config)


def run_seed(seed, *, strength=0.0, num_bars=NUM_BARS, **fields):
    """Returns the results of one market of clustered volatility."""
    config = Config(**SETTINGS | {"seed": seed} | fields)
    market = synthetic_candles(num_bars, seed=seed, strength=strength)
    data = load_market(market, config)
    return judged(data, boosted_outputs(data, PARTS, seed=seed), config)


def study(market, seed):
    """Returns the results of one market with and without costs, and grades by model.

    Boosting is held against the baselines, too, without which nothing is above B.
    """
    config = Config(**SETTINGS | {"seed": seed})
    data, rng = load_market(market, config), np.random.default_rng(seed)
    outputs = boosted_outputs(data, PARTS, seed=seed)
    charged = judged(data, outputs, config.replace(baseline_model=True))
    free = judged(data, outputs, config.replace(**FREE))
    grades = {"boosting": grade_of(charged).grade}
    sizes = {part: len(data.parts[part].targets) for part in PARTS}
    for name, classes in (
        ("always HOLD", {part: np.full(size, HOLD) for part, size in sizes.items()}),
        ("coin", {part: rng.integers(0, 3, size) for part, size in sizes.items()}),
    ):
        sure = {part: 0.1 + 0.7 * np.eye(3)[each] for part, each in classes.items()}
        grades[name] = grade_of(judged(data, sure, config)).grade
    return charged, free, grades


def follower(candles, *, seed):
    """Returns a market that moves as another does, and a little by itself."""
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    own = np.exp(np.cumsum(0.0003 * rng.standard_normal(len(candles))))
    names = ["open", "high", "low", "close"]
    prices = candles[names].mul(np.append(1.0, own[:-1]), axis=0)
    prices["close"] = candles["close"] * own
    prices["high"] = prices.max(axis=1)
    prices["low"] = prices.min(axis=1)
    return candles.assign(**{name: prices[name] for name in names})


def pooled_study(market, seed):
    """Returns the results of two markets in one model, with and without costs."""
    markets = {"NOISEUSDT": market, "OTHERUSDT": follower(market, seed=seed)}
    with tempfile.TemporaryDirectory() as folder:
        fields = {name: SETTINGS[name] for name in SETTINGS if name != "pair"}
        config = Config(
            **fields, seed=seed, pooled_pairs=tuple(markets), inputs_dir=folder
        )
        for pair, table in markets.items():
            build_training_file(table, member_config(config, pair))
        data = TrainingDataLoader(config=config).load_training_data()
    outputs = boosted_outputs(data, PARTS, seed=seed)
    return judged(data, outputs, config), judged(data, outputs, config.replace(**FREE))


def claimed(charged, free, grades, name):
    """Returns what a market's results claim, as in `MOST`, and prints a line."""
    test, claims = charged["test"], charged["claims"]
    found = [f"{claim}, {name}" for claim, is_so in claims.items() if is_so]
    if free["claims"]["edge"]:
        found.append(f"edge without costs, {name}")
    print(
        f"  {name:<9} {test['activity_skill_vs_train_prior']:>+9.3f} "
        f"{test['direction_skill_vs_train_prior']:>+10.3f} "
        f"{test['direction_p_value']:>6.3f} {free['test']['trading']['num_trades']:>7}"
        f"  {'/'.join(grades.values())}  {'; '.join(found) or 'nothing'}",
        flush=True,
    )
    return found


def tell_grades(graded):
    """Prints how many runs have which grade; returns whether all are as declared."""
    letters = list(PerformanceGrade)
    print(f"\n{'market':<10} {'model':<12}" + "".join(f"{g:>9}" for g in letters))
    is_so = True
    for (market, model), counts in graded.items():
        cells = "".join(f"{counts[grade] or '':>9}" for grade in letters)
        print(f"{market:<10} {model:<12}{cells}")
        for least, most in MOST_ABOVE.get((market, model), {"C": 0}).items():
            rank = PerformanceGrade(least).rank
            is_so &= sum(counts[g] for g in letters if g.rank < rank) <= most
    return is_so


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    started, counts, graded = time.perf_counter(), Counter(), defaultdict(Counter)
    print("seed, market: activity, direction, p, trades without costs,")
    print("grades of boosting/always HOLD/coin, claims")
    for seed in range(options.seeds):
        print(f"seed {seed}")
        for name, market in (
            ("clustered", synthetic_candles(NUM_BARS, seed=seed, strength=0.0)),
            ("jumps", jump_candles(NUM_BARS, seed=seed)),
        ):
            charged, free, grades = study(market, seed)
            counts.update(claimed(charged, free, grades, name))
            for model, grade in grades.items():
                graded[name, model][grade] += 1
        market = synthetic_candles(NUM_BARS, seed=seed, strength=0.0)
        counts.update(claimed(*pooled_study(market, seed), {}, "pooled"))
    is_found = run_seed(DEMO_SEED, strength=1.0)["claims"]["direction"]
    print(f"claimed, of {options.seeds}; at most so many of {NUM_SEEDS}:")
    for claim, most in MOST.items():
        print(f"  {claim:<30} {counts[claim]:>3} {most:>3}")
    print(f"direction of the demo market, strength 1, found: {is_found}")
    are_graded = tell_grades(graded)
    words = ", ".join(str(value) for value in machine().values())
    print(f"{time.perf_counter() - started:.0f} s ({words})")
    are_few = all(counts[claim] <= most for claim, most in MOST.items())
    return int(not (is_found and are_few and are_graded))


if __name__ == "__main__":
    sys.exit(main())
