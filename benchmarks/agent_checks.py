"""What an agent must show before anyone believes it: oracle, noise, costs, again.

Markets of independent returns of 10 basis points a bar, 16 features. Declared
beforehand, but for the last of noise:

- oracle: the next return is a feature, no cost: at least 95 % of the mean |return|;
- planted: it is correlated 0.3 with a feature, no cost: above 0 in four of five;
- noise, 5 basis points a change: no position in over 95 % of the bars in nine of ten,
  net never surely above the best constant position, and not told apart from it with
  p < 0.05 of as many tests as there are markets;
- costs of 0, 5 and 15 basis points on the oracle: never below 0;
- the same seed twice: the same weights.

Beforehand no p-value of the ten markets of noise was to be below 0.05. A TD3 that was
flat in all ten failed that, with 0.03; since then the lowest counts as one of ten
(Sidak).

    python benchmarks/agent_checks.py [--algorithms ppo sac td3] [--only noise]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf

from benchmarks.agent_markets import TEST, TRAIN, VALIDATION, market
from benchmarks.common import machine
from metrics.intervals import Length, paired_test
from rl import accounts, training
from rl.agent import AgentSettings
from rl.training import ALGORITHMS, MarketSettings

BAR_SECONDS = 300
"""Of a test part that is long enough, in days, for an interval."""
STEPS = {"ppo": 100_000, "sac": 24_000, "td3": 24_000}
"""An agent with a replay learns from each step many times."""


def run(name: str, kind: str, seed: int, cost_bps: float, steps: int) -> dict:
    """Trains one agent; returns what its test rows say."""
    where, started = market(kind, seed), time.process_time()
    found = training.train(
        name,
        where,
        train=TRAIN,
        validation=VALIDATION,
        settings=AgentSettings(num_steps=steps),
        around=MarketSettings(cost=cost_bps * 1e-4),
        seeds=[seed],
    )
    held = found.live(where, TEST)
    pieces = accounts.stretches(where, TEST)
    constant = [
        accounts.account_of(
            np.full(len(held.rows), side), where, pieces, cost_bps * 1e-4
        ).net
        for side in (-1.0, 0.0, 1.0)
    ]
    best = max(constant, key=np.sum)
    length = Length.of(len(held.net), horizon_bars=1, bar_seconds=BAR_SECONDS)
    against = paired_test(-held.net, -best, length=length)
    return {
        "net_bps": 1e4 * float(held.net.mean()),
        "share": float(held.net.mean() / np.abs(where.returns[held.rows]).mean()),
        "flat": float((held.position == 0).mean()),
        "turnover": held.turnover,
        "p_value": against["p_value"] if np.any(held.net != best) else 1.0,
        "is_better": bool(held.net.sum() > best.sum()),
        "weights": found.candidates[-1].weights,
        "seconds": time.process_time() - started,
    }


Told = Iterator[tuple[str, list[dict], bool]]
"""Words, the runs that they are about, whether they passed."""


def oracle(name: str, steps: int, seeds: int) -> Told:
    """The next return is a feature, at several costs."""
    one = run(name, "oracle", 1, 0.0, steps)
    yield f"oracle, {one['share']:.1%} of |return|", [one], one["share"] >= 0.95
    costs = [run(name, "oracle", 1, cost, steps) for cost in (5.0, 15.0)]
    turnovers = ", ".join(f"{each['turnover']:.2f}" for each in (one, *costs))
    words = f"oracle at 5 and 15 bps, turnover at 0, 5, 15: {turnovers}"
    yield words, costs, min(each["net_bps"] for each in costs) >= 0.0


def again(name: str, steps: int, seeds: int) -> Told:
    """The same seed twice."""
    twice = [run(name, "oracle", 1, 0.0, steps // 4) for _ in range(2)]
    is_same = all(map(np.array_equal, *(each["weights"] for each in twice)))
    yield "the same seed twice, the same weights", twice, is_same


def planted(name: str, steps: int, seeds: int) -> Told:
    """A part of the next return is a feature."""
    runs = [run(name, "planted", seed, 0.0, steps) for seed in range(1, 6)]
    above = sum(each["net_bps"] > 0 for each in runs)
    yield f"planted, above 0 in {above} of 5", runs, above >= 4


def noise(name: str, steps: int, seeds: int) -> Told:
    """Nothing is there."""
    runs = [run(name, "noise", seed, 5.0, steps) for seed in range(1, seeds + 1)]
    flat = sum(each["flat"] > 0.95 for each in runs)
    claims = sum(each["p_value"] < 0.05 and each["is_better"] for each in runs)
    # Of ten markets one drifts by chance: the lowest p-value is one of ten (Sidak).
    lowest = 1.0 - (1.0 - min(each["p_value"] for each in runs)) ** seeds
    words = f"noise at 5 bps, flat in {flat} of {seeds}, {claims} claims, apart from "
    words += f"the best constant with p {lowest:.2f}"
    yield words, runs, flat >= 0.9 * seeds and not claims and lowest >= 0.05


CHECKS = {each.__name__: each for each in (oracle, again, planted, noise)}


def main() -> int:
    """Runs the checks; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS))
    parser.add_argument("--steps", type=int, help="instead of each algorithm's own")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--seeds", type=int, default=10, help="of noise")
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(", ".join(map(str, machine().values())))
    failed = 0
    for name in options.algorithms:
        steps = options.steps or STEPS[name]
        print(f"{name}: {steps:,} steps")
        for check in options.only:
            for words, runs, passed in CHECKS[check](name, steps, options.seeds):
                nets = ", ".join(f"{each['net_bps']:+.2f}" for each in runs)
                seconds = sum(each["seconds"] for each in runs)
                mark = "passed" if passed else "FAILED"
                told = f"net bps a bar {nets}; {seconds:.0f} CPU s"
                print(f"{name}: {words}: {mark}; {told}", flush=True)
                failed += not passed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
