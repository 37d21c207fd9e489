"""What tuning must show: better than the default, and no claim where nothing is known.

Declared beforehand:

- the demo market, 20 trials of each family: a lower objective than the default's, and
  a lower loss on the test rows; whether the paired test shows it is printed, too;
- 20 seeds of a market of independent returns with jumps, 20 trials each: at most one
  winner is claimed to be better than its default.

    python benchmarks/tuning_checks.py [--families lightgbm logistic] [--seeds 20]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import machine
from benchmarks.noise import jump_candles
from config import Config
from dataset.builder import DEMO_PAIR, build_training_frame, demo_candles
from executors.tasks import SerialExecutor
from tuning.search import TuneConfig
from tuning.tune import tune

FAMILIES = ("lightgbm", "logistic")
NUM_SEEDS, NUM_TRIALS = 20, 20
MOST_CLAIMS = 1
"""Of `NUM_SEEDS` markets of noise."""
NOISE_BARS = 60_000  # 12 days are left to test, the least for a p-value is 10
SETTINGS = {"num_threads": 1, "report": "light", "baseline_model": False}
SETTINGS |= {"importance_windows": None}
SIDES = ("long", "short")
NOISE = {"pair": "NOISEUSDT", "timeframe": "5m", "feature_sets": ("ray12",)}
NOISE |= {"sequence_length": 30, "future_window": 12, "test_split": 0.3}
NOISE |= {"model": "logistic"}
NOISE |= {f"{side}_{level}_pct": 0.4 for side in SIDES for level in ("tp", "sl")}


def tuned(candles, folder, num_trials, **fields):
    """Returns what a study of a market's candles found, and prints a line."""
    started = time.process_time()
    path = folder / "training.feather"
    config = Config(**SETTINGS | fields)
    build_training_frame(candles, config)[0].to_feather(path)
    places = {"training_file": str(path), "outputs_dir": str(folder / "outputs")}
    options = TuneConfig(n_trials=num_trials, study="study")
    with SerialExecutor() as executor:
        found = tune(config.replace(**places), options, executor=executor)
    against = found["against_default"] or dict.fromkeys(
        ("estimate", "low", "high", "p_value")
    )
    test = [
        " none " if against[name] is None else f"{against[name]:+.5f}"
        for name in ("estimate", "low", "high")
    ]
    p_value = against["p_value"]
    print(
        f"  objective {found['default_value']:.5f} -> {found['best_value']:.5f}, test "
        f"{test[0]} [{test[1]}, {test[2]}], p "
        f"{'none' if p_value is None else format(p_value, '.3f')}: "
        f"{found['statement']}; {time.process_time() - started:.0f} CPU s\n"
        f"    {found['changes']}",
        flush=True,
    )
    return found


def is_beaten(found):
    """Whether the winner has the lower objective, and lost less on the test rows."""
    against = found["against_default"]
    return against is not None and against["estimate"] < 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="*", default=FAMILIES)
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS)
    parser.add_argument("--trials", type=int, default=NUM_TRIALS)
    options = parser.parse_args()
    beaten, claims, lower = [], 0, 0
    for family in options.families:
        print(f"demo market, {family}")
        with tempfile.TemporaryDirectory() as folder:
            market = {"pair": DEMO_PAIR, "model": family}
            found = tuned(demo_candles(), Path(folder), options.trials, **market)
        beaten.append(is_beaten(found))
    for seed in range(options.seeds):
        print(f"noise, seed {seed}")
        with tempfile.TemporaryDirectory() as folder:
            market = NOISE | {"seed": seed}
            candles = jump_candles(NOISE_BARS, seed=seed)
            found = tuned(candles, Path(folder), options.trials, **market)
        claims += found["is_shown"]
        lower += is_beaten(found) and (found["against_default"]["p_value"] or 1) < 0.05
    print(f"demo market: the default is beaten by {sum(beaten)} of {len(beaten)}")
    print(
        f"noise: {claims} of {options.seeds} claimed, at most {MOST_CLAIMS} of "
        f"{NUM_SEEDS}; {lower} lose less than the default at p < 0.05"
    )
    print(", ".join(str(value) for value in machine().values()))
    return int(not all(beaten) or claims > MOST_CLAIMS)


if __name__ == "__main__":
    sys.exit(main())
